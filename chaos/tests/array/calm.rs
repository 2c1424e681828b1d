//! Faults that must cost nothing: no leader, and one control network less.

use chaos::lab::array::{Array, home_addresses};
use chaos::lab::{
    At, Fault, Gap, Injected, Intervals, Network, Report, Scope, Targets, host_name, now,
    wait_until,
};
use std::time::Duration;

use crate::{HOME, HOSTS, is_long, lab, pause, turn};

/// How long leaders are stopped.
const LEADERLESS: Duration = Duration::from_secs(15);
const LONG_LEADERLESS: Duration = Duration::from_secs(60);
/// Of five hosts two may be away: the others still are a quorum.
const AWAY: usize = 2;
/// A stopped leader stays stopped at least so long, in ms: longer than its lease.
const STOPPED: u64 = 500;
/// So long, in ms, a resumed host has to come back before the next one is stopped.
const BACK: u64 = 300;
/// After that long at home a host that was stopped must miss nothing again.
const SETTLED: Duration = Duration::from_millis(200);
/// How long a control network is gone.
const CUT: u64 = 10_000;
/// Moments told by different threads may differ by so much.
const SLACK: Duration = Duration::from_millis(20);

/// A host was stopped, then resumed.
#[derive(Clone, Copy, Debug)]
struct Stopped {
    host: u8,
    from: At,
    to: At,
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
/// RAIS_LONG); each probe looked at, and that there was no leader in the end.
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
    let (leader, status) = (array.leader(), array.rais(1, &["status"]));
    for one in cut {
        one.undo().unwrap();
    }
    array
        .until(HOME, "somebody leads", |array| array.leader().is_some())
        .unwrap();
    array.wait_home(&observer, HOME).unwrap();
    let said: Vec<String> = missed(&observer.stop().unwrap()).collect();
    assert_eq!(leader, None, "a leader without Raft: {status:?}");
    assert!(said.is_empty(), "{}\n{status:?}", said.join("\n"));
}

/// Goal: leaders that fail one after the other cost no address of a host that they are not.
/// Method: five hosts; whoever leads is stopped as soon as it is known, two at a time, for 15 s (60
/// with RAIS_LONG); then each gap must be one of an address whose home was stopped.
#[test]
fn leaders_stopped_again_and_again_cost_the_other_hosts_no_probe() {
    let _turn = turn();
    let Some(lab) = lab(HOSTS, "leaderless") else {
        return;
    };
    let array = Array::up(&lab, HOSTS).unwrap();
    let observer = lab.observe(&Targets::new(&array.addresses())).unwrap();
    array.wait_home(&observer, HOME).unwrap();
    let began = now();
    let end = began.after(leaderless());
    let (mut past, mut away): (Vec<Stopped>, Vec<Stopped>) = (Vec::new(), Vec::new());
    let resume = |mut one: Stopped| {
        one.to = array.resume(one.host).unwrap();
        one
    };
    while now() < end {
        let stopped: Vec<u8> = away.iter().map(|one| one.host).collect();
        let Some(host) = array.leader_beside(&stopped) else {
            continue;
        };
        if away.len() == AWAY {
            past.push(resume(away.remove(0)));
            // Three must be able to acknowledge at any time: it first has to come back.
            pause(BACK);
        }
        let from = array.stop(host, Scope::Family).unwrap();
        away.push(Stopped {
            host,
            from,
            to: from,
        });
        pause(STOPPED);
    }
    let ended = now();
    past.extend(away.into_iter().map(resume));
    array.wait_home(&observer, HOME).unwrap();
    let report = observer.stop().unwrap();

    let span = ended.since(began);
    println!(
        "{} leaders stopped in {span:?}: {:?}",
        past.len(),
        of_each(&past)
    );
    let least = span.as_secs() / 2;
    assert!(
        past.len() as u64 > least,
        "{} leaders in {span:?}",
        past.len()
    );
    assert_eq!(report.dual_probes(), 0, "{}", report.json());
    let (mut said, mut watched) = (Vec::new(), Duration::ZERO);
    for host in 1..=HOSTS {
        for address in home_addresses(host) {
            let seen = report.address(address).unwrap();
            watched += watched_of(seen, host, &past, began, ended);
            let wrong = seen
                .gaps
                .iter()
                .filter(|gap| !is_excused(seen, gap, host, &past));
            said.extend(wrong.map(|gap| format!("{address} of h{host}: {gap:?}")));
        }
    }
    let all = span * u32::from(HOSTS) * 2;
    println!("addresses of hosts that were not stopped were watched for {watched:?} of {all:?}");
    assert!(
        watched > all / 5,
        "too little was watched: {watched:?} of {all:?}"
    );
    assert!(said.is_empty(), "{}\n{past:#?}", said.join("\n"));
}

fn of_each(past: &[Stopped]) -> Vec<usize> {
    let of = |host| past.iter().filter(|one| one.host == host).count();
    (1..=HOSTS).map(of).collect()
}

/// Since when, before `at`, `host` counts as settled after the stop `one`: at home again for a while.
fn settled(seen: &Intervals, host: u8, one: &Stopped, at: At) -> Option<At> {
    let (name, since) = (host_name(host), one.to);
    let home = seen.tenures.iter().filter(|tenure| tenure.host == name);
    let settled = home.map(|tenure| (tenure.from.max(since).after(SETTLED), tenure.to));
    let mut settled = settled.filter(|(settled, to)| settled <= to && *settled <= at);
    settled.next().map(|(settled, _)| settled)
}

/// A gap is the price of a stop if it begins after it, and before its host was settled again.
fn is_excused(seen: &Intervals, gap: &Gap, host: u8, past: &[Stopped]) -> bool {
    // The newest question of all may still be on its way to its answer.
    if gap.open && gap.lost <= 1 {
        return true;
    }
    let mut stops = past.iter().filter(|one| one.host == host);
    stops.any(|one| {
        one.from <= gap.from.after(SLACK) && settled(seen, host, one, gap.from).is_none()
    })
}

/// How long no gap of an address of `host` would have been excused.
fn watched_of(seen: &Intervals, host: u8, past: &[Stopped], began: At, ended: At) -> Duration {
    let mut stops: Vec<&Stopped> = past.iter().filter(|one| one.host == host).collect();
    stops.sort_by_key(|one| one.from);
    let (mut watched, mut since) = (Duration::ZERO, Some(began));
    for one in stops {
        watched += since.map_or(Duration::ZERO, |since| one.from.since(since));
        since = settled(seen, host, one, ended);
    }
    watched + since.map_or(Duration::ZERO, |since| ended.since(since))
}

/// Goal: the loss of one control network is no failover, whichever of them it is.
/// Method: no traffic on the second network for 10 s, then no control traffic on the first one, then
/// a host without carrier on the second; each probe and each event looked at.
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
        let events = events.so_far();
        println!("{fault}: {} events", events.len());
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
