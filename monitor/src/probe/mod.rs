//! Does the looking: one function for each kind of test and load.
//!
//! All of it waits on sockets in one thread; what reads procfs or netlink takes microseconds. The
//! judge keeps the time-outs, and a probe that is given up is dropped: nothing outlives the run.
//!
//! Limits: `exec` needs the runner, a process that may change users; without one it fails, and says so.

mod dns;
mod file;
mod gauge;
mod http;
mod interface;
mod life;
mod process;
mod tcp;
mod tls;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use statemachine::{LoadKind, TestKind};

use crate::judge::{Look, Outcome, Reading, Run};
use crate::runner::Programs;
use crate::runner::wire::Purpose;
pub use life::Life;

/// What probes keep between runs.
#[derive(Debug, Default)]
pub struct Prober {
    gauges: RefCell<gauge::Gauges>,
    programs: Programs,
    host: RefCell<String>,
    tls: tls::Configs,
}

/// What a run found, and what to watch until the next, if it found something alive.
#[derive(Debug)]
pub struct Found {
    /// How it ended.
    pub outcome: Outcome,
    /// Its end is seen at once.
    pub life: Option<Life>,
}

impl From<Outcome> for Found {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            life: None,
        }
    }
}

impl Prober {
    /// One whose programs run there.
    #[must_use]
    pub fn new(programs: Programs) -> Self {
        Self {
            programs,
            ..Self::default()
        }
    }

    /// The name of this host, which programs are told.
    pub fn call_it(&self, host: &str) {
        host.clone_into(&mut self.host.borrow_mut());
    }

    /// Does one run, however long that takes: drop it when it is given up.
    pub async fn perform(self: Rc<Self>, run: Run) -> Found {
        match &run.task.look {
            Look::Test(TestKind::Process { pid_file }) => process::test(pid_file),
            Look::Test(TestKind::Interface { name, gateway }) => {
                interface::test(name, *gateway).await
            }
            Look::Test(TestKind::Exec { command }) => {
                let ended = self.exec(command, run.timeout_ms).await;
                ended.map(|_| Reading::Passed).into()
            }
            Look::Load(LoadKind::Exec { command }) => {
                let ended = self.exec(command, run.timeout_ms).await;
                ended.and_then(|said| measured(&said)).into()
            }
            Look::Test(kind) => self.test(kind).await.map(|()| Reading::Passed).into(),
            Look::Load(LoadKind::Http {
                url,
                field,
                capacity,
            }) => http::load(url, field, *capacity).await.into(),
            Look::Load(kind) => {
                let mut gauges = self.gauges.borrow_mut();
                gauges.read(run.object, kind, &run.task.of).into()
            }
        }
    }

    async fn test(&self, kind: &TestKind) -> Result<(), String> {
        match kind {
            TestKind::Tcp { target } => tcp::test(target).await,
            TestKind::Http {
                url,
                expect_status,
                expect_body,
            } => http::test(url, expected(*expect_status, expect_body.as_ref())).await,
            TestKind::Https {
                url,
                host,
                ca,
                verify,
                expect_status,
                expect_body,
            } => {
                let trust = tls::Trust::of(ca.as_ref(), *verify);
                let expected = expected(*expect_status, expect_body.as_ref());
                http::test_tls(&self.tls, trust, url, host.as_deref(), expected).await
            }
            TestKind::Dns { server, query } => dns::test(server, query).await,
            TestKind::Exec { .. } | TestKind::Process { .. } | TestKind::Interface { .. } => {
                Err("it is looked at elsewhere; please report this".to_owned())
            }
        }
    }

    async fn exec(&self, command: &[String], timeout_ms: u64) -> Result<String, String> {
        let words = command.to_vec();
        let host = ("RAIS_HOST".to_owned(), self.host.borrow().clone());
        let ended = self
            .programs
            .run(Purpose::Look, words, vec![host], timeout_ms);
        ended.await
    }

    /// Forgets what it keeps for objects that are gone.
    pub fn keep(&self, is_known: impl Fn(crate::judge::ObjectId) -> bool) {
        self.gauges.borrow_mut().keep(is_known);
    }
}

fn expected(status: u16, text: Option<&String>) -> http::Expected<'_> {
    http::Expected {
        status,
        text: text.map(String::as_str),
    }
}

/// `load capacity`, in the first line that a program says.
fn measured(said: &str) -> Outcome {
    let mut words = said.split_whitespace().map(str::parse::<u64>);
    match (words.next(), words.next()) {
        (Some(Ok(load)), Some(Ok(capacity))) => Ok(Reading::Load { load, capacity }),
        _ => Err("it does not print `load capacity`, two whole numbers".to_owned()),
    }
}

/// `10.0.0.1:80` or `[fd00::1]:80`.
fn socket(target: &str) -> Result<SocketAddr, String> {
    let parsed = target.parse();
    parsed.map_err(|_| format!("`{target}` is not an address with a port"))
}
