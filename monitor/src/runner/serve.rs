//! The runner's side: starts what the node asks for, ends it in time, tells how it ended.
//!
//! One thread that waits for its line, for the ends of programs and for what they say. It collects
//! every child, and as the "subreaper" the children that programs leave behind, so there are no zombies.
//!
//! Limits: a program that leaves its process group and its parent outlives its time-out.

use std::collections::BTreeMap;
use std::io;
use std::process::ExitCode;

use control::Instant;
use host::line::{Cut, Line, decode, encode};
use host::steady;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, WaitOptions, getrlimit, setrlimit, wait};

use super::job::Job;
use super::wire::{Command, Ended, How, Order, User};

/// Programs at once; each costs a process, two descriptors here and a few pages.
pub const AT_ONCE: usize = 1_024;
/// Descriptors that are not a program's.
const OWN_DESCRIPTORS: u64 = 32;
/// Orders taken in at once; a start takes a millisecond.
const ORDERS: usize = 16;
/// Events taken in at once.
const EVENTS: usize = 256;
/// Longest sleep, in ms: what programs left behind is collected within this.
const LONGEST_MS: u64 = 1_000;
/// What epoll calls the line; programs are called twice their number, and one more for their output.
const LINE: u64 = u64::MAX;

/// Runs the runner of the node at the other end of standard input.
#[must_use]
pub fn run() -> ExitCode {
    steady::catch_signals();
    let Some(line) = Line::handed() else {
        eprintln!("rais: the runner is started by `rais node`, not by hand");
        return ExitCode::FAILURE;
    };
    let files = getrlimit(Resource::Nofile);
    steady_all();
    match Serving::open(line, files).and_then(|mut serving| serving.obey()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rais: the runner ends: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the system does not allow is told, and done without.
fn steady_all() {
    let most = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: most,
        maximum: most,
    };
    let steps = [
        setrlimit(Resource::Nofile, raised).map_err(io::Error::from),
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(io::Error::from),
        steady::keep_only(steady::capability::RUNNER),
    ];
    for error in steps.into_iter().filter_map(Result::err) {
        eprintln!("rais: the runner does without a part of its setting: {error}");
    }
}

struct Serving {
    line: Line,
    events: rustix::fd::OwnedFd,
    user: Option<User>,
    /// Descriptors that a program may have: as many as this process was given, not as many as it took.
    files: Rlimit,
    jobs: BTreeMap<u64, Job>,
    next: u64,
    at_once: usize,
    more: bool,
    collected: Instant,
}

impl Serving {
    fn open(line: Line, files: Rlimit) -> io::Result<Self> {
        let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&events, &line, epoll::EventData::new_u64(LINE), flags)?;
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let room = usize::try_from(descriptors.saturating_sub(OWN_DESCRIPTORS) / 2);
        Ok(Self {
            line,
            events,
            user: None,
            files,
            jobs: BTreeMap::new(),
            next: 0,
            at_once: room.unwrap_or(AT_ONCE).min(AT_ONCE),
            more: false,
            collected: Instant::default(),
        })
    }

    /// Until the node is gone.
    fn obey(&mut self) -> io::Result<()> {
        loop {
            if self.take_in().and_then(|()| self.line.flush()).is_err() {
                self.end();
                return Ok(());
            }
            self.wait()?;
        }
    }

    /// Takes in some orders; many at once do not keep it from ending what is due.
    fn take_in(&mut self) -> Result<(), Cut> {
        self.more = false;
        for _ in 0..ORDERS {
            let Some(packet) = self.line.receive()? else {
                return Ok(());
            };
            match decode(packet) {
                Some(Order::Begin(user)) => self.user = user,
                Some(Order::Run(command)) => self.start(&command)?,
                None => return Err(Cut),
            }
        }
        self.more = true;
        Ok(())
    }

    fn start(&mut self, command: &Command) -> Result<(), Cut> {
        let started = if self.jobs.len() >= self.at_once {
            Err(format!("{} programs run already", self.jobs.len()))
        } else if command.until <= now() {
            Err("its time was over before it was started".to_owned())
        } else {
            Job::start(command, self.user, self.files)
        };
        let watched = started.and_then(|job| self.watch(job));
        watched.or_else(|why| {
            self.tell(&Ended {
                id: command.id,
                how: How::NotStarted(why),
                output: String::new(),
            })
        })
    }

    fn watch(&mut self, mut job: Job) -> Result<(), String> {
        let number = self.next;
        self.next += 1;
        let name = |part: u64| epoll::EventData::new_u64(number * 2 + part);
        let mut watched = epoll::add(&self.events, &job.end, name(0), epoll::EventFlags::IN);
        if let Some(voice) = &job.voice {
            watched = watched.and(epoll::add(
                &self.events,
                voice,
                name(1),
                epoll::EventFlags::IN,
            ));
        }
        if let Err(error) = watched {
            job.kill();
            job.close(None);
            return Err(format!("cannot watch it: {error}"));
        }
        self.jobs.insert(number, job);
        Ok(())
    }

    /// Waits for whatever comes first, and takes it in.
    fn wait(&mut self) -> io::Result<()> {
        let start = now();
        let next = self.jobs.values().map(|job| job.until).min();
        let next = if self.more { Some(start) } else { next };
        let limit_us = next
            .map_or(u64::MAX, |next| next.us_since(start))
            .min(LONGEST_MS * 1000);
        let limit = Timespec {
            tv_sec: i64::try_from(limit_us / 1_000_000).unwrap_or(0),
            tv_nsec: i64::try_from(limit_us % 1_000_000 * 1000).unwrap_or(0),
        };
        let mut buffer = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }; EVENTS];
        let count = match epoll::wait(&self.events, &mut buffer[..], Some(&limit)) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in buffer.iter().take(count) {
            let name = event.data.u64();
            match (name == LINE, name % 2) {
                (true, _) => {}
                (false, 0) => self.ended(name / 2),
                (false, _) => self.heard(name / 2),
            }
        }
        let now = now();
        for job in self.jobs.values_mut().filter(|job| job.until <= now) {
            job.kill();
            // Its end follows; should it not, it is killed again in a while.
            job.until = now.plus_ms(LONGEST_MS);
        }
        if now.ms_since(self.collected) >= LONGEST_MS {
            self.collected = now;
            self.collect();
        }
        Ok(())
    }

    fn ended(&mut self, number: u64) {
        if let Some(job) = self.jobs.remove(&number) {
            let ended = job.close(None);
            // A line that is cut is seen by the loop.
            let _cut = self.tell(&ended);
        }
    }

    fn heard(&mut self, number: u64) {
        if let Some(job) = self.jobs.get_mut(&number)
            && job.listen()
        {
            // Closed, it is watched no more.
            job.voice = None;
        }
    }

    /// Collects what programs left behind.
    fn collect(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let ours = self.jobs.iter().find(|(_, job)| job.pid() == pid);
            if let Some(number) = ours.map(|(number, _)| *number)
                && let Some(job) = self.jobs.remove(&number)
            {
                let _cut = self.tell(&job.close(Some(status)));
            }
        }
    }

    fn tell(&mut self, ended: &Ended) -> Result<(), Cut> {
        encode(ended).map_or(Ok(()), |packet| self.line.send(packet))
    }

    /// The node is gone: so goes all that runs.
    fn end(&mut self) {
        for (_, mut job) in std::mem::take(&mut self.jobs) {
            job.kill();
            job.close(None);
        }
    }
}

fn now() -> Instant {
    Instant(host::clock::boottime_us())
}
