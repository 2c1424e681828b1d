//! A disk that fails under one host of three, and a store that was damaged: that host ends with the
//! remedy, the others serve its address and go on. Root and /dev/fuse only; says so and passes
//! otherwise.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use chaos::volatile::{Trouble, Volatile};

use crate::array::{Array, service, until};
use crate::ask;

/// A change of a file behind its owner's back.
type Damage<'d> = &'d dyn Fn(&mut Vec<u8>);

/// The host with the bad disk.
const VICTIM: u8 = 3;
/// Until the daemon has ended, and until another serves its address; a debug build on a loaded machine.
const SOON_S: u64 = 20;

fn disk() -> Option<Volatile> {
    match Volatile::mount() {
        Ok(disk) => Some(disk),
        Err(error) => {
            // Past the capture of the test harness: a test that tests nothing says so.
            let _ = writeln!(std::io::stderr(), "\n!!! SKIPPED e2e/disk.rs: {error}\n");
            None
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A whole array whose `VICTIM` keeps its store on `disk`; its log stays where it can be read.
fn array_on(disk: &Volatile) -> Array {
    let mut array = Array::start(3);
    array.end();
    let (store, place) = (array.data(VICTIM).join("raft"), disk.path().join("raft"));
    copy(&store, &place);
    fs::remove_dir_all(&store).unwrap();
    std::os::unix::fs::symlink(&place, &store).unwrap();
    array.resume();
    array.whole();
    array
}

/// What the victim's daemon has said since it had said `before` bytes.
fn said_since(array: &Array, before: usize) -> String {
    let log = fs::read(array.data(VICTIM).join("rais.log")).unwrap_or_default();
    String::from_utf8_lossy(&log[before.min(log.len())..]).into_owned()
}

/// The others serve the victim's address and their own, and agree on changes; none has ended.
fn others_go_on(array: &Array, what: &str) {
    let victim = format!("h{VICTIM}");
    until(&format!("{what}: the others serve all"), SOON_S, || {
        let served = |host| ask::http(service(host), array.http_port());
        let moved = served(VICTIM)?.host != victim;
        let at_home = |host: u8| served(host).is_some_and(|by| by.host == format!("h{host}"));
        (moved && at_home(1) && at_home(2)).then_some(())
    });
    array.rais(1, &["quiesce", "h2"]).good();
    array.rais(2, &["resume", "h2"]).good();
}

/// Asks the demo for the victim's start, which may not come about.
fn try_restart(array: &Array) {
    let dir = array.dir.display().to_string();
    let name = format!("h{VICTIM}");
    let _said = array.bare(&["demo", "--restart", &name, "--dir", &dir]);
}

/// Goal: a disk that is full, fails, or turned read-only ends its host cleanly and with the remedy, leader or
/// not; the others take over; with the disk mended it comes back by itself.
/// Method: each trouble in turn; before every other one the victim is made leader.
#[test]
fn host_with_a_failing_disk_ends_with_the_remedy_and_the_others_go_on() {
    let Some(disk) = disk() else { return };
    let mut array = array_on(&disk);
    let others = [1, 2].map(|host| array.daemon(host));
    let troubles = [
        Trouble::Full,
        Trouble::FailedWrites,
        Trouble::FailedSyncs,
        Trouble::ReadOnly,
        Trouble::TornWrites,
    ];
    for (turn, trouble) in troubles.into_iter().enumerate() {
        let what = format!("{trouble:?}");
        if turn % 2 == 0 {
            let name = format!("h{VICTIM}");
            array.rais(1, &["transfer-leader", &name]).good();
        }
        let (daemon, before) = (array.daemon(VICTIM), said_since(&array, 0).len());
        disk.trouble(Some(trouble));
        until(&format!("{what}: the daemon ends"), SOON_S, || {
            // Something to write, until it has noticed.
            let _said = array.rais(1, &["quiesce", "h2"]);
            let _said = array.rais(1, &["resume", "h2"]);
            (!Path::new(&format!("/proc/{daemon}")).exists()).then_some(())
        });
        let said = said_since(&array, before);
        for words in ["Raft has stopped", "start the daemon again"] {
            assert!(said.contains(words), "{what}: `{words}` is not in:\n{said}");
        }
        assert!(!said.contains("panicked"), "{what}:\n{said}");
        others_go_on(&array, &what);
        disk.trouble(None);
        array.restart(VICTIM);
        array.whole();
    }
    assert_eq!(
        [1, 2].map(|host| array.daemon(host)),
        others,
        "one has ended"
    );
}

/// Goal: a store with a lost end or flipped bits is refused with the remedy, and nothing of it is used.
/// Method: both, on the disk of a killed host; then its own bytes again.
#[test]
fn host_with_a_damaged_store_is_refused_with_the_remedy_and_the_others_go_on() {
    let Some(disk) = disk() else { return };
    let mut array = array_on(&disk);
    let name = Path::new("raft/sled/db");
    let file: PathBuf = disk.path().join(name);
    array.kill(VICTIM);
    others_go_on(&array, "killed");
    let whole = fs::read(&file).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(used / 2);
    let flip = |bytes: &mut Vec<u8>| bytes.iter_mut().step_by(1_000).for_each(|byte| *byte ^= 1);
    let damages: [(&str, Damage<'_>); 2] = [("cut", &cut), ("flipped", &flip)];
    for (what, damage) in damages {
        let before = said_since(&array, 0).len();
        disk.damage(name, damage).unwrap();
        try_restart(&array);
        let said = until(&format!("{what}: the store is refused"), SOON_S, || {
            let said = said_since(&array, before);
            said.contains("store is damaged").then_some(said)
        });
        assert!(
            said.contains("rais forget"),
            "{what}: no remedy in:\n{said}"
        );
        others_go_on(&array, what);
        fs::write(&file, &whole).unwrap();
    }
    array.restart(VICTIM);
    array.whole();
}
