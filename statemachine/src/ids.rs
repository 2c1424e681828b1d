//! Newtypes for every id and unit of the replicated state, so that none stands in for another.

use alloc::string::String;
use core::fmt;
use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }
    };
}

number! {
    /// A host of the array: the log index of the entry that let it join; 1 for the founder.
    /// Never used again, not even after `forget`. It is the Raft node id too.
    HostId
}
number! {
    /// Replicated time: milliseconds since the array was founded, as counted by its leaders.
    /// Moves only forward, and never faster than true time (failover.md, orphan timers).
    LogTime
}
number! {
    /// Fencing token of a service address. Drawn from one counter of the array, so it grows with
    /// every assignment of an address, even one that left and came back.
    Epoch
}
number! {
    /// How often a host has been declared up. A lease belongs to one incarnation.
    Incarnation
}
number! {
    /// How often a host's daemon has started, counted on its own disk.
    Boot
}
number! {
    /// A join token.
    TokenId
}
text! {
    /// A service group's name.
    GroupName
}
text! {
    /// A host's name: an RFC 1123 label.
    HostName
}

/// The array's identity: 128 random bits, drawn by `rais init`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ArrayId(pub [u8; 16]);

impl fmt::Display for ArrayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl LogTime {
    /// This instant plus `ms` milliseconds, stopping at the end of time instead of wrapping.
    #[must_use]
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this instant, 0 when it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
