//! Any sequence of commands keeps `audit` clean, and `apply` answers each; encodings stay frozen.
#![allow(missing_docs, clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use proptest::prelude::*;
use statemachine::{
    AddressCommand, ArrayCommand, ArrayId, Boot, Command, Entry, Epoch, GroupCommand, HostCommand,
    HostId, Incarnation, LogTime, MemberSpec, Policy, PreferredAddress, Reason, Rejected, State,
    Timing, TokenCommand, TokenId, apply, audit, codec, note_membership,
};

fn ip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 77, 0, last))
}

fn control(last: u8) -> Vec<SocketAddr> {
    vec![SocketAddr::new(ip(last), 7400)]
}

/// The timing that the golden files hold, whatever the presets become.
const FROZEN: Timing = Timing {
    heartbeat_ms: 100,
    suspect_ms: 300,
    lease_ms: 300,
    raft_heartbeat_ms: 50,
    election_min_ms: 150,
    election_max_ms: 300,
};

fn found() -> Command {
    Command::Array(ArrayCommand::Found {
        array: ArrayId([7; 16]),
        timing: FROZEN,
        name: "h1".into(),
        control: control(1),
    })
}

fn entry(at: u64, commands: Vec<Command>) -> Entry {
    Entry {
        at: LogTime(at),
        wall: 1_700_000_000_000 + at,
        origin: None,
        commands,
    }
}

/// Three hosts that are up, members of `web`, each with a preferred address.
fn array() -> State {
    let mut state = State::default();
    let token = TokenCommand::Create {
        token: TokenId(9),
        secret_hash: [1; 32],
        ttl_ms: 60_000,
        uses: 4,
    };
    apply(
        &mut state,
        1,
        &entry(0, vec![found(), Command::Token(token)]),
    );
    for index in [2, 3] {
        let name = format!("h{index}");
        let join = HostCommand::Join {
            token: TokenId(9),
            secret_hash: [1; 32],
            name: name.as_str().into(),
            control: control(index as u8),
        };
        assert_eq!(
            apply(&mut state, index, &entry(index, vec![Command::Host(join)])).outcomes,
            vec![Ok(())]
        );
    }
    note_membership(
        &mut state,
        4,
        vec![[HostId(1), HostId(2), HostId(3)].into()],
    );
    let policy = Command::Group(GroupCommand::Apply {
        policy: Box::new(Policy::new("web", "web.example.")),
        seen: None,
    });
    let mut commands = vec![policy];
    for id in 1..=3u8 {
        commands.push(configure(id, Some(100 + id)));
        let up = HostCommand::Up {
            host: HostId(u64::from(id)),
            seen: Incarnation(0),
            boot: Boot(1),
        };
        commands.push(Command::Host(up));
    }
    let applied = apply(&mut state, 5, &entry(5, commands));
    assert!(
        applied.outcomes.iter().all(Result::is_ok),
        "{:?}",
        applied.outcomes
    );
    state
}

fn configure(id: u8, preferred: Option<u8>) -> Command {
    let preferred = preferred.map(|last| PreferredAddress {
        ip: ip(last),
        prefix_len: 24,
    });
    Command::Host(HostCommand::Configure {
        host: HostId(u64::from(id)),
        control: control(id),
        dns: vec![SocketAddr::new(ip(id), 53)],
        observer: false,
        members: vec![MemberSpec {
            group: "web".into(),
            preferred: preferred.into_iter().collect(),
        }],
    })
}

fn any_command() -> impl Strategy<Value = Command> {
    let host = || (1..=4u64).prop_map(HostId);
    let address = || (101..=104u8).prop_map(ip);
    let epoch = || (0..12u64).prop_map(Epoch);
    let reason = Reason::Balanced;
    prop_oneof![
        Just(Command::Tick),
        (1..=4u8, proptest::option::of(101..=104u8))
            .prop_map(|(id, preferred)| configure(id, preferred)),
        (host(), 0..4u64, 0..500u64).prop_map(|(host, n, silent_ms)| Command::Host(
            HostCommand::Fence {
                host,
                incarnation: Incarnation(n),
                silent_ms
            }
        )),
        (host(), 6..60u64)
            .prop_map(|(host, fence)| Command::Host(HostCommand::Unfence { host, fence })),
        (host(), 6..60u64).prop_map(|(host, fence)| Command::Host(HostCommand::Down {
            host,
            fence,
            membership: 4,
            fence_ms: 1
        })),
        (host(), 0..4u64, 0..4u64).prop_map(|(host, n, boot)| Command::Host(HostCommand::Up {
            host,
            seen: Incarnation(n),
            boot: Boot(boot)
        })),
        host().prop_map(|host| Command::Host(HostCommand::Forget { host })),
        (host(), any::<bool>()).prop_map(|(host, drain)| Command::Group(GroupCommand::Quiesce {
            host,
            group: None,
            drain
        })),
        host().prop_map(|host| Command::Group(GroupCommand::Resume {
            host,
            group: Some("web".into())
        })),
        (host(), any::<bool>()).prop_map(|(host, healthy)| Command::Group(GroupCommand::Health {
            host,
            group: "web".into(),
            healthy
        })),
        host().prop_map(|host| Command::Group(GroupCommand::TestFailed {
            host,
            group: "web".into(),
            error: "test http: refused".into()
        })),
        (1..9u32, proptest::collection::vec(address(), 0..4)).prop_map(|(seen, published)| {
            Command::Group(GroupCommand::Publish {
                group: "web".into(),
                seen,
                published,
                shed: vec![],
            })
        }),
        Just(Command::Group(GroupCommand::Delete {
            group: "web".into()
        })),
        proptest::option::of(1..60u64).prop_map(|seen| Command::Group(GroupCommand::Apply {
            policy: Box::new(Policy {
                orphan_ttl_ms: Some(40),
                ..Policy::new("web", "web.example.")
            }),
            seen
        })),
        (address(), host(), epoch()).prop_map(move |(address, to, held_under)| Command::Address(
            AddressCommand::Assign {
                address,
                to,
                held_under,
                reason
            }
        )),
        (address(), epoch()).prop_map(|(address, held_under)| Command::Address(
            AddressCommand::Online {
                address,
                held_under,
                acquire_ms: 1,
                announce_ms: 1,
            }
        )),
        (address(), epoch()).prop_map(|(address, held_under)| Command::Address(
            AddressCommand::AcquireFailed {
                address,
                held_under,
                error: "ü".repeat(150)
            }
        )),
        (address(), epoch()).prop_map(move |(address, held_under)| Command::Address(
            AddressCommand::Release {
                address,
                held_under,
                reason
            }
        )),
        (address(), epoch()).prop_map(|(address, held_under)| Command::Address(
            AddressCommand::Released {
                address,
                held_under,
                error: None
            }
        )),
        (address(), epoch()).prop_map(|(address, held_under)| Command::Address(
            AddressCommand::Expire {
                address,
                held_under
            }
        )),
        (address(), host())
            .prop_map(|(address, to)| Command::Address(AddressCommand::Move { address, to })),
    ]
}

/// The epoch that each address stands under now, so that random assigns are not all stale.
fn refresh(state: &State, command: Command) -> Command {
    let epoch_of = |address: &IpAddr| {
        state
            .addresses
            .get(address)
            .map(|a| a.epoch)
            .unwrap_or_default()
    };
    match command {
        Command::Address(AddressCommand::Assign {
            address,
            to,
            reason,
            held_under,
        }) if held_under.0 % 4 != 0 => Command::Address(AddressCommand::Assign {
            held_under: epoch_of(&address),
            address,
            to,
            reason,
        }),
        Command::Address(AddressCommand::Online {
            address,
            acquire_ms,
            announce_ms,
            held_under,
        }) if held_under.0 % 4 != 0 => Command::Address(AddressCommand::Online {
            held_under: epoch_of(&address),
            address,
            acquire_ms,
            announce_ms,
        }),
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Goal: no sequence of commands, sensible or not, breaks a law. Method: random commands on a
    /// living array, `audit` after each, epochs compared across the step.
    #[test]
    fn any_sequence_of_commands_keeps_every_law(
        steps in proptest::collection::vec((any_command(), 0..30u64), 1..80)
    ) {
        let mut state = array();
        let mut at = 10;
        for (index, (command, passed)) in (6..).zip(steps) {
            at += passed;
            let command = refresh(&state, command);
            let before = state.clone();
            let applied = apply(&mut state, index, &entry(at, vec![command.clone()]));
            prop_assert_eq!(applied.outcomes.len(), 1);
            prop_assert_eq!(audit(&state), vec![], "after {:?}", command);
            prop_assert!(state.at >= before.at);
            for (ip, address) in &state.addresses {
                let earlier = before.addresses.get(ip);
                prop_assert!(earlier.is_none_or(|e| e.epoch <= address.epoch), "epoch of {} went back", ip);
            }
        }
    }

    /// Goal: replay gives the same state. Method: the same entries twice, and once through bytes.
    #[test]
    fn replay_from_bytes_gives_the_same_state(commands in proptest::collection::vec(any_command(), 1..40)) {
        let (mut once, mut twice) = (array(), array());
        for (index, command) in (6..).zip(commands) {
            let original = entry(index, vec![command]);
            apply(&mut once, index, &original);
            let copy = codec::decode_entry(&codec::encode_entry(&original).unwrap()).unwrap();
            apply(&mut twice, index, &copy);
        }
        prop_assert_eq!(&once, &twice);
        let snapshot = codec::decode_state(&codec::encode_state(&once).unwrap()).unwrap();
        prop_assert_eq!(once, snapshot);
    }

    /// Goal: bytes from anywhere never panic. Method: random bytes, also behind a right header.
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(codec::decode_entry(&bytes).is_err());
        let mut framed = vec![1];
        framed.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        framed.extend_from_slice(&bytes);
        let _ = codec::decode_entry(&framed);
        let _ = codec::decode_state(&framed);
    }
}

/// Goal: what v1 wrote is read for ever. Method: the committed bytes are decoded and re-encoded.
/// `RAIS_RECORD=1 cargo test -p statemachine` writes them anew; that is a new version, not a fix.
#[test]
fn golden_files_of_v1_decode_and_encode_to_the_same_bytes() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let first = entry(3, vec![found(), Command::Tick, configure(1, Some(101))]);
    let files = [
        ("entry.v1", codec::encode_entry(&first).unwrap()),
        ("state.v1", codec::encode_state(&array()).unwrap()),
    ];
    for (name, bytes) in files {
        let path = dir.join(name);
        if std::env::var_os("RAIS_RECORD").is_some() {
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(
            std::fs::read(&path).unwrap(),
            bytes,
            "{name} is no longer written as it was"
        );
    }
    assert_eq!(
        codec::decode_entry(&std::fs::read(dir.join("entry.v1")).unwrap()).unwrap(),
        first
    );
    assert_eq!(
        codec::decode_state(&std::fs::read(dir.join("state.v1")).unwrap()).unwrap(),
        array()
    );
}

/// Goal: a retried request is applied once. Method: the same origin twice, then an older one.
#[test]
fn a_retried_request_changes_nothing_and_gets_the_first_answer() {
    let mut state = array();
    let origin = |serial| {
        Some(statemachine::Origin {
            client: [3; 16],
            serial,
        })
    };
    let quiesce = Command::Group(GroupCommand::Quiesce {
        host: HostId(2),
        group: None,
        drain: false,
    });
    let first = Entry {
        origin: origin(5),
        ..entry(20, vec![quiesce.clone()])
    };
    assert_eq!(apply(&mut state, 6, &first).effects.len(), 1);
    let again = apply(&mut state, 7, &first);
    assert_eq!((again.outcomes, again.effects.len()), (vec![Ok(())], 0));
    let old = Entry {
        origin: origin(4),
        ..entry(21, vec![quiesce])
    };
    assert!(apply(&mut state, 8, &old).outcomes[0].is_err());
}

/// Goal: an address leaves the zone in the entry that marks its host down (invariant 16).
#[test]
fn a_host_that_goes_down_leaves_the_zone_in_the_same_entry() {
    let mut state = array();
    let address = ip(102);
    let assign = AddressCommand::Assign {
        address,
        to: HostId(2),
        held_under: Epoch(0),
        reason: Reason::Preferred,
    };
    let online = AddressCommand::Online {
        address,
        held_under: Epoch(1),
        acquire_ms: 1,
        announce_ms: 1,
    };
    let commands = vec![Command::Address(assign), Command::Address(online)];
    apply(&mut state, 6, &entry(10, commands));
    let seen = state.groups.values().next().unwrap().zone.serial;
    let publish = GroupCommand::Publish {
        group: "web".into(),
        seen,
        published: vec![address],
        shed: vec![],
    };
    assert_eq!(
        apply(&mut state, 7, &entry(11, vec![Command::Group(publish)])).outcomes,
        vec![Ok(())]
    );
    let fence = HostCommand::Fence {
        host: HostId(2),
        incarnation: Incarnation(1),
        silent_ms: 300,
    };
    apply(&mut state, 8, &entry(12, vec![Command::Host(fence)]));
    assert!(
        state
            .groups
            .values()
            .next()
            .unwrap()
            .zone
            .published
            .contains(&address)
    );
    let down = HostCommand::Down {
        host: HostId(2),
        fence: 8,
        membership: 4,
        fence_ms: 2,
    };
    assert_eq!(
        apply(&mut state, 9, &entry(13, vec![Command::Host(down)])).outcomes,
        vec![Ok(())]
    );
    assert!(
        state
            .groups
            .values()
            .next()
            .unwrap()
            .zone
            .published
            .is_empty()
    );
    assert_eq!(audit(&state), vec![]);
}

/// Goal: what happened before anybody was to be told is told to nobody, and the mark moves only forward
/// and not beyond what happened. Method: policies with and without managers, then a table of marks.
#[test]
fn the_mark_of_what_was_told_begins_with_the_first_to_tell_and_never_goes_back() {
    let mut state = array();
    let policy = |seen, tells: bool| {
        let webhook = statemachine::Webhook {
            url: "http://10.0.0.1/".into(),
            key: None,
        };
        let traps = statemachine::Traps {
            snmp: vec![],
            webhook: vec![webhook],
        };
        let policy = Policy {
            traps: tells.then_some(traps),
            ..Policy::new("web", "web.example.")
        };
        Command::Group(GroupCommand::Apply {
            policy: Box::new(policy),
            seen,
        })
    };
    let mut seen = Some(state.groups.values().next().unwrap().generation);
    let rows = [
        (6, false, 0),
        (7, true, 7),
        (8, true, 7),
        (9, false, 7),
        (10, true, 10),
    ];
    for (index, tells, told) in rows {
        let applied = apply(&mut state, index, &entry(20, vec![policy(seen, tells)]));
        assert_eq!((applied.outcomes, state.told), (vec![Ok(())], told));
        seen = Some(index);
    }
    for (at, index, good) in [
        (12, 11, true),
        (13, 11, false),
        (14, 14, false),
        (15, 13, true),
    ] {
        let mark = Command::Array(ArrayCommand::Told { index });
        let applied = apply(&mut state, at, &entry(20, vec![mark]));
        assert_eq!(
            (applied.outcomes[0].is_ok(), applied.effects.len()),
            (good, 0)
        );
    }
    assert_eq!(state.told, 13);
}

fn retimed(state: &mut State, timing: Timing) {
    let (index, seen) = (state.index + 1, state.timing);
    let retime = Command::Array(ArrayCommand::Retime { timing, seen });
    let outcomes = apply(state, index, &entry(state.at.0 + 1, vec![retime])).outcomes;
    assert_eq!(outcomes, vec![Ok(())]);
}

fn settled(state: &mut State, seen: u64) -> bool {
    let settle = Command::Array(ArrayCommand::Settle { seen });
    let applied = apply(state, state.index + 1, &entry(state.at.0 + 1, vec![settle]));
    applied.outcomes[0].is_ok()
}

/// Goal: the longest L that a host may count with survives any number of changes until they are settled.
/// Method: a table of changes, each with the longest L after it.
#[test]
fn the_longest_lease_is_remembered_over_many_changes_until_they_settle() {
    let mut state = array();
    assert!(state.is_settled());
    let rows = [
        (Timing::WAN, 4000),
        (Timing::LAN, 4000),
        (Timing::FAST, 4000),
        (Timing::LAN, 4000),
    ];
    for (timing, longest) in rows {
        retimed(&mut state, timing);
        assert_eq!(
            (state.longest_lease_ms(), state.is_settled()),
            (longest, false)
        );
        assert!(state.patience_ms() >= 300);
    }
    let first = state.timing_index - 1;
    assert!(
        !settled(&mut state, first),
        "an older change is not what is settled"
    );
    let newest = state.timing_index;
    assert!(settled(&mut state, newest));
    assert_eq!((state.longest_lease_ms(), state.patience_ms()), (300, 300));
    assert!(!settled(&mut state, newest), "once is enough");
    retimed(&mut state, Timing::WAN);
    assert_eq!(
        (state.longest_lease_ms(), state.previous_lease_ms),
        (4000, 300)
    );
}

/// Goal: no change settles while a fence stands, since it may be lifted from a host that lags.
#[test]
fn a_change_of_timing_does_not_settle_while_a_host_is_fenced() {
    let mut state = array();
    retimed(&mut state, Timing::FAST);
    let newest = state.timing_index;
    let fence = HostCommand::Fence {
        host: HostId(2),
        incarnation: Incarnation(1),
        silent_ms: 60,
    };
    let index = state.index + 1;
    apply(&mut state, index, &entry(20, vec![Command::Host(fence)]));
    assert!(!settled(&mut state, newest));
    let lift = HostCommand::Unfence {
        host: HostId(2),
        fence: index,
    };
    apply(&mut state, index + 1, &entry(21, vec![Command::Host(lift)]));
    assert!(settled(&mut state, newest));
}

/// Goal: an unsafe timing never enters the state, whoever proposes it.
#[test]
fn an_unsafe_timing_is_refused_by_the_log() {
    let mut state = array();
    let timing = Timing {
        lease_ms: 200,
        ..Timing::LAN
    };
    let seen = state.timing;
    let retime = Command::Array(ArrayCommand::Retime { timing, seen });
    let refused = apply(&mut state, 6, &entry(10, vec![retime])).outcomes;
    let Err(Rejected::BadTiming(why)) = &refused[0] else {
        panic!("{refused:?}");
    };
    assert!(why.contains("180 ms (90 % of 200 ms)"), "{why}");
    assert_eq!((state.timing, state.previous_lease_ms), (FROZEN, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Goal: a host that has applied any prefix since the last `Settle` counts with no longer L than the
    /// state remembers. Method: random changes and settlements beside a list of every L in force.
    #[test]
    fn no_timing_since_the_last_settlement_has_a_longer_lease(
        steps in proptest::collection::vec((0..4u8, 80..60_000u32), 1..60)
    ) {
        let mut state = array();
        let mut in_force = vec![state.timing.lease_ms];
        for (what, lease_ms) in steps {
            if what == 0 {
                let newest = state.timing_index;
                if settled(&mut state, newest) {
                    in_force = vec![state.timing.lease_ms];
                }
            } else {
                let timing = Timing { lease_ms, heartbeat_ms: 10, ..Timing::LAN };
                retimed(&mut state, timing);
                in_force.push(lease_ms);
            }
            prop_assert_eq!(Some(state.longest_lease_ms()), in_force.iter().copied().max());
            prop_assert_eq!(audit(&state), vec![]);
        }
    }
}
