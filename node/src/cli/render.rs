//! Answers as a person reads them.
//!
//! Each function is pure: a value and a style in, text out. What needs a person's attention is
//! said first and loudly: no quorum, last-resort mode, an address that nobody serves.

use crate::api::{
    AddressStatus, AddressWord, AuditReport, AuditedHost, EventRecord, GroupStatus, HostStatus,
    HostWord, MemberStatus, Phases, PlanReport, Status, TestLine, TestsReport, WhyReport,
    ZoneReport, ZoneRule,
};

use super::style::{Style, Tone};
use super::table::{Cell, cell, clean, optional, table, toned};

/// The whole array.
pub fn status(status: &Status, style: Style) -> String {
    let mut out = alarms(status, style);
    let leader = status
        .leader
        .as_deref()
        .map_or_else(|| style.paint(Tone::Bad, "none"), clean);
    let quorum = if status.quorum {
        style.paint(Tone::Good, "yes")
    } else {
        style.paint(Tone::Bad, "NO")
    };
    out.push_str(&format!(
        "array {}  leader {leader}  term {}  quorum {quorum}  version {}\nanswered by {} at log index {}\n\n",
        clean(&status.array), status.term, clean(&status.version), clean(&status.answered_by), status.index
    ));
    out.push_str(&hosts(status, style));
    out.push('\n');
    out.push_str(&groups(status, style));
    out.push_str(&failovers(status, style));
    out
}

/// How long each address's last failover took, and with what.
fn failovers(status: &Status, style: Style) -> String {
    let all = status.groups.iter().flat_map(|group| &group.addresses);
    let ended = all.filter_map(|one| Some((one.address, one.failover.as_ref()?)));
    let rows: Vec<Vec<Cell>> = ended
        .map(|(address, failover)| {
            vec![
                cell(address.to_string()),
                cell(&failover.from),
                cell(&failover.to),
                cell(failover.at.to_string()),
                cell(span(failover.ms)),
                cell(phases(Some(&failover.phases))),
            ]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let header = ["FAILOVER OF", "FROM", "TO", "AT", "TOOK", "WITH"];
    format!("\n{}", table(&header, &rows, "", style))
}

fn phases(phases: Option<&Phases>) -> String {
    let known: Vec<String> = phases
        .iter()
        .flat_map(|all| all.known())
        .map(|(name, ms)| format!("{name} {ms} ms"))
        .collect();
    known.join(", ")
}

/// What must not be overlooked.
fn alarms(status: &Status, style: Style) -> String {
    let mut out = String::new();
    if !status.quorum {
        out.push_str(&style.paint(Tone::Bad, "NO QUORUM: less than a majority of the voters answers. Nothing can be changed, leases end,"));
        out.push('\n');
        out.push_str(&style.paint(
            Tone::Bad,
            "addresses go silent. Bring voters back; HEARD below shows who is silent.",
        ));
        out.push_str("\n\n");
    }
    for group in status.groups.iter().filter(|group| group.withheld) {
        let (zone, host) = (clean(&group.zone), clean(&status.answered_by));
        let text = format!(
            "SERVFAIL: the name server of {host} does not answer for {zone}, out of touch with the quorum (stale_after)"
        );
        out.push_str(&style.paint(Tone::Bad, &text));
        out.push_str("\n\n");
    }
    if status.last_resort {
        out.push_str(&style.paint(
            Tone::Bad,
            "LAST RESORT: addresses are served without a quorum; two hosts may serve the same one.",
        ));
        out.push_str("\n\n");
    }
    let all = || status.groups.iter().flat_map(|group| &group.addresses);
    let unserved: Vec<String> = all()
        .filter(|one| one.state == AddressWord::Unserved)
        .map(|one| one.address.to_string())
        .collect();
    if let Some(first) = unserved.first() {
        let text = format!(
            "UNSERVED: {}  (`rais why {first}` says why)",
            unserved.join(" ")
        );
        out.push_str(&style.paint(Tone::Bad, &text));
        out.push_str("\n\n");
    }
    for host in &status.hosts {
        for control in &host.unheard {
            let name = clean(&host.name);
            let text = format!("control network: {name} is not heard at {control}, only elsewhere");
            out.push_str(&style.paint(Tone::Warn, &text));
            out.push_str("\n\n");
        }
    }
    out.push_str(&configuration(status, style));
    if let Some(bare) = status
        .hosts
        .iter()
        .find(|host| host.gate.as_deref() == Some("none"))
    {
        let text = format!(
            "gate: none (first on {}): a stopped daemon's address may go on being answered; for trials only",
            clean(&bare.name)
        );
        out.push_str(&style.paint(Tone::Warn, &text));
        out.push_str("\n\n");
    }
    out
}

/// What became of the answering host's file, where that asks for somebody.
fn configuration(status: &Status, style: Style) -> String {
    let mut out = String::new();
    let Some(reloaded) = &status.reloaded else {
        return out;
    };
    let host = clean(&status.answered_by);
    if !reloaded.restart.is_empty() {
        let restart = clean(&reloaded.restart.join(", "));
        let text = format!("configuration of {host}: restart its daemon for {restart}");
        out.push_str(&style.paint(Tone::Warn, &text));
        out.push_str("\n\n");
    }
    if let Some(error) = &reloaded.error {
        let error: Vec<String> = error.lines().map(clean).collect();
        let error = error.join("\n");
        let text = format!("configuration of {host}: read again, and nothing of it taken\n{error}");
        out.push_str(&style.paint(Tone::Bad, &text));
        out.push_str("\n\n");
    }
    out
}

/// The hosts.
pub fn hosts(status: &Status, style: Style) -> String {
    let rows: Vec<Vec<Cell>> = status
        .hosts
        .iter()
        .map(|host| host_row(host, status))
        .collect();
    let header = [
        "HOST", "ID", "STATE", "ROLE", "HEARD", "LEASE", "GATE", "CONTROL",
    ];
    table(&header, &rows, "no hosts", style)
}

fn host_row(host: &HostStatus, status: &Status) -> Vec<Cell> {
    let state = match host.state {
        HostWord::Up => toned(Tone::Good, "up"),
        HostWord::Fencing => toned(Tone::Warn, "fencing"),
        HostWord::Down => toned(Tone::Bad, "down"),
    };
    let vote = match host.role {
        crate::api::HostRole::Voter => "voter",
        crate::api::HostRole::Learner => "learner",
    };
    let leads = status.leader.as_ref() == Some(&host.name);
    let role = match (leads, host.observer) {
        (true, true) => "leader, observer".to_owned(),
        (true, false) => "leader".to_owned(),
        (false, true) => format!("{vote}, observer"),
        (false, false) => vote.to_owned(),
    };
    let control: Vec<String> = host
        .control
        .iter()
        .map(|one| match host.unheard.contains(one) {
            true => format!("{one} (unheard)"),
            false => one.to_string(),
        })
        .collect();
    vec![
        cell(&host.name),
        cell(host.id.to_string()),
        state,
        cell(role),
        optional(host.last_heard_ms.map(span)),
        optional(host.lease_ms.map(span)),
        optional(host.gate.as_ref()),
        cell(control.join(" ")),
    ]
}

/// What a host tests and measures of its own services.
pub fn tests(report: &TestsReport, style: Style) -> String {
    let row = |one: &TestLine| {
        let state = match (one.sort.as_str(), one.good) {
            ("load", true) => toned(Tone::Good, "measured"),
            ("load", false) => toned(Tone::Warn, "unknown"),
            (_, true) => toned(Tone::Good, "pass"),
            (_, false) => toned(Tone::Bad, "fail"),
        };
        vec![
            cell(&one.group),
            cell(&one.sort),
            cell(&one.name),
            state,
            optional(one.ago_ms.map(span)),
            optional(one.found.as_ref()),
            cell(&one.looks_at),
        ]
    };
    let rows: Vec<Vec<Cell>> = report.tests.iter().map(row).collect();
    let header = ["GROUP", "SORT", "NAME", "STATE", "LOOKED", "FOUND", "AT"];
    let none = "no tests and no loads; a group's policy names them";
    table(&header, &rows, none, style)
}

/// The groups, each with members and addresses.
pub fn groups(status: &Status, style: Style) -> String {
    if status.groups.is_empty() {
        return format!(
            "{}\n",
            style.paint(Tone::Dim, "no groups; `rais group apply FILE` makes one")
        );
    }
    let each: Vec<String> = status
        .groups
        .iter()
        .map(|group| one_group(group, style))
        .collect();
    each.join("\n")
}

fn one_group(group: &GroupStatus, style: Style) -> String {
    let published: Vec<String> = group.published.iter().map(ToString::to_string).collect();
    let published = if published.is_empty() {
        style.paint(Tone::Bad, "nothing")
    } else {
        published.join(" ")
    };
    let name = style.paint(Tone::Strong, &format!("group {}", clean(&group.name)));
    let rows: Vec<Vec<Cell>> = group.members.iter().map(member_row).collect();
    let members = table(
        &["MEMBER", "BRINGS", "TESTS", "FLAGS", "LOAD"],
        &rows,
        "no members",
        style,
    );
    let rows: Vec<Vec<Cell>> = group
        .addresses
        .iter()
        .map(|one| address_row(one, None))
        .collect();
    let addresses = table(&ADDRESS_HEADER[1..], &rows, "no addresses", style);
    format!(
        "{name}  zone {} serial {} publishes {published}\n{members}{addresses}",
        clean(&group.zone),
        group.serial
    )
}

fn member_row(member: &MemberStatus) -> Vec<Cell> {
    let brings: Vec<String> = member.preferred.iter().map(ToString::to_string).collect();
    let flags = [
        (member.draining, "draining"),
        (member.quiesced && !member.draining, "quiesced"),
        (member.shed, "shed by load"),
    ];
    let flags: Vec<&str> = flags
        .iter()
        .filter(|(set, _)| *set)
        .map(|(_, name)| *name)
        .collect();
    vec![
        cell(&member.host),
        if member.spare {
            toned(Tone::Dim, "spare")
        } else {
            cell(brings.join(" "))
        },
        if member.healthy {
            toned(Tone::Good, "pass")
        } else {
            let why = member.failing.as_ref();
            toned(
                Tone::Bad,
                why.map_or_else(|| "fail".to_owned(), |why| format!("fail: {}", clean(why))),
            )
        },
        if flags.is_empty() {
            optional(None::<String>)
        } else {
            toned(Tone::Warn, flags.join(", "))
        },
        optional(member.utilization),
    ]
}

const ADDRESS_HEADER: [&str; 8] = [
    "GROUP", "ADDRESS", "STATE", "HOST", "HOME", "EPOCH", "ORPHAN", "WHY",
];

/// The addresses of all groups.
pub fn addresses(status: &Status, style: Style) -> String {
    let mut rows = Vec::new();
    for group in &status.groups {
        rows.extend(
            group
                .addresses
                .iter()
                .map(|one| address_row(one, Some(&group.name))),
        );
    }
    table(&ADDRESS_HEADER, &rows, "no addresses", style)
}

fn address_row(one: &AddressStatus, group: Option<&String>) -> Vec<Cell> {
    let home = one.host.is_some() && one.host == one.preferred_host;
    let tone = match one.state {
        AddressWord::Online if home => Tone::Good,
        AddressWord::Online | AddressWord::Acquiring | AddressWord::Releasing => Tone::Warn,
        AddressWord::Unserved => Tone::Bad,
    };
    let mut row: Vec<Cell> = group.map(cell).into_iter().collect();
    row.extend([
        cell(one.address.to_string()),
        toned(tone, one.state.as_str()),
        optional(one.host.as_ref()),
        optional(one.preferred_host.as_ref()),
        cell(one.epoch.to_string()),
        optional(
            one.orphan_expires_s
                .map(|s| format!("in {}", span(s.saturating_mul(1_000)))),
        ),
        cell(&one.reason),
    ]);
    row
}

/// A group's zone.
pub fn zone(zone: &ZoneReport, style: Style) -> String {
    let servers: Vec<String> = zone.servers.iter().map(ToString::to_string).collect();
    let head = style.paint(
        Tone::Strong,
        &format!("zone {} of group {}", clean(&zone.zone), clean(&zone.group)),
    );
    let records = zone.records.iter().map(|one| {
        vec![
            cell(&one.name),
            cell(one.ttl_s.to_string()),
            cell("IN"),
            cell(&one.kind),
            cell(&one.value),
        ]
    });
    let records = table(
        &["NAME", "TTL", "", "TYPE", "VALUE"],
        &records.collect::<Vec<_>>(),
        "no records",
        style,
    );
    let members = zone_members(zone, style);
    let served = if servers.is_empty() {
        "nobody".to_owned()
    } else {
        servers.join(" ")
    };
    let notes = zone_notes(zone, style);
    format!(
        "{head}  serial {}  served by {served}\n{records}\n{members}{notes}",
        zone.serial
    )
}

fn zone_members(zone: &ZoneReport, style: Style) -> String {
    let members = zone.members.iter().map(|one| {
        let word = if one.published {
            toned(Tone::Good, "in")
        } else {
            toned(Tone::Warn, "out")
        };
        vec![
            cell(&one.host),
            optional(one.address),
            word,
            cell(rule_word(one.rule)),
            optional(one.utilization),
            optional(one.weighted),
            cell(&one.reason),
        ]
    });
    table(
        &[
            "MEMBER", "ADDRESS", "ZONE", "RULE", "LOAD", "WEIGHTED", "WHY",
        ],
        &members.collect::<Vec<_>>(),
        "no members",
        style,
    )
}

/// The numbers that decide by load, and what is out of the ordinary.
fn zone_notes(zone: &ZoneReport, style: Style) -> String {
    let marks = &zone.marks;
    let marks = format!(
        "load of {}: out above {}, back down to {}; the {} least used stay; looked at each {}",
        marks.scale,
        marks.high_water,
        marks.low_water,
        marks.min_addresses,
        span(marks.sample_interval_ms)
    );
    let mut told = format!("{}\n", style.paint(Tone::Dim, &marks));
    if zone.withheld {
        let words =
            "the host that answered this gives SERVFAIL for the zone: out of touch with the quorum";
        told += &format!("{}\n", style.paint(Tone::Bad, words));
    }
    if zone.last_known {
        let words = "nothing may be published: the zone names what it named last (all_down)";
        told += &format!("{}\n", style.paint(Tone::Bad, words));
    }
    if zone.at_fault {
        let words = "an address that should be here is missing: records live for fault_ttl";
        told += &format!("{}\n", style.paint(Tone::Warn, words));
    }
    told
}

/// A rule as JSON spells it, but for its underscores.
fn rule_word(rule: ZoneRule) -> String {
    let word = serde_json::to_value(rule).ok();
    let word = word.as_ref().and_then(serde_json::Value::as_str);
    word.unwrap_or_default().replace('_', " ")
}

/// Events, one line each.
pub fn events(events: &[EventRecord], style: Style) -> String {
    if events.is_empty() {
        return format!("{}\n", style.paint(Tone::Dim, "nothing happened"));
    }
    events.iter().map(|one| event(one, style)).collect()
}

/// One event as a line.
pub fn event(one: &EventRecord, style: Style) -> String {
    let tone = match one.kind.as_str() {
        "acquireFail" | "releaseFail" | "testFailed" | "cannotAssign" | "hostDown"
        | "orphanExpired" => Tone::Bad,
        "hostFencing" | "leaderChanged" | "quiesced" | "hostForgotten" => Tone::Warn,
        "hostUp" | "acquire" | "testPassed" => Tone::Good,
        _ => Tone::Plain,
    };
    let kind = style.paint(tone, &format!("{:<14}", clean(&one.kind)));
    let mut line = format!("{}  {:>6}  {kind}", one.at, one.index);
    let whom = [
        one.host.clone(),
        one.group.clone(),
        one.address.map(|ip| ip.to_string()),
    ];
    for word in whom.into_iter().flatten() {
        line.push_str(&format!("  {}", clean(&word)));
    }
    if let Some(reason) = &one.reason {
        line.push_str(&format!("  {}", style.paint(Tone::Dim, &clean(reason))));
    }
    let phases = phases(one.phases.as_ref());
    if !phases.is_empty() {
        line.push_str(&format!("  [{phases}]"));
    }
    line.push('\n');
    line
}

/// Why an address is where it is.
pub fn why(why: &WhyReport, style: Style) -> String {
    let address = style.paint(Tone::Strong, &why.address.to_string());
    let holder = why
        .holder
        .as_deref()
        .map_or_else(|| "nobody".to_owned(), clean);
    let home = why
        .preferred_host
        .as_deref()
        .map_or_else(|| "none: its host was forgotten".to_owned(), clean);
    let mut out = format!(
        "{address} of group {} is {}, held by {holder}, epoch {}, for {}\n  preferred host  {home}\n  because         {}\n  next            {}\n\n",
        clean(&why.group),
        why.state.as_str(),
        why.epoch,
        span(why.since_ms),
        clean(&why.rule),
        clean(&why.next)
    );
    let rows: Vec<Vec<Cell>> = why
        .candidates
        .iter()
        .map(|one| {
            let tone = if one.chosen { Tone::Good } else { Tone::Plain };
            vec![toned(tone, &one.host), toned(tone, &one.verdict)]
        })
        .collect();
    out.push_str(&table(
        &["CANDIDATE", "VERDICT IF IT WERE PLACED NOW"],
        &rows,
        "the group has no members",
        style,
    ));
    out
}

/// What the leader would do.
pub fn plan(plan: &PlanReport, style: Style) -> String {
    let mut out = String::new();
    if !plan.hypotheses.is_empty() {
        out.push_str(&format!(
            "supposing: {}\n",
            clean(&plan.hypotheses.join(", "))
        ));
    }
    if plan.steps.is_empty() {
        out.push_str(&style.paint(Tone::Good, "nothing to do: the array is as it should be"));
        out.push('\n');
    }
    for (index, step) in plan.steps.iter().enumerate() {
        let raw = style.paint(Tone::Dim, &clean(&step.raw));
        out.push_str(&format!(
            "{:>3}. {}\n     {raw}\n",
            index + 1,
            clean(&step.words)
        ));
    }
    out
}

/// What an audit found.
pub fn audit(audit: &AuditReport, style: Style) -> String {
    let row = |one: &AuditedHost| {
        let state = match (one.up, one.index) {
            (false, _) => toned(Tone::Dim, "down, not asked"),
            (true, None) => toned(Tone::Bad, "silent"),
            (true, Some(_)) => toned(Tone::Good, "up"),
        };
        let fingerprint = optional(one.fingerprint.as_ref());
        vec![cell(&one.host), state, optional(one.index), fingerprint]
    };
    let rows: Vec<Vec<Cell>> = audit.hosts.iter().map(row).collect();
    let header = ["HOST", "STATE", "INDEX", "FINGERPRINT"];
    let mut out = table(&header, &rows, "no hosts", style);
    for one in &audit.broken {
        let law = style.paint(Tone::Bad, &format!("broken: {}", clean(&one.law)));
        out.push_str(&format!("{law}: {}\n", clean(&one.detail)));
    }
    if audit.broken.is_empty() {
        let well = "all is well: equal states, every address served that can be, zones true";
        out.push_str(&format!("{}\n", style.paint(Tone::Good, well)));
    }
    out
}

/// A span of time, rounded for the eye.
fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}
