//! Binds both transports of each address, all or nothing.
//!
//! The first UDP socket of an address is bound without SO_REUSEADDR or SO_REUSEPORT: a second
//! daemon on the address must fail loudly instead of taking half of the queries. Only then is
//! it opened to our other threads' sockets. TCP needs SO_REUSEADDR to restart over TIME_WAIT.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::batch::tell_local_address;

/// Connections that the kernel holds for us before we accept them: four times what is served
/// at once, so that a burst waits milliseconds instead of a lost SYN's second.
const TCP_BACKLOG: i32 = 1_024;

/// How often a free port is looked for that both transports can have, when port 0 is asked.
const PORT_ATTEMPTS: usize = 16;

/// Why the DNS server did not start.
#[derive(Debug, thiserror::Error)]
#[error("dns cannot listen on {transport} {address}: {source}; {remedy}", remedy = remedy(source))]
pub struct BindError {
    /// The address that failed.
    pub address: SocketAddr,
    /// `udp` or `tcp`.
    pub transport: &'static str,
    /// What the kernel said.
    pub source: io::Error,
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            "give the daemon CAP_NET_BIND_SERVICE or choose a port above 1023"
        }
        io::ErrorKind::AddrInUse => "stop the other name server or choose another address",
        io::ErrorKind::AddrNotAvailable => "the address must be on an interface of this host",
        _ => "check [dns] listen",
    }
}

/// The bound sockets.
pub(super) struct Bound {
    /// For each thread, one socket on each address.
    pub(super) udp: Vec<Vec<UdpSocket>>,
    pub(super) tcp: Vec<TcpListener>,
    pub(super) addresses: Vec<SocketAddr>,
}

pub(super) fn all(listen: &[SocketAddr], threads: usize) -> Result<Bound, BindError> {
    let mut bound = Bound {
        udp: (0..threads).map(|_| Vec::new()).collect(),
        tcp: Vec::new(),
        addresses: Vec::new(),
    };
    for address in listen {
        let (udp, tcp, address) = pair(*address)?;
        let fail = |source| BindError {
            address,
            transport: "udp",
            source,
        };
        let mut first = Some(udp);
        for sockets in &mut bound.udp {
            let socket = match first.take() {
                Some(first) => first,
                None => another_udp_socket(address).map_err(fail)?,
            };
            if threads > 1 {
                SockRef::from(&socket).set_reuse_port(true).map_err(fail)?;
            }
            sockets.push(socket);
        }
        bound.tcp.push(tcp);
        bound.addresses.push(address);
    }
    Ok(bound)
}

type Pair = (UdpSocket, TcpListener, SocketAddr);

/// UDP and TCP on one address and port.
fn pair(wanted: SocketAddr) -> Result<Pair, BindError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let fail = |transport, address| {
            move |source| BindError {
                address,
                transport,
                source,
            }
        };
        let tcp = tcp_socket(wanted).map_err(fail("tcp", wanted))?;
        let address = tcp.local_addr().map_err(fail("tcp", wanted))?;
        match udp_socket(address) {
            Ok(udp) => return Ok((udp, tcp, address)),
            // The free TCP port was another's UDP port: draw again.
            Err(_) if wanted.port() == 0 && attempt < PORT_ATTEMPTS => {}
            Err(source) => return Err(fail("udp", address)(source)),
        }
    }
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // Else `[::]` would take the IPv4 addresses too and fail beside `0.0.0.0`.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn udp_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket(address, Type::DGRAM, Protocol::UDP)?;
    bound_udp(socket, address)
}

/// One more socket on an address whose first one is open to it.
fn another_udp_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket(address, Type::DGRAM, Protocol::UDP)?;
    socket.set_reuse_port(true)?;
    bound_udp(socket, address)
}

fn bound_udp(socket: Socket, address: SocketAddr) -> io::Result<UdpSocket> {
    if address.ip().is_unspecified() {
        tell_local_address(socket.as_fd(), address.is_ipv6())?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn tcp_socket(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address, Type::STREAM, Protocol::TCP)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(TCP_BACKLOG)?;
    Ok(socket.into())
}
