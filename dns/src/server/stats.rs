//! Counters of the server: each thread counts in numbers of its own and publishes them once
//! for each batch, so no two threads write one cache line for every query.
//!
//! Names are fixed and few, so that a flood of odd types can't grow a metrics page.

use std::sync::atomic::{AtomicU64, Ordering};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::limit::Verdict;
use crate::wire::{Handled, Transport};

const RCODES: [&str; 9] = [
    "noerror",
    "formerr",
    "servfail",
    "nxdomain",
    "notimp",
    "refused",
    "badvers",
    "badcookie",
    "other",
];
const TYPES: [&str; 9] = [
    "a", "aaaa", "ns", "soa", "any", "axfr", "ixfr", "other", "none",
];
const TRANSPORTS: [&str; 2] = ["udp", "tcp"];
const INCIDENTS: [&str; 19] = [
    "dropped",
    "truncated",
    "panicked",
    "udp_receive_failed",
    "udp_send_failed",
    "tcp_accepted",
    "tcp_accept_failed",
    "tcp_timed_out",
    "tcp_evicted",
    "limited",
    "slipped",
    "cookie_vouched",
    "answered",
    "transferred",
    "transfer_failed",
    "transfer_busy",
    "notify_sent",
    "notify_acknowledged",
    "notify_given_up",
];

#[derive(Clone, Copy)]
enum Incident {
    Dropped,
    Truncated,
    Panicked,
    UdpReceiveFailed,
    UdpSendFailed,
    TcpAccepted,
    TcpAcceptFailed,
    TcpTimedOut,
    TcpEvicted,
    Limited,
    Slipped,
    CookieVouched,
    Answered,
    Transferred,
    TransferFailed,
    TransferBusy,
    NotifySent,
    NotifyAcknowledged,
    NotifyGivenUp,
}

/// What was asked and answered since the start: name and count, in a fixed order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Answers by response code.
    pub by_rcode: Vec<(&'static str, u64)>,
    /// Answers by the type asked for; `none`: the question could not be read.
    pub by_type: Vec<(&'static str, u64)>,
    /// Answers by transport.
    pub by_transport: Vec<(&'static str, u64)>,
    /// What happened besides, `dropped` for messages that get no answer.
    pub incidents: Vec<(&'static str, u64)>,
}

impl Counters {
    /// The count of `name` in whichever family has it; 0 if none has.
    pub fn get(&self, name: &str) -> u64 {
        [
            &self.by_rcode,
            &self.by_type,
            &self.by_transport,
            &self.incidents,
        ]
        .into_iter()
        .flatten()
        .find(|(known, _)| *known == name)
        .map_or(0, |(_, count)| *count)
    }
}

/// All numbers in one row: rcodes, types, transports, incidents.
const TYPES_AT: usize = RCODES.len();
const TRANSPORTS_AT: usize = TYPES_AT + TYPES.len();
const INCIDENTS_AT: usize = TRANSPORTS_AT + TRANSPORTS.len();
const ALL: usize = INCIDENTS_AT + INCIDENTS.len();

/// What one thread counted.
#[derive(Clone, Debug)]
pub(super) struct Tally([u64; ALL]);

impl Default for Tally {
    fn default() -> Self {
        Tally([0; ALL])
    }
}

impl Tally {
    #[inline]
    pub(super) fn count(&mut self, transport: Transport, handled: &Handled) {
        let Handled::Answered {
            rcode,
            rtype,
            truncated,
            vouched,
        } = handled
        else {
            self.note(match handled {
                Handled::Limited => Incident::Limited,
                _ => Incident::Dropped,
            });
            return;
        };
        self.add(rcode_index(*rcode), 1);
        self.add(TYPES_AT + type_index(*rtype), 1);
        self.add(TRANSPORTS_AT + transport_index(transport), 1);
        self.note(Incident::Answered);
        if *truncated {
            self.note(Incident::Truncated);
        }
        if *vouched {
            self.note(Incident::CookieVouched);
        }
    }

    /// Counts what the rate limit made of an answer, and passes it on.
    #[inline]
    pub(super) fn judged(&mut self, verdict: Verdict) -> Verdict {
        if verdict == Verdict::Slip {
            self.note(Incident::Slipped);
        }
        verdict
    }

    pub(super) fn panicked(&mut self) {
        self.note(Incident::Panicked);
    }

    pub(super) fn udp_receive_failed(&mut self) {
        self.note(Incident::UdpReceiveFailed);
    }

    pub(super) fn udp_send_failed(&mut self, count: usize) {
        self.add(
            INCIDENTS_AT + Incident::UdpSendFailed as usize,
            count as u64,
        );
    }

    fn note(&mut self, incident: Incident) {
        self.add(INCIDENTS_AT + incident as usize, 1);
    }

    fn add(&mut self, index: usize, count: u64) {
        if let Some(counter) = self.0.get_mut(index) {
            *counter = counter.wrapping_add(count);
        }
    }
}

/// What one thread has published.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Stats([AtomicU64; ALL]);

impl Default for Stats {
    fn default() -> Self {
        Stats(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Stats {
    /// Publishes the thread's numbers. It alone writes here.
    pub(super) fn publish(&self, tally: &Tally) {
        for (counter, count) in self.0.iter().zip(&tally.0) {
            counter.store(*count, Ordering::Relaxed);
        }
    }

    /// Counts one message, from any of several threads.
    pub(super) fn count(&self, transport: Transport, handled: &Handled) {
        let mut tally = Tally::default();
        tally.count(transport, handled);
        for (counter, count) in self.0.iter().zip(&tally.0).filter(|(_, count)| **count > 0) {
            counter.fetch_add(*count, Ordering::Relaxed);
        }
    }

    pub(super) fn panicked(&self) {
        self.note(Incident::Panicked);
    }

    pub(super) fn tcp_accepted(&self) {
        self.note(Incident::TcpAccepted);
    }

    pub(super) fn tcp_accept_failed(&self) {
        self.note(Incident::TcpAcceptFailed);
    }

    pub(super) fn tcp_timed_out(&self) {
        self.note(Incident::TcpTimedOut);
    }

    pub(super) fn tcp_evicted(&self) {
        self.note(Incident::TcpEvicted);
    }

    pub(super) fn transferred(&self) {
        self.note(Incident::Transferred);
    }

    pub(super) fn transfer_failed(&self) {
        self.note(Incident::TransferFailed);
    }

    pub(super) fn transfer_busy(&self) {
        self.note(Incident::TransferBusy);
    }

    pub(super) fn notify_sent(&self) {
        self.note(Incident::NotifySent);
    }

    pub(super) fn notify_acknowledged(&self) {
        self.note(Incident::NotifyAcknowledged);
    }

    pub(super) fn notify_given_up(&self) {
        self.note(Incident::NotifyGivenUp);
    }

    fn note(&self, incident: Incident) {
        if let Some(counter) = self.0.get(INCIDENTS_AT + incident as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The sum of what several threads have published.
    pub(super) fn sum<'s>(all: impl Iterator<Item = &'s Stats>) -> Counters {
        let mut sum = [0_u64; ALL];
        for stats in all {
            for (sum, counter) in sum.iter_mut().zip(&stats.0) {
                *sum = sum.wrapping_add(counter.load(Ordering::Relaxed));
            }
        }
        let named = |names: &[&'static str], from: usize| {
            let counts = sum.iter().skip(from);
            names.iter().copied().zip(counts.copied()).collect()
        };
        Counters {
            by_rcode: named(&RCODES, 0),
            by_type: named(&TYPES, TYPES_AT),
            by_transport: named(&TRANSPORTS, TRANSPORTS_AT),
            incidents: named(&INCIDENTS, INCIDENTS_AT),
        }
    }
}

fn transport_index(transport: Transport) -> usize {
    match transport {
        Transport::Udp => 0,
        Transport::Tcp => 1,
    }
}

fn rcode_index(rcode: ResponseCode) -> usize {
    match rcode {
        ResponseCode::NoError => 0,
        ResponseCode::FormErr => 1,
        ResponseCode::ServFail => 2,
        ResponseCode::NXDomain => 3,
        ResponseCode::NotImp => 4,
        ResponseCode::Refused => 5,
        ResponseCode::BADVERS => 6,
        ResponseCode::BADCOOKIE => 7,
        _ => 8,
    }
}

fn type_index(rtype: Option<RecordType>) -> usize {
    match rtype {
        Some(RecordType::A) => 0,
        Some(RecordType::AAAA) => 1,
        Some(RecordType::NS) => 2,
        Some(RecordType::SOA) => 3,
        Some(RecordType::ANY) => 4,
        Some(RecordType::AXFR) => 5,
        Some(RecordType::IXFR) => 6,
        Some(_) => 7,
        None => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each counter carries its own name.
    /// Method: note one of each incident and the last of each family.
    #[test]
    fn names_and_counters_stand_in_one_order() {
        let (shared, published) = (Stats::default(), Stats::default());
        shared.tcp_timed_out();
        shared.count(Transport::Tcp, &Handled::Dropped);
        let answered = Handled::Answered {
            rcode: ResponseCode::BADVERS,
            rtype: None,
            truncated: true,
            vouched: true,
        };
        shared.count(Transport::Tcp, &answered);
        let mut tally = Tally::default();
        tally.count(Transport::Udp, &Handled::Limited);
        tally.judged(Verdict::Slip);
        tally.count(Transport::Tcp, &answered);
        published.publish(&tally);
        published.publish(&tally);
        let read = Stats::sum([&shared, &published].into_iter());
        for (name, count) in [
            ("tcp_timed_out", 1),
            ("dropped", 1),
            ("limited", 1),
            ("slipped", 1),
            ("badvers", 2),
            ("none", 2),
            ("truncated", 2),
            ("cookie_vouched", 2),
            ("tcp", 2),
            ("answered", 2),
            ("udp", 0),
        ] {
            assert_eq!(read.get(name), count, "{name}");
        }
    }
}
