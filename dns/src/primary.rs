//! What this name server is to those that follow it: who may take which zone, who is told of its
//! changes, and what each zone was before (docs/adr/0023).
//!
//! Fed from the same state as the zones, right after they were swapped in, so answers never wait
//! for it. A transfer that finds it behind the zones brings it up itself: who has seen a serial
//! gets at least that version.
//!
//! Limits: only zones that have `[transfer]` in their group's policy have a history here; a zone
//! whose key this host lacks is given to nobody and announced to nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use statemachine::Network;
use tokio::sync::watch;

use crate::history::{History, Version, Wire};
use crate::name::NameKey;
use crate::serial::is_newer;
use crate::tsig::{Key, Keys};
use crate::zone::Zone;
use crate::zones::Zones;

/// Who follows a zone, as its group's policy says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secondaries {
    /// Name of the zone, with or without its last dot.
    pub zone: String,
    /// Who is told of each change.
    pub notify: Vec<SocketAddr>,
    /// Whence transfers may be asked for. Empty: from anywhere with the key, from nowhere without.
    pub allow: Vec<Network>,
    /// Name of the key that transfers have to be signed with.
    pub key: Option<String>,
    /// How many name servers tell the secondaries before this one does.
    pub rank: u32,
}

/// What became of telling one secondary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The newest serial that it acknowledged.
    pub acknowledged: Option<u32>,
    /// The serial it is being told of.
    pub telling: Option<u32>,
    /// How often it was told of that without an answer.
    pub attempts: u32,
    /// Why it was given up or keeps failing.
    pub trouble: Option<String>,
}

/// How one zone is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedZone {
    /// The policy's part.
    pub secondaries: Secondaries,
    /// This host has no key of the name that the policy asks for, so the zone is given to nobody.
    pub lacks_key: bool,
    /// Each secondary that is told of changes.
    pub told: BTreeMap<SocketAddr, Told>,
}

/// Why a zone is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error("no zone of that name is given away")]
    NotFollowed,
    #[error("the address is not in the policy's `allow`")]
    Address,
    #[error("not signed with the policy's key")]
    Unsigned,
    #[error("this host lacks the policy's key")]
    LacksKey,
}

/// One piece of news for one secondary.
#[derive(Clone, Debug)]
pub(crate) struct News {
    pub(crate) apex: Box<[u8]>,
    pub(crate) target: SocketAddr,
    pub(crate) serial: u32,
    pub(crate) soa: Wire,
    pub(crate) key: Option<Arc<Key>>,
    pub(crate) rank: u32,
}

/// Who asks for a zone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) source: IpAddr,
    pub(crate) key: Option<&'a Key>,
}

/// How much of a zone is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// What changed since this serial.
    Since(u32),
    /// Its SOA.
    Soa,
}

struct Followed {
    rules: Secondaries,
    key: Option<Arc<Key>>,
    lacks_key: bool,
    history: History,
    told: BTreeMap<SocketAddr, Told>,
}

/// See the module.
pub struct Primary {
    keys: ArcSwap<Keys>,
    zones: Mutex<BTreeMap<Box<[u8]>, Followed>>,
    changed: watch::Sender<u64>,
}

impl std::fmt::Debug for Primary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Primary")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl Default for Primary {
    fn default() -> Self {
        Primary::new(Keys::default())
    }
}

impl Primary {
    /// Signs with these keys; follows nothing yet.
    pub fn new(keys: Keys) -> Primary {
        Primary {
            keys: ArcSwap::from_pointee(keys),
            zones: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// Signs with these keys from now on.
    pub fn change_keys(&self, keys: Keys) {
        let mut followed = self.lock();
        self.keys.store(Arc::new(keys));
        for known in followed.values_mut() {
            let rules = std::mem::take(&mut known.rules);
            self.set_rules(known, rules);
        }
        drop(followed);
        self.wake();
    }

    /// Takes in which zones are followed and how they are now. Cheap when nothing changed.
    pub fn take_in(&self, all: Vec<Secondaries>, zones: &Zones) {
        let mut followed = self.lock();
        let mut changed = false;
        let mut kept: BTreeSet<Box<[u8]>> = BTreeSet::new();
        for rules in all {
            let Some((apex, zone)) = find(zones, &rules.zone) else {
                continue;
            };
            kept.insert(apex.clone());
            match followed.get_mut(&apex) {
                Some(known) => {
                    changed |= known.history.advance(zone);
                    if known.rules != rules {
                        changed = true;
                        self.set_rules(known, rules);
                    }
                }
                None => {
                    let Some(version) = Version::of(zone, None) else {
                        continue;
                    };
                    let mut new = Followed {
                        rules: Secondaries::default(),
                        key: None,
                        lacks_key: false,
                        history: History::new(version),
                        told: BTreeMap::new(),
                    };
                    self.set_rules(&mut new, rules);
                    followed.insert(apex, new);
                    changed = true;
                }
            }
        }
        changed |= followed.len() != kept.len();
        followed.retain(|apex, _| kept.contains(apex));
        drop(followed);
        if changed {
            self.wake();
        }
    }

    fn set_rules(&self, followed: &mut Followed, rules: Secondaries) {
        let named = rules.key.as_deref();
        followed.key = named.and_then(|name| self.keys.load().named(name).cloned());
        followed.lacks_key = named.is_some() && followed.key.is_none();
        let is_news = followed.rules.key != rules.key;
        if let (true, true, Some(key)) = (is_news, followed.lacks_key, named) {
            tracing::error!(
                zone = rules.zone,
                key,
                "this host has no key of that name, so it gives the zone to nobody; add it as [[dns.key]] to rais.toml and send the daemon SIGHUP"
            );
        }
        followed
            .told
            .retain(|target, _| rules.notify.contains(target));
        for target in &rules.notify {
            followed.told.entry(*target).or_default();
        }
        followed.rules = rules;
    }

    /// How each zone is followed, by name.
    pub fn followed(&self) -> Vec<FollowedZone> {
        let zones = self.lock();
        let view = |followed: &Followed| FollowedZone {
            secondaries: followed.rules.clone(),
            lacks_key: followed.lacks_key,
            told: followed.told.clone(),
        };
        zones.values().map(view).collect()
    }

    /// The keys of this host.
    pub(crate) fn keys(&self) -> Arc<Keys> {
        self.keys.load_full()
    }

    /// The part of a zone that is asked for, if the asker may have it.
    pub(crate) fn give(
        &self,
        zones: &Zones,
        apex: &NameKey,
        asker: Asker<'_>,
        part: Part,
    ) -> Result<Vec<Wire>, Denied> {
        let mut all = self.lock();
        let followed = all.get_mut(apex.wire()).ok_or(Denied::NotFollowed)?;
        followed.admit(asker)?;
        let zone = zones.find(apex).filter(|zone| is_apex(zone, apex));
        // The asker may have looked at the zones a moment before an entry was applied.
        let newest = followed.history.newest().serial;
        let ahead = zone
            .filter(|zone| is_newer(zone.serial(), newest))
            .is_some_and(|zone| followed.history.advance(zone));
        let records = match part {
            Part::Whole => followed.history.whole(),
            Part::Since(serial) => followed.history.since(serial),
            Part::Soa => vec![followed.history.newest().soa.clone()],
        };
        drop(all);
        if ahead {
            self.wake();
        }
        Ok(records)
    }

    /// What there is to tell, for each secondary of each zone.
    pub(crate) fn news(&self) -> Vec<News> {
        let zones = self.lock();
        let mut news = Vec::new();
        for (apex, followed) in zones.iter().filter(|(_, followed)| !followed.lacks_key) {
            let newest = followed.history.newest();
            news.extend(followed.rules.notify.iter().map(|target| News {
                apex: apex.clone(),
                target: *target,
                serial: newest.serial,
                soa: newest.soa.clone(),
                key: followed.key.clone(),
                rank: followed.rules.rank,
            }));
        }
        news
    }

    /// Notes what became of telling a secondary.
    pub(crate) fn note(&self, news: &News, note: impl FnOnce(&mut Told)) {
        let mut zones = self.lock();
        let told = zones
            .get_mut(&news.apex)
            .and_then(|followed| followed.told.get_mut(&news.target));
        if let Some(told) = told {
            note(told);
        }
    }

    /// Wakes up when there may be news.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Has whoever tells the secondaries look again.
    pub(crate) fn wake(&self) {
        self.changed
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Box<[u8]>, Followed>> {
        self.zones.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Followed {
    fn admit(&self, asker: Asker<'_>) -> Result<(), Denied> {
        if self.lacks_key {
            return Err(Denied::LacksKey);
        }
        let is_near = self
            .rules
            .allow
            .iter()
            .any(|network| network.contains(asker.source));
        match (&self.key, asker.key) {
            (Some(key), Some(used)) if std::ptr::eq(&**key, used) => {
                match self.rules.allow.is_empty() || is_near {
                    true => Ok(()),
                    false => Err(Denied::Address),
                }
            }
            (Some(_), _) => Err(Denied::Unsigned),
            (None, _) if is_near => Ok(()),
            (None, _) => Err(Denied::Address),
        }
    }
}

fn is_apex(zone: &Zone, name: &NameKey) -> bool {
    NameKey::of(zone.apex()).is_some_and(|apex| apex.wire() == name.wire())
}

/// The zone of this name and its apex in wire form.
fn find<'z>(zones: &'z Zones, name: &str) -> Option<(Box<[u8]>, &'z Zone)> {
    let apex = crate::draft::apex_of(name).ok()?;
    let key = NameKey::of(&apex)?;
    let zone = zones.find(&key).filter(|zone| is_apex(zone, &key))?;
    Some((key.wire().into(), zone))
}
