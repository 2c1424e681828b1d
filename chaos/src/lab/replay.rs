//! Heartbeats taken off the wire and sent again, as anybody on a control network could.
//!
//! Limits: v4, on the LAN, which is the first control network; whole frames, no fragments (a heartbeat
//! of five hosts has some 200 bytes).

use super::Lab;
use super::clock::{self, timespec};
use super::error::LabError;
use super::net::{CONTROL_PORT, MAX_FRAME, Network};
use super::observer::packet_socket;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvFlags, eth, recv};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

/// They come each 100 ms.
const PATIENCE: Duration = Duration::from_secs(20);

impl Lab {
    /// Takes down the next `count` datagrams that `from` sends to the control port of `to`.
    ///
    /// # Errors
    /// The system refuses a socket; too few came.
    pub fn record(&self, from: u8, to: u8, count: usize) -> Result<Vec<Vec<u8>>, LabError> {
        let ways = (Network::Lan.v4(from), Network::Lan.v4(to));
        self.host(to)?.inside(move || listen(ways, count))?
    }

    /// Sends `datagrams` to the control port of `to`, from the client.
    ///
    /// # Errors
    /// The system says no.
    pub fn replay(&self, to: u8, datagrams: &[Vec<u8>]) -> Result<(), LabError> {
        let (datagrams, to) = (datagrams.to_vec(), (Network::Lan.v4(to), CONTROL_PORT));
        let send = move || -> std::io::Result<()> {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            for datagram in &datagrams {
                socket.send_to(datagram, to)?;
            }
            Ok(())
        };
        let sent = self.client().inside(send)?;
        sent.map_err(|error| LabError::system("send heartbeats again", error))
    }
}

fn listen(ways: (Ipv4Addr, Ipv4Addr), count: usize) -> Result<Vec<Vec<u8>>, LabError> {
    let refused = |source| LabError::system("open a packet socket", source);
    let socket = packet_socket(eth::IP).map_err(refused)?;
    let (mut taken, end) = (Vec::new(), clock::now().after(PATIENCE));
    while taken.len() < count {
        let left = end.since(clock::now());
        if left.is_zero() {
            let late = std::io::ErrorKind::TimedOut;
            return Err(LabError::system("record heartbeats", late));
        }
        let mut ready = [PollFd::new(&socket, PollFlags::IN)];
        let _ = poll(&mut ready, Some(&timespec(left)));
        let mut frame = [0; MAX_FRAME];
        if let Ok((_, length)) = recv(&socket, &mut frame, RecvFlags::empty())
            && let Some(datagram) = content(&frame[..length], ways)
        {
            taken.push(datagram.to_vec());
        }
    }
    Ok(taken)
}

/// What a frame carries, if it is a datagram to the control port that goes this way.
fn content(frame: &[u8], (from, to): (Ipv4Addr, Ipv4Addr)) -> Option<&[u8]> {
    let packet = frame.get(14..)?;
    let header = usize::from(packet.first()? & 0xf) * 4;
    let is_udp = *packet.get(9)? == 17;
    let goes_so = packet.get(12..16)? == from.octets() && packet.get(16..20)? == to.octets();
    let datagram = packet.get(header..)?;
    let to_control = datagram.get(2..4)? == CONTROL_PORT.to_be_bytes();
    let length = u16::from_be_bytes([*datagram.get(4)?, *datagram.get(5)?]);
    let content = datagram.get(8..usize::from(length))?;
    (is_udp && goes_so && to_control).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: exactly the datagrams of one host to the other's control port are taken, without padding.
    /// Method: a frame by hand, then one thing changed at a time, and cut everywhere.
    #[test]
    fn the_content_of_a_datagram_is_found_by_its_way() {
        let (a, b) = (Ipv4Addr::new(10, 77, 0, 1), Ipv4Addr::new(10, 77, 0, 2));
        let mut frame = vec![0; 14];
        frame.extend([0x45, 0, 0, 31, 0, 0, 0, 0, 64, 17, 0, 0]);
        frame.extend([a.octets(), b.octets()].concat());
        frame.extend([1, 2]);
        frame.extend(CONTROL_PORT.to_be_bytes());
        frame.extend([0, 11, 0, 0, 7, 8, 9]);
        let whole = frame.len();
        frame.extend([0; 15]);
        assert_eq!(content(&frame, (a, b)), Some(&[7, 8, 9][..]));
        assert_eq!(content(&frame, (b, a)), None);
        for at in [14 + 9, 14 + 12, 14 + 22] {
            let mut other = frame.clone();
            other[at] ^= 1;
            assert_eq!(content(&other, (a, b)), None, "byte {at}");
        }
        for length in 0..whole {
            assert_eq!(content(&frame[..length], (a, b)), None, "{length} bytes");
        }
    }
}
