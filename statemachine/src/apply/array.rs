//! The array as a whole: its founding, its leaders, its timing.

use alloc::collections::BTreeSet;

use super::Context;
use crate::{ArrayCommand, Effect, Happening, HostId, Rejected, State};

pub(super) fn apply(
    state: &mut State,
    command: &ArrayCommand,
    cx: &mut Context<'_>,
) -> Result<(), Rejected> {
    match command {
        ArrayCommand::Found {
            array,
            timing,
            name,
            control,
        } => {
            if state.array.is_some() {
                return Err(Rejected::WrongBeginning);
            }
            if !super::host::is_host_name(name) {
                return Err(Rejected::BadName(name.clone()));
            }
            timing
                .check()
                .map_err(|unsafe_| Rejected::BadTiming(unsafe_.0))?;
            state.array = Some(*array);
            state.timing = *timing;
            state.timing_index = cx.index;
            let founder = HostId(1);
            let host = super::host::newcomer(founder, name, control, cx.index);
            state.hosts.insert(founder, host);
            cx.tell(Effect::new(Happening::HostJoined).host(founder));
            Ok(())
        }
        ArrayCommand::Lead { host, term } => {
            state.host(*host)?;
            if let Some((_, current)) = state.leader.filter(|(_, current)| current >= term) {
                return Err(Rejected::Stale {
                    planned: *term,
                    current,
                });
            }
            state.leader = Some((*host, *term));
            cx.tell(Effect::new(Happening::LeaderChanged { term: *term }).host(*host));
            Ok(())
        }
        ArrayCommand::Retime { timing, seen } => {
            if state.timing != *seen {
                return Err(Rejected::Stale {
                    planned: 0,
                    current: state.timing_index,
                });
            }
            timing
                .check()
                .map_err(|unsafe_| Rejected::BadTiming(unsafe_.0))?;
            // Hosts that have not applied this entry count with any timing since the last `Settle`.
            state.previous_lease_ms = state.longest_lease_ms();
            state.timing = *timing;
            state.timing_index = cx.index;
            cx.tell(Effect::new(Happening::Retimed));
            Ok(())
        }
        ArrayCommand::Settle { seen } => settle(state, *seen, cx),
        ArrayCommand::Told { index } => told(state, *index, cx),
    }
}

/// The mark only moves forward, and never to what has not happened.
fn told(state: &mut State, index: u64, cx: &Context<'_>) -> Result<(), Rejected> {
    if index <= state.told || index >= cx.index {
        return Err(Rejected::Stale {
            planned: index,
            current: state.told,
        });
    }
    state.told = index;
    Ok(())
}

/// The leader is a witness to what hosts have applied. A fence that stands may yet be lifted from a host
/// that has not, so it must end first.
fn settle(state: &mut State, seen: u64, cx: &mut Context<'_>) -> Result<(), Rejected> {
    if state.timing_index != seen {
        return Err(Rejected::Stale {
            planned: seen,
            current: state.timing_index,
        });
    }
    if state.is_settled() {
        return Err(Rejected::WrongState("the timing is settled".into()));
    }
    if let Some(host) = state.hosts.values().find(|host| host.fence().is_some()) {
        let why = alloc::format!("host {} is fenced", host.name);
        return Err(Rejected::WrongState(why));
    }
    state.previous_lease_ms = 0;
    cx.tell(Effect::new(Happening::TimingSettled));
    Ok(())
}

/// True when `names` holds no value twice.
pub(super) fn distinct<T: Ord>(values: impl Iterator<Item = T>) -> bool {
    let mut seen = BTreeSet::new();
    let mut values = values;
    values.all(|value| seen.insert(value))
}
