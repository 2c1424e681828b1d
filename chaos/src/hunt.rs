//! Many seeds, one thread for each core: who broke which law first.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::{Breach, Law, Storm};

/// Which storms.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// The seeds.
    pub seeds: Range<u64>,
    /// Hosts of each array.
    pub hosts: u64,
    /// For how long each blows, in ms of virtual time.
    pub blows_ms: u64,
    /// Only this law is looked at.
    pub only: Option<Law>,
    /// Stops at the first breach.
    pub first_only: bool,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Storms that blew.
    pub storms: u64,
    /// Every breach, by seed.
    pub breaches: Vec<(u64, Breach)>,
}

impl Hunt {
    /// As docs/testing.md counts: 5 hosts, 2 minutes.
    #[must_use]
    pub fn new(seeds: Range<u64>) -> Self {
        Self {
            seeds,
            hosts: 5,
            blows_ms: 120_000,
            only: None,
            first_only: false,
        }
    }

    /// The storm of one seed.
    #[must_use]
    pub fn storm(&self, seed: u64) -> Storm {
        let mut storm = Storm::of(seed, self.hosts, self.blows_ms);
        storm.setup.only = self.only;
        storm
    }

    /// Lets all of them blow; `told` hears of each breach at once.
    pub fn run(&self, told: impl Fn(u64, &Breach) + Sync) -> Found {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (next, storms) = (AtomicU64::new(self.seeds.start), AtomicU64::new(0));
        let stop = AtomicBool::new(false);
        let breaches = Mutex::new(Vec::new());
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= self.seeds.end {
                    break;
                }
                let broken = self.storm(seed).run().broken;
                storms.fetch_add(1, Ordering::Relaxed);
                if let Some(breach) = broken {
                    told(seed, &breach);
                    let mut breaches = breaches.lock().unwrap_or_else(PoisonError::into_inner);
                    breaches.push((seed, breach));
                    stop.store(self.first_only, Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        let mut breaches = breaches
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        breaches.sort_by_key(|(seed, _)| *seed);
        let storms = storms.into_inner();
        Found { storms, breaches }
    }
}
