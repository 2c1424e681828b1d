//! The figures as a picture: for each fault the gap of each contender, and in a loud colour the time
//! with two owners. SVG without scripts, on any background, by day and by night.

use crate::figures::{Kind, Series, Who};
use std::fmt::Write;

const WIDTH: u32 = 800;
/// Where the bars begin and end.
const LEFT: f64 = 215.0;
const RIGHT: f64 = 585.0;
const TOP: u32 = 74;
/// A contender's line, and the space behind those of one fault.
const LINE: u32 = 19;
const SPACE: u32 = 13;
/// The scale is logarithmic, from and to these, in ms.
const FROM: f64 = 5.0;
const TO: f64 = 10_000.0;
const TICKS: [(f64, &str); 4] = [
    (10.0, "10 ms"),
    (100.0, "100 ms"),
    (1_000.0, "1 s"),
    (10_000.0, "10 s"),
];

const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#24292f}.small{font-size:11.5px}.dim{fill:#6a737d}\
.title{font-size:16px;font-weight:600}.grid{stroke:#d0d7de;stroke-width:1}\
.rais{fill:#1a7f5a}.k100{fill:#8a94a3}.k1{fill:#b9c0ca}.line{stroke:#57606a;stroke-width:1.5}\
.two{fill:#e5002b}tspan.two{fill:#d1002a;font-weight:600}\
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.dim{fill:#9aa4af}.grid{stroke:#3a424c}\
.rais{fill:#35c48f}.k100{fill:#7d8795}.k1{fill:#59626e}.line{stroke:#c0c8d0}\
.two{fill:#ff3b5c}tspan.two{fill:#ff6b84}}";

pub fn of(all: &[Series]) -> String {
    let find = |who, kind| {
        let mut found = all.iter();
        found.find(|one| (one.who, one.kind) == (who, kind))
    };
    let mut body = String::new();
    let mut y = TOP;
    for kind in Kind::ALL {
        let lines: Vec<&Series> = Who::ALL.iter().filter_map(|who| find(*who, kind)).collect();
        if lines.is_empty() {
            continue;
        }
        let _ = writeln!(
            body,
            "<text x=\"0\" y=\"{}\">{}</text>",
            y + 13,
            kind.name()
        );
        for series in lines {
            line(&mut body, series, y);
            y += LINE;
        }
        y += SPACE;
    }
    let runs = all.iter().map(|series| series.runs.len()).max();
    let (head, grid) = (head(runs.unwrap_or_default()), grid(y));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"-12 0 {} {}\" role=\"img\">\n\
         <title>Failover of rais and keepalived: how long an address is not answered, and how long \
         two hosts answer it</title>\n<style>{STYLE}</style>\n{head}{grid}{body}</svg>\n",
        WIDTH + 24,
        y + 26,
    )
}

fn head(runs: usize) -> String {
    let mut head = "<text class=\"title\" x=\"0\" y=\"20\">How long a service address is not \
                    answered</text>\n"
        .to_owned();
    let legend = [
        ("rais", 0, "rais, heartbeat 100 ms"),
        ("k100", 165, "keepalived, 100 ms"),
        ("k1", 310, "keepalived, 1 s (default)"),
        ("two", 485, "two hosts answer at once"),
    ];
    for (class, x, text) in legend {
        let at = x + 16;
        let _ = writeln!(
            head,
            "<rect class=\"{class}\" x=\"{x}\" y=\"35\" width=\"11\" height=\"11\" rx=\"2\"/>\
             <text class=\"small\" x=\"{at}\" y=\"45\">{text}</text>"
        );
    }
    let _ = writeln!(
        head,
        "<text class=\"small dim\" x=\"{WIDTH}\" y=\"20\" text-anchor=\"end\">bar: median of {runs} \
         runs; line: the worst; logarithmic</text>"
    );
    head
}

fn grid(bottom: u32) -> String {
    let mut grid = String::new();
    for (ms, name) in TICKS {
        let x = place(ms);
        let _ = writeln!(
            grid,
            "<path class=\"grid\" d=\"M{x:.1} {}V{bottom}\"/><text class=\"small dim\" x=\"{x:.1}\" \
             y=\"{}\" text-anchor=\"middle\">{name}</text>",
            TOP - 8,
            bottom + 15
        );
    }
    grid
}

fn line(body: &mut String, series: &Series, y: u32) {
    let class = match series.who {
        Who::Rais => "rais",
        Who::Keepalived100ms => "k100",
        Who::Keepalived1s => "k1",
    };
    let [p50, _, max] = series.gaps();
    let (dual, on) = series.dual();
    let height = if dual > 0 { 6 } else { LINE - 6 };
    let mut end = LEFT;
    if max > 0 {
        let (middle, most) = (place(ms(p50)), place(ms(max)));
        end = most;
        let (width, across) = (middle - LEFT, y + height / 2 + 1);
        let _ = writeln!(
            body,
            "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{}\" width=\"{width:.1}\" height=\"{height}\" \
             rx=\"1.5\"/><path class=\"line\" d=\"M{middle:.1} {across}H{most:.1}\"/>",
            y + 1
        );
    }
    if dual > 0 {
        let (top, height) = if max > 0 {
            (y + 9, 7)
        } else {
            (y + 1, LINE - 6)
        };
        let most = place(ms(dual));
        end = end.max(most);
        let _ = writeln!(
            body,
            "<rect class=\"two\" x=\"{LEFT}\" y=\"{top}\" width=\"{:.1}\" height=\"{height}\" rx=\"1.5\"/>",
            most - LEFT
        );
    }
    let gap = if max == 0 {
        "no gap".to_owned()
    } else {
        format!("{p50} ms, worst {max}")
    };
    let at = end + 7.0;
    let _ = write!(
        body,
        "<text class=\"small\" x=\"{at:.1}\" y=\"{}\">{gap}",
        y + 12
    );
    if dual > 0 {
        let on = if on { " and on" } else { "" };
        let _ = write!(
            body,
            "<tspan class=\"two\" dx=\"8\">two owners: {dual} ms{on}</tspan>"
        );
    }
    let _ = writeln!(body, "</text>");
}

/// Where `ms` is on the scale.
fn place(ms: f64) -> f64 {
    let part = (ms.clamp(FROM, TO) / FROM).ln() / (TO / FROM).ln();
    LEFT + part * (RIGHT - LEFT)
}

fn ms(ms: u64) -> f64 {
    f64::from(u32::try_from(ms).unwrap_or(u32::MAX))
}
