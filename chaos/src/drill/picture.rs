//! The timeline of a drill: one strip for each minute. A lane for each host, in it a line for each address
//! that it answers, so that a failover is a bar that goes on in another lane. Faults are bands with
//! their number, in the lanes of whom they hit; below are the gaps, and in red two answers at once.
//!
//! SVG without scripts, by day and by night.

use super::{Struck, Told};
use crate::lab::At;
use std::fmt::Write;
use std::time::Duration;

/// What one strip shows, in s, more or less: all are of one length.
const STRIP_S: u64 = 60;
const WIDTH: f64 = 1_160.0;
/// Where time begins, behind the names of the lanes.
const LEFT: f64 = 74.0;
/// An address's line in a lane, and the space between lanes.
const LINE: f64 = 5.0;
const SPACE: f64 = 9.0;
/// Room for the numbers of faults, and for the seconds.
const TOP: f64 = 22.0;
const BOTTOM: f64 = 18.0;
/// Whatever is shorter is drawn this wide.
const SEEN: f64 = 1.5;
/// Seconds between two marks.
const MARK_S: u64 = 5;

const STYLE: &str = "\
text{font:11px system-ui,sans-serif;fill:#57606a}.who{font-weight:600;fill:#24292f}.num{font-size:10px;fill:#8a5a00}\
.lane{fill:#f3f5f8}.grid{stroke:#d0d7de;stroke-width:.6}.fault{fill:#f5b700;fill-opacity:.28}.rest{fill:#f5b700;fill-opacity:.1}\
.gap{fill:#24292f}.two{fill:#e5002b}\
.a0{fill:#1f77b4}.a1{fill:#2a9d5c}.a2{fill:#9467bd}.a3{fill:#d0742a}.a4{fill:#17869c}.a5{fill:#8c6d31}.a6{fill:#c2569b}.a7{fill:#5a6f8c}\
@media (prefers-color-scheme:dark){text{fill:#9aa4af}.who{fill:#e6edf3}.num{fill:#f5c842}.lane{fill:#1b2027}.grid{stroke:#39424d}\
.gap{fill:#e6edf3}.two{fill:#ff3b5c}}";
/// Colours of addresses, one for each home.
const COLOURS: usize = 8;

/// One strip after the other, all of one length: with each the seconds from the start that it begins at.
#[must_use]
pub fn strips(told: &Told) -> Vec<(u64, String)> {
    let length = told.report.ended.since(told.report.began);
    let length = length.as_secs().max(1);
    let count = ((length + STRIP_S / 2) / STRIP_S).max(1);
    let span = length.div_ceil(count);
    let one = |number: u64| {
        let from = number * span;
        let strip = Strip {
            told,
            from: told.report.began.after(Duration::from_secs(from)),
            span: Duration::from_secs(span),
        };
        (from, strip.draw())
    };
    (0..count).map(one).collect()
}

struct Strip<'a> {
    told: &'a Told,
    from: At,
    span: Duration,
}

impl Strip<'_> {
    fn draw(&self) -> String {
        let mut body = String::new();
        let bottom = self.lane_top(usize::from(self.told.hosts) + 1);
        self.lanes(&mut body);
        let all = (1..).zip(&self.told.struck);
        all.for_each(|(number, one)| self.fault(&mut body, number, one, bottom));
        self.grid(&mut body, bottom);
        self.bars(&mut body);
        let height = bottom + BOTTOM;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\">\n\
             <title>Which host answered for which address, and the faults meanwhile</title>\n\
             <style>{STYLE}</style>\n{body}</svg>\n"
        )
    }

    fn lane_height(&self) -> f64 {
        LINE * count(self.told.report.addresses.len())
    }

    /// Lanes count from 0; the last one is that of nobody.
    fn lane_top(&self, lane: usize) -> f64 {
        TOP + count(lane) * (self.lane_height() + SPACE)
    }

    /// Where a moment is, within the strip.
    fn x(&self, at: At) -> f64 {
        let part = at.since(self.from).as_secs_f64() / self.span.as_secs_f64();
        LEFT + part.min(1.0) * (WIDTH - LEFT)
    }

    /// Left end and width, if any of it is in the strip.
    fn bar(&self, from: At, to: At) -> Option<(f64, f64)> {
        let end = self.from.after(self.span);
        let visible = from < end && to >= self.from;
        let left = self.x(from);
        visible.then(|| (left, (self.x(to) - left).max(SEEN).min(WIDTH - left)))
    }

    fn lanes(&self, body: &mut String) {
        let names = (1..=self.told.hosts).map(|host| format!("h{host}"));
        for (lane, name) in names.chain(["no answer".to_owned()]).enumerate() {
            let (top, height) = (self.lane_top(lane), self.lane_height());
            let (width, middle) = (WIDTH - LEFT, top + height / 2.0 + 4.0);
            let _ = writeln!(
                body,
                "<rect class=\"lane\" x=\"{LEFT}\" y=\"{top:.1}\" width=\"{width}\" height=\"{height:.1}\"/>\
                 <text class=\"who\" x=\"0\" y=\"{middle:.1}\">{name}</text>"
            );
        }
    }

    fn fault(&self, body: &mut String, number: usize, one: &Struck, bottom: f64) {
        let bands = [
            ("fault", one.began, one.undone),
            ("rest", one.undone, one.ended),
        ];
        for (class, from, to) in bands {
            let Some((x, width)) = self.bar(from, to) else {
                continue;
            };
            let lanes: Vec<(f64, f64)> = match one.hosts.as_slice() {
                [] => vec![(TOP, bottom - TOP - SPACE)],
                hosts => hosts
                    .iter()
                    .map(|host| {
                        (
                            self.lane_top(usize::from(*host).saturating_sub(1)) - 2.0,
                            self.lane_height() + 4.0,
                        )
                    })
                    .collect(),
            };
            for (y, height) in lanes {
                let _ = writeln!(
                    body,
                    "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>{number}: {}</title></rect>",
                    plain(&one.what)
                );
            }
        }
        if let Some((x, _)) = self.bar(one.began, one.began) {
            let _ = writeln!(
                body,
                "<text class=\"num\" x=\"{x:.1}\" y=\"14\">{number}</text>"
            );
        }
    }

    fn grid(&self, body: &mut String, bottom: f64) {
        let begins = self.from.since(self.told.report.began).as_secs();
        for second in (0..=self.span.as_secs()).step_by(usize::try_from(MARK_S).unwrap_or(1)) {
            let x = self.x(self.from.after(Duration::from_secs(second)));
            let (y, anchor) = (bottom + 10.0, if second == 0 { "start" } else { "end" });
            let _ = writeln!(
                body,
                "<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom:.1}\"/><text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{} s</text>",
                begins + second
            );
        }
    }

    fn bars(&self, body: &mut String) {
        for (row, one) in self.told.report.addresses.iter().enumerate() {
            // v4 and v6 of one home stand side by side.
            let colour = format!("a{}", row / 2 % COLOURS);
            let mut put = |class: &str, lane: usize, from: At, to: At, what: &str| {
                let Some((x, width)) = self.bar(from, to) else {
                    return;
                };
                let (y, height) = (self.lane_top(lane) + LINE * count(row), LINE - 1.0);
                let _ = writeln!(
                    body,
                    "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height}\"><title>{} {what}, {:.3} s</title></rect>",
                    one.address,
                    to.since(from).as_secs_f64()
                );
            };
            for tenure in &one.seen.tenures {
                let host = tenure
                    .host
                    .strip_prefix('h')
                    .and_then(|number| number.parse::<usize>().ok());
                if let Some(host) = host.filter(|host| *host <= usize::from(self.told.hosts)) {
                    put(&colour, host - 1, tenure.from, tenure.to, &tenure.host);
                }
            }
            let nobody = usize::from(self.told.hosts);
            for gap in one.seen.gaps.iter().filter(|gap| !gap.open) {
                put("gap", nobody, gap.from, gap.to, "nobody");
            }
            for dual in &one.seen.duals {
                for lane in 0..=nobody {
                    put("two", lane, dual.from, dual.to, &dual.hosts.join(" and "));
                }
            }
        }
    }
}

fn count(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Text as it may stand in SVG and HTML.
pub(super) fn plain(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{AddressReport, Intervals, Probe, Report, Who};

    /// Probes 5 ms apart: `.` nobody, a digit that host, `x` hosts 1 and 2.
    fn told(pattern: &str, what: &str) -> Told {
        let who = |c| match c {
            '.' => Who::NOBODY,
            'x' => Who::host(1).and(Who::host(2)),
            digit => Who::host(digit as u8 - b'0'),
        };
        let at = |n: u64| At(1_000_000 + n * 5_000);
        let probes: Vec<Probe> = (0..)
            .zip(pattern.chars())
            .map(|(n, c)| Probe {
                at: at(n),
                who: who(c),
            })
            .collect();
        Told {
            title: what.to_owned(),
            hosts: 2,
            struck: vec![Struck {
                what: what.to_owned(),
                hosts: vec![1],
                hides: false,
                doubles: false,
                began: at(2),
                undone: at(4),
                ended: at(8),
            }],
            audits: 1,
            figures: Vec::new(),
            report: Report {
                began: at(0),
                ended: at(u64::try_from(pattern.len()).unwrap()),
                addresses: vec![AddressReport {
                    address: "10.77.0.101".parse().unwrap(),
                    seen: Intervals::of(&probes),
                }],
                ..Report::default()
            },
            broken: Vec::new(),
        }
    }

    /// How often `part` is in the only strip, outside of its style.
    fn drawn(told: &Told, part: &str) -> usize {
        let all = strips(told);
        assert_eq!(all.len(), 1);
        all[0]
            .1
            .split("</style>")
            .nth(1)
            .unwrap()
            .matches(part)
            .count()
    }

    /// Goal: a person sees who answered, who did not, and two at once.
    /// Method: a move with a gap; the same with two answers in every lane; words that are no markup.
    #[test]
    fn a_strip_shows_tenures_gaps_and_two_answers() {
        let moved = told("111...222", "kill <h1> & co");
        let bars = ["class=\"a0\"", "class=\"gap\"", "class=\"two\""];
        assert_eq!(bars.map(|bar| drawn(&moved, bar)), [2, 1, 0]);
        assert_eq!(drawn(&moved, "1: kill &lt;h1&gt; &amp; co"), 2);
        let two = told("111x22222", "x");
        assert_eq!(bars.map(|bar| drawn(&two, bar)), [2, 0, 3]);
    }

    /// Goal: a long drill stays readable: a strip for each minute, and none nearly empty.
    /// Method: 125 s.
    #[test]
    fn each_minute_has_a_strip_of_its_own() {
        let told = told(&"1".repeat(25_000), "x");
        let from: Vec<u64> = strips(&told).into_iter().map(|(from, _)| from).collect();
        assert_eq!(from, [0, 63]);
    }
}
