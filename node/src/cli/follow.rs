//! Shows how a zone is followed: the last part of `rais zone`.

use super::style::{Style, Tone};
use super::table::{Cell, cell, clean, optional, table, toned};
use crate::api::{FollowedReport, SecondaryReport};

/// Who follows the zone and what each was told; nothing for a zone that nobody may follow.
pub fn followed(report: Option<&FollowedReport>, style: Style) -> String {
    let Some(report) = report else {
        return String::new();
    };
    let mut out = String::from("\n");
    let key = clean(report.key.as_deref().unwrap_or_default());
    if report.lacks_key {
        let words = format!(
            "this host has no key `{key}`, so it gives the zone to nobody: add it as [[dns.key]] to rais.toml and start the daemon again"
        );
        out.push_str(&style.paint(Tone::Bad, &words));
        out.push('\n');
    }
    let allow: Vec<String> = report.allow.iter().map(|one| clean(one)).collect();
    let whence = match (allow.is_empty(), report.key.is_some()) {
        (true, true) => "from anywhere".to_owned(),
        (true, false) => "to nobody: neither `allow` nor `tsig` is given".to_owned(),
        (false, _) => format!("to {}", allow.join(" ")),
    };
    let signed = match report.key.is_some() {
        true => format!(", signed with {key}"),
        false => String::new(),
    };
    out.push_str(&format!("given {whence}{signed}\n"));
    let rows: Vec<Vec<Cell>> = report.secondaries.iter().map(row).collect();
    let header = [
        "SECONDARY",
        "HAS HEARD OF",
        "IS TOLD OF",
        "TRIES",
        "TROUBLE",
    ];
    out.push_str(&table(&header, &rows, "nobody is told of changes", style));
    out
}

fn row(one: &SecondaryReport) -> Vec<Cell> {
    let trouble = one.trouble.as_ref().map(|words| toned(Tone::Warn, words));
    vec![
        cell(one.address.to_string()),
        optional(one.acknowledged),
        optional(one.telling),
        cell(one.attempts.to_string()),
        trouble.unwrap_or_else(|| optional(None::<u32>)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: people see who follows, what each was told, and what is missing.
    /// Method: a zone that nobody follows, one with a silent secondary, one whose key is missing.
    #[test]
    fn people_see_who_follows() {
        let style = Style::PLAIN;
        assert_eq!(followed(None, style), "");
        let mut report = FollowedReport {
            key: Some("xfer-key".to_owned()),
            lacks_key: false,
            allow: vec!["10.77.0.53".to_owned()],
            secondaries: vec![SecondaryReport {
                address: ([10, 77, 0, 53], 53).into(),
                acknowledged: Some(16),
                telling: Some(17),
                attempts: 3,
                trouble: Some("no answer".to_owned()),
            }],
        };
        let shown = followed(Some(&report), style);
        for words in [
            "given to 10.77.0.53, signed with xfer-key",
            "10.77.0.53:53  16",
            "no answer",
        ] {
            assert!(shown.contains(words), "{words} in {shown}");
        }
        report.lacks_key = true;
        assert!(followed(Some(&report), style).contains("has no key `xfer-key`"));
    }
}
