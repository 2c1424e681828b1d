//! `rais demo`: a whole array on one machine, without root.
//!
//! Real daemons as child processes, on loopback addresses; the same commands that set up an array on
//! real hosts set up this one. A daemon that is killed stays dead until it is asked for: a request
//! is a file in its directory, so that another terminal can make it.

mod children;
mod layout;
mod screen;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::api::{AddressWord, EventRecord, Request, Response, Status};
use crate::cli::{CliError, Commands, DemoArgs, Doors};
use crate::commands::{Door, Real};
use crate::config::load_policy;
use crate::found;
use crate::pki::ArrayIdentity;
use children::Children;
use layout::Layout;
use screen::{Screen, print};

/// How often to look at the children, and for requests to start one again.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often, in such looks, the array is asked how it is.
const ASK_EVERY: u32 = 10;
/// How long a daemon may take to answer after its start, and the array to be whole.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// Name of the file that says that the set-up was finished.
const WHOLE: &str = "whole";
/// Name of the file that asks for a host's start.
const RESTART_REQUEST: &str = "restart";

/// Runs the demo, or asks a running one to start a host again.
///
/// # Errors
/// [`CliError`] with the remedy; every daemon has ended then.
pub async fn run(real: &Real, args: DemoArgs) -> Result<(), CliError> {
    if let (Some(host), Some(dir)) = (&args.restart, &args.dir) {
        return request_restart(real, dir, host).await;
    }
    let dir = directory(args.dir.as_deref())?;
    let layout = match ArrayIdentity::exists(&dir.join(Layout::name(1))) {
        true => recall(real, dir, &args).await?,
        false => Layout {
            dir,
            hosts: args.hosts,
            dns_port: args.dns_port,
            http_port: args.http_port,
        },
    };
    let mut children = Children::default();
    let shown = tokio::select! {
        result = show(real, &layout, &mut children, &args) => result,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.map_err(|error| CliError::failed(error.to_string(), "end it with SIGTERM"))
        }
        () = terminated() => Ok(()),
    };
    print(&format!(
        "\nending {} daemons; the data stays in {}\n",
        layout.hosts,
        layout.dir.display()
    ));
    children.end().await;
    shown
}

async fn terminated() {
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

fn directory(wanted: Option<&Path>) -> Result<PathBuf, CliError> {
    let dir = match wanted {
        Some(dir) => dir.to_owned(),
        None => std::env::temp_dir().join(format!("rais-demo-{}", std::process::id())),
    };
    let cannot = |error| {
        CliError::failed(
            format!("cannot use {}: {error}", dir.display()),
            "choose another --dir",
        )
    };
    std::fs::create_dir_all(&dir).map_err(cannot)?;
    dir.canonicalize().map_err(cannot)
}

async fn show(
    real: &Real,
    layout: &Layout,
    children: &mut Children,
    args: &DemoArgs,
) -> Result<(), CliError> {
    let screen = Screen::new(layout);
    let end = args.for_seconds.map(Duration::from_secs);
    let run = async {
        match ArrayIdentity::exists(&layout.host_dir(1)) {
            true => resume(layout, children)?,
            false => set_up(real, layout, children, args).await?,
        }
        watch(real, layout, children, screen).await
    };
    match end {
        Some(end) => tokio::time::timeout(end, run).await.unwrap_or(Ok(())),
        None => run.await,
    }
}

/// The layout of the array that a directory holds: its own, whatever the command line says.
async fn recall(real: &Real, dir: PathBuf, args: &DemoArgs) -> Result<Layout, CliError> {
    let layout = Layout::recall(dir)?;
    let shown = layout.dir.display();
    if !layout.dir.join(WHOLE).exists() {
        let what = format!("the set-up of the array in {shown} was interrupted");
        return Err(CliError::failed(
            what,
            "remove the directory, or choose another --dir",
        ));
    }
    for number in 1..=layout.hosts {
        if status(real, &layout.host_dir(number)).await.is_ok() {
            let what = format!("a demo is running in {shown} already");
            return Err(CliError::failed(
                what,
                "end that one, or choose another --dir",
            ));
        }
    }
    let asked = (args.hosts, args.dns_port, args.http_port);
    if asked != (layout.hosts, layout.dns_port, layout.http_port) {
        print(&format!(
            "{shown} holds {} hosts with DNS on port {} and HTTP on port {}; they keep that\n",
            layout.hosts, layout.dns_port, layout.http_port
        ));
    }
    Ok(layout)
}

/// Starts every host that the directory holds.
fn resume(layout: &Layout, children: &mut Children) -> Result<(), CliError> {
    for number in
        (1..=layout.hosts).filter(|number| ArrayIdentity::exists(&layout.host_dir(*number)))
    {
        let config = layout.write_files(number)?;
        children.start(layout, number, &config)?;
    }
    print(&format!("the array in {} goes on\n", layout.dir.display()));
    Ok(())
}

/// Does what an operator would: init, token, join, group apply.
async fn set_up(
    real: &Real,
    layout: &Layout,
    children: &mut Children,
    args: &DemoArgs,
) -> Result<(), CliError> {
    print(&format!(
        "starting {} hosts in {}\n",
        layout.hosts,
        layout.dir.display()
    ));
    for number in 1..=layout.hosts {
        create(&layout.host_dir(number))?;
    }
    let token = found::init(
        layout.newcomer(1),
        args.timing.timing(),
        u32::from(layout.hosts),
    )
    .await?;
    let config = layout.write_files(1)?;
    children.start(layout, 1, &config)?;
    answering(real, layout, children, 1).await?;
    apply_group(real, layout).await?;
    for number in 2..=layout.hosts {
        found::join(layout.newcomer(number), &token, &[layout.control(1)]).await?;
        let config = layout.write_files(number)?;
        children.start(layout, number, &config)?;
    }
    whole(real, layout, children).await?;
    layout.write_new(&layout.dir.join(WHOLE), "")
}

fn create(dir: &Path) -> Result<(), CliError> {
    std::fs::create_dir_all(dir).map_err(|error| {
        CliError::failed(
            format!("cannot make {}: {error}", dir.display()),
            "choose another --dir",
        )
    })
}

async fn apply_group(real: &Real, layout: &Layout) -> Result<(), CliError> {
    let policy = Box::new(load_policy(&layout.policy_file())?);
    let door = real.connect(&layout.host_dir(1)).await?;
    door.call(Request::GroupApply {
        policy,
        seen: None,
        dry_run: false,
    })
    .await
    .map(|_| ())
}

async fn status(real: &Real, dir: &Path) -> Result<Status, CliError> {
    match real.connect(dir).await?.call(Request::Status).await? {
        Response::Status(status) => Ok(*status),
        _ => Err(CliError::Protocol {
            detail: "not a status".into(),
        }),
    }
}

/// Waits until a host answers that there is a leader.
async fn answering(
    real: &Real,
    layout: &Layout,
    children: &mut Children,
    number: u8,
) -> Result<(), CliError> {
    wait(layout, children, || async {
        let status = status(real, &layout.host_dir(number)).await?;
        Ok(status.leader.is_some())
    })
    .await
}

/// Waits until every address is online at its preferred host and published.
async fn whole(real: &Real, layout: &Layout, children: &mut Children) -> Result<(), CliError> {
    wait(layout, children, || async {
        let status = status(real, &layout.host_dir(1)).await?;
        let home = |a: &crate::api::AddressStatus| {
            a.state == AddressWord::Online && a.host == a.preferred_host
        };
        let hosts = usize::from(layout.hosts);
        let done = |group: &crate::api::GroupStatus| {
            group.published.len() == hosts
                && group.addresses.iter().filter(|a| home(a)).count() == hosts
        };
        Ok(status.groups.iter().any(done))
    })
    .await
}

async fn wait<F: Future<Output = Result<bool, CliError>>>(
    layout: &Layout,
    children: &mut Children,
    mut done: impl FnMut() -> F,
) -> Result<(), CliError> {
    let mut last = None;
    let waiting = async {
        loop {
            match done().await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => last = Some(error),
            }
            if let Some((number, status)) = children.ended().first() {
                let log = layout.host_dir(*number).join("rais.log");
                let what = format!(
                    "{} ended while the array started: {status}",
                    Layout::name(*number)
                );
                return Err(CliError::failed(
                    what,
                    format!("{} says why", log.display()),
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(START_PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| {
        let why = last.map(|error| format!(": {error}")).unwrap_or_default();
        let what = format!(
            "the array is not whole after {} s{why}",
            START_PATIENCE.as_secs()
        );
        Err(CliError::failed(
            what,
            format!("the logs are in {}/h*/rais.log", layout.dir.display()),
        ))
    })
}

/// Shows the array until somebody ends it; starts hosts that were asked for.
async fn watch(
    real: &Real,
    layout: &Layout,
    children: &mut Children,
    mut screen: Screen<'_>,
) -> Result<(), CliError> {
    screen.instructions();
    let (mut door, mut looks) = (None, 0u32);
    loop {
        for (number, status) in children.ended() {
            screen.say(&format!(
                "{0} ended ({status}); start it again: rais demo --restart {0} --dir {1}",
                Layout::name(number),
                layout.dir.display()
            ));
        }
        let dead: Vec<u8> = (1..=layout.hosts)
            .filter(|number| !children.runs(*number))
            .collect();
        for number in dead {
            let request = layout.host_dir(number).join(RESTART_REQUEST);
            if std::fs::remove_file(&request).is_ok() {
                children.start(layout, number, &layout.write_files(number)?)?;
                screen.say(&format!("{} is started again", Layout::name(number)));
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
        looks = looks.wrapping_add(1);
        if looks % ASK_EVERY != 0 {
            continue;
        }
        let Some(number) = children.first() else {
            screen.say("no host is left; start one again, or end with Ctrl-C");
            continue;
        };
        // One connection for as long as it works: a handshake with each look would be most of the load.
        let old = door.take();
        let was_open = old.is_some();
        let current = match old {
            Some(open) => Ok(open),
            None => real.connect(&layout.host_dir(number)).await,
        };
        match look(current, screen.since()).await {
            Ok((open, status, events)) => {
                screen.draw(&status, &events);
                door = Some(open);
            }
            // It led to a host that ended; the next look goes to one that runs.
            Err(_) if was_open => {}
            Err(error) => screen.say(&format!(
                "{} does not answer: {error}",
                Layout::name(number)
            )),
        }
    }
}

async fn look(
    door: Result<Door, CliError>,
    since: Option<u64>,
) -> Result<(Door, Status, Vec<EventRecord>), CliError> {
    let door = door?;
    let status = match door.call(Request::Status).await? {
        Response::Status(status) => *status,
        _ => {
            return Err(CliError::Protocol {
                detail: "not a status".into(),
            });
        }
    };
    match door.call(Request::Events { since, limit: 50 }).await? {
        Response::Events(events) => Ok((door, status, events)),
        _ => Err(CliError::Protocol {
            detail: "not events".into(),
        }),
    }
}

/// Asks the demo that runs in `dir` to start a host again, and waits until that host answers.
async fn request_restart(real: &Real, dir: &Path, host: &str) -> Result<(), CliError> {
    let host_dir = dir.join(host);
    if !ArrayIdentity::exists(&host_dir) {
        return Err(CliError::failed(
            format!("{} holds no host {host}", dir.display()),
            "name the --dir of the demo that runs",
        ));
    }
    if status(real, &host_dir).await.is_ok() {
        print(&format!("{host} runs already\n"));
        return Ok(());
    }
    let request = host_dir.join(RESTART_REQUEST);
    let cannot = |error: std::io::Error| {
        CliError::failed(format!("cannot ask for {host}: {error}"), "is --dir right?")
    };
    std::fs::write(&request, "").map_err(cannot)?;
    let answered = async {
        while status(real, &host_dir).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(START_PATIENCE, answered)
        .await
        .is_err()
    {
        // Taken back, so that a later demo does not start it by surprise.
        let _gone = std::fs::remove_file(&request);
        return Err(CliError::failed(
            format!("{host} was not started"),
            format!(
                "is a demo running in {}? start one: rais demo --dir {}",
                dir.display(),
                dir.display()
            ),
        ));
    }
    print(&format!("{host} runs again\n"));
    Ok(())
}
