//! One lasting connection to a host, for one class of requests; remade whenever it breaks.
//!
//! A task keeps it: dials, proves with a first exchange that the peer takes us (with TLS 1.3 a
//! client is refused only after its handshake), watches over it, and starts again. Callers wait
//! for the outcome of at most one attempt, never for the task's pauses: a call wakes it.
//!
//! The urgent lane is always kept, pings each second, and makes the session for sealed datagrams.
//! The others are made when wanted and dropped when idle.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use statemachine::{ArrayId, Boot, HostId};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use super::backoff::Backoff;
use super::connection::{Connection, ExchangeError};
use super::dial::{Target, dial_any};
use super::kind::LaneName;
use super::pool::Timing;
use super::seal::{Role, SessionKeys, Sessions};
use super::serve::{decode_boot, encode_boot};
use super::tls::{NOT_NOW, TURNED_AWAY};
use super::{HandlerError, Kind};

/// Ticks without a call after which a lane that is not urgent is dropped: with the usual tick of
/// one second, a minute.
const IDLE_TICKS: u32 = 60;
/// Attempts that callers ask for come no faster than this.
const LEAST_PAUSE: Duration = Duration::from_millis(10);

/// What all lanes of a host's pool share.
pub(super) struct Context {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
    pub(super) array: ArrayId,
    pub(super) me: HostId,
    pub(super) boot: Boot,
    pub(super) sessions: Arc<Sessions>,
    pub(super) timing: ArcSwap<Timing>,
    /// Attempts that ended since the other host's certificate was not valid at that time.
    pub(super) refused_expired: AtomicU64,
}

/// How to reach one host.
pub(super) struct Route {
    pub(super) host: HostId,
    pub(super) addresses: watch::Sender<Vec<SocketAddr>>,
    last_good: Mutex<Option<SocketAddr>>,
}

impl Route {
    pub(super) fn new(host: HostId, addresses: Vec<SocketAddr>) -> Self {
        Self {
            host,
            addresses: watch::Sender::new(addresses),
            last_good: Mutex::new(None),
        }
    }

    fn good(&self, address: SocketAddr) {
        *self
            .last_good
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    /// The addresses, the one that worked last in front.
    fn in_order(&self) -> Vec<SocketAddr> {
        let mut addresses = self.addresses.borrow().clone();
        let good = *self
            .last_good
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = addresses.iter().position(|address| Some(*address) == good) {
            addresses[..=at].rotate_right(1);
        }
        addresses
    }
}

#[derive(Clone)]
enum State {
    Down {
        attempts: u64,
        reason: Arc<str>,
    },
    Up {
        connection: Arc<Connection>,
        address: SocketAddr,
    },
}

/// Why a call over a lane failed.
#[derive(Debug)]
pub(super) enum LaneError {
    Unreachable(String),
    Ended(String),
    Refused(HandlerError),
    Timeout,
}

#[derive(Default)]
struct Hints {
    /// Somebody wants the connection now.
    wanted: Notify,
    /// A call had no answer in time: is the connection alive?
    suspect: Notify,
}

/// The callers' side of a lane. Dropping it ends the connection and its task.
pub(super) struct Lane {
    state: watch::Receiver<State>,
    hints: Arc<Hints>,
    task: AbortHandle,
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Lane {
    pub(super) fn start(
        context: &Arc<Context>,
        route: &Arc<Route>,
        name: LaneName,
        runtime: &tokio::runtime::Handle,
    ) -> Self {
        let down = State::Down {
            attempts: 0,
            reason: "not tried yet".into(),
        };
        let (publish, state) = watch::channel(down);
        let hints = Arc::new(Hints::default());
        let keeper = Keeper {
            context: Arc::clone(context),
            route: Arc::clone(route),
            name,
            state: publish,
            hints: Arc::clone(&hints),
            attempts: 0,
        };
        Self {
            state,
            hints,
            task: runtime.spawn(keeper.keep()).abort_handle(),
        }
    }

    /// Asks for the connection before the first call needs it.
    pub(super) fn want(&self) {
        self.hints.wanted.notify_one();
    }

    /// The address of the live connection, or why there is none.
    pub(super) fn status(&self) -> Result<SocketAddr, Arc<str>> {
        match &*self.state.borrow() {
            State::Up { address, .. } => Ok(*address),
            State::Down { reason, .. } => Err(Arc::clone(reason)),
        }
    }

    pub(super) async fn call(
        &self,
        kind: Kind,
        body: Vec<u8>,
        ttl: Duration,
    ) -> Result<Vec<u8>, LaneError> {
        let result = tokio::time::timeout(ttl, self.exchange(kind, body)).await;
        result.unwrap_or_else(|_| {
            self.hints.suspect.notify_one();
            Err(LaneError::Timeout)
        })
    }

    async fn exchange(&self, kind: Kind, mut body: Vec<u8>) -> Result<Vec<u8>, LaneError> {
        let mut state = self.state.clone();
        loop {
            let connection = self.ready(&mut state).await?;
            match connection.exchange(kind, body).await {
                Ok(answer) => return Ok(answer),
                Err(ExchangeError::Refused(error)) => return Err(LaneError::Refused(error)),
                Err(ExchangeError::Ended(reason)) => return Err(LaneError::Ended(reason)),
                // It ended before we came: the task is about to say so.
                Err(ExchangeError::NotSent(back)) => body = back,
            }
            changed(&mut state).await?;
        }
    }

    /// The live connection, or that of the next attempt to succeed; the reason if that one fails.
    async fn ready(
        &self,
        state: &mut watch::Receiver<State>,
    ) -> Result<Arc<Connection>, LaneError> {
        let mut failed_before = None;
        loop {
            match &*state.borrow_and_update() {
                State::Up { connection, .. } => return Ok(Arc::clone(connection)),
                State::Down { attempts, reason } => {
                    let before = *failed_before.get_or_insert(*attempts);
                    if *attempts > before {
                        return Err(LaneError::Unreachable(reason.to_string()));
                    }
                }
            }
            self.hints.wanted.notify_one();
            changed(state).await?;
        }
    }
}

async fn changed(state: &mut watch::Receiver<State>) -> Result<(), LaneError> {
    state
        .changed()
        .await
        .map_err(|_| LaneError::Unreachable("this side is shutting down".to_owned()))
}

/// How a connection ended.
enum End {
    Idle,
    /// With the reason, and whether it had lived for a tick.
    Died(String, bool),
}

struct Keeper {
    context: Arc<Context>,
    route: Arc<Route>,
    name: LaneName,
    state: watch::Sender<State>,
    hints: Arc<Hints>,
    attempts: u64,
}

impl Keeper {
    async fn keep(mut self) {
        let urgent = self.name == LaneName::Urgent;
        let seed = (self.context.me.0 << 32) ^ (self.route.host.0 << 2) ^ self.name as u64;
        let mut backoff = Backoff::new(seed, self.context.timing.load().backoff_max);
        let mut addresses = self.route.addresses.subscribe();
        let mut at_once = urgent;
        loop {
            if !at_once {
                self.hints.wanted.notified().await;
            }
            at_once = urgent;
            if addresses.borrow_and_update().is_empty() {
                self.down("no known control address", true);
                if addresses.changed().await.is_err() {
                    return;
                }
                continue;
            }
            match self.establish().await {
                Ok((connection, address)) => {
                    let connection = Arc::new(connection);
                    self.route.good(address);
                    let up = State::Up {
                        connection: Arc::clone(&connection),
                        address,
                    };
                    self.state.send_replace(up);
                    match self.watch_over(&connection, address, &mut addresses).await {
                        End::Idle => self.down("closed while idle", false),
                        End::Died(reason, lived) => {
                            tracing::info!(host = %self.route.host, %address, lane = ?self.name, "connection lost: {reason}");
                            self.down(&reason, false);
                            if lived {
                                backoff.reset();
                            }
                            // The first pause is none: redial at once.
                            self.pause(backoff.next(), &mut addresses).await;
                            at_once = true;
                        }
                    }
                }
                Err(reason) => {
                    tracing::debug!(host = %self.route.host, lane = ?self.name, "cannot connect: {reason}");
                    if reason.contains(NOT_NOW) {
                        self.context.refused_expired.fetch_add(1, Ordering::Relaxed);
                    }
                    if urgent {
                        self.complain(&reason);
                    }
                    self.down(&reason, true);
                    let pause = if urgent { backoff.next() } else { LEAST_PAUSE };
                    self.pause(pause.max(LEAST_PAUSE), &mut addresses).await;
                }
            }
        }
    }

    /// A silent peer is the failure detector's business; one that turns us away, or whose certificate is not
    /// valid now, is the operator's, and is told once.
    fn complain(&self, reason: &str) {
        let told =
            matches!(&*self.state.borrow(), State::Down { reason: old, .. } if **old == *reason);
        let ours_to_mend = [TURNED_AWAY, NOT_NOW];
        if !told && ours_to_mend.iter().any(|words| reason.contains(words)) {
            tracing::warn!(host = %self.route.host, "cannot connect: {reason}");
        }
    }

    fn down(&mut self, reason: &str, failed: bool) {
        self.attempts += u64::from(failed);
        self.state.send_replace(State::Down {
            attempts: self.attempts,
            reason: reason.into(),
        });
    }

    /// Waits before the next attempt, less if somebody wants it or there is a new address.
    async fn pause(&self, pause: Duration, addresses: &mut watch::Receiver<Vec<SocketAddr>>) {
        if pause.is_zero() {
            return;
        }
        tokio::time::sleep(pause.min(LEAST_PAUSE)).await;
        let Some(rest) = pause
            .checked_sub(LEAST_PAUSE)
            .filter(|rest| !rest.is_zero())
        else {
            return;
        };
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = self.hints.wanted.notified() => {}
            _ = addresses.changed() => {}
        }
    }

    async fn establish(&self) -> Result<(Connection, SocketAddr), String> {
        let timing = **self.context.timing.load();
        let target = Target {
            config: Arc::clone(&self.context.config),
            name: self.context.name.clone(),
            array: Some(self.context.array),
            host: Some(self.route.host),
            attempt: timing.attempt,
        };
        let dialled = dial_any(&target, &self.route.in_order(), timing.stagger).await?;
        let address = dialled.address;
        let keys = SessionKeys::export(dialled.stream.get_ref().1)
            .map_err(|error| format!("{address}: {error}"))?;
        let connection = Connection::start(dialled.stream);
        let (kind, body) = match self.name {
            LaneName::Urgent => (Kind::Session, encode_boot(self.context.boot)),
            _ => (Kind::Ping, Vec::new()),
        };
        let answer = tokio::time::timeout(timing.attempt, connection.exchange(kind, body)).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(ExchangeError::Refused(error))) => return Err(format!("{address}: {error}")),
            Ok(Err(ExchangeError::Ended(reason))) => return Err(format!("{address}: {reason}")),
            Ok(Err(ExchangeError::NotSent(_))) => {
                return Err(format!("{address}: {}", connection.ended().await));
            }
            Err(_) => return Err(format!("{address}: no answer after the handshake")),
        };
        if self.name == LaneName::Urgent {
            let boot = decode_boot(&answer)
                .ok_or_else(|| format!("{address}: its session answer has no boot counter"))?;
            self.context
                .sessions
                .install(self.route.host, boot, Role::Dialer, &keys)
                .map_err(|error| format!("{address}: {error}"))?;
        }
        Ok((connection, address))
    }

    async fn watch_over(
        &self,
        connection: &Connection,
        address: SocketAddr,
        addresses: &mut watch::Receiver<Vec<SocketAddr>>,
    ) -> End {
        let mut tick = tokio::time::interval(self.context.timing.load().ping_every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.tick().await;
        let (mut lived, mut idle, mut used) = (false, 0, connection.used());
        loop {
            let ping = tokio::select! {
                reason = connection.ended() => return End::Died(reason, lived),
                () = self.hints.suspect.notified() => true,
                _ = addresses.changed() => {
                    if !addresses.borrow_and_update().contains(&address) {
                        return End::Died("the address is no longer the host's".to_owned(), lived);
                    }
                    false
                }
                _ = tick.tick() => {
                    lived = true;
                    idle = if connection.used() == used { idle + 1 } else { 0 };
                    if self.name != LaneName::Urgent && idle >= IDLE_TICKS {
                        return End::Idle;
                    }
                    self.name == LaneName::Urgent
                }
            };
            if ping {
                let answer = connection.exchange(Kind::Ping, Vec::new());
                let deadline = self.context.timing.load().ping_deadline;
                match tokio::time::timeout(deadline, answer).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(_)) => return End::Died(connection.ended().await, lived),
                    Err(_) => return End::Died("it does not answer a ping".to_owned(), lived),
                }
            }
            used = connection.used();
        }
    }
}
