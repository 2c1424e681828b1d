//! Invariant 15: some time after the faults every address with an eligible host is served, by its
//! preferred host if that can.
//!
//! Asks the shipped `place` who could, and the kernels who does.

use std::net::IpAddr;

use control::{Core, place};
use statemachine::{Address, AddressState, HostId, LogTime, Rebalance};

/// What is wrong with where an address is, if anything; `serving` are those whose gate lets it pass.
#[must_use]
pub fn wrong(
    core: &Core,
    now: LogTime,
    ip: IpAddr,
    address: &Address,
    serving: &[HostId],
) -> Option<String> {
    let state = core.state();
    let able: Vec<HostId> = place(state, core.view(), now, ip, 0)
        .candidates
        .into_iter()
        .filter(|candidate| candidate.verdict.is_able())
        .map(|candidate| candidate.host)
        .collect();
    let holder = match address.state {
        AddressState::Online { host } => Some(host),
        _ => None,
    };
    if holder.map_or(0, |_| 1) != serving.len() || serving.first().copied() != holder {
        return Some(format!(
            "{ip} is {:?} in the log, served by {serving:?}",
            address.state
        ));
    }
    let Some(holder) = holder else {
        return (!able.is_empty()).then(|| format!("{ip} is not served, {able:?} could"));
    };
    let group = state.groups.get(&address.group)?;
    let wanted = match (address.pin, group.policy.rebalance) {
        (Some(pin), _) => Some(pin),
        (None, Rebalance::Prefer) => address.preferred,
        (None, Rebalance::Sticky) => None,
    };
    let better = wanted.filter(|wanted| able.contains(wanted) && *wanted != holder)?;
    Some(format!("{ip} is served by h{holder}, h{better} should"))
}
