//! Loads that this host knows of itself: processor, link, pressure, connections.
//!
//! A rate is the difference of two looks, so the first run of `cpu` and `net` finds nothing yet.
//! `connections` walks all sockets of the host; one walk serves a run, which bounds it to a few ms.

use std::collections::BTreeMap;
use std::net::IpAddr;

use host::clock::boottime_us;
use host::connections::Connections;
use statemachine::LoadKind;

use super::tcp::short;
use crate::judge::{ObjectId, Outcome, Reading};

/// Bytes a second for each Mbit/s of an interface's speed.
const BYTES_OF_MEGABIT: u64 = 125_000;
/// Pressure is told in hundredths of a percent, and full at 100 %.
const FULL_PRESSURE: u64 = 10_000;

/// A counter, its total or the time, at the last look.
type Looked = (u64, u64);

/// What rates are measured against.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    before: BTreeMap<ObjectId, Looked>,
}

impl Gauges {
    /// Forgets objects that are gone.
    pub(super) fn keep(&mut self, is_known: impl Fn(ObjectId) -> bool) {
        self.before.retain(|id, _| is_known(*id));
    }

    /// Reads one load.
    pub(super) fn read(&mut self, id: ObjectId, kind: &LoadKind, of: &[IpAddr]) -> Outcome {
        match kind {
            LoadKind::Cpu => {
                let now = cpu(&file("/proc/stat")?)?;
                let (load, capacity) = self.difference(id, now)?;
                Ok(Reading::Load { load, capacity })
            }
            LoadKind::Net { interface } => {
                let bytes = traffic(&file("/proc/thread-self/net/dev")?, interface)?;
                let (moved, us) = self.difference(id, (bytes, boottime_us()))?;
                let capacity = speed(interface)?.saturating_mul(BYTES_OF_MEGABIT);
                let load = u128::from(moved) * 1_000_000 / u128::from(us.max(1));
                let load = u64::try_from(load).unwrap_or(u64::MAX);
                Ok(Reading::Load { load, capacity })
            }
            LoadKind::Pressure { resource } => Ok(Reading::Load {
                load: pressure(&file(&format!("/proc/pressure/{resource}"))?)?,
                capacity: FULL_PRESSURE,
            }),
            LoadKind::Connections { capacity } => connections(of, *capacity),
            LoadKind::Exec { .. } | LoadKind::Http { .. } => {
                Err("it is looked at elsewhere; please report this".to_owned())
            }
        }
    }

    fn difference(&mut self, id: ObjectId, now: Looked) -> Result<Looked, String> {
        let before = self.before.insert(id, now);
        let (counter, total) = before.ok_or("its first look: a rate needs two")?;
        let passed = now.1.saturating_sub(total);
        if passed == 0 {
            return Err("no time has passed since the last look".to_owned());
        }
        Ok((now.0.saturating_sub(counter), passed))
    }
}

fn file(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{path}: {}", short(&error)))
}

/// Ticks that all processors were busy, and all ticks.
fn cpu(stat: &str) -> Result<Looked, String> {
    let line = stat.lines().find(|line| line.starts_with("cpu "));
    let ticks = line.unwrap_or_default().split_whitespace().skip(1).take(8);
    let ticks: Vec<u64> = ticks.filter_map(|tick| tick.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guests count as user already.
    let [_, _, _, idle, wait, ..] = ticks[..] else {
        return Err("/proc/stat does not tell the processor's time".to_owned());
    };
    let total: u64 = ticks.iter().sum();
    Ok((total - idle - wait, total))
}

/// Bytes that went the busier way.
fn traffic(list: &str, interface: &str) -> Result<u64, String> {
    let mut lines = list.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(name, _)| name.trim() == interface);
    let (_, counters) = found.ok_or_else(|| format!("there is no interface {interface}"))?;
    let counters: Vec<u64> = counters
        .split_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect();
    let way = |at: usize| counters.get(at).copied().unwrap_or(0);
    Ok(way(0).max(way(8)))
}

/// In Mbit/s.
fn speed(interface: &str) -> Result<u64, String> {
    let text = file(&format!("/sys/class/net/{interface}/speed"))?;
    let speed = text.trim().parse::<u64>().ok().filter(|speed| *speed > 0);
    speed.ok_or_else(|| format!("{interface} does not tell its speed"))
}

/// Share of the last ten seconds in which somebody waited, in hundredths of a percent.
fn pressure(text: &str) -> Result<u64, String> {
    let some = text.lines().find(|line| line.starts_with("some "));
    let average = some.and_then(|line| {
        line.split_whitespace()
            .find_map(|word| word.strip_prefix("avg10="))
    });
    let average = average
        .and_then(|number| number.parse::<f64>().ok())
        .filter(|average| (0.0..=100.0).contains(average));
    // Within 0 to 10,000 by the line above.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let hundredths = average.map(|average| (average * 100.0).round() as u64);
    hundredths.ok_or_else(|| "the kernel does not tell the pressure".to_owned())
}

fn connections(of: &[IpAddr], capacity: u64) -> Outcome {
    let list = Connections::open().and_then(|open| open.list(of));
    let list = list.map_err(|error| format!("cannot list connections: {}", short(&error)))?;
    let load = u64::try_from(list.len()).unwrap_or(u64::MAX);
    Ok(Reading::Load { load, capacity })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what the kernel writes is read; what it does not write is told.
    #[test]
    fn the_kernels_tables_are_read() {
        let stat = "cpu  100 5 50 800 45 0 0 0 0 0\ncpu0 1 2 3 4 5\n";
        assert_eq!(cpu(stat), Ok((155, 1_000)));
        assert!(cpu("intr 5").is_err());
        let dev = "Inter-|\n face |bytes\n  eth0: 500 1 0 0 0 0 0 0 900 1 0 0 0 0 0 0\n";
        assert_eq!(traffic(dev, "eth0"), Ok(900));
        assert!(traffic(dev, "eth1").is_err());
        let psi = "some avg10=12.34 avg60=0.00 avg300=0.00 total=1\nfull avg10=1.00\n";
        assert_eq!(pressure(psi), Ok(1_234));
        assert!(pressure("").is_err() && pressure("some avg10=x").is_err());
    }

    /// Goal: a rate is the difference of two looks of the same object.
    #[test]
    fn a_rate_needs_two_looks() {
        let mut gauges = Gauges::default();
        assert!(gauges.difference(ObjectId(1), (10, 100)).is_err());
        assert!(gauges.difference(ObjectId(2), (10, 100)).is_err());
        assert_eq!(gauges.difference(ObjectId(1), (30, 200)), Ok((20, 100)));
        assert!(gauges.difference(ObjectId(1), (30, 200)).is_err());
        gauges.keep(|id| id == ObjectId(2));
        assert!(gauges.difference(ObjectId(1), (30, 300)).is_err());
    }
}
