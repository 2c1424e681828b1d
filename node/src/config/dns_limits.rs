//! What this host's name server may use and how often it says the same: `[dns]` and `[dns.rate]`.
//!
//! In the host's file, since they depend on the machine and on who asks it. What isn't given is as
//! [`dns::Settings`] has it; ranges are those in which the server was tested.

use std::fmt::Write as _;
use std::num::NonZeroUsize;

use dns::RateLimit;

use super::diagnostic::Report;
use super::section::Section;

/// Keys of `[dns.rate]`.
const RATE: [&str; 7] = [
    "enabled",
    "answers",
    "negative",
    "errors",
    "slip",
    "ipv4_prefix",
    "ipv6_prefix",
];
/// UDP threads: as many as a network card of a large host has queues.
const THREADS: std::ops::RangeInclusive<u64> = 1..=64;
/// TCP connections: each costs a descriptor and some 10 KiB; 10,000 were tried.
const CONNECTIONS: std::ops::RangeInclusive<u64> = 1..=10_000;
/// Answers a second; above this the limit limits nothing that one host can answer.
const ANSWERS: std::ops::RangeInclusive<u64> = 1..=1_000_000;
/// One in so many is sent cut; 0: none, as BIND and Knot count it.
const SLIP: std::ops::RangeInclusive<u64> = 0..=10;
/// Networks of IPv4 clients.
const V4: std::ops::RangeInclusive<u64> = 8..=32;
/// Networks of IPv6 clients; the limiter keeps 64 bits.
const V6: std::ops::RangeInclusive<u64> = 16..=64;

/// What the file says of the name server's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsLimits {
    /// Threads that answer UDP; none: one fewer than cores.
    pub threads: Option<NonZeroUsize>,
    /// TCP connections open at once.
    pub tcp_connections: Option<NonZeroUsize>,
    /// TCP connections of one client.
    pub tcp_connections_per_client: Option<NonZeroUsize>,
    /// Rates over UDP; none: no limit.
    pub rate: Option<RateLimit>,
}

impl Default for DnsLimits {
    fn default() -> Self {
        Self {
            threads: None,
            tcp_connections: None,
            tcp_connections_per_client: None,
            rate: Some(RateLimit::default()),
        }
    }
}

impl DnsLimits {
    /// `settings` as the file wants them.
    pub fn of(&self, settings: dns::Settings) -> dns::Settings {
        let connections = self.tcp_connections.unwrap_or(settings.tcp_connections);
        let of_one = self.tcp_connections_per_client;
        dns::Settings {
            rate: self.rate,
            threads: self.threads.unwrap_or(settings.threads),
            tcp_connections: connections,
            tcp_connections_of_one: of_one
                .unwrap_or(settings.tcp_connections_of_one)
                .min(connections),
            ..settings
        }
    }

    /// The keys of `[dns]` that differ from what is usual, and `[dns.rate]` if it does.
    pub(crate) fn to_toml(self) -> String {
        let mut out = String::new();
        let numbers = [
            ("threads", self.threads),
            ("tcp_connections", self.tcp_connections),
            (
                "tcp_connections_per_client",
                self.tcp_connections_per_client,
            ),
        ];
        // Writing into a String can't fail, so the results below carry no news.
        for (key, number) in numbers {
            if let Some(number) = number {
                let _ = writeln!(out, "{key} = {number}");
            }
        }
        match self.rate {
            None => out += "\n[dns.rate]\nenabled = false\n",
            Some(rate) if rate != RateLimit::default() => {
                let _ = writeln!(
                    out,
                    "\n[dns.rate]\nanswers = {}\nnegative = {}\nerrors = {}\nslip = {}\nipv4_prefix = {}\nipv6_prefix = {}",
                    rate.answers,
                    rate.negative,
                    rate.errors,
                    rate.slip,
                    rate.v4_prefix,
                    rate.v6_prefix
                );
            }
            Some(_) => {}
        }
        out
    }
}

/// Reads the limits of `[dns]`.
pub(crate) fn read(dns: &Section<'_, '_>, report: &mut Report<'_>) -> DnsLimits {
    let mut count = |key: &str, range| {
        let number = dns.number(key, range, report)?.value;
        usize::try_from(number).ok().and_then(NonZeroUsize::new)
    };
    let threads = count("threads", THREADS);
    let tcp_connections = count("tcp_connections", CONNECTIONS);
    let tcp_connections_per_client = count("tcp_connections_per_client", CONNECTIONS);
    if let (Some(all), Some(one)) = (tcp_connections, tcp_connections_per_client)
        && one > all
    {
        report.add(
            dns.span_of("tcp_connections_per_client"),
            format!("`tcp_connections_per_client` {one} is above `tcp_connections` {all}"),
            format!("write at most {all}: one client is not to take them all"),
        );
    }
    DnsLimits {
        threads,
        tcp_connections,
        tcp_connections_per_client,
        rate: read_rate(dns, report),
    }
}

fn read_rate(dns: &Section<'_, '_>, report: &mut Report<'_>) -> Option<RateLimit> {
    let usual = RateLimit::default();
    let elsewhere = &super::host_read::ROOT;
    let Some(rate) = dns.table("rate", "[dns.rate]", &RATE, elsewhere, report) else {
        return Some(usual);
    };
    let enabled = rate.flag("enabled", report).unwrap_or(true);
    if let (false, Some(key)) = (enabled, RATE.iter().skip(1).find(|key| rate.has(key))) {
        report.add(
            rate.span_of(key),
            format!("`{key}` of a rate limit that is not enabled"),
            "remove it, or `enabled = false`",
        );
    }
    let mut number = |key: &str, range, usual: u32| {
        let found = rate.number(key, range, report);
        found.map_or(usual, |one| u32::try_from(one.value).unwrap_or(usual))
    };
    let answers = number("answers", ANSWERS, usual.answers);
    let negative = number("negative", ANSWERS, usual.negative);
    let errors = number("errors", ANSWERS, usual.errors);
    let slip = number("slip", SLIP, usual.slip);
    let mut prefix = |key: &str, range, usual: u8| {
        let bits = number(key, range, usual.into());
        u8::try_from(bits).unwrap_or(usual)
    };
    let read = RateLimit {
        v4_prefix: prefix("ipv4_prefix", V4, usual.v4_prefix),
        v6_prefix: prefix("ipv6_prefix", V6, usual.v6_prefix),
        answers,
        negative,
        errors,
        slip,
    };
    enabled.then_some(read)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::parse_host;
    use super::*;

    const HOST: &str =
        "name = \"h1\"\ndata_dir = \"/d\"\n[control]\nlisten = [\"10.0.0.1:7400\"]\n[dns]\n";

    /// Goal: what isn't given is as the server has it, what is given is written back as it was read.
    /// Method: an empty section, a full one, one without a limit.
    #[test]
    fn limits_are_read_and_written_back() {
        let usual = parse_host("f", HOST).unwrap();
        assert_eq!(usual.dns_limits, DnsLimits::default());
        let settings = dns::Settings::new([0; 16], || 0);
        let same = usual.dns_limits.of(settings);
        assert_eq!((same.threads, same.rate), (settings.threads, settings.rate));
        let full = "threads = 3\ntcp_connections = 40\n[dns.rate]\nanswers = 7\nslip = 0\nipv6_prefix = 48\n";
        let host = parse_host("f", &format!("{HOST}{full}")).unwrap();
        let set = host.dns_limits.of(settings);
        assert_eq!((set.threads.get(), set.tcp_connections.get()), (3, 40));
        assert_eq!(set.tcp_connections_of_one.get(), 40, "no more than all");
        let rate = set.rate.unwrap();
        assert_eq!(
            (rate.answers, rate.negative, rate.slip, rate.v6_prefix),
            (7, RateLimit::default().negative, 0, 48)
        );
        assert_eq!(parse_host("f", &host.to_toml()).unwrap(), host);
        let open = parse_host("f", &format!("{HOST}[dns.rate]\nenabled = false\n")).unwrap();
        assert_eq!(open.dns_limits.rate, None);
        assert_eq!(parse_host("f", &open.to_toml()).unwrap(), open);
    }

    /// Goal: each mistake has its line, its column and its remedy. Method: one mistake each.
    #[test]
    fn mistakes_have_their_place() {
        let rows = [
            (
                "threads = 0",
                "6:11: `threads` is 0, out of range; write a whole number from 1 to 64",
            ),
            (
                "thread = 2",
                "6:1: unknown key `thread` in [dns]; did you mean `threads`?",
            ),
            (
                "tcp_connections = 8\ntcp_connections_per_client = 9",
                "7:30: `tcp_connections_per_client` 9 is above `tcp_connections` 8; write at most 8: one client is not to take them all",
            ),
            (
                "rate = 200",
                "6:8: `rate` is an integer; write a table: [dns.rate]",
            ),
            (
                "[dns.rate]\nslip = 11",
                "7:8: `slip` is 11, out of range; write a whole number from 0 to 10",
            ),
            (
                "[dns.rate]\nipv6_prefix = 128",
                "7:15: `ipv6_prefix` is 128, out of range; write a whole number from 16 to 64",
            ),
            (
                "[dns.rate]\nenabled = false\nerrors = 5",
                "8:10: `errors` of a rate limit that is not enabled; remove it, or `enabled = false`",
            ),
        ];
        for (text, wanted) in rows {
            let mistakes = parse_host("f", &format!("{HOST}{text}\n")).unwrap_err();
            let told = mistakes.to_string();
            assert!(told.contains(wanted), "{text}: {told}");
        }
    }
}
