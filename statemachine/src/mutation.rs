//! Holes that the adversary opens on purpose, one at a time, to show that the simulator sees them
//! (lease.md, Mutations).
//!
//! Without the feature `mutations`, which only `chaos` turns on, `mutated` is a constant false and the
//! compiler drops every branch on it.

/// A hole. Each breaks one rule of lease.md, and so one promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutation {
    /// A voter heeds only the fences that it was asked about, and forgets them when it restarts.
    FenceInMemory = 1,
    /// A restarted voter acknowledges nothing for L, instead of answering `L - uptime`.
    HoldOff,
    /// A restarted voter says that it never promised anything.
    NeverAcked,
    /// A host that has not applied what was taken from it is acknowledged and declared up.
    NoAppliedCheck,
    /// While the voters change, a lease asks the former ones only.
    LeaseFromOneConfiguration,
    /// A fence acts at once after a change of voters or of L.
    NoWaitAfterChange,
    /// A lease counts from when the acknowledgement came.
    DeadlineFromReceipt,
    /// The leader takes what is left of a promise for a time of its own clock.
    AgeAsTimestamp,
    /// The leader fences whom it does not hear, and asks nobody.
    NoPoll,
    /// A leader that was away blames the others for it.
    PausedLeaderFences,
    /// The acknowledgement leaves before the promise is noted.
    AckBeforePromise,
    /// A host is declared down on answers about another fence.
    DownNotBound,
    /// The gate is renewed by a plain `add`, which revives what ran out.
    PlainAdd,
    /// A lease that is over is sent as a time-out of 0, which means for ever.
    TimeoutZero,
    /// The driver does not look at the clock after arming.
    NoLookAfterArming,
    /// A voter answers for a fence before the entry is on its disk.
    AnswerBeforeDurable,
    /// A fence in a voter's log counts only once it is committed.
    AppendedDoesNotCount,
    /// A host renews its lease while its own log takes something from it.
    RenewWhileFenced,
    /// The warden says its last word before it has shut the gate.
    WordBeforeGate,
    /// A last word is believed of whichever start lives now.
    WordOfAnyBoot,
    /// An acknowledgement names the voters of Raft's last status, not those in the voter's log.
    VotersOfTheStatus,
}

impl Mutation {
    /// All of them, in the order of lease.md, then our own.
    pub const ALL: [Self; 21] = [
        Self::FenceInMemory,
        Self::HoldOff,
        Self::NeverAcked,
        Self::NoAppliedCheck,
        Self::LeaseFromOneConfiguration,
        Self::NoWaitAfterChange,
        Self::DeadlineFromReceipt,
        Self::AgeAsTimestamp,
        Self::NoPoll,
        Self::PausedLeaderFences,
        Self::AckBeforePromise,
        Self::DownNotBound,
        Self::PlainAdd,
        Self::TimeoutZero,
        Self::NoLookAfterArming,
        Self::AnswerBeforeDurable,
        Self::AppendedDoesNotCount,
        Self::RenewWhileFenced,
        Self::WordBeforeGate,
        Self::WordOfAnyBoot,
        Self::VotersOfTheStatus,
    ];
}

/// Whether this hole is open.
#[cfg(not(feature = "mutations"))]
#[inline(always)]
#[must_use]
pub const fn mutated(_: Mutation) -> bool {
    false
}

#[cfg(feature = "mutations")]
static OPEN: core::sync::atomic::AtomicU8 = core::sync::atomic::AtomicU8::new(0);

/// Whether this hole is open.
#[cfg(feature = "mutations")]
#[must_use]
pub fn mutated(mutation: Mutation) -> bool {
    OPEN.load(core::sync::atomic::Ordering::Relaxed) == mutation as u8
}

/// Opens one hole, or closes the one that is open, for the whole process.
#[cfg(feature = "mutations")]
pub fn mutate(mutation: Option<Mutation>) {
    let number = mutation.map_or(0, |mutation| mutation as u8);
    OPEN.store(number, core::sync::atomic::Ordering::Relaxed);
}
