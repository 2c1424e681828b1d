//! The demo's daemons: real child processes, started, watched and ended by their own handles only.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};

use super::layout::Layout;
use crate::cli::CliError;
use crate::commands::STOP_WITH_STDIN;

/// How long a daemon may take to end before it is killed.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// The daemons that run, by number.
#[derive(Default)]
pub struct Children(BTreeMap<u8, Child>);

impl Children {
    /// Starts host `number`'s daemon; its log goes to `rais.log` in its directory.
    pub fn start(&mut self, layout: &Layout, number: u8, config: &Path) -> Result<(), CliError> {
        let name = Layout::name(number);
        let cannot = |error: std::io::Error| {
            CliError::failed(format!("cannot start {name}: {error}"), "is the disk full?")
        };
        let log_file = layout.host_dir(number).join("rais.log");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log_file)
            .map_err(cannot)?;
        let mut command = Command::new(std::env::current_exe().map_err(cannot)?);
        command
            .arg("node")
            .arg("--config")
            .arg(config)
            .env(STOP_WITH_STDIN, "1");
        // The pipe stays open as long as the demo lives: a daemon never outlives it.
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        // Its own process group: Ctrl-C reaches the demo, which ends the daemons in order.
        command.process_group(0);
        self.0.insert(number, command.spawn().map_err(cannot)?);
        Ok(())
    }

    /// Daemons that ended since the last look.
    pub fn ended(&mut self) -> Vec<(u8, ExitStatus)> {
        let mut ended = Vec::new();
        for (number, child) in &mut self.0 {
            if let Ok(Some(status)) = child.try_wait() {
                ended.push((*number, status));
            }
        }
        for (number, _) in &ended {
            self.0.remove(number);
        }
        ended
    }

    /// Whether host `number`'s daemon runs.
    pub fn runs(&self, number: u8) -> bool {
        self.0.contains_key(&number)
    }

    /// The lowest host that runs.
    pub fn first(&self) -> Option<u8> {
        self.0.keys().next().copied()
    }

    /// Ends all: closes their standard input, waits, then kills what is left.
    pub async fn end(&mut self) {
        for child in self.0.values_mut() {
            drop(child.stdin.take());
        }
        for (number, mut child) in std::mem::take(&mut self.0) {
            if tokio::time::timeout(END_PATIENCE, child.wait())
                .await
                .is_err()
            {
                eprintln!("{} does not end; killed", Layout::name(number));
                if let Err(error) = child.kill().await {
                    eprintln!("{} cannot be killed: {error}", Layout::name(number));
                }
            }
        }
    }
}
