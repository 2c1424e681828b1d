//! Why a command failed, and what to do next.

use std::path::PathBuf;

use crate::api::{Problem, Response};
use crate::config::Diagnostics;

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CliError {
    /// The data directory holds no array.
    #[error("there is no array in {}", data_dir.display())]
    NoArray {
        /// Where it was looked for.
        data_dir: PathBuf,
    },
    /// No daemon answers.
    #[error("the daemon at {target} does not answer: {detail}")]
    Unreachable {
        /// Whom was asked.
        target: String,
        /// What the system said.
        detail: String,
    },
    /// A daemon took too long.
    #[error("the daemon at {target} gave no answer within {after_ms} ms")]
    TimedOut {
        /// Whom was asked.
        target: String,
        /// How long was waited.
        after_ms: u64,
    },
    /// A daemon said something that makes no sense here.
    #[error("the daemon's answer is not understood: {detail}")]
    Protocol {
        /// What was wrong with it.
        detail: String,
    },
    /// A daemon refused.
    #[error("{}: {}", .0.title, .0.detail)]
    Refused(Problem),
    /// A file is wrong; the text names every mistake.
    #[error("{0}")]
    BadFile(Diagnostics),
    /// Anything else.
    #[error("{what}")]
    Failed {
        /// What happened.
        what: String,
        /// What to do next.
        remedy: String,
    },
    /// The output was closed: `rais events | head`. Nobody is told.
    #[error("the output was closed")]
    OutputClosed,
}

impl CliError {
    /// A failure in words.
    pub fn failed(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Failed {
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    /// What to do next; none when the message says so itself.
    pub fn remedy(&self) -> Option<String> {
        let text = match self {
            Self::NoArray { .. } => {
                "name its directory with --data-dir or RAIS_DATA_DIR, or begin with `rais demo` or `rais init`"
            }
            Self::Unreachable { .. } => {
                "is it running? start it with `rais node --config FILE`, or ask another host's"
            }
            Self::TimedOut { .. } => {
                "`rais status` on another host shows whether the array has a quorum"
            }
            Self::Protocol { .. } => "use the same version of rais on both sides",
            Self::Refused(problem) => return Some(problem.remedy.clone()),
            Self::Failed { remedy, .. } => return Some(remedy.clone()),
            Self::BadFile(_) | Self::OutputClosed => return None,
        };
        Some(text.to_owned())
    }

    /// An answer of another kind than was asked for.
    pub(crate) fn unexpected(response: Response) -> Self {
        match response {
            Response::Refused { problem } => Self::Refused(problem),
            other => {
                let text = format!("{other:?}");
                let kind = text.split([' ', '(', '{']).next().unwrap_or_default();
                Self::Protocol {
                    detail: format!("an answer of the kind {kind} was not asked for"),
                }
            }
        }
    }
}

impl From<Diagnostics> for CliError {
    fn from(all: Diagnostics) -> Self {
        Self::BadFile(all)
    }
}
