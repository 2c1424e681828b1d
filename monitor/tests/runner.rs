//! The runner as a process: what it runs, ends, collects and refuses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

mod common;

use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::state_of;
use monitor::runner::wire::{Purpose, User};
use monitor::runner::{Programs, Runner};
use monitor::watch::{Monitor, Script};
use rustix::process::{Pid, Signal, kill_process};
use statemachine::{HostId, Policy};
use tokio::task::LocalSet;

/// Numbers of `nobody`.
const NOBODY: User = User {
    uid: 65_534,
    gid: 65_534,
};

fn runner_binary() -> String {
    let me = std::env::current_exe().unwrap();
    let profile = me.parent().and_then(Path::parent).unwrap();
    profile.join("examples/runner").display().to_string()
}

/// A runner, and a thread that asks it. `story` gets both.
fn with_runner<T>(user: Option<User>, story: impl AsyncFnOnce(Programs, u32) -> T) -> T {
    let binary = runner_binary();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let runner = Runner::start_from(&binary, user).unwrap();
        let pid = runner.pid();
        story(Programs::of(Some(runner)), pid).await
    })
}

async fn sh(programs: &Programs, script: &str, timeout_ms: u64) -> Result<String, String> {
    let words = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let environment = vec![("RAIS_GROUP".to_owned(), "web".to_owned())];
    programs
        .run(Purpose::Look, words, environment, timeout_ms)
        .await
}

/// Every process whose parent is `parent`, zombies too.
fn children(parent: u32) -> BTreeSet<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|pid| {
            let stat = read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let rest = stat.rsplit(')').next().unwrap_or_default();
            rest.split_whitespace().nth(1) == Some(parent.to_string().as_str())
        })
        .collect()
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count()
}

/// Polls another process: there is no event to await.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Goal: a program's end and words come back; its surroundings are clean and its own.
#[test]
fn a_program_runs_in_clean_surroundings_and_its_end_is_told() {
    with_runner(None, async |programs, _| {
        let said = sh(
            &programs,
            "env; pwd; cat; ps -o pgid= -p $$ 2>/dev/null || true",
            5_000,
        )
        .await
        .unwrap();
        let lines: BTreeSet<&str> = said.lines().collect();
        assert!(
            lines.contains("RAIS_GROUP=web") && lines.contains("/"),
            "{said}"
        );
        assert!(!said.contains("CARGO") && !said.contains("HOME="), "{said}");
        let failed = sh(&programs, "echo '  it is full' >&2; exit 3", 5_000).await;
        assert_eq!(failed, Err("exit code 3: it is full".to_owned()));
        let killed = sh(&programs, "kill -9 $$", 5_000).await;
        assert_eq!(killed, Err("ended by signal 9".to_owned()));
        let chatty = sh(
            &programs,
            "i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done",
            20_000,
        )
        .await;
        assert!(chatty.unwrap().len() <= 2_048);
    });
}

/// Goal: at its time-out a program ends with all that it started, and what it left behind is collected.
#[test]
fn a_time_out_ends_the_whole_group_and_nothing_is_left() {
    with_runner(None, async |programs, pid| {
        sh(&programs, "true", 5_000).await.unwrap();
        let before = descriptors(pid);
        let hangs = sh(&programs, "sleep 1000 & echo $!; wait", 300).await;
        let words = hangs.unwrap_err();
        assert!(words.starts_with("did not end in time"), "{words}");
        let child: u32 = words.rsplit(' ').next().unwrap().parse().unwrap();
        until("the grandchild is gone", || {
            !Path::new(&format!("/proc/{child}")).exists()
        })
        .await;
        // A look leaves nothing behind, even when it ends in time.
        let left = sh(&programs, "sleep 1000 & echo $!", 5_000).await.unwrap();
        let child: u32 = left.trim().parse().unwrap();
        until("what a look left is gone", || {
            !Path::new(&format!("/proc/{child}")).exists()
        })
        .await;
        until("nothing is left", || {
            children(pid).is_empty() && descriptors(pid) == before
        })
        .await;
    });
}

/// Goal: what a script starts may stay, as a service does; a stray that ends is collected all the same.
#[test]
fn what_a_script_started_goes_on_and_is_collected_when_it_ends() {
    with_runner(None, async |programs, pid| {
        let words = ["/bin/sh", "-c", "sleep 1.5 >/dev/null 2>&1 & echo $!"]
            .map(str::to_owned)
            .to_vec();
        let said = programs
            .run(Purpose::Act, words, Vec::new(), 5_000)
            .await
            .unwrap();
        let child: u32 = said.trim().parse().unwrap();
        assert!(
            children(pid).contains(&child),
            "the runner is its parent now"
        );
        until("it is collected", || children(pid).is_empty()).await;
    });
}

/// Goal: a thousand hanging programs at once end in time, without a zombie and without a descriptor.
#[test]
fn a_thousand_hanging_programs_leave_no_zombie_and_no_descriptor() {
    with_runner(None, async |programs, pid| {
        sh(&programs, "true", 5_000).await.unwrap();
        let before = descriptors(pid);
        let mut all = Vec::new();
        for _ in 0..1_000 {
            let programs = programs.clone();
            all.push(tokio::task::spawn_local(async move {
                let words = ["/bin/sleep", "1000"].map(str::to_owned).to_vec();
                programs.run(Purpose::Look, words, Vec::new(), 6_000).await
            }));
        }
        for one in all {
            let ended = one.await.unwrap().unwrap_err();
            assert!(ended.starts_with("did not end in time"), "{ended}");
        }
        until("nothing is left", || {
            children(pid).is_empty() && descriptors(pid) == before
        })
        .await;
    });
}

/// Goal: a program is not started when its time is over, however many wait and whoever gave up: a release
/// script must not run when its address is long back. Method: a runner that is stopped and goes on.
#[test]
fn a_stopped_runner_starts_nothing_late_and_works_on() {
    with_runner(None, async |programs, pid| {
        sh(&programs, "true", 5_000).await.unwrap();
        let runner = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        kill_process(runner, Signal::STOP).unwrap();
        let file = std::env::temp_dir().join(format!("rais-late-{}", std::process::id()));
        let touch = format!("touch {}", file.display());
        // More than the line holds, all given up at once.
        for _ in 0..5_000 {
            let asked = sh(&programs, &touch, 100);
            assert!(tokio::time::timeout(Duration::ZERO, asked).await.is_err());
        }
        let words = sh(&programs, &touch, 100).await.unwrap_err();
        assert!(words.starts_with("the runner does not answer"), "{words}");
        kill_process(runner, Signal::CONT).unwrap();
        sh(&programs, "true", 5_000).await.unwrap();
        assert!(!file.exists());
    });
}

/// Goal: programs run with as many descriptors as the daemon was given, not as many as the runner takes.
#[test]
fn a_program_has_the_usual_number_of_descriptors() {
    let given = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    with_runner(None, async |programs, pid| {
        let said = sh(&programs, "ulimit -Sn; ulimit -Hn", 5_000)
            .await
            .unwrap();
        let numbers: Vec<Option<u64>> = said.lines().map(|line| line.parse().ok()).collect();
        assert_eq!(numbers, [given.current, given.maximum]);
        let limits = read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let own = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let own: Vec<&str> = own.unwrap().split_whitespace().collect();
        assert_eq!(
            own[3], own[4],
            "the runner itself takes all it may: {limits}"
        );
    });
}

/// Goal: whoever ordered a script is told its end even when the monitor dies under it.
/// Method: a script that hangs, and a listener that panics at the first verdict.
#[test]
fn a_script_has_an_end_when_the_monitor_dies() {
    let binary = runner_binary();
    let runner = Runner::start_from(&binary, None).unwrap();
    let pid = runner.pid();
    let now = || control::Instant(host::clock::boottime_us());
    let tell = |_, _, _| panic!("as a defect would");
    let (monitor, thread) = Monitor::start(HostId(1), now, Some(runner), Box::new(tell)).unwrap();
    let (reply, replied) = std::sync::mpsc::sync_channel(1);
    let taken = monitor.run(Script {
        words: ["/bin/sleep", "1000"].map(str::to_owned).to_vec(),
        environment: Vec::new(),
        timeout_ms: 900_000,
        reply: Box::new(move |ended| reply.send(ended).unwrap()),
    });
    assert!(taken);
    let end = Instant::now() + Duration::from_secs(20);
    while children(pid).is_empty() {
        assert!(Instant::now() < end, "the script does not start");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    monitor.follow(Arc::new(state_of(Policy::new("web", "web.example."))));
    assert!(thread.join().is_err());
    let ended = replied.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(ended.unwrap_err().starts_with("the monitor has ended"));
    // What comes later is refused, and its reply is not called.
    let never = Script {
        words: Vec::new(),
        environment: Vec::new(),
        timeout_ms: 1,
        reply: Box::new(|_| panic!("called")),
    };
    assert!(!monitor.run(never));
}

/// Goal: programs run as the user that the host's configuration names, with no right of root's.
#[test]
fn programs_run_as_another_user_without_privilege() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: users cannot be changed here");
        return;
    }
    with_runner(Some(NOBODY), async |programs, _| {
        let said = sh(
            &programs,
            "id -u; id -g; id -G; grep CapEff /proc/self/status",
            5_000,
        )
        .await
        .unwrap();
        let words: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(
            words,
            ["65534", "65534", "65534", "CapEff:", "0000000000000000"]
        );
    });
}

/// Goal: a program that others can change is not run, and the words say what to do.
#[test]
fn a_program_that_others_can_change_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    with_runner(None, async |programs, _| {
        let file = std::env::temp_dir().join(format!("rais-open-{}", std::process::id()));
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o777)).unwrap();
        let words = vec![file.display().to_string()];
        let refused = programs
            .run(Purpose::Act, words, Vec::new(), 1_000)
            .await
            .unwrap_err();
        assert!(
            refused.starts_with("refused: ") && refused.contains("chmod go-w"),
            "{refused}"
        );
        std::fs::remove_file(&file).unwrap();
        let none = programs
            .run(Purpose::Look, vec!["/nowhere/x".into()], Vec::new(), 1_000)
            .await;
        assert!(none.unwrap_err().contains("/nowhere/x"));
    });
}

/// Goal: when the node is gone, so are the runner and all that it ran.
#[test]
fn the_runner_ends_with_its_node_and_ends_what_it_ran() {
    let (runner, programs) = with_runner(None, async |programs, pid| {
        let hanging = programs.clone();
        tokio::task::spawn_local(async move { sh(&hanging, "sleep 1000", 900_000).await });
        until("it runs", || !children(pid).is_empty()).await;
        (pid, children(pid))
    });
    let gone = |pid: &u32| {
        let stat = read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    let end = Instant::now() + Duration::from_secs(10);
    while !(gone(&runner) && programs.iter().all(gone)) {
        assert!(Instant::now() < end, "the runner goes on");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
