//! Sealed datagrams for heartbeats: ChaCha20-Poly1305 under keys of a mutual TLS connection.
//!
//! rustls has no DTLS. Both ends of a control connection on which a Session request was exchanged
//! export the same secret: one key for each direction and a session id. A packet is version (1),
//! session id (8), counter (8), ciphertext and tag (16); the nonce is the counter, which grows
//! for ever within a session, and a session is installed once, so no nonce is used twice.
//!
//! Plain std, short mutex: the heartbeat thread is no async task. Nothing is parsed before it was
//! authenticated but the 17 bytes of the header, whose every value is looked up, never trusted.
//!
//! Limits: 8000 bytes of content, in fragments above one Ethernet frame; [`MAX_SESSIONS`] sessions for each host.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use statemachine::{Boot, HostId};

use super::replay::{ReplayWindow, Stale};

/// Longest content of a datagram, bytes. Up to 1400 it fits an Ethernet frame; a host with more than
/// some 60 addresses sends IP fragments, up to the 300 addresses that this carries.
pub const MAX_PLAIN: usize = 8000;
/// Bytes before the ciphertext.
pub const SEAL_HEADER: usize = 1 + 8 + 8;
/// Bytes after it.
pub const SEAL_TAG: usize = 16;
/// Longest sealed datagram, bytes.
pub const MAX_SEALED: usize = SEAL_HEADER + MAX_PLAIN + SEAL_TAG;
/// Live sessions for each host: one dialled by either side, and one before each.
pub const MAX_SESSIONS: usize = 4;
/// Label of the TLS exporter (RFC 8446, section 7.5).
pub const EXPORTER_LABEL: &[u8] = b"rais heartbeat v1";

const VERSION: u8 = 1;

/// Bytes of the exported secret: two keys of 32 and the session id.
const EXPORTED: usize = 32 + 32 + 8;

/// Which end of the control connection this host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It made the connection.
    Dialer,
    /// It accepted the connection.
    Acceptor,
}

/// The secrets of one session, as both ends export them.
pub struct SessionKeys {
    id: [u8; 8],
    from_dialer: [u8; 32],
    from_acceptor: [u8; 32],
}

impl core::fmt::Debug for SessionKeys {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.write_str("SessionKeys(..)")
    }
}

impl SessionKeys {
    /// Exports the secrets of a TLS connection whose handshake is done.
    ///
    /// # Errors
    /// What rustls says when the handshake is not done.
    pub fn export<Data>(
        connection: &rustls::ConnectionCommon<Data>,
    ) -> Result<Self, rustls::Error> {
        let secret = [0u8; EXPORTED];
        let secret = connection.export_keying_material(secret, EXPORTER_LABEL, None)?;
        Ok(Self::from_secret(&secret))
    }

    fn from_secret(secret: &[u8; EXPORTED]) -> Self {
        let (mut id, mut from_dialer, mut from_acceptor) = ([0; 8], [0; 32], [0; 32]);
        from_dialer.copy_from_slice(&secret[..32]);
        from_acceptor.copy_from_slice(&secret[32..64]);
        id.copy_from_slice(&secret[64..]);
        Self {
            id,
            from_dialer,
            from_acceptor,
        }
    }
}

/// Why a session was not installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// The peer shows an older boot than one we have heard from: a delayed request, or a data dir
    /// that was put back from a backup (then `rais forget` the host and join it anew).
    #[error(
        "host {host} offers a session of boot {offered}, but boot {known} was seen; if its data dir was restored from a backup, forget the host and join it anew"
    )]
    OldBoot {
        /// The peer.
        host: HostId,
        /// Its newest boot known here.
        known: Boot,
        /// The boot it offers.
        offered: Boot,
    },
    /// The session is installed already; twice would use nonces twice.
    #[error("session with host {0} is installed already")]
    Duplicate(HostId),
    /// The host was forgotten.
    #[error("host {0} was forgotten")]
    Forgotten(HostId),
    /// The cipher does not take the key (it always does).
    #[error("the cipher refuses the session key")]
    Key,
}

/// Why a datagram was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Too short, too long, or of another version.
    #[error("not a sealed datagram of this version")]
    Malformed,
    /// No live session has this id.
    #[error("no such session")]
    UnknownSession,
    /// Its counter was seen before.
    #[error("replayed")]
    Replayed,
    /// Its counter is too old to tell.
    #[error("too old")]
    TooOld,
    /// It was not made with the session's key.
    #[error("not authentic")]
    Forged,
}

/// How many datagrams went through or were refused, by reason, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealCounts {
    /// Sealed and handed out.
    pub sealed: u64,
    /// Opened.
    pub opened: u64,
    /// Not sealed: no session with the host, or content too long.
    pub unsealable: u64,
    /// See [`OpenError::Malformed`].
    pub malformed: u64,
    /// See [`OpenError::UnknownSession`].
    pub unknown_session: u64,
    /// See [`OpenError::Replayed`].
    pub replayed: u64,
    /// See [`OpenError::TooOld`].
    pub too_old: u64,
    /// See [`OpenError::Forged`].
    pub forged: u64,
}

#[derive(Debug, Default)]
struct Counters {
    sealed: AtomicU64,
    opened: AtomicU64,
    unsealable: AtomicU64,
    malformed: AtomicU64,
    unknown_session: AtomicU64,
    replayed: AtomicU64,
    too_old: AtomicU64,
    forged: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One session with one host.
struct Session {
    id: [u8; 8],
    /// Which end of its connection this host was.
    role: Role,
    seal: LessSafeKey,
    open: LessSafeKey,
    /// Counter of the next packet sealed.
    next: u64,
    window: ReplayWindow,
    /// Does the peer have this session for sure? The acceptor installs first and must not seal
    /// under it until the dialer has shown that it did so too.
    confirmed: bool,
}

#[derive(Default)]
struct Peer {
    boot: Boot,
    /// Oldest first.
    sessions: Vec<Session>,
    forgotten: bool,
}

#[derive(Default)]
struct Table {
    peers: BTreeMap<HostId, Peer>,
    by_id: BTreeMap<[u8; 8], HostId>,
}

/// Called with the host and its boot when a session was made or remade. Must not block.
pub type SessionObserver = Arc<dyn Fn(HostId, Boot) + Send + Sync>;

/// The live sessions with all hosts. Shared by the heartbeat thread, the server and the peers.
#[derive(Default)]
pub struct Sessions {
    table: Mutex<Table>,
    observer: Mutex<Option<SessionObserver>>,
    counters: Counters,
}

impl core::fmt::Debug for Sessions {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.debug_struct("Sessions")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

/// A poisoned table is whole all the same: nothing in here panics between two changes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0u8; NONCE_LEN];
    bytes[NONCE_LEN - 8..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn header(id: [u8; 8], counter: u64) -> [u8; SEAL_HEADER] {
    let mut header = [VERSION; SEAL_HEADER];
    header[1..9].copy_from_slice(&id);
    header[9..].copy_from_slice(&counter.to_be_bytes());
    header
}

fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, InstallError> {
    UnboundKey::new(&CHACHA20_POLY1305, key)
        .map(LessSafeKey::new)
        .map_err(|_| InstallError::Key)
}

impl Table {
    /// Drops the sessions of an older boot and, if this end has too many of this role, the most
    /// useless one of them: the oldest that the peer may not have, else the oldest. Only of the same
    /// role: when two hosts dial each other at once, each would else push out the session that the
    /// other one is about to use, and they would be deaf to each other until the next connection.
    fn make_room(&mut self, host: HostId, boot: Boot, role: Role) {
        let Self { peers, by_id } = self;
        let peer = peers.entry(host).or_default();
        if boot > peer.boot {
            by_id.retain(|_, owner| *owner != host);
            peer.sessions.clear();
            peer.boot = boot;
        }
        let all = peer.sessions.iter().enumerate();
        let mut same = all.filter(|(_, session)| session.role == role);
        if same.clone().count() >= MAX_SESSIONS / 2 {
            let oldest = same.clone().map(|(at, _)| at).next();
            let unsure = same.find(|(_, session)| !session.confirmed);
            if let Some(at) = unsure.map(|(at, _)| at).or(oldest) {
                let old = peer.sessions.remove(at);
                by_id.remove(&old.id);
            }
        }
    }
}

impl Sessions {
    /// No sessions yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Sets who is told of each session made; replaces the one before.
    pub fn observe(&self, observer: SessionObserver) {
        *lock(&self.observer) = Some(observer);
    }

    /// Installs a session with `host`, which has shown `boot`. The newest session is used to seal;
    /// those of an older boot are dropped.
    ///
    /// # Errors
    /// See [`InstallError`]; nothing changes then.
    pub fn install(
        &self,
        host: HostId,
        boot: Boot,
        role: Role,
        keys: &SessionKeys,
    ) -> Result<(), InstallError> {
        let (mine, theirs) = match role {
            Role::Dialer => (&keys.from_dialer, &keys.from_acceptor),
            Role::Acceptor => (&keys.from_acceptor, &keys.from_dialer),
        };
        let session = Session {
            id: keys.id,
            role,
            seal: cipher(mine)?,
            open: cipher(theirs)?,
            next: 0,
            window: ReplayWindow::new(),
            confirmed: role == Role::Dialer,
        };
        {
            let mut table = lock(&self.table);
            if let Some(peer) = table.peers.get(&host) {
                if peer.forgotten {
                    return Err(InstallError::Forgotten(host));
                }
                if boot < peer.boot {
                    return Err(InstallError::OldBoot {
                        host,
                        known: peer.boot,
                        offered: boot,
                    });
                }
            }
            if table.by_id.contains_key(&keys.id) {
                return Err(InstallError::Duplicate(host));
            }
            table.make_room(host, boot, role);
            table.by_id.insert(keys.id, host);
            table.peers.entry(host).or_default().sessions.push(session);
        }
        let observer = lock(&self.observer).clone();
        if let Some(observer) = observer {
            observer(host, boot);
        }
        Ok(())
    }

    /// Drops all sessions with a host that left the array, and takes no new ones: ids of hosts are
    /// never used again.
    pub fn forget(&self, host: HostId) {
        let Table { peers, by_id } = &mut *lock(&self.table);
        let peer = peers.entry(host).or_default();
        by_id.retain(|_, owner| *owner != host);
        peer.sessions.clear();
        peer.forgotten = true;
    }

    /// The newest boot that a host with a live session has shown.
    pub fn boot_of(&self, host: HostId) -> Option<Boot> {
        let table = lock(&self.table);
        table
            .peers
            .get(&host)
            .filter(|peer| !peer.sessions.is_empty())
            .map(|peer| peer.boot)
    }

    /// Seals `plain` for `to` into `out` (which is cleared) under the newest session that the peer
    /// has for sure, else the newest. `false`, and `out` empty, if there is none, or if `plain` is
    /// longer than [`MAX_PLAIN`].
    #[must_use = "without a session nothing was sealed"]
    pub fn seal(&self, to: HostId, plain: &[u8], out: &mut Vec<u8>) -> bool {
        out.clear();
        let sealed = plain.len() <= MAX_PLAIN && self.try_seal(to, plain, out).is_some();
        if !sealed {
            out.clear();
        }
        count(if sealed {
            &self.counters.sealed
        } else {
            &self.counters.unsealable
        });
        sealed
    }

    fn try_seal(&self, to: HostId, plain: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let mut table = lock(&self.table);
        let sessions = &mut table.peers.get_mut(&to)?.sessions;
        let newest = sessions.iter().rposition(|session| session.confirmed);
        let session = match newest {
            Some(at) => sessions.get_mut(at)?,
            None => sessions.last_mut()?,
        };
        let counter = session.next;
        // At the end of its counter a session is mute, never repeats.
        session.next = counter.checked_add(1)?;
        let header = header(session.id, counter);
        out.extend_from_slice(&header);
        out.extend_from_slice(plain);
        let tag = session
            .seal
            .seal_in_place_separate_tag(nonce(counter), Aad::from(header), &mut out[SEAL_HEADER..])
            .ok()?;
        out.extend_from_slice(tag.as_ref());
        Some(())
    }

    /// Opens a datagram into `out` (which is cleared) and says which host sealed it. Total: any
    /// bytes give a host or an error.
    ///
    /// # Errors
    /// See [`OpenError`]; each is counted, and `out` is empty.
    pub fn open(&self, packet: &[u8], out: &mut Vec<u8>) -> Result<HostId, OpenError> {
        out.clear();
        let result = self.try_open(packet, out);
        if result.is_err() {
            out.clear();
        }
        count(match result {
            Ok(_) => &self.counters.opened,
            Err(OpenError::Malformed) => &self.counters.malformed,
            Err(OpenError::UnknownSession) => &self.counters.unknown_session,
            Err(OpenError::Replayed) => &self.counters.replayed,
            Err(OpenError::TooOld) => &self.counters.too_old,
            Err(OpenError::Forged) => &self.counters.forged,
        });
        result
    }

    fn try_open(&self, packet: &[u8], out: &mut Vec<u8>) -> Result<HostId, OpenError> {
        if packet.len() > MAX_SEALED || packet.len() < SEAL_HEADER + SEAL_TAG {
            return Err(OpenError::Malformed);
        }
        let (head, body) = packet.split_at(SEAL_HEADER);
        let (mut id, mut counter) = ([0u8; 8], [0u8; 8]);
        id.copy_from_slice(&head[1..9]);
        counter.copy_from_slice(&head[9..]);
        let counter = u64::from_be_bytes(counter);
        if head[0] != VERSION {
            return Err(OpenError::Malformed);
        }
        let Table { peers, by_id } = &mut *lock(&self.table);
        let host = *by_id.get(&id).ok_or(OpenError::UnknownSession)?;
        let session = peers
            .get_mut(&host)
            .and_then(|peer| peer.sessions.iter_mut().find(|session| session.id == id))
            .ok_or(OpenError::UnknownSession)?;
        session.window.check(counter).map_err(|stale| match stale {
            Stale::Replayed => OpenError::Replayed,
            Stale::TooOld => OpenError::TooOld,
        })?;
        out.extend_from_slice(body);
        let aad = Aad::from(header(id, counter));
        let length = session
            .open
            .open_in_place(nonce(counter), aad, out)
            .map_err(|_| OpenError::Forged)?
            .len();
        out.truncate(length);
        session.window.mark(counter);
        session.confirmed = true;
        Ok(host)
    }

    /// The counters since the start.
    pub fn counts(&self) -> SealCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SealCounts {
            sealed: read(&self.counters.sealed),
            opened: read(&self.counters.opened),
            unsealable: read(&self.counters.unsealable),
            malformed: read(&self.counters.malformed),
            unknown_session: read(&self.counters.unknown_session),
            replayed: read(&self.counters.replayed),
            too_old: read(&self.counters.too_old),
            forged: read(&self.counters.forged),
        }
    }
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
