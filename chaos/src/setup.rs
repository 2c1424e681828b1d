//! How a world begins: its hosts, its group, its timing, and the first entries of its log.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use statemachine::{
    ArrayCommand, ArrayId, Command, Entry, GroupCommand, HostCommand, HostId, LogTime, MemberSpec,
    Policy, PreferredAddress, Timing, TokenCommand, TokenId,
};

use crate::record::{Payload, Record};
use crate::{Law, Weather};

/// A world before it starts. Host I is named hI and prefers 10.77.1.I in the group `web`.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Same seed, same trace.
    pub seed: u64,
    /// How many hosts; the first is the founder.
    pub hosts: u64,
    /// How many of them vote, from the first on.
    pub voters: u64,
    /// Members without a preferred address.
    pub spares: BTreeSet<HostId>,
    /// Hosts that never hold an address.
    pub observers: BTreeSet<HostId>,
    /// The policy of the one group.
    pub policy: Policy,
    /// The array's timing.
    pub timing: Timing,
    /// The network.
    pub weather: Weather,
    /// How long the voters do without a leader before they have another, in ms.
    pub election_ms: u64,
    /// Whether clocks drift, by up to 0.1 % each way.
    pub drift: bool,
    /// Only this law is looked at: to see how far a hole that another law tells at once would lead.
    pub only: Option<Law>,
    /// Whether the warden of a daemon that died says its last word.
    pub words: bool,
    /// Entries before the state on disk that a host keeps; a host that lacks others gets a snapshot. None
    /// is forgotten without it.
    pub keep: Option<u64>,
    /// Hosts share what an entry makes of a state, and Raft is silent while it has nothing to say:
    /// twice as fast. Without it each host applies for itself, and all must come to the same state.
    pub lean: bool,
}

impl Setup {
    /// An array on a quiet LAN, every host a voter with a preferred address.
    #[must_use]
    pub fn new(seed: u64, hosts: u64) -> Self {
        Self {
            seed,
            hosts,
            voters: hosts,
            spares: BTreeSet::new(),
            observers: BTreeSet::new(),
            policy: Policy::new("web", "web.example."),
            timing: Timing::LAN,
            weather: Weather::FAIR,
            election_ms: 500,
            drift: true,
            only: None,
            words: false,
            keep: None,
            lean: false,
        }
    }

    /// Every host's id.
    #[must_use]
    pub fn ids(&self) -> Vec<HostId> {
        (1..=self.hosts).map(HostId).collect()
    }

    /// The preferred address of a host.
    #[must_use]
    pub fn address_of(host: HostId) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 77, 1, host.0 as u8))
    }

    fn control(host: u64) -> Vec<SocketAddr> {
        let ip = IpAddr::V4(Ipv4Addr::new(10, 77, 0, host as u8));
        vec![SocketAddr::new(ip, 7400)]
    }

    fn configure(&self, host: HostId) -> Command {
        let preferred = PreferredAddress {
            ip: Self::address_of(host),
            prefix_len: 24,
        };
        let bare = self.spares.contains(&host) || self.observers.contains(&host);
        let member = MemberSpec {
            group: self.policy.name.clone(),
            preferred: if bare { Vec::new() } else { vec![preferred] },
        };
        let control = Self::control(host.0);
        Command::Host(HostCommand::Configure {
            host,
            dns: vec![SocketAddr::new(control[0].ip(), 53)],
            control,
            observer: self.observers.contains(&host),
            members: vec![member],
        })
    }

    /// The log that every host starts with, committed: founding, joins (entry I lets host I in),
    /// voters, group and configurations.
    pub(crate) fn log(&self) -> Vec<Record> {
        let found = Command::Array(ArrayCommand::Found {
            array: ArrayId([7; 16]),
            timing: self.timing,
            name: "h1".into(),
            control: Self::control(1),
        });
        let token = Command::Token(TokenCommand::Create {
            token: TokenId(9),
            secret_hash: [1; 32],
            ttl_ms: 60_000,
            uses: u32::try_from(self.hosts).unwrap_or(u32::MAX),
        });
        let join = |id: u64| {
            Command::Host(HostCommand::Join {
                token: TokenId(9),
                secret_hash: [1; 32],
                name: format!("h{id}").as_str().into(),
                control: Self::control(id),
            })
        };
        let group = Command::Group(GroupCommand::Apply {
            policy: Box::new(self.policy.clone()),
            seen: None,
        });
        let mut payloads = vec![data(vec![found, token])];
        payloads.extend((2..=self.hosts).map(|id| data(vec![join(id)])));
        let voters = (1..=self.voters.min(self.hosts)).map(HostId).collect();
        payloads.push(Payload::Voters(vec![voters]));
        let configured = self.ids().into_iter().map(|id| self.configure(id));
        payloads.push(data([group].into_iter().chain(configured).collect()));
        let record = |(index, payload)| Record {
            index,
            term: 1,
            payload,
            proposer: None,
        };
        (1..).zip(payloads).map(record).collect()
    }
}

fn data(commands: Vec<Command>) -> Payload {
    Payload::Data(Entry {
        at: LogTime(0),
        wall: 0,
        origin: None,
        commands,
    })
}
