//! Faults at exact times: a list of steps, each with its offset and how long it lasts.

use super::Lab;
use super::clock::{self, At};
use super::error::LabError;
use super::fault::{Fault, Injected};
use std::time::Duration;

/// One fault of a schedule.
#[derive(Clone, Debug)]
pub struct Step {
    /// When, counted from the start of the schedule.
    pub after: Duration,
    /// What.
    pub fault: Fault,
    /// For how long; none: it stays.
    pub lasts: Option<Duration>,
}

/// What became of one step.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The fault, in words.
    pub fault: String,
    /// It took effect at or after this moment.
    pub began: At,
    /// It took effect at or before this moment.
    pub done: At,
    /// When it was undone; none if it stays.
    pub undone: Option<At>,
}

impl Lab {
    /// Applies and undoes `steps` at their times, on the calling thread, and gives what was done,
    /// in the order of `steps`. Steps may overlap.
    ///
    /// # Errors
    /// The first one that failed; the faults before it that were to be undone are undone.
    pub fn run(&self, steps: &[Step]) -> Result<Vec<Applied>, LabError> {
        let start = clock::now();
        let mut agenda: Vec<(At, usize, bool)> = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let at = start.after(step.after);
            agenda.push((at, index, true));
            agenda.extend(step.lasts.map(|lasts| (at.after(lasts), index, false)));
        }
        agenda.sort_by_key(|(at, ..)| *at);
        let mut active: Vec<Option<Injected>> = steps.iter().map(|_| None).collect();
        let mut applied: Vec<Option<Applied>> = steps.iter().map(|_| None).collect();
        let mut failed = None;
        for (at, index, begins) in agenda {
            if begins && failed.is_some() {
                continue;
            }
            if failed.is_none() {
                clock::wait_until(at);
            }
            let (Some(step), Some(active), Some(applied)) = (
                steps.get(index),
                active.get_mut(index),
                applied.get_mut(index),
            ) else {
                continue;
            };
            if let Err(error) = self.turn(step, begins, active, applied) {
                failed.get_or_insert(error);
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(applied.into_iter().flatten().collect()),
        }
    }

    fn turn(
        &self,
        step: &Step,
        begins: bool,
        active: &mut Option<Injected>,
        applied: &mut Option<Applied>,
    ) -> Result<(), LabError> {
        if begins {
            let injected = self.inject(&step.fault)?;
            *applied = Some(Applied {
                fault: injected.fault.clone(),
                began: injected.began,
                done: injected.done,
                undone: None,
            });
            *active = Some(injected);
        } else if let Some(injected) = active.take() {
            let undone = injected.undo()?;
            if let Some(applied) = applied {
                applied.undone = Some(undone);
            }
        }
        Ok(())
    }
}
