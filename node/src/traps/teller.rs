//! Who tells, whom, and from where on.
//!
//! The leader of the newest term that the log names, once it has applied that entry itself: it begins after
//! the mark that its predecessor left in the log. Woken by events alone, so an idle array costs nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use statemachine::{HostId, State};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;

use super::line::{Line, Pace, Told};
use super::mib::TEST;
use super::target::{Target, targets_of};
use super::{Book, Failure, Means, Secrets, Tenure, Trial};
use crate::api::{EventRecord, TrapTrial, WallTime};
use crate::clock;
use crate::daemon::journal::Journal;
use crate::raft::RaftView;
use crate::random;

/// A trial takes no longer: a host that forwards it to the leader waits for 6 s.
const TRIAL_PATIENCE: Duration = Duration::from_secs(5);

/// Where the teller looks.
pub struct Sources {
    /// This host.
    pub me: HostId,
    /// What happened.
    pub journal: Arc<Journal>,
    /// Who leads.
    pub view: watch::Receiver<RaftView>,
    /// What was agreed on.
    pub state: Box<dyn Fn() -> Arc<State> + Send>,
}

impl Sources {
    /// The term in which this host leads, if it does and the log says so.
    fn term(&self, state: &State) -> Option<u64> {
        let view = self.view.borrow();
        let named = state.leader == Some((self.me, view.term));
        (view.am_leader && named).then_some(view.term)
    }
}

/// Tells until nobody can ask for a trial any more.
pub(super) async fn run(
    sources: Sources,
    mut secrets: watch::Receiver<Secrets>,
    book: Arc<Book>,
    marks: watch::Sender<u64>,
    mut trials: mpsc::Receiver<Trial>,
) {
    let mut happening = sources.journal.follow();
    let mut means = Means::from(secrets.borrow_and_update().clone());
    let mut telling: Option<Telling> = None;
    // Outlives the telling: in one term its clock must not begin anew.
    let mut tenure: Option<Tenure> = None;
    let progressed = Arc::new(Notify::new());
    loop {
        tokio::select! {
            event = happening.recv() => if let Err(RecvError::Closed) = event {
                return;
            },
            () = progressed.notified() => {}
            Ok(()) = secrets.changed() => {
                means.secrets = secrets.borrow_and_update().clone();
                telling.iter().for_each(|telling| telling.exchange(&means));
            }
            trial = trials.recv() => match (trial, &telling) {
                (Some(trial), Some(telling)) => telling.try_out(trial, (sources.state)(), &means),
                // Its asker sees the reply dropped.
                (Some(_), None) => {}
                (None, _) => return,
            },
        }
        // One look at the journal is for all that has happened.
        while matches!(happening.try_recv(), Ok(_) | Err(TryRecvError::Lagged(_))) {}
        let state = (sources.state)();
        let Some(term) = sources.term(&state) else {
            telling = None;
            continue;
        };
        if tenure.as_ref().is_none_or(|tenure| tenure.term != term) {
            tenure = Some(Tenure::begin(term, &state));
        }
        let current = telling.take().filter(|telling| telling.tenure.term == term);
        let begin = || tenure.clone().map(|tenure| Telling::begin(tenure, &state));
        let Some(mut current) = current.or_else(begin) else {
            continue;
        };
        current.follow(&state, (&sources.journal, &means), &book, &progressed);
        current.mark(&state, &marks);
        telling = Some(current);
    }
}

/// The events of an entry that a target of these groups wants, each with its number.
fn wanted(target: &Target, groups: &[String], entry: &[EventRecord]) -> Vec<(u32, EventRecord)> {
    let all = (0..).zip(entry);
    let wanted = all.filter(|(_, event)| target.wants(event, groups));
    wanted
        .map(|(number, event)| (number, event.clone()))
        .collect()
}

/// The telling of one leader.
pub(super) struct Telling {
    tenure: Tenure,
    /// Events up to this index were queued.
    cursor: u64,
    lines: BTreeMap<Target, Line>,
}

impl Telling {
    pub(super) fn begin(tenure: Tenure, state: &State) -> Self {
        Self {
            tenure,
            cursor: state.told,
            lines: BTreeMap::new(),
        }
    }

    /// Queues what happened since for whom the policies name now.
    pub(super) fn follow(
        &mut self,
        state: &State,
        (journal, means): (&Journal, &Means),
        book: &Book,
        progressed: &Arc<Notify>,
    ) {
        let targets = targets_of(state);
        self.lines.retain(|target, _| targets.contains_key(target));
        book.keep(|target| targets.contains_key(target));
        if targets.is_empty() {
            self.cursor = state.index;
            return;
        }
        for target in targets.keys() {
            if !self.lines.contains_key(target) {
                let line = Line::start(
                    target.shown(),
                    target.courier(means),
                    book.of(target),
                    (self.tenure.clone(), Pace::USUAL),
                    self.cursor,
                    Arc::clone(progressed),
                );
                self.lines.insert(target.clone(), line);
            }
        }
        let new = journal.read(Some(self.cursor), usize::MAX);
        for entry in new.chunk_by(|one, other| one.index == other.index) {
            self.queue(entry, &targets);
        }
    }

    /// Queues the events of one entry.
    fn queue(&mut self, entry: &[EventRecord], targets: &BTreeMap<Target, Vec<String>>) {
        let Some(index) = entry.first().map(|event| event.index) else {
            return;
        };
        for (target, line) in &self.lines {
            let groups = targets.get(target).map(Vec::as_slice).unwrap_or_default();
            let events = wanted(target, groups, entry);
            if !events.is_empty() {
                line.push(Told { index, events });
            }
        }
        self.cursor = index;
    }

    /// Goes on with other secrets; what waits for somebody goes on waiting.
    pub(super) fn exchange(&self, means: &Means) {
        for (target, line) in &self.lines {
            line.exchange(target.courier(means));
        }
    }

    /// Says how far everybody who takes events has been told.
    pub(super) fn mark(&self, state: &State, marks: &watch::Sender<u64>) {
        let held = self.lines.values().filter_map(Line::holds).min();
        let mark = held.unwrap_or(self.cursor);
        if !self.lines.is_empty() && mark > state.told {
            marks.send_if_modified(|known| std::mem::replace(known, mark) != mark);
        }
    }

    /// Tells every target of a group of an event that is none, past the queues.
    pub(super) fn try_out(&self, trial: Trial, state: Arc<State>, means: &Means) {
        let event = EventRecord {
            at: WallTime(clock::wall_ms()),
            // No event has this one; the number tells tests apart.
            index: 0,
            kind: TEST.to_owned(),
            group: Some(trial.group.clone()),
            address: None,
            host: None,
            reason: Some("an operator tries whether this arrives".to_owned()),
            phases: None,
        };
        let number = random::number();
        let targets = targets_of(&state).into_iter();
        let targets = targets.filter(|(_, groups)| groups.contains(&trial.group));
        let tried: Vec<_> = targets
            .map(|(target, _)| {
                let (mut courier, tenure) = (target.courier(means), self.tenure.clone());
                let event = event.clone();
                tokio::spawn(async move {
                    let told = courier.tell((number, &event), &tenure);
                    let told = timeout(TRIAL_PATIENCE, told).await.unwrap_or_else(|_| {
                        let words = format!("no answer within {} s", TRIAL_PATIENCE.as_secs());
                        Err(Failure::passing(words))
                    });
                    TrapTrial {
                        target: target.shown(),
                        good: told.is_ok(),
                        said: match told {
                            Ok(()) if target.answers() => "it has it".to_owned(),
                            Ok(()) => "sent; nobody acknowledges a trap".to_owned(),
                            Err(failure) => failure.words,
                        },
                    }
                })
            })
            .collect();
        tokio::spawn(async move {
            let mut results = Vec::with_capacity(tried.len());
            for one in tried {
                results.extend(one.await.ok());
            }
            // The asker may have gone.
            let _told = trial.reply.send(results);
        });
    }
}
