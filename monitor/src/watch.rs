//! The monitor's thread: follows the state, runs what is due, tells what changed.
//!
//! A runtime of its own, so that a thousand waiting probes are one sleeping thread, and less urgent
//! than all else in the daemon. It is told of each applied state, looks at most every [`LOOK_MS`], and
//! derives what is wanted from nothing each time.
//!
//! Limits: one thread, so a probe must not block; those that do not wait on sockets take microseconds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use control::{Instant, LocalGroup};
use statemachine::{AddressState, GroupName, HostId, State};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, LocalSet};

use crate::judge::{Judge, ObjectId, Outcome, Shown, Wanted};
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
/// How much less urgent than the daemon's other threads.
const NICE: i32 = 5;

/// Where verdicts go, each with which test fails and why.
pub type Tell = Box<dyn Fn(GroupName, LocalGroup, Option<String>) + Send>;

/// What the daemon keeps of a monitor.
#[derive(Clone, Debug)]
pub struct Monitor {
    states: watch::Sender<Option<Arc<State>>>,
    questions: mpsc::Sender<Question>,
    scripts: mpsc::Sender<Script>,
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
                    lives: Vec::new(),
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
        self.scripts.try_send(script).is_ok()
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
    /// A process that was watched ended.
    Ended {
        object: ObjectId,
        pid: i32,
        why: String,
    },
}

/// What reaches the thread.
type Doors = (
    watch::Receiver<Option<Arc<State>>>,
    mpsc::Receiver<News>,
    mpsc::Receiver<Question>,
    mpsc::Receiver<Script>,
);

struct Looking {
    me: HostId,
    clock: fn() -> Instant,
    tell: Tell,
    judge: Judge,
    prober: Rc<Prober>,
    programs: Programs,
    wanted: Vec<Wanted>,
    /// Processes that are watched, by object.
    lives: Vec<(ObjectId, i32, AbortHandle)>,
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
            for run in self.judge.due(now) {
                let (prober, outcomes) = (Rc::clone(&self.prober), self.outcomes.clone());
                tokio::task::spawn_local(async move {
                    let (object, number) = (run.object, run.run);
                    let found = prober.perform(run).await;
                    // The thread ends: nobody asks any more.
                    let _ended = outcomes
                        .send(News::Ran {
                            object,
                            run: number,
                            outcome: found.outcome,
                            life: found.life,
                        })
                        .await;
                });
            }
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
                script = ordered.recv() => if let Some(script) = script {
                    self.act(script);
                },
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    fn act(&self, script: Script) {
        let programs = self.programs.clone();
        tokio::task::spawn_local(async move {
            let Script {
                words,
                environment,
                timeout_ms,
                reply,
            } = script;
            let ended = programs.run(Purpose::Act, words, environment, timeout_ms);
            reply(ended.await);
        });
    }

    fn follow(&mut self, state: &State, now: Instant) {
        self.prober.call_it(&state.name_of(self.me));
        let wanted = wanted(state, self.me);
        if wanted == self.wanted {
            return;
        }
        self.judge.follow(now, &wanted);
        let known = |id| self.judge.knows(id);
        self.prober.keep(known);
        self.lives.retain(|(id, _, watching)| {
            let stays = self.judge.knows(*id);
            if !stays {
                watching.abort();
            }
            stays
        });
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
                self.judge.ran(now, object, run, outcome);
                if let Some(life) = life.filter(|_| self.judge.knows(object)) {
                    self.watch(object, life);
                }
            }
            News::Ended { object, pid, why } => {
                let watched =
                    |(id, known, _): &(ObjectId, i32, AbortHandle)| *id == object && *known == pid;
                if self.lives.iter().any(watched) {
                    self.lives.retain(|life| !watched(life));
                    self.judge.struck(now, object, &why);
                }
            }
        }
    }

    /// Waits for the end of a process, unless that is waited for already.
    fn watch(&mut self, object: ObjectId, life: Life) {
        let pid = life.pid;
        let known = self.lives.iter().position(|(id, ..)| *id == object);
        if let Some(at) = known {
            if self
                .lives
                .get(at)
                .is_some_and(|(_, watched, _)| *watched == pid)
            {
                return;
            }
            let (.., watching) = self.lives.swap_remove(at);
            watching.abort();
        }
        let outcomes = self.outcomes.clone();
        let watching = tokio::task::spawn_local(async move {
            let why = life.ended().await;
            let _ended = outcomes.send(News::Ended { object, pid, why }).await;
        });
        self.lives.push((object, pid, watching.abort_handle()));
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
