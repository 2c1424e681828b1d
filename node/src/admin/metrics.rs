//! `GET /healthz` and `GET /metrics`: whether this daemon serves, and its numbers for Prometheus.
//!
//! The text format is written by hand: it is lines of `name{labels} value`, and an exporter crate
//! would keep a registry that has to be fed all the time. Here nothing is counted twice and nothing
//! is read until somebody asks.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response as Http};
use serde_json::json;

use super::door::Measures;
use super::fault::Fault;
use super::reply::{self, Pairs, Params};
use super::routes::App;
use crate::api::{AddressWord, HostWord, Request, Response, Status};

/// A daemon that does not know its own status within this time is not well.
const PATIENCE: Duration = Duration::from_secs(2);
/// The unit of CPU times in `/proc`, which Linux promises to user space whatever the kernel's own is.
const TICKS_PER_SECOND: u64 = 100;

async fn status(app: &App) -> Result<Status, String> {
    let asked = tokio::time::timeout(PATIENCE, app.door.ask(Request::Status));
    match asked.await {
        Ok(Response::Status(status)) => Ok(*status),
        Ok(Response::Refused { problem }) => Err(problem.to_string()),
        Ok(_) => Err("unexpected answer".to_owned()),
        Err(_) => Err(format!("no status within {} s", PATIENCE.as_secs())),
    }
}

/// Why a daemon is not healthy, if it is not.
fn illness(recovered: bool, status: &Result<Status, String>) -> Option<String> {
    match status {
        Err(why) => Some(why.clone()),
        Ok(_) if !recovered => {
            Some("still recovering: no leader has been heard since the start".to_owned())
        }
        Ok(status) if status.leader.is_none() => Some("no leader is known".to_owned()),
        Ok(status) if !status.quorum => Some("this host leads, but hears no quorum".to_owned()),
        Ok(_) => None,
    }
}

/// 200 when this host has recovered and knows a leader with a quorum, else 503 with the reason.
pub(super) async fn health(State(app): State<App>, query: Pairs) -> Result<Http, Fault> {
    Params::of(query, &[])?;
    let recovered = app.door.recovered();
    let status = status(&app).await;
    let illness = illness(recovered, &status);
    let (leader, host) = status
        .map(|status| (status.leader, Some(status.answered_by)))
        .unwrap_or_default();
    let (code, word) = match illness {
        None => (StatusCode::OK, "ok"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let body = json!({"status": word, "reason": illness, "host": host, "recovered": recovered, "leader": leader});
    Ok((code, reply::json(&body)?).into_response())
}

pub(super) async fn metrics(State(app): State<App>, query: Pairs) -> Result<Http, Fault> {
    Params::of(query, &[])?;
    let recovered = app.door.recovered();
    let status = status(&app).await;
    let measures = tokio::time::timeout(PATIENCE, app.door.measures()).await;
    let text = render(
        recovered,
        status.as_ref().ok(),
        measures.as_ref().ok(),
        &process(),
    );
    let kind = (
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    );
    Ok(([kind], text).into_response())
}

/// What this process costs.
#[derive(Default)]
struct Process {
    cpu_seconds: Option<f64>,
    resident_bytes: Option<u64>,
}

/// Reads it from `/proc`, which is memory of the kernel: no disk is waited for.
fn process() -> Process {
    let read = |file| std::fs::read_to_string(file).unwrap_or_default();
    Process {
        cpu_seconds: cpu_seconds(&read("/proc/self/stat")),
        resident_bytes: resident_bytes(&read("/proc/self/status")),
    }
}

/// User and system time, the 14th and 15th field; the 2nd is in brackets and may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let hundredths = u32::try_from((user + system) * 100 / TICKS_PER_SECOND).ok()?;
    Some(f64::from(hundredths) / 100.0)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// The page as it grows.
#[derive(Default)]
struct Page(String);

impl Page {
    /// Begins a family.
    fn family(&mut self, kind: &str, name: &str, help: &str) {
        let _infallible = writeln!(
            self.0,
            "# HELP rais_{name} {help}\n# TYPE rais_{name} {kind}"
        );
    }

    /// Adds a value of a family.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _infallible = write!(self.0, "rais_{name}");
        for (number, (label, text)) in labels.iter().enumerate() {
            let open = if number == 0 { '{' } else { ',' };
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _infallible = write!(self.0, "{open}{label}=\"{text}\"");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _infallible = writeln!(self.0, "{close} {value}");
    }

    /// A gauge with one value.
    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family("gauge", name, help);
        self.sample(name, &[], value);
    }

    /// A counter for each of several names.
    fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        all: impl IntoIterator<Item = (&'a str, u64)>,
    ) {
        self.family("counter", name, help);
        for (text, count) in all {
            self.sample(name, &[(label, text)], count);
        }
    }
}

fn render(
    recovered: bool,
    status: Option<&Status>,
    measures: Option<&Measures>,
    process: &Process,
) -> String {
    let mut page = Page::default();
    let up = recovered && status.is_some();
    page.gauge(
        "up",
        "1 when this daemon has recovered and answers, else 0.",
        u8::from(up),
    );
    if let Some(status) = status {
        of_status(&mut page, status);
    }
    if let Some(measures) = measures {
        of_measures(&mut page, measures);
    }
    of_process(&mut page, process);
    page.0
}

fn of_status(page: &mut Page, status: &Status) {
    page.family("gauge", "build_info", "1, with the version that runs.");
    page.sample("build_info", &[("version", &status.version)], 1);
    page.gauge("term", "Term of Raft.", status.term);
    page.gauge(
        "applied_index",
        "Index of the last log entry applied here.",
        status.index,
    );
    page.gauge(
        "quorum",
        "1 while a majority of voters is in touch, as this host knows.",
        u8::from(status.quorum),
    );
    page.gauge(
        "leader_known",
        "1 while this host knows a leader.",
        u8::from(status.leader.is_some()),
    );
    page.gauge(
        "last_resort",
        "1 while the array serves without a quorum: two hosts may serve one address.",
        u8::from(status.last_resort),
    );
    hosts(page, status);
    addresses(page, status);
    orphans(page, status);
    zones(page, status);
}

fn of_measures(page: &mut Page, measures: &Measures) {
    page.gauge(
        "leader",
        "1 while this host leads.",
        u8::from(measures.leads),
    );
    page.gauge(
        "committed_index",
        "Index of the last log entry known to be committed.",
        measures.committed,
    );
    page.gauge(
        "lease_ms",
        "How long this host's own lease still runs, in milliseconds; 0: it has none.",
        measures.lease_ms.unwrap_or(0),
    );
    page.gauge(
        "certificate_expires_timestamp_seconds",
        "End of this host's certificate, in seconds since 1970.",
        measures.certificate_until,
    );
    dns(page, measures);
    datagrams(page, measures);
    transport(page, measures);
    traps(page, measures);
}

/// Of targets that show alike (two paths of one webhook) the sum.
fn traps(page: &mut Page, measures: &Measures) {
    let mut all: BTreeMap<&str, [u64; 4]> = BTreeMap::new();
    for line in &measures.traps {
        let sum = all.entry(&line.target).or_default();
        let more = [line.sent, line.failed, line.dropped, line.queued];
        sum.iter_mut()
            .zip(more)
            .for_each(|(sum, more)| *sum += more);
    }
    page.family(
        "counter",
        "traps_total",
        "Events for SNMP managers and webhooks: sent, dropped, and attempts that failed; the leader sends.",
    );
    for (target, [sent, failed, dropped, _]) in &all {
        for (outcome, count) in [("sent", sent), ("failed", failed), ("dropped", dropped)] {
            page.sample(
                "traps_total",
                &[("target", target), ("outcome", outcome)],
                count,
            );
        }
    }
    page.family(
        "gauge",
        "traps_queued",
        "Events that wait for an SNMP manager or webhook.",
    );
    for (target, [.., queued]) in &all {
        page.sample("traps_queued", &[("target", target)], queued);
    }
}

fn of_process(page: &mut Page, process: &Process) {
    if let Some(seconds) = process.cpu_seconds {
        page.family(
            "counter",
            "process_cpu_seconds_total",
            "CPU time of this daemon, user and system.",
        );
        page.sample(
            "process_cpu_seconds_total",
            &[],
            format_args!("{seconds:.2}"),
        );
    }
    if let Some(bytes) = process.resident_bytes {
        page.gauge(
            "process_resident_memory_bytes",
            "Memory of this daemon that is resident.",
            bytes,
        );
    }
}

fn hosts(page: &mut Page, status: &Status) {
    page.family(
        "gauge",
        "host_state",
        "1 for the state that the log gives a host, 0 for the others.",
    );
    for host in &status.hosts {
        for (word, text) in [
            (HostWord::Up, "up"),
            (HostWord::Fencing, "fencing"),
            (HostWord::Down, "down"),
        ] {
            let is = u8::from(host.state == word);
            page.sample("host_state", &[("host", &host.name), ("state", text)], is);
        }
    }
    page.family(
        "gauge",
        "host_last_heard_ms",
        "How long ago a host was heard here, in milliseconds.",
    );
    for host in &status.hosts {
        if let Some(ms) = host.last_heard_ms {
            page.sample("host_last_heard_ms", &[("host", &host.name)], ms);
        }
    }
}

fn addresses(page: &mut Page, status: &Status) {
    use AddressWord::{Acquiring, Online, Releasing, Unserved};
    page.family(
        "gauge",
        "held_addresses",
        "Service addresses that this host holds, by state.",
    );
    let of_group = |group: &crate::api::GroupStatus, word, held: bool| {
        let counts = |one: &&crate::api::AddressStatus| {
            one.state == word && (!held || one.host.as_deref() == Some(status.answered_by.as_str()))
        };
        group.addresses.iter().filter(counts).count()
    };
    for word in [Acquiring, Online, Releasing] {
        let count: usize = status
            .groups
            .iter()
            .map(|group| of_group(group, word, true))
            .sum();
        page.sample("held_addresses", &[("state", word.as_str())], count);
    }
    page.family(
        "gauge",
        "group_addresses",
        "Service addresses of a group, by state, on whatever host.",
    );
    for group in &status.groups {
        for word in [Unserved, Acquiring, Online, Releasing] {
            let labels = [("group", group.name.as_str()), ("state", word.as_str())];
            page.sample("group_addresses", &labels, of_group(group, word, false));
        }
    }
}

/// How long orphans still have; one that is at home again has no line.
fn orphans(page: &mut Page, status: &Status) {
    page.family(
        "gauge",
        "orphan_expires_seconds",
        "Until an address leaves its group, as its preferred host does not serve it.",
    );
    for group in &status.groups {
        for one in &group.addresses {
            if let Some(left) = one.orphan_expires_s {
                let address = one.address.to_string();
                let labels = [("group", group.name.as_str()), ("address", &address)];
                page.sample("orphan_expires_seconds", &labels, left);
            }
        }
    }
}

fn zones(page: &mut Page, status: &Status) {
    if let Some(ms) = status.current_ms {
        page.gauge(
            "state_age_ms",
            "How long ago this host's copy was known to be current, in milliseconds; its DNS answers are as old.",
            ms,
        );
    }
    page.family(
        "gauge",
        "zone_withheld",
        "1 while this host gives SERVFAIL for a group's zone, out of touch with the quorum.",
    );
    for group in &status.groups {
        let withheld = u8::from(group.withheld);
        page.sample("zone_withheld", &[("group", &group.name)], withheld);
    }
    page.family(
        "gauge",
        "zone_ttl_seconds",
        "Time to live of a zone's records; shorter while there is a fault.",
    );
    for group in &status.groups {
        page.sample("zone_ttl_seconds", &[("group", &group.name)], group.ttl_s);
    }
    page.family("gauge", "zone_serial", "SOA serial of a group's zone.");
    for group in &status.groups {
        page.sample("zone_serial", &[("group", &group.name)], group.serial);
    }
    page.family(
        "gauge",
        "zone_published_addresses",
        "Addresses that a group's zone names.",
    );
    for group in &status.groups {
        page.sample(
            "zone_published_addresses",
            &[("group", &group.name)],
            group.published.len(),
        );
    }
}

fn dns(page: &mut Page, measures: &Measures) {
    let Some(dns) = &measures.dns else { return };
    let of = |all: &[(&'static str, u64)]| all.to_vec();
    page.counters(
        "dns_answers_by_rcode_total",
        "DNS answers by response code.",
        "rcode",
        of(&dns.by_rcode),
    );
    page.counters(
        "dns_answers_by_type_total",
        "DNS answers by the type asked for.",
        "type",
        of(&dns.by_type),
    );
    page.counters(
        "dns_answers_by_transport_total",
        "DNS answers by transport.",
        "transport",
        of(&dns.by_transport),
    );
    page.counters(
        "dns_incidents_total",
        "What else happened to the DNS server.",
        "incident",
        of(&dns.incidents),
    );
}

fn datagrams(page: &mut Page, measures: &Measures) {
    let seal = &measures.seal;
    let fates = [
        ("sealed", seal.sealed),
        ("opened", seal.opened),
        ("unsealable", seal.unsealable),
        ("malformed", seal.malformed),
        ("unknown_session", seal.unknown_session),
        ("replayed", seal.replayed),
        ("too_old", seal.too_old),
        ("forged", seal.forged),
    ];
    page.counters(
        "datagrams_total",
        "Sealed datagrams by what became of them.",
        "fate",
        fates,
    );
}

fn transport(page: &mut Page, measures: &Measures) {
    let server = &measures.server;
    page.gauge(
        "transport_connections",
        "Control connections accepted and open.",
        measures.connections,
    );
    page.gauge(
        "transport_connected_hosts",
        "Hosts with an open control connection to this one.",
        measures.connected_hosts,
    );
    let connections = [
        ("accepted", server.accepted),
        ("accept_error", server.accept_errors),
        ("refused_full", server.refused_full),
        ("refused_handshake", server.refused_handshake),
        ("bad_frame", server.bad_frames),
        ("idle_closed", server.idle_closed),
    ];
    page.counters(
        "transport_connections_total",
        "Control connections by what became of them.",
        "fate",
        connections,
    );
    page.counters(
        "certificates_refused_total",
        "Handshakes between hosts that this one refused: the other's certificate had expired, or was not valid yet.",
        "side",
        [
            ("server", server.refused_expired),
            ("client", measures.dials_expired),
        ],
    );
    let requests = [
        ("handled", server.requests),
        ("denied", server.denied),
        ("busy", server.busy),
    ];
    page.counters(
        "transport_requests_total",
        "Requests over control connections by what became of them.",
        "fate",
        requests,
    );
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
