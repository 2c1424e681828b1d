//! The gate: the kernel itself drops what belongs to a service address whose lease has ended.
//!
//! Each table has a set `managed` (what this host could carry) and a set `leased` whose elements
//! end by themselves. So the promise needs no living process: a daemon that is killed, stopped or
//! starved falls silent at its deadline. A renewal deletes and adds an element in one transaction:
//! that refreshes a live one, and is refused for one that has ended, so that a sleeper can't revive
//! its lease. Where the kernel can (6.9), the tables belong to our socket: nobody else, and not
//! `nft flush ruleset`, can change them, and they outlive us for the next start to adopt.
//!
//! Limits: the kernel counts in jiffies and rounds down (up to 4 ms early), and not in suspend;
//! one gate for each network namespace.

mod elements;
mod error;
mod message;
mod rules;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::netlink::NETFILTER;

use crate::clock::boottime_us;
use crate::netlink::wire::{attribute, be32, messages, text};
use crate::netlink::{ACK, DUMP, EXCL, REQUEST, Socket};
pub use elements::Lease;
pub use error::{GateError, NoGate};
use message::{
    DEL_ELEMENT, DESTROY_ELEMENT, Family, GET_GENERATION, GET_TABLE, GUARDED, Set, TABLE,
    TABLE_FLAGS, TABLE_OWNER, Transaction,
};
pub use watch::{Change, Watch};

/// Shortest time-out that is sent, in ms: jiffies of 10 ms exist, and 0 would mean "for ever".
const SHORTEST_MS: u64 = 10;
/// Longest time between reading the clock and the kernel's change, in ms: an element may outlive its
/// deadline by so much, less the rounding of jiffies. Kept by the kernel, since a process that is
/// stopped in between, and again before it looks, could not keep it.
const MARK_MS: u64 = 10;
/// The element that keeps it: no packet is for this address, and none is from it.
const MARK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
/// Tries of a transaction that took too long or met elements that were gone.
const TRIES: usize = 4;
/// Addresses in one transaction: 6 messages of 100 bytes each, far below the send buffer.
const CHUNK: usize = 128;
/// Tables of ours start so; the tag of the host follows.
const PREFIX: &str = "rais-";
/// Longest tag.
const MAX_TAG: usize = 24;

/// The tables of the gate, and the socket that owns them.
#[derive(Debug)]
pub struct KernelGate {
    socket: Socket,
    /// Finds interfaces by name, and does nothing else.
    finder: socket2::Socket,
    table: String,
    guarded: bool,
    managed: BTreeSet<IpAddr>,
    devices: BTreeSet<String>,
    /// Those of `devices` that were there when their egress was laid, and their numbers.
    egress: BTreeMap<String, u32>,
    /// Why what programs send past the kernel's own ARP and IP is not gated, if it is not.
    no_egress: Option<String>,
}

/// What shields the tables from other hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Only our socket may change them, where the kernel can (6.9 and newer); else as `Watched`.
    Owned,
    /// Anybody with the capability may; [`Watch`] tells.
    Watched,
}

impl KernelGate {
    /// Whether a gate can be had here, changing nothing.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn probe() -> Result<(), NoGate> {
        let socket = Socket::open(Some(NETFILTER), 0).map_err(no_gate("open a socket"))?;
        let mut request = socket.messages();
        request.push(GET_GENERATION, REQUEST | ACK, &[0; 4], |_| {});
        socket
            .demand(&request)
            .map_err(no_gate("ask for the packet filters"))
    }

    /// Creates the tables, or adopts those that an earlier start with this `tag` left, with the
    /// leases in them and without a hole.
    ///
    /// # Errors
    /// Says why there can be no gate; nothing was changed then.
    pub fn open(tag: &str, guard: Guard) -> Result<Self, NoGate> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if tag.is_empty() || tag.len() > MAX_TAG || !tag.bytes().all(allowed) {
            return Err(NoGate::BadTag {
                tag: tag.to_owned(),
            });
        }
        Self::probe()?;
        let socket = Socket::open(Some(NETFILTER), 0).map_err(no_gate("open a socket"))?;
        let datagram = socket2::Type::DGRAM;
        let finder = socket2::Socket::new(socket2::Domain::UNIX, datagram, None)
            .map_err(no_gate("open a socket"))?;
        let mut gate = Self {
            socket,
            finder,
            table: format!("{PREFIX}{tag}"),
            guarded: guard == Guard::Owned,
            managed: BTreeSet::new(),
            devices: BTreeSet::new(),
            egress: BTreeMap::new(),
            no_egress: None,
        };
        gate.refuse_neighbours()?;
        gate.lay().map_err(no_gate("lay the tables"))?;
        gate.managed = gate
            .elements(Family::Inet, &[Set::Managed4, Set::Managed6])
            .map_err(no_gate("read the tables"))?
            .into_iter()
            .map(|lease| lease.ip)
            .collect();
        Ok(gate)
    }

    /// What guards the addresses, for status and log.
    #[must_use]
    pub fn describe(&self) -> String {
        let guard = if self.guarded { "owned" } else { "watched" };
        let egress = match &self.no_egress {
            None => String::new(),
            Some(reason) => format!("; announcements are not gated: {reason}"),
        };
        format!("nftables `{}`, {guard}{egress}", self.table)
    }

    /// Whether only our socket may change the tables.
    #[must_use]
    pub fn is_owned(&self) -> bool {
        self.guarded
    }

    /// The name of the tables.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Lays the tables once more, after another hand was in them. Elements that are left stay.
    ///
    /// # Errors
    /// When the kernel refuses; the addresses must then be off the interfaces.
    pub fn restore(&mut self) -> Result<(), GateError> {
        self.lay().map_err(GateError::system("lay the tables"))?;
        let managed = self.managed.clone();
        self.set_managed(&managed)
            .map_err(GateError::system("name the managed addresses"))?;
        self.lay_egress();
        Ok(())
    }

    /// Says which addresses the gate guards, and the interfaces on which they go. New ones are
    /// closed; leases of others end; the rest keep theirs. An address that is left out is no longer
    /// guarded: take it off the interface first.
    ///
    /// # Errors
    /// When the kernel refuses; what was guarded then still is.
    pub fn manage(
        &mut self,
        addresses: &BTreeSet<IpAddr>,
        devices: &BTreeSet<String>,
    ) -> Result<(), GateError> {
        self.set_managed(addresses)
            .map_err(GateError::system("name the managed addresses"))?;
        self.managed.clone_from(addresses);
        self.devices.clone_from(devices);
        self.lay_egress();
        Ok(())
    }

    /// Lays the gate of what leaves the interfaces anew when one of them went, came, or came back as
    /// another. To be called now and then: two system calls for each interface.
    pub fn follow_devices(&mut self) {
        if self.present() != self.egress {
            self.lay_egress();
        }
    }

    /// The addresses that the gate guards.
    #[must_use]
    pub fn managed(&self) -> &BTreeSet<IpAddr> {
        &self.managed
    }

    /// Opens the gate for an address that is **not on an interface**, until `deadline_us` on
    /// CLOCK_BOOTTIME. A lease that still lives is refreshed. `epoch` is noted in the element.
    ///
    /// # Errors
    /// [`GateError::TooLate`] when the lease is as good as over; the gate is then closed.
    pub fn open_until(
        &mut self,
        ip: IpAddr,
        epoch: u64,
        deadline_us: u64,
    ) -> Result<(), GateError> {
        if !self.managed.contains(&ip) {
            return Err(GateError::NotManaged { ip });
        }
        if self.arm(ip, epoch, deadline_us)? == Armed::Opened {
            return Ok(());
        }
        // It was open already.
        if self.renew(&[(ip, epoch)], deadline_us)?.is_empty() {
            return Ok(());
        }
        // Ended between the two looks: once more from the start, and then no more.
        self.close(ip)?;
        if self.arm(ip, epoch, deadline_us)? == Armed::Opened {
            return Ok(());
        }
        self.close(ip)?;
        Err(GateError::TooLate { ip })
    }

    /// Moves the end of live leases to `deadline_us`. Gives those that had ended: they stay closed,
    /// and must come off the interface before [`KernelGate::open_until`] opens them again.
    ///
    /// # Errors
    /// When the kernel refuses; the leases then end as they were to.
    pub fn renew(
        &mut self,
        leases: &[(IpAddr, u64)],
        deadline_us: u64,
    ) -> Result<Vec<IpAddr>, GateError> {
        let mut lapsed = Vec::new();
        for chunk in leases.chunks(CHUNK) {
            lapsed.extend(self.renew_chunk(chunk, deadline_us)?);
        }
        Ok(lapsed)
    }

    /// Closes the gate for an address. One that is closed is no error.
    ///
    /// # Errors
    /// When the kernel refuses; the lease then ends at its deadline.
    pub fn close(&mut self, ip: IpAddr) -> Result<(), GateError> {
        self.forget(&[ip])
            .map_err(GateError::system("close the gate"))
    }

    /// Closes the gate for every address.
    ///
    /// # Errors
    /// When the kernel refuses, with an address that may be open until its deadline.
    pub fn close_all(&mut self) -> Result<(), (IpAddr, GateError)> {
        let all: Vec<IpAddr> = self.managed.iter().copied().collect();
        let Some(first) = all.first() else {
            return Ok(());
        };
        self.forget(&all)
            .map_err(|error| (*first, GateError::system("close the gate")(error)))
    }

    /// The leases that live now, as the kernel says.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub fn leases(&self) -> Result<Vec<Lease>, GateError> {
        self.elements(Family::Inet, &[Set::Leased4, Set::Leased6])
            .map_err(GateError::system("list the leases"))
    }

    /// Tells of changes by other hands from now on.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn watch(&self) -> io::Result<Watch> {
        Watch::start(&self.table, self.socket.port())
    }

    /// Removes the tables: when the host leaves the array. Without them nothing is guarded.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(&self) -> Result<(), GateError> {
        for family in [Family::Inet, Family::Arp, Family::Netdev] {
            let mut t = self.transaction();
            t.delete_table(family);
            let refusals = self
                .socket
                .ask(&t.end())
                .map_err(GateError::system("remove the tables"))?;
            if let Some(refusal) = refusals
                .iter()
                .find(|refusal| refusal.error != Errno::NOENT)
            {
                return Err(GateError::System {
                    action: "remove the tables",
                    source: refusal.error.into(),
                });
            }
        }
        Ok(())
    }
}

/// How an arm went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Armed {
    Opened,
    /// A lease lives there.
    WasOpen,
}

impl KernelGate {
    fn transaction(&self) -> Transaction<'_> {
        Transaction::begin(self.socket.messages(), &self.table)
    }

    /// The tables that know `ip`.
    fn families(&self, ip: IpAddr) -> impl Iterator<Item = Family> + use<> {
        let (arp, netdev) = (
            ip.is_ipv4(),
            self.no_egress.is_none() && !self.egress.is_empty(),
        );
        [
            (Family::Inet, true),
            (Family::Arp, arp),
            (Family::Netdev, netdev),
        ]
        .into_iter()
        .filter_map(|(family, used)| used.then_some(family))
    }

    fn flags(&self) -> u32 {
        if self.guarded { GUARDED } else { 0 }
    }

    fn lay(&mut self) -> io::Result<()> {
        let lay = |gate: &Self| {
            let mut t = gate.transaction();
            rules::lay(&mut t, gate.flags());
            gate.socket.demand(&t.end())
        };
        match lay(self) {
            // A kernel before 6.9, or tables that were made without an owner.
            Err(error) if self.guarded && is_unsupported(&error) => {
                self.guarded = false;
                lay(self)
            }
            other => other,
        }
    }

    /// Those of the interfaces that are there, and their numbers. Bound to first, which only looks: asked
    /// for the number of one that is missing, the kernel starts `modprobe` each time, and waits for it.
    fn present(&self) -> BTreeMap<String, u32> {
        let number = |name: &String| {
            self.finder.bind_device(Some(name.as_bytes())).ok()?;
            let index = name_to_index(&self.finder, name).ok()?;
            Some((name.clone(), index))
        };
        self.devices.iter().filter_map(number).collect()
    }

    /// Where the kernel can't gate what leaves an interface, the rest of the gate stands alone. An
    /// interface that is not there sends nothing; it is followed when it comes.
    fn lay_egress(&mut self) {
        self.egress = self.present();
        self.no_egress = None;
        if self.egress.is_empty() {
            return;
        }
        let mut t = self.transaction();
        let devices = self.egress.keys().map(String::as_str);
        rules::lay_egress(&mut t, self.flags(), devices);
        let request = t.end();
        let laid = self
            .socket
            .demand(&request)
            .and_then(|()| self.copy_to_egress(&self.managed));
        self.no_egress = laid.err().map(|error| error.to_string());
        if self.no_egress.is_some() {
            // Left half laid it would hold leases that nobody renews, and so silence what is served.
            let mut t = self.transaction();
            t.delete_table(Family::Netdev);
            if let Err(error) = self.socket.demand(&t.end()) {
                tracing::debug!(%error, "there was no egress table to remove");
            }
        }
    }

    /// A new egress table must know what the others know, or it would open or close too much.
    fn copy_to_egress(&self, managed: &BTreeSet<IpAddr>) -> io::Result<()> {
        self.sync_managed(Family::Netdev, managed)?;
        let open: BTreeSet<IpAddr> = self
            .elements(Family::Netdev, &[Set::Leased4, Set::Leased6])?
            .iter()
            .map(|lease| lease.ip)
            .collect();
        let leases = self.elements(Family::Inet, &[Set::Leased4, Set::Leased6])?;
        let mut t = self.transaction();
        let mut any = false;
        for lease in leases
            .iter()
            .filter(|lease| !open.contains(&lease.ip) && lease.left_ms >= SHORTEST_MS)
        {
            let note = elements::note(lease.epoch);
            t.add(
                Family::Netdev,
                Set::leased(lease.ip),
                lease.ip,
                Some((lease.left_ms, &note)),
                0,
            );
            any = true;
        }
        if any {
            self.socket.demand(&t.end())
        } else {
            Ok(())
        }
    }

    fn set_managed(&self, managed: &BTreeSet<IpAddr>) -> io::Result<()> {
        self.sync_managed(Family::Inet, managed)?;
        self.sync_managed(Family::Arp, managed)
    }

    /// Makes the sets of one table say `managed`, and ends the leases of all others.
    fn sync_managed(&self, family: Family, managed: &BTreeSet<IpAddr>) -> io::Result<()> {
        let there: BTreeSet<IpAddr> = self
            .elements(family, &[Set::Managed4, Set::Managed6])?
            .into_iter()
            .map(|lease| lease.ip)
            .collect();
        let stray = self
            .elements(family, &[Set::Leased4, Set::Leased6])?
            .into_iter()
            .map(|lease| lease.ip)
            .filter(|ip| !managed.contains(ip));
        self.forget(&stray.collect::<Vec<_>>())?;
        let new: Vec<_> = managed.difference(&there).map(|ip| (*ip, true)).collect();
        let gone: Vec<_> = there.difference(managed).map(|ip| (*ip, false)).collect();
        for chunk in [new, gone].concat().chunks(CHUNK) {
            let mut t = self.transaction();
            for (ip, is_new) in chunk {
                if *is_new {
                    t.add(family, Set::managed(*ip), *ip, None, 0);
                } else {
                    t.delete(family, Set::managed(*ip), *ip);
                }
            }
            self.socket.demand(&t.end())?;
        }
        Ok(())
    }

    /// Starts the kernel's own watch over the time between reading the clock and its answer: what is sent
    /// with [`KernelGate::in_time`] after this is refused once [`MARK_MS`] have passed.
    fn mark(&self) -> io::Result<()> {
        let mut t = self.transaction();
        t.add(
            Family::Inet,
            Set::Leased4,
            MARK,
            Some((MARK_MS, "clock read")),
            0,
        );
        self.socket.demand(&t.end())
    }

    /// Makes a transaction fail as a whole when the mark has ended. Gives the number of its message.
    fn in_time(t: &mut Transaction<'_>) -> u32 {
        t.delete(Family::Inet, Set::Leased4, MARK)
    }

    fn arm(&self, ip: IpAddr, epoch: u64, deadline_us: u64) -> Result<Armed, GateError> {
        let (action, note) = ("open the gate", elements::note(epoch));
        for _ in 0..TRIES {
            self.mark().map_err(GateError::system(action))?;
            let Some(timeout) = timeout_ms(boottime_us(), deadline_us) else {
                break;
            };
            let mut t = self.transaction();
            let mark = Self::in_time(&mut t);
            for family in self.families(ip) {
                t.add(family, Set::leased(ip), ip, Some((timeout, &note)), EXCL);
            }
            let refusals = self
                .socket
                .ask(&t.end())
                .map_err(GateError::system(action))?;
            match refusals.iter().find(|refusal| refusal.seq != mark) {
                None if refusals.is_empty() => return Ok(Armed::Opened),
                // Away for too long between clock and kernel.
                None => {}
                Some(refusal) if refusal.error == Errno::EXIST => return Ok(Armed::WasOpen),
                Some(refusal) => {
                    return Err(GateError::System {
                        action,
                        source: refusal.error.into(),
                    });
                }
            }
        }
        self.forget(&[ip])
            .map_err(GateError::system("close the gate"))?;
        Err(GateError::TooLate { ip })
    }

    fn renew_chunk(
        &self,
        leases: &[(IpAddr, u64)],
        deadline_us: u64,
    ) -> Result<BTreeSet<IpAddr>, GateError> {
        let action = "renew leases";
        let mut live: BTreeMap<IpAddr, u64> = leases.iter().copied().collect();
        let mut lapsed = BTreeSet::new();
        for _ in 0..TRIES {
            if live.is_empty() {
                return Ok(lapsed);
            }
            self.mark().map_err(GateError::system(action))?;
            let Some(timeout) = timeout_ms(boottime_us(), deadline_us) else {
                break;
            };
            let (request, mark, deletes) = self.renewal(&live, timeout);
            let refusals = self
                .socket
                .ask(&request)
                .map_err(GateError::system(action))?;
            if refusals.is_empty() {
                return Ok(lapsed);
            }
            for refusal in refusals {
                match deletes.get(&refusal.seq) {
                    Some(ip) if refusal.error == Errno::NOENT => {
                        live.remove(ip);
                        lapsed.insert(*ip);
                    }
                    // Away for too long between clock and kernel: once more.
                    None if refusal.seq == mark && refusal.error == Errno::NOENT => {}
                    _ => {
                        return Err(GateError::System {
                            action,
                            source: refusal.error.into(),
                        });
                    }
                }
            }
        }
        // Too slow to be exact, or over: silence is the safe end.
        lapsed.extend(live.keys());
        let ended: Vec<IpAddr> = lapsed.iter().copied().collect();
        self.forget(&ended)
            .map_err(GateError::system("close the gate"))?;
        Ok(lapsed)
    }

    /// The transaction that renews, its mark, and whose deletion each of its other messages is.
    fn renewal(
        &self,
        live: &BTreeMap<IpAddr, u64>,
        timeout: u64,
    ) -> (crate::netlink::wire::Messages, u32, BTreeMap<u32, IpAddr>) {
        let mut deletes = BTreeMap::new();
        let mut t = self.transaction();
        let mark = Self::in_time(&mut t);
        for (ip, epoch) in live {
            let note = elements::note(*epoch);
            for family in self.families(*ip) {
                let seq = t.delete(family, Set::leased(*ip), *ip);
                deletes.insert(seq, *ip);
                t.add(family, Set::leased(*ip), *ip, Some((timeout, &note)), 0);
            }
        }
        (t.end(), mark, deletes)
    }

    /// Deletes leases wherever they are.
    fn forget(&self, ips: &[IpAddr]) -> io::Result<()> {
        for chunk in ips.chunks(CHUNK) {
            let left: BTreeSet<(Family, IpAddr)> = chunk
                .iter()
                .flat_map(|ip| self.families(*ip).map(|family| (family, *ip)))
                .collect();
            match self.delete_all(DESTROY_ELEMENT, left.clone()) {
                Err(error) if is_unsupported(&error) => self.delete_all(DEL_ELEMENT, left)?,
                other => other?,
            }
        }
        Ok(())
    }

    /// One refused message undoes its whole transaction, and costs a grace period of the kernel
    /// (some 10 ms); what is not there is left out of the next try.
    fn delete_all(&self, kind: u16, mut left: BTreeSet<(Family, IpAddr)>) -> io::Result<()> {
        // Each round leaves out at least one, so this ends.
        while !left.is_empty() {
            let mut t = self.transaction();
            let mut sent = BTreeMap::new();
            for (family, ip) in &left {
                let seq = t.delete_as(kind, *family, Set::leased(*ip), *ip);
                sent.insert(seq, (*family, *ip));
            }
            let refusals = self.socket.ask(&t.end())?;
            if refusals.is_empty() {
                return Ok(());
            }
            for refusal in refusals {
                match sent.get(&refusal.seq) {
                    Some(gone) if refusal.error == Errno::NOENT => left.remove(gone),
                    _ => return Err(refusal.error.into()),
                };
            }
        }
        Ok(())
    }

    /// Refuses to start beside a living gate of another daemon in this namespace.
    fn refuse_neighbours(&self) -> Result<(), NoGate> {
        let tables = self
            .socket
            .dump(|m| {
                m.push(GET_TABLE, REQUEST | DUMP, &[0; 4], |_| {});
            })
            .map_err(no_gate("list the tables"))?;
        for message in messages(&tables) {
            let attrs = message.body.get(4..).unwrap_or_default();
            let name = attribute(attrs, TABLE).map(text).unwrap_or_default();
            if !name.starts_with(PREFIX) {
                continue;
            }
            let owner = attribute(attrs, TABLE_OWNER).and_then(be32);
            let flags = attribute(attrs, TABLE_FLAGS).and_then(be32).unwrap_or(0);
            if owner.is_some() {
                return Err(NoGate::InUse {
                    table: name.to_owned(),
                });
            }
            if name != self.table {
                tracing::warn!(
                    table = name,
                    flags,
                    "a gate of another host stands here; if that host is gone for good: nft delete table"
                );
            }
        }
        Ok(())
    }
}

/// What to send at `now_us` for a lease that ends at `deadline_us`; none when that would be less than the
/// shortest.
fn timeout_ms(now_us: u64, deadline_us: u64) -> Option<u64> {
    let left = deadline_us.checked_sub(now_us)? / 1000;
    (left >= SHORTEST_MS).then_some(left)
}

fn no_gate(action: &'static str) -> impl FnOnce(io::Error) -> NoGate {
    move |source| match Errno::from_io_error(&source) {
        Some(Errno::PERM | Errno::ACCESS) => NoGate::NoPermission,
        Some(Errno::PROTONOSUPPORT | Errno::INVAL | Errno::OPNOTSUPP | Errno::AFNOSUPPORT) => {
            NoGate::NoNftables
        }
        _ => NoGate::System { action, source },
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::OPNOTSUPP | Errno::INVAL)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no time-out is ever 0, nor so short that a coarse clock makes it one.
    /// Method: deadlines around the bound, and in the past.
    #[test]
    fn timeout_is_never_zero_and_never_later_than_the_deadline() {
        assert_eq!(timeout_ms(1_000_000, 1_300_999), Some(300));
        assert_eq!(timeout_ms(1_000_000, 1_010_000), Some(10));
        assert_eq!(timeout_ms(1_000_000, 1_009_999), None);
        assert_eq!(timeout_ms(1_000_000, 999_999), None);
    }
}
