//! The judge's stories: what is run when, and what the outcomes make of each group.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::net::IpAddr;

use control::{Instant, LocalGroup};
use monitor::judge::{Judge, Outcome, Reading, Run, Wanted};
use proptest::prelude::*;
use statemachine::{GroupName, LoadKind, LoadSpec, TestKind, TestSpec};

fn ms(ms: u64) -> Instant {
    Instant(1_000_000_000 + ms * 1_000)
}

fn tcp(name: &str, target: &str, rise: u32, fall: u32) -> TestSpec {
    TestSpec {
        name: name.to_owned(),
        kind: TestKind::Tcp {
            target: target.to_owned(),
        },
        interval_ms: 1_000,
        timeout_ms: 400,
        rise,
        fall,
    }
}

fn wanted(group: &str, tests: Vec<TestSpec>) -> Wanted {
    Wanted {
        group: GroupName(group.to_owned()),
        tests,
        loads: Vec::new(),
        well: true,
        address: IpAddr::from([10, 0, 0, 1]),
        served: Vec::new(),
    }
}

/// Drives a judge, second by second.
struct Story {
    judge: Judge,
    at: u64,
}

impl Story {
    fn of(wishes: &[Wanted]) -> Self {
        let mut judge = Judge::new(7);
        judge.follow(ms(0), wishes);
        Self { judge, at: 0 }
    }

    /// One interval: every run that falls due ends as `outcome` says. Gives the runs.
    fn second(&mut self, outcome: impl Fn(&Run) -> Option<Outcome>) -> Vec<Run> {
        let mut runs = Vec::new();
        for _ in 0..100 {
            for run in self.judge.due(ms(self.at)).runs {
                if let Some(outcome) = outcome(&run) {
                    self.judge.ran(ms(self.at), run.object, run.run, outcome);
                }
                runs.push(run);
            }
            self.at += 10;
        }
        runs
    }

    fn well(&mut self, group: &str) -> bool {
        let name = GroupName(group.to_owned());
        self.judge.why(ms(self.at), &name).is_none()
    }
}

fn pass(_: &Run) -> Option<Outcome> {
    Some(Ok(Reading::Passed))
}

fn fail(_: &Run) -> Option<Outcome> {
    Some(Err("refused".to_owned()))
}

fn hang(_: &Run) -> Option<Outcome> {
    None
}

/// Goal: what two groups look at in the same way is looked at once, and each counts by its own numbers.
#[test]
fn an_object_of_two_groups_runs_once_and_counts_in_each() {
    let mut story = Story::of(&[
        wanted("news", vec![tcp("a", "{address}:80", 1, 3)]),
        wanted("web", vec![tcp("b", "10.0.0.1:80", 1, 1)]),
    ]);
    assert_eq!(story.judge.objects(), 1);
    assert!(story.second(fail).len() <= 1);
    assert!(!story.well("web") && story.well("news"));
    story.second(fail);
    story.second(fail);
    story.second(fail);
    assert!(!story.well("news"));
}

/// Goal: an object that hangs counts as failed at its time-out, and its late answer not at all.
#[test]
fn a_hanging_run_fails_at_its_time_out_and_its_late_answer_is_ignored() {
    let mut story = Story::of(&[wanted("web", vec![tcp("a", "{address}:80", 1, 1)])]);
    let mut runs = story.second(hang);
    runs.extend(story.second(hang));
    assert!(!story.well("web"));
    let why = story
        .judge
        .why(ms(story.at), &GroupName("web".into()))
        .unwrap();
    assert_eq!(why, "test a: no answer within 400 ms");
    for _ in 0..50 {
        story.at += 10;
        story.judge.due(ms(story.at));
    }
    for run in runs {
        let late = Ok(Reading::Passed);
        story.judge.ran(ms(story.at), run.object, run.run, late);
    }
    assert!(!story.well("web"));
}

/// Goal: a monitor that was away itself holds that against nobody: an answer that was there is read and
/// counts, and one that never comes fails after the time-out all the same, of time in which somebody listened.
#[test]
fn time_in_which_the_monitor_was_away_counts_against_nobody() {
    let mut tests = vec![
        tcp("a", "{address}:80", 1, 1),
        tcp("b", "{address}:81", 1, 1),
    ];
    // Long enough that both are under way at once.
    tests.iter_mut().for_each(|test| test.timeout_ms = 1_000);
    let mut story = Story::of(&[wanted("web", tests)]);
    let mut runs = Vec::new();
    while runs.len() < 2 {
        runs.extend(story.judge.due(ms(story.at)).runs);
        story.at += 1;
    }
    let (answered, silent) = (&runs[0], &runs[1]);
    // Nobody listens for half a minute.
    story.at += 30_000;
    let due = story.judge.due(ms(story.at));
    assert_eq!(due.given_up, []);
    assert!(story.well("web"));
    let answer = Ok(Reading::Passed);
    story
        .judge
        .ran(ms(story.at), answered.object, answered.run, answer);
    assert!(story.well("web"));
    let start = story.at;
    while story.well("web") {
        let due = story.judge.due(ms(story.at));
        assert!(due.given_up.iter().all(|id| *id == silent.object));
        story.at += 1;
    }
    assert!(
        (1..=1_060).contains(&(story.at - start)),
        "{}",
        story.at - start
    );
}

/// Goal: a monitor that is always a little late still finds out who does not answer.
/// Method: looks each 130 ms, where every wake-up was asked for sooner.
#[test]
fn a_monitor_that_is_always_late_finds_out_who_hangs() {
    let mut story = Story::of(&[wanted("web", vec![tcp("a", "{address}:80", 1, 1)])]);
    while story.well("web") {
        story.judge.due(ms(story.at));
        story.at += 130;
        assert!(story.at < 10_000);
    }
}

/// Goal: when the host takes or loses an address, its tests look elsewhere and the count goes on; what
/// was asked of the old address says nothing any more.
#[test]
fn a_change_of_address_keeps_the_count_and_drops_the_run_under_way() {
    let mut wish = wanted("web", vec![tcp("a", "{address}:80", 2, 2)]);
    let mut story = Story::of(std::slice::from_ref(&wish));
    story.second(fail);
    story.second(fail);
    assert!(!story.well("web"));
    let old = loop {
        let due = story.judge.due(ms(story.at)).runs;
        if let Some(run) = due.into_iter().next() {
            break run;
        }
        story.at += 10;
    };
    wish.address = IpAddr::from([127, 0, 0, 1]);
    story.judge.follow(ms(story.at), &[wish]);
    story
        .judge
        .ran(ms(story.at), old.object, old.run, Ok(Reading::Passed));
    let runs = story.second(pass);
    assert!(
        runs.iter()
            .all(|run| run.task.to_string() == "tcp 127.0.0.1:80")
    );
    assert!(!story.well("web"), "one pass of two");
    story.second(pass);
    story.second(pass);
    assert!(story.well("web"));
}

/// Goal: a new test in a policy does not move an address until it has failed as often as it says; a
/// member that the log has as failed must pass first; without tests a member is well.
#[test]
fn a_new_test_starts_where_its_group_stands() {
    let first = tcp("a", "{address}:80", 1, 1);
    let second = tcp("b", "{address}:81", 3, 2);
    let mut wish = wanted("web", vec![first.clone()]);
    let mut story = Story::of(std::slice::from_ref(&wish));
    story.second(pass);
    wish.tests.push(second);
    story
        .judge
        .follow(ms(story.at), std::slice::from_ref(&wish));
    assert!(story.well("web"));
    wish.tests = vec![first];
    wish.well = false;
    let mut story = Story::of(std::slice::from_ref(&wish));
    assert!(!story.well("web"));
    wish.tests.clear();
    story.judge.follow(ms(story.at), &[wish]);
    assert!(story.well("web"));
}

/// Goal: a service that comes and goes is held back for a while, and says for how long.
#[test]
fn a_service_that_comes_and_goes_is_held_back_and_says_so() {
    let mut story = Story::of(&[wanted("web", vec![tcp("a", "{address}:80", 1, 1)])]);
    for _ in 0..3 {
        story.second(fail);
        story.second(fail);
        story.second(pass);
        story.second(pass);
    }
    let why = story
        .judge
        .why(ms(story.at), &GroupName("web".into()))
        .unwrap();
    assert!(
        why.contains("held back for") && why.contains("penalty"),
        "{why}"
    );
    let news = story.judge.news(ms(story.at));
    assert!(news.iter().all(|(_, verdict)| !verdict.healthy));
    let mut seconds = 0;
    while !story.well("web") {
        story.second(pass);
        seconds += 1;
    }
    assert!((60..200).contains(&seconds), "{seconds}");
    let news = story.judge.news(ms(story.at));
    assert_eq!(news.len(), 1);
    assert!(news[0].1.healthy);
}

/// Goal: the death of a process that is watched counts at once, whatever `fall` says.
#[test]
fn a_death_that_was_seen_needs_no_count() {
    let mut story = Story::of(&[wanted("web", vec![tcp("a", "{address}:80", 2, 9)])]);
    let runs = [story.second(pass), story.second(pass)].concat();
    story
        .judge
        .struck(ms(story.at), runs[0].object, "process 7 has ended");
    let why = story
        .judge
        .why(ms(story.at), &GroupName("web".into()))
        .unwrap();
    assert_eq!(why, "test a: process 7 has ended");
}

/// Goal: load and capacity of the load objects reach the group's verdict, and only news is told.
#[test]
fn a_load_reaches_the_verdict_once() {
    let mut wish = wanted("web", Vec::new());
    wish.loads = vec![LoadSpec {
        name: "cpu".into(),
        kind: LoadKind::Cpu,
        interval_ms: 1_000,
        timeout_ms: 500,
    }];
    let mut story = Story::of(&[wish]);
    let load = |_: &Run| {
        Some(Ok(Reading::Load {
            load: 3,
            capacity: 4,
        }))
    };
    story.second(load);
    story.second(load);
    let verdict = LocalGroup {
        healthy: true,
        load: 3,
        capacity: 4,
    };
    let news = story.judge.news(ms(story.at));
    assert_eq!(news, [(GroupName("web".into()), verdict)]);
    story.second(load);
    assert_eq!(story.judge.news(ms(story.at)), []);
}

/// Goal: objects of one pace do not march in step. Method: 200 of them; no 50 ms of the second has
/// more than a fifth.
#[test]
fn objects_of_one_pace_are_spread_over_the_interval() {
    let tests = (0..200).map(|n| tcp(&n.to_string(), &format!("10.0.0.1:{}", 1_000 + n), 2, 2));
    let mut judge = Judge::new(3);
    judge.follow(ms(0), &[wanted("web", tests.collect())]);
    let mut all = 0;
    for slot in 1..=20 {
        let due = judge.due(ms(slot * 50)).runs.len();
        assert!(due <= 40, "{due} in slot {slot}");
        all += due;
    }
    assert!(
        (200..=220).contains(&all),
        "{all}: a few are early for their second run"
    );
}

/// Goal: what is looked at rarely is looked at soon for the first time, and spread over its interval after.
/// Method: 200 objects of one hour; no minute has more than a twentieth of the second runs.
#[test]
fn rare_looks_begin_soon_and_are_spread() {
    let mut tests: Vec<TestSpec> = (0..200)
        .map(|n| tcp(&n.to_string(), &format!("10.0.0.1:{}", 1_000 + n), 2, 2))
        .collect();
    tests
        .iter_mut()
        .for_each(|test| test.interval_ms = 3_600_000);
    let mut judge = Judge::new(3);
    judge.follow(ms(0), &[wanted("web", tests)]);
    let mut first = Vec::new();
    for step in 1..=100 {
        let due = judge.due(ms(step * 10)).runs;
        for run in &due {
            judge.ran(ms(step * 10), run.object, run.run, Ok(Reading::Passed));
        }
        first.extend(due);
    }
    let second = first.iter().filter(|run| run.run == 2).count();
    assert_eq!(first.len() - second, 200);
    for minute in 0..60 {
        let due = judge.due(ms(1_000 + minute * 60_000)).runs;
        assert!(due.len() <= 10, "{} in minute {minute}", due.len());
    }
}

proptest! {
    /// Goal: whatever is wanted and whatever comes of it, an object has one run at a time, the judge
    /// wakes when it has something to do and not before, and nothing panics.
    #[test]
    fn an_object_has_one_run_at_a_time(
        acts in proptest::collection::vec((0_u8..5, 0_u64..900, 0_usize..4), 1..120),
    ) {
        let all = [
            wanted("a", vec![tcp("x", "{address}:80", 2, 2), tcp("y", "{address}:81", 1, 1)]),
            wanted("b", vec![tcp("x", "{address}:80", 1, 3)]),
            wanted("c", Vec::new()),
            wanted("d", vec![tcp("z", "10.0.0.9:80", 100, 100)]),
        ];
        let mut judge = Judge::new(1);
        let (mut at, mut open) = (0, Vec::<Run>::new());
        for (act, pass_ms, which) in acts {
            at += pass_ms;
            match act {
                0 => judge.follow(ms(at), &all[..=which]),
                1 => judge.follow(ms(at), &all[which..]),
                2 => if let Some(run) = open.pop() {
                    judge.ran(ms(at), run.object, run.run, Ok(Reading::Passed));
                },
                3 => if let Some(run) = open.first() {
                    judge.struck(ms(at), run.object, "gone");
                },
                _ => {
                    let due = judge.due(ms(at)).runs;
                    let objects: BTreeSet<_> = due.iter().map(|run| run.object).collect();
                    prop_assert_eq!(objects.len(), due.len());
                    prop_assert!(judge.next_wake(ms(at)).is_none_or(|next| next > ms(at)));
                    open.extend(due);
                }
            }
            let _ = (judge.news(ms(at)), judge.shown(ms(at)));
        }
    }
}
