//! NOTIFY (RFC 1996): the message that tells a secondary of a new version, and its answer.
//!
//! The new SOA is in the message, so a secondary that has this version already asks nobody. With
//! a key the message is signed, and only an answer signed with the same key counts: else anyone
//! who guesses the id could silence the news.

use hickory_proto::op::ResponseCode;

use crate::compose::QUESTION_AT;
use crate::primary::News;
use crate::tsig::Signer;

/// QR off, operation NOTIFY (4), AA. RFC 1996, section 3.
const FLAGS: u16 = 4 << 11 | 1 << 10;

/// Type SOA and class IN, after the question's name.
const SOA_IN: [u8; 4] = [0, 6, 0, 1];

/// One NOTIFY on its way.
#[derive(Debug)]
pub(crate) struct Notify {
    id: u16,
    signer: Option<Signer>,
    /// What to send.
    pub(crate) message: Vec<u8>,
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The secondary has heard it.
    Acknowledged,
    /// It will have none of it.
    Refused(ResponseCode),
    /// It can't just now.
    Later,
}

impl Notify {
    /// The message for `news`.
    pub(crate) fn new(news: &News, id: u16, now_s: u64) -> Notify {
        let mut message = Vec::with_capacity(512);
        for word in [id, FLAGS, 1, 1, 0, 0] {
            message.extend_from_slice(&word.to_be_bytes());
        }
        message.extend_from_slice(&news.apex);
        message.extend_from_slice(&SOA_IN);
        message.extend_from_slice(&news.soa);
        let mut signer = news.key.clone().map(Signer::new);
        if let Some(signer) = &mut signer {
            signer.sign(&mut message, now_s);
        }
        Notify {
            id,
            signer,
            message,
        }
    }

    /// Reads a datagram that came from the secondary; `None`: it is no answer to this.
    pub(crate) fn read(&self, datagram: &[u8], now_s: u64) -> Option<Reply> {
        let verified;
        let reply = match &self.signer {
            Some(signer) => {
                verified = signer.clone().verify(datagram, now_s, true).ok()?;
                &verified
            }
            None => datagram,
        };
        let head = reply.first_chunk::<QUESTION_AT>()?;
        let is_answer = head[2] & 0xF8 == 0x80 | 4 << 3;
        if !is_answer || head[..2] != self.id.to_be_bytes() {
            return None;
        }
        Some(match head[3] & 0x0F {
            0 => Reply::Acknowledged,
            2 => Reply::Later,
            rcode => Reply::Refused(ResponseCode::from_low(rcode)),
        })
    }
}
