//! An interface with carrier, and a gateway that answers on the link.
//!
//! The gateway is asked by ARP or ND, which every machine on a link answers and which needs no
//! privilege: a datagram to it makes the kernel look for it, and the kernel's list says how that went.
//!
//! Limits: a gateway that answers on the link may still lead nowhere.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use host::address::Addresses;
use host::neighbours::{Neighbour, Neighbours};
use tokio::net::UdpSocket;

use super::tcp::short;

/// Port of the datagram: "discard", where nobody is disturbed.
const DISCARD: u16 = 9;
/// Between two looks at the kernel's list.
const LOOK: Duration = Duration::from_millis(20);

/// Whether the interface is fit for use.
pub(super) async fn test(name: &str, gateway: Option<IpAddr>) -> Result<(), String> {
    let fail = |error: std::io::Error| format!("{name}: {}", short(&error));
    let found = Addresses::open()
        .and_then(|open| open.interface(name))
        .map_err(fail)?;
    let Some(interface) = found else {
        return Err(format!("there is no interface {name}"));
    };
    if !interface.carrier {
        return Err(format!("{name} has no carrier, or is switched off"));
    }
    match gateway {
        Some(gateway) => reach(name, interface.index, gateway).await,
        None => Ok(()),
    }
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
    let mut sent = false;
    // Ends with the time-out of the run, or when the kernel gives up.
    loop {
        match neighbours.of(index, gateway).map_err(fail)? {
            Neighbour::Reachable => return Ok(()),
            Neighbour::Failed if sent => {
                return Err(format!("gateway {gateway} does not answer on {name}"));
            }
            _ => {}
        }
        if !sent {
            let to = SocketAddr::new(gateway, DISCARD);
            socket.send_to(&[0], to).await.map_err(fail)?;
            sent = true;
        }
        tokio::time::sleep(LOOK).await;
    }
}
