//! The daemon: everything put together, started in order and stopped in order.
//!
//! ```text
//! datagrams -> pulse (control) -> proposals -> raft -> applied -> zones, journal, pulse -> hands -> driver
//! ```
//!
//! Order of start: store and Raft (what was agreed), connections (who else), control thread, DNS. Until
//! this host has recovered what it knew, DNS says SERVFAIL and nothing is served.

mod admit;
mod anchor;
mod audit;
mod carrier;
pub(crate) mod datagram;
mod desk;
mod error;
mod follow;
pub(crate) mod hands;
mod heir;
pub(crate) mod journal;
mod mailbox;
mod members;
mod noted;
mod phases;
mod pulse;
mod queries;
mod register;
pub mod reload;
mod renewal;
pub mod scripted;
mod shelf;
mod tell;
mod watch;
pub mod wire;
mod writes;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use control::{Core, Event, RaftStatus, Vow};
use dns::DnsServer;
use host::driver::{AddressDriver, Gate};
use host::loopback::Loopback;
use host::refusing::Refusing;
use host::steady::{self, capability};
use monitor::runner::{self, Runner};
use monitor::watch::{Monitor, Script};
use statemachine::{
    Boot, Command, Entry, GroupName, HostId, LogTime, State, Timing as StateTiming,
};
use tokio::sync::{mpsc, watch as watch_channel};
use tokio::task::JoinHandle;

use crate::admin::{AdminServer, Front, Listening};
use crate::api::{Problem, ProblemKind, Reloaded, Response};
use crate::config::{DEFAULT_ADMIN, Driver, HostConfig};
use crate::pki::ArrayIdentity;
use crate::raft::{Compaction, ProposeError, Raft, RaftOptions, RaftTiming, RaftView, Step};
use crate::transport::{
    FORGOTTEN, HandlerError, Peers, Server, ServerLimits, Sessions, Timing, write_control_addresses,
};
use crate::traps::Traps;
use crate::warden::child::{NoWarden, Warden};
use crate::warden::predecessor;
use crate::warden::wire::Begin;
use crate::{clock, random};

pub use carrier::Carrier;
use desk::Desk;
pub use desk::answer;
pub use error::DaemonError;
use journal::Journal;
use mailbox::{Letter, Mailbox};
pub use noted::note_raft_timing;
use noted::raft_timing;
use pulse::{Doer, Ended, Outlets, Proposal, Pulse};
use reload::Source;
use scripted::Call;
use shelf::Shelf;
use watch::Watch;

/// Plans on their way to Raft; the control has one in flight, so more means that Raft is stuck.
const PROPOSALS: usize = 4;
/// How long to wait for what this host knew before it stopped; without a leader it goes on waiting.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(5);

/// What the parts of a running daemon share.
pub struct Daemon {
    /// This host.
    pub me: HostId,
    /// Its configuration, as it was started with.
    pub config: HostConfig,
    /// The same, with what it has followed since.
    pub live: watch_channel::Sender<Arc<HostConfig>>,
    /// What became of it when it was read again last.
    pub reloaded: ArcSwapOption<Reloaded>,
    /// Its keys.
    pub identity: ArrayIdentity,
    /// Raft.
    pub raft: Raft,
    /// Connections to the other hosts.
    pub peers: Arc<Peers>,
    /// The control thread's mailbox.
    pub mailbox: Mailbox,
    /// What DNS answers from.
    pub shelf: Arc<Shelf>,
    /// What happened.
    pub journal: Arc<Journal>,
    /// What guards the addresses of this host.
    pub gate: &'static str,
    /// Accepts the other hosts.
    pub server: Server,
    /// Seals and opens the datagrams.
    pub sessions: Arc<Sessions>,
    /// This host knows again what it knew before its start.
    pub recovered: AtomicBool,
    /// Tests and measures the services of this host.
    pub monitor: Monitor,
    /// Tells managers and webhooks what happened.
    pub traps: Traps,
}

impl Daemon {
    /// The leader, waiting for one at most `patience`.
    pub async fn leader(&self, patience: Duration) -> Option<HostId> {
        let mut view = self.raft.view();
        let known = view.wait_for(|view| view.leader.is_some());
        let view = tokio::time::timeout(patience, known).await.ok()?.ok()?;
        view.leader.map(HostId)
    }

    /// As leader: how long ago a quorum was heard.
    pub fn quorum_age(&self) -> Option<Duration> {
        self.raft.view().borrow().quorum_age(clock::monotonic())
    }

    /// Commits commands that somebody asked for, and answers with `words` when all were accepted.
    pub async fn commit(&self, commands: Vec<Command>, words: &str) -> Response {
        let at = self
            .mailbox
            .ask(|core, now| core.log_time(now))
            .await
            .unwrap_or_default();
        match self.propose(at, commands).await {
            Ok(applied) => match applied.outcomes.into_iter().find_map(Result::err) {
                Some(rejected) => {
                    desk::refused(Problem::rejected_by(&self.raft.state(), &rejected))
                }
                None => Response::Done {
                    index: Some(applied.index),
                    words: words.to_owned(),
                },
            },
            Err(ProposeError::NotLeader { .. }) => desk::refused(Problem::no_leader()),
            Err(ProposeError::Timeout) => desk::refused(Problem::no_quorum()),
            Err(error) => {
                let remedy = "`rais status` shows how the array is; then try again";
                desk::refused(Problem::new(
                    ProblemKind::Internal,
                    "not committed",
                    error.to_string(),
                    remedy,
                ))
            }
        }
    }

    async fn propose(
        &self,
        at: LogTime,
        commands: Vec<Command>,
    ) -> Result<statemachine::Applied, ProposeError> {
        self.raft
            .propose(Entry {
                at,
                wall: clock::wall_ms(),
                origin: None,
                commands,
            })
            .await
    }

    /// Refuses a host that was forgotten. Its certificate is still good, and after a restart nobody here
    /// remembers the day; but its id is the index of its join, so a state that is newer than that
    /// and does not know it is proof.
    fn refuse_forgotten(&self, from: HostId) -> Result<(), HandlerError> {
        let state = self.raft.state();
        let known = state.hosts.contains_key(&from) || from.0 > state.index;
        if known || state.array.is_none() {
            return Ok(());
        }
        if !self.raft.view().borrow().nodes.contains_key(&from.0) {
            self.server.close_host(from);
        }
        Err(HandlerError::Denied(format!(
            "{FORGOTTEN}; let it join again with an empty data directory"
        )))
    }

    /// Follows where the hosts are, and who was forgotten.
    fn follow_hosts(&self, state: &State, view: &RaftView) {
        for (id, node) in &view.nodes {
            self.peers.set_addresses(HostId(*id), node.control.clone());
        }
        for host in state.hosts.values() {
            self.peers.set_addresses(host.id, host.control.clone());
        }
        for gone in self.peers.hosts() {
            let known = state.hosts.contains_key(&gone) || view.nodes.contains_key(&gone.0);
            if !known && state.array.is_some() {
                self.peers.forget(gone);
                self.server.close_host(gone);
            }
        }
    }
}

/// Runs a daemon until `stop` resolves, and follows the file of its configuration. `ready` is called once it listens; what it knew before a restart it
/// recovers after that, since that takes a quorum and may take long.
///
/// # Errors
/// [`DaemonError`], which says what to do.
pub async fn run(
    config: HostConfig,
    file: Source,
    ready: impl FnOnce(),
    stop: impl Future<Output = ()>,
) -> Result<(), DaemonError> {
    let Running {
        daemon,
        tasks,
        dns,
        admin,
        beating,
    } = start(config).await?;
    ready();
    let mut beating = std::pin::pin!(join(beating, "control"));
    let mut control = None;
    let ended = tokio::select! {
        () = stop => None,
        () = async {
            reload::follow(Arc::clone(&daemon), file).await;
            std::future::pending().await
        } => None,
        () = async { recover(&daemon, &dns).await; std::future::pending().await } => None,
        // Without heartbeats this host is dead to the others: better to end, and be started again.
        ended = &mut beating => {
            control = ended;
            Some(match ended {
                Some(Ended::Doer) => DaemonError::DriverEnded,
                _ => DaemonError::ControlEnded,
            })
        }
        why = raft_stopped(&daemon) => Some(DaemonError::RaftStopped(why)),
    };
    // Also for a host whose warden has ended: a leader that has no control plans nothing.
    if !matches!(ended, Some(DaemonError::RaftStopped(_))) {
        heir::hand_over(&daemon, ended.is_none()).await;
    }
    tracing::info!("stopping");
    admin.iter().for_each(AdminServer::close);
    tasks.iter().for_each(JoinHandle::abort);
    daemon.mailbox.post(Letter::Stop);
    // The control thread lets go of every address, and then runs the release scripts. That may take
    // seconds, in which a host without a control must neither be elected nor answer names.
    let let_go = async {
        if control.is_none() {
            beating.await;
        }
    };
    let closed = async {
        if let Some(admin) = admin {
            admin.ended().await;
        }
        if let Some(dns) = Arc::into_inner(dns) {
            dns.shutdown().await;
        }
    };
    tokio::join!(let_go, closed, daemon.raft.shutdown());
    ended.map_or(Ok(()), Err)
}

/// Waits until Raft ends by itself: its store failed, most likely. Its reason.
async fn raft_stopped(daemon: &Daemon) -> String {
    let mut view = daemon.raft.view();
    let stopped = view.wait_for(|view| view.stopped.is_some()).await;
    let why = stopped.ok().and_then(|view| view.stopped.clone());
    why.unwrap_or_else(|| "it gave no reason".to_owned())
}

/// A daemon that listens.
struct Running {
    daemon: Arc<Daemon>,
    tasks: Vec<JoinHandle<()>>,
    dns: Arc<DnsServer>,
    admin: Option<AdminServer>,
    beating: std::thread::JoinHandle<Ended>,
}

async fn start(config: HostConfig) -> Result<Running, DaemonError> {
    let (warden, runner) = part_with_privilege(&config)?;
    let identity = load_identity(&config)?;
    let (mut pulse, waker) = Pulse::new().map_err(DaemonError::Thread)?;
    let (mailbox, inbox) = mailbox::mailbox(waker);
    let journal = Arc::new(Journal::new());
    let carrier = Arc::new(Carrier::new(mailbox.clone()));
    let shelf = Arc::new(Shelf::new(identity.host(), follow::primary(&config)?));
    let monitor = watch_services(identity.host(), runner, &mailbox)?;
    let told = (&mailbox, &monitor, &shelf, &journal);
    let raft = open_raft(&config, &identity, &carrier, told).await?;
    bind(&mut pulse, &config.control)?;
    write_pid(&config.data_dir)?;
    renewal::begin(&identity, &config.data_dir);
    let (traps, marks) = tell::start(&config, identity.host(), &raft, &journal)?;
    let boot = Boot(raft.store().next_boot().await?);
    let links = link(&config, &identity, boot).await?;
    let admin = listen(config.admin)?;
    let tls = links.server.https_config(&identity)?;
    carrier.connect(Arc::clone(&links.peers));
    let (me, state) = (identity.host(), raft.state());
    let hired = hire(&config, warden, (me, boot), &state, &mailbox).await?;
    let at = anchor::recall(raft.store(), state.at).await;
    let core = Core::new(me, boot, state, at, random::dice(), clock::now()).vowing(hired.vow);
    let (proposals, proposed) = mpsc::channel(PROPOSALS);
    let (elect, elected) = mpsc::channel(1);
    let outlets = Outlets {
        proposals,
        elect,
        doer: hired.doer,
        sessions: Arc::clone(&links.sessions),
        scripts: run_scripts(&config.name, &monitor, &mailbox),
        journal: Arc::clone(&journal),
    };
    let beating = pulse.start(core, inbox, outlets);
    let beating = beating.map_err(DaemonError::Thread)?;
    let dns = follow::serve(&config, &shelf)?;
    write_control_addresses(&config.data_dir, &config.control)?;
    let live = Arc::new(config.clone());
    let daemon = Arc::new(Daemon {
        me,
        config,
        live: watch_channel::Sender::new(live),
        reloaded: ArcSwapOption::empty(),
        identity,
        raft,
        peers: links.peers,
        mailbox,
        shelf,
        journal,
        gate: hired.gate,
        server: links.server,
        sessions: links.sessions,
        recovered: AtomicBool::new(false),
        monitor,
        traps,
    });
    links.desk.open(Arc::clone(&daemon));
    let front = Front {
        daemon: Arc::clone(&daemon),
        dns: Arc::clone(&dns),
    };
    Ok(Running {
        tasks: start_tasks(&daemon, proposed, elected, marks),
        admin: admin.map(|admin| admin.serve(tls, front)),
        daemon,
        dns,
        beating,
    })
}

fn load_identity(config: &HostConfig) -> Result<ArrayIdentity, DaemonError> {
    let identity = ArrayIdentity::load(&config.data_dir)?;
    if identity.name() != config.name {
        let (config, identity) = (config.name.clone(), identity.name().to_owned());
        return Err(DaemonError::Name { config, identity });
    }
    Ok(identity)
}

fn bind(pulse: &mut Pulse, control: &[SocketAddr]) -> Result<(), DaemonError> {
    let bound = pulse.bind(control);
    bound.map_err(|(address, source)| DaemonError::Bind { address, source })
}

/// What reaches other hosts and what they reach.
struct Links {
    sessions: Arc<Sessions>,
    desk: Arc<Desk>,
    server: Server,
    peers: Arc<Peers>,
}

async fn link(
    config: &HostConfig,
    identity: &ArrayIdentity,
    boot: Boot,
) -> Result<Links, DaemonError> {
    let (sessions, desk) = (Sessions::new(), Arc::new(Desk::default()));
    let handler = Arc::clone(&desk) as Arc<dyn crate::transport::Handler>;
    let (shared, limits) = (Arc::clone(&sessions), ServerLimits::default());
    let server = Server::bind(&config.control, identity, boot, shared, handler, limits).await?;
    let runtime = tokio::runtime::Handle::current();
    let shared = Arc::clone(&sessions);
    let peers = Peers::new(identity, boot, shared, Timing::default(), runtime)?;
    Ok(Links {
        sessions,
        desk,
        server,
        peers,
    })
}

/// Takes the address of the admin API, before anything is started. Where nobody chose one, a second daemon
/// on the machine does without.
fn listen(address: SocketAddr) -> Result<Option<Listening>, DaemonError> {
    match Listening::bind(address) {
        Ok(listening) => Ok(Some(listening)),
        Err(error) if address == DEFAULT_ADMIN && error.kind() == ErrorKind::AddrInUse => {
            tracing::warn!(%address, "taken by another program: no HTTPS API; choose [admin] listen");
            Ok(None)
        }
        Err(source) => Err(DaemonError::Bind { address, source }),
    }
}

/// Where each group's addresses go.
fn interfaces(config: &HostConfig) -> BTreeMap<String, String> {
    let members = config.members.iter();
    members
        .map(|member| (member.group.clone(), member.interface.clone()))
        .collect()
}

/// The process id, for scripts and for `rais demo`; written once the store's lock is held.
fn write_pid(data_dir: &Path) -> Result<(), DaemonError> {
    let file = data_dir.join(PID_FILE);
    let write = std::fs::write(&file, format!("{}\n", std::process::id()));
    write.map_err(|source| DaemonError::File { file, source })
}

/// Name of the file with the process id.
const PID_FILE: &str = "rais.pid";

async fn join<T: Send + 'static>(
    thread: std::thread::JoinHandle<T>,
    name: &'static str,
) -> Option<T> {
    let joined = tokio::task::spawn_blocking(move || thread.join()).await;
    let ended = joined.ok().and_then(Result::ok);
    if ended.is_none() {
        tracing::error!(thread = name, "thread ended in a panic; please report this");
    }
    ended
}

/// The monitor, which tells the control thread how the services of this host are.
fn watch_services(
    me: HostId,
    runner: Option<Runner>,
    mailbox: &Mailbox,
) -> Result<Monitor, DaemonError> {
    let mailbox = mailbox.clone();
    let tell = move |group: GroupName, measured, why| {
        mailbox.post(Letter::Event(Event::Measured {
            group,
            measured,
            why,
        }));
    };
    // Its thread ends with the last copy of the handle, or with the process.
    let (monitor, _thread) =
        Monitor::start(me, clock::now, runner, Box::new(tell)).map_err(DaemonError::Thread)?;
    Ok(monitor)
}

/// Starts scripts through the monitor, and tells the control thread how they ended.
fn run_scripts(
    name: &str,
    monitor: &Monitor,
    mailbox: &Mailbox,
) -> Box<dyn Fn(Call) -> bool + Send> {
    let (name, monitor, mailbox) = (name.to_owned(), monitor.clone(), mailbox.clone());
    Box::new(move |call| {
        let (mailbox, environment) = (mailbox.clone(), call.environment(&name));
        let (words, timeout_ms) = (vec![call.path.clone()], call.timeout_ms);
        let reply = move |result: Result<String, String>| {
            let (address, what) = (call.address, call.which.word());
            match &result {
                Ok(said) => tracing::info!(%address, path = call.path, said, "{what} ended"),
                Err(error) => tracing::error!(%address, path = call.path, error, "{what} failed"),
            }
            mailbox.post(Letter::Script(address, result.map(|_| ())));
        };
        monitor.run(Script {
            words,
            environment,
            timeout_ms,
            reply: Box::new(reply),
        })
    })
}

async fn open_raft(
    config: &HostConfig,
    identity: &ArrayIdentity,
    carrier: &Arc<Carrier>,
    (mailbox, monitor, shelf, journal): (&Mailbox, &Monitor, &Arc<Shelf>, &Arc<Journal>),
) -> Result<Raft, DaemonError> {
    let (box_, shelf, journal) = (mailbox.clone(), Arc::clone(shelf), Arc::clone(journal));
    let following = monitor.clone();
    let applied = move |step: Step| {
        shelf.applied(&step.state);
        journal.take_in(&step);
        // What is applied again at the start was true once; the monitor gets the last of it below.
        if !step.replay {
            following.follow(Arc::clone(&step.state));
        }
        box_.state(step.state);
    };
    let watch = Arc::new(Watch::new(mailbox.clone()));
    let options = RaftOptions {
        data_dir: config.data_dir.clone(),
        id: identity.host().0,
        timing: raft_timing(&config.data_dir),
        compaction: Compaction::default(),
        transport: Arc::clone(carrier) as Arc<dyn crate::raft::RaftTransport>,
        log_watch: Arc::clone(&watch) as Arc<dyn crate::raft::LogWatch>,
        applied: Arc::new(applied),
    };
    let raft = Raft::open(options).await?;
    watch.opened();
    monitor.follow(raft.state());
    Ok(raft)
}

/// The warden and the runner, and then no more privilege than a name server needs: from here on only the
/// warden may change the network, and only the runner may be another user. Before the first thread, since
/// each has capabilities of its own.
fn part_with_privilege(
    config: &HostConfig,
) -> Result<(Option<Warden>, Option<Runner>), DaemonError> {
    let serves = !config.members.is_empty() && !config.observer;
    let user = runner::find_user(config.program_user.as_deref());
    let user = user.map_err(DaemonError::ProgramUser)?;
    let runner = serves.then(|| Runner::start(user)).transpose()?;
    let real = serves && !matches!(config.driver, Driver::Loopback { .. });
    let warden = real.then(Warden::start).transpose()?;
    let mut kept = capability::NODE;
    if steady::allow_realtime().is_err() {
        kept |= capability::TURN;
    }
    let own = rustix::process::geteuid().as_raw();
    if std::fs::metadata(&config.data_dir).is_ok_and(|data| data.uid() != own) {
        kept |= capability::FILES;
    }
    // After the runner, whose programs are nobody's before others; the name server's threads step back.
    if let Err(error) = steady::sooner() {
        tracing::info!(%error, "the daemon has no precedence: a busy machine makes elections and DNS slower");
    }
    if let Err(error) = steady::keep_only(kept) {
        tracing::warn!(%error, "the daemon keeps its capabilities");
    }
    Ok((warden, runner))
}

/// Who holds this host's addresses.
struct Hired {
    doer: Doer,
    gate: &'static str,
    vow: Option<Vow>,
}

/// Nothing was cleared by a warden of this start, and the first heartbeat will say that this host holds
/// nothing: what an earlier start held must have ended by then.
async fn outwait_leases(config: &HostConfig, longest: Duration) {
    if !predecessor::existed(&config.data_dir) {
        return;
    }
    tracing::info!("no warden: waiting until every lease of an earlier start has ended");
    let dir = config.data_dir.clone();
    let ended = tokio::task::spawn_blocking(move || predecessor::await_end(&dir)).await;
    if let Err(error) = ended {
        tracing::error!(%error, "the warden of an earlier start was not awaited");
    }
    tokio::time::sleep(longest).await;
}

async fn hire(
    config: &HostConfig,
    warden: Option<Warden>,
    (host, boot): (HostId, Boot),
    state: &State,
    mailbox: &Mailbox,
) -> Result<Hired, DaemonError> {
    let driver: Box<dyn AddressDriver> = match (warden, config.driver) {
        (Some(mut warden), _) => {
            let begin = Begin {
                tag: config.name.chars().take(24).collect(),
                interfaces: interfaces(config),
                host,
                boot,
            };
            let data_dir = config.data_dir.clone();
            let begin = move || {
                predecessor::await_end(&data_dir);
                if let Err(error) = predecessor::note(&data_dir, warden.pid()) {
                    tracing::warn!(%error, "the warden cannot be noted for the next start");
                }
                (warden.begin(begin), warden)
            };
            let begun = tokio::task::spawn_blocking(begin).await;
            match begun.map_err(|error| DaemonError::Thread(error.into()))? {
                (Ok((vow, detail)), warden) => {
                    tracing::info!(detail, "gate: nftables");
                    return Ok(Hired {
                        doer: Doer::Warden(warden),
                        gate: "nftables",
                        vow: Some(vow),
                    });
                }
                (Err(error), warden) => {
                    warden.end();
                    let NoWarden::NoGate(reason) = error else {
                        return Err(error.into());
                    };
                    let words = "no gate: this host votes and answers DNS, but serves no address";
                    tracing::error!(reason, "{words}");
                    Box::new(Refusing::new(&reason))
                }
            }
        }
        (None, Driver::Loopback { http_port }) => Box::new(Loopback::new(&config.name, http_port)),
        (None, _) => Box::new(Refusing::new("this host is never given an address")),
    };
    // Twice: this host's copy of the timing may be old, and its clock may drift.
    let longest = Duration::from_millis(2 * u64::from(state.longest_lease_ms()));
    outwait_leases(config, longest).await;
    if let Gate::None { reason } = driver.gate() {
        let words = "gate: none; one holder is up to this daemon alone";
        tracing::warn!(driver = driver.name(), reason, "{words}");
    }
    let started = hands::start(driver, interfaces(config), mailbox.clone());
    let (actions, hands) = started.map_err(DaemonError::Thread)?;
    Ok(Hired {
        doer: Doer::Thread(actions, hands),
        gate: "none",
        vow: None,
    })
}

fn start_tasks(
    daemon: &Arc<Daemon>,
    proposed: mpsc::Receiver<Proposal>,
    elected: mpsc::Receiver<HostId>,
    marks: tell::Marks,
) -> Vec<JoinHandle<()>> {
    vec![
        tokio::spawn(propose_all(Arc::clone(daemon), proposed)),
        tokio::spawn(elect(Arc::clone(daemon), elected)),
        tokio::spawn(tell_standing(Arc::clone(daemon))),
        tokio::spawn(members::care(Arc::clone(daemon))),
        tokio::spawn(register::introduce(Arc::clone(daemon))),
        tokio::spawn(anchor::keep(Arc::clone(daemon))),
        tokio::spawn(renewal::keep(Arc::clone(daemon))),
        tokio::spawn(shelf::watch(Arc::clone(daemon))),
        tokio::spawn(tell::note(Arc::clone(daemon), marks)),
    ]
}

/// Opens DNS once this host knows again what it knew.
async fn recover(daemon: &Arc<Daemon>, dns: &DnsServer) {
    while let Err(error) = daemon.raft.wait_for_recovery(RECOVERY_PATIENCE).await {
        tracing::warn!(%error, "still recovering: no leader yet; DNS answers SERVFAIL until then");
        if daemon.raft.view().borrow().stopped.is_some() {
            return;
        }
    }
    dns.set_ready(true);
    daemon.recovered.store(true, Ordering::Release);
}

/// Takes the control's plans to Raft, one at a time.
async fn propose_all(daemon: Arc<Daemon>, mut proposed: mpsc::Receiver<Proposal>) {
    while let Some(Proposal { id, at, commands }) = proposed.recv().await {
        if let Err(error) = daemon.propose(at, commands).await {
            tracing::debug!(%error, "plan not committed; it is drawn again");
        }
        daemon.mailbox.post(Letter::Event(Event::Proposed { id }));
    }
}

/// Does not wait for the election time-out when the leader has said its last word.
async fn elect(daemon: Arc<Daemon>, mut elected: mpsc::Receiver<HostId>) {
    while let Some(to) = elected.recv().await {
        if let Err(error) = daemon.raft.elect(to.0).await {
            tracing::info!(%error, "no election at once; it comes with the time-out");
        }
    }
}

/// Tells the control thread when Raft's standing changed.
async fn tell_standing(daemon: Arc<Daemon>) {
    let mut view = daemon.raft.view();
    let mut told = RaftStatus::default();
    let mut timing = None;
    loop {
        let current = status_of(&view.borrow_and_update());
        if current != told {
            daemon
                .mailbox
                .post(Letter::Event(Event::Raft(current.clone())));
            told = current;
        }
        keep_timing(&daemon, &mut timing);
        if view.changed().await.is_err() {
            return;
        }
    }
}

fn keep_timing(daemon: &Daemon, kept: &mut Option<StateTiming>) {
    let state = daemon.raft.state();
    if state.array.is_none() || *kept == Some(state.timing) {
        return;
    }
    daemon.raft.retime(&RaftTiming {
        heartbeat_ms: u64::from(state.timing.raft_heartbeat_ms),
        election_min_ms: u64::from(state.timing.election_min_ms),
        election_max_ms: u64::from(state.timing.election_max_ms),
    });
    daemon.peers.retime(Timing::of(&state.timing));
    if let Err(error) = note_raft_timing(&daemon.config.data_dir, &state.timing) {
        tracing::warn!(%error, "Raft's timing cannot be noted for the next start");
    }
    *kept = Some(state.timing);
}

fn status_of(view: &RaftView) -> RaftStatus {
    let voters = view
        .voters
        .iter()
        .map(|set| set.iter().copied().map(HostId).collect());
    let entry = |at: Option<_>| at.map(watch::entry_id).unwrap_or_default();
    RaftStatus {
        term: view.term,
        leader: view.leader.map(HostId),
        am_leader: view.am_leader,
        voters: voters.collect(),
        membership: entry(view.membership),
        committed: entry(view.committed_membership),
        learners: view
            .nodes
            .keys()
            .copied()
            .filter(|id| !view.is_voter(*id))
            .map(HostId)
            .collect(),
    }
}
