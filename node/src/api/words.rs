//! Decisions of the leader in words: what `rais why` and `rais plan` say.
//!
//! The leader's own functions give the data (`control::why`, `control::plan`); this file only puts
//! it into sentences, so an explanation can't differ from the deed.

use std::net::IpAddr;

use control::{Verdict, Why};
use statemachine::{
    AddressCommand, AddressState, ArrayCommand, Command, GroupCommand, GroupName, HostCommand,
    HostId, Rebalance, State,
};

use super::event::reason_words;
use super::report::{CandidateReport, PlanReport, PlanStep, WhyReport};
use super::request::Hypothesis;
use super::status::AddressWord;

/// The answer to `rais why`, from the leader's explanation of `ip`.
pub fn why_report(ip: IpAddr, why: &Why, state: &State) -> WhyReport {
    let address = &why.address;
    let candidates = why.candidates.iter().map(|one| CandidateReport {
        host: state.name_of(one.host),
        chosen: matches!(one.verdict, Verdict::Chosen { .. }),
        verdict: verdict_words(&one.verdict, state),
    });
    let (next, next_in_ms) = next_words(why, state);
    WhyReport {
        address: ip,
        group: address.group.0.clone(),
        state: AddressWord::of(&address.state),
        holder: address.state.host().map(|host| state.name_of(host)),
        preferred_host: address.preferred.map(|host| state.name_of(host)),
        epoch: address.epoch.0,
        rule: reason_words(why.rule).to_owned(),
        since_ms: state.at.since(address.since),
        candidates: candidates.collect(),
        next,
        next_in_ms,
    }
}

/// The answer to `rais plan`, from the steps that the leader drew.
pub fn plan_report(steps: &[Command], hypotheses: &[Hypothesis], state: &State) -> PlanReport {
    let step = |command: &Command| PlanStep {
        words: command_words(command, state),
        raw: format!("{command:?}"),
    };
    PlanReport {
        hypotheses: hypotheses.iter().map(Hypothesis::to_string).collect(),
        index: state.index,
        steps: steps.iter().map(step).collect(),
    }
}

/// What was found of a member, as `chosen because …` or `passed over because …`.
pub fn verdict_words(verdict: &Verdict, state: &State) -> String {
    let why = match verdict {
        Verdict::Chosen { reason } => return format!("chosen because {}", reason_words(*reason)),
        Verdict::Down => "it is down",
        Verdict::Fencing => "it is being fenced: its leases are running out",
        Verdict::Silent => "it was not heard in time",
        Verdict::Leaseless => "its lease is not valid",
        Verdict::Observer => "it is an observer and never holds an address",
        Verdict::Quiesced => "an operator quiesced it",
        Verdict::Unhealthy { why: None } => "its tests fail",
        Verdict::Unhealthy { why: Some(why) } => {
            return format!("passed over because its tests fail: {why}");
        }
        Verdict::Backoff { until } => {
            let wait = until.since(state.at);
            return format!(
                "passed over because it failed to take this address; it is tried again in {wait} ms"
            );
        }
        Verdict::NotPinned => "an operator moved the address to another host",
        Verdict::NotPreferred => "the preferred host goes first",
        Verdict::NotClaiming => "another host claims the address already",
        Verdict::NotSpare => "a hot spare goes first",
        Verdict::HoldsMore { held } => {
            return format!(
                "passed over because it holds {held} addresses, more than the one chosen"
            );
        }
        Verdict::UsedMore { utilization } => {
            return format!(
                "passed over because its utilization {utilization} is higher than that of the one chosen"
            );
        }
        Verdict::Lot => "it was equal to the one chosen, and the lot fell on that one",
    };
    format!("passed over because {why}")
}

/// What happens next with an address, and in how many ms when that is a matter of time.
fn next_words(why: &Why, state: &State) -> (String, Option<u64>) {
    if !why.next.is_empty() {
        let steps: Vec<String> = why
            .next
            .iter()
            .map(|command| command_words(command, state))
            .collect();
        return (format!("now: {}", steps.join(", then ")), Some(0));
    }
    match why.address.state {
        AddressState::Acquiring { host } => (
            format!(
                "{} reports that it serves it, or that it can't",
                state.name_of(host)
            ),
            None,
        ),
        AddressState::Releasing { host } => (
            format!(
                "{} confirms that it let go, or is fenced",
                state.name_of(host)
            ),
            None,
        ),
        AddressState::Unserved if why.choice.is_none() => {
            let first = soonest_retry(why, state);
            let wait = "it is served as soon as a member can: up, healthy and not quiesced";
            match (first, why.orphan_expires_ms) {
                (Some(ms), _) => (format!("{wait}; the next try is in {ms} ms"), Some(ms)),
                (None, Some(ms)) => (
                    format!(
                        "{wait}; otherwise it leaves the group as an orphan in {}",
                        span(ms)
                    ),
                    Some(ms),
                ),
                (None, None) => (wait.to_owned(), None),
            }
        }
        AddressState::Unserved => (
            "the leader assigns it with its next plan".to_owned(),
            Some(0),
        ),
        AddressState::Online { host } => match why.orphan_expires_ms {
            Some(ms) => (
                format!(
                    "{}; it leaves the group as an orphan in {}",
                    away(why, host, state),
                    span(ms)
                ),
                Some(ms),
            ),
            None if why.address.preferred != Some(host) => (away(why, host, state), None),
            None => ("nothing: this is the equilibrium".to_owned(), None),
        },
    }
}

/// What an address away from home waits for.
fn away(why: &Why, holder: HostId, state: &State) -> String {
    if why.address.pin == Some(holder) {
        return format!("nothing: an operator keeps it on {}", state.name_of(holder));
    }
    let group = state.groups.get(&why.address.group);
    let sticky = group.is_some_and(|group| group.policy.rebalance == Rebalance::Sticky);
    match why.address.preferred {
        Some(home) if sticky => format!(
            "nothing until an operator moves it: the group is sticky, and {} does not take it back by itself",
            state.name_of(home)
        ),
        Some(home) => format!("nothing until {} takes it again", state.name_of(home)),
        None => "nothing: no host prefers it any more".to_owned(),
    }
}

/// A span of time as people say it.
fn span(ms: u64) -> String {
    match ms.div_ceil(1_000) {
        s if s >= 2 * 86_400 => format!("{} days", s / 86_400),
        s if s >= 2 * 3_600 => format!("{} hours", s / 3_600),
        s => format!("{s} s"),
    }
}

fn soonest_retry(why: &Why, state: &State) -> Option<u64> {
    let waits = why.candidates.iter().filter_map(|one| match one.verdict {
        Verdict::Backoff { until } => Some(until.since(state.at)),
        _ => None,
    });
    waits.min()
}

/// A command in words.
pub fn command_words(command: &Command, state: &State) -> String {
    match command {
        Command::Tick => "move replicated time on".to_owned(),
        Command::Array(command) => array_words(command, state),
        Command::Host(command) => host_words(command, state),
        Command::Group(command) => group_words(command, state),
        Command::Address(command) => address_words(command, state),
        Command::Token(_) => "open a join token".to_owned(),
    }
}

fn array_words(command: &ArrayCommand, state: &State) -> String {
    match command {
        ArrayCommand::Found { name, .. } => format!("found the array with host {name}"),
        ArrayCommand::Lead { host, term } => {
            format!("{} leads in term {term}", state.name_of(*host))
        }
        ArrayCommand::Retime { .. } => "change the timing".to_owned(),
        ArrayCommand::Settle { .. } => "settle the change of timing".to_owned(),
        ArrayCommand::Told { index } => format!("note that log index {index} has been told"),
    }
}

fn host_words(command: &HostCommand, state: &State) -> String {
    let name = |host: &HostId| state.name_of(*host);
    match command {
        HostCommand::Join { name, .. } => format!("let host {name} join"),
        HostCommand::Configure { host, .. } => {
            format!("take over what {} says of itself", name(host))
        }
        HostCommand::Fence {
            host, silent_ms, ..
        } => format!("fence {}, silent for {silent_ms} ms", name(host)),
        HostCommand::Unfence { host, .. } => format!("lift the fence of {}", name(host)),
        HostCommand::Down { host, .. } => {
            format!("declare {} down; its addresses are free", name(host))
        }
        HostCommand::Up { host, .. } => format!("declare {} up", name(host)),
        HostCommand::Hear { host, .. } => {
            format!("note on which control networks {} is heard", name(host))
        }
        HostCommand::Forget { host } => format!("forget {} for good", name(host)),
    }
}

fn group_words(command: &GroupCommand, state: &State) -> String {
    let name = |host: &HostId| state.name_of(*host);
    let within = |group: &Option<GroupName>| {
        group
            .as_ref()
            .map_or_else(|| "all groups".to_owned(), |group| format!("group {group}"))
    };
    match command {
        GroupCommand::Apply { policy, .. } => format!("apply the policy of group {}", policy.name),
        GroupCommand::Delete { group } => format!("delete group {group}"),
        GroupCommand::Quiesce {
            host,
            group,
            drain: false,
        } => format!("quiesce {} in {}", name(host), within(group)),
        GroupCommand::Quiesce {
            host,
            group,
            drain: true,
        } => format!("drain {} in {}", name(host), within(group)),
        GroupCommand::Resume { host, group } => {
            format!("resume {} in {}", name(host), within(group))
        }
        GroupCommand::Health {
            host,
            group,
            healthy: true,
        } => format!(
            "note that the tests of {} in group {group} pass",
            name(host)
        ),
        GroupCommand::Health {
            host,
            group,
            healthy: false,
        } => format!(
            "note that the tests of {} in group {group} fail",
            name(host)
        ),
        GroupCommand::TestFailed { host, group, error } => format!(
            "note that {} is not well in group {group}: {error}",
            name(host)
        ),
        GroupCommand::Publish {
            group, published, ..
        } => {
            let list: Vec<String> = published.iter().map(IpAddr::to_string).collect();
            let list = if list.is_empty() {
                "no address".to_owned()
            } else {
                list.join(", ")
            };
            format!("publish {list} in the zone of group {group}")
        }
    }
}

fn address_words(command: &AddressCommand, state: &State) -> String {
    let holder = |ip: &IpAddr| {
        let host = state
            .addresses
            .get(ip)
            .and_then(|address| address.state.host());
        host.map_or_else(|| "its holder".to_owned(), |host| state.name_of(host))
    };
    match command {
        AddressCommand::Assign {
            address,
            to,
            reason,
            ..
        } => format!(
            "give {address} to {}, because {}",
            state.name_of(*to),
            reason_words(*reason)
        ),
        AddressCommand::Online { address, .. } => {
            format!("note that {} serves {address}", holder(address))
        }
        AddressCommand::AcquireFailed { address, error, .. } => format!(
            "note that {} could not take {address}: {error}",
            holder(address)
        ),
        AddressCommand::Contest { address, by, .. } => match by {
            Some(by) => format!("note that the machine with MAC {by} claims {address}, too"),
            None => format!("note that nobody else claims {address} any more"),
        },
        AddressCommand::Release {
            address, reason, ..
        } => format!(
            "ask {} to release {address}, because {}",
            holder(address),
            reason_words(*reason)
        ),
        AddressCommand::Released { address, .. } => {
            format!("note that {} let go of {address}", holder(address))
        }
        AddressCommand::Strand { address, .. } => {
            format!("leave {address} unserved: nobody can serve it")
        }
        AddressCommand::Expire { address, .. } => {
            format!("let {address} leave its group: it ran out as an orphan")
        }
        AddressCommand::Move { address, to } => format!("move {address} to {}", state.name_of(*to)),
    }
}
