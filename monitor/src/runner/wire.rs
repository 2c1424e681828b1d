//! What node and runner say to each other: one message for each packet of their socket.
//!
//! Both ends are the same binary, started by one another, so there are no versions.

use host::line::MAX_PACKET;
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
    /// Its whole process group is ended after so long, in ms.
    pub timeout_ms: u64,
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
        let said = said.map_or_else(String::new, |line| format!(": {}", cut(line, 160)));
        match self.how {
            How::Exited(0) => Ok(self.output),
            How::Exited(code) => Err(format!("exit code {code}{said}")),
            How::Signalled(signal) => Err(format!("ended by signal {signal}{said}")),
            How::TimedOut => Err(format!("did not end in time, and was ended{said}")),
            How::NotStarted(why) => Err(why),
        }
    }
}

/// The first `most` bytes, at most.
fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_PACKET>()
}

/// Encodes a message; none when it is too long for a packet.
pub fn encode<T: Serialize>(message: &T) -> Option<Vec<u8>> {
    let bytes = bincode::serde::encode_to_vec(message, config()).ok()?;
    (bytes.len() <= MAX_PACKET).then_some(bytes)
}

/// Decodes a message; none when it is not one.
pub fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Option<T> {
    let (message, read) = bincode::serde::decode_from_slice(bytes, config()).ok()?;
    (read == bytes.len()).then_some(message)
}
