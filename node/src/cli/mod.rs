//! The command line: what can be typed, what is done with it, and how answers look.
//!
//! `args` holds every command with its help (one definition for help, completions and man pages),
//! `run` turns a command into a request and an answer into text, `render` draws, `hooks` is where
//! the daemon's side plugs in. Nothing here opens a socket or reads a clock.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 wrong usage. Errors go to stderr and say what to do.

mod args;
mod cert;
mod chaos;
mod error;
mod follow;
mod hooks;
mod push;
mod render;
mod run;
#[cfg(test)]
pub(crate) mod sample;
mod style;
mod table;
#[cfg(test)]
mod tests;
mod timing;
mod traps;

pub use args::{
    Cli, Command, DemoArgs, EventsArgs, GroupCommand, InitArgs, JoinArgs, Look, MemberArgs,
    PushArgs, TimingCommand, TimingPreset, TokenCommand, TrapsCommand, parse,
};
pub use error::CliError;
pub use hooks::{Commands, Doors, EventStream};
pub use render::{addresses, audit, event, events, groups, hosts, plan, status, why, zone};
pub use run::{Console, run};
pub use style::Style;
pub use timing::TimingChoice;
pub(crate) use timing::to_json as timing_json;
