//! Rise and fall: so many outcomes in a row turn a test, one of the other sort starts the count anew.

/// Whether a test passes, and how many outcomes in a row speak against that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    passes: bool,
    against: u32,
}

impl Count {
    /// A test of which nothing else is known.
    #[must_use]
    pub fn new(passes: bool) -> Self {
        Self { passes, against: 0 }
    }

    /// As it counts now.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.passes
    }

    /// Takes in one outcome.
    pub fn take(&mut self, passed: bool, rise: u32, fall: u32) {
        if passed == self.passes {
            self.against = 0;
            return;
        }
        self.against += 1;
        let needed = if passed { rise } else { fall };
        if self.against >= needed {
            *self = Self::new(passed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the table of rise 3 and fall 2. Method: a word for each outcome and what counts after it.
    #[test]
    fn so_many_outcomes_in_a_row_turn_a_test() {
        let story = [
            (true, true),
            (false, true),
            (true, true),
            (false, true),
            (false, false),
            (true, false),
            (true, false),
            (false, false),
            (true, false),
            (true, false),
            (true, true),
        ];
        let mut count = Count::new(true);
        for (number, (passed, counts)) in story.into_iter().enumerate() {
            count.take(passed, 3, 2);
            assert_eq!(count.passes(), counts, "after outcome {number}");
        }
    }

    /// Goal: one is enough where the policy says 1.
    #[test]
    fn one_outcome_turns_a_test_with_rise_and_fall_of_one() {
        let mut count = Count::new(false);
        count.take(true, 1, 1);
        assert!(count.passes());
        count.take(false, 1, 1);
        assert!(!count.passes());
    }
}
