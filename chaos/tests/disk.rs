//! Disks of the lab that freeze. Root, loop devices and ext4 only; says so and passes otherwise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use chaos::lab::{Fault, Lab, LabSpec, Scope, now, wait_until};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);

fn lab(hosts: u8, name: &str) -> Option<Lab> {
    if let Err(error) = chaos::lab::disks_available() {
        // Past the capture of the test harness: a test that tests nothing says so.
        let _ = writeln!(
            std::io::stderr(),
            "\n!!! SKIPPED chaos/tests/disk.rs: {error}\n"
        );
        return None;
    }
    let name = name.to_owned();
    Some(Lab::up(&LabSpec { hosts, name }).unwrap())
}

fn mounts_below(path: &Path) -> usize {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let below = |line: &&str| line.contains(&path.display().to_string());
    mounts.lines().filter(below).count()
}

fn loops_of(path: &Path) -> usize {
    let output = Command::new("losetup").arg("-a").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    text.lines().filter(|line| line.contains(name)).count()
}

fn until(what: &str, came: impl Fn() -> bool) {
    let end = now().after(SOON);
    while !came() {
        assert!(now() < end, "it never came: {what}");
        wait_until(now().after(Duration::from_millis(5)));
    }
}

/// A program in the lab that writes a file of its disk without pause.
fn writer(lab: &Lab, disk: &Path) -> (chaos::lab::Process, PathBuf) {
    let host = lab.host(1).unwrap();
    let file = disk.join("written");
    let file_name = file.display();
    let script = format!("i=0; while :; do i=$((i+1)); echo $i > {file_name}; done");
    let writer = host.spawn("writer", host.command("sh").args(["-c", &script]));
    let writer = writer.unwrap();
    until("it writes", || file.exists());
    (writer, file)
}

fn is_waiting(pid: u32) -> bool {
    // For its own `echo` the shell itself opens the file.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('D'))
}

/// Goal: a frozen disk makes writers wait and readers not, its undo lets them go on, and nothing
/// of it stays.
/// Method: a writer without pause; its state in /proc; mounts and loop devices before and after.
#[test]
fn frozen_disk_makes_writers_wait_until_it_thaws() {
    let Some(lab) = lab(2, "freeze") else { return };
    let (logs, fault) = (lab.logs().to_owned(), Fault::Freeze { host: 1 });
    assert!(
        lab.inject(&fault).is_err(),
        "froze a disk that is not there"
    );
    let disk = lab.disk(1).unwrap();
    assert_eq!(lab.disk(1).unwrap(), disk);
    let (process, file) = writer(&lab, &disk);
    let frozen = lab.inject(&fault).unwrap();
    until("it waits", || is_waiting(process.pid()));
    let before = std::fs::read(&file).unwrap();
    wait_until(now().after(Duration::from_millis(200)));
    assert!(is_waiting(process.pid()));
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert!(lab.inject(&fault).is_err(), "froze a frozen disk");
    frozen.undo().unwrap();
    until("it goes on", || std::fs::read(&file).unwrap() != before);

    // A handle that goes thaws, or nobody could be killed any more.
    drop(lab.inject(&fault).unwrap());
    process.kill(Scope::Family).unwrap();
    drop((process, lab));
    assert_eq!((mounts_below(&logs), loops_of(&logs)), (0, 0));
    assert!(!logs.exists());
}

/// Goal: a panic in a freeze, and a run that was killed in one, leave no frozen disk behind.
/// Method: a panic with the handle alive; a lab whose maker is not, made by hand, swept.
#[test]
fn frozen_disks_of_panics_and_dead_runs_are_thawed_and_taken_away() {
    let Some(one) = lab(1, "thaw") else { return };
    let logs = one.logs().to_owned();
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let disk = one.disk(1).unwrap();
        let (_process, _) = writer(&one, &disk);
        let _frozen = one.inject(&Fault::Freeze { host: 1 }).unwrap();
        panic!("on purpose");
    }));
    assert!(ended.is_err());
    assert_eq!((mounts_below(&logs), loops_of(&logs)), (0, 0));
    std::fs::remove_dir_all(logs).unwrap();

    // Above any process id that the kernel gives.
    let dead = format!("raislab-{}-1-0-thaw", u32::MAX - std::process::id());
    let dead = std::env::temp_dir().join(dead);
    let (disk, image) = (dead.join("disks/h1"), dead.join("h1.img"));
    std::fs::create_dir_all(&disk).unwrap();
    std::fs::File::create(&image)
        .unwrap()
        .set_len(64 << 20)
        .unwrap();
    let run = |program: &str, arguments: &[&Path]| {
        let status = Command::new(program).args(arguments).status().unwrap();
        assert!(status.success(), "{program} {arguments:?}");
    };
    let word = Path::new;
    run("mkfs.ext4", &[word("-q"), word("-F"), &image]);
    run("mount", &[word("-o"), word("loop"), &image, &disk]);
    run("fsfreeze", &[word("-f"), &disk]);
    Lab::sweep().unwrap();
    assert_eq!((mounts_below(&dead), loops_of(&dead)), (0, 0));
    std::fs::remove_dir_all(dead).unwrap();
}
