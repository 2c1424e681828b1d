//! An array of real `rais` daemons in a lab: set up with the commands an operator types, one daemon
//! on each host, a v4 and a v6 service address at home on each.
//!
//! Control runs on both networks, service addresses are on the LAN. Host I is at home to 10.77.0.10I
//! and fd00:77::10I. The binary is copied into the lab's directory first, so a build that goes on
//! meanwhile changes nothing. It must have been built before: nothing here compiles.
//!
//! Limits: at most [`MAX_ARRAY`] hosts; one group, `web`; no quorum, no status (ask who has one).
//! Daemons end with their handles; data and logs go with the lab.

use super::clock::{self, At};
use super::ends::{Ends, panic_of};
use super::error::LabError;
use super::fault::{Fault, Injected};
use super::net::{CONTROL_PORT, Network, host_name};
use super::process::{Process, Scope};
use super::{Lab, Observer, wall};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// Most hosts of an array: their addresses are 10.77.0.101 to 109.
pub const MAX_ARRAY: u8 = 9;
/// Last byte of the service address of "host 0".
const FIRST_ADDRESS: u8 = 100;
/// Where a daemon has its metrics; needs no certificate on its own host.
const METRICS: &str = "https://127.0.0.1:7443/metrics";
/// A command of the operator may take so long, in s: it may wait for an election.
const COMMAND_S: &str = "10";
/// Between two looks at the status.
const LOOK: Duration = Duration::from_millis(50);
/// A daemon that is asked to end may take so long.
const END: Duration = Duration::from_secs(10);
/// Of several daemons that are to end each is waited for so long in its turn.
const TURN: Duration = Duration::from_millis(2);
/// A daemon that has ended is started again after that long.
const REVIVE: Duration = Duration::from_millis(500);
/// The first daemon answers, a new array comes up.
const UP: Duration = Duration::from_secs(60);

/// Why the array did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ArrayError {
    /// The lab said no.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// There is no binary to run.
    #[error("{} is not there: build it first with `cargo build -p rais`", path.display())]
    NotBuilt {
        /// Where it should be.
        path: PathBuf,
    },
    /// A file of the array.
    #[error("could not write {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `rais` refused or failed.
    #[error("`rais {command}` on h{host}: {said}")]
    Refused {
        /// Where.
        host: u8,
        /// What was typed.
        command: String,
        /// Its standard error.
        said: String,
    },
    /// A daemon ended, and nothing that was done explains it.
    #[error("the daemon of h{host} ended by itself ({status}); its log ends:\n{said}")]
    Crashed {
        /// Where.
        host: u8,
        /// Its exit status.
        status: String,
        /// The last lines of its log.
        said: String,
    },
    /// Something did not come about in time.
    #[error("not within {limit:?}: {what}")]
    Late {
        /// What was awaited, and what was there instead.
        what: String,
        /// How long.
        limit: Duration,
    },
}

/// Where `rais` is: beside the running program, or for a test or example `target/PROFILE/rais`.
///
/// # Errors
/// It was not built.
pub fn built_binary() -> Result<PathBuf, ArrayError> {
    let me = std::env::current_exe().unwrap_or_default();
    let beside = me.with_file_name("rais");
    if beside.exists() {
        return Ok(beside);
    }
    // A test is in PROFILE/deps, an example in PROFILE/examples.
    let profile = me.parent().and_then(Path::parent);
    let path = profile.unwrap_or(Path::new("target")).join("rais");
    if path.exists() {
        return Ok(path);
    }
    Err(ArrayError::NotBuilt { path })
}

/// The service addresses at home on host `host`: v4 and v6.
#[must_use]
pub const fn home_addresses(host: u8) -> [IpAddr; 2] {
    let last = FIRST_ADDRESS + host;
    [
        IpAddr::V4(Network::Lan.v4(last)),
        IpAddr::V6(Network::Lan.v6(last)),
    ]
}

/// `address` with the prefix length of the LAN.
#[must_use]
pub fn with_prefix(address: IpAddr) -> String {
    let length = if address.is_ipv4() { 24 } else { 64 };
    format!("{address}/{length}")
}

/// What array is wanted.
#[derive(Clone, Debug)]
pub struct ArraySpec {
    /// How many hosts, 1 to [`MAX_ARRAY`].
    pub hosts: u8,
    /// A preset of `rais init --timing`: `fast`, `lan`, `wan`.
    pub timing: &'static str,
    /// Each host's data on a disk of its own ([`Lab::disk`]), which can be frozen.
    pub disks: bool,
    /// Each daemon with a wall clock of its own, which can be stepped.
    pub clocks: bool,
}

impl ArraySpec {
    /// `hosts` with `lan` timing and their data in the lab's directory.
    #[must_use]
    pub const fn new(hosts: u8) -> Self {
        Self {
            hosts,
            timing: "lan",
            disks: false,
            clocks: false,
        }
    }
}

/// A running array. Dropping it kills its daemons.
#[derive(Debug)]
pub struct Array<'lab> {
    lab: &'lab Lab,
    dir: PathBuf,
    binary: PathBuf,
    /// The library that makes wall clocks wrong, where that is wanted.
    wall: Option<PathBuf>,
    /// What each host runs.
    binaries: Vec<PathBuf>,
    spec: ArraySpec,
    data: Vec<PathBuf>,
    daemons: Vec<Option<Process>>,
    ends: Ends,
    /// Hosts whose daemons were started since all were at home.
    begun: Vec<u8>,
}

impl<'lab> Array<'lab> {
    /// An array of `hosts` with the binary beside the running test, each address online at home.
    ///
    /// # Errors
    /// No binary, what a command said, or it did not come up in a minute.
    pub fn up(lab: &'lab Lab, hosts: u8) -> Result<Self, ArrayError> {
        Self::up_as(lab, ArraySpec::new(hosts))
    }

    /// As [`Array::up`], as `spec` says.
    ///
    /// # Errors
    /// As for [`Array::up`]; disks are wanted and this machine has none.
    pub fn up_as(lab: &'lab Lab, spec: ArraySpec) -> Result<Self, ArrayError> {
        let (hosts, rais) = (spec.hosts, built_binary()?);
        if !(1..=MAX_ARRAY).contains(&hosts) {
            let (what, allowed) = (format!("{hosts} hosts"), format!("1 to {MAX_ARRAY}"));
            return Err(LabError::Range { what, allowed }.into());
        }
        let dir = lab.logs().join("array");
        fs::create_dir_all(&dir).map_err(|source| file_error(&dir, source))?;
        let binary = dir.join("rais");
        if fs::hard_link(&rais, &binary).is_err() {
            fs::copy(&rais, &binary).map_err(|source| file_error(&binary, source))?;
        }
        let mut array = Self {
            lab,
            dir,
            wall: spec.clocks.then(|| wall::build(lab.logs())).transpose()?,
            binaries: vec![binary.clone(); usize::from(hosts)],
            binary,
            spec,
            data: Vec::new(),
            daemons: vec![None; usize::from(hosts)],
            ends: Ends::default(),
            begun: Vec::new(),
        };
        array.set_up()?;
        Ok(array)
    }

    fn set_up(&mut self) -> Result<(), ArrayError> {
        for host in 1..=self.spec.hosts {
            let data = if self.spec.disks {
                self.lab.disk(host)?.join("data")
            } else {
                self.dir.join(host_name(host))
            };
            fs::create_dir_all(&data).map_err(|source| file_error(&data, source))?;
            self.data.push(data);
            self.write(&format!("h{host}.toml"), &self.configuration(host))?;
        }
        let group = "name = \"web\"\nzone = \"web.example.\"\n";
        let group = self.write("web.toml", group)?.display().to_string();
        let name = |host| ["--name".to_owned(), host_name(host)];
        let control = |host| ["--control".to_owned(), control(host).join(",")];
        let mut init = ["init", "--timing", self.spec.timing]
            .map(str::to_owned)
            .to_vec();
        init.extend(name(1).into_iter().chain(control(1)));
        self.rais(1, &words(&init))?;
        self.start(1)?;
        self.until(UP, "h1 answers", |array| {
            array.status(1).is_ok_and(|s| s["leader"].is_string())
        })?;
        self.rais(1, &["group", "apply", &group])?;
        for host in 2..=self.spec.hosts {
            let token = self.rais(1, &["token", "create"])?.trim().to_owned();
            let [peer, _] = self::control(1);
            let mut join = vec!["join".to_owned(), "--token".to_owned(), token];
            join.extend(["--peer".to_owned(), peer]);
            join.extend(name(host).into_iter().chain(control(host)));
            self.rais(host, &words(&join))?;
            self.start(host)?;
        }
        self.until(UP, "each address is online at home", Self::is_home)
    }

    fn configuration(&self, host: u8) -> String {
        let control = control(host).map(|socket| format!("\"{socket}\""));
        let preferred = home_addresses(host).map(|ip| format!("\"{}\"", with_prefix(ip)));
        format!(
            "name = \"h{host}\"\ndata_dir = \"{}\"\n[control]\nlisten = [{}]\n[dns]\nlisten = \
             [\"{}:53\"]\n[[member]]\ngroup = \"web\"\npreferred = [{}]\ninterface = \"{}\"\n",
            self.data(host).display(),
            control.join(", "),
            Network::Lan.v4(host),
            preferred.join(", "),
            Network::Lan.interface(),
        )
    }

    /// Adds `text` to the configuration of `host`, and starts its daemon again with that.
    ///
    /// # Errors
    /// As for [`Array::restart`]; the file can't be written.
    pub fn configure(&mut self, host: u8, text: &str) -> Result<(), ArrayError> {
        let text = format!("{}\n{text}", self.configuration(host));
        self.write(&format!("h{host}.toml"), &text)?;
        self.restart(host)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, ArrayError> {
        let path = self.dir.join(name);
        fs::write(&path, text).map_err(|source| file_error(&path, source))?;
        Ok(path)
    }

    pub(super) fn data(&self, host: u8) -> &Path {
        let slot = usize::from(host).checked_sub(1);
        let data = slot.and_then(|slot| self.data.get(slot));
        data.map_or(&self.dir, PathBuf::as_path)
    }

    /// The start of a command line with `rais` on `host`.
    pub(super) fn command(&self, host: u8) -> Result<Command, ArrayError> {
        let mut command = self.lab.host(host)?.command(&self.binary);
        self.set_clock(host, &mut command)?;
        Ok(command)
    }

    /// How many hosts it has.
    #[must_use]
    pub const fn hosts(&self) -> u8 {
        self.spec.hosts
    }

    /// All service addresses.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        (1..=self.spec.hosts).flat_map(home_addresses).collect()
    }

    /// The daemon of `host`, to be signalled.
    ///
    /// # Errors
    /// It does not run.
    pub fn daemon(&self, host: u8) -> Result<Process, ArrayError> {
        self.latest(host)
            .filter(Process::is_running)
            .ok_or_else(|| {
                let what = format!("the daemon of h{host} does not run");
                let allowed = "a running one, or start it".to_owned();
                LabError::Range { what, allowed }.into()
            })
    }

    /// The daemon that was started last on `host`, whether it runs or not.
    fn latest(&self, host: u8) -> Option<Process> {
        let slot = usize::from(host).checked_sub(1);
        slot.and_then(|slot| self.daemons.get(slot)?.clone())
    }

    /// Applies `fault`. Daemons may end by it where faults of its kind end them.
    ///
    /// # Errors
    /// As for [`Lab::inject`].
    pub fn inject(&self, fault: &Fault) -> Result<Injected, LabError> {
        self.ends.allow_fault(fault);
        self.lab.inject(fault)
    }

    /// Adds `text` to the configuration of `host`, whose daemon reads it again.
    ///
    /// # Errors
    /// It does not run; what the system says.
    pub fn reload_with(&self, host: u8, text: &str) -> Result<(), ArrayError> {
        let file = self.dir.join(format!("h{host}.toml"));
        let before = fs::read_to_string(&file).map_err(|source| file_error(&file, source))?;
        self.write(&format!("h{host}.toml"), &format!("{before}{text}"))?;
        self.daemon(host)?.hang_up()?;
        Ok(())
    }

    /// Starts the daemon of `host` (again).
    ///
    /// # Errors
    /// No such host, the one before crashed, or the system says no.
    pub fn start(&mut self, host: u8) -> Result<(), ArrayError> {
        self.start_under(host, &[])
    }

    /// As [`Array::start`], by a program that runs what follows its own `words`, such as `setpriv`.
    ///
    /// # Errors
    /// As for [`Array::start`].
    pub fn start_under(&mut self, host: u8, words: &[&str]) -> Result<(), ArrayError> {
        let space = self.lab.host(host)?;
        self.judge(host)?;
        let slot = usize::from(host).checked_sub(1);
        let binary = slot.and_then(|slot| self.binaries.get(slot));
        let binary = binary.unwrap_or(&self.binary);
        let mut command = match words.split_first() {
            Some((program, words)) => {
                let mut command = space.command(program);
                command.args(words).arg(binary);
                command
            }
            None => space.command(binary),
        };
        self.set_clock(host, &mut command)?;
        let config = self.dir.join(format!("h{host}.toml"));
        command.args(["node", "--config"]).arg(config);
        let daemon = space.spawn("rais", &mut command)?;
        if let Some(slot) = slot.and_then(|slot| self.daemons.get_mut(slot)) {
            *slot = Some(daemon);
        }
        self.ends.begun(host);
        self.begun.push(host);
        Ok(())
    }

    /// Gives a program the wall clock of `host`.
    fn set_clock(&self, host: u8, command: &mut Command) -> Result<(), ArrayError> {
        if let Some(library) = &self.wall {
            let file = wall::file(self.lab.logs(), host);
            command.envs(wall::environment(library, &file)?);
        }
        Ok(())
    }

    /// Whether the daemon of `host` runs, or has ended for a reason that what was done explains.
    fn judge(&self, host: u8) -> Result<(), ArrayError> {
        let latest = self.latest(host);
        latest.map_or(Ok(()), |daemon| self.ends.judge(host, &daemon))
    }

    /// What is done next may keep the wardens of all hosts from their work, whose daemons then end.
    pub fn wardens_may_hang(&self) {
        (1..=self.spec.hosts).for_each(|host| self.ends.allow_stop(host));
    }

    /// What was done so far explains no end of a daemon that comes later.
    pub fn explain_no_more(&self) {
        self.ends.forget();
    }

    /// What daemons did that they must not, in words: crashes, and panics of those that run on.
    #[must_use]
    pub fn crashes(&self) -> Vec<String> {
        let of = |host: u8| match self.judge(host) {
            Ok(()) => {
                let line = panic_of(&self.latest(host)?)?;
                Some(format!("h{host}: {line}"))
            }
            Err(error) => Some(error.to_string()),
        };
        (1..=self.spec.hosts).filter_map(of).collect()
    }

    /// Starts the daemons that have ended, as a service manager would. Gives which.
    ///
    /// # Errors
    /// One crashed; the system says no.
    pub fn revive(&mut self) -> Result<Vec<u8>, ArrayError> {
        let ended = |host: &u8| self.daemon(*host).is_err();
        let ended: Vec<u8> = (1..=self.spec.hosts).filter(ended).collect();
        for host in &ended {
            self.start(*host)?;
        }
        Ok(ended)
    }

    /// SIGKILL to `whom` of the daemon of `host`, which ends by that. Gives when.
    ///
    /// # Errors
    /// It does not run, or goes on without its children.
    pub fn kill(&self, host: u8, whom: Scope) -> Result<At, ArrayError> {
        let daemon = self.daemon(host)?;
        self.ends.allow_kill(host, whom);
        let at = daemon.kill(whom)?;
        if whom == Scope::Children && !daemon.wait_exit(END) {
            let what = format!("h{host} ends without its warden");
            return Err(ArrayError::Late { what, limit: END });
        }
        Ok(at)
    }

    /// SIGSTOP to `whom` of the daemon of `host`. Gives when.
    ///
    /// # Errors
    /// It does not run.
    pub fn stop(&self, host: u8, whom: Scope) -> Result<At, ArrayError> {
        let daemon = self.daemon(host)?;
        self.ends.allow_stop(host);
        Ok(daemon.stop(whom)?)
    }

    /// SIGCONT to all of the family: who was not stopped does not mind. Gives when.
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&self, host: u8) -> Result<At, ArrayError> {
        Ok(self.daemon(host)?.resume(Scope::Family)?)
    }

    fn ask_to_end(&self, host: u8) -> Result<At, ArrayError> {
        let daemon = self.daemon(host)?;
        self.ends.allow_end(host);
        Ok(daemon.terminate()?)
    }

    /// SIGTERM, and waits for the end. Gives when it was asked.
    ///
    /// # Errors
    /// It does not run, does not end, or ends with an error.
    pub fn terminate(&self, host: u8) -> Result<At, ArrayError> {
        let daemon = self.daemon(host)?;
        let at = self.ask_to_end(host)?;
        if !daemon.wait_exit(END) {
            let what = format!("h{host} ends after SIGTERM");
            return Err(ArrayError::Late { what, limit: END });
        }
        self.ends.judge(host, &daemon)?;
        Ok(at)
    }

    /// Ends the daemon of `host` with SIGTERM and starts it again.
    ///
    /// # Errors
    /// As for [`Array::terminate`] and [`Array::start`].
    pub fn restart(&mut self, host: u8) -> Result<(), ArrayError> {
        self.terminate(host)?;
        self.start(host)
    }

    /// Ends the daemons of all hosts at once, with SIGTERM or SIGKILL, and starts each as soon as it has ended,
    /// as the service manager of its host would.
    ///
    /// # Errors
    /// As for [`Array::terminate`], [`Array::kill`] and [`Array::start`].
    pub fn restart_all(&mut self, signal: Signal) -> Result<(), ArrayError> {
        let mut left = Vec::new();
        for host in 1..=self.spec.hosts {
            let daemon = self.daemon(host)?;
            match signal {
                Signal::KILL => self.kill(host, Scope::Family)?,
                _ => self.ask_to_end(host)?,
            };
            left.push((host, daemon));
        }
        let end = clock::now().after(END);
        while !left.is_empty() {
            let (ended, live) = left
                .into_iter()
                .partition(|(_, daemon)| daemon.wait_exit(TURN));
            left = live;
            let ended: Vec<(u8, Process)> = ended;
            for (host, _) in ended {
                self.start(host)?;
            }
            if clock::now() >= end {
                let what = format!("these end: {left:?}");
                return Err(ArrayError::Late { what, limit: END });
            }
        }
        Ok(())
    }

    /// From its next start on `host` runs `binary`: an upgrade, or a downgrade.
    ///
    /// # Errors
    /// It can't be copied into the lab.
    pub fn install(&mut self, host: u8, binary: &Path) -> Result<(), ArrayError> {
        let own = self.dir.join(format!("rais-{}", host_name(host)));
        let aside = own.with_extension("new");
        // Renamed into place: the old one may still run.
        let done = fs::copy(binary, &aside).and_then(|_| fs::rename(&aside, &own));
        done.map_err(|source| file_error(&own, source))?;
        let slot = usize::from(host).checked_sub(1);
        if let Some(slot) = slot.and_then(|slot| self.binaries.get_mut(slot)) {
            *slot = own;
        }
        Ok(())
    }

    /// Asks hosts in turn for an audit until one answers. What it found broken; nothing: all is well.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn audit(&self) -> Result<Vec<String>, ArrayError> {
        let mut why = None;
        for host in 1..=self.spec.hosts {
            match self.output(host, &["audit", "--json"]) {
                Ok(output) => match serde_json::from_slice::<Value>(&output.stdout) {
                    Ok(report) => {
                        let broken = report["broken"].as_array().cloned().unwrap_or_default();
                        let words = |one: &Value| format!("{}: {}", one["law"], one["detail"]);
                        return Ok(broken.iter().map(words).collect());
                    }
                    Err(_) => {
                        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                        why = Some(self.refused(host, &["audit"], said));
                    }
                },
                Err(error) => why = Some(error),
            }
        }
        Err(why.unwrap_or_else(|| self.refused(1, &["audit"], "no hosts".to_owned())))
    }

    fn refused(&self, host: u8, arguments: &[&str], said: String) -> ArrayError {
        let command = arguments.join(" ");
        ArrayError::Refused {
            host,
            command,
            said,
        }
    }

    fn output(&self, host: u8, arguments: &[&str]) -> Result<Output, ArrayError> {
        let space = self.lab.host(host)?;
        let mut command = space.command("timeout");
        // By its clock certificates are good or not.
        self.set_clock(host, &mut command)?;
        command.arg(COMMAND_S).arg(&self.binary).args(arguments);
        command.arg("--data-dir").arg(self.data(host));
        let output = command.output();
        output.map_err(|error| self.refused(host, arguments, error.to_string()))
    }

    /// What `rais` with `arguments` prints when typed on `host`.
    ///
    /// # Errors
    /// It failed, or took longer than [`COMMAND_S`] seconds.
    pub fn rais(&self, host: u8, arguments: &[&str]) -> Result<String, ArrayError> {
        let output = self.output(host, arguments)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = format!("{}: {}", output.status, said.trim());
            return Err(self.refused(host, arguments, said));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A counter or gauge of whole numbers among the metrics of `host`, by its name with its labels.
    ///
    /// # Errors
    /// `curl` is not there, the daemon does not answer, there is no such metric.
    pub fn metric(&self, host: u8, name: &str) -> Result<u64, ArrayError> {
        // Its certificate may be of another time than ours.
        let mut curl = self.lab.host(host)?.command("curl");
        curl.args(["-sSk", "--max-time", COMMAND_S, METRICS]);
        let refused = |said: String| self.refused(host, &["metrics (curl)", name], said);
        let output = curl.output().map_err(|error| refused(error.to_string()))?;
        let page = String::from_utf8_lossy(&output.stdout);
        let of = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
        let found = page.lines().find_map(of);
        let said = String::from_utf8_lossy(&output.stderr);
        found.ok_or_else(|| refused(said.into_owned()))
    }

    /// `rais status --json` of `host`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self, host: u8) -> Result<Value, ArrayError> {
        let text = self.rais(host, &["status", "--json"])?;
        serde_json::from_str(&text).map_err(|error| ArrayError::Refused {
            host,
            command: "status --json".to_owned(),
            said: format!("not JSON: {error}"),
        })
    }

    /// The last 50 events, as `host` tells them: a line each.
    ///
    /// # Errors
    /// It does not answer.
    pub fn events(&self, host: u8) -> Result<String, ArrayError> {
        self.rais(host, &["events", "--json"])
    }

    /// The index in the log of the newest event that `host` knows of.
    ///
    /// # Errors
    /// It does not answer.
    pub fn newest_event(&self, host: u8) -> Result<u64, ArrayError> {
        let text = self.events(host)?;
        let index = |line| serde_json::from_str::<Value>(line).ok()?["index"].as_u64();
        Ok(text.lines().filter_map(index).max().unwrap_or(0))
    }

    /// Who leads, as the first host that knows says.
    #[must_use]
    pub fn leader(&self) -> Option<u8> {
        self.leader_beside(&[])
    }

    /// Who leads, as the first host that knows says, when `silent` are neither asked nor meant.
    #[must_use]
    pub fn leader_beside(&self, silent: &[u8]) -> Option<u8> {
        let asked = (1..=self.spec.hosts).filter(|host| !silent.contains(host));
        let mut said = asked.filter_map(|host| self.status(host).ok());
        let leader = |status: Value| status["leader"].as_str()?.strip_prefix('h')?.parse().ok();
        said.find_map(|status| leader(status).filter(|leader| !silent.contains(leader)))
    }

    /// Whether every address is online at home, as the first host that answers says.
    #[must_use]
    pub fn is_home(&self) -> bool {
        let mut said = (1..=self.spec.hosts).filter_map(|host| self.status(host).ok());
        let Some(status) = said.next() else {
            return false;
        };
        let addresses = status["groups"][0]["addresses"].as_array();
        let at_home = |one: &&Value| {
            one["state"] == "online"
                && one["host"] == one["preferred_host"]
                && one["host"].is_string()
        };
        let home = addresses.map_or(0, |all| all.iter().filter(at_home).count());
        home == self.addresses().len()
    }

    /// Waits until the observer has each address answered by its home alone.
    ///
    /// # Errors
    /// Which one is not, after `limit`.
    pub fn wait_home(&self, observer: &Observer, limit: Duration) -> Result<At, ArrayError> {
        let end = clock::now().after(limit);
        match self.stray(observer, end) {
            None => Ok(clock::now()),
            Some((address, host)) => Err(self.not_home(address, host, limit)),
        }
    }

    /// As [`Array::wait_home`], and starts on the way what has ended ([`Array::revive`]).
    ///
    /// # Errors
    /// As for [`Array::wait_home`] and [`Array::revive`]: a daemon that crashed is not got over.
    pub fn bring_home(&mut self, observer: &Observer, limit: Duration) -> Result<At, ArrayError> {
        let end = clock::now().after(limit);
        loop {
            let revived = self.revive()?;
            if !revived.is_empty() {
                eprintln!("   started again: {revived:?}");
            }
            // The kernel answers for a dead daemon as long as its lease lasts: home is who speaks.
            for host in std::mem::take(&mut self.begun) {
                self.until(limit, &format!("h{host} answers or ends"), |array| {
                    array.daemon(host).is_err() || array.status(host).is_ok()
                })?;
            }
            let Some((address, host)) = self.stray(observer, clock::now().after(REVIVE)) else {
                return Ok(clock::now());
            };
            if clock::now() >= end {
                return Err(self.not_home(address, host, limit));
            }
        }
    }

    /// Says what the array thinks of an address that is not home, as the leader tells it.
    fn not_home(&self, address: IpAddr, host: u8, limit: Duration) -> ArrayError {
        let teller = self.leader().unwrap_or(1);
        let say = |arguments: &[&str]| {
            let said = self.rais(teller, arguments);
            said.unwrap_or_else(|error| error.to_string())
        };
        let (status, why) = (say(&["status"]), say(&["why", &address.to_string()]));
        let what = format!("{address} is answered by h{host}; h{teller} says:\n{status}\n{why}");
        ArrayError::Late { what, limit }
    }

    /// An address that was not answered by its home alone until `end`, and that home.
    fn stray(&self, observer: &Observer, end: At) -> Option<(IpAddr, u8)> {
        let of = |host| home_addresses(host).map(|address| (address, host));
        let mut all = (1..=self.spec.hosts).flat_map(of);
        all.find(|(address, host)| !observer.wait(*address, &[*host], end.since(clock::now())))
    }

    /// Looks again and again, at most for `limit`; `what` is said if it never comes.
    ///
    /// # Errors
    /// It did not come.
    pub fn until(
        &self,
        limit: Duration,
        what: &str,
        came: impl Fn(&Self) -> bool,
    ) -> Result<(), ArrayError> {
        let end = clock::now().after(limit);
        while !came(self) {
            if clock::now() >= end {
                let status = self.rais(1, &["status"]).unwrap_or_else(|e| e.to_string());
                let crashes = self.crashes().join("\n");
                let what = format!("{what}; h1 says:\n{status}\n{crashes}");
                return Err(ArrayError::Late { what, limit });
            }
            // A poll of another process: there is no event to await.
            clock::wait_until(clock::now().after(LOOK));
        }
        Ok(())
    }
}

fn control(host: u8) -> [String; 2] {
    Network::ALL.map(|network| format!("{}:{CONTROL_PORT}", network.v4(host)))
}

fn words(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}

fn file_error(path: &Path, source: io::Error) -> ArrayError {
    let path = path.to_owned();
    ArrayError::File { path, source }
}
