//! Does what was typed: a command becomes a request, its answer becomes text.
//!
//! Every way out of here is one of three exit codes, and every failure says on stderr what to do
//! next. Output goes through [`Console`], so that tests read what a person would see.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;

use super::args::{
    CertCommand, Cli, Command, EventsArgs, GroupCommand, Look, TokenCommand, TrapsCommand,
};
use super::error::CliError;
use super::hooks::{Commands, Doors, EventStream};
use super::render;
use super::style::Style;
use crate::api::{Request, Response, Status};
use crate::config::{ConfigFile, check_file, load_host, policy_to_toml};

/// Where a command writes.
pub struct Console<'a> {
    /// Answers.
    pub out: &'a mut dyn Write,
    /// Errors.
    pub err: &'a mut dyn Write,
    /// Colour, or none.
    pub style: Style,
}

impl Console<'_> {
    pub(super) fn print(&mut self, text: &str) -> Result<(), CliError> {
        let written = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush());
        written.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => CliError::OutputClosed,
            _ => CliError::failed(
                format!("can't write the answer: {error}"),
                "is the disk full?",
            ),
        })
    }

    pub(super) fn print_json(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        self.print(&format!(
            "{}\n",
            to_json(serde_json::to_string_pretty(value))?
        ))
    }

    /// One line of NDJSON.
    pub(super) fn print_line(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        self.print(&format!("{}\n", to_json(serde_json::to_string(value))?))
    }
}

fn to_json(text: serde_json::Result<String>) -> Result<String, CliError> {
    text.map_err(|error| CliError::Protocol {
        detail: format!("not expressible in JSON: {error}"),
    })
}

/// Does what `cli` says. Exit code 0: done; 1: refused or failed, and stderr says what to do next.
/// (Code 2, wrong usage, is [`parse`](super::parse)'s.)
pub async fn run<C: Commands>(cli: Cli, commands: &C, console: &mut Console<'_>) -> ExitCode {
    let error = match dispatch(cli, commands, console).await {
        Ok(()) | Err(CliError::OutputClosed) => return ExitCode::SUCCESS,
        Err(error) => error,
    };
    let remedy = error
        .remedy()
        .map(|text| format!("  next: {text}\n"))
        .unwrap_or_default();
    let text = match &error {
        CliError::BadFile(all) => format!("{all}\n"),
        other => format!("rais: {other}\n{remedy}"),
    };
    // Without a stderr there is nobody to tell; the exit code still does.
    let _ = console
        .err
        .write_all(text.as_bytes())
        .and_then(|()| console.err.flush());
    ExitCode::FAILURE
}

async fn dispatch<C: Commands>(
    cli: Cli,
    commands: &C,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let data_dir = cli.data_dir;
    match cli.command {
        Command::Demo(args) => commands.demo(args).await,
        Command::Init(args) => {
            let text = commands.init(&data_dir, args).await?;
            console.print(&text)
        }
        Command::Join(args) => {
            let text = commands.join(&data_dir, args).await?;
            console.print(&text)
        }
        Command::Warden | Command::Runner => Err(CliError::failed(
            "wardens and runners are started by their node",
            "run `rais node --config FILE`",
        )),
        Command::Chaos { words } => Err(super::chaos::hand_over(&words)),
        Command::Node { config } => commands.node(load_host(&config)?, config).await,
        Command::Check { file, look } => check(&file, look, console),
        Command::Cert(CertCommand::Show(look)) => super::cert::show(&data_dir, look, console),
        // A bad file is told before a daemon is looked for.
        Command::Group(GroupCommand::Apply {
            file,
            dry_run,
            look,
        }) => {
            let policy = read_policy(&file)?;
            let doors = commands.connect(&data_dir).await?;
            apply(policy, dry_run, look, &doors, console).await
        }
        Command::Timing(command) => super::timing::run(command, commands, &data_dir, console).await,
        command => {
            let doors = commands.connect(&data_dir).await?;
            ask(command, &doors, console).await
        }
    }
}

/// The commands that are one question to a daemon.
async fn ask<D: Doors>(
    command: Command,
    doors: &D,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    match command {
        Command::Events(args) => return events(args, doors, console).await,
        Command::Zone { group, push, look } if push.rfc2136.is_some() => {
            return super::push::run(group, push, look, doors, console).await;
        }
        Command::Status(look) => {
            return with_status(look, doors, console, |status| json!(status), render::status).await;
        }
        Command::Hosts(look) => {
            return with_status(
                look,
                doors,
                console,
                |status| json!(status.hosts),
                render::hosts,
            )
            .await;
        }
        Command::Groups(look) => {
            return with_status(
                look,
                doors,
                console,
                |status| json!(status.groups),
                render::groups,
            )
            .await;
        }
        Command::Addresses(look) => {
            return with_status(look, doors, console, addresses_json, render::addresses).await;
        }
        _ => {}
    }
    let (request, look) = request(command)?;
    let response = doors.call(request).await?;
    answer(response, look, console)
}

/// The request that a command stands for.
fn request(command: Command) -> Result<(Request, Look), CliError> {
    Ok(match command {
        Command::Zone { group, look, .. } => (Request::Zone { group }, look),
        Command::Why { address, look } => (Request::Why { address }, look),
        Command::Plan { suppose, look } if suppose.len() <= crate::api::MAX_HYPOTHESES => (
            Request::Plan {
                hypotheses: suppose,
            },
            look,
        ),
        Command::Plan { .. } => {
            return Err(CliError::failed(
                "too many suppositions",
                "suppose at most 16 things at once",
            ));
        }
        Command::Quiesce { member, drain } => (
            Request::Quiesce {
                host: member.host,
                group: member.group,
                drain,
            },
            member.look,
        ),
        Command::Resume(member) => (
            Request::Resume {
                host: member.host,
                group: member.group,
            },
            member.look,
        ),
        Command::Tests(look) => (Request::Tests, look),
        Command::Traps {
            command: Some(TrapsCommand::Test { group, look }),
            ..
        } => (Request::TrapsTest { group }, look),
        Command::Traps { look, .. } => (Request::Traps, look),
        Command::Audit(look) => (Request::Audit, look),
        Command::Cert(CertCommand::Renew(look)) => (Request::CertRenew, look),
        Command::Move { address, to, look } => (Request::Move { address, to }, look),
        Command::Group(GroupCommand::Show { group, look, .. }) => {
            (Request::GroupShow { group }, look)
        }
        Command::Group(GroupCommand::Delete { group, look }) => {
            (Request::GroupDelete { group }, look)
        }
        Command::Forget { host, look } => (Request::Forget { host }, look),
        Command::TransferLeader { host, look } => (Request::TransferLeader { host }, look),
        Command::Token(TokenCommand::Create { ttl, uses, look }) => (
            Request::TokenCreate {
                ttl_s: ttl.0.div_ceil(1_000),
                uses,
            },
            look,
        ),
        other => {
            return Err(CliError::failed(
                format!("{other:?} is not a question to a daemon"),
                "please report this as a fault of rais",
            ));
        }
    })
}

/// Prints the answer to one question.
fn answer(response: Response, look: Look, console: &mut Console<'_>) -> Result<(), CliError> {
    let style = console.style;
    match response {
        Response::Zone(zone) if look.json => console.print_json(&zone),
        Response::Zone(zone) => {
            let followed = super::follow::followed(zone.followed.as_ref(), style);
            console.print(&(render::zone(&zone, style) + &followed))
        }
        Response::Tests(tests) if look.json => console.print_json(&tests),
        Response::Tests(tests) => console.print(&render::tests(&tests, style)),
        Response::Traps(traps) if look.json => console.print_json(&traps),
        Response::Traps(traps) => console.print(&super::traps::targets(&traps, style)),
        Response::Tried(tried) => super::traps::tried(&tried, look, console),
        Response::Why(why) if look.json => console.print_json(&why),
        Response::Why(why) => console.print(&render::why(&why, style)),
        Response::Audit(audit) => {
            match look.json {
                true => console.print_json(&audit)?,
                false => console.print(&render::audit(&audit, style))?,
            }
            match audit.broken.len() {
                0 => Ok(()),
                count => Err(CliError::failed(
                    format!("{count} found broken at index {}", audit.index),
                    "an array in motion settles within seconds: audit again; what stays is a fault, please report it",
                )),
            }
        }
        Response::Plan(plan) if look.json => console.print_json(&plan),
        Response::Plan(plan) => console.print(&render::plan(&plan, style)),
        Response::Group { policy, generation } if look.json => {
            console.print_json(&json!({"policy": policy, "generation": generation}))
        }
        Response::Group { policy, .. } => console.print(&policy_to_toml(&policy)),
        Response::Done { index, words } if look.json => {
            console.print_json(&json!({"done": words, "index": index}))
        }
        Response::Done { words, index } => {
            let at = index
                .map(|index| format!(" (log index {index})"))
                .unwrap_or_default();
            console.print(&format!("{words}{at}\n"))
        }
        Response::Token {
            token,
            expires,
            uses,
        } if look.json => {
            console.print_json(&json!({"token": token, "expires": expires, "uses": uses}))
        }
        Response::Token {
            token,
            expires,
            uses,
        } => {
            let hosts = if uses == 1 {
                "one host".to_owned()
            } else {
                format!("{uses} hosts")
            };
            console.print(&format!("{token}\n"))?;
            let _ = writeln!(
                console.err,
                "good for {hosts} until {expires}; use it with `rais join --token TOKEN --peer …`"
            );
            Ok(())
        }
        other => Err(CliError::unexpected(other)),
    }
}

/// The commands that show a part of the status.
async fn with_status<D: Doors>(
    look: Look,
    doors: &D,
    console: &mut Console<'_>,
    pick: fn(&Status) -> serde_json::Value,
    draw: fn(&Status, Style) -> String,
) -> Result<(), CliError> {
    match doors.call(Request::Status).await? {
        Response::Status(status) if look.json => console.print_json(&pick(&status)),
        Response::Status(status) => console.print(&draw(&status, console.style)),
        other => Err(CliError::unexpected(other)),
    }
}

/// The addresses as in the status, each with its group.
fn addresses_json(status: &Status) -> serde_json::Value {
    let mut all = Vec::new();
    for group in &status.groups {
        for address in &group.addresses {
            let mut value = json!(address);
            value["group"] = json!(group.name);
            all.push(value);
        }
    }
    serde_json::Value::Array(all)
}

async fn events<D: Doors>(
    args: EventsArgs,
    doors: &D,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let past = match doors
        .call(Request::Events {
            since: args.since,
            limit: args.limit,
        })
        .await?
    {
        Response::Events(past) => past,
        other => return Err(CliError::unexpected(other)),
    };
    for one in &past {
        print_event(one, args.look, console)?;
    }
    if !args.follow {
        let silent = past.is_empty() && !args.look.json;
        return if silent {
            console.print(&render::events(&past, console.style))
        } else {
            Ok(())
        };
    }
    // Go on where the past ended, so that nothing falls between the two questions.
    let since = past.last().map(|one| one.index).or(args.since);
    let mut stream = doors.follow(since).await?;
    while let Some(one) = stream.next().await? {
        print_event(&one, args.look, console)?;
    }
    Err(CliError::failed(
        "the daemon closed the stream of events",
        "`rais status` shows whether it still runs; then follow again",
    ))
}

fn print_event(
    one: &crate::api::EventRecord,
    look: Look,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    if look.json {
        console.print_line(one)
    } else {
        console.print(&render::event(one, console.style))
    }
}

/// The policy in `file`, or what is wrong with it.
fn read_policy(file: &Path) -> Result<statemachine::Policy, CliError> {
    match check_file(file)? {
        ConfigFile::Policy(policy) => Ok(*policy),
        ConfigFile::Host(_) => Err(CliError::failed(
            format!(
                "{} is a host configuration, not a group's policy",
                file.display()
            ),
            "a host's file is read by `rais node --config FILE`; a policy has `zone`",
        )),
        ConfigFile::Timing(_) => Err(CliError::failed(
            format!("{} is a timing, not a group's policy", file.display()),
            "apply it with `rais timing apply FILE`; a policy has `zone`",
        )),
    }
}

/// `rais group apply`: asks what would change, shows it, then applies exactly that.
async fn apply<D: Doors>(
    policy: statemachine::Policy,
    dry_run: bool,
    look: Look,
    doors: &D,
    console: &mut Console<'_>,
) -> Result<(), CliError> {
    let group = policy.name.0.clone();
    let dry = Request::GroupApply {
        policy: Box::new(policy.clone()),
        seen: None,
        dry_run: true,
    };
    let (changes, seen) = match doors.call(dry).await? {
        Response::GroupApplied { changes, seen, .. } => (changes, seen),
        other => return Err(CliError::unexpected(other)),
    };
    if !look.json {
        let shown = if changes.is_empty() {
            "nothing changes\n".to_owned()
        } else {
            format!("{}\n", changes.join("\n"))
        };
        console.print(&shown)?;
    }
    let mut index = None;
    if !dry_run && !changes.is_empty() {
        let real = Request::GroupApply {
            policy: Box::new(policy),
            seen,
            dry_run: false,
        };
        match doors.call(real).await? {
            Response::GroupApplied { index: at, .. } | Response::Done { index: at, .. } => {
                index = at
            }
            other => return Err(CliError::unexpected(other)),
        }
    }
    if look.json {
        return console.print_json(
            &json!({"group": group, "changes": changes, "seen": seen, "index": index}),
        );
    }
    match index {
        Some(index) => console.print(&format!("group {group} applied (log index {index})\n")),
        None if dry_run => console.print("not applied: this was a dry run\n"),
        None => Ok(()),
    }
}

/// `rais check`: needs no daemon.
fn check(file: &Path, look: Look, console: &mut Console<'_>) -> Result<(), CliError> {
    let checked = check_file(file);
    if look.json {
        let (kind, mistakes) = match &checked {
            Ok(ConfigFile::Host(_)) => (Some("host"), Vec::new()),
            Ok(ConfigFile::Policy(_)) => (Some("policy"), Vec::new()),
            Ok(ConfigFile::Timing(_)) => (Some("timing"), Vec::new()),
            Err(all) => (None, all.found().iter().map(|one| json!({"line": one.line, "column": one.column, "what": one.what, "remedy": one.remedy})).collect()),
        };
        console.print_json(&json!({"file": file.display().to_string(), "ok": checked.is_ok(), "kind": kind, "mistakes": mistakes}))?;
        return checked.map(|_| ()).map_err(CliError::from);
    }
    let text = match checked? {
        ConfigFile::Host(host) => {
            let groups: Vec<&str> = host
                .members
                .iter()
                .map(|member| member.group.as_str())
                .collect();
            let part = if host.observer {
                "an observer".to_owned()
            } else {
                format!(
                    "in groups: {}",
                    if groups.is_empty() {
                        "none".to_owned()
                    } else {
                        groups.join(", ")
                    }
                )
            };
            format!("a good host configuration: {}, {part}", host.name)
        }
        ConfigFile::Policy(policy) => {
            format!(
                "a good group policy: {}, zone {}, {} tests, {} loads",
                policy.name,
                policy.zone,
                policy.tests.len(),
                policy.loads.len()
            )
        }
        ConfigFile::Timing(timing) => format!(
            "a safe timing: heartbeat {} ms, suspicion {} ms, lease {} ms",
            timing.heartbeat_ms, timing.suspect_ms, timing.lease_ms
        ),
    };
    console.print(&format!("{}: {text}\n", file.display()))
}
