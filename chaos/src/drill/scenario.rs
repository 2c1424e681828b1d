//! The table of the scenarios: number, name, fault, pass line, and what plays it. P0, audits and gaps are
//! looked at in all of them (`super`); the pass line here is what comes on top.

use super::{Drill, DrillError, Stop, Told, scenes};
use crate::lab::array::ArraySpec;
use crate::lab::{Lab, LabSpec};
use std::path::Path;

/// One scenario.
pub struct Scenario {
    /// Its number in the specification; 21 and 22 are what comes after its table.
    pub number: u8,
    /// What it is called on the command line.
    pub name: &'static str,
    /// The fault.
    pub fault: &'static str,
    /// It passes when.
    pub passes: &'static str,
    /// As many hosts.
    pub hosts: u8,
    /// Each host has a disk of its own.
    pub disks: bool,
    /// Each daemon has a wall clock of its own.
    pub clocks: bool,
    /// Plays it; longer where that is asked for.
    pub play: Play,
}

/// What plays a scenario, on an array that is at home; whether the long form is wanted.
pub type Play = fn(&mut Drill<'_>, bool) -> Result<(), DrillError>;

const USUAL: Scenario = Scenario {
    number: 0,
    name: "",
    fault: "",
    passes: "",
    hosts: 5,
    disks: false,
    clocks: false,
    play: |_, _| Ok(()),
};

/// Every scenario that plays in the lab. 17 is played on the store alone; 18 also is.
pub const SCENARIOS: [Scenario; 21] = [
    Scenario {
        number: 1,
        name: "killed",
        fault: "kill -9 of an owner's daemon, and of its children too",
        passes: "silent by L + 10 ms, new owner by R",
        play: scenes::killed,
        ..USUAL
    },
    Scenario {
        number: 2,
        name: "stopped",
        fault: "SIGSTOP of an owner for 0.1, 1 and 3 s (long: 10 and 100 s)",
        passes: "nothing sent for a lost address on resume; it comes back by itself",
        play: scenes::stopped,
        ..USUAL
    },
    Scenario {
        number: 3,
        name: "deaf-owner",
        fault: "voters to owner lost, owner to voters fine",
        passes: "owner silent by L, taken over by R",
        play: scenes::deaf_owner,
        ..USUAL
    },
    Scenario {
        number: 4,
        name: "unheard-by-leader",
        fault: "owner to leader lost only",
        passes: "no failover",
        play: scenes::unheard_by_leader,
        ..USUAL
    },
    Scenario {
        number: 5,
        name: "voter-in-fence",
        fault: "a voter restarts 0 to 60 ms into a fence",
        passes: "taken over",
        play: scenes::voter_in_fence,
        ..USUAL
    },
    Scenario {
        number: 6,
        name: "voters-replaced",
        fault: "three of five voters replaced while an owner is cut off together with them",
        passes: "the owner stays silent",
        hosts: 8,
        play: scenes::voters_replaced,
        ..USUAL
    },
    Scenario {
        number: 7,
        name: "healed",
        fault: "healing with a log 3 s behind (long: 10 s)",
        passes: "no packet for a lost address before it is up again",
        play: scenes::healed,
        ..USUAL
    },
    Scenario {
        number: 8,
        name: "leader-paused",
        fault: "leader stopped 3 s, then its disk frozen 3 s (long: 10 s each)",
        passes: "no fence of a healthy host, no address of one moves",
        disks: true,
        play: scenes::leader_paused,
        ..USUAL
    },
    Scenario {
        number: 9,
        name: "leader-in-fence",
        fault: "the leader killed 0 to 60 ms into a fence",
        passes: "resolved by R + election",
        play: scenes::leader_in_fence,
        ..USUAL
    },
    Scenario {
        number: 10,
        name: "partitions",
        fault: "halves, ring, bridge, chain, quorum loss",
        passes: "hosts that reach a quorum keep their leases",
        play: scenes::partitions,
        ..USUAL
    },
    Scenario {
        number: 11,
        name: "loss",
        fault: "30 % of all frames lost; then of control traffic 30 % lost, 50 % doubled, out of order and 10 \
                to 130 ms late (long: 10 minutes), or 50 to 500 ms",
        passes: "at most one false failover each; at 50 to 500 ms never two answers",
        play: scenes::loss,
        ..USUAL
    },
    Scenario {
        number: 12,
        name: "clocks",
        fault: "wall clocks stepped by an hour both ways, and strobed",
        passes: "no failover",
        clocks: true,
        play: scenes::clocks,
        ..USUAL
    },
    Scenario {
        number: 13,
        name: "networks",
        fault: "one control network lost, then the other, then both, for one owner",
        passes: "one: nothing; both: silent by L, taken over by R",
        play: scenes::networks,
        ..USUAL
    },
    Scenario {
        number: 14,
        name: "hands",
        fault: "ruleset flushed, tables deleted, addresses deleted and added by hand",
        passes: "repaired within 100 ms, or let go",
        play: scenes::hands,
        ..USUAL
    },
    Scenario {
        number: 15,
        name: "netlink-held",
        fault: "another program holds nftables' lock for seconds, then RTNL for 5 s, also while an owner is stopped",
        passes: "never two answers; no gap while RTNL is held but the stopped owner's",
        play: scenes::netlink_held,
        ..USUAL
    },
    Scenario {
        number: 16,
        name: "restarts",
        fault: "all daemons restart at once, asked to end or killed; one after the other",
        passes: "at once: back within the longest election time-out and L; one after the other: no gap above L",
        play: scenes::restarts,
        ..USUAL
    },
    Scenario {
        number: 18,
        name: "disk-full",
        fault: "full disk at an owner, then at the leader",
        passes: "goes on in the room that its store has, or ends with the reason in its log; no other host notices",
        disks: true,
        play: scenes::disk_full,
        ..USUAL
    },
    Scenario {
        number: 19,
        name: "flood",
        fault: "DNS flood at an owner, 3 s (long: 10 s)",
        passes: "no lost lease",
        play: scenes::flooded,
        ..USUAL
    },
    Scenario {
        number: 20,
        name: "upgrade",
        fault: "rolling upgrade in whose middle L changes and all certificates run out, and downgrade; a host restarted two years ahead; heartbeats of an old boot sent again",
        passes: "no gap above L; refused and counted",
        clocks: true,
        play: scenes::upgraded,
        ..USUAL
    },
    Scenario {
        number: 21,
        name: "drains",
        fault: "a planned drain while a host is stopped, while one is not heard by the leader, under loss",
        passes: "the drained host lets go, and gets back",
        play: scenes::drains,
        ..USUAL
    },
    Scenario {
        number: 22,
        name: "last-resort",
        fault: "quorum_loss = \"last_resort\": three of five killed; splits in which the link joins the halves, or nothing does",
        passes: "survivors serve each address once; a minority takes nothing that the link tells of; UNSAFE, as documented: \
                 where nothing joins the halves both answer, until 1 s after the heal",
        play: scenes::last_resort,
        ..USUAL
    },
];

/// The scenario of this number or name.
#[must_use]
pub fn scenario(word: &str) -> Option<&'static Scenario> {
    SCENARIOS
        .iter()
        .find(|one| one.name == word || one.number.to_string() == word)
}

/// Plays `scenarios`, one after the other, on one array in a lab of its own; `other` is a build to
/// upgrade to and back. A pass line that is not met does not keep the next one from being played.
///
/// # Errors
/// The lab or the array does not come up. What was broken is in [`Told::broken`].
pub fn play(
    scenarios: &[&Scenario],
    is_long: bool,
    other: Option<&Path>,
    stop: &Stop,
) -> Result<Told, DrillError> {
    let any = |needs: fn(&Scenario) -> bool| scenarios.iter().any(|one| needs(one));
    let hosts = scenarios
        .iter()
        .map(|one| one.hosts)
        .max()
        .unwrap_or(USUAL.hosts);
    let mut spec = ArraySpec::new(hosts);
    spec.disks = any(|one| one.disks);
    spec.clocks = any(|one| one.clocks);
    let name = "chaos".to_owned();
    let lab = Lab::up(&LabSpec { hosts, name })?;
    let mut drill = Drill::begin(&lab, spec, stop)?;
    drill.with_other(other.map(Path::to_owned));
    let (mut broken, mut titles) = (Vec::new(), Vec::new());
    for one in scenarios {
        let title = format!("{} {}: {}", one.number, one.name, one.fault);
        stop.say(format_args!("{title}"));
        titles.push(title);
        match (one.play)(&mut drill, is_long) {
            Ok(()) => {}
            Err(DrillError::Stopped) => break,
            Err(DrillError::Broken(what)) => broken.push(format!("{}: {what}", one.name)),
            Err(error) => {
                broken.push(format!("{}: {error}", one.name));
                break;
            }
        }
    }
    drill.end(&titles.join("; "), broken)
}
