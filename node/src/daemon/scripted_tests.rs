//! Stories of scripts: what is done, told and run, in which order.

use super::*;
use control::Instant;
use statemachine::{
    Address, Command, Entry, GroupCommand, HostId, LogTime, Policy, Scripts, apply,
};

const GROUP: &str = "web";

fn ip() -> IpAddr {
    IpAddr::from([10, 0, 0, 1])
}

fn state(scripts: Option<Scripts>) -> State {
    let mut state = State::default();
    let mut policy = Policy::new(GROUP, "web.example.");
    policy.scripts = scripts;
    let apply_it = GroupCommand::Apply {
        policy: Box::new(policy),
        seen: None,
    };
    let entry = Entry {
        commands: vec![Command::Group(apply_it)],
        ..Entry::default()
    };
    apply(&mut state, 1, &entry);
    let mut address = Address::new(GroupName(GROUP.into()), 32, HostId(1), LogTime::default());
    address.epoch = Epoch(4);
    state.addresses.insert(ip(), address);
    state
}

fn both() -> State {
    state(Some(Scripts {
        acquire: Some("/a".into()),
        release: Some("/r".into()),
        timeout_ms: 600_000,
    }))
}

fn acquire() -> HostAction {
    HostAction::Acquire {
        address: ip(),
        prefix_len: 32,
        group: GroupName(GROUP.into()),
        epoch: Epoch(4),
        deadline: Instant(9),
        probe: false,
    }
}

fn release() -> HostAction {
    HostAction::Release {
        address: ip(),
        group: GroupName(GROUP.into()),
        epoch: Epoch(4),
    }
}

fn acquired(result: Result<Took, String>) -> HostEvent {
    HostEvent::Acquired {
        address: ip(),
        epoch: Epoch(4),
        result,
    }
}

fn released() -> HostEvent {
    HostEvent::Released {
        address: ip(),
        epoch: Epoch(4),
    }
}

/// What is done, in short: `perform acquire`, `tell released`, `run /a`.
fn words(next: &[Next]) -> Vec<String> {
    let word = |next: &Next| match next {
        Next::Perform(HostAction::Acquire { .. }) => "perform acquire".to_owned(),
        Next::Perform(HostAction::Release { .. }) => "perform release".to_owned(),
        Next::Perform(_) => "perform".to_owned(),
        Next::Tell(HostEvent::Acquired { result: Ok(_), .. }) => "tell served".to_owned(),
        Next::Tell(HostEvent::Acquired {
            result: Err(error), ..
        }) => format!("tell failed: {error}"),
        Next::Tell(HostEvent::Released { .. }) => "tell released".to_owned(),
        Next::Tell(HostEvent::Lost { error, .. }) => format!("tell lost: {error}"),
        Next::Tell(_) => "tell".to_owned(),
        Next::Run(call) => format!("run {} {} {}", call.path, call.reason, call.timeout_ms),
    };
    next.iter().map(word).collect()
}

/// Goal: the order of failover.md: address, acquire script, served; release script, address, let go.
#[test]
fn scripts_stand_around_the_address() {
    let (state, mut scripted) = (both(), Scripted::default());
    assert_eq!(
        words(&scripted.order(&state, true, acquire())),
        ["perform acquire"]
    );
    let next = scripted.told(&state, acquired(Ok(Took::default())));
    assert_eq!(words(&next), ["run /a assigned 20000"]);
    assert_eq!(words(&scripted.ran(ip(), Ok(()))), ["tell served"]);
    let next = scripted.order(&state, true, release());
    assert_eq!(words(&next), ["run /r released 10000"]);
    assert_eq!(words(&scripted.ran(ip(), Ok(()))), ["perform release"]);
    assert_eq!(words(&scripted.told(&state, released())), ["tell released"]);
}

/// Goal: a daemon that ends runs the release script of what it served, once, after one that runs already.
#[test]
fn a_daemon_that_ends_runs_the_release_scripts_of_what_it_served() {
    let (state, mut scripted) = (both(), Scripted::default());
    scripted.order(&state, true, acquire());
    assert_eq!(words(&scripted.end(&state)), [""; 0], "nothing was served");
    scripted.order(&state, true, acquire());
    scripted.told(&state, acquired(Ok(Took::default())));
    assert_eq!(
        words(&scripted.end(&state)),
        [""; 0],
        "its acquire script runs"
    );
    let next = scripted.ran(ip(), Ok(()));
    assert_eq!(words(&next), ["run /r stopped 10000"]);
    assert!(!scripted.is_idle());
    assert_eq!(words(&scripted.ran(ip(), Ok(()))), [""; 0]);
    assert!(scripted.is_idle());
    assert_eq!(words(&scripted.end(&state)), [""; 0]);
}

/// Goal: what is being released when the daemon ends is not released twice.
#[test]
fn a_daemon_that_ends_does_not_run_a_release_script_twice() {
    let (state, mut scripted) = (both(), Scripted::default());
    scripted.order(&state, true, acquire());
    scripted.told(&state, acquired(Ok(Took::default())));
    scripted.ran(ip(), Ok(()));
    let next = scripted.order(&state, true, release());
    assert_eq!(words(&next), ["run /r released 10000"]);
    assert_eq!(words(&scripted.end(&state)), [""; 0]);
    assert!(!scripted.is_idle());
    scripted.ran(ip(), Ok(()));
    assert!(scripted.is_idle());
}

/// Goal: a group without scripts is served and let go as ever.
#[test]
fn without_scripts_nothing_is_waited_for() {
    let (state, mut scripted) = (state(None), Scripted::default());
    scripted.order(&state, true, acquire());
    let next = scripted.told(&state, acquired(Ok(Took::default())));
    assert_eq!(words(&next), ["tell served"]);
    assert_eq!(
        words(&scripted.order(&state, true, release())),
        ["perform release"]
    );
    assert_eq!(words(&scripted.told(&state, released())), ["tell released"]);
}

/// Goal: an acquire script that fails undoes the acquire, and says what it said once that is done.
#[test]
fn a_failed_acquire_script_undoes_the_acquire() {
    let (state, mut scripted) = (both(), Scripted::default());
    scripted.order(&state, true, acquire());
    scripted.told(&state, acquired(Ok(Took::default())));
    let next = scripted.ran(ip(), Err("exit code 3".into()));
    assert_eq!(words(&next), ["perform release"]);
    let next = scripted.told(&state, released());
    assert_eq!(words(&next), ["tell failed: acquire script: exit code 3"]);
}

/// Goal: a release script that fails or hangs ends at its bound, the address goes all the same, and the
/// failure is told.
#[test]
fn a_failed_release_script_is_told_and_the_address_goes() {
    let (state, mut scripted) = (both(), Scripted::default());
    scripted.order(&state, true, acquire());
    scripted.told(&state, acquired(Ok(Took::default())));
    scripted.ran(ip(), Ok(()));
    scripted.order(&state, true, release());
    let next = scripted.ran(ip(), Err("did not end in time".into()));
    assert_eq!(words(&next), ["perform release"]);
    let next = scripted.told(&state, released());
    assert_eq!(
        words(&next),
        ["tell lost: release script: did not end in time"]
    );
}

/// Goal: without a lease the address goes first, whatever its scripts do.
#[test]
fn without_a_lease_no_script_is_waited_for() {
    let (state, mut scripted) = (both(), Scripted::default());
    scripted.order(&state, true, acquire());
    scripted.told(&state, acquired(Ok(Took::default())));
    let next = scripted.order(&state, false, release());
    assert_eq!(
        words(&next),
        ["perform release"],
        "its acquire script still runs"
    );
    assert_eq!(words(&scripted.told(&state, released())), ["tell released"]);
    let next = scripted.ran(ip(), Err("killed".into()));
    assert_eq!(words(&next), ["run /r leaseLost 10000"]);
    assert_eq!(words(&scripted.ran(ip(), Ok(()))), [""; 0]);
}

/// Goal: a release that overtakes an acquire waits for no script, or two of them could outlast the fence;
/// its own runs after the other, one at a time.
#[test]
fn a_release_during_the_acquire_script_waits_for_neither() {
    let (state, mut scripted) = (both(), Scripted::default());
    scripted.order(&state, true, acquire());
    scripted.told(&state, acquired(Ok(Took::default())));
    assert_eq!(
        words(&scripted.order(&state, true, release())),
        ["perform release"]
    );
    let next = scripted.ran(ip(), Ok(()));
    assert_eq!(words(&next), ["run /r released 10000"]);
    assert_eq!(words(&scripted.ran(ip(), Ok(()))), [""; 0]);
}

/// Goal: a release under a lease that meets the script of an earlier one, which let go without a lease,
/// is not lost: the driver gets it when that script has ended.
#[test]
fn a_release_that_meets_an_earlier_script_is_not_lost() {
    let (state, mut scripted) = (both(), Scripted::default());
    let serve = |scripted: &mut Scripted| {
        scripted.order(&state, true, acquire());
        scripted.told(&state, acquired(Ok(Took::default())))
    };
    serve(&mut scripted);
    scripted.ran(ip(), Ok(()));
    assert_eq!(
        words(&scripted.order(&state, false, release())),
        ["perform release", "run /r leaseLost 10000"]
    );
    scripted.told(&state, released());
    // The lease is back, under the same assignment, and the script still runs.
    serve(&mut scripted);
    assert_eq!(words(&scripted.order(&state, true, release())), [""; 0]);
    assert_eq!(words(&scripted.ran(ip(), Ok(()))), ["perform release"]);
}

/// Goal: a service that a release script stopped is started again when the address came back meanwhile.
#[test]
fn an_address_that_comes_back_has_its_acquire_script_last() {
    let (state, mut scripted) = (both(), Scripted::default());
    scripted.order(&state, true, acquire());
    let running = scripted.told(&state, acquired(Ok(Took::default())));
    let script = words(&running);
    scripted.order(&state, false, release());
    scripted.told(&state, released());
    scripted.order(&state, true, acquire());
    assert_eq!(
        words(&scripted.told(&state, acquired(Ok(Took::default())))),
        [""; 0]
    );
    let next = scripted.ran(ip(), Ok(()));
    assert_eq!(
        words(&next),
        ["run /r leaseLost 10000"],
        "the first acquire is history"
    );
    assert_eq!(words(&scripted.ran(ip(), Ok(()))), script);
    assert_eq!(words(&scripted.ran(ip(), Ok(()))), ["tell served"]);
}

/// Goal: an address that the driver gave up while its acquire script ran is not told as served.
#[test]
fn an_address_that_was_lost_during_its_script_is_not_served() {
    let (state, mut scripted) = (both(), Scripted::default());
    scripted.order(&state, true, acquire());
    scripted.told(&state, acquired(Ok(Took::default())));
    let lost = HostEvent::Lost {
        address: ip(),
        epoch: Epoch(4),
        error: "gone".into(),
    };
    scripted.told(&state, lost);
    let next = scripted.ran(ip(), Ok(()));
    assert_eq!(words(&next)[0], "tell failed: given up meanwhile");
}

/// Goal: what was never served has no release script, and an acquire that comes too late has none either.
#[test]
fn an_address_that_was_never_served_has_no_script() {
    let (state, mut scripted) = (both(), Scripted::default());
    scripted.order(&state, true, acquire());
    assert_eq!(
        words(&scripted.order(&state, true, release())),
        ["perform release"]
    );
    let next = scripted.told(&state, acquired(Ok(Took::default())));
    assert_eq!(
        words(&next),
        ["tell served"],
        "the control knows that it is let go"
    );
    assert_eq!(words(&scripted.told(&state, released())), ["tell released"]);
}

/// Goal: an address that the driver gave up is told at once, and its release script runs afterwards.
#[test]
fn a_lost_address_is_told_first() {
    let (state, mut scripted) = (both(), Scripted::default());
    scripted.order(&state, true, acquire());
    scripted.told(&state, acquired(Ok(Took::default())));
    scripted.ran(ip(), Ok(()));
    let lost = HostEvent::Lost {
        address: ip(),
        epoch: Epoch(4),
        error: "gone".into(),
    };
    let next = scripted.told(&state, lost);
    assert_eq!(words(&next), ["tell lost: gone", "run /r lost 10000"]);
    assert_eq!(words(&scripted.ran(ip(), Ok(()))), [""; 0]);
}

/// Goal: a script knows what failover.md promises it.
#[test]
fn a_script_is_told_what_it_is_for() {
    let (state, mut scripted) = (both(), Scripted::default());
    scripted.order(&state, true, acquire());
    let next = scripted.told(&state, acquired(Ok(Took::default())));
    let [Next::Run(call)] = &next[..] else {
        panic!("{next:?}");
    };
    let pairs: Vec<String> = call
        .environment("h1")
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let expected = [
        "RAIS_GROUP=web",
        "RAIS_ADDRESS=10.0.0.1",
        "RAIS_EPOCH=4",
        "RAIS_HOST=h1",
        "RAIS_REASON=assigned",
    ];
    assert_eq!(pairs, expected);
}
