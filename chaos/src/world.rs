//! The world: hosts, network, disks and kernels in virtual time, driven by one queue.
//!
//! One thread, no clock, no socket: what is due next is taken from the queue, handed to its host, and
//! what the host's core wants done is queued in turn. Every random number comes from the seed.
//!
//! Files: `drive` (a core's step and its outputs), `raft` (log, commit, elections), `replay` (apply),
//! `faults` (what tests do to it), `ask` (what tests ask of it).

mod ask;
mod drive;
mod faults;
mod judge;
mod raft;
mod replay;

use std::collections::VecDeque;
use std::sync::Arc;

use control::{Event, Output, Vow};
use statemachine::{Boot, HostId, QuorumLoss, State};

use crate::checker::Laws;
use crate::host::{self, BACKLOG, Due, SimHost};
use crate::link::Links;
use crate::queue::Queue;
use crate::quiet::Knowledge;
use crate::record::Record;
use crate::{Clock, Rng, Setup, Trace};

/// How often the world looks whether the voters have a leader, in microseconds.
const WATCH_US: u64 = 10_000;
/// Furthest that a clock's offset may be, in microseconds: hosts were not started at once.
const OFFSET_US: u64 = 3_600_000_000;
/// Most drift of a clock, in parts per million: rho = 0.1 % (lease.md, Clocks), twice between two.
const DRIFT_PPM: u64 = 1000;

/// What waits in the queue.
enum Job {
    /// Something at a host; `boot` names the start of the daemon that it belongs to, if to one.
    Host {
        host: HostId,
        boot: Option<u64>,
        due: Due,
    },
    /// The world looks for a leader.
    Watch,
    /// A host that was stopped halfway goes on.
    GoOn(HostId),
}

/// By what the last word of a start is known: a secret of its own for each.
fn vow(host: HostId, boot: u64) -> Vow {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&host.0.to_be_bytes());
    bytes[8..].copy_from_slice(&boot.to_be_bytes());
    Vow(bytes)
}

/// What an entry made of a state.
struct Shared {
    record: Arc<Record>,
    before: Arc<State>,
    after: Arc<State>,
}

/// A simulated array.
pub struct World {
    setup: Setup,
    rng: Rng,
    now: u64,
    hosts: Vec<SimHost>,
    links: Links,
    queue: Queue<Job>,
    inbox: VecDeque<(HostId, Event)>,
    /// Where a core puts what it wants done: kept, since it would be made anew millions of times.
    outputs: Vec<Output>,
    trace: Trace,
    laws: Laws,
    leaderless_since: Option<u64>,
    /// When the voters or the timing changed last in somebody's log.
    changed_at: u64,
    knowledge: Knowledge,
    /// Last words that were said, of which host's which start.
    words: Vec<(HostId, u64)>,
    /// What the last entries made of which states.
    shared: VecDeque<Shared>,
    /// No gate shuts before this.
    next_shut: u64,
    /// The newest index that any host applied: its effects are told once.
    told: u64,
}

impl World {
    /// A world at true time 0: every host starts, none leads yet.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let mut rng = Rng::new(setup.seed);
        let mut clock = || Clock {
            offset_us: rng.below(OFFSET_US),
            drift_ppm: if setup.drift {
                rng.below(2 * DRIFT_PPM + 1) as i64 - DRIFT_PPM as i64
            } else {
                0
            },
        };
        let hosts: Vec<SimHost> = setup
            .ids()
            .into_iter()
            .map(|id| SimHost::new(id, clock()))
            .collect();
        let log: Vec<_> = setup.log().into_iter().map(Arc::new).collect();
        let mut world = Self {
            links: Links::new(setup.weather),
            rng,
            now: 0,
            hosts,
            queue: Queue::default(),
            inbox: VecDeque::new(),
            outputs: Vec::new(),
            trace: Trace::default(),
            laws: Laws::new(
                setup.only,
                setup.policy.quorum_loss == QuorumLoss::LastResort,
            ),
            leaderless_since: None,
            changed_at: 0,
            knowledge: Knowledge::default(),
            words: Vec::new(),
            shared: VecDeque::new(),
            next_shut: 0,
            told: log.len() as u64,
            setup,
        };
        for id in world.setup.ids() {
            if let Some(host) = world.host_mut(id) {
                log.iter().for_each(|record| host.raft.push(record.clone()));
                (host.raft.term, host.raft.durable) = (1, host.raft.last());
                host.raft.commit = host.raft.durable;
            }
            world.replay(id);
            if let Some(host) = world.host_mut(id) {
                host.saved = host.state.clone();
            }
            world.boot(id);
        }
        world.queue_job(0, Job::Watch);
        world
    }

    /// Lets so much time pass.
    pub fn run_ms(&mut self, ms: u64) {
        let end = self.now + ms * 1000;
        while self.queue.next_at().is_some_and(|at| at <= end) && self.laws.is_kept() {
            let Some((at, job)) = self.queue.pop() else {
                break;
            };
            self.now = self.now.max(at);
            if self.now >= self.next_shut {
                self.tell_shut_gates();
            }
            self.perform(job);
            self.settle();
        }
        self.now = end;
        self.tell_shut_gates();
    }

    fn perform(&mut self, job: Job) {
        match job {
            Job::Host { host, boot, due } => self.deliver(host, boot, due),
            Job::GoOn(host) => self.go_on(host),
            Job::Watch => {
                self.watch();
                self.queue_job(WATCH_US, Job::Watch);
            }
        }
    }

    fn deliver(&mut self, id: HostId, boot: Option<u64>, due: Due) {
        let Some(host) = self.host_mut(id) else {
            return;
        };
        if host.core.is_none() || boot.is_some_and(|boot| boot != host.boot) {
            return;
        }
        if host.paused {
            if !due.is_foreign() || host.backlog.len() < BACKLOG {
                host.backlog.push_back(due);
            }
            return;
        }
        self.happen(id, due);
    }

    fn happen(&mut self, id: HostId, due: Due) {
        let event = match due {
            Due::Wake => {
                if let Some(host) = self.host_mut(id) {
                    host.wake_at = u64::MAX;
                }
                Event::Woke
            }
            Due::Datagram { from, message } => Event::Received {
                from,
                network: 0,
                message,
            },
            Due::Word { host, boot } => Event::LastWord {
                host,
                boot: Boot(boot),
                vow: vow(host, boot),
            },
            Due::Measured(group, measured) => Event::Measured {
                group,
                measured,
                why: None,
            },
            Due::Packet { from, packet } => return self.packet(id, from, *packet),
            Due::Flushed { index, term } => return self.flushed(id, index, term),
            Due::Apply => return self.replay(id),
            Due::Status => return self.tell_status(id),
            Due::Done(action) => return self.done(id, *action),
            Due::Beat => return self.beat(id),
        };
        self.inbox.push_back((id, event));
    }

    fn queue_job(&mut self, after_us: u64, job: Job) {
        self.queue.push(self.now + after_us, job);
    }

    /// Queues something of the host's own, which dies with its daemon.
    fn soon(&mut self, id: HostId, after_us: u64, due: Due) {
        let boot = self.host(id).map(|host| host.boot);
        self.queue_job(
            after_us,
            Job::Host {
                host: id,
                boot,
                due,
            },
        );
    }

    /// Queues something that comes from another host.
    fn arrive(&mut self, to: HostId, after_us: u64, due: Due) {
        self.queue_job(
            after_us,
            Job::Host {
                host: to,
                boot: None,
                due,
            },
        );
    }

    fn host(&self, id: HostId) -> Option<&SimHost> {
        host::of(&self.hosts, id)
    }

    fn host_mut(&mut self, id: HostId) -> Option<&mut SimHost> {
        let at = usize::try_from(id.0.checked_sub(1)?).ok()?;
        self.hosts.get_mut(at)
    }

    fn say(&mut self, text: &str) {
        self.trace.say(self.now, text);
    }
}
