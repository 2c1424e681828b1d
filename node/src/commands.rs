//! What the command line cannot do by a request: connect, init, join, run, demo.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::api::{EventRecord, Request, Response};
use crate::cli::{CliError, Commands, DemoArgs, Doors, EventStream, InitArgs, JoinArgs};
use crate::config::HostConfig;
use crate::daemon::reload::Source;
use crate::daemon::{self, wire};
use crate::found::{self, Newcomer};
use crate::log;
use crate::transport::{Client, ClientError, FrameStream, Kind};

/// How long the command line waits for an answer: a forwarded commit, and an election before it.
const PATIENCE: Duration = Duration::from_secs(12);
/// Set for the daemons of a demo: they end when their standard input does, so none outlives it.
pub const STOP_WITH_STDIN: &str = "RAIS_STOP_WITH_STDIN";

/// The real thing behind the command line.
pub struct Real;

/// A way to a daemon.
pub struct Door(Client);

/// A daemon's stream of events.
pub struct Stream(FrameStream);

impl Commands for Real {
    type Doors = Door;

    async fn connect(&self, data_dir: &Path) -> Result<Door, CliError> {
        Ok(Door(
            Client::from_data_dir(data_dir)
                .await
                .map_err(|error| of_client(data_dir, &error))?,
        ))
    }

    async fn init(&self, data_dir: &Path, args: InitArgs) -> Result<String, CliError> {
        let new = Newcomer {
            data_dir: data_dir.to_owned(),
            name: args.name.clone(),
            control: args.control,
        };
        let token = found::init(new, args.timing.timing()?, 1).await?;
        eprintln!(
            "array started in {}; the token below lets one host join within an hour",
            data_dir.display()
        );
        eprintln!("next: write a configuration and run `rais node --config FILE`");
        Ok(format!("{token}\n"))
    }

    async fn join(&self, data_dir: &Path, args: JoinArgs) -> Result<String, CliError> {
        let new = Newcomer {
            data_dir: data_dir.to_owned(),
            name: args.name.clone(),
            control: args.control,
        };
        let host = found::join(new, &args.token, &args.peer).await?;
        Ok(format!(
            "{} is host {host} of the array; next: `rais node --config FILE`\n",
            args.name
        ))
    }

    async fn node(&self, config: HostConfig, file: PathBuf) -> Result<(), CliError> {
        let relevel = log::start(config.log);
        // From now on it ends nothing.
        let hangup = signal(SignalKind::hangup()).map_err(|error| {
            CliError::failed(format!("SIGHUP cannot be caught: {error}"), "try again")
        })?;
        let source = Source {
            file,
            hangup,
            relevel,
        };
        let ready = || {
            // Not started by systemd: nobody to tell.
            let _untold = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            tracing::info!("serving");
        };
        let run = daemon::run(config, source, ready, stopped());
        run.await.map_err(|error| {
            CliError::failed(
                error.to_string(),
                "docs/errors-and-logs.md lists what to do",
            )
        })
    }

    async fn demo(&self, args: DemoArgs) -> Result<(), CliError> {
        crate::demo::run(self, args).await
    }
}

impl Doors for Door {
    type Events = Stream;

    async fn call(&self, request: Request) -> Result<Response, CliError> {
        let answer = self
            .0
            .call(Kind::Client, wire::encode(&request), PATIENCE)
            .await;
        let answer = answer.map_err(|error| of_client(Path::new(""), &error))?;
        let response = wire::decode(&answer).ok_or(CliError::Protocol {
            detail: "it does not decode".into(),
        })?;
        match response {
            Response::Refused { problem } => Err(CliError::Refused(problem)),
            response => Ok(response),
        }
    }

    async fn follow(&self, since: Option<u64>) -> Result<Stream, CliError> {
        let stream = self
            .0
            .stream(wire::encode(&Request::FollowEvents { since }))
            .await;
        Ok(Stream(
            stream.map_err(|error| of_client(Path::new(""), &error))?,
        ))
    }
}

impl EventStream for Stream {
    async fn next(&mut self) -> Result<Option<EventRecord>, CliError> {
        let frame = self
            .0
            .next()
            .await
            .map_err(|error| of_client(Path::new(""), &error))?;
        let Some(frame) = frame else { return Ok(None) };
        match wire::decode(&frame) {
            Some(Response::Event(event)) => Ok(Some(event)),
            _ => Err(CliError::Protocol {
                detail: "an event does not decode".into(),
            }),
        }
    }
}

fn of_client(data_dir: &Path, error: &ClientError) -> CliError {
    match error {
        ClientError::Identity(_) if !crate::pki::ArrayIdentity::exists(data_dir) => {
            CliError::NoArray {
                data_dir: data_dir.to_owned(),
            }
        }
        ClientError::NotRunning { reason } => CliError::Unreachable {
            target: data_dir.display().to_string(),
            detail: reason.to_string(),
        },
        ClientError::NeverRan { .. } => CliError::failed(
            error.to_string(),
            "`rais node --config FILE`, then try again",
        ),
        other => CliError::failed(other.to_string(), "`rais status` shows how the array is"),
    }
}

/// SIGTERM, SIGINT, or the end of standard input for a daemon of a demo.
async fn stopped() {
    let (Ok(mut term), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        tracing::error!("signals cannot be caught; the daemon ends only by SIGKILL");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv(), if std::env::var_os(STOP_WITH_STDIN).is_none() => {}
        () = end_of_stdin(), if std::env::var_os(STOP_WITH_STDIN).is_some() => {}
    }
}

async fn end_of_stdin() {
    let mut sink = tokio::io::sink();
    // An error is an end, too.
    let _ended = tokio::io::copy(&mut tokio::io::stdin(), &mut sink).await;
}
