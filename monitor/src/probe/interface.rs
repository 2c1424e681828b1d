//! An interface with carrier, and a gateway that answers on the link.
//!
//! The gateway is asked by ARP or ND, which every machine on a link answers and which needs no
//! privilege: a datagram to it makes the kernel look for it, and the kernel tells when that went well
//! or ill. Each run sends one, or nobody would ask again what an old answer is worth.
//!
//! Limits: a gateway that answers on the link may still lead nowhere.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use host::address::Addresses;
use host::changes::{Changes, Topic};
use host::neighbours::{Neighbour, Neighbours};
use tokio::net::UdpSocket;

use super::life::{Life, await_change, watched};
use super::tcp::short;
use super::{Found, Reading};

/// Port of the datagram: "discard", where nobody is disturbed.
const DISCARD: u16 = 9;

/// Whether the interface is fit for use; its link is watched if so.
pub(super) async fn test(name: &str, gateway: Option<IpAddr>) -> Found {
    match look(name, gateway).await {
        Ok(index) => Found {
            outcome: Ok(Reading::Passed),
            life: Some(Life::Link {
                name: name.to_owned(),
                index,
            }),
        },
        Err(why) => Err(why).into(),
    }
}

async fn look(name: &str, gateway: Option<IpAddr>) -> Result<u32, String> {
    let fail = |error: std::io::Error| format!("{name}: {}", short(&error));
    let found = Addresses::open()
        .and_then(|open| open.interface(name))
        .map_err(fail)?;
    let interface = found.ok_or_else(|| gone(name))?;
    if !interface.carrier {
        return Err(no_carrier(name));
    }
    if let Some(gateway) = gateway {
        reach(name, interface.index, gateway).await?;
    }
    Ok(interface.index)
}

/// In words: the interface is gone.
pub(super) fn gone(name: &str) -> String {
    format!("there is no interface {name}")
}

/// In words: its link is gone.
pub(super) fn no_carrier(name: &str) -> String {
    format!("{name} has no carrier, or is switched off")
}

async fn reach(name: &str, index: u32, gateway: IpAddr) -> Result<(), String> {
    let fail = |error: std::io::Error| format!("gateway {gateway}: {}", short(&error));
    let any = if gateway.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any).await.map_err(fail)?;
    let neighbours = Neighbours::open().map_err(fail)?;
    let deaf = || format!("gateway {gateway}: the kernel's events cannot be heard");
    // Before the question, or its answer could be missed.
    let changes = Changes::open(Topic::Neighbours, index).map_err(fail)?;
    let changes = watched(changes).ok_or_else(deaf)?;
    let to = target(gateway, index);
    socket.send_to(&[0], to).await.map_err(fail)?;
    // Ends with the time-out of the run, or when the kernel gives up.
    loop {
        match neighbours.of(index, gateway).map_err(fail)? {
            Neighbour::Reachable => return Ok(()),
            Neighbour::Failed => {
                return Err(format!("gateway {gateway} does not answer on {name}"));
            }
            Neighbour::Unknown => await_change(&changes).await.ok_or_else(deaf)?,
        }
    }
}

/// A link-local address is one of a link: the interface's.
fn target(gateway: IpAddr, index: u32) -> SocketAddr {
    match gateway {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, DISCARD, 0, index).into()
        }
        ip => SocketAddr::new(ip, DISCARD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a gateway of the link alone is asked on that link, any other wherever the routes lead.
    #[test]
    fn a_link_local_gateway_is_asked_on_its_link() {
        let asked = |ip: &str| target(ip.parse().unwrap(), 7).to_string();
        assert_eq!(asked("fe80::1"), "[fe80::1%7]:9");
        assert_eq!(asked("fd00::1"), "[fd00::1]:9");
        assert_eq!(asked("10.0.0.1"), "10.0.0.1:9");
    }
}
