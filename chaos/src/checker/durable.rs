//! Invariant 12: what was acknowledged is never lost: each index is applied with the same entry on
//! every host, and a leader has all that was ever applied.

use statemachine::HostId;

/// The term of each applied entry.
#[derive(Debug, Default)]
pub struct Durable {
    terms: Vec<u64>,
}

impl Durable {
    /// A host applies the entry of this index and term: what is wrong with that.
    pub fn applied(&mut self, id: HostId, index: u64, term: u64) -> Option<String> {
        let at = usize::try_from(index).ok()?;
        if self.terms.len() <= at {
            self.terms.resize(at + 1, 0);
        }
        let known = self.terms.get_mut(at)?;
        if *known == 0 {
            *known = term;
        }
        let first = *known;
        (first != term).then(|| {
            format!("h{id} applies entry {index} of term {term}, others applied that of {first}")
        })
    }

    /// What a leader with this log lacks, if anything.
    pub fn lacks(&self, id: HostId, has: impl Fn(u64, u64) -> bool) -> Option<String> {
        let applied = (0..).zip(&self.terms).filter(|(_, term)| **term > 0);
        let mut lost = applied.filter(|(index, term)| !has(*index, **term));
        let (index, term) = lost.next()?;
        Some(format!("leader h{id} lacks entry {index} of term {term}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: another entry at an applied index is told, and so is one that is not there.
    #[test]
    fn another_entry_at_an_applied_index_is_told() {
        let mut durable = Durable::default();
        assert_eq!(durable.applied(HostId(1), 3, 2), None);
        assert_eq!(durable.applied(HostId(2), 3, 2), None);
        assert!(durable.applied(HostId(2), 3, 4).is_some());
        assert_eq!(durable.lacks(HostId(1), |_, term| term == 2), None);
        assert!(durable.lacks(HostId(1), |_, _| false).is_some());
    }
}
