//! Binds both transports of each address, all or nothing.
//!
//! UDP gets no SO_REUSEADDR or SO_REUSEPORT: a second daemon on the address must fail loudly
//! instead of taking half of the queries. TCP needs SO_REUSEADDR to restart over TIME_WAIT.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

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
    pub(super) udp: Vec<mio::net::UdpSocket>,
    pub(super) tcp: Vec<tokio::net::TcpListener>,
    pub(super) addresses: Vec<SocketAddr>,
}

pub(super) fn all(
    listen: &[SocketAddr],
    runtime: &tokio::runtime::Handle,
) -> Result<Bound, BindError> {
    // Tokio registers a listener with the runtime it is created in.
    let _inside = runtime.enter();
    let mut bound = Bound {
        udp: Vec::new(),
        tcp: Vec::new(),
        addresses: Vec::new(),
    };
    for address in listen {
        let (udp, tcp, address) = pair(*address)?;
        bound.udp.push(mio::net::UdpSocket::from_std(udp));
        bound.tcp.push(
            tokio::net::TcpListener::from_std(tcp).map_err(|source| BindError {
                address,
                transport: "tcp",
                source,
            })?,
        );
        bound.addresses.push(address);
    }
    Ok(bound)
}

type Pair = (std::net::UdpSocket, std::net::TcpListener, SocketAddr);

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
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn udp_socket(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = socket(address, Type::DGRAM, Protocol::UDP)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn tcp_socket(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket(address, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(TCP_BACKLOG)?;
    Ok(socket.into())
}
