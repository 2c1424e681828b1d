//! The monitor's thread: follows the state, runs what is due, tells what changed.
//!
//! A runtime of its own, so that a thousand waiting probes are one sleeping thread, and less urgent
//! than all else in the daemon. It is told of each applied state, looks at most every [`LOOK_MS`], and
//! derives what is wanted from nothing each time.
//!
//! Limits: one thread, so a probe must not block; those that do not wait on sockets take microseconds.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use control::{Instant, LocalGroup};
use statemachine::{AddressState, GroupName, HostId, State};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, LocalSet};

use crate::judge::{Judge, ObjectId, Outcome, Run, Shown, Wanted};
use crate::probe::{Life, Prober};
use crate::runner::wire::Purpose;
use crate::runner::{Programs, Runner};

/// States are looked at no more often than this, in ms.
const LOOK_MS: u64 = 10;
/// Longest sleep, in ms.
const LONGEST_SLEEP_MS: u64 = 1_000;
/// Outcomes that may wait; a probe waits when it is full.
const OUTCOMES: usize = 4_096;
/// Questions that may wait.
const QUESTIONS: usize = 16;
/// Scripts that may wait to be started: one for each address that a host may hold, and more.
const SCRIPTS: usize = 2_048;
/// Why a script has no end of its own.
const DIED: &str = "the monitor has ended; start the daemon anew";
/// How much less urgent than the daemon's other threads.
const NICE: i32 = 5;

/// Where verdicts go, each with which test fails and why.
pub type Tell = Box<dyn Fn(GroupName, LocalGroup, Option<String>) + Send>;

/// What the daemon keeps of a monitor.
#[derive(Clone, Debug)]
pub struct Monitor {
    states: watch::Sender<Option<Arc<State>>>,
    questions: mpsc::Sender<Question>,
    scripts: mpsc::Sender<Ordered>,
}

/// A program to be run for somebody else.
pub struct Script {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Its environment.
    pub environment: Vec<(String, String)>,
    /// It is ended after so long, in ms.
    pub timeout_ms: u64,
    /// Gets what it said, or what went wrong.
    pub reply: Reply,
}

/// Where it is told how a script ended.
pub type Reply = Box<dyn FnOnce(Result<String, String>) + Send>;

/// A script on its way: whoever ordered it is told its end even when this thread dies.
struct Ordered {
    script: Option<Script>,
}

impl Drop for Ordered {
    fn drop(&mut self) {
        if let Some(script) = self.script.take() {
            (script.reply)(Err(DIED.to_owned()));
        }
    }
}

/// Says so when the thread panics.
struct Mourned;

impl Drop for Mourned {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                "the monitor has ended in a panic: nothing is tested; please report this"
            );
        }
    }
}

/// How does everything stand?
type Question = oneshot::Sender<Vec<Shown>>;

impl Monitor {
    /// Starts the thread, which tells `tell` what becomes of the groups that `me` is a member of, and
    /// ends when the last copy of the monitor is dropped. `clock` is the boot-time clock; without a
    /// `runner` no program is run.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        me: HostId,
        clock: fn() -> Instant,
        runner: Option<Runner>,
        tell: Tell,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (states, heard) = watch::channel(None);
        let (questions, asked) = mpsc::channel(QUESTIONS);
        let (scripts, ordered) = mpsc::channel(SCRIPTS);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new()
            .name("monitor".into())
            .spawn(move || {
                let _mourned = Mourned;
                step_back();
                let (outcomes, told) = mpsc::channel(OUTCOMES);
                let looking = Looking {
                    me,
                    clock,
                    tell,
                    judge: Judge::new(me.0),
                    prober: Rc::default(),
                    programs: Programs::default(),
                    wanted: Vec::new(),
                    running: BTreeMap::new(),
                    lives: BTreeMap::new(),
                    outcomes,
                };
                LocalSet::new()
                    .block_on(&runtime, looking.run(runner, (heard, told, asked, ordered)));
            })?;
        let monitor = Self {
            states,
            questions,
            scripts,
        };
        Ok((monitor, thread))
    }

    /// Says what the array agreed on last; an older state than it knows changes nothing.
    pub fn follow(&self, state: Arc<State>) {
        self.states.send_if_modified(|known| {
            let news = known.as_ref().is_none_or(|known| known.index < state.index);
            if news {
                *known = Some(state);
            }
            news
        });
    }

    /// Has a script run. Never waits. False when it cannot be taken: its reply is then never called.
    #[must_use]
    pub fn run(&self, script: Script) -> bool {
        let ordered = Ordered {
            script: Some(script),
        };
        let taken = self.scripts.try_send(ordered);
        taken
            .map_err(|refused| refused.into_inner().script.take())
            .is_ok()
    }

    /// Every test and load of this host, as it stands; nothing when the thread has ended.
    pub async fn shown(&self) -> Vec<Shown> {
        let (answer, answered) = oneshot::channel();
        match self.questions.send(answer).await {
            Ok(()) => answered.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }
}

/// This thread gives way to others.
fn step_back() {
    let me = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(me), NICE) {
        tracing::debug!(%error, "the monitor is as urgent as other threads");
    }
}

/// What comes back from a probe.
enum News {
    /// A run ended.
    Ran {
        object: ObjectId,
        run: u64,
        outcome: Outcome,
        life: Option<Life>,
    },
    /// What was watched ended, or cannot be watched.
    Ended {
        object: ObjectId,
        number: u64,
        why: Option<String>,
    },
}

/// Tasks by object, each with a number by which an answer is known to be its.
type UnderWay = BTreeMap<ObjectId, (u64, AbortHandle)>;

/// What reaches the thread.
type Doors = (
    watch::Receiver<Option<Arc<State>>>,
    mpsc::Receiver<News>,
    mpsc::Receiver<Question>,
    mpsc::Receiver<Ordered>,
);

struct Looking {
    me: HostId,
    clock: fn() -> Instant,
    tell: Tell,
    judge: Judge,
    prober: Rc<Prober>,
    programs: Programs,
    wanted: Vec<Wanted>,
    /// The runs under way.
    running: UnderWay,
    /// What is watched, by object.
    lives: UnderWay,
    outcomes: mpsc::Sender<News>,
}

impl Looking {
    async fn run(mut self, runner: Option<Runner>, doors: Doors) {
        let (mut states, mut told, mut asked, mut ordered) = doors;
        self.programs = Programs::of(runner);
        self.prober = Rc::new(Prober::new(self.programs.clone()));
        let mut looked = Instant::default();
        loop {
            let now = (self.clock)();
            let due = self.judge.due(now);
            due.given_up.iter().for_each(|id| self.give_up(*id));
            due.runs.into_iter().for_each(|run| self.start(run));
            self.tell_news(now);
            let next = self.judge.next_wake(now);
            let sleep_us = next.map_or(u64::MAX, |next| next.us_since(now));
            let sleep = Duration::from_micros(sleep_us.min(LONGEST_SLEEP_MS * 1000));
            let settled = Duration::from_micros(looked.plus_ms(LOOK_MS).us_since(now));
            tokio::select! {
                news = told.recv() => if let Some(news) = news {
                    self.take_in(news);
                    // What came meanwhile is taken in at once: one look at the clock for all.
                    while let Ok(news) = told.try_recv() {
                        self.take_in(news);
                    }
                },
                changed = async { tokio::time::sleep(settled).await; states.changed().await } => {
                    if changed.is_err() {
                        return;
                    }
                    looked = (self.clock)();
                    let state = states.borrow_and_update().clone();
                    if let Some(state) = state {
                        self.follow(&state, looked);
                    }
                }
                question = asked.recv() => match question {
                    // Whoever asked may have gone away meanwhile.
                    Some(question) => drop(question.send(self.judge.shown((self.clock)()))),
                    None => return,
                },
                ordered = ordered.recv() => if let Some(ordered) = ordered {
                    self.act(ordered);
                },
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    fn start(&mut self, run: Run) {
        let (prober, outcomes) = (Rc::clone(&self.prober), self.outcomes.clone());
        let (object, number) = (run.object, run.run);
        let task = tokio::task::spawn_local(async move {
            let found = prober.perform(run).await;
            let ran = News::Ran {
                object,
                run: number,
                outcome: found.outcome,
                life: found.life,
            };
            // The thread ends: nobody asks any more.
            let _ended = outcomes.send(ran).await;
        });
        self.running.insert(object, (number, task.abort_handle()));
    }

    fn give_up(&mut self, object: ObjectId) {
        if let Some((_, task)) = self.running.remove(&object) {
            task.abort();
        }
    }

    fn act(&self, mut ordered: Ordered) {
        let programs = self.programs.clone();
        tokio::task::spawn_local(async move {
            let Some(script) = &mut ordered.script else {
                return;
            };
            let words = std::mem::take(&mut script.words);
            let environment = std::mem::take(&mut script.environment);
            let ended = programs.run(Purpose::Act, words, environment, script.timeout_ms);
            let ended = ended.await;
            if let Some(script) = ordered.script.take() {
                (script.reply)(ended);
            }
        });
    }

    fn follow(&mut self, state: &State, now: Instant) {
        self.prober.call_it(&state.name_of(self.me));
        let wanted = wanted(state, self.me);
        if wanted == self.wanted {
            return;
        }
        self.judge.follow(now, &wanted);
        let judge = &self.judge;
        self.prober.keep(|id| judge.knows(id));
        for under_way in [&mut self.running, &mut self.lives] {
            under_way.retain(|id, (_, task)| {
                let stays = judge.knows(*id);
                if !stays {
                    task.abort();
                }
                stays
            });
        }
        self.wanted = wanted;
    }

    fn take_in(&mut self, news: News) {
        let now = (self.clock)();
        match news {
            News::Ran {
                object,
                run,
                outcome,
                life,
            } => {
                if self
                    .running
                    .get(&object)
                    .is_some_and(|(under_way, _)| *under_way == run)
                {
                    self.running.remove(&object);
                }
                self.judge.ran(now, object, run, outcome);
                if let Some(life) = life.filter(|_| self.judge.knows(object)) {
                    self.watch(object, life);
                }
            }
            News::Ended {
                object,
                number,
                why,
            } => {
                let watched = self.lives.get(&object);
                if watched.is_none_or(|(known, _)| *known != number) {
                    return;
                }
                self.lives.remove(&object);
                if let Some(why) = why {
                    self.judge.struck(now, object, &why);
                }
            }
        }
    }

    /// Waits for the end of what lives, unless that is waited for already.
    fn watch(&mut self, object: ObjectId, life: Life) {
        let number = life.number();
        match self.lives.get(&object) {
            Some((known, _)) if *known == number => return,
            Some((_, before)) => before.abort(),
            None => {}
        }
        let outcomes = self.outcomes.clone();
        let watching = tokio::task::spawn_local(async move {
            let why = life.ended().await;
            let ended = News::Ended {
                object,
                number,
                why,
            };
            // The thread ends: nobody asks any more.
            let _ended = outcomes.send(ended).await;
        });
        self.lives.insert(object, (number, watching.abort_handle()));
    }

    fn tell_news(&mut self, now: Instant) {
        for (group, measured) in self.judge.news(now) {
            let why = self.judge.why(now, &group);
            match &why {
                Some(why) => tracing::warn!(%group, why, "not well"),
                None => tracing::debug!(%group, ?measured, "measured"),
            }
            (self.tell)(group, measured, why);
        }
    }
}

/// What the state wants of `me`: the tests and loads of each group that it is a member of.
#[must_use]
pub fn wanted(state: &State, me: HostId) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for (name, group) in &state.groups {
        let Some(member) = group.members.get(&me) else {
            continue;
        };
        let serves = |ip: &IpAddr| {
            let address = state.addresses.get(ip);
            address.is_some_and(|address| address.state == AddressState::Online { host: me })
        };
        let own = state
            .addresses
            .iter()
            .filter(|(_, address)| address.group == *name);
        let served: Vec<IpAddr> = own.map(|(ip, _)| *ip).filter(serves).collect();
        let preferred = || member.preferred.iter().map(|preferred| preferred.ip);
        let home = preferred().find(serves);
        let v6 = preferred().next().is_some_and(|ip| ip.is_ipv6());
        let here = match v6 {
            true => IpAddr::V6(Ipv6Addr::LOCALHOST),
            false => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        wanted.push(Wanted {
            group: name.clone(),
            tests: group.policy.tests.clone(),
            loads: group.policy.loads.clone(),
            well: member.healthy,
            // Never an address that another host serves: its service would be tested instead.
            address: home.or(served.first().copied()).unwrap_or(here),
            served,
        });
    }
    wanted
}
