//! The name server's limits as a host's file sets them.

use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::array::{Array, until};
use crate::ask;

/// Queries at once: more than the small rate, less than the usual one allows in a second.
const QUERIES: usize = 60;

/// How many of many queries at once a name server answers.
fn answered(server: SocketAddr) -> usize {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    for _ in 0..QUERIES {
        let query = b"\x5a\xa5\0\0\0\x01\0\0\0\0\0\0\x03web\x07example\0\0\x01\0\x01";
        socket.send(query).unwrap();
    }
    let mut buffer = [0; 1500];
    (0..QUERIES)
        .take_while(|_| socket.recv(&mut buffer).is_ok())
        .count()
}

/// Goal: the rate that a host's file names is the one that its clients get; others keep the usual one.
/// Method: one of three with a small rate and no slip, asked often at once, beside another.
#[test]
fn the_rate_of_a_hosts_file_is_what_its_clients_get() {
    let mut array = Array::start(3);
    array.end();
    let file = array.data(1).join("rais.toml");
    let mut config = std::fs::File::options().append(true).open(file).unwrap();
    writeln!(config, "\n[dns.rate]\nanswers = 5\nslip = 0").unwrap();
    array.resume();
    array.whole();
    until("an answer below the rate", 10, || {
        ask::published(array.dns(1))
    });
    let (limited, usual) = (answered(array.dns(1)), answered(array.dns(2)));
    assert_eq!(usual, QUERIES);
    assert!(limited < QUERIES / 2, "{limited} of {QUERIES}");
}
