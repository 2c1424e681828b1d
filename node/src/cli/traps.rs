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

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: people see at once who is not reached, and scripts by the exit code. Method: a manager that is
    /// well and a webhook that is not, as a table and as a trial.
    #[test]
    fn who_is_not_reached_stands_out() {
        let line = |target: &str, dropped, error: Option<&str>| TrapLine {
            target: target.into(),
            groups: vec!["web".into(), "db".into()],
            queued: 2,
            sent: 40,
            failed: 3,
            dropped,
            error: error.map(str::to_owned),
        };
        let mut report = TrapsReport {
            told: 7,
            targets: vec![
                line("snmp 10.0.0.1:162", 0, None),
                line("https://hooks.example", 1, Some("it answers 410 Gone")),
            ],
        };
        let text = targets(&report, Style::PLAIN);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| {
                line.split("  ")
                    .filter(|one| !one.is_empty())
                    .map(str::trim)
                    .collect()
            })
            .collect();
        assert_eq!(
            lines[1],
            ["snmp 10.0.0.1:162", "web db", "40", "2", "3", "0", "-"]
        );
        assert_eq!(lines[2][5..], ["1", "it answers 410 Gone"]);
        report.targets.clear();
        assert!(targets(&report, Style::PLAIN).contains("nobody is told"));
        let trial = |good| TrapTrial {
            target: "snmp 10.0.0.1:162".into(),
            good,
            said: "so it went".into(),
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console {
            out: &mut out,
            err: &mut err,
            style: Style::PLAIN,
        };
        let look = Look::default();
        tried(&[trial(true)], look, &mut console).unwrap();
        let bad = tried(&[trial(true), trial(false)], look, &mut console);
        assert!(
            bad.unwrap_err()
                .to_string()
                .starts_with("1 of 2 were not reached")
        );
        assert!(String::from_utf8(out).unwrap().contains("failed"));
    }
}
