//! Programs of the operator's beside real addresses: scripts around a move, and programs that hang.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chaos::lab::array::{Array, home_addresses};
use chaos::lab::{Targets, now, wait_until};

use crate::{GAP, HOME, await_served, lab, turn};

/// How long hanging programs are looked at.
const HANGING: Duration = Duration::from_secs(6);
/// Port of the service under test, and how often it is tested.
const PORT: u16 = 81;
const INTERVAL: Duration = Duration::from_millis(400);
/// Load objects of a group, at most.
const LOADS: u32 = 64;
/// The release script of the test takes so long.
const DRAINS: Duration = Duration::from_millis(1_500);
/// A move with scripts: the acquire, and an acquire script that only writes a line; a debug build.
const MOVED: Duration = Duration::from_millis(500);

/// A folder that root alone can write, and in it a log that anybody can.
pub struct Folder(PathBuf);

impl Folder {
    /// A new one, which goes when it is dropped.
    pub fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("rais-lab-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("log")).unwrap();
        mode(&dir, 0o755);
        mode(&dir.join("log"), 0o777);
        Self(dir)
    }

    /// Where a file of this name is.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// Writes a file, and gives where it is.
    pub fn file(&self, name: &str, text: &str) -> String {
        std::fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }

    /// Writes a program that `sh` runs, and gives where it is.
    pub fn program(&self, name: &str, body: &str) -> String {
        let path = self.file(name, &format!("#!/bin/sh\n{body}\n"));
        mode(Path::new(&path), 0o755);
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _rest = std::fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Adds `text` to the policy of the lab's group.
pub fn apply(array: &Array<'_>, folder: &Folder, text: &str) {
    let policy = array.rais(1, &["group", "show", "web"]).unwrap();
    let file = folder.0.join("web.toml");
    std::fs::write(&file, format!("{policy}\n{text}")).unwrap();
    let file = file.display().to_string();
    array.rais(1, &["group", "apply", &file]).unwrap();
}

/// Goal: while a release script drains, the old host goes on to serve under its lease; then the address
/// moves as fast as ever, and never two answer. Method: a move of a real address, watched by a client.
#[test]
fn a_release_script_drains_while_the_address_is_served() {
    let _turn = turn();
    let Some(lab) = lab(3, "scripts") else { return };
    let (array, folder) = (Array::up(&lab, 3).unwrap(), Folder::new());
    let settle = lab.observe(&Targets::new(&array.addresses())).unwrap();
    array.wait_home(&settle, HOME).unwrap();
    drop(settle);
    let note = "echo $RAIS_HOST $RAIS_ADDRESS $(basename $0) >> $(dirname $0)/log/acts";
    let acquire = folder.program("acquire", note);
    let release = folder.program(
        "release",
        &format!("{note}\nsleep {}", DRAINS.as_secs_f32()),
    );
    apply(
        &array,
        &folder,
        &format!("[scripts]\nacquire = \"{acquire}\"\nrelease = \"{release}\"\n"),
    );
    let address = home_addresses(1)[0];
    let observer = lab.observe(&Targets::new(&array.addresses())).unwrap();
    let asked = now();
    array
        .rais(1, &["move", &address.to_string(), "--to", "h2"])
        .unwrap();
    assert!(
        observer.wait(address, &[2], GAP + DRAINS),
        "h2 does not take {address}"
    );
    let taken = now();
    let report = observer.stop().unwrap();
    assert_eq!(report.dual_probes(), 0, "{}", report.json());
    let took = taken.since(asked);
    assert!(took >= DRAINS, "h1 did not wait for its script: {took:?}");
    let gaps = &report.address(address).unwrap().gaps;
    let longest = gaps
        .iter()
        .map(chaos::lab::Gap::length)
        .max()
        .unwrap_or_default();
    println!("moved after {took:?}, longest gap {longest:?}");
    assert!(longest < MOVED, "{gaps:?}");
    let acts = std::fs::read_to_string(folder.0.join("log/acts")).unwrap();
    assert_eq!(
        acts,
        format!("h1 {address} release\nh2 {address} acquire\n")
    );
}

/// Goal: programs that hang, ended and started again all the time, cost no lease and no probe.
/// Method: three hosts on this machine, each with as many hanging load objects as a group may have.
#[test]
fn hanging_programs_cost_no_lease() {
    let _turn = turn();
    let Some(lab) = lab(3, "hanging") else { return };
    let (array, folder) = (Array::up(&lab, 3).unwrap(), Folder::new());
    let settle = lab.observe(&Targets::new(&array.addresses())).unwrap();
    array.wait_home(&settle, HOME).unwrap();
    drop(settle);
    let load = |n: u32| {
        format!(
            "[[load]]\nname = \"l{n}\"\nexec = {{ command = [\"/bin/sleep\", \"{}\"] }}\n\
             interval = \"1s\"\ntimeout = \"900ms\"\n",
            1_000 + n
        )
    };
    let loads: String = (0..LOADS).map(load).collect();
    apply(&array, &folder, &loads);
    let observer = lab.observe(&Targets::new(&array.addresses())).unwrap();
    wait_until(now().after(HANGING));
    let report = observer.stop().unwrap();
    for one in &report.addresses {
        let gaps = &one.seen.gaps;
        assert!(
            gaps.iter().all(|gap| gap.open && gap.lost <= 1),
            "{} {gaps:?}",
            one.address
        );
    }
    let tests = array.rais(1, &["tests", "--json"]).unwrap();
    let tests: serde_json::Value = serde_json::from_str(&tests).unwrap();
    let lines = tests["tests"].as_array().unwrap();
    let hang = |line: &&serde_json::Value| {
        let found = line["found"].as_str().unwrap_or_default();
        found.contains("no answer within") || found.contains("did not end in time")
    };
    assert_eq!(lines.iter().filter(hang).count(), lines.len(), "{tests}");
}

/// Goal: a service that stops on a host whose daemon lives loses its addresses within two intervals and
/// 300 ms, stays away while it is dead, and comes home when it is back.
/// Method: an HTTP service on every host, stopped on one; v4 and v6 watched by a client.
#[test]
fn a_stopped_service_loses_its_addresses_within_two_intervals() {
    let _turn = turn();
    let Some(lab) = lab(3, "stopped") else { return };
    let (array, folder) = (Array::up(&lab, 3).unwrap(), Folder::new());
    let serve = |host: u8| lab.host(host).unwrap().serve(PORT).unwrap();
    let mut services: Vec<_> = (1..=3).map(serve).map(Some).collect();
    let observer = lab.observe(&Targets::new(&array.addresses())).unwrap();
    array.wait_home(&observer, HOME).unwrap();
    let interval = INTERVAL.as_millis();
    apply(
        &array,
        &folder,
        &format!(
            "[[test]]\nname = \"http\"\nhttp = {{ url = \"http://{{address}}:{PORT}/\", expect_status = 200 }}\n\
             interval = \"{interval}ms\"\ntimeout = \"150ms\"\nrise = 2\nfall = 2\n"
        ),
    );
    // The tests have begun when each has passed.
    let looked = |array: &Array<'_>| {
        let tests = array.rais(1, &["tests"]).unwrap_or_default();
        tests.contains("passed")
    };
    array.until(HOME, "the service is tested", looked).unwrap();
    let stopped = now();
    drop(services[0].take());
    await_served(&array, &observer, 1, &[2, 3], GAP);
    let took = now().since(stopped);
    println!("moved {took:?} after its service was told to stop");
    let bound = 2 * INTERVAL + INTERVAL / 5 + Duration::from_millis(300);
    assert!(took < bound, "{took:?}");
    // The daemon lives: it votes, and says why it serves nothing.
    let status = array.status(2).unwrap();
    let members = status["groups"][0]["members"].as_array().unwrap();
    let failing = members
        .iter()
        .find(|member| member["host"] == "h1")
        .unwrap();
    let why = failing["failing"].as_str().unwrap_or_default();
    assert!(why.contains("test http: cannot connect"), "{failing}");
    services[0] = Some(serve(1));
    array.wait_home(&observer, HOME).unwrap();
    let report = observer.stop().unwrap();
    assert_eq!(report.dual_probes(), 0, "{}", report.json());
}
