//! The server over real sockets on loopback: both transports, its gate, its limits, its end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use common::{ask, opt, settings, words, zones};
use dns::{DnsServer, RateLimit, Settings, ZoneInput, Zones};

/// Longest wait for an answer on loopback; a test that meets it fails.
const PATIENCE: Duration = Duration::from_secs(5);

fn loopback() -> Vec<SocketAddr> {
    vec!["127.0.0.1:0".parse().unwrap()]
}

fn started(zones: Arc<ArcSwap<Zones>>) -> DnsServer {
    started_with(zones, settings())
}

fn started_with(zones: Arc<ArcSwap<Zones>>, settings: Settings) -> DnsServer {
    let server = DnsServer::bind(&loopback(), zones, settings).unwrap();
    server.set_ready(true);
    server
}

fn ended(server: DnsServer) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(server.shutdown());
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
    let server = started(Arc::new(ArcSwap::from_pointee(zones())));
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
    let server = started(shared.clone());
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

/// Goal: a zone that this node may not answer for gets SERVFAIL for all its names, over both transports,
/// and other zones get their answers; it ends with the next swap.
/// Method: one of the zones withheld, asked for what is there and what is not, then answered for again.
#[test]
fn a_withheld_zone_gets_servfail_and_others_do_not() {
    let mut inputs = zones().inputs().to_vec();
    inputs[0].withheld = true;
    let shared = Arc::new(ArcSwap::from_pointee(Zones::project(inputs)));
    let server = started(shared.clone());
    let address = server.addresses()[0];
    let socket = client(address);
    for (name, rtype) in [
        ("web.example.", 1),
        ("WEB.example.", 6),
        ("h1.web.example.", 1),
        ("nobody.web.example.", 1),
        ("web.example.", 252),
    ] {
        let query = ask(name, rtype).bytes();
        assert_eq!(udp(&socket, &query), "ServFail", "{name} {rtype}");
    }
    let query = ask("db.web.example.", 6).bytes();
    assert!(udp(&socket, &query).starts_with("NoError aa"));
    assert_eq!(server.stats().get("servfail"), 5);
    shared.store(Arc::new(zones()));
    let query = ask("web.example.", 6).bytes();
    assert!(udp(&socket, &query).starts_with("NoError aa"));
}

/// Goal: what gets no answer gets none, and costs no other query its answer.
/// Method: a response, two bytes and nothing, then a query on the same socket; over TCP
/// a response and an oversized frame end the connection.
#[test]
fn garbage_is_dropped_and_the_next_query_answered() {
    let server = started(Arc::new(ArcSwap::from_pointee(zones())));
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

/// A connection to `server` from an address of its own.
fn connect_from(from: [u8; 4], server: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

/// Goal: at the cap the idlest connection makes room, also of one client alone; one that asks
/// stays, and UDP is not touched.
/// Method: at most 8 connections, 3 of one client; a client that asks, two floods of idle
/// ones, from one address and from many.
#[test]
fn idlest_connection_makes_room() {
    let small = Settings {
        tcp_connections: 8.try_into().unwrap(),
        tcp_connections_of_one: 3.try_into().unwrap(),
        ..settings()
    };
    let server = started_with(Arc::new(ArcSwap::from_pointee(zones())), small);
    let address = server.addresses()[0];
    let host = ask("h2.web.example.", 1).bytes();
    let found = "NoError aa an[A 10.77.0.102]";
    let mut busy = connect_from([127, 0, 0, 2], address);
    let mut idle = Vec::new();
    let mut still_answered = |why: &str| {
        busy.write_all(&frame(&host)).unwrap();
        assert_eq!(read_frame(&mut busy), found, "{why}");
    };
    still_answered("alone");
    for n in 0..10 {
        idle.push(connect_from([127, 0, 0, 3], address));
        still_answered("one client's flood");
        // The first of one client's connections end, its last three stay.
        if n >= 3 {
            let ended = idle[n - 3].read(&mut [0; 1]);
            assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        }
    }
    assert_eq!(server.stats().get("tcp_evicted"), 7);
    for n in 10..60 {
        idle.push(connect_from([127, 0, 1, n], address));
        still_answered("many clients' flood");
    }
    assert_eq!(server.stats().get("tcp_evicted"), 7 + 46);
    assert_eq!(udp(&client(address), &host), found);
}

/// Goal: over UDP a client hears one thing so often and no more; TCP, other names and a
/// client with our cookie are not limited.
/// Method: ten a second; twenty equal questions, then others, then with the cookie learnt.
#[test]
fn udp_is_limited_but_not_for_cookies_or_tcp() {
    let strict = Settings {
        rate: Some(RateLimit {
            answers: 10,
            ..RateLimit::default()
        }),
        clock: || 1_800_000_000_000_000,
        ..settings()
    };
    let server = started_with(Arc::new(ArcSwap::from_pointee(zones())), strict);
    let address = server.addresses()[0];
    let socket = client(address);
    let host = ask("h2.web.example.", 1).bytes();
    for _ in 0..20 {
        socket.send(&host).unwrap();
    }
    // Ten, then each second of the ten that are too much, cut.
    let mut seen = Vec::new();
    for _ in 0..15 {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        seen.push(words(&buffer[..length]));
    }
    assert_eq!(
        seen.iter().filter(|words| words.contains("an[")).count(),
        10
    );
    assert_eq!(seen[10..], vec!["NoError aa tc"; 5]);
    let stats = server.stats();
    assert_eq!((stats.get("limited"), stats.get("slipped")), (5, 5));
    assert!(udp(&socket, &ask("h1.web.example.", 28).bytes()).contains("an["));
    let mut stream = connect(address);
    stream.write_all(&frame(&host)).unwrap();
    assert!(read_frame(&mut stream).contains("an["));
    let with_cookie = |cookie: &[u8]| {
        let mut edns = opt(1_232);
        edns.options = [&[0, 10, 0, cookie.len() as u8], cookie].concat();
        ask("h2.web.example.", 1)
            .with(|asked| asked.opt = Some(edns))
            .bytes()
    };
    // A stranger with a client cookie learns ours, instead of being sent to TCP.
    let mut buffer = [0; 512];
    socket.set_nonblocking(true).unwrap();
    while socket.recv(&mut buffer).is_ok() {}
    socket.set_nonblocking(false).unwrap();
    socket.send(&with_cookie(b"abcdefgh")).unwrap();
    socket.send(&with_cookie(b"abcdefgh")).unwrap();
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(
        (buffer[3] & 15, buffer[length - 28 - 6]),
        (7, 1),
        "BADCOOKIE"
    );
    let cookie = buffer[length - 24..length].to_vec();
    for _ in 0..30 {
        assert!(udp(&socket, &with_cookie(&cookie)).contains("an["));
    }
    assert_eq!(server.stats().get("cookie_vouched"), 30);
}

/// Goal: a second server on the address fails and says which; a stopped one gives it back.
/// Method: bind twice, shut down, bind again.
#[test]
fn address_is_exclusive_and_given_back() {
    let shared = Arc::new(ArcSwap::from_pointee(zones()));
    let server = started(shared.clone());
    let taken = server.addresses().to_vec();
    // An open connection must not keep the address.
    let _open = connect(taken[0]);
    let error = DnsServer::bind(&taken, shared.clone(), settings()).unwrap_err();
    assert_eq!(error.address, taken[0]);
    let text = error.to_string();
    assert!(text.contains("stop the other name server"), "{text}");
    ended(server);
    let again = DnsServer::bind(&taken, shared, settings()).unwrap();
    assert_eq!(again.addresses(), taken);
}

/// Goal: every listed address answers, IPv6 too, with its own port.
/// Method: two IPv4 addresses and ::1 at once.
#[test]
fn every_address_answers() {
    let mut listen: Vec<SocketAddr> = vec![
        "127.0.0.1:0".parse().unwrap(),
        "127.77.0.9:0".parse().unwrap(),
    ];
    if UdpSocket::bind("[::1]:0").is_ok() {
        listen.push("[::1]:0".parse().unwrap());
    }
    let shared = Arc::new(ArcSwap::from_pointee(zones()));
    let server = DnsServer::bind(&listen, shared, settings()).unwrap();
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

/// Goal: several threads share an address: each client is answered by one of them, all are
/// counted, a second server still fails, and the address is given back.
/// Method: three threads on two addresses, one a wildcard; 60 clients; bind again.
#[test]
fn several_threads_share_an_address() {
    let three = Settings {
        threads: 3.try_into().unwrap(),
        ..settings()
    };
    let listen = ["127.0.0.1:0", "0.0.0.0:0"].map(|address| address.parse().unwrap());
    let shared = Arc::new(ArcSwap::from_pointee(zones()));
    let server = DnsServer::bind(&listen, shared.clone(), three).unwrap();
    server.set_ready(true);
    let taken = server.addresses().to_vec();
    let host = ask("h2.web.example.", 1).bytes();
    for n in 0..60 {
        let mut address = taken[n % 2];
        address.set_ip([127, 0, 0, 1].into());
        assert_eq!(udp(&client(address), &host), "NoError aa an[A 10.77.0.102]");
    }
    assert_eq!(server.stats().get("udp"), 60);
    assert!(DnsServer::bind(&taken, shared.clone(), three).is_err());
    ended(server);
    let again = DnsServer::bind(&taken, shared, three).unwrap();
    assert_eq!(again.addresses(), taken);
}

/// Goal: UDP alone keeps an address too: a server whose TCP is elsewhere can't be joined.
/// Method: another socket on the address, with SO_REUSEPORT, after the server's.
#[test]
fn nobody_joins_the_udp_address_by_chance() {
    let one = Settings {
        threads: 1.try_into().unwrap(),
        ..settings()
    };
    let shared = Arc::new(ArcSwap::from_pointee(zones()));
    let server = DnsServer::bind(&loopback(), shared, one).unwrap();
    let kind = socket2::Type::DGRAM;
    let other = socket2::Socket::new(socket2::Domain::IPV4, kind, None).unwrap();
    other.set_reuse_port(true).unwrap();
    let error = other.bind(&server.addresses()[0].into()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}
