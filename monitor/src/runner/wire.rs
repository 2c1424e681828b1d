//! What node and runner say to each other: one message for each packet of their line.

use control::Instant;
use serde::{Deserialize, Serialize};

/// Kept of what a program says, in bytes: a few lines for a person.
pub const MAX_OUTPUT: usize = 2_048;
/// Longest command with its environment, in bytes: an order fits a packet with room to spare.
pub const MAX_COMMAND: usize = 48 * 1024;

/// As whom programs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
}

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// To look: when it has ended nothing of it may be left.
    Look,
    /// To act: what it started may go on, as a service does.
    Act,
}

/// From the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Run as this user; none: as the runner itself. The first order.
    Begin(Option<User>),
    /// Run this.
    Run(Command),
}

/// A program to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The node's number for it.
    pub id: u64,
    /// What for.
    pub purpose: Purpose,
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Its environment, besides a plain `PATH`.
    pub environment: Vec<(String, String)>,
    /// Its whole process group is ended then; it is not started after. The boot-time clock is one for both.
    pub until: Instant,
}

/// From the runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Which.
    pub id: u64,
    /// How.
    pub how: How,
    /// What it said, on both outputs; cut at [`MAX_OUTPUT`].
    pub output: String,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It was ended at its time-out.
    TimedOut,
    /// It was not started.
    NotStarted(String),
}

impl Ended {
    /// What it said if it ended well, or what went wrong in a few words.
    ///
    /// # Errors
    /// For every other end than exit code 0.
    pub fn result(self) -> Result<String, String> {
        let said = self
            .output
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty());
        let said = said.map_or_else(String::new, |line| {
            format!(": {}", &line[..line.floor_char_boundary(160)])
        });
        match self.how {
            How::Exited(0) => Ok(self.output),
            How::Exited(code) => Err(format!("exit code {code}{said}")),
            How::Signalled(signal) => Err(format!("ended by signal {signal}{said}")),
            How::TimedOut => Err(format!("did not end in time, and was ended{said}")),
            How::NotStarted(why) => Err(why),
        }
    }
}
