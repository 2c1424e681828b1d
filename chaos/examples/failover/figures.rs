//! The words of the bench: faults, contenders, and what one run showed.

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    KillDaemon,
    Kill,
    Stop,
    Partition,
    Terminate,
    Move,
    KillLeader,
    PartitionLeader,
}

impl Kind {
    pub const ALL: [Kind; 8] = [
        Kind::KillDaemon,
        Kind::Kill,
        Kind::Stop,
        Kind::Partition,
        Kind::Terminate,
        Kind::Move,
        Kind::KillLeader,
        Kind::PartitionLeader,
    ];

    /// Those that keepalived has too: its master is all there is of a leader, and it has no command
    /// that moves an address.
    pub const OF_KEEPALIVED: [Kind; 5] = [
        Kind::KillDaemon,
        Kind::Kill,
        Kind::Stop,
        Kind::Partition,
        Kind::Terminate,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Kind::KillDaemon => "kill -9 of the daemon alone",
            Kind::Kill => "kill -9, children included",
            Kind::Stop => "SIGSTOP, children included",
            Kind::Partition => "host gone silent",
            Kind::Terminate => "SIGTERM",
            Kind::Move => "planned move",
            Kind::KillLeader => "kill -9 of the leader",
            Kind::PartitionLeader => "leader gone silent",
        }
    }

    pub const fn is_of_leader(self) -> bool {
        matches!(self, Kind::KillLeader | Kind::PartitionLeader)
    }
}

/// A contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Rais,
    Keepalived100ms,
    Keepalived1s,
}

impl Who {
    pub const ALL: [Who; 3] = [Who::Rais, Who::Keepalived100ms, Who::Keepalived1s];

    pub const fn name(self) -> &'static str {
        match self {
            Who::Rais => "rais, 100 ms",
            Who::Keepalived100ms => "keepalived, 100 ms",
            Who::Keepalived1s => "keepalived, 1 s",
        }
    }
}

/// What one run showed, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// The longest time without an answer.
    pub gap: u64,
    /// Time with two owners, in all.
    pub dual: u64,
    /// Whether there were two owners to the end of the look.
    pub dual_on: bool,
    /// Gaps of addresses whose host was not hit; none where there are no others.
    pub others: Option<usize>,
}

/// All runs of one fault at one contender.
pub struct Series {
    pub who: Who,
    pub kind: Kind,
    pub runs: Vec<Figures>,
}

impl Series {
    /// Gap: median, 99th of a hundred (nearest rank), most.
    pub fn gaps(&self) -> [u64; 3] {
        let mut all: Vec<u64> = self.runs.iter().map(|run| run.gap).collect();
        all.sort_unstable();
        let rank = |percent: usize| (all.len() * percent).div_ceil(100).saturating_sub(1);
        [50, 99, 100].map(|percent| all.get(rank(percent)).copied().unwrap_or_default())
    }

    /// Two owners: the longest of the runs, and whether any did not end.
    pub fn dual(&self) -> (u64, bool) {
        let most = self.runs.iter().map(|run| run.dual).max();
        (
            most.unwrap_or_default(),
            self.runs.iter().any(|run| run.dual_on),
        )
    }

    /// Gaps of others in all runs.
    pub fn others(&self) -> Option<usize> {
        self.runs.iter().map(|run| run.others).sum()
    }
}
