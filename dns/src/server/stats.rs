//! Counters of the server: relaxed atomics, written on the path, read by whoever asks.
//!
//! Names are fixed and few, so that a flood of odd types can't grow a metrics page.

use std::sync::atomic::{AtomicU64, Ordering};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::wire::{Handled, Transport};

const RCODES: [&str; 8] = [
    "noerror", "formerr", "servfail", "nxdomain", "notimp", "refused", "badvers", "other",
];
const TYPES: [&str; 9] = [
    "a", "aaaa", "ns", "soa", "any", "axfr", "ixfr", "other", "none",
];
const TRANSPORTS: [&str; 2] = ["udp", "tcp"];
const INCIDENTS: [&str; 9] = [
    "dropped",
    "truncated",
    "panicked",
    "udp_receive_failed",
    "udp_send_failed",
    "tcp_accepted",
    "tcp_accept_failed",
    "tcp_timed_out",
    "answered",
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
    Answered,
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

#[derive(Debug, Default)]
pub(super) struct Stats {
    rcodes: [AtomicU64; RCODES.len()],
    types: [AtomicU64; TYPES.len()],
    transports: [AtomicU64; TRANSPORTS.len()],
    incidents: [AtomicU64; INCIDENTS.len()],
}

impl Stats {
    pub(super) fn count(&self, transport: Transport, handled: &Handled) {
        let Handled::Answered {
            rcode,
            rtype,
            truncated,
        } = handled
        else {
            self.note(Incident::Dropped);
            return;
        };
        add(&self.rcodes, rcode_index(*rcode));
        add(&self.types, type_index(*rtype));
        add(&self.transports, transport_index(transport));
        self.note(Incident::Answered);
        if *truncated {
            self.note(Incident::Truncated);
        }
    }

    pub(super) fn panicked(&self) {
        self.note(Incident::Panicked);
    }

    pub(super) fn udp_receive_failed(&self) {
        self.note(Incident::UdpReceiveFailed);
    }

    pub(super) fn udp_send_failed(&self) {
        self.note(Incident::UdpSendFailed);
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

    pub(super) fn read(&self) -> Counters {
        Counters {
            by_rcode: named(&RCODES, &self.rcodes),
            by_type: named(&TYPES, &self.types),
            by_transport: named(&TRANSPORTS, &self.transports),
            incidents: named(&INCIDENTS, &self.incidents),
        }
    }

    fn note(&self, incident: Incident) {
        add(&self.incidents, incident as usize);
    }
}

fn add(counters: &[AtomicU64], index: usize) {
    if let Some(counter) = counters.get(index) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn named(names: &[&'static str], counters: &[AtomicU64]) -> Vec<(&'static str, u64)> {
    names
        .iter()
        .zip(counters)
        .map(|(name, counter)| (*name, counter.load(Ordering::Relaxed)))
        .collect()
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
        _ => 7,
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
        let stats = Stats::default();
        stats.tcp_timed_out();
        stats.count(Transport::Tcp, &Handled::Dropped);
        let answered = Handled::Answered {
            rcode: ResponseCode::BADVERS,
            rtype: None,
            truncated: true,
        };
        stats.count(Transport::Tcp, &answered);
        let read = stats.read();
        for name in [
            "tcp_timed_out",
            "dropped",
            "badvers",
            "none",
            "truncated",
            "tcp",
            "answered",
        ] {
            assert_eq!(read.get(name), 1, "{name}");
        }
        assert_eq!(read.get("udp"), 0);
    }
}
