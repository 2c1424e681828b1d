//! One message in, and out comes one message or a stream of them: [`crate::respond`] with
//! signatures and transfers around it.
//!
//! The signature is checked first and taken off, so everything behind sees the same message with
//! and without it; the answer is signed with the same key. A signature that is no good gets a
//! reply that says so, whatever was asked.
//!
//! Never on the hot path: it leaves whatever is signed or a transfer alone.

use hickory_proto::op::ResponseCode;

use crate::compose::QUESTION_AT;
use crate::primary::{Asker, Part, Primary};
use crate::transfer::{Asked, Stream};
use crate::tsig::{self, Checked, Malformed, Signer};
use crate::wire::{
    EDNS_UDP_LIMIT, Handled, Incoming, PLAIN_UDP_LIMIT, Transport, bare, question_end, respond,
};
use crate::zone::Zone;
use crate::zones::Zones;

/// What a message leads to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// One message in the buffer, or none.
    One {
        handled: Handled,
        /// What a rate limit may do to it.
        limit: Limit,
    },
    /// A zone, or a part of it.
    Transfer(Box<Stream>, Handled),
}

/// What a rate limit may do to an answer over UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Nothing: the client has our key.
    Never,
    /// Drop it, never cut it: there is nothing to leave out.
    Drop,
    /// Drop it, or say the same without its records.
    Cut,
}

/// Answers `incoming`; one message goes into `out`, which is emptied first.
pub(crate) fn exchange(
    primary: &Primary,
    zones: Option<&Zones>,
    incoming: Incoming<'_>,
    now_s: u64,
    out: &mut Vec<u8>,
) -> Outcome {
    // Responses get no answer, signed or not.
    let is_response = incoming
        .message
        .get(2)
        .is_none_or(|flags| flags & 0x80 != 0);
    let checked = match is_response {
        true => Ok(Checked::Unsigned),
        false => tsig::check(&primary.keys(), incoming.message, now_s),
    };
    match checked {
        Ok(Checked::Unsigned) => answer(primary, zones, incoming, None, now_s, out),
        Ok(Checked::Genuine { message, signer }) => {
            let incoming = Incoming {
                message: &message,
                ..incoming
            };
            answer(primary, zones, incoming, Some(signer), now_s, out)
        }
        Ok(Checked::Refused { fault, reply }) => {
            tracing::debug!(source = %incoming.source, %fault, "dns: signature refused");
            out.clear();
            out.extend_from_slice(&reply);
            one(said(ResponseCode::NotAuth), Limit::Drop)
        }
        Err(Malformed) => one(
            bare(incoming.message, ResponseCode::FormErr, out),
            Limit::Drop,
        ),
    }
}

fn one(handled: Handled, limit: Limit) -> Outcome {
    Outcome::One { handled, limit }
}

fn said(rcode: ResponseCode) -> Handled {
    Handled::Answered {
        rcode,
        rtype: None,
        truncated: false,
        vouched: false,
    }
}

/// Answers a message whose signature, if it had one, was genuine and is taken off.
fn answer(
    primary: &Primary,
    zones: Option<&Zones>,
    incoming: Incoming<'_>,
    mut signer: Option<Signer>,
    now_s: u64,
    out: &mut Vec<u8>,
) -> Outcome {
    if let (Some(zones), Some(asked)) = (zones, Asked::read(incoming.message))
        && let Some(stream) = transfer(primary, zones, &incoming, &asked, &mut signer)
    {
        let handled = Handled::Answered {
            rcode: ResponseCode::NoError,
            rtype: Some(asked.rtype),
            truncated: false,
            vouched: false,
        };
        return Outcome::Transfer(Box::new(stream), handled);
    }
    let handled = respond(zones, incoming, out);
    let (Some(mut signer), Handled::Answered { .. }) = (signer, handled) else {
        return one(handled, Limit::Cut);
    };
    let handled = make_room(&incoming, signer.room(), handled, out);
    signer.sign(out, now_s);
    one(handled, Limit::Never)
}

/// The stream, if this is a transfer that may be had; takes the signer then.
fn transfer(
    primary: &Primary,
    zones: &Zones,
    incoming: &Incoming<'_>,
    asked: &Asked,
    signer: &mut Option<Signer>,
) -> Option<Stream> {
    // Secondaries keep what they have, and ask another primary.
    if zones.find(&asked.apex).is_some_and(Zone::is_withheld) {
        return None;
    }
    let part = match (incoming.transport, asked.part) {
        (Transport::Tcp, part) => part,
        (Transport::Udp, Part::Since(_)) => Part::Soa,
        (Transport::Udp, _) => return None,
    };
    let asker = Asker {
        source: incoming.source.ip(),
        key: signer.as_ref().map(|signer| &**signer.key()),
    };
    match primary.give(zones, &asked.apex, asker, part) {
        Ok(records) => Stream::new(incoming.message, asked, records, signer.take()),
        Err(why) => {
            tracing::debug!(source = %incoming.source, %why, "dns: transfer refused");
            None
        }
    }
}

/// Cuts an answer over UDP to its question where the signature would make it too large.
fn make_room(
    incoming: &Incoming<'_>,
    signature: usize,
    handled: Handled,
    out: &mut Vec<u8>,
) -> Handled {
    let limit = match incoming.transport {
        Transport::Tcp => usize::from(u16::MAX),
        Transport::Udp => tsig::payload_of(incoming.message)
            .map_or(PLAIN_UDP_LIMIT, |size| {
                size.clamp(PLAIN_UDP_LIMIT, EDNS_UDP_LIMIT)
            })
            .into(),
    };
    if out.len() + signature <= limit {
        return handled;
    }
    let has_question = out.get(4..6) != Some(&[0, 0]);
    let end = question_end(out).filter(|_| has_question);
    out.truncate(end.unwrap_or(QUESTION_AT));
    if let Some(counts) = out.get_mut(6..12) {
        counts.fill(0);
    }
    if let Some(flags) = out.get_mut(2) {
        *flags |= 0x02;
    }
    match handled {
        Handled::Answered {
            rcode,
            rtype,
            vouched,
            ..
        } => Handled::Answered {
            rcode,
            rtype,
            truncated: true,
            vouched,
        },
        other => other,
    }
}
