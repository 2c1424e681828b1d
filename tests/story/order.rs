//! The orders of a story.
//!
//! array hosts=N [voters=N] [spare=hI,…] [observer=hI,…] [seed=N] [election=MS] [POLICY…]
//! run 2s | 300ms | quietly 2s        time passes; quietly: nothing is told of it
//! show | zone | zone why | why ADDRESS    look
//! kill|crash|restart|pause|continue hI    (crash: the warden too, so that its gate stays)
//! cut hI hJ | cut hI -> hJ | deafen hI -> hJ | isolate hI | heal | loss PERCENT | slow hI MS
//! election MS
//! load hI N | tests hI pass|fail | acquire hI works|fails | interface hI goes
//! quiesce hI [drain] | resume hI | move ADDRESS hI | forget hI | voters hI … | policy POLICY…
//! POLICY: rebalance= placement= orphan_ttl= min= high= low= all_down= ttl=S/FAULT_S

use std::net::IpAddr;

use chaos::{Setup, Weather, World};
use control::LocalGroup;
use statemachine::{
    AddressCommand, AllDown, Command, GroupCommand, HostCommand, HostId, Placement, Policy,
    QuorumLoss, Rebalance, Timing,
};

use super::show;

/// What an address may be used of, in every story.
const CAPACITY: u32 = 1000;

pub fn obey(world: &mut Option<World>, order: &str) -> Result<String, String> {
    let words: Vec<&str> = order.split_whitespace().collect();
    let Some((verb, rest)) = words.split_first() else {
        return Ok(String::new());
    };
    if *verb == "array" {
        *world = Some(World::new(setup(rest)?));
        return Ok(String::new());
    }
    let world = world.as_mut().ok_or("no array yet")?;
    match (*verb, rest) {
        ("run" | "quietly", [time]) => world.run_ms(ms(time)?),
        ("show", []) => return Ok(show::all(world)),
        ("zone", []) => return Ok(show::zones(world)),
        ("zone", ["why"]) => return Ok(show::zones(world) + &show::judged(world)),
        ("why", [address]) => return Ok(show::why(world, ip(address)?)),
        (_, _) if happen(world, verb, rest)? || ask(world, verb, rest)? => {}
        _ => return Err("no such order".into()),
    }
    Ok(String::new())
}

/// What befalls the array; false when it is no such word.
fn happen(world: &mut World, verb: &str, rest: &[&str]) -> Result<bool, String> {
    match (verb, rest) {
        ("kill", [h]) => world.kill(host(h)?, false),
        ("crash", [h]) => world.kill(host(h)?, true),
        ("restart", [h]) => world.restart(host(h)?),
        ("pause", [h]) => world.pause(host(h)?),
        ("continue", [h]) => world.go_on(host(h)?),
        ("cut", [a, "->", b]) => world.cut(host(a)?, host(b)?),
        ("cut", [a, b]) => {
            world.cut(host(a)?, host(b)?);
            world.cut(host(b)?, host(a)?);
        }
        ("deafen", [a, "->", b]) => world.deafen(host(a)?, host(b)?),
        ("isolate", [h]) => {
            let h = host(h)?;
            for other in world.setup().ids().into_iter().filter(|other| *other != h) {
                world.cut(h, other);
                world.cut(other, h);
            }
        }
        ("heal", []) => world.heal(),
        ("election", [time]) => world.election_takes(ms(time)?),
        ("loss", [percent]) => world.weather(Weather {
            loss_per_mille: 10 * number(percent)?,
            ..Weather::FAIR
        }),
        ("slow", [h, time]) => {
            let us = ms(time)? * 1000;
            world.apply_takes(host(h)?, (us, us));
        }
        ("load", [h, load]) => {
            let load = u32::try_from(number(load)?).map_err(|e| e.to_string())?;
            let healthy = world.measured(host(h)?).healthy;
            let capacity = CAPACITY;
            world.measure(
                host(h)?,
                LocalGroup {
                    healthy,
                    load,
                    capacity,
                },
            );
        }
        ("tests", [h, how @ ("pass" | "fail")]) => {
            let healthy = *how == "pass";
            let measured = world.measured(host(h)?);
            world.measure(
                host(h)?,
                LocalGroup {
                    healthy,
                    ..measured
                },
            );
        }
        ("acquire", [h, how @ ("works" | "fails")]) => {
            world.acquire_works(host(h)?, *how == "works");
        }
        ("interface", [h, "goes"]) => world.interface_goes(host(h)?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// What operators ask; false when it is no such word.
fn ask(world: &mut World, verb: &str, rest: &[&str]) -> Result<bool, String> {
    let group = None;
    let command = match (verb, rest) {
        ("quiesce", [h]) => Command::Group(GroupCommand::Quiesce {
            host: host(h)?,
            group,
            drain: false,
        }),
        ("quiesce", [h, "drain"]) => Command::Group(GroupCommand::Quiesce {
            host: host(h)?,
            group,
            drain: true,
        }),
        ("resume", [h]) => Command::Group(GroupCommand::Resume {
            host: host(h)?,
            group,
        }),
        ("move", [address, h]) => Command::Address(AddressCommand::Move {
            address: ip(address)?,
            to: host(h)?,
        }),
        ("forget", [h]) => Command::Host(HostCommand::Forget { host: host(h)? }),
        ("policy", options) => apply_policy(world, options)?,
        ("voters", names) => {
            let wanted = names
                .iter()
                .map(|name| host(name))
                .collect::<Result<_, _>>()?;
            world.revote(wanted);
            return Ok(true);
        }
        _ => return Ok(false),
    };
    world.operate(vec![command]);
    Ok(true)
}

fn apply_policy(world: &World, options: &[&str]) -> Result<Command, String> {
    let state = world.state();
    let name = &world.setup().policy.name;
    let group = state.groups.get(name).ok_or("no group")?;
    let mut wanted = group.policy.clone();
    for option in options {
        if !policy(&mut wanted, option)? {
            return Err(format!("no such policy: {option}"));
        }
    }
    Ok(Command::Group(GroupCommand::Apply {
        policy: Box::new(wanted),
        seen: Some(group.generation),
    }))
}

fn setup(options: &[&str]) -> Result<Setup, String> {
    let mut setup = Setup::new(1, 3);
    setup.drift = false;
    for option in options {
        let (key, value) = option.split_once('=').ok_or("KEY=VALUE is wanted")?;
        match key {
            "hosts" => (setup.hosts, setup.voters) = (number(value)?, number(value)?),
            "voters" => setup.voters = number(value)?,
            "spare" => setup.spares = value.split(',').map(host).collect::<Result<_, _>>()?,
            "observer" => setup.observers = value.split(',').map(host).collect::<Result<_, _>>()?,
            "seed" => setup.seed = number(value)?,
            "election" => setup.election_ms = ms(value)?,
            "timing" => {
                setup.timing = match value {
                    "fast" => Timing::FAST,
                    "lan" => Timing::LAN,
                    "wan" => Timing::WAN,
                    _ => return Err(format!("no such timing: {value}")),
                }
            }
            _ if policy(&mut setup.policy, option)? => {}
            _ => return Err(format!("no such option: {option}")),
        }
    }
    Ok(setup)
}

/// Changes one thing of a policy; false when it is no such thing.
fn policy(policy: &mut Policy, option: &str) -> Result<bool, String> {
    let small = |value| Ok::<u32, String>(u32::try_from(number(value)?).unwrap_or(u32::MAX));
    match option.split_once('=').ok_or("KEY=VALUE is wanted")? {
        ("rebalance", "prefer") => policy.rebalance = Rebalance::Prefer,
        ("rebalance", "sticky") => policy.rebalance = Rebalance::Sticky,
        ("placement", "balanced") => policy.placement = Placement::Balanced,
        ("placement", "random") => policy.placement = Placement::Random,
        ("all_down", "empty") => policy.all_down = AllDown::Empty,
        ("all_down", "last_known") => policy.all_down = AllDown::LastKnown,
        ("ttl", value) => {
            let (ttl, fault) = value.split_once('/').ok_or("ttl=S/FAULT_S is wanted")?;
            (policy.ttl_s, policy.fault_ttl_s) = (small(ttl)?, small(fault)?);
        }
        ("orphan_ttl", "never") => policy.orphan_ttl_ms = None,
        ("orphan_ttl", value) => policy.orphan_ttl_ms = Some(ms(value)?),
        ("last_resort", after) => {
            policy.quorum_loss = QuorumLoss::LastResort;
            policy.last_resort_after_ms = ms(after)?;
        }
        ("min", value) => policy.min_addresses = small(value)?,
        ("high", value) => policy.high_water = small(value)?,
        ("low", value) => policy.low_water = small(value)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn number(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches('%');
    digits.parse().map_err(|_| format!("no number: {text}"))
}

fn ms(text: &str) -> Result<u64, String> {
    match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(count), _) => number(count),
        (None, Some(count)) => Ok(1000 * number(count)?),
        (None, None) => Err(format!("no time: {text}; say 2s or 300ms")),
    }
}

fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("no address: {text}"))
}

fn host(text: &str) -> Result<HostId, String> {
    let id = text
        .strip_prefix('h')
        .and_then(|digits| digits.parse().ok());
    id.map(HostId).ok_or(format!("no host: {text}"))
}
