//! A network namespace of the lab: run code in it, start programs in it.
//!
//! Code runs on a thread of its own that moves into the namespace and then ends: what it opened
//! (sockets) stays there and may be used from any thread. Programs start through `ip netns exec`,
//! which also gives them the right /sys and then becomes the program: the process id is theirs.

use super::clock::{self, At};
use super::command;
use super::error::LabError;
use super::process::Process;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

/// One network namespace.
#[derive(Clone, Debug)]
pub struct Space {
    name: String,
    label: String,
    logs: PathBuf,
}

impl Space {
    pub(super) fn new(base: &str, label: &str, logs: &Path) -> Self {
        Self {
            name: format!("{base}-{label}"),
            label: label.to_owned(),
            logs: logs.to_owned(),
        }
    }

    /// The namespace's name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its short name within the lab: `h1`, `client`, `lan`.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Does `work` inside the namespace and gives its result.
    ///
    /// # Errors
    /// The namespace is gone, or `work` panicked.
    pub fn inside<T, F>(&self, work: F) -> Result<T, LabError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let thread = self.thread("work", || Ok(work()))?;
        thread.join().unwrap_or_else(|_| {
            Err(LabError::Panicked {
                what: format!("work in {}", self.label),
            })
        })
    }

    /// A thread that lives inside the namespace.
    pub(super) fn thread<T, F>(
        &self,
        what: &str,
        work: F,
    ) -> Result<JoinHandle<Result<T, LabError>>, LabError>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, LabError> + Send + 'static,
    {
        let path = format!("/run/netns/{}", self.name);
        let open = |source| LabError::system(format!("open the namespace {path}"), source);
        let link = File::open(&path).map_err(open)?;
        let name = self.name.clone();
        thread::Builder::new()
            .name(format!("{}-{what}", self.label))
            .spawn(move || {
                move_into_link_name_space(link.as_fd(), Some(LinkNameSpaceType::Network))
                    .map_err(|source| LabError::system(format!("enter {name}"), source))?;
                drop(link);
                work()
            })
            .map_err(|source| LabError::system("start a thread", source))
    }

    /// Runs `ip` with `arguments` on this namespace and gives what it printed.
    ///
    /// # Errors
    /// The command and what it said.
    pub fn ip(&self, arguments: &[&str]) -> Result<String, LabError> {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend(arguments);
        command::run("ip", &all)
    }

    /// Gives `script` to `nft -f -` in this namespace.
    ///
    /// # Errors
    /// The command and what it said.
    pub fn nft(&self, script: &str) -> Result<(), LabError> {
        command::nft(&self.name, script)
    }

    /// What `nft` with `arguments` prints in this namespace.
    ///
    /// # Errors
    /// The command and what it said.
    pub fn nft_list(&self, arguments: &[&str]) -> Result<String, LabError> {
        let mut all = vec!["netns", "exec", self.name.as_str(), "nft"];
        all.extend(arguments);
        command::run("ip", &all)
    }

    /// A command that starts `program` in this namespace: add arguments, then [`Space::spawn`].
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Starts `command` (from [`Space::command`]) under the name `name`. Both its outputs go to one
    /// log file; a process group of its own keeps a Ctrl-C at the terminal from it. It is killed,
    /// with its children, when the last handle goes.
    ///
    /// # Errors
    /// It can't be started, or its log can't be made.
    pub fn spawn(&self, name: &str, command: &mut Command) -> Result<Process, LabError> {
        use std::os::unix::process::CommandExt;
        let log = self.logs.join(format!("{}-{name}.log", self.label));
        let make = |source| LabError::system(format!("make {}", log.display()), source);
        fs::create_dir_all(&self.logs).map_err(make)?;
        let out = File::options().create(true).append(true).open(&log);
        let out = out.map_err(make)?;
        let err = out.try_clone().map_err(make)?;
        let from = out.metadata().map_err(make)?.len();
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .map_err(|source| LabError::Start {
                command: format!("{command:?}"),
                source,
            })?;
        Ok(Process::new(&self.label, name, child, (log, from)))
    }

    /// The processes that live in this namespace.
    ///
    /// # Errors
    /// The command and what it said.
    pub fn pids(&self) -> Result<Vec<u32>, LabError> {
        let text = command::run("ip", &["netns", "pids", &self.name])?;
        Ok(text.lines().filter_map(|pid| pid.parse().ok()).collect())
    }

    /// Adds `address` (`10.77.0.101/24`, `fd00:77::101/64`) to the LAN interface by hand, without
    /// duplicate detection. Gives when it was there.
    ///
    /// # Errors
    /// The command and what it said.
    pub fn add_address(&self, address: &str) -> Result<At, LabError> {
        self.ip(&["addr", "add", address, "dev", "eth0", "nodad"])?;
        Ok(clock::now())
    }

    /// Takes `address` off the LAN interface. Gives when it was gone.
    ///
    /// # Errors
    /// The command and what it said.
    pub fn delete_address(&self, address: &str) -> Result<At, LabError> {
        self.ip(&["addr", "del", address, "dev", "eth0"])?;
        Ok(clock::now())
    }
}
