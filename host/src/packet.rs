//! Whole frames in and out of one interface, past the kernel's own ARP and IP.
//!
//! AF_PACKET, since neither a gratuitous ARP nor a probe can be said with an ordinary socket. What
//! goes out here still passes the gate's egress table; what comes in is seen before any gate.
//!
//! The only `unsafe` of the crate: rustix has the system calls but not this kind of address.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};
use socket2::{SockFilter, SockRef};

/// Ethernet type of ARP.
pub const ARP: u16 = 0x0806;
/// Ethernet type of v6.
pub const IPV6: u16 = 0x86dd;
/// Every Ethernet type.
pub const ALL: u16 = 0x0003;

/// `struct sockaddr_ll`: an interface and an Ethernet type.
#[repr(C)]
struct LinkAddress {
    family: u16,
    protocol: [u8; 2],
    index: i32,
    hardware: u16,
    kind: u8,
    length: u8,
    address: [u8; 8],
}

impl LinkAddress {
    fn new(interface: u32, protocol: u16) -> Self {
        Self {
            family: AddressFamily::PACKET.as_raw(),
            protocol: protocol.to_be_bytes(),
            index: interface.cast_signed(),
            hardware: 0,
            kind: 0,
            length: 6,
            address: [0; 8],
        }
    }
}

#[expect(unsafe_code, reason = "rustix has no sockaddr_ll")]
// SAFETY: `f` gets a pointer to the whole of `self`, which outlives the call, and its exact size;
// the layout is that of `struct sockaddr_ll`: 20 bytes, no padding, any bytes are valid.
unsafe impl SocketAddrArg for LinkAddress {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        const LENGTH: SocketAddrLen = 20;
        const { assert!(size_of::<LinkAddress>() == 20) }
        f(std::ptr::from_ref(self).cast(), LENGTH)
    }
}

/// Sends frames through any interface; hears nothing.
#[derive(Debug)]
pub struct Sender(OwnedFd);

impl Sender {
    /// Opens one.
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(Self(socket_with(
            AddressFamily::PACKET,
            SocketType::RAW,
            flags,
            None,
        )?))
    }

    /// Sends a whole Ethernet frame. Never waits: with the device's queue full it is an error.
    ///
    /// # Errors
    /// What the system says; a closed gate shows as `ENOBUFS` or not at all.
    pub fn send(&self, interface: u32, frame: &[u8]) -> io::Result<()> {
        let protocol = match frame.get(12..14) {
            Some(&[high, low]) => u16::from_be_bytes([high, low]),
            _ => return Err(Errno::INVAL.into()),
        };
        sendto(
            &self.0,
            frame,
            SendFlags::empty(),
            &LinkAddress::new(interface, protocol),
        )?;
        Ok(())
    }
}

/// Hears the frames of one Ethernet type on one interface.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Listens from now on.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, or when the interface is gone.
    pub fn open(interface: u32, protocol: u16) -> io::Result<Self> {
        // Opened deaf and then bound, so that no frame of another interface gets in between.
        let (family, flags) = (AddressFamily::PACKET, SocketFlags::CLOEXEC);
        let socket = socket_with(family, SocketType::RAW, flags, None)?;
        bind(&socket, &LinkAddress::new(interface, protocol))?;
        Ok(Self(socket))
    }

    /// Opens one in the network namespace of the calling thread that hears nothing yet.
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn deaf(buffer: usize) -> io::Result<Self> {
        let (family, flags) = (AddressFamily::PACKET, SocketFlags::CLOEXEC);
        let socket = socket_with(family, SocketType::RAW, flags, None)?;
        set_socket_recv_buffer_size(&socket, buffer)?;
        Ok(Self(socket))
    }

    /// Listens on an interface from now on. To move it from one that is still there costs a grace
    /// period of the kernel (some 10 ms).
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn tune(&self, interface: u32, protocol: u16) -> io::Result<()> {
        bind(&self.0, &LinkAddress::new(interface, protocol))?;
        Ok(())
    }

    /// The kernel drops from now on what `filter` does not let pass; costs microseconds. What came
    /// before is still to be received.
    ///
    /// # Errors
    /// When it is no program.
    pub fn heed(&self, filter: &[SockFilter]) -> io::Result<()> {
        SockRef::from(&self.0).attach_filter(filter)
    }

    /// The next frame that is already there.
    ///
    /// # Errors
    /// What the system says, such as `ENETDOWN` once when the interface goes.
    pub fn take<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        match recv(&self.0, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((length, _)) => Ok(buffer.get(..length)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The next frame, if one comes within `patience`.
    ///
    /// # Errors
    /// What the system says.
    pub fn receive<'b>(
        &self,
        buffer: &'b mut [u8],
        patience: Duration,
    ) -> io::Result<Option<&'b [u8]>> {
        let timeout = Timespec::try_from(patience).map_err(|_| Errno::INVAL)?;
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        self.take(buffer)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
