//! `rais zone GROUP --rfc2136 PRIMARY`: brings the zone into a name server that people already run.
//!
//! Asks the daemon for the zone as it is served, and pushes what it names: once, or with `--follow` after
//! each change. Nothing is queued: whatever failed, the next push is of the newest version. The messages
//! are `dns::update`'s, the exchange `dns::server::push`'s.
//!
//! Limits: one primary for each command. Two hosts may follow at once; the mark in the primary's zone
//! keeps the older of them from undoing the newer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dns::server::push::{PushError, Target, push};
use dns::update::{UpdateError, Wanted};
use serde_json::json;

use super::args::{Look, PushArgs};
use super::error::CliError;
use super::hooks::{Doors, EventStream};
use super::run::Console;
use crate::api::{EventRecord, Request, Response, ZoneReport};
use crate::clock;

/// Attempts of a single push, where another may help.
const ATTEMPTS: u32 = 3;
/// Failures in a row after which `--follow` ends: some ten minutes, then somebody should look.
const MAX_FAILURES: u32 = 24;
/// First and longest pause between two attempts.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often the zone is looked at when no event came.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What did not work, and whether it may work later.
enum Trouble {
    Passing(CliError),
    Final(CliError),
}

/// What following came to after one look at the zone.
enum Step {
    /// The primary has this version now.
    Pushed(Wanted),
    /// It had it already, from us.
    Known,
    /// It has a newer one.
    Behind(UpdateError),
}

/// Everything that a push needs, but for the zone.
struct Push<'d, D> {
    doors: &'d D,
    group: String,
    in_zone: Option<String>,
    target: Target,
}

/// Does what `args` say for `group`.
pub(super) async fn run<D: Doors>(
    group: String,
    args: PushArgs,
    look: Look,
    doors: &D,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let Some(address) = args.rfc2136 else {
        return Err(CliError::failed(
            "no primary to push to",
            "name it: --rfc2136 IP:PORT",
        ));
    };
    let key = args.key()?.map(Arc::new);
    let push = Push {
        doors,
        group,
        in_zone: args.in_zone,
        target: Target { address, key },
    };
    match args.follow {
        true => push.follow(look, console).await,
        false => push.once(look, console).await,
    }
}

impl<D: Doors> Push<'_, D> {
    /// One version, with a few attempts.
    async fn once(&self, look: Look, console: &mut Console<'_>) -> Result<(), CliError> {
        let mut attempt = 1;
        loop {
            match self.newest().await {
                Ok(pushed) => return self.tell(&pushed, look, console),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing(error)) if attempt == ATTEMPTS => return Err(error),
                Err(Trouble::Passing(_)) => tokio::time::sleep(pause(attempt)).await,
            }
            attempt += 1;
        }
    }

    /// Each version from now on, or at least the newest.
    async fn follow(&self, look: Look, console: &mut Console<'_>) -> Result<(), CliError> {
        let (mut last, mut failures) = (None, 0);
        loop {
            let before = last;
            let error = match self.follow_until_it_fails(&mut last, look, console).await {
                Trouble::Final(error) => return Err(error),
                Trouble::Passing(error) => error,
            };
            failures = if last == before { failures + 1 } else { 1 };
            if failures >= MAX_FAILURES {
                return Err(error);
            }
            let wait = pause(failures);
            let told = format!("rais: {error}; trying again in {} s\n", wait.as_secs());
            // Without a stderr there is nobody to tell, and pushing goes on.
            let _untold = console.err.write_all(told.as_bytes());
            tokio::time::sleep(wait).await;
        }
    }

    async fn follow_until_it_fails(
        &self,
        last: &mut Option<u32>,
        look: Look,
        console: &mut Console<'_>,
    ) -> Trouble {
        // Opened before the zone is read: a change in between is in the stream.
        let mut events = match self.doors.follow(None).await {
            Ok(events) => events,
            Err(error) => return of_daemon(error),
        };
        loop {
            match self.newest_after(*last).await {
                Ok(Step::Pushed(pushed)) => {
                    *last = Some(pushed.serial);
                    if let Err(error) = self.tell(&pushed, look, console) {
                        return Trouble::Final(error);
                    }
                }
                Ok(Step::Known) => {}
                Ok(Step::Behind(error)) => {
                    let told = format!("rais: {error}: another host is ahead\n");
                    let _untold = console.err.write_all(told.as_bytes());
                }
                Err(trouble) => return trouble,
            }
            if let Err(trouble) = self.await_change(&mut events).await {
                return trouble;
            }
        }
    }

    /// Until the zone may have changed.
    async fn await_change(&self, events: &mut D::Events) -> Result<(), Trouble> {
        let concerns = |event: &EventRecord| {
            event.kind == "zoneChanged" && event.group.as_deref() == Some(&self.group)
        };
        loop {
            match tokio::time::timeout(LOOK_AGAIN, events.next()).await {
                Err(_) => return Ok(()),
                Ok(Ok(Some(event))) if concerns(&event) => return Ok(()),
                Ok(Ok(Some(_))) => {}
                Ok(Ok(None)) => {
                    return Err(Trouble::Passing(CliError::failed(
                        "the daemon closed the stream of events",
                        "`rais status` shows whether it still runs",
                    )));
                }
                Ok(Err(error)) => return Err(of_daemon(error)),
            }
        }
    }

    async fn newest(&self) -> Result<Wanted, Trouble> {
        let wanted = self.wanted().await?;
        push(&self.target, &wanted, now_s).await.map_err(of_push)?;
        Ok(wanted)
    }

    /// Pushes unless the version of last time is still the newest, or the primary has a newer one: another
    /// host follows too, and is ahead.
    async fn newest_after(&self, last: Option<u32>) -> Result<Step, Trouble> {
        let wanted = self.wanted().await?;
        if last == Some(wanted.serial) {
            return Ok(Step::Known);
        }
        match push(&self.target, &wanted, now_s).await {
            Ok(()) => Ok(Step::Pushed(wanted)),
            Err(PushError::Update(error @ UpdateError::Newer { .. })) => Ok(Step::Behind(error)),
            Err(error) => Err(of_push(error)),
        }
    }

    /// The zone as this host serves it.
    async fn wanted(&self) -> Result<Wanted, Trouble> {
        let status = match self.doors.call(Request::Status).await {
            Ok(Response::Status(status)) => status,
            Ok(other) => return Err(Trouble::Final(CliError::unexpected(other))),
            Err(error) => return Err(of_daemon(error)),
        };
        let group = self.group.clone();
        let zone = match self.doors.call(Request::Zone { group }).await {
            Ok(Response::Zone(zone)) => zone,
            Ok(other) => return Err(Trouble::Final(CliError::unexpected(other))),
            Err(error) => return Err(of_daemon(error)),
        };
        if zone.withheld {
            return Err(Trouble::Passing(CliError::failed(
                "this host is out of touch with the quorum and does not vouch for the zone",
                "push from another host",
            )));
        }
        if zone.records.is_empty() {
            return Err(Trouble::Passing(CliError::failed(
                "this host serves no such zone now",
                "its log says why (`a zone cannot be served`), if the group is not new",
            )));
        }
        Ok(wanted(&status.array, &zone, self.in_zone.as_deref()))
    }

    fn tell(&self, pushed: &Wanted, look: Look, console: &mut Console<'_>) -> Result<(), CliError> {
        let (serial, to) = (pushed.serial, self.target.address);
        let apex = pushed.sets.get(&pushed.apex);
        if look.json {
            return console.print_line(&json!({
                "serial": serial, "to": to.to_string(), "zone": pushed.zone,
                "addresses": apex.cloned().unwrap_or_default(), "names": pushed.sets.len(),
            }));
        }
        let named: Vec<String> = apex.into_iter().flatten().map(IpAddr::to_string).collect();
        let named = if named.is_empty() {
            "no address".to_owned()
        } else {
            named.join(" ")
        };
        console.print(&format!(
            "serial {serial} pushed to {to}: {} has {named}\n",
            pushed.apex
        ))
    }
}

/// What a primary is to have of a zone: the addresses of its name and of the hosts below it.
fn wanted(array: &str, zone: &ZoneReport, in_zone: Option<&str>) -> Wanted {
    let mut sets: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    let below = format!(".{}", zone.zone);
    for record in &zone.records {
        let label = record.name.strip_suffix(&below);
        let is_host = label.is_some_and(|label| !label.contains('.'));
        let address = record
            .value
            .parse()
            .ok()
            .filter(|_| is_address(&record.kind));
        if let (true, Some(address)) = (is_host || record.name == zone.zone, address) {
            sets.entry(record.name.clone()).or_default().insert(address);
        }
    }
    Wanted {
        zone: in_zone.unwrap_or(&zone.zone).to_owned(),
        apex: zone.zone.clone(),
        ttl_s: zone.ttl_s,
        sets,
        array: array.to_owned(),
        serial: zone.serial,
    }
}

fn is_address(kind: &str) -> bool {
    matches!(kind, "A" | "AAAA")
}

fn now_s() -> u64 {
    clock::wall_ms() / 1_000
}

fn pause(attempt: u32) -> Duration {
    let doubled = 1_u32 << attempt.saturating_sub(1).min(8);
    LONGEST_PAUSE.min(FIRST_PAUSE * doubled)
}

fn of_push(error: PushError) -> Trouble {
    let passing = error.is_passing();
    let remedy = match &error {
        PushError::Network { .. } => "does the primary listen there, also over TCP?",
        _ => "docs/operations.md shows what a primary needs",
    };
    let told = CliError::failed(error.to_string(), remedy);
    match passing {
        true => Trouble::Passing(told),
        false => Trouble::Final(told),
    }
}

/// A daemon that restarts comes back; one that refuses does so again.
fn of_daemon(error: CliError) -> Trouble {
    match error {
        CliError::Refused(_) | CliError::NoArray { .. } | CliError::OutputClosed => {
            Trouble::Final(error)
        }
        other => Trouble::Passing(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::RecordLine;
    use crate::cli::sample;

    /// Goal: the zone's name and its hosts are pushed, the name servers' own names are not.
    /// Method: a zone with all of them, into a zone above it.
    #[test]
    fn hosts_are_pushed_and_name_servers_are_not() {
        let mut zone = sample::zone();
        let record = |name: &str, kind: &str, value: &str| RecordLine {
            name: name.to_owned(),
            ttl_s: 5,
            kind: kind.to_owned(),
            value: value.to_owned(),
        };
        zone.records = vec![
            record("web.example.", "SOA", "h1.ns.web.example. hostmaster 17"),
            record("web.example.", "A", "10.77.0.101"),
            record("h1.web.example.", "A", "10.77.0.101"),
            record("h1.web.example.", "AAAA", "fd00::101"),
            record("h1.ns.web.example.", "A", "10.77.0.1"),
        ];
        let wanted = wanted("00ff", &zone, Some("example."));
        let names: Vec<&str> = wanted.sets.keys().map(String::as_str).collect();
        assert_eq!(names, ["h1.web.example.", "web.example."]);
        assert_eq!(wanted.sets["h1.web.example."].len(), 2);
        assert_eq!((wanted.zone.as_str(), wanted.serial), ("example.", 17));
    }

    /// Goal: pauses grow, and stop growing. Method: the first few and a late one.
    #[test]
    fn pauses_double_up_to_half_a_minute() {
        let seconds = [1, 2, 3, 6, 24].map(|attempt| pause(attempt).as_secs());
        assert_eq!(seconds, [1, 2, 4, 30, 30]);
    }
}
