//! What can go wrong with a lab: each message says which command, and what to do.

use std::io;
use std::path::PathBuf;

/// Why the lab could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Network namespaces need root.
    #[error("a lab needs root: start it with sudo, or as root")]
    NotRoot,

    /// A program is not installed.
    #[error("`{program}` is missing: install the package {package}")]
    Missing {
        /// The program.
        program: &'static str,
        /// Its Debian package.
        package: &'static str,
    },

    /// A command could not even be started.
    #[error("could not start `{command}`: {source}")]
    Start {
        /// The command with its arguments.
        command: String,
        /// Why.
        source: io::Error,
    },

    /// A command said no.
    #[error("`{command}` failed ({status}): {stderr}")]
    Command {
        /// The command with its arguments, and the line of its input that failed.
        command: String,
        /// How it ended.
        status: String,
        /// What it said.
        stderr: String,
    },

    /// The system refused something.
    #[error("could not {what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },

    /// There is no such host, or a number is out of its range.
    #[error("{what}: take {allowed}")]
    Range {
        /// What was asked for.
        what: String,
        /// What is possible.
        allowed: String,
    },

    /// Too many labs at once on this machine.
    #[error(
        "{found} labs are up already, at most {most} may be: end one, or `cargo xtask lab down`"
    )]
    TooMany {
        /// Labs found.
        found: usize,
        /// The bound.
        most: usize,
    },

    /// A process is not there any more.
    #[error("{process} has ended; its log is {}", log.display())]
    Ended {
        /// Host and name.
        process: String,
        /// Where its output went.
        log: PathBuf,
    },

    /// A thread of the lab panicked.
    #[error("the thread of {what} panicked: its message is on stderr")]
    Panicked {
        /// Whose thread.
        what: String,
    },
}

impl LabError {
    /// From an error of the system, with what was tried.
    pub(super) fn system(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let (what, source) = (what.into(), source.into());
        Self::System { what, source }
    }
}
