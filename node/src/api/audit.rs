//! The answer to `rais audit`: which laws the living array breaks.

use serde::{Deserialize, Serialize};

/// `rais audit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReport {
    /// Who audited: the leader.
    pub leader: String,
    /// The index at which the hosts were compared.
    pub index: u64,
    /// Every host of the array.
    pub hosts: Vec<AuditedHost>,
    /// What is broken; none: all is well.
    pub broken: Vec<BrokenLaw>,
}

/// What a host said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditedHost {
    /// The host.
    pub host: String,
    /// It is up in the log; others are not asked.
    pub up: bool,
    /// The last entry that it has applied; null: it said nothing.
    pub index: Option<u64>,
    /// A hash of its state there.
    pub fingerprint: Option<String>,
}

/// A law, and who breaks it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenLaw {
    /// The law, as a sentence.
    pub law: String,
    /// Who breaks it, and how.
    pub detail: String,
}

impl BrokenLaw {
    /// From words.
    pub fn new(law: impl Into<String>, detail: impl Into<String>) -> Self {
        let (law, detail) = (law.into(), detail.into());
        Self { law, detail }
    }
}

/// What one host has applied, and what it sees broken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Testimony {
    /// The last entry that it has applied.
    pub index: u64,
    /// A hash of its state there.
    pub fingerprint: u32,
    /// Broken laws.
    pub broken: Vec<BrokenLaw>,
}
