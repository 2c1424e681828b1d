//! Sends each UDP datagram back, with the socket code of the DNS server and nothing else: the
//! floor that no server on this machine can be below.
//!
//! `cargo run --release -p dns --example echo -- 127.0.0.1:5301 [BYTES]`: with BYTES shorter
//! datagrams come back that long, as a larger answer costs the kernel more.
#![allow(clippy::print_stdout)]

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use dns::server::batch::{Batch, DATAGRAM, Wait};

/// The QR bit, so that a client takes it for an answer.
const RESPONSE: u8 = 0x80;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen: SocketAddr = match arguments.next() {
        Some(address) => address.parse()?,
        None => SocketAddr::from(([127, 0, 0, 1], 5_301)),
    };
    let least: usize = match arguments.next() {
        Some(bytes) => bytes.parse()?,
        None => 0,
    };
    let socket = UdpSocket::bind(listen)?;
    println!("echoing on {listen}");
    let mut batch = Batch::default();
    loop {
        batch.receive(socket.as_fd(), Wait::ForOne)?;
        for datagram in batch.datagrams() {
            if let Some(flags) = datagram.buffer.get_mut(2) {
                *flags |= RESPONSE;
            }
            *datagram.length = least.clamp(*datagram.length, DATAGRAM);
        }
        batch.send(socket.as_fd());
    }
}
