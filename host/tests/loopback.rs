//! The loopback driver on real sockets: held means answering, released means closed, and the
//! kernel lets nobody hold an address twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use host::driver::{AcquireFault, AddressDriver, DriverError, Gate, Held, ServiceAddress};
use host::loopback::{Limits, Loopback, MAX_HELD};

/// Longer than any answer takes; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// An address of its own for each test, and a port that is free on it.
fn place(test: u8) -> (IpAddr, u16) {
    let ip = Ipv4Addr::new(127, 77, 200, test);
    let port = TcpListener::bind((ip, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    (IpAddr::V4(ip), port)
}

fn service(ip: IpAddr) -> ServiceAddress {
    ServiceAddress {
        ip,
        prefix_len: 32,
        interface: "lo".to_owned(),
    }
}

fn connect(at: (IpAddr, u16)) -> TcpStream {
    let stream = TcpStream::connect_timeout(&SocketAddr::from(at), PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads one response by its Content-Length, so that a kept connection can be read on.
fn response(stream: &mut TcpStream) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .unwrap()
        .parse()
        .unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// Sends `request` and reads until the responder closes.
fn exchange(at: (IpAddr, u16), request: &[u8]) -> String {
    let mut stream = connect(at);
    stream.write_all(request).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn is_over(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// Goal: a client sees who serves the address, under which epoch, over a connection that stays.
/// Method: two requests on one connection, then one that asks to close.
#[test]
fn held_address_answers_with_host_address_and_epoch() {
    let at = place(1);
    let mut driver = Loopback::new("h\"1", at.1);
    driver.acquire(service(at.0), 4).unwrap();
    let expected = "{\"host\":\"h\\\"1\",\"address\":\"127.77.200.1\",\"epoch\":4}\n";

    let mut stream = connect(at);
    for _ in 0..2 {
        stream
            .write_all(b"GET /any HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let (head, body) = response(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("Connection: keep-alive\r\n"), "{head}");
        assert_eq!(body, expected);
    }
    let closed = exchange(at, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert!(
        closed.contains("Connection: close\r\n") && closed.ends_with(expected),
        "{closed}"
    );
    let held = Held { ip: at.0, epoch: 4 };
    assert_eq!(driver.held(), [held]);
    assert!(matches!(driver.gate(), Gate::None { .. }));
}

/// Goal: two requests sent at once get two answers in order.
/// Method: both heads in one write, the second one asks to close.
#[test]
fn pipelined_requests_are_both_answered() {
    let at = place(2);
    let mut driver = Loopback::new("h1", at.1);
    driver.acquire(service(at.0), 1).unwrap();
    let text = exchange(
        at,
        b"HEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
    assert_eq!(text.matches("\"epoch\":1").count(), 1, "{text}");
}

/// Goal: once release has returned, nobody is answered there, old connections included.
/// Method: an idle and a half-sent connection before, a new one after; release twice.
#[test]
fn release_closes_the_port_and_every_connection_before_it_returns() {
    let at = place(3);
    let mut driver = Loopback::new("h1", at.1);
    driver.acquire(service(at.0), 1).unwrap();
    let mut idle = connect(at);
    idle.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    response(&mut idle);
    let mut half = connect(at);
    half.write_all(b"GET / HT").unwrap();

    driver.release(at.0).unwrap();

    let refused = TcpStream::connect_timeout(&SocketAddr::from(at), PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(is_over(&mut idle) && is_over(&mut half));
    assert_eq!(driver.held(), []);
    driver.release(at.0).unwrap();
    driver.release("2001:db8::1".parse().unwrap()).unwrap();
}

/// Goal: two holders can never both answer, and a handover needs no waiting for TIME_WAIT.
/// Method: a second driver tries while the first holds, and again at once after it let go with
/// connections open.
#[test]
fn second_holder_is_refused_until_the_first_lets_go() {
    let at = place(4);
    let mut first = Loopback::new("h1", at.1);
    let mut second = Loopback::new("h2", at.1);
    first.acquire(service(at.0), 1).unwrap();
    let open = connect(at);

    let error = second.acquire(service(at.0), 2).unwrap_err();
    let DriverError::AcquireFailed {
        ip,
        cause: AcquireFault::InUse { port },
    } = &error
    else {
        panic!("not the fault we mean: {error}");
    };
    assert_eq!((*ip, *port), at);
    assert!(error.to_string().contains("another holder"), "{error}");
    assert_eq!(second.held(), []);

    first.release(at.0).unwrap();
    second.acquire(service(at.0), 2).unwrap();
    let text = exchange(at, b"GET / HTTP/1.0\r\n\r\n");
    assert!(
        text.contains("{\"host\":\"h2\"") && text.contains("\"epoch\":2"),
        "{text}"
    );
    drop(open);
}

/// Goal: the newest assignment wins, and taking it over interrupts nobody.
/// Method: a connection from epoch 4 sees epoch 5; an order from epoch 3 is refused.
#[test]
fn newer_epoch_keeps_connections_and_older_one_is_refused() {
    let at = place(5);
    let mut driver = Loopback::new("h1", at.1);
    driver.acquire(service(at.0), 4).unwrap();
    let mut stream = connect(at);
    driver.acquire(service(at.0), 5).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(response(&mut stream).1.contains("\"epoch\":5"));

    let error = driver.acquire(service(at.0), 3).unwrap_err();
    let fault = matches!(
        error,
        DriverError::AcquireFailed {
            cause: AcquireFault::StaleEpoch {
                held: 5,
                offered: 3
            },
            ..
        }
    );
    assert!(fault, "{error}");
}

/// Goal: the demo's driver never touches an address that others could reach.
/// Method: a public one, IPv6 loopback, any-address.
#[test]
fn addresses_outside_127_are_refused() {
    let mut driver = Loopback::new("h1", 8077);
    for ip in ["192.0.2.1", "::1", "0.0.0.0"] {
        let error = driver
            .acquire(service(ip.parse().unwrap()), 1)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(ip) && error.contains("127.0.0.0/8"),
            "{error}"
        );
    }
}

/// Goal: the number of threads and listeners is bounded.
/// Method: one address more than the bound.
#[test]
fn more_addresses_than_the_bound_are_refused() {
    let (_, port) = place(6);
    let mut driver = Loopback::new("h1", port);
    let address = |n: usize| {
        let last = u8::try_from(n).unwrap();
        service(IpAddr::V4(Ipv4Addr::new(127, 77, 201, last)))
    };
    for n in 0..MAX_HELD {
        driver.acquire(address(n), 1).unwrap();
    }
    let error = driver.acquire(address(MAX_HELD), 1).unwrap_err();
    assert!(error.to_string().contains("64 addresses"), "{error}");
    driver.release(address(0).ip).unwrap();
    driver.acquire(address(MAX_HELD), 1).unwrap();
}

/// Goal: bad requests get their status and the connection ends; the next client is served.
/// Method: garbage, a method that is not ours, a head without end.
#[test]
fn bad_requests_are_answered_with_their_fault_and_closed() {
    let at = place(7);
    let mut driver = Loopback::new("h1", at.1);
    driver.acquire(service(at.0), 1).unwrap();
    let endless = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'a'; 16 * 1024]].concat();
    let cases: [(&[u8], &str); 3] = [
        (b"\x16\x03\x01\n\n", "HTTP/1.1 400 "),
        (b"DELETE / HTTP/1.1\r\n\r\n", "HTTP/1.1 405 "),
        (&endless, "HTTP/1.1 431 "),
    ];
    for (request, expected) in cases {
        let text = exchange(at, request);
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("Connection: close\r\n"), "{text}");
    }
    assert!(exchange(at, b"GET / HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200 "));
}

/// Goal: clients that never finish cost nothing for long and shut nobody out for ever.
/// Method: as many silent connections as are allowed, then one more, then time passes.
#[test]
fn connections_beyond_the_bound_are_closed_and_silent_ones_time_out() {
    let at = place(8);
    let limits = Limits {
        connections: 2,
        head_ms: 200,
        idle_ms: 200,
        write_ms: 200,
    };
    let mut driver = Loopback::with_limits("h1", at.1, limits);
    driver.acquire(service(at.0), 1).unwrap();
    let mut silent = [connect(at), connect(at)];
    silent[1].write_all(b"GET / HTTP/1.1\r\nX: ").unwrap();
    let mut beyond = connect(at);
    assert!(is_over(&mut beyond));
    for stream in &mut silent {
        assert!(is_over(stream), "the responder hung up");
    }
    let mut kept = connect(at);
    kept.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    response(&mut kept);
    assert!(is_over(&mut kept), "idle after its answer");
}

/// Goal: a driver that goes away takes its addresses with it.
/// Method: drop it and bind its port.
#[test]
fn dropped_driver_holds_nothing() {
    let at = place(9);
    let mut driver = Loopback::new("h1", at.1);
    driver.acquire(service(at.0), 1).unwrap();
    drop(driver);
    TcpListener::bind(at).unwrap();
}
