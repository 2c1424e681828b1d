//! Decides what to look at when, and what the findings mean for each group.
//!
//! Objects are what is run, tests and loads are how groups see them: two groups that name the same
//! check at the same pace share one object, and each counts its outcomes by its own rise and fall.
//!
//! What is not known yet is as the log has it: neither a restart of the daemon nor a new test in a
//! policy moves an address. Time-outs are kept here, so whoever runs the objects cannot hang them.
//!
//! Pure: `now` is an argument, and the spread of the runs comes from a hash of the object and `seed`.

mod count;
mod damp;
mod load;
mod task;

use std::collections::BTreeMap;
use std::net::IpAddr;

use control::{Instant, LocalGroup};
use statemachine::{GroupName, LoadSpec, TestSpec};

pub use count::Count;
pub use damp::{Damp, FALL_PENALTY, HELD_ABOVE, MAX_PENALTY, WELL_BELOW};
pub use load::{Gauge, MISSES};
pub use task::{Look, Task};

/// A wake-up that comes so much later than it was asked for, in us, is this thread's own fault; and so long
/// it then has to read what has come meanwhile.
const LATE_US: u64 = 50_000;
/// One run is forgiven so often, or a monitor that is always late would find nothing out.
const MOST_FORGIVEN: u8 = 3;

/// An object is looked at first within so long, in ms, however rarely it is later: what a look finds alive is
/// watched from then on.
const FIRST_MS: u64 = 1_000;

/// Each run is put off by up to this share of the interval, in percent, so that objects of one pace
/// do not march in step.
const JITTER_PERCENT: u64 = 10;

/// What is wanted for one group that this host is a member of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The group.
    pub group: GroupName,
    /// Its tests.
    pub tests: Vec<TestSpec>,
    /// Its loads.
    pub loads: Vec<LoadSpec>,
    /// Whether the log has this member as well: where the counting starts.
    pub well: bool,
    /// What `{address}` stands for.
    pub address: IpAddr,
    /// The addresses of the group that this host serves.
    pub served: Vec<IpAddr>,
}

/// What is to be done now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// These did not end in their time, and have failed: end them.
    pub given_up: Vec<ObjectId>,
    /// Start these.
    pub runs: Vec<Run>,
}

/// What a run found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A test passed.
    Passed,
    /// A load object measured.
    Load {
        /// Load, in the unit of `capacity`.
        load: u64,
        /// What the host can bear.
        capacity: u64,
    },
}

/// How a run ended: an error says in a few words why it counts as failed.
pub type Outcome = Result<Reading, String>;

/// Names an object for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectId(pub u64);

/// Work for a prober.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whose.
    pub object: ObjectId,
    /// Which run of it: an answer to an older one is ignored.
    pub run: u64,
    /// What to do.
    pub task: Task,
    /// It counts as failed after so long, and is given up.
    pub timeout_ms: u64,
}

/// One object: a task at a pace, whoever wants it.
#[derive(Clone, Debug)]
struct Object {
    task: Task,
    interval_ms: u64,
    timeout_ms: u64,
    next: Instant,
    runs: u64,
    /// The end of the run that is under way.
    until: Option<Instant>,
    /// How often the run under way got more time.
    forgiven: u8,
}

/// A test as its group sees it.
#[derive(Clone, Debug)]
struct Test {
    spec: TestSpec,
    object: ObjectId,
    count: Count,
    last: Option<(Instant, Result<(), String>)>,
}

#[derive(Clone, Debug)]
struct Group {
    tests: Vec<Test>,
    loads: Vec<(LoadSpec, ObjectId, Gauge)>,
    damp: Damp,
    well: bool,
    told: Option<LocalGroup>,
}

/// How one test or load stands, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its group.
    pub group: GroupName,
    /// Its name.
    pub name: String,
    /// `test` or `load`.
    pub sort: &'static str,
    /// What it looks at, in words.
    pub looks_at: String,
    /// A test passes, by its rise and fall; a load is measured.
    pub good: bool,
    /// What the last run found, in words; none before the first.
    pub found: Option<String>,
    /// How long ago that was, in ms.
    pub ago_ms: Option<u64>,
}

/// All objects and all groups of this host.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    seed: u64,
    last_id: u64,
    objects: BTreeMap<ObjectId, Object>,
    groups: BTreeMap<GroupName, Group>,
}

impl Judge {
    /// Nothing to look at yet. `seed` spreads the runs differently on each host.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// Follows what is wanted. A test that stays as it was keeps its count, even when what `{address}`
    /// stands for changes; a new one starts from where its group stands.
    pub fn follow(&mut self, now: Instant, wanted: &[Wanted]) {
        let mut before = std::mem::take(&mut self.groups);
        for wish in wanted {
            let old = before.remove(&wish.group);
            let group = self.group(now, wish, old);
            self.groups.insert(wish.group.clone(), group);
        }
        let used: Vec<ObjectId> = self.groups.values().flat_map(Group::objects).collect();
        self.objects.retain(|id, _| used.contains(id));
    }

    fn group(&mut self, now: Instant, wish: &Wanted, old: Option<Group>) -> Group {
        let (mut tests, mut loads) = (Vec::new(), Vec::new());
        let well = old.as_ref().map_or(wish.well, |old| old.well);
        for spec in &wish.tests {
            let task = Task::of_test(&spec.kind, wish.address);
            let object = self.object(now, task, spec.interval_ms, spec.timeout_ms);
            let known = old.iter().flat_map(|old| &old.tests);
            let known = known.clone().find(|test| test.spec == *spec).cloned();
            let new = || Test {
                spec: spec.clone(),
                object,
                count: Count::new(well),
                last: None,
            };
            tests.push(Test {
                object,
                ..known.unwrap_or_else(new)
            });
        }
        for spec in &wish.loads {
            let task = Task::of_load(&spec.kind, wish.address, &wish.served);
            let object = self.object(now, task, spec.interval_ms, spec.timeout_ms);
            let known = old.iter().flat_map(|old| &old.loads);
            let known = known.clone().find(|(load, ..)| load == spec);
            let gauge = known.map_or_else(Gauge::default, |(.., gauge)| gauge.clone());
            loads.push((spec.clone(), object, gauge));
        }
        Group {
            well: tests.iter().all(|test| test.count.passes()),
            tests,
            loads,
            damp: old.as_ref().map_or_else(Damp::default, |old| old.damp),
            told: old.and_then(|old| old.told),
        }
    }

    /// The object that does `task` at this pace; a new one begins within [`FIRST_MS`].
    fn object(&mut self, now: Instant, task: Task, interval_ms: u64, timeout_ms: u64) -> ObjectId {
        let same = |object: &Object| {
            object.task == task
                && object.interval_ms == interval_ms
                && object.timeout_ms == timeout_ms
        };
        if let Some((id, _)) = self.objects.iter().find(|(_, object)| same(object)) {
            return *id;
        }
        self.last_id += 1;
        let id = ObjectId(self.last_id);
        let first_us = interval_ms.clamp(1, FIRST_MS) * 1000;
        let next = now.plus_us(mix(self.seed, id.0) % first_us);
        let object = Object {
            task,
            interval_ms,
            timeout_ms,
            next,
            runs: 0,
            until: None,
            forgiven: 0,
        };
        self.objects.insert(id, object);
        id
    }

    /// The runs that are due, and those that did not end in their time.
    pub fn due(&mut self, now: Instant) -> Due {
        self.forgive(now);
        let late: Vec<(ObjectId, u64)> = self
            .objects
            .iter()
            .filter(|(_, object)| object.until.is_some_and(|until| until <= now))
            .map(|(id, object)| (*id, object.runs))
            .collect();
        let given_up = late.iter().map(|(id, _)| *id).collect();
        for (id, run) in late {
            let patience = self.objects.get(&id).map_or(0, |object| object.timeout_ms);
            let why = format!("no answer within {patience} ms");
            self.ran(now, id, run, Err(why));
        }
        let seed = self.seed;
        let mut runs = Vec::new();
        for (id, object) in &mut self.objects {
            if object.next > now || object.until.is_some() {
                continue;
            }
            object.runs += 1;
            object.forgiven = 0;
            object.until = Some(now.plus_ms(object.timeout_ms));
            object.next = object.following(now, mix(seed ^ id.0, object.runs));
            runs.push(Run {
                object: *id,
                run: object.runs,
                task: object.task.clone(),
                timeout_ms: object.timeout_ms,
            });
        }
        Due { given_up, runs }
    }

    /// Time in which the monitor itself was away counts against nobody: answers may be there, unread.
    fn forgive(&mut self, now: Instant) {
        let owed = self.objects.values().map(Object::wake).min();
        let away_us = owed.map_or(0, |owed| now.us_since(owed));
        if away_us < LATE_US {
            return;
        }
        let forgivable = |object: &&mut Object| object.forgiven < MOST_FORGIVEN;
        for object in self.objects.values_mut().filter(forgivable) {
            object.forgiven += 1;
            object.until = object.until.map(|until| until.plus_us(away_us + LATE_US));
        }
    }

    /// When [`Judge::due`] has something again, or a verdict changes by time alone.
    #[must_use]
    pub fn next_wake(&self, now: Instant) -> Option<Instant> {
        let runs = self.objects.values().map(Object::wake);
        let damped = self
            .groups
            .values()
            .filter_map(|group| group.damp.ends(now));
        runs.chain(damped).min()
    }

    /// A run ended. An answer to a run that was given up, or of an object that is gone, is ignored.
    pub fn ran(&mut self, now: Instant, id: ObjectId, run: u64, outcome: Outcome) {
        let Some(object) = self.objects.get_mut(&id) else {
            return;
        };
        if object.runs != run || object.until.take().is_none() {
            return;
        }
        // What fell due meanwhile is due now: it is not the monitor that was late.
        object.next = object.next.max(now);
        self.each_test(id, |test| {
            let result = outcome.as_ref().map(|_| ()).map_err(Clone::clone);
            test.count
                .take(result.is_ok(), test.spec.rise, test.spec.fall);
            test.last = Some((now, result));
        });
        for group in self.groups.values_mut() {
            for (_, object, gauge) in &mut group.loads {
                if *object == id {
                    gauge.take(now, &outcome);
                }
            }
        }
        self.settle(now);
    }

    /// Something that was watched is gone for sure (a process died): nothing is counted, it has failed.
    pub fn struck(&mut self, now: Instant, id: ObjectId, why: &str) {
        self.each_test(id, |test| {
            test.count = Count::new(false);
            test.last = Some((now, Err(why.to_owned())));
        });
        self.settle(now);
    }

    fn each_test(&mut self, id: ObjectId, mut change: impl FnMut(&mut Test)) {
        let tests = self.groups.values_mut().flat_map(|group| &mut group.tests);
        tests.filter(|test| test.object == id).for_each(&mut change);
    }

    fn settle(&mut self, now: Instant) {
        for group in self.groups.values_mut() {
            let well = group.tests.iter().all(|test| test.count.passes());
            if group.well && !well {
                group.damp.fell(now);
            }
            group.well = well;
        }
    }

    /// What is to be told of each group, where that changed since it was last asked for.
    pub fn news(&mut self, now: Instant) -> Vec<(GroupName, LocalGroup)> {
        let mut news = Vec::new();
        for (name, group) in &mut self.groups {
            let verdict = group.verdict(now);
            if group.told != Some(verdict) {
                group.told = Some(verdict);
                news.push((name.clone(), verdict));
            }
        }
        news
    }

    /// In one line why a group is not well here; none when it is.
    #[must_use]
    pub fn why(&self, now: Instant, group: &GroupName) -> Option<String> {
        let group = self.groups.get(group)?;
        let failing = group.tests.iter().find(|test| !test.count.passes());
        if let Some(test) = failing {
            let last = test.last.as_ref().and_then(|(_, last)| last.as_ref().err());
            let rising = || format!("passes again, {} needed in a row", test.spec.rise);
            let why = last.cloned().unwrap_or_else(rising);
            return Some(format!("test {}: {why}", test.spec.name));
        }
        let left_s = group.damp.ends(now)?.ms_since(now).div_ceil(1000);
        let penalty = group.damp.penalty(now);
        Some(format!(
            "held back for {left_s} s more: it failed too often (penalty {penalty})"
        ))
    }

    /// Every test and load, for people.
    #[must_use]
    pub fn shown(&self, now: Instant) -> Vec<Shown> {
        let mut shown = Vec::new();
        for (name, group) in &self.groups {
            for test in &group.tests {
                let found = test.last.as_ref().map(|(_, last)| match last {
                    Ok(()) => "passed".to_owned(),
                    Err(why) => why.clone(),
                });
                shown.push(Shown {
                    group: name.clone(),
                    name: test.spec.name.clone(),
                    sort: "test",
                    looks_at: self.words(test.object),
                    good: test.count.passes(),
                    found,
                    ago_ms: test.last.as_ref().map(|(at, _)| now.ms_since(*at)),
                });
            }
            for (spec, object, gauge) in &group.loads {
                shown.push(Shown {
                    group: name.clone(),
                    name: spec.name.clone(),
                    sort: "load",
                    looks_at: self.words(*object),
                    good: gauge.value().is_some(),
                    found: gauge.words(),
                    ago_ms: gauge.at().map(|at| now.ms_since(at)),
                });
            }
        }
        shown
    }

    fn words(&self, id: ObjectId) -> String {
        let object = self.objects.get(&id);
        object.map_or_else(String::new, |object| object.task.to_string())
    }

    /// Whether an object is wanted still.
    #[must_use]
    pub fn knows(&self, id: ObjectId) -> bool {
        self.objects.contains_key(&id)
    }

    /// How many objects there are.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.objects.len()
    }
}

impl Object {
    /// When something is to be done about it.
    fn wake(&self) -> Instant {
        self.until.unwrap_or(self.next)
    }

    /// The next run: an interval after this one was due, and a little; what was missed is not made up.
    fn following(&self, now: Instant, chance: u64) -> Instant {
        if self.runs == 1 && self.interval_ms > FIRST_MS {
            // All began within a moment: they are spread over the interval from now on.
            return now.plus_us(chance % self.interval_ms.saturating_mul(1000));
        }
        let jitter_us = self.interval_ms.saturating_mul(10 * JITTER_PERCENT).max(1);
        let base = self.interval_ms.saturating_mul(1000) - jitter_us / 2;
        let next = self.next.plus_us(base + chance % jitter_us);
        if next > now { next } else { now.plus_us(base) }
    }
}

impl Group {
    fn objects(&self) -> Vec<ObjectId> {
        let tests = self.tests.iter().map(|test| test.object);
        tests
            .chain(self.loads.iter().map(|(_, object, _)| *object))
            .collect()
    }

    fn verdict(&self, now: Instant) -> LocalGroup {
        let (load, capacity) = load::most_used(self.loads.iter().map(|(.., gauge)| gauge));
        LocalGroup {
            healthy: self.well && self.damp.ends(now).is_none(),
            load,
            capacity,
        }
    }
}

/// A number that looks like chance and is the same each time (splitmix64).
fn mix(seed: u64, number: u64) -> u64 {
    let mut z = seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
