//! The gate as two threads have it: one renews and shuts, the other opens.
//!
//! The hands (the driver's thread) change addresses, so they wait for RTNL, the kernel's lock of all
//! networks, for as long as any program holds it. Nothing in here ever does: each call takes the one
//! lock, has its word with nftables, and gives the lock back. So who renews waits for no address.
//!
//! What is open is known here alone, and only the hands open. Whoever shuts takes the address from
//! `open` first: from then on it is not renewed, and the hands, who ask [`Latch::still_open`] after
//! each step that may wait, take off what they have just put on. A shut is thus never undone by a
//! step that began before it; and nothing here is wrong if either thread stops for ever.
//!
//! Limits: who holds nftables' own lock delays both.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::failed;
use crate::clock::{Naps, boottime_us};
use crate::driver::Incident;
use crate::gate::{Change, GateError, Guard, KernelGate, Lease, NoGate, Watch};

/// Untold incidents that are kept: all that lapse at once, and some. The log lacks the rest.
const MAX_NEWS: usize = 2 * super::MAX_HELD;

/// The gate; clones share it.
#[derive(Clone, Debug)]
pub struct Latch(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The watch's, so that it can be polled without the lock.
    alert: OwnedFd,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    gate: KernelGate,
    watch: Watch,
    naps: Naps,
    /// When the lease ends. Of the host, and so of all addresses.
    deadline_us: u64,
    /// What is open and renewed, and under which assignment.
    open: BTreeMap<IpAddr, u64>,
    /// How many releases of an address wait for the hands. Before they have obeyed it is not opened.
    barred: BTreeMap<IpAddr, usize>,
    /// The node is gone: nothing is opened any more.
    over: bool,
    /// What another hand did, until that is mended. Nothing is opened before.
    change: Option<Change>,
    news: Vec<Incident>,
}

impl Latch {
    pub(super) fn open(tag: &str, guard: Guard) -> Result<Self, NoGate> {
        let system = |action| move |source| NoGate::System { action, source };
        let gate = KernelGate::open(tag, guard)?;
        let watch = gate.watch().map_err(system("watch the tables"))?;
        let alert = watch.as_fd().try_clone_to_owned();
        let state = State {
            gate,
            watch,
            naps: Naps::starting(),
            deadline_us: 0,
            open: BTreeMap::new(),
            barred: BTreeMap::new(),
            over: false,
            change: None,
            news: Vec::new(),
        };
        Ok(Self(Arc::new(Shared {
            alert: alert.map_err(system("watch the tables"))?,
            state: Mutex::new(state),
        })))
    }

    /// The lock. Whoever comes first after the machine slept shuts everything before anything else.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        if let Some(ms) = state.naps.look() {
            state.woke(ms);
        }
        state
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The gate in words, for status.
    #[must_use]
    pub fn describe(&self) -> String {
        self.state().gate.describe()
    }

    /// Whether nobody else can change the gate.
    #[must_use]
    pub fn is_owned(&self) -> bool {
        self.state().gate.is_owned()
    }

    /// What is readable when somebody changed the gate, ourselves included: call [`Latch::mend`] then.
    #[must_use]
    pub fn alert(&self) -> BorrowedFd<'_> {
        self.0.alert.as_fd()
    }

    /// The lease was renewed: what is open may answer until `deadline_us`. What had ended stays shut.
    /// False when the kernel refuses, or the node is gone.
    pub fn renew(&self, deadline_us: u64) -> bool {
        let mut state = self.lock();
        // First: what another hand has touched is not renewed.
        if state.over || !state.mend() {
            return false;
        }
        state.deadline_us = state.deadline_us.max(deadline_us);
        let deadline_us = state.deadline_us;
        let leases: Vec<(IpAddr, u64)> = state.open.iter().map(|(ip, e)| (*ip, *e)).collect();
        let renewed = state.gate.renew(&leases, deadline_us);
        let good = renewed.is_ok();
        match renewed {
            Ok(lapsed) => {
                for ip in lapsed {
                    state.open.remove(&ip);
                    state.tell(Incident::Lapsed { ip });
                }
            }
            Err(error) => state.tell(failed(error)),
        }
        // Our own change wakes whoever polls for others': taken off here, so that it does not. A gate that could
        // not be laid again serves nothing: that is no renewal.
        state.mend() && good && state.change.is_none()
    }

    /// Looks for what another hand did, shuts what is open if it did, and lays the gate again; tried again
    /// with each call until that goes well. To be called when [`Latch::alert`] is readable, and now and
    /// then. False when it could not look.
    pub fn mend(&self) -> bool {
        self.lock().mend()
    }

    /// Shuts the gate of an address at once: the hands have been told to let go of it. Until as many
    /// [`Latch::unbar`] have come it is not opened, whatever they are about.
    pub fn bar(&self, ip: IpAddr) {
        let mut state = self.lock();
        *state.barred.entry(ip).or_default() += 1;
        if let Err(error) = state.close(ip) {
            state.tell(failed(error));
        }
    }

    /// The hands have obeyed.
    pub fn unbar(&self, ip: IpAddr) {
        let mut state = self.lock();
        match state.barred.get_mut(&ip) {
            Some(more @ 2..) => *more -= 1,
            _ => drop(state.barred.remove(&ip)),
        }
    }

    /// The node is gone: shuts the gate for every address, for good. False when the kernel refuses.
    pub fn end(&self) -> bool {
        let mut state = self.lock();
        state.over = true;
        state.close_all()
    }

    /// Whether something happened that the hands were not told of.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.state().news.is_empty()
    }

    pub(super) fn news(&self) -> Vec<Incident> {
        std::mem::take(&mut self.lock().news)
    }

    /// When the lease ends.
    pub(super) fn deadline_us(&self) -> u64 {
        self.lock().deadline_us
    }

    /// An order said that the lease ends then: it is the host's, so a later end is another order's.
    pub(super) fn extend(&self, deadline_us: u64) {
        let mut state = self.lock();
        state.deadline_us = state.deadline_us.max(deadline_us);
    }

    /// Opens the gate of an address that is **not on an interface**, until the lease ends.
    pub(super) fn open_until(&self, ip: IpAddr, epoch: u64) -> Result<(), GateError> {
        let mut state = self.lock();
        state.may_open(ip)?;
        let deadline_us = state.deadline_us;
        state.open.remove(&ip);
        state.gate.open_until(ip, epoch, deadline_us)?;
        state.open.insert(ip, epoch);
        Ok(())
    }

    /// Goes on with a lease that lives, of this start or an earlier one. False when it lives no more.
    pub(super) fn go_on(&self, ip: IpAddr, epoch: u64) -> Result<bool, GateError> {
        let mut state = self.lock();
        state.may_open(ip)?;
        let deadline_us = state.deadline_us;
        let lives = state.gate.renew(&[(ip, epoch)], deadline_us)?.is_empty();
        match lives {
            true => state.open.insert(ip, epoch),
            false => state.open.remove(&ip),
        };
        Ok(lives)
    }

    /// Whether what was opened is open still: nobody has shut it, and the lease lives.
    pub(super) fn still_open(&self, ip: IpAddr) -> Result<(), GateError> {
        self.lock().still_open(ip)
    }

    /// Does `what` while nobody can shut the gate of `ip`, if that is open. It must not wait.
    pub(super) fn while_open(&self, ip: IpAddr, what: impl FnOnce() -> io::Result<()>) {
        let state = self.lock();
        if state.still_open(ip).is_ok()
            && let Err(error) = what()
        {
            tracing::debug!(%ip, %error, "a frame was not sent");
        }
    }

    /// The addresses that are open.
    #[must_use]
    pub fn all_open(&self) -> BTreeSet<IpAddr> {
        self.lock().open.keys().copied().collect()
    }

    pub(super) fn close(&self, ip: IpAddr) -> Result<(), GateError> {
        self.lock().close(ip)
    }

    pub(super) fn manage(
        &self,
        addresses: &BTreeSet<IpAddr>,
        devices: &BTreeSet<String>,
    ) -> Result<(), GateError> {
        self.lock().gate.manage(addresses, devices)
    }

    pub(super) fn managed(&self) -> BTreeSet<IpAddr> {
        self.lock().gate.managed().clone()
    }

    pub(super) fn follow_devices(&self) {
        self.lock().gate.follow_devices();
    }

    pub(super) fn leases(&self) -> Result<BTreeMap<IpAddr, Lease>, GateError> {
        let leases = self.lock().gate.leases()?;
        Ok(leases.into_iter().map(|lease| (lease.ip, lease)).collect())
    }

    pub(super) fn remove(&self) -> Result<(), GateError> {
        let mut state = self.lock();
        state.over = true;
        state.gate.remove()
    }

    /// Shuts everything, since the machine slept for `ms`. Found by itself with each call; this is for who
    /// hears it earlier.
    pub fn woke(&self, ms: u64) {
        self.state().woke(ms);
    }
}

impl State {
    fn tell(&mut self, incident: Incident) {
        if self.news.len() < MAX_NEWS && self.news.last() != Some(&incident) {
            self.news.push(incident);
        }
    }

    fn may_open(&self, ip: IpAddr) -> Result<(), GateError> {
        match self.over || self.change.is_some() || self.barred.contains_key(&ip) {
            true => Err(GateError::Shut { ip }),
            false => Ok(()),
        }
    }

    fn still_open(&self, ip: IpAddr) -> Result<(), GateError> {
        if !self.open.contains_key(&ip) {
            return Err(GateError::Shut { ip });
        }
        match boottime_us() < self.deadline_us {
            true => Ok(()),
            false => Err(GateError::TooLate { ip }),
        }
    }

    fn close(&mut self, ip: IpAddr) -> Result<(), GateError> {
        // First: a lease that could not be ended must end by itself.
        self.open.remove(&ip);
        self.gate.close(ip)
    }

    /// Shuts all, leases of an earlier start too.
    fn close_all(&mut self) -> bool {
        self.open.clear();
        let closed = self.gate.close_all();
        if let Err((_, error)) = &closed {
            self.tell(failed(error));
        }
        closed.is_ok()
    }

    /// The kernel counts the time-outs in jiffies, which stood still for `ms` while the lease went on: an
    /// entry may outlive it, so nothing is judged, all is shut. Limits: between waking and the first call
    /// (the kernel thaws its devices before its processes) an address may answer, for L at most.
    fn woke(&mut self, ms: u64) {
        self.tell(Incident::Slept { ms });
        self.close_all();
    }

    fn mend(&mut self) -> bool {
        match self.watch.look() {
            Ok(Some(Change::Foreign { object })) => {
                // Told at once: the hands take off what stands open now.
                self.open.clear();
                self.tell(Incident::GateTouched { object });
                self.change = Some(Change::Foreign { object });
            }
            Ok(Some(Change::Lost)) => self.change = self.change.or(Some(Change::Lost)),
            Ok(None) => {}
            Err(error) => {
                self.tell(failed(error));
                return false;
            }
        }
        let Some(change) = self.change else {
            return true;
        };
        // Laid before it is shut: what stands nowhere shuts nothing.
        let restored = self.gate.restore();
        if let Err(error) = &restored {
            self.tell(failed(error));
        }
        let shut = match change {
            Change::Foreign { .. } => self.close_all(),
            Change::Lost => true,
        };
        if restored.is_ok() && shut {
            self.change = None;
        }
        true
    }
}
