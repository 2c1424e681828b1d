//! The timing as a file: shown, compared, refused, applied to a running array.

use serde_json::Value;

use crate::array::{Array, name, until};

/// Applies a timing file with `text` through host `number`.
fn apply(array: &Array, number: u8, text: &str) -> crate::array::Said {
    let file = array.dir.join("timing.toml");
    std::fs::write(&file, text).unwrap();
    array.rais(number, &["timing", "apply", &file.display().to_string()])
}

/// Waits until every host follows this preset and none may count with another any more.
fn settled(array: &Array, preset: &str) {
    until(&format!("{preset} is settled on every host"), 30, || {
        let follows = |host| {
            let shown = array.try_json(host, &["timing", "show"])?;
            Some(shown["preset"] == preset && shown["settled"] == true)
        };
        (1..=array.hosts)
            .all(|host| follows(host) == Some(true))
            .then_some(())
    });
}

/// How many events of this kind there were.
fn count(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| event["kind"] == kind).count()
}

/// Goal: a timing is compared before it is applied, an unsafe one is refused with the arithmetic, and the
/// presets follow one another on a running array without a lost lease.
/// Method: each preset in turn through different hosts, at last two on the heels of one another; no host is
/// fenced and no address is let go of.
#[test]
fn the_timing_of_a_running_array_changes_and_nobody_loses_a_lease() {
    let array = Array::start(3);
    let before = array.events(1);
    let lan = array.rais(1, &["timing", "show", "--toml"]).good();
    apply(&array, 1, "preset = \"lan\"\nlease = \"200ms\"\n").refused(&[
        "timing.toml:2:9: unsafe timing: usable lease 180 ms (90 % of 200 ms) < 2 x heartbeat 100 ms",
        "change `lease`",
    ]);
    apply(&array, 1, "preset = \"lam\"\n").refused(&["timing.toml:1:10:", "did you mean `lan`?"]);
    let file = array.dir.join("timing.toml").display().to_string();
    std::fs::write(&file, "preset = \"wan\"\n").unwrap();
    let dry = array
        .rais(2, &["timing", "apply", &file, "--dry-run"])
        .good();
    assert!(dry.contains("~ lease = \"300ms\" -> \"4s\""), "{dry}");
    assert_eq!(array.rais(3, &["timing", "show", "--toml"]).good(), lan);
    for (host, preset) in [(2, "wan"), (3, "fast"), (1, "lan")] {
        let said = apply(&array, host, &format!("preset = \"{preset}\"\n")).good();
        assert!(said.contains("timing applied (log index"), "{said}");
        settled(&array, preset);
    }
    apply(&array, 1, "preset = \"wan\"\n").good();
    apply(&array, 1, &lan).good();
    settled(&array, "lan");
    assert!(apply(&array, 2, &lan).good().contains("nothing changes"));
    let events = array.events(1);
    assert_eq!(count(&events, "retimed"), 5);
    for kind in ["hostFencing", "hostDown", "release", "testFailed"] {
        assert_eq!(count(&events, kind), count(&before, kind), "{kind}");
    }
    assert!(array.is_whole(1));
}

/// Kills host `number` and gives for how long it had been silent when it was fenced, in ms; then brings it
/// back.
fn silent_ms(array: &mut Array, number: u8) -> u64 {
    let asked = (1..=array.hosts).find(|host| *host != number).unwrap();
    let newest = |events: Vec<Value>| events.last().and_then(|event| event["index"].as_u64());
    let before = newest(array.events(asked)).unwrap();
    array.kill(number);
    let silent = until("the dead host is fenced", 30, || {
        let events = array.events(asked);
        let mut fenced = events.iter().filter(|event| {
            event["kind"] == "hostFencing"
                && event["host"] == name(number)
                && event["index"].as_u64() > Some(before)
        });
        fenced.find_map(|event| event["phases"]["detect"].as_u64())
    });
    array.restart(number);
    array.whole();
    silent
}

/// Goal: a running array fails over by the timing that it was given last, without a restart of a daemon.
/// Method: a follower is killed under each preset; its silence before the fence is what the event says.
#[test]
fn a_dead_host_is_noticed_by_the_timing_in_force() {
    let mut array = Array::start(3);
    // The upper bounds are for a loaded machine: what they tell apart is far greater.
    for (preset, least, most) in [
        ("wan", 4_000, 7_000),
        ("fast", 60, 290),
        ("lan", 300, 2_000),
    ] {
        apply(&array, 1, &format!("preset = \"{preset}\"\n")).good();
        settled(&array, preset);
        let (follower, _) = array.follower_and_leader();
        let silent = silent_ms(&mut array, follower);
        assert!(
            (least..most).contains(&silent),
            "{preset}: fenced after {silent} ms of silence"
        );
    }
}
