//! The kernel's events about a link and the machines on it, as the test object `interface` hears them.

use std::net::{SocketAddr, UdpSocket};

use host::address::Addresses;
use host::changes::{Changes, Topic};
use host::clock::boottime_us;
use host::neighbours::{Neighbour, Neighbours};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::netns::{CLIENT4, DEVICE, Wire, ip};

/// Waits until something is told, at most 5 s. Gives how long it took, in us.
fn hear(changes: &Changes) -> u64 {
    let began = boottime_us();
    loop {
        // SAFETY: `changes` owns its descriptor and outlives the borrow.
        let fd = unsafe { BorrowedFd::borrow_raw(changes.as_raw_fd()) };
        let limit = Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        };
        let ready = poll(
            &mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)],
            Some(&limit),
        );
        assert_eq!(ready, Ok(1), "nothing is told");
        if changes.look().unwrap() {
            return boottime_us() - began;
        }
    }
}

/// Goal: a link that is lost is told, without a look each so often; what happens to another is not.
#[test]
fn a_lost_link_is_told() {
    let Some(wire) = Wire::lay("a_lost_link_is_told") else {
        return;
    };
    let index = wire.at_host.index;
    let open = move || Changes::open(Topic::Link, index).unwrap();
    let changes = wire.host.run(open);
    let other = wire.host.run(|| Changes::open(Topic::Link, 1).unwrap());
    assert!(!changes.look().unwrap());
    wire.client.shell(&format!("ip link set {DEVICE} down"));
    let carrier = || {
        Addresses::open()
            .unwrap()
            .interface(DEVICE)
            .unwrap()
            .unwrap()
            .carrier
    };
    while wire.host.run(carrier) {
        hear(&changes);
    }
    assert!(!other.look().unwrap());
}

/// Goal: the answer of a machine on the link is told.
#[test]
fn an_answer_on_the_link_is_told() {
    let Some(wire) = Wire::lay("an_answer_on_the_link_is_told") else {
        return;
    };
    let index = wire.at_host.index;
    let found = wire.host.run(move || {
        let changes = Changes::open(Topic::Neighbours, index).unwrap();
        let neighbours = Neighbours::open().unwrap();
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket
            .send_to(&[0], SocketAddr::new(ip(CLIENT4), 9))
            .unwrap();
        loop {
            match neighbours.of(index, ip(CLIENT4)).unwrap() {
                Neighbour::Unknown => hear(&changes),
                found => return found,
            };
        }
    });
    assert_eq!(found, Neighbour::Reachable);
}
