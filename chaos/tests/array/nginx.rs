//! nginx, Debian's, on every host behind service addresses, under `wrk`: what a stopped server and too much
//! load cost the clients. Files of the guide are used as they are (`docs/guides/nginx`).
//!
//! Requests lost are counted in two ways: a client that opens a connection to each address every 10 ms,
//! whatever came of the last one, and what `wrk` says of its own.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use chaos::lab::array::{Array, home_addresses};
use chaos::lab::{At, Lab, Process, Targets, now};
use rustix::process::{Pid, Signal, kill_process};

use crate::watched::{Folder, apply};
use crate::{GAP, HOME, await_served, lab, turn};

/// As the guide's policy has it.
const INTERVAL: Duration = Duration::from_millis(500);
/// The zone is judged so often, by default.
const SAMPLE: Duration = Duration::from_secs(1);
/// What a bound leaves for the move itself and for asking from outside; four times as much where more
/// programs want to run than there are cores: tests of services give way to all others.
const SLACK: Duration = Duration::from_millis(300);
/// Connections of one `wrk`, and how many are too many.
const CONNECTIONS: &str = "40";
const CAPACITY: &str = "capacity = 40 ";
/// A pause before each request: the machine has other things to do.
const PACE: &str = "function delay() return 20 end\n";
const PORT: u16 = 80;

/// The guide's file `name`.
fn guide(name: &str) -> String {
    let guides = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guides/nginx");
    std::fs::read_to_string(guides.join(name)).unwrap()
}

/// What the guide's policy looks at, for the lab's group.
fn objects() -> String {
    let policy = guide("web.toml");
    let at = policy.find("[[test]]").unwrap();
    policy[at..].replace("capacity = 1000 ", CAPACITY)
}

/// nginx on host `number`, with the guide's configuration.
fn nginx(lab: &Lab, folder: &Folder, number: u8) -> Process {
    let space = lab.host(number).unwrap();
    // A file of its own: another one may be reading its.
    let file = folder.file(
        &format!("h{number}.conf"),
        &guide("nginx.conf").replace("http {", "http {\n    access_log off;"),
    );
    let pid = folder.path(&format!("h{number}.pid"));
    // A host name of its own; the rest of the machine is shared.
    let run =
        format!("hostname h{number} && exec nginx -c {file} -e stderr -g 'daemon off; pid {pid};'");
    let mut command = space.command("unshare");
    command.args(["--uts", "sh", "-c", &run]);
    space.spawn("nginx", &mut command).unwrap()
}

/// `wrk` on the client, against host `number`'s v4 address.
fn wrk(lab: &Lab, folder: &Folder, number: u8) -> Process {
    let [address, _] = home_addresses(number);
    let (script, url) = (
        folder.file("pace.lua", PACE),
        format!("http://{address}:{PORT}/"),
    );
    let mut command = lab.client().command("wrk");
    command.args([
        "-t1",
        "-c",
        CONNECTIONS,
        "-d",
        "60",
        "--timeout",
        "1",
        "-s",
        &script,
        &url,
    ]);
    lab.client()
        .spawn(&format!("wrk{number}"), &mut command)
        .unwrap()
}

/// Waits until host `number` has the connections of one `wrk`.
fn await_load(array: &Array<'_>, lab: &Lab, number: u8) {
    let wanted: usize = CONNECTIONS.parse().unwrap();
    let came = |_: &Array<'_>| {
        let mut ss = lab.host(number).unwrap().command("ss");
        let ss = ss.args(["-Htn", "state", "established", "sport = :80"]);
        let said = String::from_utf8(ss.output().unwrap().stdout).unwrap();
        said.lines().count() >= wanted
    };
    array.until(HOME, "wrk is connected", came).unwrap();
}

/// Ends `wrk` as Ctrl-C does, and gives what it says.
fn ended(wrk: &Process) -> String {
    let pid = Pid::from_raw(wrk.pid().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert!(wrk.wait_exit(HOME), "wrk does not end");
    let said = std::fs::read_to_string(wrk.log()).unwrap();
    let lines = said.lines().map(str::trim);
    let telling = lines.filter(|line| {
        line.contains("requests in") || line.contains("errors") || line.contains("Non-2xx")
    });
    telling.collect::<Vec<_>>().join("; ")
}

/// Whether the lab has what these tests need.
fn nginx_lab(name: &str) -> Option<Lab> {
    let lab = lab(3, name)?;
    for program in ["nginx", "wrk"] {
        let found = std::process::Command::new(program).arg("-v").output();
        assert!(found.is_ok(), "{program} is missing: tests/run installs it");
    }
    Some(lab)
}

fn up(lab: &Lab) -> (Array<'_>, Folder, Vec<Option<Process>>) {
    let (array, folder) = (Array::up(lab, 3).unwrap(), Folder::new());
    let servers = (1..=3)
        .map(|number| Some(nginx(lab, &folder, number)))
        .collect();
    apply(&array, &folder, &objects());
    let passes = |array: &Array<'_>| {
        let tests = array.rais(1, &["tests"]).unwrap_or_default();
        tests.contains("passed")
    };
    array.until(HOME, "nginx is tested", passes).unwrap();
    (array, folder, servers)
}

/// Goal: a stopped nginx costs its host the addresses within two intervals and 300 ms, and clients no more
/// requests than that; with nginx back they come home. Method: three hosts under load, v4 and v6; one
/// server ended, its daemon alive; each request that is not answered is counted.
#[test]
fn a_stopped_nginx_loses_its_addresses_within_two_intervals() {
    let _turn = turn();
    let Some(lab) = nginx_lab("nginx") else {
        return;
    };
    let slack = slack();
    let (array, folder, mut servers) = up(&lab);
    let targets = Targets::new(&array.addresses()).with_http(PORT);
    let observer = lab.observe(&targets).unwrap();
    array.wait_home(&observer, HOME).unwrap();
    let load: Vec<Process> = (1..=3).map(|number| wrk(&lab, &folder, number)).collect();
    (1..=3).for_each(|number| await_load(&array, &lab, number));
    let stopped = now();
    servers[0].take().unwrap().terminate().unwrap();
    await_served(&array, &observer, 1, &[2, 3], GAP);
    let took = now().since(stopped);
    assert!(array.daemon(1).is_ok());
    servers[0] = Some(nginx(&lab, &folder, 1));
    let back = now();
    array.wait_home(&observer, HOME).unwrap();
    let home = now().since(back);
    let said: Vec<String> = load.iter().map(ended).collect();
    let report = observer.stop().unwrap();
    println!("moved {took:?} after nginx ended; home {home:?} after its return");
    for (number, said) in (1..).zip(said) {
        for address in home_addresses(number) {
            println!("h{number} {}", lost(&report, address, stopped));
        }
        println!("h{number} wrk: {said}");
    }
    assert_eq!(report.dual_probes(), 0, "{}", report.json());
    let bound = 2 * INTERVAL + INTERVAL / 5 + slack;
    assert!(took < bound, "{took:?} and not {bound:?}");
    for number in 2..=3 {
        for address in home_addresses(number) {
            let gaps = &report.endpoint((address, PORT).into()).unwrap().gaps;
            assert!(
                gaps.iter().all(|gap| gap.length() < slack),
                "{address}: {gaps:?}"
            );
        }
    }
}

/// [`SLACK`], as this machine is now.
fn slack() -> Duration {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let load: f64 = load.split(' ').next().unwrap().parse().unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    match load > cores as f64 {
        true => 4 * SLACK,
        false => SLACK,
    }
}

/// The requests to `address` that nobody answered, in words.
fn lost(report: &chaos::lab::Report, address: IpAddr, since: At) -> String {
    let seen = report.endpoint((address, PORT).into()).unwrap();
    let gaps = seen.gaps.iter().filter(|gap| gap.to > since && !gap.open);
    let gaps: Vec<_> = gaps
        .map(|gap| format!("{} in {:?}", gap.lost, gap.length()))
        .collect();
    format!(
        "{address}: {} requests, {} lost {gaps:?}",
        seen.probes,
        seen.probes - seen.answered
    )
}

/// Goal: a host with more load than its high-water mark leaves the zone within two samples, goes on serving,
/// and comes back within two samples once it is below the low one.
/// Method: `wrk` holds as many connections to one host as its capacity; then it ends.
#[test]
fn a_host_under_load_leaves_the_zone_and_comes_back() {
    let _turn = turn();
    let Some(lab) = nginx_lab("loaded") else {
        return;
    };
    let slack = slack();
    let (array, folder, _servers) = up(&lab);
    let targets = Targets::new(&array.addresses()).with_http(PORT);
    let observer = lab.observe(&targets).unwrap();
    array.wait_home(&observer, HOME).unwrap();
    let published = |array: &Array<'_>, count: usize| {
        let status = array.status(2).unwrap_or_default();
        let zone = status["groups"][0]["published"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let [v4, _] = home_addresses(1);
        (zone.len() == count).then(|| zone.iter().any(|one| *one == v4.to_string()))
    };
    let all = |array: &Array<'_>| published(array, 6) == Some(true);
    array.until(HOME, "the zone names all", all).unwrap();
    let (begun, load) = (now(), wrk(&lab, &folder, 1));
    let without = |array: &Array<'_>| published(array, 4) == Some(false);
    array.until(HOME, "h1 is out of the zone", without).unwrap();
    let out = now().since(begun);
    let why = array.rais(2, &["zone", "web"]).unwrap();
    assert!(why.contains("shed"), "{why}");
    let (ended_at, said) = (now(), ended(&load));
    array.until(HOME, "h1 is in the zone again", all).unwrap();
    let back = now().since(ended_at);
    let report = observer.stop().unwrap();
    println!(
        "out of the zone {out:?} after the load began, back {back:?} after it ended; wrk: {said}"
    );
    let bound = 2 * SAMPLE + slack;
    assert!(
        out < bound && back < bound,
        "out {out:?}, back {back:?}, bound {bound:?}"
    );
    for address in home_addresses(1) {
        let tenures = &report.address(address).unwrap().tenures;
        assert!(
            tenures.iter().all(|one| one.host == "h1"),
            "{address} moved: {tenures:?}"
        );
    }
}
