//! `rais timing`: what is in force, and how to change it without losing a lease.

use std::path::PathBuf;

use serde_json::json;
use statemachine::Timing;

use super::args::{Look, TimingCommand};
use super::error::CliError;
use super::hooks::{Commands, Doors};
use super::run::Console;
use super::style::Style;
use super::table::{cell, table};
use crate::api::{Request, Response, TimingReport};
use crate::config::{Millis, PRESETS, load_timing, timing_diff, timing_to_toml};

/// What `--timing` of `rais init` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimingChoice {
    /// A preset of lease.md.
    Preset(Timing),
    /// A file as `rais timing apply` reads it.
    File(PathBuf),
}

impl TimingChoice {
    /// A preset's name, or else a path.
    ///
    /// # Errors
    /// When the text is empty.
    pub fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("name a preset (fast, lan, wan) or a file".to_owned());
        }
        let preset = PRESETS.iter().find(|(name, _)| *name == text);
        Ok(preset.map_or_else(
            || Self::File(PathBuf::from(text)),
            |(_, timing)| Self::Preset(*timing),
        ))
    }

    /// The timing itself.
    ///
    /// # Errors
    /// [`CliError::BadFile`] with every mistake in the file.
    pub fn timing(&self) -> Result<Timing, CliError> {
        match self {
            Self::Preset(timing) => Ok(*timing),
            Self::File(file) => Ok(load_timing(file)?),
        }
    }
}

/// Does what `rais timing …` says.
pub(super) async fn run<C: Commands>(
    command: TimingCommand,
    commands: &C,
    data_dir: &std::path::Path,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    match command {
        // A bad file is told before a daemon is looked for.
        TimingCommand::Apply {
            file,
            dry_run,
            look,
        } => {
            let timing = load_timing(&file)?;
            let doors = commands.connect(data_dir).await?;
            apply(timing, dry_run, look, &doors, console).await
        }
        TimingCommand::Show { toml, look } => {
            let doors = commands.connect(data_dir).await?;
            let report = ask(&doors).await?;
            match (toml, look.json) {
                (true, _) => console.print(&timing_to_toml(&report.timing)),
                (_, true) => console.print_json(&to_json(&report)),
                _ => console.print(&render(&report, console.style)),
            }
        }
    }
}

async fn ask<D: Doors>(doors: &D) -> Result<TimingReport, CliError> {
    match doors.call(Request::TimingShow).await? {
        Response::Timing(report) => Ok(report),
        other => Err(CliError::unexpected(other)),
    }
}

/// Shows what would change, then applies exactly that: the log refuses it when the timing is no longer
/// the one that was compared.
async fn apply<D: Doors>(
    timing: Timing,
    dry_run: bool,
    look: Look,
    doors: &D,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let seen = ask(doors).await?.timing;
    let changes = timing_diff(&seen, &timing);
    if !look.json {
        let shown = match changes.is_empty() {
            true => "nothing changes\n".to_owned(),
            false => format!("{}\n", changes.join("\n")),
        };
        console.print(&shown)?;
    }
    let mut index = None;
    if !dry_run && !changes.is_empty() {
        index = match doors.call(Request::TimingApply { timing, seen }).await? {
            Response::Done { index, .. } => index,
            other => return Err(CliError::unexpected(other)),
        };
    }
    if look.json {
        return console.print_json(&json!({"changes": changes, "index": index}));
    }
    match index {
        Some(index) => {
            let longest = Millis(u64::from(timing.lease_ms.max(seen.lease_ms)));
            console.print(&format!(
                "timing applied (log index {index}); fences wait for leases of up to {longest} until every host has followed\n"
            ))
        }
        None if dry_run => console.print("not applied: this was a dry run\n"),
        None => Ok(()),
    }
}

/// As `--json` and the API show it: the file's keys, and what follows from them.
pub(crate) fn to_json(report: &TimingReport) -> serde_json::Value {
    let millis = |ms: u32| Millis(u64::from(ms)).to_string();
    let timing = &report.timing;
    json!({
        "timing": {
            "heartbeat": millis(timing.heartbeat_ms),
            "suspect": millis(timing.suspect_ms),
            "lease": millis(timing.lease_ms),
            "raft_heartbeat": millis(timing.raft_heartbeat_ms),
            "election_min": millis(timing.election_min_ms),
            "election_max": millis(timing.election_max_ms),
        },
        "preset": crate::config::preset_name(timing),
        "usable_lease_ms": timing.usable_lease_ms(),
        "longest_lease_ms": report.longest_lease_ms,
        "settled": report.settled,
        "index": report.index,
    })
}

fn render(report: &TimingReport, style: Style) -> String {
    let timing = &report.timing;
    let row = |key: &str, ms: u32, what: &str| {
        let value = Millis(u64::from(ms)).to_string();
        vec![cell(key), cell(value), cell(what)]
    };
    let usable = timing.usable_lease_ms();
    let rows = [
        row("heartbeat", timing.heartbeat_ms, "each host to every voter"),
        row(
            "suspect",
            timing.suspect_ms,
            "silence after which a host is fenced",
        ),
        row(
            "lease",
            timing.lease_ms,
            &format!("what a voter promises; a host counts on 90 %, {usable} ms"),
        ),
        row(
            "raft_heartbeat",
            timing.raft_heartbeat_ms,
            "the leader to every follower",
        ),
        row(
            "election_min",
            timing.election_min_ms,
            "shortest wait before a vote",
        ),
        row(
            "election_max",
            timing.election_max_ms,
            "longest, and how long followers wait for a silent leader",
        ),
    ];
    let mut out = match crate::config::preset_name(timing) {
        Some(name) => format!("preset {name}\n"),
        None => "no preset\n".to_owned(),
    };
    out.push_str(&table(&["KEY", "VALUE", "MEANS"], &rows, "", style));
    if !report.settled {
        let longest = Millis(u64::from(report.longest_lease_ms));
        out.push_str(&format!(
            "not settled: some host may still count with the timing of before, so fences wait for leases of up to {longest}\n"
        ));
    }
    out
}
