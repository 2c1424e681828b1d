//! Fixed answers for the tests of the command line and the API.

use std::net::IpAddr;

use crate::api::{
    AddressStatus, AddressWord, AuditReport, AuditedHost, BrokenLaw, CandidateReport, EventRecord,
    GroupStatus, HostRole, HostStatus, HostWord, MemberStatus, Phases, PlanReport, PlanStep,
    Problem, RecordLine, Response, Status, TestLine, TestsReport, TimingReport, WallTime,
    WhyReport, ZoneMarks, ZoneMember, ZoneReport, ZoneRule,
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn host(name: &str, id: u64, state: HostWord) -> HostStatus {
    HostStatus {
        name: name.to_owned(),
        id,
        role: HostRole::Voter,
        up: state == HostWord::Up,
        observer: false,
        control: vec![format!("10.77.0.{id}:7400").parse().unwrap()],
        last_heard_ms: (state == HostWord::Up).then_some(41),
        lease_ms: (state == HostWord::Up).then_some(259),
        state,
        gate: Some("nftables".to_owned()),
        unheard: Vec::new(),
        dns: Vec::new(),
        incarnation: 1,
    }
}

fn member(host: &str, preferred: &[&str]) -> MemberStatus {
    MemberStatus {
        host: host.to_owned(),
        preferred: preferred.iter().map(|text| ip(text)).collect(),
        spare: preferred.is_empty(),
        healthy: true,
        failing: None,
        quiesced: false,
        utilization: Some(312),
        draining: false,
        shed: false,
    }
}

fn address(text: &str, state: AddressWord, host: Option<&str>, home: &str) -> AddressStatus {
    let at_home = host == Some(home);
    AddressStatus {
        address: ip(text),
        state,
        host: host.map(str::to_owned),
        preferred_host: Some(home.to_owned()),
        epoch: 4,
        orphan_expires_s: (!at_home).then_some(2_591_990),
        reason: "its preferred host is up, healthy and not quiesced".to_owned(),
        failover: None,
    }
}

/// Three hosts, one of them down; one group.
pub(crate) fn status() -> Status {
    Status {
        array: "00ff".repeat(8),
        leader: Some("h1".to_owned()),
        term: 3,
        quorum: true,
        version: "0.1.0".to_owned(),
        hosts: vec![
            host("h1", 1, HostWord::Up),
            host("h2", 12, HostWord::Down),
            host("h3", 15, HostWord::Up),
        ],
        groups: vec![GroupStatus {
            name: "web".to_owned(),
            zone: "web.example.".to_owned(),
            serial: 17,
            published: vec![ip("10.77.0.101")],
            ttl_s: 5,
            withheld: false,
            members: vec![
                member("h1", &["10.77.0.101"]),
                member("h2", &["10.77.0.102"]),
                member("h3", &[]),
            ],
            addresses: vec![
                address("10.77.0.101", AddressWord::Online, Some("h1"), "h1"),
                address("10.77.0.102", AddressWord::Online, Some("h3"), "h2"),
            ],
        }],
        answered_by: "h1".to_owned(),
        index: 41,
        last_resort: false,
        current_ms: Some(80),
        reloaded: None,
    }
}

pub(crate) fn event() -> EventRecord {
    EventRecord {
        at: WallTime(1_795_240_321_123),
        index: 40,
        kind: "hostDown".to_owned(),
        group: None,
        address: None,
        host: Some("h2".to_owned()),
        reason: Some("silent for 301 ms".to_owned()),
        phases: Some(Phases {
            detect: Some(301),
            fence: Some(2),
            ..Phases::default()
        }),
    }
}

pub(crate) fn why() -> WhyReport {
    WhyReport {
        address: ip("10.77.0.102"),
        group: "web".to_owned(),
        state: AddressWord::Online,
        holder: Some("h3".to_owned()),
        preferred_host: Some("h2".to_owned()),
        epoch: 4,
        rule: "this hot spare was free".to_owned(),
        since_ms: 12_345,
        candidates: vec![
            CandidateReport {
                host: "h2".to_owned(),
                chosen: false,
                verdict: "passed over because it is down".to_owned(),
            },
            CandidateReport {
                host: "h3".to_owned(),
                chosen: true,
                verdict: "chosen because this hot spare was free".to_owned(),
            },
        ],
        next: "nothing until h2 can serve it again".to_owned(),
        next_in_ms: None,
    }
}

pub(crate) fn audit() -> AuditReport {
    let host = |name: &str, up, index| AuditedHost {
        host: name.to_owned(),
        up,
        index,
        fingerprint: index.map(|_| "00c0ffee".to_owned()),
    };
    AuditReport {
        leader: "h1".to_owned(),
        index: 41,
        hosts: vec![
            host("h1", true, Some(41)),
            host("h2", true, None),
            host("h3", false, None),
        ],
        broken: vec![BrokenLaw::new(
            "every host that is up can be asked",
            "h2 is up and gave no testimony",
        )],
    }
}

pub(crate) fn plan() -> PlanReport {
    PlanReport {
        hypotheses: vec!["down h1".to_owned()],
        index: 41,
        steps: vec![PlanStep {
            words: "give 10.77.0.101 to h3".to_owned(),
            raw: "Address(Assign)".to_owned(),
        }],
    }
}

pub(crate) fn zone() -> ZoneReport {
    let record = |kind: &str, value: &str| RecordLine {
        name: "web.example.".to_owned(),
        ttl_s: 5,
        kind: kind.to_owned(),
        value: value.to_owned(),
    };
    ZoneReport {
        group: "web".to_owned(),
        zone: "web.example.".to_owned(),
        serial: 17,
        ttl_s: 5,
        at_fault: true,
        last_known: false,
        withheld: false,
        published: vec![ip("10.77.0.101")],
        servers: vec!["10.77.0.1:53".parse().unwrap()],
        records: vec![record("NS", "h1.web.example."), record("A", "10.77.0.101")],
        members: vec![ZoneMember {
            host: "h2".to_owned(),
            address: Some(ip("10.77.0.102")),
            published: false,
            reason: "its host is down".to_owned(),
            utilization: None,
            weighted: None,
            rule: ZoneRule::HostDown,
            shed: false,
            rank: None,
        }],
        marks: ZoneMarks {
            high_water: 800,
            low_water: 500,
            scale: 1000,
            min_addresses: 1,
            sample_interval_ms: 1000,
        },
        followed: None,
    }
}

/// One answer of each kind.
pub(crate) fn responses() -> Vec<Response> {
    vec![
        Response::Status(Box::new(status())),
        Response::Zone(zone()),
        Response::Events(vec![event()]),
        Response::Event(event()),
        Response::Why(why()),
        Response::Plan(plan()),
        Response::Done {
            index: Some(42),
            words: "h2 is quiesced".to_owned(),
        },
        Response::GroupApplied {
            changes: vec!["~ ttl".to_owned()],
            seen: Some(3),
            index: None,
        },
        Response::Group {
            policy: Box::new(statemachine::Policy::new("web", "web.example.")),
            generation: 3,
        },
        Response::Token {
            token: "rais1-x".to_owned(),
            expires: WallTime(1),
            uses: 1,
        },
        Response::Tests(TestsReport {
            host: "h1".to_owned(),
            tests: vec![TestLine {
                group: "web".to_owned(),
                name: "http".to_owned(),
                sort: "test".to_owned(),
                looks_at: "http://10.77.0.101/health".to_owned(),
                good: false,
                found: Some("status 503 instead of 200".to_owned()),
                ago_ms: Some(412),
            }],
        }),
        Response::Timing(timing()),
        Response::Refused {
            problem: Problem::no_quorum(),
        },
    ]
}

/// `lan`, not settled yet.
pub(crate) fn timing() -> TimingReport {
    TimingReport {
        timing: statemachine::Timing::LAN,
        index: 5,
        settled: false,
        longest_lease_ms: 4_000,
    }
}
