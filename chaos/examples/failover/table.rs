//! The figures as a Markdown table.

use crate::figures::{Kind, Series, Who};

pub fn of(all: &[Series]) -> String {
    let mut lines = vec![
        "| fault | who, heartbeat | gap, ms: p50 | p99 | max | two owners, ms: most | gaps of others |"
            .to_owned(),
        "| --- | --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    for kind in Kind::ALL {
        for who in Who::ALL {
            let mut found = all.iter();
            let found = found.find(|one| (one.who, one.kind) == (who, kind));
            lines.extend(found.map(row));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn row(series: &Series) -> String {
    let [p50, p99, max] = series.gaps();
    let (kind, who) = (series.kind.name(), series.who.name());
    let dual = match series.dual() {
        (0, _) => "0".to_owned(),
        (dual, false) => format!("**{dual}**"),
        (dual, true) => format!("**{dual} and on**"),
    };
    let others = series.others();
    let others = others.map_or("–".to_owned(), |others| others.to_string());
    format!("| {kind} | {who} | {p50} | {p99} | {max} | {dual} | {others} |")
}
