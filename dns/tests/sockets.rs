//! The server over real sockets on loopback: both transports, its gate, its limits, its end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use common::{ask, opt, words, zones};
use dns::{DnsServer, ZoneInput, Zones};

/// Longest wait for an answer on loopback; a test that meets it fails.
const PATIENCE: Duration = Duration::from_secs(5);

fn loopback() -> Vec<SocketAddr> {
    vec!["127.0.0.1:0".parse().unwrap()]
}

fn started(zones: Arc<ArcSwap<Zones>>) -> (tokio::runtime::Runtime, DnsServer) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let server = DnsServer::bind(&loopback(), zones, runtime.handle()).unwrap();
    server.set_ready(true);
    (runtime, server)
}

fn client(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn udp(socket: &UdpSocket, query: &[u8]) -> String {
    socket.send(query).unwrap();
    let mut buffer = [0; 4_096];
    let length = socket.recv(&mut buffer).unwrap();
    words(&buffer[..length])
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = (message.len() as u16).to_be_bytes().to_vec();
    frame.extend(message);
    frame
}

fn read_frame(stream: &mut TcpStream) -> String {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    words(&message)
}

/// Goal: both transports answer the same zone; TCP has what UDP truncates.
/// Method: one question each way, a big set, two queries in one TCP segment.
#[test]
fn udp_and_tcp_answer() {
    let (_runtime, server) = started(Arc::new(ArcSwap::from_pointee(zones())));
    let address = server.addresses()[0];
    let host = ask("h2.web.example.", 1).bytes();
    let found = "NoError aa an[A 10.77.0.102]";
    assert_eq!(udp(&client(address), &host), found);
    let big = ask("big.example.", 1).bytes();
    assert_eq!(udp(&client(address), &big), "NoError aa tc");
    let mut stream = connect(address);
    let mut both = frame(&host);
    both.extend(frame(&big));
    stream.write_all(&both).unwrap();
    assert_eq!(read_frame(&mut stream), found);
    let whole = read_frame(&mut stream);
    assert_eq!(whole.matches("A 10.78.0.").count(), 200);
    let stats = server.stats();
    assert_eq!((stats.get("udp"), stats.get("tcp")), (2, 2));
    assert_eq!((stats.get("noerror"), stats.get("truncated")), (4, 1));
}

/// Goal: until the node has recovered it vouches for nothing; a swapped zone is seen by the
/// very next query.
/// Method: ask before ready, after, and after a swap.
#[test]
fn gate_and_swap_take_effect_at_the_next_query() {
    let shared = Arc::new(ArcSwap::from_pointee(zones()));
    let (_runtime, server) = started(shared.clone());
    let socket = client(server.addresses()[0]);
    let query = ask("web.example.", 28).bytes();
    server.set_ready(false);
    assert_eq!(udp(&socket, &query), "ServFail");
    server.set_ready(true);
    assert_eq!(udp(&socket, &query), "NoError aa an[AAAA fd00:77::101]");
    shared.store(Arc::new(Zones::project(vec![ZoneInput {
        name: "web.example.".into(),
        serial: 18,
        ..ZoneInput::default()
    }])));
    assert_eq!(udp(&socket, &query), "NoError aa ns[SOA web.example. 18]");
    assert_eq!(server.stats().get("servfail"), 1);
}

/// Goal: what gets no answer gets none, and costs no other query its answer.
/// Method: a response, two bytes and nothing, then a query on the same socket; over TCP
/// a response and an oversized frame end the connection.
#[test]
fn garbage_is_dropped_and_the_next_query_answered() {
    let (_runtime, server) = started(Arc::new(ArcSwap::from_pointee(zones())));
    let address = server.addresses()[0];
    let socket = client(address);
    let response = ask("web.example.", 1).with(|a| a.flags = 0x8000).bytes();
    for garbage in [&response[..], b"ab", b""] {
        socket.send(garbage).unwrap();
    }
    assert_eq!(
        udp(&socket, &ask("h1.web.example.", 28).bytes()),
        "NoError aa an[AAAA fd00:77::101]"
    );
    assert_eq!(server.stats().get("dropped"), 3);
    for bad in [frame(&response), vec![0xFF, 0xFF]] {
        let mut stream = connect(address);
        stream.write_all(&bad).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    }
}

/// Goal: a flood of TCP connections is bounded, does not touch UDP, and whoever waits at the
/// cap is served when another has gone.
/// Method: open more than the cap and use 256 of them; ask over UDP; close one and ask on
/// the 257th.
#[test]
fn connections_are_bounded_and_the_next_waits() {
    let (_runtime, server) = started(Arc::new(ArcSwap::from_pointee(zones())));
    let address = server.addresses()[0];
    let mut streams: Vec<TcpStream> = (0..300).map(|_| connect(address)).collect();
    let host = ask("h2.web.example.", 1).bytes();
    let found = "NoError aa an[A 10.77.0.102]";
    for stream in &mut streams[..256] {
        stream.write_all(&frame(&host)).unwrap();
        assert_eq!(read_frame(stream), found);
    }
    assert_eq!(server.stats().get("tcp_accepted"), 256);
    assert_eq!(udp(&client(address), &host), found);
    streams[256].write_all(&frame(&host)).unwrap();
    drop(streams.swap_remove(0));
    // swap_remove put the last stream first; the waiting one stays where it was.
    assert_eq!(read_frame(&mut streams[256]), found);
    assert_eq!(server.stats().get("tcp_accepted"), 257);
}

/// Goal: a second server on the address fails and says which; a stopped one gives it back.
/// Method: bind twice, shut down, bind again.
#[test]
fn address_is_exclusive_and_given_back() {
    let shared = Arc::new(ArcSwap::from_pointee(zones()));
    let (runtime, server) = started(shared.clone());
    let taken = server.addresses().to_vec();
    // An open connection must not keep the address.
    let _open = connect(taken[0]);
    let error = DnsServer::bind(&taken, shared.clone(), runtime.handle()).unwrap_err();
    assert_eq!(error.address, taken[0]);
    let text = error.to_string();
    assert!(text.contains("stop the other name server"), "{text}");
    runtime.block_on(server.shutdown());
    let again = DnsServer::bind(&taken, shared, runtime.handle()).unwrap();
    assert_eq!(again.addresses(), taken);
}

/// Goal: every listed address answers, IPv6 too, with its own port.
/// Method: two IPv4 addresses and ::1 at once.
#[test]
fn every_address_answers() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut listen: Vec<SocketAddr> = vec![
        "127.0.0.1:0".parse().unwrap(),
        "127.77.0.9:0".parse().unwrap(),
    ];
    if UdpSocket::bind("[::1]:0").is_ok() {
        listen.push("[::1]:0".parse().unwrap());
    }
    let shared = Arc::new(ArcSwap::from_pointee(zones()));
    let server = DnsServer::bind(&listen, shared, runtime.handle()).unwrap();
    server.set_ready(true);
    for address in server.addresses() {
        let local = if address.is_ipv6() {
            "[::1]:0"
        } else {
            "127.0.0.1:0"
        };
        let socket = UdpSocket::bind(local).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(address).unwrap();
        let query = ask("h2.web.example.", 1).with(|a| a.opt = Some(opt(1_232)));
        assert_eq!(
            udp(&socket, &query.bytes()),
            "NoError aa edns0:1232 an[A 10.77.0.102]"
        );
    }
}
