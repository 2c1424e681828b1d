//! Puts commands, effects and verdicts into one short line each, for traces and stories.

use control::Verdict;
use statemachine::{
    AddressCommand, Command, Effect, GroupCommand, Happening, HostCommand, HostId, State,
};

/// One effect: its kind, whom it concerns, the rule behind it, its numbers.
pub(crate) fn say_effect(state: &State, effect: &Effect) -> String {
    let mut line = effect.what.kind().to_owned();
    if let Some(address) = effect.address {
        line += &format!(" {address}");
    }
    if let Some(host) = effect.host {
        line += &format!(" {}", state.name_of(host));
    }
    line += &match &effect.what {
        Happening::Acquire {
            epoch, acquire_ms, ..
        } => format!(" epoch={epoch} took={acquire_ms}ms"),
        Happening::Assigned { epoch } => format!(" epoch={epoch}"),
        Happening::AcquireFail { error }
        | Happening::ReleaseFail { error }
        | Happening::TestFailed { error }
            if !error.is_empty() =>
        {
            format!(" \"{error}\"")
        }
        Happening::NetworkLost { control } | Happening::NetworkFound { control } => {
            format!(" {control}")
        }
        Happening::HostDown { fence_ms } => format!(" fence={fence_ms}ms"),
        Happening::HostFencing { silent_ms } => format!(" silent={silent_ms}ms"),
        Happening::LeaderChanged { term } => format!(" term={term}"),
        Happening::ZoneChanged {
            serial,
            published,
            ttl_s,
        } => {
            let named: Vec<String> = published.iter().map(ToString::to_string).collect();
            format!(" serial={serial} {{{}}} ttl={ttl_s}", named.join(" "))
        }
        Happening::Quiesced { drain } => (if *drain { " drain" } else { "" }).to_owned(),
        _ => String::new(),
    };
    if let Some(reason) = effect.reason {
        line += &format!(" ({reason:?})");
    }
    line
}

/// One command, for `why` and for what was refused.
#[must_use]
pub fn say_command(state: &State, command: &Command) -> String {
    let name = |id: &HostId| state.name_of(*id);
    match command {
        Command::Address(AddressCommand::Assign {
            address,
            to,
            reason,
            ..
        }) => {
            format!("assign {address} to {} ({reason:?})", name(to))
        }
        Command::Address(AddressCommand::Release {
            address, reason, ..
        }) => {
            format!("release {address} ({reason:?})")
        }
        Command::Address(AddressCommand::Move { address, to }) => {
            format!("move {address} to {}", name(to))
        }
        Command::Host(HostCommand::Fence { host, .. }) => format!("fence {}", name(host)),
        Command::Host(HostCommand::Unfence { host, .. }) => format!("unfence {}", name(host)),
        Command::Host(HostCommand::Down { host, .. }) => format!("down {}", name(host)),
        Command::Host(HostCommand::Up { host, .. }) => format!("up {}", name(host)),
        Command::Host(HostCommand::Forget { host }) => format!("forget {}", name(host)),
        Command::Group(GroupCommand::Quiesce { host, drain, .. }) => {
            format!(
                "quiesce {}{}",
                name(host),
                if *drain { " drain" } else { "" }
            )
        }
        Command::Group(GroupCommand::Resume { host, .. }) => format!("resume {}", name(host)),
        Command::Group(GroupCommand::Apply { policy, .. }) => format!("policy of {}", policy.name),
        other => format!("{other:?}"),
    }
}

/// Why a member was or was not chosen.
#[must_use]
pub fn say_verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Chosen { reason } => format!("chosen ({reason:?})"),
        Verdict::Backoff { until } => format!("back-off until {until}"),
        Verdict::HoldsMore { held } => format!("holds more ({held})"),
        Verdict::UsedMore { utilization } => format!("used more ({utilization})"),
        other => format!("{other:?}"),
    }
}
