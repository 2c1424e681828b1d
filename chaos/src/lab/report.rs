//! What the observer saw, as intervals: gaps, dual answers, tenures. Pure arithmetic over probes.
//!
//! A *probe* is one broadcast frame; every host on the switch gets it within microseconds, if it is not kept
//! from running. So:
//! - **dual**: one and the same frame was answered by two or more hosts, promptly (`observer::LATE`).
//! - **gap**: from the last answered probe to the next answered one, with at least one unanswered
//!   between. So a gap is never told too short, and too long by less than two probe intervals.
//! - **tenure**: a run of probes answered by one host alone.
//!
//! Limits: a dual instant between two probes is not seen (5 ms); where answers are lost on purpose
//! (30 % loss) a dual probe shows with 49 %, so duals that last are seen and short ones may not be.

use super::clock::At;
use super::net::host_name;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Dual probes with at most this many others between them are one interval: answers get lost.
const JOIN: usize = 4;
/// The bit of whoever answered with an Ethernet address that is none of the lab's hosts'.
const STRANGER: u32 = 31;

/// A set of hosts, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Who(u32);

impl Who {
    /// Nobody.
    pub const NOBODY: Who = Who(0);

    /// Host `host` alone; a number above 30 or 0 is a stranger.
    #[must_use]
    pub const fn host(host: u8) -> Who {
        match host {
            1..31 => Who(1 << host),
            _ => Who(1 << STRANGER),
        }
    }

    /// One whose Ethernet address is none of the hosts'.
    pub const STRANGER: Who = Who(1 << STRANGER);

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Who) -> Who {
        Who(self.0 | other.0)
    }

    /// How many they are.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Their names, in order; `stranger` last.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        let name = |bit: u32| match u8::try_from(bit) {
            Ok(host) if bit != STRANGER => host_name(host),
            _ => "stranger".to_owned(),
        };
        let bits = (0..32).filter(|bit| self.0 >> bit & 1 == 1);
        bits.map(name).collect()
    }
}

/// One probe and who answered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// When it was sent.
    pub at: At,
    /// Who answered.
    pub who: Who,
}

/// A time without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The last answered probe before it.
    pub from: At,
    /// The first answered probe after it; the last probe of all if it never ended.
    pub to: At,
    /// Unanswered probes.
    pub lost: u64,
    /// Whether it lasted to the end of the observation.
    pub open: bool,
}

impl Gap {
    /// How long it lasted.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.to.since(self.from)
    }
}

/// A time with two or more hosts answering the same probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dual {
    /// The first dual probe.
    pub from: At,
    /// The last dual probe.
    pub to: At,
    /// How many probes were dual.
    pub probes: u64,
    /// All who answered dual probes.
    pub hosts: Vec<String>,
}

/// A time in which one host alone answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tenure {
    /// Who.
    pub host: String,
    /// Its first answered probe.
    pub from: At,
    /// Its last answered probe of this run.
    pub to: At,
    /// Answered probes.
    pub probes: u64,
}

/// What was seen of one address, by ARP or neighbour discovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AddressReport {
    /// The address.
    pub address: IpAddr,
    /// What its probes say.
    #[serde(flatten)]
    pub seen: Intervals,
}

/// What was seen of one TCP endpoint: the time of a probe is when its connection was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointReport {
    /// The endpoint.
    pub endpoint: SocketAddr,
    /// What its probes say. Tenures and answers name hosts only where HTTP answers do.
    #[serde(flatten)]
    pub seen: Intervals,
}

/// Intervals of one target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Intervals {
    /// Probes sent.
    pub probes: u64,
    /// Probes answered by anyone.
    pub answered: u64,
    /// Answered probes of each host.
    pub answers: BTreeMap<String, u64>,
    /// Times without an answer, after the first one.
    pub gaps: Vec<Gap>,
    /// Times with two.
    pub duals: Vec<Dual>,
    /// Who answered when.
    pub tenures: Vec<Tenure>,
}

/// An announcement that nobody asked for: a gratuitous ARP, an unsolicited advertisement, an ARP
/// request from the address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// When it was read.
    pub at: At,
    /// The address claimed.
    pub address: IpAddr,
    /// By whom.
    pub host: String,
}

/// All that an observer saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// When the first probe was sent.
    pub began: At,
    /// When it ended.
    pub ended: At,
    /// Longest time between two probes of one address, in microseconds: how exact the times are.
    pub coarsest_us: u64,
    /// Each address.
    pub addresses: Vec<AddressReport>,
    /// Each TCP endpoint.
    pub endpoints: Vec<EndpointReport>,
    /// Announcements, in order; at most `observer::MAX_CLAIMS`.
    pub claims: Vec<Claim>,
    /// Answers beside another host's that came too late to show two owners.
    pub late: u64,
}

impl Report {
    /// What was seen of `address`; nothing if it was not watched.
    #[must_use]
    pub fn address(&self, address: IpAddr) -> Option<&Intervals> {
        let mut all = self.addresses.iter();
        all.find(|a| a.address == address).map(|a| &a.seen)
    }

    /// What was seen of the TCP endpoint `endpoint`.
    #[must_use]
    pub fn endpoint(&self, endpoint: SocketAddr) -> Option<&Intervals> {
        let mut all = self.endpoints.iter();
        all.find(|e| e.endpoint == endpoint).map(|e| &e.seen)
    }

    /// How many probes, of all addresses, were answered by two hosts: the law wants none.
    #[must_use]
    pub fn dual_probes(&self) -> u64 {
        let duals = self.addresses.iter().flat_map(|a| &a.seen.duals);
        duals.map(|dual| dual.probes).sum()
    }

    /// Announcements of an address made while another host went on to answer for it.
    pub fn trespasses(&self) -> impl Iterator<Item = &Claim> {
        let inside = |claim: &&Claim| {
            let seen = self.address(claim.address);
            let mut tenures = seen.into_iter().flat_map(|seen| &seen.tenures);
            tenures.any(|one| one.host != claim.host && one.from < claim.at && claim.at < one.to)
        };
        self.claims.iter().filter(inside)
    }

    /// The report as JSON. Times are microseconds of CLOCK_BOOTTIME.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl Intervals {
    /// Computes the intervals of `probes`, which are in the order they were sent in.
    #[must_use]
    pub fn of(probes: &[Probe]) -> Self {
        let mut answers = BTreeMap::new();
        for name in probes.iter().flat_map(|probe| probe.who.names()) {
            *answers.entry(name).or_insert(0) += 1;
        }
        let answered = probes.iter().filter(|p| p.who.count() > 0).count();
        Self {
            probes: probes.len() as u64,
            answered: answered as u64,
            answers,
            gaps: gaps(probes),
            duals: duals(probes),
            tenures: tenures(probes),
        }
    }

    /// The longest gap that ends after `at`: what a fault at `at` cost. None if nothing was missed.
    #[must_use]
    pub fn gap_after(&self, at: At) -> Option<Gap> {
        let after = self.gaps.iter().filter(|gap| gap.to > at);
        after.copied().max_by_key(Gap::length)
    }

    /// From the first to the last dual probe at or after `at`: zero if there was none or only one.
    #[must_use]
    pub fn dual_after(&self, at: At) -> Duration {
        let after = || self.duals.iter().filter(|dual| dual.to >= at);
        match (after().next(), after().next_back()) {
            (Some(first), Some(last)) => last.to.since(first.from),
            _ => Duration::ZERO,
        }
    }

    /// When host `host` answered alone for the first time after `at`.
    #[must_use]
    pub fn taken_by(&self, host: &str, at: At) -> Option<At> {
        let mut after = self.tenures.iter();
        let found = after.find(|tenure| tenure.host == host && tenure.from > at);
        found.map(|tenure| tenure.from)
    }
}

fn gaps(probes: &[Probe]) -> Vec<Gap> {
    let mut found = Vec::new();
    let mut last: Option<At> = None;
    let mut lost = 0;
    for probe in probes {
        if probe.who.count() == 0 {
            lost += u64::from(last.is_some());
            continue;
        }
        if let Some(from) = last.filter(|_| lost > 0) {
            let (to, open) = (probe.at, false);
            found.push(Gap {
                from,
                to,
                lost,
                open,
            });
        }
        (last, lost) = (Some(probe.at), 0);
    }
    if let (Some(from), Some(end)) = (last.filter(|_| lost > 0), probes.last()) {
        let (to, open) = (end.at, true);
        found.push(Gap {
            from,
            to,
            lost,
            open,
        });
    }
    found
}

fn duals(probes: &[Probe]) -> Vec<Dual> {
    let mut runs: Vec<(usize, usize, u64, Who)> = Vec::new();
    let all = probes.iter().enumerate();
    for (index, probe) in all.filter(|(_, probe)| probe.who.count() > 1) {
        match runs.last_mut() {
            Some((_, to, count, who)) if index - *to <= JOIN + 1 => {
                (*to, *count, *who) = (index, *count + 1, who.and(probe.who));
            }
            _ => runs.push((index, index, 1, probe.who)),
        }
    }
    let at = |index: usize| probes.get(index).map_or(At::default(), |probe| probe.at);
    let dual = |(from, to, probes, who): (usize, usize, u64, Who)| Dual {
        from: at(from),
        to: at(to),
        probes,
        hosts: who.names(),
    };
    runs.into_iter().map(dual).collect()
}

/// A probe that nobody or several answered ends no tenure; another host's answer does.
fn tenures(probes: &[Probe]) -> Vec<Tenure> {
    let mut found: Vec<(Who, Tenure)> = Vec::new();
    for probe in probes.iter().filter(|probe| probe.who.count() == 1) {
        match found.last_mut() {
            Some((who, tenure)) if *who == probe.who => {
                tenure.to = probe.at;
                tenure.probes += 1;
            }
            _ => {
                let host = probe.who.names().concat();
                let (from, to) = (probe.at, probe.at);
                let tenure = Tenure {
                    host,
                    from,
                    to,
                    probes: 1,
                };
                found.push((probe.who, tenure));
            }
        }
    }
    found.into_iter().map(|(_, tenure)| tenure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probes 5 ms apart: `.` nobody, a digit that host, `x` hosts 1 and 2, `?` a stranger.
    fn seen(pattern: &str) -> Intervals {
        let who = |c| match c {
            '.' => Who::NOBODY,
            'x' => Who::host(1).and(Who::host(2)),
            '?' => Who::STRANGER,
            digit => Who::host(digit as u8 - b'0'),
        };
        let probe = |(i, c)| Probe {
            at: At(1_000_000 + i as u64 * 5_000),
            who: who(c),
        };
        Intervals::of(&pattern.chars().enumerate().map(probe).collect::<Vec<_>>())
    }

    fn at(probe: u64) -> At {
        At(1_000_000 + probe * 5_000)
    }

    /// Goal: a gap reaches from answer to answer, so that it is never told too short.
    /// Method: silence before the first answer, one lost probe, a move, silence to the end.
    #[test]
    fn gap_reaches_from_the_last_answer_to_the_next() {
        let seen = seen("..11.11....22..");
        let gap = |from, to, lost, open| Gap {
            from: at(from),
            to: at(to),
            lost,
            open,
        };
        let expected = [
            gap(3, 5, 1, false),
            gap(6, 11, 4, false),
            gap(12, 14, 2, true),
        ];
        assert_eq!(seen.gaps, expected);
        assert_eq!(seen.gap_after(at(5)), Some(gap(6, 11, 4, false)));
        assert_eq!(seen.gap_after(at(14)), None);
        assert_eq!((seen.probes, seen.answered), (15, 6));
        assert_eq!(seen.gaps[1].length(), Duration::from_millis(25));
    }

    /// Goal: nothing seen, nothing told; an address never answered has no gap but no answer.
    /// Method: no probes; silence only.
    #[test]
    fn address_that_nobody_ever_had_has_no_gaps_and_no_tenures() {
        assert_eq!(seen(""), Intervals::default());
        let silent = seen("....");
        assert_eq!((silent.probes, silent.answered), (4, 0));
        assert!(silent.gaps.is_empty() && silent.tenures.is_empty());
    }

    /// Goal: dual means two answers to one probe; a hand-over without overlap is none.
    /// Method: a clean move, then a move with overlap, interrupted by lost answers.
    #[test]
    fn dual_is_two_answers_to_one_probe_and_lost_answers_do_not_split_it() {
        assert_eq!(seen("111222").duals, []);
        let seen = seen("11xx1..x22......x");
        let hosts = || vec!["h1".to_owned(), "h2".to_owned()];
        let dual = |from, to, probes| Dual {
            from: at(from),
            to: at(to),
            probes,
            hosts: hosts(),
        };
        assert_eq!(seen.duals, [dual(2, 7, 3), dual(16, 16, 1)]);
        assert_eq!(seen.dual_after(at(0)), Duration::from_millis(70));
        assert_eq!(seen.dual_after(at(8)), Duration::ZERO);
        assert_eq!(seen.answers["h1"], 7);
        assert_eq!(seen.answers["h2"], 6);
    }

    /// Goal: who served when can be read off, strangers included.
    /// Method: two hosts with a gap, a dual probe in a tenure, a stranger.
    #[test]
    fn tenures_tell_who_served_when() {
        let seen = seen("11.1x1..22?");
        let hosts: Vec<_> = seen.tenures.iter().map(|t| t.host.as_str()).collect();
        assert_eq!(hosts, ["h1", "h2", "stranger"]);
        let first = &seen.tenures[0];
        assert_eq!((first.from, first.to, first.probes), (at(0), at(5), 4));
        assert_eq!(seen.taken_by("h2", at(3)), Some(at(8)));
        assert_eq!(seen.taken_by("h1", at(3)), None);
    }

    /// Goal: an announcement inside of another host's time is told, one at a hand-over is not.
    /// Method: h1 answers, then h2; h2 announces before, at and after, h1 after.
    #[test]
    fn an_announcement_while_another_host_serves_is_a_trespass() {
        let address = "10.77.0.101".parse().unwrap();
        let claim = |probe, host: &str| Claim {
            at: at(probe),
            address,
            host: host.to_owned(),
        };
        let (early, late) = (claim(1, "h2"), claim(6, "h1"));
        let claims = vec![early.clone(), claim(3, "h2"), claim(6, "h2"), late.clone()];
        let seen = seen("111.2222");
        let report = Report {
            addresses: vec![AddressReport { address, seen }],
            claims,
            ..Report::default()
        };
        assert_eq!(report.trespasses().collect::<Vec<_>>(), [&early, &late]);
    }

    /// Goal: the JSON of a report is what tools read.
    /// Method: one address, looked at through a parser.
    #[test]
    fn report_is_json() {
        let address = "10.77.0.101".parse().unwrap();
        let report = Report {
            began: at(0),
            ended: at(4),
            coarsest_us: 5_000,
            addresses: vec![AddressReport {
                address,
                seen: seen("1.2x"),
            }],
            endpoints: vec![],
            claims: vec![],
            late: 0,
        };
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        let first = &json["addresses"][0];
        assert_eq!(first["address"], "10.77.0.101");
        assert_eq!(first["gaps"][0]["from"], 1_000_000);
        assert_eq!(first["duals"][0]["hosts"][1], "h2");
        assert_eq!(report.dual_probes(), 1);
    }
}
