//! Where the daemon's side plugs into the command line.
//!
//! The command line knows requests and answers, not sockets: [`Doors`] carries them to a daemon,
//! [`Commands`] does what needs more than a request. Generic traits and not boxed ones, since there
//! is one implementation in the binary and one in the tests.

use std::path::{Path, PathBuf};

use super::args::{DemoArgs, InitArgs, JoinArgs};
use super::error::CliError;
use crate::api::{EventRecord, Request, Response};
use crate::config::HostConfig;

/// A way to a daemon.
pub trait Doors {
    /// A stream of events.
    type Events: EventStream;

    /// Sends one request and waits for its answer, within a bound of its own.
    fn call(&self, request: Request) -> impl Future<Output = Result<Response, CliError>>;

    /// Opens the stream of events after log index `since`; none: from now on.
    fn follow(&self, since: Option<u64>) -> impl Future<Output = Result<Self::Events, CliError>>;
}

/// A stream of events.
pub trait EventStream {
    /// The next event; none when the daemon closed the stream.
    fn next(&mut self) -> impl Future<Output = Result<Option<EventRecord>, CliError>>;
}

/// What the command line can't do by a request to a daemon.
pub trait Commands {
    /// The way to a daemon.
    type Doors: Doors;

    /// Finds the daemon of `data_dir`.
    fn connect(&self, data_dir: &Path) -> impl Future<Output = Result<Self::Doors, CliError>>;

    /// `rais init`: starts an array in `data_dir`. Answers with what to print: the first join
    /// token and what to type next.
    fn init(
        &self,
        data_dir: &Path,
        args: InitArgs,
    ) -> impl Future<Output = Result<String, CliError>>;

    /// `rais join`: gets a certificate into `data_dir`. Answers with what to print.
    fn join(
        &self,
        data_dir: &Path,
        args: JoinArgs,
    ) -> impl Future<Output = Result<String, CliError>>;

    /// `rais node`: runs until it is told to stop, and reads `file` again when it is told to.
    fn node(&self, config: HostConfig, file: PathBuf)
    -> impl Future<Output = Result<(), CliError>>;

    /// `rais demo`: runs until it is told to stop, and prints by itself.
    fn demo(&self, args: DemoArgs) -> impl Future<Output = Result<(), CliError>>;
}
