//! Reads and writes the array's timing as a file: a preset, numbers of one's own, or both.
//!
//! `Timing::check` in the state machine decides what is safe, here and once more in the log; this file
//! puts its arithmetic at the line that has to change.

use statemachine::{MAX_MS, Timing};

use super::diagnostic::Report;
use super::host::quote;
use super::host_read::choice;
use super::policy_read::narrow;
use super::scalar::{Complaint, Millis, complaint, duration};
use super::section::Section;

/// Keys of the file.
pub(crate) const ROOT: [&str; 7] = [
    "preset",
    "heartbeat",
    "suspect",
    "lease",
    "raft_heartbeat",
    "election_min",
    "election_max",
];
/// The presets of lease.md by name.
pub const PRESETS: [(&str, Timing); 3] = [
    ("fast", Timing::FAST),
    ("lan", Timing::LAN),
    ("wan", Timing::WAN),
];

/// The name of the preset that `timing` is, if it is one.
#[must_use]
pub fn preset_name(timing: &Timing) -> Option<&'static str> {
    let found = PRESETS.iter().find(|(_, preset)| preset == timing);
    found.map(|(name, _)| *name)
}

fn bounded(text: &str) -> Result<Millis, Complaint> {
    let read = duration(text)?;
    match read.0 <= u64::from(MAX_MS) {
        true => Ok(read),
        false => Err(complaint(
            format!("`{}` is longer than a minute", text.escape_debug()),
            "write a shorter duration; lease.md says what each is for",
        )),
    }
}

/// Reads the root table. `None` only if the report has something to say.
pub(crate) fn read(root: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Timing> {
    let preset = root.text(
        "preset",
        "a string: \"fast\", \"lan\" or \"wan\"",
        |text| choice(text, &PRESETS),
        report,
    );
    // A preset that is misspelt was told; its numbers are not missing.
    let stands = root.has("preset");
    let mut timing = preset.map_or(Timing::LAN, |one| one.value);
    let numbers = [
        ("heartbeat", "\"100ms\"", &mut timing.heartbeat_ms),
        ("suspect", "\"300ms\"", &mut timing.suspect_ms),
        ("lease", "\"300ms\"", &mut timing.lease_ms),
        ("raft_heartbeat", "\"100ms\"", &mut timing.raft_heartbeat_ms),
        ("election_min", "\"150ms\"", &mut timing.election_min_ms),
        ("election_max", "\"300ms\"", &mut timing.election_max_ms),
    ];
    for (key, example, number) in numbers {
        let read = match stands {
            true => root.text(key, "a duration, such as \"100ms\"", bounded, report),
            false => root.need(key, example, bounded, report),
        };
        if let Some(read) = read {
            *number = narrow(read.value.0);
        }
    }
    if report.is_clean() {
        judge(root, &timing, report);
    }
    report.is_clean().then_some(timing)
}

/// Puts each broken rule at the number that has to change.
fn judge(root: &Section<'_, '_>, timing: &Timing, report: &mut Report<'_>) {
    for fault in timing.faults() {
        let key = if root.has(fault.key) {
            fault.key
        } else {
            "preset"
        };
        report.add(
            root.span_of(key),
            format!("unsafe timing: {}", fault.why),
            format!("change `{}` or what it is held against", fault.key),
        );
    }
}

/// The timing as a file for `rais timing apply`; reading it gives the same timing again.
#[must_use]
pub fn timing_to_toml(timing: &Timing) -> String {
    let mut out = match preset_name(timing) {
        Some(name) => format!("# as preset = {}\n", quote(name)),
        None => String::new(),
    };
    for (key, value) in lines(timing) {
        out.push_str(&format!("{key} = {value}\n"));
    }
    out
}

fn lines(timing: &Timing) -> [(&'static str, String); 6] {
    let time = |ms: u32| quote(&Millis(u64::from(ms)).to_string());
    [
        ("heartbeat", time(timing.heartbeat_ms)),
        ("suspect", time(timing.suspect_ms)),
        ("lease", time(timing.lease_ms)),
        ("raft_heartbeat", time(timing.raft_heartbeat_ms)),
        ("election_min", time(timing.election_min_ms)),
        ("election_max", time(timing.election_max_ms)),
    ]
}

/// What changes from `old` to `new`, one line each, as for a policy. Empty when nothing does.
#[must_use]
pub fn timing_diff(old: &Timing, new: &Timing) -> Vec<String> {
    let pairs = lines(old).into_iter().zip(lines(new));
    let changed = pairs.filter(|(was, is)| was != is);
    changed
        .map(|((key, was), (_, is))| format!("~ {key} = {was} -> {is}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigFile, check, parse_timing};
    use super::*;

    /// Goal: what is shown can be applied again; a preset may be named, changed, or spelt out.
    #[test]
    fn a_timing_reads_back_and_a_preset_may_be_changed() {
        for (name, timing) in PRESETS {
            assert_eq!(parse_timing("t", &timing_to_toml(&timing)), Ok(timing));
            let named = format!("preset = \"{name}\"\n");
            assert_eq!(parse_timing("t", &named), Ok(timing));
            assert_eq!(check("t", &named), Ok(ConfigFile::Timing(timing)));
            assert_eq!(preset_name(&timing), Some(name));
        }
        let patient = Timing {
            suspect_ms: 1_500,
            ..Timing::LAN
        };
        let text = "preset = \"lan\"\nsuspect = \"1s500ms\"\n";
        assert_eq!(parse_timing("t", text), Ok(patient));
        assert_eq!(parse_timing("t", &timing_to_toml(&patient)), Ok(patient));
        let changes = timing_diff(&Timing::LAN, &patient);
        assert_eq!(changes, ["~ suspect = \"300ms\" -> \"1s500ms\""]);
        assert!(timing_diff(&patient, &patient).is_empty());
    }

    /// Goal: each mistake is told at its line and column, an unsafe number with the arithmetic.
    #[test]
    fn mistakes_are_told_where_they_are() {
        #[rustfmt::skip]
        let rows = [
            ("preset = \"lam\"", "1:10: `lam` is not known here; did you mean `lan`?"),
            ("preset = \"lan\"\nlease = \"200ms\"", "2:9: unsafe timing: usable lease 180 ms (90 % of 200 ms) < 2 x heartbeat 100 ms + 30 ms = 230 ms: one lost datagram would drop the addresses; change `lease`"),
            ("preset = \"lan\"\nheartbeat = \"200ms\"", "1:10: unsafe timing: suspicion 300 ms < 3 x heartbeat 200 ms = 600 ms"),
            ("preset = \"lan\"\nleese = \"1s\"", "2:1: unknown key `leese` in the top of the file; did you mean `lease`?"),
            ("preset = \"lan\"\nlease = 300", "2:9: `lease` is an integer; write a duration, such as \"100ms\""),
            ("preset = \"lan\"\nlease = \"2m\"", "2:9: `2m` is longer than a minute"),
            ("preset = \"lan\"\nlease = \"x\"", "2:9: `x` is not a duration"),
            ("heartbeat = \"100ms\"", "1:1: `suspect` is missing in the top of the file; add `suspect = \"300ms\"`"),
        ];
        for (text, words) in rows {
            let told = parse_timing("t", text).unwrap_err();
            let first = told.found()[0].headline();
            assert!(first.starts_with(words), "{text}\n{first}");
        }
        let both = parse_timing("t", "preset = \"lan\"\nheartbeat = \"200ms\"").unwrap_err();
        assert_eq!(both.found().len(), 2, "every broken rule is told: {both}");
    }
}
