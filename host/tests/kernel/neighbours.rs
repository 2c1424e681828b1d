//! What the kernel says of machines on the link, as the test object `interface` asks it.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use host::clock::boottime_us;
use host::neighbours::{Neighbour, Neighbours};

use crate::netns::{CLIENT4, CLIENT6, Wire, ip};
use crate::observer::wait_until;

/// Makes the kernel look for `who`, and gives what it found in the end.
fn look(wire: &Wire, who: IpAddr) -> Neighbour {
    let index = wire.at_host.index;
    wire.host.run(move || {
        let neighbours = Neighbours::open().unwrap();
        let any = if who.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.send_to(&[0], SocketAddr::new(who, 9)).unwrap();
        // The kernel gives up after three seconds.
        for _ in 0..1_000 {
            match neighbours.of(index, who).unwrap() {
                Neighbour::Unknown => wait_until(boottime_us() + 10_000),
                found => return found,
            }
        }
        Neighbour::Unknown
    })
}

/// Goal: a machine that answers on the link is reachable, one that is not there is given up, and one
/// that nobody looked for is unknown; v4 and v6.
#[test]
fn a_neighbour_is_reachable_given_up_or_unknown() {
    let Some(wire) = Wire::lay("a_neighbour_is_reachable_given_up_or_unknown") else {
        return;
    };
    let index = wire.at_host.index;
    for (there, missing) in [(CLIENT4, "10.9.0.77"), (CLIENT6, "fd09::77")] {
        let missing = ip(missing);
        let before = wire
            .host
            .run(move || Neighbours::open().unwrap().of(index, missing).unwrap());
        assert_eq!(before, Neighbour::Unknown);
        assert_eq!(look(&wire, ip(there)), Neighbour::Reachable);
        assert_eq!(look(&wire, missing), Neighbour::Failed);
    }
}
