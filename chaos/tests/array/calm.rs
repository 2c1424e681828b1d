//! Faults that must cost nothing: no leader, and one control network less.

use chaos::lab::array::{Array, home_addresses};

use chaos::lab::{
    AddressReport, At, Fault, Gap, Injected, Network, Report, Scope, Targets, now, wait_until,
};
use serde_json::Value;
use std::time::Duration;

use crate::{HOME, HOSTS, is_long, lab, pause, turn};

/// How long leaders are stopped.
const LEADERLESS: Duration = Duration::from_secs(15);
const LONG_LEADERLESS: Duration = Duration::from_secs(60);
/// Of five hosts two may be away: the others still are a quorum.
const AWAY: usize = 2;
/// Longer than a suspicion and a fence, in ms.
const REST: u64 = 500;
/// How long a control network is gone.
const CUT: u64 = 10_000;
/// Moments told by different threads may differ by so much.
const SLACK: Duration = Duration::from_millis(20);

/// Leaders were stopped, then resumed; by the end all were at home again.
#[derive(Clone, Debug)]
struct Round {
    stopped: Vec<u8>,
    from: At,
    to: At,
}

/// Whether everything is at home, every host has applied as much as the others, and all that for longer than
/// a suspicion takes.
fn is_at_rest(array: &Array<'_>) -> bool {
    let applied = || {
        let index = |host| array.status(host).ok()?["index"].as_u64();
        let first = index(1)?;
        let even = (2..=HOSTS).all(|host| index(host) == Some(first));
        (even && array.is_home()).then_some(first)
    };
    let before = applied();
    pause(REST);
    before.is_some() && applied() == before
}

fn leaderless() -> Duration {
    if is_long() {
        LONG_LEADERLESS
    } else {
        LEADERLESS
    }
}

/// Goal: a lease needs no leader: while nobody can be elected, each host keeps its addresses.
/// Method: five hosts; Raft is cut off on both networks, heartbeats pass, for 15 s (60 with
/// RAIS_LONG); each probe looked at, and that there was no quorum in the end.
#[test]
fn election_without_end_misses_no_probe() {
    let _turn = turn();
    let Some(lab) = lab(HOSTS, "election") else {
        return;
    };
    let array = Array::up(&lab, HOSTS).unwrap();
    let settle = lab.observe(&Targets::new(&array.addresses())).unwrap();
    array.wait_home(&settle, HOME).unwrap();
    drop(settle);
    let observer = lab.observe(&Targets::new(&array.addresses())).unwrap();
    let cut = Network::ALL.map(|network| lab.inject(&Fault::RaftLost { network }).unwrap());
    wait_until(now().after(leaderless()));
    let status = array.status(1).unwrap();
    for one in cut {
        one.undo().unwrap();
    }
    array
        .until(HOME, "somebody leads", |array| array.leader().is_some())
        .unwrap();
    array.wait_home(&observer, HOME).unwrap();
    let said: Vec<String> = missed(&observer.stop().unwrap()).collect();
    assert_eq!(status["quorum"], false, "a quorum without Raft: {status}");
    assert!(said.is_empty(), "{}\n{status}", said.join("\n"));
}

/// Goal: where the gate is refused, the daemon says so and serves nothing; it votes, and the others serve
/// its addresses. Method: three hosts; one ends and comes back without the capability; status and log,
/// and not one answer from it meanwhile.
#[test]
fn a_host_without_a_gate_says_so_and_serves_nothing() {
    let _turn = turn();
    let Some(lab) = lab(3, "gateless") else {
        return;
    };
    let mut array = Array::up(&lab, 3).unwrap();
    array.terminate(3).unwrap();
    let observer = lab.observe(&Targets::new(&array.addresses())).unwrap();
    let bound = ["setpriv", "--bounding-set=-net_admin,-net_raw"];
    array.start_under(3, &bound).unwrap();
    let bare = |status: Value| {
        let hosts = status["hosts"].as_array().cloned().unwrap_or_default();
        let mut own = hosts.iter().filter(|host| host["name"] == "h3");
        own.any(|host| host["up"] == true && host["gate"] == "none")
    };
    array
        .until(HOME, "h3 is up and says that it has no gate", |array| {
            array.status(3).is_ok_and(bare)
        })
        .unwrap();
    // It was offered its own addresses, and said why not.
    let refused = |array: &Array<'_>| {
        let events = array.events(1).unwrap_or_default();
        events.contains("acquireFail") && events.contains("CAP_NET_ADMIN")
    };
    array.until(HOME, "it refuses in words", refused).unwrap();
    let others = home_addresses(3);
    for address in others {
        let served = observer.wait(address, &[1], HOME) || observer.wait(address, &[2], HOME);
        assert!(served, "nobody serves {address}");
    }
    let report = observer.stop().unwrap();
    assert_eq!(report.dual_probes(), 0, "{}", report.json());
    let answered = |one: &AddressReport| one.seen.answers.contains_key("h3");
    assert!(!report.addresses.iter().any(answered), "{}", report.json());
}

/// Goal: leaders that fail one after the other cost no address of a host that they are not.
/// Method: five hosts; whoever leads is stopped, and the next one as well, as soon as a third one
/// leads both go on; again and again for 15 s (60 with RAIS_LONG).
#[test]
fn leaders_stopped_again_and_again_cost_the_other_hosts_no_probe() {
    let _turn = turn();
    let Some(lab) = lab(HOSTS, "leaderless") else {
        return;
    };
    let array = Array::up(&lab, HOSTS).unwrap();
    let observer = lab.observe(&Targets::new(&array.addresses())).unwrap();
    array.wait_home(&observer, HOME).unwrap();
    let (end, mut rounds, mut late) = (now().after(leaderless()), Vec::new(), None);
    while now() < end && late.is_none() {
        let (from, mut stopped) = (now(), Vec::new());
        while stopped.len() < AWAY {
            if let Some(host) = array.leader_beside(&stopped) {
                array.stop(host, Scope::Family).unwrap();
                stopped.push(host);
            }
        }
        let third = |array: &Array<'_>| array.leader_beside(&stopped).is_some();
        late = array.until(HOME, "a third leader", third).err();
        for host in &stopped {
            array.resume(*host).unwrap();
        }
        late = late.or(array.wait_home(&observer, HOME).err());
        // A host that goes on answers for a moment before the fence that was under way takes it down; and
        // a voter that has not applied that it is up again cannot help its lease.
        late = late.or(array.until(HOME, "rest", is_at_rest).err());
        late = late.or(array.wait_home(&observer, HOME).err());
        let to = now();
        rounds.push(Round { stopped, from, to });
    }
    let report = observer.stop().unwrap();
    for round in &rounds {
        println!(
            "{:?} away, home after {:?}",
            round.stopped,
            round.to.since(round.from)
        );
    }
    let is_price = |gap: &Gap, host: u8| {
        let mut hit = rounds.iter().filter(|round| round.stopped.contains(&host));
        hit.any(|round| round.from <= gap.from.after(SLACK) && gap.to <= round.to.after(SLACK))
    };
    let mut said: Vec<String> = late.iter().map(ToString::to_string).collect();
    for host in 1..=HOSTS {
        for address in home_addresses(host) {
            let seen = report.address(address).unwrap();
            let gaps = seen.gaps.iter().filter(|gap| !gap.open || gap.lost > 1);
            let wrong = gaps.filter(|gap| !is_price(gap, host));
            said.extend(wrong.map(|gap| format!("{address} of h{host}: {gap:?}")));
        }
    }
    assert_eq!(report.dual_probes(), 0, "{}", report.json());
    assert!(said.is_empty(), "{}\n{rounds:#?}", said.join("\n"));
}

/// Goal: the loss of one control network is no failover, whichever of them it is.
/// Method: no traffic on the second network for 10 s, then no control traffic on the first one, then
/// a host without carrier on the second; each probe and each event looked at: the loss is told.
#[test]
fn loss_of_one_control_network_misses_no_probe_and_fences_nobody() {
    let _turn = turn();
    let Some(lab) = lab(3, "network") else { return };
    let array = Array::up(&lab, 3).unwrap();
    let settle = lab.observe(&Targets::new(&array.addresses())).unwrap();
    array.wait_home(&settle, HOME).unwrap();
    drop(settle);
    let (first, second) = (Network::Lan, Network::Control);
    let carrier = Fault::Carrier {
        host: 2,
        network: second,
    };
    let faults = [
        (Fault::NetworkLost { network: second }, CUT),
        (Fault::ControlLost { network: first }, CUT / 3),
        (carrier, CUT / 3),
    ];
    let mut said = Vec::new();
    for (fault, ms) in faults {
        let events = array.follow(1).unwrap();
        let observer = lab.observe(&Targets::new(&array.addresses())).unwrap();
        let injected: Injected = lab.inject(&fault).unwrap();
        pause(ms);
        injected.undo().unwrap();
        pause(ms / 5);
        said.extend(missed(&observer.stop().unwrap()).map(|gap| format!("{fault}: {gap}")));
        let (lost, found) = ("networkLost", "networkFound");
        let mut told = events.so_far();
        // It is found again when it was heard for a while.
        let is_of =
            |told: &[Value], kind| told.iter().filter(|event| event["kind"] == kind).count();
        while is_of(&told, found) < is_of(&told, lost).max(1) {
            let Some((_, event)) = events.wait(found, HOME) else {
                said.push(format!(
                    "{fault}: no event of the loss and the return: {told:?}"
                ));
                break;
            };
            told.push(event);
        }
        println!(
            "{fault}: {} lost, {} found",
            is_of(&told, lost),
            is_of(&told, found)
        );
        let events = told;
        let fences = events.iter().filter(|event| event["kind"] == "hostFencing");
        said.extend(fences.map(|event| format!("{fault}: {event}")));
    }
    assert!(said.is_empty(), "{}", said.join("\n"));
}

/// Every gap of every address, in words, and every time with two owners.
fn missed(report: &Report) -> impl Iterator<Item = String> {
    report.addresses.iter().flat_map(|one| {
        let gaps = one.seen.gaps.iter().filter(|gap| !gap.open || gap.lost > 1);
        let gaps = gaps.map(|gap| format!("{} {gap:?}", one.address));
        let duals = one.seen.duals.iter();
        gaps.chain(duals.map(|dual| format!("{} {dual:?}", one.address)))
    })
}
