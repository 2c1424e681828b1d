//! Shows who is told of events, and how a trial went.

use super::args::Look;
use super::error::CliError;
use super::run::Console;
use super::style::{Style, Tone};
use super::table::{Cell, cell, optional, table, toned};
use crate::api::{TrapLine, TrapTrial, TrapsReport};

/// Who is told, and what became of it.
pub fn targets(report: &TrapsReport, style: Style) -> String {
    let row = |one: &TrapLine| {
        vec![
            cell(&one.target),
            cell(one.groups.join(" ")),
            cell(one.sent.to_string()),
            cell(one.queued.to_string()),
            cell(one.failed.to_string()),
            match one.dropped {
                0 => cell("0"),
                dropped => toned(Tone::Bad, dropped.to_string()),
            },
            one.error
                .as_ref()
                .map_or_else(|| optional(None::<u32>), |error| toned(Tone::Warn, error)),
        ]
    };
    let rows: Vec<Vec<Cell>> = report.targets.iter().map(row).collect();
    let header = [
        "TARGET", "GROUPS", "SENT", "QUEUED", "FAILED", "DROPPED", "TROUBLE",
    ];
    let none =
        "nobody is told of events; [traps] of a group's policy names SNMP managers and webhooks";
    table(&header, &rows, none, style)
}

/// How a trial went; a failure where anybody was not reached.
pub(super) fn tried(
    tried: &[TrapTrial],
    look: Look,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    if look.json {
        console.print_json(&tried)?;
    } else {
        let row = |one: &TrapTrial| {
            let word = match one.good {
                true => toned(Tone::Good, "good"),
                false => toned(Tone::Bad, "failed"),
            };
            vec![cell(&one.target), word, cell(&one.said)]
        };
        let rows: Vec<Vec<Cell>> = tried.iter().map(row).collect();
        let header = ["TARGET", "TRIAL", "SAID"];
        console.print(&table(
            &header,
            &rows,
            "nobody is told of events",
            console.style,
        ))?;
    }
    match tried.iter().filter(|one| !one.good).count() {
        0 => Ok(()),
        bad => Err(CliError::failed(
            format!("{bad} of {} were not reached", tried.len()),
            "mend what is said above; docs/traps.md explains it",
        )),
    }
}
