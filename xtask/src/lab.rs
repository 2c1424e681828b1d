//! `cargo xtask lab`: a lab for people, which stays up until it is taken down.
//!
//! The lab itself is `chaos::lab`; here are the words around it. Which lab is up stands in a file in
//! the target directory, so each checkout has one; the namespaces carry `kept` in their names and
//! are never swept by tests.

use chaos::lab::{Lab, LabError, LabSpec, Network, Space};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What can be typed.
pub const USAGE: &str = "usage: cargo xtask lab up [--hosts N] | list | sh NAME [COMMAND…] | down

  up      N hosts (3), a client and two switches in network namespaces
  list    who is there, with addresses and processes
  sh      a shell on h1, h2, …, client, observer, lan or control; or COMMAND there
  down    take it away, and what killed test runs left";

/// Hosts, unless it is said.
const HOSTS: u8 = 3;

/// Runs `lab WORDS` with its state under `root`, the checkout.
pub fn run(root: &Path, words: &[&str]) -> ExitCode {
    let state = State::of(root);
    let done = match words {
        ["up"] => up(&state, HOSTS),
        ["up", "--hosts", hosts] => match hosts.parse() {
            Ok(hosts) => up(&state, hosts),
            Err(_) => return usage(),
        },
        ["list"] => list(&state),
        ["sh", name, command @ ..] => sh(&state, name, command),
        ["down"] => down(&state),
        _ => return usage(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("lab: {error}");
        ExitCode::FAILURE
    })
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

/// The file that names the lab which is up.
struct State(PathBuf);

impl State {
    fn of(root: &Path) -> Self {
        let target = std::env::var_os("CARGO_TARGET_DIR");
        let target = target.map_or_else(|| root.join("target"), PathBuf::from);
        Self(target.join("lab"))
    }

    fn lab(&self) -> Option<Lab> {
        let base = fs::read_to_string(&self.0).ok()?;
        Lab::attach(base.trim())
    }

    fn write(&self, base: &str) -> io::Result<()> {
        if let Some(folder) = self.0.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&self.0, format!("{base}\n"))
    }
}

fn up(state: &State, hosts: u8) -> Result<ExitCode, LabError> {
    if let Some(lab) = state.lab() {
        println!("a lab of {} hosts is up already", lab.hosts().len());
        println!("next: cargo xtask lab list, or cargo xtask lab down");
        return Ok(ExitCode::FAILURE);
    }
    let name = "people".to_owned();
    let lab = Lab::up_kept(&LabSpec { hosts, name })?;
    if let Err(source) = state.write(lab.base()) {
        let what = format!("write {}", state.0.display());
        lab.down()?;
        return Err(LabError::System { what, source });
    }
    println!("up: {hosts} hosts, a client, two switches");
    println!("  h1 … h{hosts}  eth0 10.77.0.1 …  fd00:77::1 …  eth1 10.78.0.1 …");
    println!("  client   eth0 10.77.0.200  fd00:77::200");
    println!("next: cargo xtask lab sh h1");
    println!("      cargo xtask lab sh client ping 10.77.0.1");
    println!("      cargo xtask lab down");
    Ok(ExitCode::SUCCESS)
}

fn list(state: &State) -> Result<ExitCode, LabError> {
    let Some(lab) = state.lab() else {
        return Ok(nothing());
    };
    for space in lab.spaces() {
        let processes = space.pids()?.len();
        println!(
            "{:<9} {} processes  ({})",
            space.label(),
            processes,
            space.name()
        );
        let is_switch = Network::ALL.iter().any(|n| n.name() == space.label());
        if is_switch || space.label() == "observer" {
            continue;
        }
        let text = space.ip(&["-brief", "address", "show", "scope", "global"])?;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            println!("          {}", line.trim());
        }
    }
    println!("next: cargo xtask lab sh NAME, or cargo xtask lab down");
    Ok(ExitCode::SUCCESS)
}

fn nothing() -> ExitCode {
    println!("no lab is up");
    println!("next: cargo xtask lab up");
    ExitCode::FAILURE
}

fn sh(state: &State, name: &str, command: &[&str]) -> Result<ExitCode, LabError> {
    let Some(lab) = state.lab() else {
        return Ok(nothing());
    };
    let Some(space) = lab.spaces().find(|space| space.label() == name) else {
        let names: Vec<&str> = lab.spaces().map(Space::label).collect();
        println!("there is no {name} in the lab");
        println!(
            "next: cargo xtask lab sh NAME, with one of {}",
            names.join(", ")
        );
        return Ok(ExitCode::from(2));
    };
    let mut command = match command {
        [] => shell(space),
        [program, arguments @ ..] => {
            let mut command = space.command(program);
            command.args(arguments);
            command
        }
    };
    let started = command.status().map_err(|source| LabError::Start {
        command: format!("{command:?}"),
        source,
    })?;
    let code = started.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn shell(space: &Space) -> Command {
    println!(
        "a shell on {}: `ip address` shows where you are, `exit` leaves",
        space.label()
    );
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "sh".into());
    let mut command = space.command(shell);
    command.env("PS1", format!("{} # ", space.label()));
    command
}

fn down(state: &State) -> Result<ExitCode, LabError> {
    let swept = Lab::sweep()?;
    if swept > 0 {
        println!("swept: {swept} namespaces of runs that were killed");
    }
    let Some(lab) = state.lab() else {
        // Its namespaces are gone, as after a reboot.
        let _ = fs::remove_file(&state.0);
        return Ok(nothing());
    };
    lab.down()?;
    let removed = fs::remove_file(&state.0);
    removed.map_err(|source| LabError::System {
        what: format!("remove {}", state.0.display()),
        source,
    })?;
    println!("down: nothing of the lab is left");
    println!("next: cargo xtask lab up");
    Ok(ExitCode::SUCCESS)
}
