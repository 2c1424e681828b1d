//! The report of a drill: one page of HTML that needs nothing else, for a person to read. The verdict
//! first, then the figures, the timeline, and each fault with what it cost.

use super::picture::{plain, strips};
use super::{Struck, Told};
use crate::lab::{At, Gap, Report};
use std::fmt::Write;
use std::time::Duration;

const STYLE: &str = "\
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:1200px;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.4rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}svg{width:100%;height:auto;margin:.3rem 0 1rem}\
.good{color:#1a7f37}.bad{color:#d1002a}p.verdict{font-size:1.15rem;font-weight:600;margin:.3rem 0 1rem}\
table{border-collapse:collapse}td,th{padding:.15rem .8rem .15rem 0;text-align:left;vertical-align:top}\
td.n,th.n{text-align:right}tr+tr{border-top:1px solid #8883}.dim{opacity:.7}li{margin:.2rem 0}";

/// The page.
#[must_use]
pub fn page(told: &Told, version: &str) -> String {
    let title = plain(&told.title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>rais chaos: {title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n\
         <h1>rais chaos: {title}</h1>\n"
    );
    verdict(&mut page, told);
    figures(&mut page, told, version);
    let _ = writeln!(
        page,
        "<h2>Who answered when</h2>\n<p class=\"dim\">A lane for each host, in it a line for each address that it answers; \
         colours are homes, v4 above v6. Yellow: a fault, strong while it is at work, pale until all is home and audited. \
         Last lane: nobody answered. Red: two answered at once.</p>"
    );
    for (_, strip) in strips(told) {
        page.push_str(&strip);
    }
    faults(&mut page, told);
    page.push_str("</body></html>\n");
    page
}

fn verdict(page: &mut String, told: &Told) {
    if told.broken.is_empty() {
        let (faults, audits, twice) = (told.struck.len(), told.audits, told.answered_by_two());
        let _ = writeln!(
            page,
            "<p class=\"verdict good\">Passed: {faults} faults, {audits} clean audits, {twice}.</p>"
        );
        return;
    }
    let _ = writeln!(
        page,
        "<p class=\"verdict bad\">Broken:</p>\n<ul class=\"bad\">"
    );
    for one in &told.broken {
        let _ = writeln!(page, "<li>{}</li>", plain(one));
    }
    page.push_str("</ul>\n");
}

fn figures(page: &mut String, told: &Told, version: &str) {
    let report = &told.report;
    let probes: u64 = report.addresses.iter().map(|one| one.seen.probes).sum();
    let answered: u64 = report.addresses.iter().map(|one| one.seen.answered).sum();
    let mut lengths: Vec<Duration> = gaps(report).map(Gap::length).collect();
    lengths.sort_unstable();
    let [p50, p90] = [2, 10].map(|part| {
        lengths
            .get(lengths.len() - lengths.len().div_ceil(part))
            .copied()
    });
    let rows = [
        ("binary", version.to_owned()),
        (
            "lasted",
            format!("{:.0} s", report.ended.since(report.began).as_secs_f64()),
        ),
        (
            "probes (ARP, ND), each 5 ms",
            format!("{probes}, {} unanswered", probes - answered),
        ),
        ("answered by two", report.dual_probes().to_string()),
        (
            "gaps",
            format!(
                "{}; half within {}, nine of ten within {}, longest {}",
                lengths.len(),
                ms(p50),
                ms(p90),
                ms(lengths.last().copied())
            ),
        ),
        (
            "longest time between two probes",
            format!("{:.0} ms", report.coarsest_us as f64 / 1_000.0),
        ),
    ];
    page.push_str("<table>\n");
    for (name, value) in rows {
        let _ = writeln!(page, "<tr><th>{name}</th><td>{}</td></tr>", plain(&value));
    }
    for figure in &told.figures {
        let _ = writeln!(
            page,
            "<tr><th>pass line</th><td>{}</td></tr>",
            plain(figure)
        );
    }
    page.push_str("</table>\n");
}

fn faults(page: &mut String, told: &Told) {
    page.push_str(
        "<h2>Faults</h2>\n<table>\n<tr><th class=\"n\">#</th><th class=\"n\">at</th><th>fault</th>\
         <th class=\"n\">longest gap</th><th class=\"n\">home and audited after</th></tr>\n",
    );
    for (number, one) in (1..).zip(&told.struck) {
        let at = one.began.since(told.report.began).as_secs_f64();
        let _ = writeln!(
            page,
            "<tr><td class=\"n\">{number}</td><td class=\"n\">{at:.1} s</td><td>{}{}</td><td class=\"n\">{}</td><td class=\"n\">{:.1} s</td></tr>",
            plain(&one.what),
            if one.hides {
                " <span class=\"dim\">(addresses out of reach)</span>"
            } else {
                ""
            },
            ms(longest(&told.report, one)),
            one.ended.since(one.undone).as_secs_f64()
        );
    }
    page.push_str("</table>\n");
}

fn gaps(report: &Report) -> impl Iterator<Item = &Gap> {
    let all = report.addresses.iter().flat_map(|one| &one.seen.gaps);
    // What is open is a question still on its way.
    all.filter(|gap| !gap.open)
}

fn longest(report: &Report, one: &Struck) -> Option<Duration> {
    let during = |from: At, to: At| from <= one.ended && to >= one.began;
    let hit = gaps(report).filter(|gap| during(gap.from, gap.to));
    hit.map(Gap::length).max()
}

fn ms(length: Option<Duration>) -> String {
    length.map_or_else(
        || "none".to_owned(),
        |length| format!("{} ms", length.as_millis()),
    )
}
