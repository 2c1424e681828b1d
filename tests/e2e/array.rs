//! A demo array under test: the real binary on ports and in a directory of its own.
//!
//! Arrays run one after the other within this process, since a starved daemon is rightly taken for a
//! dead one. The binary is linked into the array's directory first: a build that goes on meanwhile
//! replaces `target/*/rais`, and a demo starts its daemons from its own executable.
//!
//! Nothing is signalled but the demo that we started, and daemons that are its children. A dropped
//! array ends; its directory stays when the test failed, for its logs.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chaos::lab::wall;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// One array at a time.
static TURN: Mutex<()> = Mutex::new(());
/// Arrays of this process, to give each its ports and directory.
static COUNT: AtomicU16 = AtomicU16::new(0);
/// From the DNS port to the control port, as the demo has it.
const CONTROL_ABOVE_DNS: u16 = 2_100;
/// From the DNS port to the port of the HTTP service.
const HTTP_ABOVE_DNS: u16 = 4_200;
/// DNS ports are drawn from here on: below the ephemeral ports, and far from 5300.
const FIRST_PORT: u16 = 12_000;
/// As many DNS ports are tried.
const PORTS: u16 = 2_000;
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(10);
/// A demo may take so long to end its daemons.
const END_S: u64 = 15;
/// An array may take so long to become whole, in s; a debug build on a loaded machine takes 10.
pub const WHOLE_S: u64 = 60;

/// What a command said.
#[derive(Debug)]
pub struct Said {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Its standard output, if it succeeded.
    pub fn good(self) -> String {
        assert_eq!(self.code, 0, "refused or failed: {self:?}");
        self.out
    }

    /// Its standard error, if it was refused (code 1) and says all of `words`.
    pub fn refused(self, words: &[&str]) -> String {
        assert_eq!(self.code, 1, "not refused: {self:?}");
        for word in words {
            assert!(self.err.contains(word), "`{word}` is not in: {}", self.err);
        }
        self.err
    }
}

/// Waits until `look` gives something, for at most `seconds`; `what` is said when it does not.
pub fn until<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        // A poll of another process: there is no event to await.
        std::thread::park_timeout(LOOK);
    }
}

/// The binary beside this one: `target/PROFILE/rais`.
fn built_binary() -> PathBuf {
    let me = std::env::current_exe().unwrap();
    let profile = me.parent().and_then(Path::parent).unwrap();
    let binary = profile.join("rais");
    assert!(
        binary.exists(),
        "{} is not there: build it first with `cargo build -p rais`",
        binary.display()
    );
    binary
}

/// A directory of its own within the target directory, and `rais` in it.
fn new_dir(number: u16) -> (PathBuf, PathBuf) {
    let binary = built_binary();
    let target = binary.parent().and_then(Path::parent).unwrap();
    let dir = target
        .join("tmp")
        .join(format!("e2e-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let linked = dir.join("rais");
    if std::fs::hard_link(&binary, &linked).is_err() {
        std::fs::copy(&binary, &linked).unwrap();
    }
    (dir, linked)
}

/// Whether nobody uses any of the ports that a demo with this DNS port needs for its first host.
fn is_free(dns_port: u16) -> bool {
    let own = Ipv4Addr::new(127, 77, 0, 1);
    let service = Ipv4Addr::new(127, 77, 1, 1);
    UdpSocket::bind((own, dns_port)).is_ok()
        && UdpSocket::bind((own, dns_port + CONTROL_ABOVE_DNS)).is_ok()
        && TcpListener::bind((own, dns_port + CONTROL_ABOVE_DNS)).is_ok()
        && TcpListener::bind((service, dns_port + HTTP_ABOVE_DNS)).is_ok()
}

fn draw_port(number: u16) -> u16 {
    let process = u16::try_from(std::process::id() % u32::from(PORTS)).unwrap();
    let tries = (0..PORTS)
        .map(|n| FIRST_PORT + (process.wrapping_mul(37) % PORTS + number * 11 + n) % PORTS);
    tries.into_iter().find(|port| is_free(*port)).unwrap()
}

/// A running demo.
pub struct Array {
    /// Its directory: host I's data in `hI`.
    pub dir: PathBuf,
    /// How many hosts it has.
    pub hosts: u8,
    /// Port of its name servers.
    pub dns_port: u16,
    binary: PathBuf,
    /// The library and the file of a wall clock of its own, where that is wanted.
    wall: Option<(PathBuf, PathBuf)>,
    demo: Option<Child>,
    turn: Option<MutexGuard<'static, ()>>,
}

impl Array {
    /// Starts an array of `hosts` and waits until it is whole.
    pub fn start(hosts: u8) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Self::start_now(hosts, Some(turn), false)
    }

    /// As [`Array::start`], with a wall clock for the array and its commands that [`Array::step_wall`] sets.
    pub fn start_with_wall(hosts: u8) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Self::start_now(hosts, Some(turn), true)
    }

    /// Makes the wall clock of the array wrong by so many seconds.
    pub fn step_wall(&self, by_s: i64) {
        let (_, file) = self.wall.as_ref().unwrap();
        wall::step(file, by_s).unwrap();
    }

    /// Starts a second array beside one that runs.
    pub fn start_beside(_other: &Self, hosts: u8) -> Self {
        Self::start_now(hosts, None, false)
    }

    fn start_now(hosts: u8, turn: Option<MutexGuard<'static, ()>>, has_wall: bool) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let (dir, binary) = new_dir(number);
        let wall = has_wall.then(|| (wall::build(&dir).unwrap(), dir.join("wall")));
        let mut array = Self {
            dir,
            wall,
            hosts,
            dns_port: draw_port(number),
            binary,
            demo: None,
            turn,
        };
        array.resume();
        array.whole();
        array
    }

    /// Lets the next array start while this one only waits for time to go by.
    pub fn let_others_go_on(&mut self) {
        self.turn = None;
    }

    /// Starts the demo (again) in its directory.
    pub fn resume(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("demo.out"))
            .unwrap();
        let mut demo = self.command();
        demo.args(["demo", "--hosts", &self.hosts.to_string(), "--dir"])
            .arg(&self.dir);
        demo.args(["--dns-port", &self.dns_port.to_string()]);
        demo.args(["--http-port", &self.http_port().to_string()]);
        demo.stdout(log.try_clone().unwrap()).stderr(log);
        self.demo = Some(demo.spawn().unwrap());
    }

    /// Ends the demo and with it its daemons, as Ctrl-C would.
    pub fn end(&mut self) {
        let Some(mut demo) = self.demo.take() else {
            return;
        };
        let ended = |demo: &mut Child| !matches!(demo.try_wait(), Ok(None));
        if !ended(&mut demo) {
            // Not reaped yet, so this id is still the demo's.
            let _gone = kill_process(pid(demo.id()), Signal::TERM);
        }
        let end = Instant::now() + Duration::from_secs(END_S);
        while !ended(&mut demo) && Instant::now() < end {
            std::thread::park_timeout(LOOK);
        }
        // Its daemons end with it: their standard input closes.
        let _killed = demo.kill();
        let _reaped = demo.wait();
    }

    /// Port of the HTTP service.
    pub fn http_port(&self) -> u16 {
        self.dns_port + HTTP_ABOVE_DNS
    }

    /// Host `number`'s data directory.
    pub fn data(&self, number: u8) -> PathBuf {
        self.dir.join(name(number))
    }

    /// Host `number`'s name server.
    pub fn dns(&self, number: u8) -> SocketAddr {
        (Ipv4Addr::new(127, 77, 0, number), self.dns_port).into()
    }

    /// Host `number`'s control address.
    pub fn control(&self, number: u8) -> SocketAddr {
        (
            Ipv4Addr::new(127, 77, 0, number),
            self.dns_port + CONTROL_ABOVE_DNS,
        )
            .into()
    }

    /// Runs `rais` with `args`, without a data directory.
    pub fn bare(&self, args: &[&str]) -> Said {
        Said::of(&self.command().args(args).output().unwrap())
    }

    /// `rais`, to be given arguments and started.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.stdin(Stdio::null()).env_remove("RAIS_DATA_DIR");
        if let Some((library, file)) = &self.wall {
            command.envs(wall::environment(library, file).unwrap());
        }
        command
    }

    /// Runs `rais` with `args` against host `number`'s daemon.
    pub fn rais(&self, number: u8, args: &[&str]) -> Said {
        let dir = self.data(number).display().to_string();
        self.bare(&[args, &["--data-dir", &dir]].concat())
    }

    /// What a command answers in JSON, if it does.
    pub fn try_json(&self, number: u8, args: &[&str]) -> Option<Value> {
        let said = self.rais(number, &[args, &["--json"]].concat());
        (said.code == 0).then(|| serde_json::from_str(&said.out).unwrap())
    }

    /// What a command answers in JSON.
    pub fn json(&self, number: u8, args: &[&str]) -> Value {
        let said = self.rais(number, &[args, &["--json"]].concat());
        serde_json::from_str(&said.good()).unwrap()
    }

    /// All events that host `number` knows.
    pub fn events(&self, number: u8) -> Vec<Value> {
        let said = self
            .rais(number, &["events", "--limit", "1000", "--json"])
            .good();
        said.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The leader's number, as host `asked` knows it.
    pub fn leader(&self, asked: u8) -> u8 {
        until("a leader", 20, || {
            let status = self.try_json(asked, &["status"])?;
            number(status["leader"].as_str()?)
        })
    }

    /// A host that does not lead, and the leader.
    pub fn follower_and_leader(&self) -> (u8, u8) {
        let leader = self.leader(1);
        (
            (1..=self.hosts).rev().find(|host| *host != leader).unwrap(),
            leader,
        )
    }

    /// Waits until each address is served at home and published, and as many hosts vote as should.
    pub fn whole(&mut self) {
        let dir = self.dir.display().to_string();
        let mut demo = self.demo.take().unwrap();
        until(
            &format!("the array is whole; its logs are in {dir}"),
            WHOLE_S,
            || {
                assert!(
                    matches!(demo.try_wait(), Ok(None)),
                    "the demo ended; {dir}/demo.out says why"
                );
                // The demo notes that the set-up is done a moment after it is.
                let noted = self.dir.join("whole").exists();
                let whole = noted && (1..=self.hosts).all(|host| self.is_whole(host));
                whole.then_some(())
            },
        );
        self.demo = Some(demo);
    }

    /// Whether host `asked` knows the array to be whole.
    pub fn is_whole(&self, asked: u8) -> bool {
        let Some(status) = self.try_json(asked, &["status"]) else {
            return false;
        };
        let count = usize::from(self.hosts);
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let hosts = list(&status["hosts"]);
        let groups = list(&status["groups"]);
        let Some(group) = groups.iter().find(|group| group["name"] == "web") else {
            return false;
        };
        let voters = hosts.iter().filter(|host| host["role"] == "voter").count();
        let at_home = |a: &Value| a["state"] == "online" && a["host"] == a["preferred_host"];
        hosts.iter().filter(|host| host["up"] == true).count() == count
            && voters == (count - 1) / 2 * 2 + 1
            && list(&group["published"]).len() == count
            && list(&group["addresses"])
                .iter()
                .filter(|a| at_home(a))
                .count()
                == count
    }

    /// One address as host `asked` knows it.
    pub fn address(&self, asked: u8, ip: IpAddr) -> Option<Value> {
        let status = self.try_json(asked, &["status"])?;
        let groups = status["groups"].as_array()?;
        let mut all = groups
            .iter()
            .flat_map(|group| group["addresses"].as_array().cloned().unwrap_or_default());
        all.find(|address| address["address"] == ip.to_string())
    }

    /// Kills host `number`'s daemon outright, after making sure that it is this demo's child.
    pub fn kill(&self, number: u8) {
        let daemon = self.daemon(number);
        kill_process(pid(daemon), Signal::KILL).unwrap();
    }

    /// Has host `number`'s daemon read its file again.
    pub fn hang_up(&self, number: u8) {
        kill_process(pid(self.daemon(number)), Signal::HUP).unwrap();
    }

    /// Tells host `number`'s daemon to end, and waits until it has.
    pub fn stop(&self, number: u8) {
        let daemon = self.daemon(number);
        kill_process(pid(daemon), Signal::TERM).unwrap();
        until("the daemon ends when it is told to", END_S, || {
            let stat = std::fs::read_to_string(format!("/proc/{daemon}/stat")).unwrap_or_default();
            (stat.is_empty() || stat.contains(") Z ")).then_some(())
        });
    }

    /// The process id of host `number`'s daemon.
    pub fn daemon(&self, number: u8) -> u32 {
        let text = std::fs::read_to_string(self.data(number).join("rais.pid")).unwrap();
        let id: u32 = text.trim().parse().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1))
            .unwrap()
            .to_owned();
        assert_eq!(
            parent,
            self.demo.as_ref().unwrap().id().to_string(),
            "{id} is no child of this demo"
        );
        id
    }

    /// Ends host `number`'s daemon outright, and starts it with another configuration.
    pub fn reconfigure(&self, number: u8, edit: impl FnOnce(&str) -> String) {
        self.kill(number);
        let file = self.data(number).join("rais.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, edit(&text)).unwrap();
        self.restart(number);
    }

    /// Starts a killed host again, through the demo.
    pub fn restart(&self, number: u8) {
        let dir = self.dir.display().to_string();
        self.bare(&["demo", "--restart", &name(number), "--dir", &dir])
            .good();
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("the logs of this array are in {}", self.dir.display());
            let _rest = std::fs::remove_file(&self.binary);
        } else {
            let _rest = std::fs::remove_dir_all(&self.dir);
        }
    }
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
}

/// The name of host `number`.
pub fn name(number: u8) -> String {
    format!("h{number}")
}

/// The number of the host named so.
pub fn number(name: &str) -> Option<u8> {
    name.strip_prefix('h')?.parse().ok()
}

/// Host `number`'s preferred service address.
pub fn service(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 77, 1, number).into()
}
