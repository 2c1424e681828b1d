//! The guides of `docs/guides`, tried: Debian's package on three hosts, with the guide's own policy and
//! files; a server ends and its addresses go to others, it starts and they come home.
//!
//! Only with RAIS_LONG, and only where the packages are: they are large, and what they teach is rather about
//! them than about rais. `guides/NAME.sh` starts each of them.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chaos::lab::array::{Array, home_addresses};
use chaos::lab::{Endpoint, Lab, Process, Report, Scope, Service, Targets, now, wait_until};

use crate::watched::{Folder, apply};
use crate::{HOME, await_served, is_long, lab, turn};

/// A replica copies its primary first, a news server reads its files.
const START: Duration = Duration::from_secs(60);

/// Longer than `MAX_LAG` of the guide's `check-replica`, and two runs of it.
const QUIET: Duration = Duration::from_secs(8);

/// What is tried.
struct Guide {
    name: &'static str,
    policy: &'static str,
    /// What must be installed.
    program: &'static str,
    /// Where clients connect to.
    port: u16,
    /// A test's interval and time-out.
    notice: [Duration; 2],
}

const HAPROXY: Guide = Guide {
    name: "haproxy",
    policy: "edge.toml",
    program: "/usr/sbin/haproxy",
    port: 80,
    notice: [Duration::from_millis(500), Duration::from_millis(300)],
};
const POSTGRESQL: Guide = Guide {
    name: "postgresql",
    policy: "replica.toml",
    program: "/usr/bin/psql",
    port: 5_432,
    notice: [Duration::from_secs(1), Duration::from_millis(900)],
};
const NEWS: Guide = Guide {
    name: "news",
    policy: "news.toml",
    program: "/usr/lib/news/bin/innd",
    port: 119,
    notice: [Duration::from_secs(1), Duration::from_millis(900)],
};

/// A guide under trial: an array, and the service on each of its hosts.
struct Trial<'lab> {
    lab: &'lab Lab,
    guide: &'static Guide,
    array: Array<'lab>,
    // Before the folder that they live in.
    servers: Vec<Option<Process>>,
    folder: Folder,
}

fn guide_dir(guide: &Guide) -> PathBuf {
    let guides = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guides");
    guides.join(guide.name).canonicalize().unwrap()
}

impl Guide {
    /// A lab for it; none, and said so, without its package or RAIS_LONG.
    fn lab(&self) -> Option<Lab> {
        if !is_long() || !Path::new(self.program).exists() {
            eprintln!(
                "the guide of {} is tried with RAIS_LONG and {}",
                self.name, self.program
            );
            return None;
        }
        lab(3, self.name)
    }
}

impl<'lab> Trial<'lab> {
    /// The service on each host; the policy waits for [`Trial::test`].
    fn start(lab: &'lab Lab, guide: &'static Guide) -> Self {
        let (array, folder) = (Array::up(lab, 3).unwrap(), Folder::new());
        let servers = vec![None, None, None];
        let mut trial = Self {
            lab,
            guide,
            array,
            folder,
            servers,
        };
        (1..=3).for_each(|host| trial.serve(host));
        trial
    }

    /// Starts the service of host `number` (again), and waits until it takes connections.
    fn serve(&mut self, number: u8) {
        let space = self.lab.host(number).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/array/guides");
        let mut command = space.command("sh");
        command.arg(script.join(format!("{}.sh", self.guide.name)));
        command
            .args([&format!("h{number}"), &self.folder.path("")])
            .arg(guide_dir(self.guide));
        self.servers[usize::from(number) - 1] =
            Some(space.spawn(self.guide.name, &mut command).unwrap());
        let port = format!("sport = :{}", self.guide.port);
        let listens = |_: &Array<'_>| {
            let said = space.command("ss").args(["-Hltn", &port]).output().unwrap();
            !said.stdout.is_empty()
        };
        self.array
            .until(START, "the service listens", listens)
            .unwrap();
    }

    /// Ends the service of host `number` as a service manager does.
    fn end(&mut self, number: u8) {
        let server = self.servers[usize::from(number) - 1].take().unwrap();
        server.terminate().unwrap();
        if !server.wait_exit(Duration::from_secs(1)) {
            server.kill(Scope::Family).unwrap();
        }
    }

    /// Applies the guide's tests and loads; a program of the guide is put into the lab's place, with the
    /// lab's paths instead of a host's.
    fn test(&self, program: Option<(&str, &str, &str)>) {
        let text = std::fs::read_to_string(guide_dir(self.guide).join(self.guide.policy)).unwrap();
        let mut objects = text[text.find("[[test]]").unwrap()..].to_owned();
        if let Some((name, path, here)) = program {
            let body = std::fs::read_to_string(guide_dir(self.guide).join(name)).unwrap();
            assert!(body.contains(path), "{name} does not have {path}");
            let here = here.replace("DIR", &self.folder.path(""));
            let program = self.folder.program(name, &body.replace(path, &here));
            objects = objects.replace(&format!("/usr/local/bin/{name}"), &program);
        }
        apply(&self.array, &self.folder, &objects);
    }

    /// Ends the service of host `number`; its addresses go to others within the bound, and come home when
    /// it is back. Says what it cost.
    fn fails_over(&mut self, number: u8) {
        let port = self.guide.port;
        let mut targets = Targets::new(&self.array.addresses());
        let own = home_addresses(number);
        targets.endpoints = own
            .iter()
            .map(|ip| Endpoint::Tcp((*ip, port).into()))
            .collect();
        let observer = self.lab.observe(&targets).unwrap();
        self.served(&observer, number, &[number]);
        let stopped = now();
        self.end(number);
        let others: Vec<u8> = (1..=3).filter(|host| *host != number).collect();
        self.served(&observer, number, &others);
        let took = now().since(stopped);
        self.serve(number);
        self.served(&observer, number, &[number]);
        let report = observer.stop().unwrap();
        let lost: Vec<String> = own.iter().map(|ip| lost(&report, *ip, port)).collect();
        println!(
            "{}: moved {took:?} after the service ended; {}",
            self.guide.name,
            lost.join("; ")
        );
        assert_eq!(report.dual_probes(), 0, "{}", report.json());
        // Two failures in a row, the first up to an interval late; the last may hang; and a move.
        let [interval, timeout] = self.guide.notice;
        assert!(took < 3 * interval + timeout + HOME / 10, "{took:?}");
    }

    /// Waits until each address of host `number` is answered by one of `hosts`.
    fn served(&self, observer: &chaos::lab::Observer, number: u8, hosts: &[u8]) {
        await_served(&self.array, observer, number, hosts, START);
    }

    /// What host `number` says when it is asked for its tests.
    fn tests(&self, number: u8) -> String {
        self.array.rais(number, &["tests"]).unwrap()
    }
}

fn lost(report: &Report, address: IpAddr, port: u16) -> String {
    let seen = report.endpoint((address, port).into()).unwrap();
    format!(
        "{address}: {} of {} connections lost",
        seen.probes - seen.answered,
        seen.probes
    )
}

/// Goal: the guide of HAProxy holds: a host without it gives its addresses away, and so does one that
/// reaches no application server. Method: Debian's package; it ends on h2; h3 is cut off from all servers.
#[test]
fn haproxy_behind_service_addresses() {
    let _turn = turn();
    let Some(lab) = HAPROXY.lab() else { return };
    let apps: Vec<Service> = lab
        .hosts()
        .iter()
        .map(|host| host.serve(8_080).unwrap())
        .collect();
    let mut trial = Trial::start(&lab, &HAPROXY);
    trial.test(None);
    trial.fails_over(2);
    let observer = lab
        .observe(&Targets::new(&trial.array.addresses()))
        .unwrap();
    let cut = "table inet cut {\nchain out {\ntype filter hook output priority 0\ntcp dport 8080 drop\n}\n}";
    lab.host(3).unwrap().nft(cut).unwrap();
    trial.served(&observer, 3, &[1, 2]);
    let said = trial.tests(3);
    assert!(said.contains("503"), "{said}");
    lab.host(3).unwrap().nft("delete table inet cut").unwrap();
    trial.served(&observer, 3, &[3]);
    drop(apps);
}

/// Goal: the guide of PostgreSQL holds: only replicas serve, whoever is the primary.
/// Method: Debian's package; h1 is the primary; a replica ends; then h2 is promoted.
#[test]
fn postgresql_replicas_behind_service_addresses() {
    let _turn = turn();
    let Some(lab) = POSTGRESQL.lab() else { return };
    let mut trial = Trial::start(&lab, &POSTGRESQL);
    trial.test(Some((
        "check-replica",
        "/var/run/postgresql",
        "DIR$RAIS_HOST",
    )));
    let observer = lab
        .observe(&Targets::new(&trial.array.addresses()))
        .unwrap();
    trial.served(&observer, 1, &[2, 3]);
    let said = trial.tests(1);
    assert!(said.contains("not a replica"), "{said}");
    trial.fails_over(3);
    let [address, _] = home_addresses(1);
    let ask = |statement: &str, host: &str| {
        let words = ["--host", host, "--username", "postgres", "-Atc", statement];
        let said = lab.client().command("psql").args(words).output().unwrap();
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    };
    assert_eq!(ask("SELECT pg_is_in_recovery()", &address.to_string()), "t");
    // A primary that is quiet for longer than MAX_LAG is no lag.
    ask("CREATE TABLE quiet (n int)", "10.77.0.1");
    wait_until(now().after(QUIET));
    trial.served(&observer, 2, &[2]);
    trial.served(&observer, 3, &[3]);
    assert_eq!(ask("SELECT pg_promote()", "10.77.0.2"), "t");
    trial.served(&observer, 2, &[3]);
    trial.served(&observer, 1, &[3]);
}

/// Goal: the guide of a news server holds: a host whose innd ended or is throttled serves no readers.
/// Method: Debian's inn2; it ends on h2; it is throttled on h3, as by a full disk.
#[test]
fn inn_behind_service_addresses() {
    let _turn = turn();
    let Some(lab) = NEWS.lab() else { return };
    let mut trial = Trial::start(&lab, &NEWS);
    for host in 1..=3 {
        trial
            .array
            .configure(host, "[programs]\nuser = \"news\"\n")
            .unwrap();
        trial
            .array
            .until(HOME, "all is home", Array::is_home)
            .unwrap();
    }
    let ctlinnd = "/usr/lib/news/bin/ctlinnd";
    let here = format!("env INNCONF=DIR$RAIS_HOST/inn.conf {ctlinnd}");
    trial.test(Some(("check-news", ctlinnd, &here)));
    trial.fails_over(2);
    let observer = lab
        .observe(&Targets::new(&trial.array.addresses()))
        .unwrap();
    let order = |words: &[&str]| {
        let mut command = std::process::Command::new(ctlinnd);
        command
            .env("INNCONF", trial.folder.path("h3/inn.conf"))
            .args(words);
        assert!(command.status().unwrap().success());
    };
    order(&["throttle", "no space"]);
    trial.served(&observer, 3, &[1, 2]);
    let said = trial.tests(3);
    assert!(said.contains("Server throttled"), "{said}");
    order(&["go", "no space"]);
    trial.served(&observer, 3, &[3]);
}
