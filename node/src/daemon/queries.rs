//! What people ask: status, zone, events, why, plan. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use control::{Core, Heartbeat, Instant, View};
use statemachine::{
    Command, Entry, GroupCommand, GroupName, Host, HostCommand, HostId, State, apply, is_at_fault,
};

use super::desk::refused;
use super::{Daemon, audit, writes};
use crate::api::{
    self, FollowedReport, Hypothesis, Live, LiveHost, Problem, ProblemKind, RecordLine, Request,
    Response, TestLine, TestsReport, TimingReport, ZoneReport,
};

/// A leader that heard no quorum for this long says that there is none.
const QUORUM_PATIENCE: Duration = Duration::from_secs(1);

fn not_found(what: &str, name: &str, remedy: &str) -> Response {
    let detail = format!("there is no {what} {name}");
    refused(Problem::new(
        ProblemKind::NotFound,
        format!("no such {what}"),
        detail,
        remedy,
    ))
}

/// Answers from this host's own copy.
pub async fn answer(daemon: &Arc<Daemon>, request: Request) -> Response {
    let state = daemon.raft.state();
    match request {
        Request::Status => status(daemon).await,
        Request::Zone { group } => match zone(daemon, &GroupName(group.clone())).await {
            Some(report) => Response::Zone(report),
            None => not_found("group", &group, "`rais groups` lists the groups"),
        },
        Request::Events { since, limit } => Response::Events(
            daemon
                .journal
                .read(since, limit.min(api::MAX_EVENTS) as usize),
        ),
        Request::GroupShow { group } => match state.groups.get(&GroupName(group.clone())) {
            Some(found) => Response::Group {
                policy: Box::new(found.policy.clone()),
                generation: found.generation,
            },
            None => not_found("group", &group, "`rais groups` lists the groups"),
        },
        Request::Tests => Response::Tests(tests(daemon, &state).await),
        Request::Testify => Response::Testimony(audit::testimony(daemon)),
        Request::TimingShow => Response::Timing(TimingReport {
            timing: state.timing,
            index: state.timing_index,
            settled: state.is_settled(),
            longest_lease_ms: state.longest_lease_ms(),
        }),
        _ => refused(Problem::new(
            ProblemKind::Invalid,
            "not a question",
            "this is not answered here",
            "please report this",
        )),
    }
}

/// Answers from the leader's view.
pub async fn explain(daemon: &Arc<Daemon>, request: Request) -> Response {
    match request {
        Request::Why { address } => {
            let why = move |core: &Core, now: Instant| {
                let at = core.log_time(now);
                let mut state = State::clone(core.state());
                let why = control::why(&state, core.view(), at, address);
                // The log's own time stands still while nothing is committed; people's does not.
                state.at = state.at.max(at);
                (why, state)
            };
            match daemon.mailbox.ask(why).await {
                Some((Some(why), state)) => Response::Why(api::why_report(address, &why, &state)),
                _ => not_found(
                    "address",
                    &address.to_string(),
                    "`rais addresses` lists the addresses",
                ),
            }
        }
        Request::Plan { hypotheses } => plan(daemon, hypotheses).await,
        Request::Traps => Response::Traps(daemon.traps.report(&daemon.raft.state())),
        Request::TrapsTest { group } => try_traps(daemon, group).await,
        Request::Audit => audit::audit(daemon).await,
        Request::GroupApply { policy, .. } => {
            let state = daemon.raft.state();
            let current = state.groups.get(&policy.name);
            let changes = writes::changes(&state, &policy, &daemon.live.borrow().trap_keys);
            Response::GroupApplied {
                changes,
                seen: current.map(|group| group.generation),
                index: None,
            }
        }
        _ => refused(Problem::new(
            ProblemKind::Invalid,
            "not a question",
            "this is not answered here",
            "please report this",
        )),
    }
}

async fn try_traps(daemon: &Daemon, group: String) -> Response {
    let state = daemon.raft.state();
    match state.groups.get(&GroupName(group.clone())) {
        None => return not_found("group", &group, "`rais groups` lists the groups"),
        Some(found) if !found.policy.tells() => {
            return refused(Problem::new(
                ProblemKind::Invalid,
                "nobody to tell",
                format!("the policy of group {group} names neither SNMP managers nor webhooks"),
                "write [traps] into its file and apply it",
            ));
        }
        Some(_) => {}
    }
    match daemon.traps.try_out(&group).await {
        Some(tried) => Response::Tried(tried),
        None => refused(Problem::new(
            ProblemKind::Conflict,
            "not tried",
            "this host is no longer or not yet the one that tells, or other trials go on",
            "try again in a second",
        )),
    }
}

async fn tests(daemon: &Daemon, state: &State) -> TestsReport {
    let line = |shown: monitor::judge::Shown| TestLine {
        group: shown.group.0,
        name: shown.name,
        sort: shown.sort.to_owned(),
        looks_at: shown.looks_at,
        good: shown.good,
        found: shown.found,
        ago_ms: shown.ago_ms,
    };
    TestsReport {
        host: state.name_of(daemon.me),
        tests: daemon.monitor.shown().await.into_iter().map(line).collect(),
    }
}

async fn status(daemon: &Arc<Daemon>) -> Response {
    let raft = daemon.raft.view().borrow().clone();
    let look = |core: &Core, now: Instant| live(core, now);
    let Some((state, mut live)) = daemon.mailbox.ask(look).await else {
        return refused(Problem::new(
            ProblemKind::Internal,
            "no status",
            "the control thread has ended",
            "restart the daemon",
        ));
    };
    live.me = daemon.me;
    live.term = raft.term;
    live.leader = raft.leader.map(HostId);
    live.quorum = match raft.am_leader {
        true => daemon.quorum_age().is_some_and(|age| age < QUORUM_PATIENCE),
        // Raft remembers its last leader for as long as it hears of no other one.
        false => raft.leader.is_some() && live.quorum,
    };
    live.withheld = daemon.shelf.withheld();
    live.reloaded = daemon.reloaded.load_full().map(|one| (*one).clone());
    live.failovers = daemon.journal.failovers();
    let gate = Some(daemon.gate.to_owned());
    live.hosts.entry(daemon.me).or_default().gate = gate;
    Response::Status(Box::new(api::project(&state, &live)))
}

fn live(core: &Core, now: Instant) -> (Arc<State>, Live) {
    let state = Arc::clone(core.state());
    let mut hosts = BTreeMap::new();
    for id in state.hosts.keys() {
        let Some(seen) = core.view().of(*id).filter(|seen| seen.last.is_some()) else {
            continue;
        };
        let (mut utilization, mut failing) = (BTreeMap::new(), BTreeMap::new());
        for (name, group) in &state.groups {
            let report = core.view().report(*id, name);
            if let Some(why) = report.and_then(|report| report.why.clone()) {
                failing.insert(name.clone(), why);
            }
            if core
                .view()
                .report(*id, name)
                .is_some_and(|report| report.capacity > 0)
            {
                let used = core.view().utilization(*id, name, group.policy.scale);
                utilization.insert(name.clone(), used);
            }
        }
        let ago = now.ms_since(seen.heard_at);
        let lease_ms = seen
            .last
            .as_ref()
            .filter(|last| last.lease_ok)
            .map(|last| statemachine::usable_ms(last.lease_ms).saturating_sub(ago));
        hosts.insert(
            *id,
            LiveHost {
                last_heard_ms: Some(ago),
                lease_ms,
                gate: None,
                failing,
                utilization,
            },
        );
    }
    (
        state,
        Live {
            hosts,
            now: core.log_time(now),
            current_ms: core.current_at().map(|at| now.ms_since(at)),
            quorum: hears_quorum(core, now),
            last_resort: core.is_last_resort(),
            ..Live::default()
        },
    )
}

/// Whether this host is in touch with a quorum: it has a lease from one, or hears one.
fn hears_quorum(core: &Core, now: Instant) -> bool {
    let patience = QUORUM_PATIENCE.as_micros();
    let recent = |id: &HostId| {
        let seen = core.view().of(*id).filter(|seen| seen.last.is_some());
        seen.is_some_and(|seen| u128::from(now.us_since(seen.heard_at)) < patience)
    };
    let heard = core.state().hosts.keys().copied().filter(recent).collect();
    core.lease_deadline().is_some_and(|deadline| deadline > now) || core.raft().is_quorum(&heard)
}

async fn zone(daemon: &Arc<Daemon>, name: &GroupName) -> Option<ZoneReport> {
    let look = |core: &Core, _: Instant| (Arc::clone(core.state()), core.view().clone());
    let (state, view) = daemon.mailbox.ask(look).await?;
    let group = state.groups.get(name)?;
    let zones = daemon.shelf.zones().load_full();
    // What is served may be an entry before or behind the state: serial and TTL are the records' own.
    let served = zones
        .all()
        .into_iter()
        .find(|zone| zone.apex().to_string() == group.policy.zone);
    let servers = group
        .zone
        .nameservers
        .iter()
        .filter_map(|id| state.hosts.get(id))
        .flat_map(|host| host.dns.clone());
    Some(ZoneReport {
        group: name.0.clone(),
        zone: group.policy.zone.clone(),
        serial: served.map_or(group.zone.serial, dns::Zone::serial),
        ttl_s: served
            .and_then(|zone| zone.records().first().map(|record| record.ttl))
            .unwrap_or(group.zone.ttl_s),
        at_fault: is_at_fault(&state, group),
        withheld: served.is_some_and(dns::Zone::is_withheld),
        last_known: group.zone.named != group.zone.published,
        published: group.zone.named.iter().copied().collect(),
        servers: servers.collect(),
        records: served.map(lines).unwrap_or_default(),
        members: api::zone_members(&state, &view, group),
        marks: api::zone_marks(&group.policy),
        followed: followed(daemon, &group.policy.zone),
    })
}

fn followed(daemon: &Daemon, zone: &str) -> Option<FollowedReport> {
    let all = daemon.shelf.primary().followed();
    let found = all.into_iter().find(|one| one.secondaries.zone == zone);
    found.map(FollowedReport::from)
}

fn lines(zone: &dns::Zone) -> Vec<RecordLine> {
    let line = |record: &&dns::Record| RecordLine {
        name: record.name.to_string(),
        ttl_s: record.ttl,
        kind: record.record_type().to_string(),
        value: record.data.to_string(),
    };
    zone.records().iter().map(line).collect()
}

async fn plan(daemon: &Arc<Daemon>, hypotheses: Vec<Hypothesis>) -> Response {
    let supposed = hypotheses.clone();
    let look = move |core: &Core, now: Instant| {
        let at = core.log_time(now);
        let (mut state, mut view) = (State::clone(core.state()), core.view().clone());
        for hypothesis in &supposed {
            suppose(&mut state, &mut view, hypothesis, now)?;
        }
        let steps = control::plan(&state, &view, at, 0, Vec::new(), &BTreeSet::new()).steps;
        Ok((steps, state))
    };
    match daemon.mailbox.ask(look).await {
        Some(Ok((steps, state))) => Response::Plan(api::plan_report(&steps, &hypotheses, &state)),
        Some(Err(problem)) => refused(problem),
        None => refused(Problem::no_leader()),
    }
}

/// Makes the state and the view what they would be.
fn suppose(
    state: &mut State,
    view: &mut View,
    hypothesis: &Hypothesis,
    now: Instant,
) -> Result<(), Problem> {
    let (Hypothesis::Down { host }
    | Hypothesis::Up { host }
    | Hypothesis::Quiesce { host, .. }
    | Hypothesis::Resume { host, .. }) = hypothesis;
    let Some(known) = state.host_named(host).cloned() else {
        let (detail, remedy) = (
            format!("no host is named {host}"),
            "`rais hosts` lists the hosts",
        );
        return Err(Problem::new(
            ProblemKind::NotFound,
            "no such host",
            detail,
            remedy,
        ));
    };
    let (host, named) = (known.id, |group: &Option<String>| {
        group.clone().map(GroupName)
    });
    match hypothesis {
        Hypothesis::Down { .. } => suppose_down(state, view, &known),
        Hypothesis::Up { .. } => suppose_up(state, view, &known, now),
        Hypothesis::Quiesce { group, .. } => {
            let (group, drain) = (named(group), false);
            try_on(
                state,
                Command::Group(GroupCommand::Quiesce { host, group, drain }),
            )
        }
        Hypothesis::Resume { group, .. } => {
            let group = named(group);
            try_on(state, Command::Group(GroupCommand::Resume { host, group }))
        }
    }
}

fn suppose_down(state: &mut State, view: &mut View, known: &Host) -> Result<(), Problem> {
    let (host, incarnation) = (known.id, known.incarnation);
    view.forget(host);
    if known.is_down() {
        return Ok(());
    }
    if known.is_up() {
        let fence = HostCommand::Fence {
            host,
            incarnation,
            silent_ms: 0,
        };
        try_on(state, Command::Host(fence))?;
    }
    let fence = state
        .hosts
        .get(&host)
        .and_then(Host::fence)
        .unwrap_or_default();
    let membership = state.membership.index;
    let down = HostCommand::Down {
        host,
        fence,
        membership,
        fence_ms: 0,
    };
    try_on(state, Command::Host(down))
}

fn suppose_up(
    state: &mut State,
    view: &mut View,
    known: &Host,
    now: Instant,
) -> Result<(), Problem> {
    let (host, boot) = (known.id, known.boot);
    let (applied, lease_ok) = (u64::MAX, true);
    let heartbeat = Heartbeat {
        boot,
        applied,
        lease_ok,
        ..Heartbeat::default()
    };
    view.suppose(host, heartbeat, now);
    match known.is_up() {
        true => Ok(()),
        false => try_on(
            state,
            Command::Host(HostCommand::Up {
                host,
                seen: known.incarnation,
                boot,
            }),
        ),
    }
}

fn try_on(state: &mut State, command: Command) -> Result<(), Problem> {
    let entry = Entry {
        at: state.at,
        wall: state.wall,
        origin: None,
        commands: vec![command],
    };
    let index = state.index + 1;
    match apply(state, index, &entry)
        .outcomes
        .into_iter()
        .find_map(Result::err)
    {
        Some(rejected) => Err(Problem::rejected_by(state, &rejected)),
        None => Ok(()),
    }
}
