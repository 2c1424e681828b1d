//! A serial has one content: what secondaries, IXFR and every name server of the array rely on.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use dns::{ZoneInput, Zones};
use proptest::prelude::*;
use statemachine::{
    AddressCommand, AddressState, AllDown, ArrayCommand, ArrayId, Boot, Command, Entry,
    GroupCommand, HostCommand, HostId, LogTime, MemberSpec, Policy, PreferredAddress, Reason,
    State, Timing, TokenCommand, TokenId, apply, audit, truly_served,
};

const HOSTS: u64 = 3;

fn ip(host: u64) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 77, 1, host as u8))
}

fn socket(third: u8, host: u64) -> SocketAddr {
    (Ipv4Addr::new(10, 77, third, host as u8), 53).into()
}

fn enter(state: &mut State, commands: Vec<Command>) {
    let entry = Entry {
        at: LogTime(state.at.0 + 10),
        wall: 0,
        origin: None,
        commands,
    };
    apply(state, state.index + 1, &entry);
}

fn configure(host: u64, dns: u8, spare: bool, observer: bool) -> Command {
    let preferred = PreferredAddress {
        ip: ip(host),
        prefix_len: 24,
    };
    Command::Host(HostCommand::Configure {
        host: HostId(host),
        control: vec![socket(0, host)],
        dns: if dns == 0 {
            vec![]
        } else {
            vec![socket(dns, host)]
        },
        observer,
        members: vec![MemberSpec {
            group: "web".into(),
            preferred: if spare { vec![] } else { vec![preferred] },
        }],
    })
}

fn founded() -> State {
    let mut state = State::default();
    let found = ArrayCommand::Found {
        array: ArrayId([7; 16]),
        timing: Timing::LAN,
        name: "h1".into(),
        control: vec![socket(0, 1)],
    };
    let token = TokenCommand::Create {
        token: TokenId(9),
        secret_hash: [1; 32],
        ttl_ms: 60_000,
        uses: 9,
    };
    enter(
        &mut state,
        vec![Command::Array(found), Command::Token(token)],
    );
    for host in 2..=HOSTS {
        let join = HostCommand::Join {
            token: TokenId(9),
            secret_hash: [1; 32],
            name: format!("h{host}").as_str().into(),
            control: vec![socket(0, host)],
        };
        enter(&mut state, vec![Command::Host(join)]);
    }
    let policy = Box::new(Policy::new("web", "web.example."));
    let group = Command::Group(GroupCommand::Apply { policy, seen: None });
    let hosts = (1..=HOSTS).map(|host| configure(host, 2, false, false));
    enter(&mut state, [group].into_iter().chain(hosts).collect());
    state
}

/// Something that may happen, with the tokens that the state has now.
fn happen(state: &State, what: u8, host: u64, detail: u8) -> Command {
    let (id, group) = (HostId(host), Some("web".into()));
    let known = state.hosts.get(&id);
    let address = state.addresses.get(&ip(host));
    let held_under = address.map(|a| a.epoch).unwrap_or_default();
    let holder = match address.map(|a| a.state) {
        Some(AddressState::Unserved) | None => HostId(1 + u64::from(detail) % HOSTS),
        Some(_) => id,
    };
    let of_address = |command| Command::Address(command);
    match what {
        0 => Command::Host(HostCommand::Up {
            host: id,
            seen: known.map(|h| h.incarnation).unwrap_or_default(),
            boot: Boot(1),
        }),
        1 => Command::Host(HostCommand::Fence {
            host: id,
            incarnation: known.map(|h| h.incarnation).unwrap_or_default(),
            silent_ms: 1,
        }),
        2 => Command::Host(HostCommand::Down {
            host: id,
            fence: known.and_then(|h| h.fence()).unwrap_or(0),
            membership: state.membership.index,
            fence_ms: 1,
        }),
        3 => Command::Group(GroupCommand::Quiesce {
            host: id,
            group,
            drain: false,
        }),
        4 => Command::Group(GroupCommand::Resume { host: id, group }),
        5 => Command::Group(GroupCommand::Health {
            host: id,
            group: "web".into(),
            healthy: detail.is_multiple_of(2),
        }),
        6 => configure(host, detail % 4, detail == 5, detail == 6),
        7 => apply_policy(state, detail),
        8 | 9 => of_address(AddressCommand::Assign {
            address: ip(host),
            to: holder,
            held_under,
            reason: Reason::Balanced,
        }),
        10 | 11 => of_address(AddressCommand::Online {
            address: ip(host),
            held_under,
            acquire_ms: 1,
            announce_ms: 1,
        }),
        12 => of_address(AddressCommand::Released {
            address: ip(host),
            held_under,
            error: None,
        }),
        _ => publish(state, detail),
    }
}

fn apply_policy(state: &State, detail: u8) -> Command {
    let group = state.groups.values().next().unwrap();
    let mut policy = group.policy.clone();
    match detail % 4 {
        0 => policy.ttl_s = 5 + u32::from(detail),
        1 => policy.fault_ttl_s = 1 + u32::from(detail) % policy.ttl_s,
        2 => policy.all_down = AllDown::LastKnown,
        _ => policy.all_down = AllDown::Empty,
    }
    Command::Group(GroupCommand::Apply {
        policy: Box::new(policy),
        seen: Some(group.generation),
    })
}

fn publish(state: &State, detail: u8) -> Command {
    let group = state.groups.values().next().unwrap();
    let served = truly_served(state, &"web".into());
    let chosen = served.into_iter().filter(|ip| match ip {
        IpAddr::V4(v4) => detail & (1 << (v4.octets()[3] % 8)) == 0,
        IpAddr::V6(_) => true,
    });
    Command::Group(GroupCommand::Publish {
        group: "web".into(),
        seen: group.zone.serial,
        published: chosen.collect(),
        shed: vec![HostId(1 + u64::from(detail) % HOSTS)],
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Goal: whoever has a serial has the same zone, time to live and name servers included.
    /// Method: all that may happen to hosts, addresses, policy and zone, one entry each; the projected zone of
    /// each state is kept by its serial.
    #[test]
    fn a_serial_has_one_content(
        steps in proptest::collection::vec((0..15u8, 1..=HOSTS, 0..16u8), 0..120),
    ) {
        let mut state = founded();
        let mut seen: BTreeMap<u32, ZoneInput> = BTreeMap::new();
        for (what, host, detail) in steps {
            let command = happen(&state, what, host, detail);
            enter(&mut state, vec![command]);
            prop_assert_eq!(audit(&state), vec![]);
            let zones = Zones::of(&state);
            let input = zones.inputs()[0].clone();
            let known = seen.entry(input.serial).or_insert_with(|| input.clone());
            prop_assert_eq!(&*known, &input, "after {:?} of h{}", what, host);
        }
    }
}
