//! The command line as a person meets it: help, usage, answers, refusals.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use super::*;
use crate::api::{AuditReport, EventRecord, Problem, ProblemKind, Request, Response};
use crate::config::HostConfig;

/// A daemon that answers from a list and remembers what it was asked.
#[derive(Default)]
struct Fake {
    answers: RefCell<VecDeque<Response>>,
    asked: RefCell<Vec<Request>>,
    away: bool,
}

struct FakeDoors<'a>(&'a Fake);
struct FakeEvents(VecDeque<EventRecord>);

impl Doors for FakeDoors<'_> {
    type Events = FakeEvents;

    async fn call(&self, request: Request) -> Result<Response, CliError> {
        self.0.asked.borrow_mut().push(request);
        self.0
            .answers
            .borrow_mut()
            .pop_front()
            .ok_or_else(|| CliError::Protocol {
                detail: "no answer left".to_owned(),
            })
    }

    async fn follow(&self, since: Option<u64>) -> Result<FakeEvents, CliError> {
        self.0
            .asked
            .borrow_mut()
            .push(Request::FollowEvents { since });
        Ok(FakeEvents(VecDeque::from([sample::event()])))
    }
}

impl EventStream for FakeEvents {
    async fn next(&mut self) -> Result<Option<EventRecord>, CliError> {
        Ok(self.0.pop_front())
    }
}

impl<'a> Commands for &'a Fake {
    type Doors = FakeDoors<'a>;

    async fn connect(&self, data_dir: &Path) -> Result<FakeDoors<'a>, CliError> {
        if self.away {
            Err(CliError::NoArray {
                data_dir: data_dir.to_owned(),
            })
        } else {
            Ok(FakeDoors(self))
        }
    }

    async fn init(&self, data_dir: &Path, args: InitArgs) -> Result<String, CliError> {
        Ok(format!(
            "{} {} {}\n",
            data_dir.display(),
            args.name,
            args.control.len()
        ))
    }

    async fn join(&self, _: &Path, args: JoinArgs) -> Result<String, CliError> {
        Ok(args.token)
    }

    async fn node(&self, _: HostConfig, _: PathBuf) -> Result<(), CliError> {
        Ok(())
    }

    async fn demo(&self, _: DemoArgs) -> Result<(), CliError> {
        Ok(())
    }
}

/// What a run printed and how it ended.
struct Seen {
    out: String,
    err: String,
    good: bool,
}

/// Types `words` at a daemon with these answers.
fn type_in(fake: &Fake, words: &[&str]) -> Seen {
    let cli = Cli::try_parse_from(["rais"].iter().chain(words)).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console = Console {
        out: &mut out,
        err: &mut err,
        style: Style::PLAIN,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let code = runtime.block_on(run(cli, &fake, &mut console));
    Seen {
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
        good: code == ExitCode::SUCCESS,
    }
}

fn answering(answers: impl IntoIterator<Item = Response>) -> Fake {
    Fake {
        answers: RefCell::new(answers.into_iter().collect()),
        ..Fake::default()
    }
}

/// A file with `text` that lasts as long as the value.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rais-cli-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Goal: nobody has to guess how a command is typed.
/// Method: the long help of every command, subcommands included, has an example of itself.
#[test]
fn every_command_has_help_with_an_example_that_parses() {
    let mut rais = Cli::command();
    rais.build();
    rais.clone().debug_assert();
    let mut open: Vec<(String, clap::Command)> = vec![("rais".to_owned(), rais)];
    let mut count = 0;
    while let Some((path, mut command)) = open.pop() {
        assert!(
            command.render_long_help().to_string().contains("Example:"),
            "`{path}` has no example"
        );
        let after = command.get_after_help().unwrap().to_string();
        let (_, example) = after.split_once("Example:\n").unwrap();
        let line = example.lines().next().unwrap().trim();
        assert!(line.starts_with(&path), "{path}: {line}");
        let line = line.split("     ").next().unwrap();
        let words = shell_words(line.split(" | ").next().unwrap());
        Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{line}: {error}"));
        open.extend(
            command
                .get_subcommands()
                .filter(|sub| sub.get_name() != "help")
                .map(|sub| (format!("{path} {}", sub.get_name()), sub.clone())),
        );
        count += 1;
    }
    assert_eq!(count, 38, "a command came or went: is it in the contract?");
}

/// Goal: an audit that found something fails, so that a script notices; a clean one does not.
/// Method: both, as text and as JSON.
#[test]
fn an_audit_that_found_something_fails_and_says_what() {
    let clean = AuditReport {
        broken: Vec::new(),
        ..sample::audit()
    };
    for words in [&["audit"][..], &["audit", "--json"]] {
        let bad = type_in(&answering([Response::Audit(sample::audit())]), words);
        assert!(!bad.good && bad.err.contains("1 found broken at index 41"));
        assert!(bad.out.contains("h2 is up and gave no testimony"));
        let good = type_in(&answering([Response::Audit(clean.clone())]), words);
        assert!(good.good && good.err.is_empty(), "{}", good.err);
    }
    let text = audit(&sample::audit(), Style::PLAIN);
    assert!(text.contains("h2    silent"), "{text}");
    assert!(text.contains("h3    down, not asked"), "{text}");
}

/// Splits a line as a shell would, as far as our examples need it: `"…"` and `>`.
fn shell_words(line: &str) -> Vec<String> {
    let line = line.split(" > ").next().unwrap();
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

/// Goal: the contract's commands exist as it spells them.
/// Method: parse each; then wrong usage, which is exit code 2.
#[test]
fn the_commands_of_the_contract_are_understood_and_nonsense_is_usage() {
    let good = "demo --hosts 3 --dir /d --dns-port 5300 --http-port 8077 --for 9|demo --restart h2 --dir /d|\
        init --data-dir /d --name h1 --control 10.0.0.1:7400,10.1.0.1:7400|token create --ttl 1h --uses 1|\
        join --data-dir /d --name h2 --control 10.0.0.2:7400 --token T --peer 10.0.0.1:7400|node --config f|check f|\
        status|hosts --json|addresses|groups|zone web|zone web --rfc2136 10.0.0.53:53 --in-zone example. --key k --secret-file /f --follow|events --follow --json|why 10.0.0.1|plan|audit --json|quiesce h1 --group web --drain|\
        resume h1|move 10.0.0.1 --to h2|group apply f|group show web --toml|group delete web|forget h2|transfer-leader h2";
    for line in good.split('|') {
        let words = ["rais"].into_iter().chain(line.split_whitespace());
        assert!(Cli::try_parse_from(words).is_ok(), "{line}");
    }
    let bad = "|nonsense|init --name H1 --control 10.0.0.1:7400|init --name h1 --control 10.0.0.1|why web|plan --if x|\
        token create --ttl 5|zone|zone web --follow|zone web --rfc2136 10.0.0.53:53 --key k|demo --restart h1|demo --hosts 0|token create --uses 0|group|demo --dns-port 0";
    for line in bad.split('|') {
        let words = ["rais"].into_iter().chain(line.split_whitespace());
        assert_eq!(
            Cli::try_parse_from(words).unwrap_err().exit_code(),
            2,
            "{line}"
        );
    }
    let told = Cli::try_parse_from(["rais", "plan", "--if", "explode h2"])
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("`explode` can't be supposed; write `down HOST`"),
        "{told}"
    );
}

/// Goal: a person sees at once how the array is.
/// Method: a status with a host down, and the same without a quorum, with an unserved address.
#[test]
fn status_is_a_readable_table_and_loud_when_the_quorum_is_gone() {
    let text = status(&sample::status(), Style::PLAIN);
    assert!(text.contains("leader h1  term 3  quorum yes"), "{text}");
    assert!(text.contains("HOST  ID  STATE  ROLE    HEARD  LEASE   GATE      CONTROL\nh1    1   up     leader  41 ms  259 ms  nftables  10.77.0.1:7400\nh2    12  down   voter   -      -"), "{text}");
    assert!(text.contains("group web  zone web.example. serial 17 publishes 10.77.0.101"));
    assert!(
        text.contains("10.77.0.102  online  h3    h2    4      in 29 d"),
        "{text}"
    );
    assert!(!text.contains("NO QUORUM") && !text.contains('\u{1b}'));
    let mut lost = sample::status();
    lost.quorum = false;
    lost.leader = None;
    lost.groups[0].addresses[1].state = crate::api::AddressWord::Unserved;
    let text = status(&lost, Style { colour: true });
    assert!(text.starts_with("\u{1b}[1;31mNO QUORUM"), "{text}");
    assert!(text.contains("UNSERVED: 10.77.0.102  (`rais why 10.77.0.102` says why)"));
}

/// Goal: the other answers read well, and hostile text can't play with the terminal.
/// Method: fixed values, one with an escape sequence.
#[test]
fn other_answers_read_well() {
    assert_eq!(
        event(&sample::event(), Style::PLAIN),
        "2026-11-21T05:52:01.123Z      40  hostDown        h2  silent for 301 ms  [detect 301 ms, fence 2 ms]\n"
    );
    let text = why(&sample::why(), Style::PLAIN);
    assert!(text.starts_with("10.77.0.102 of group web is online, held by h3, epoch 4, for 12.3 s\n  preferred host  h2\n  because         this hot spare was free"), "{text}");
    assert!(
        text.contains("h2         passed over because it is down\nh3         chosen because"),
        "{text}"
    );
    let text = plan(&sample::plan(), Style::PLAIN);
    assert_eq!(
        text,
        "supposing: down h1\n  1. give 10.77.0.101 to h3\n     Address(Assign)\n"
    );
    let text = zone(&sample::zone(), Style::PLAIN);
    assert!(
        text.contains("web.example.  5    IN  A     10.77.0.101")
            && text.contains("its host is down"),
        "{text}"
    );
    let mut hostile = sample::event();
    hostile.reason = Some("\u{1b}[2J".to_owned());
    assert!(!event(&hostile, Style::PLAIN).contains('\u{1b}'));
    assert!(addresses(&sample::status(), Style::PLAIN).contains("web    10.77.0.101  online  h1"));
}

/// Goal: JSON answers are the contract's, on one document or as NDJSON.
/// Method: status, addresses and events through the whole command line.
#[test]
fn json_answers_parse() {
    let fake = answering([Response::Status(Box::new(sample::status()))]);
    let seen = type_in(&fake, &["status", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&seen.out).unwrap();
    assert_eq!(
        value["groups"][0]["addresses"][0]["orphan_expires_s"],
        serde_json::Value::Null
    );
    let fake = answering([Response::Status(Box::new(sample::status()))]);
    let value: serde_json::Value =
        serde_json::from_str(&type_in(&fake, &["addresses", "--json"]).out).unwrap();
    assert_eq!(
        (&value[1]["group"], &value[1]["host"]),
        (&"web".into(), &"h3".into())
    );
    let fake = answering([Response::Events(vec![sample::event(), sample::event()])]);
    let seen = type_in(&fake, &["events", "--json"]);
    assert_eq!(seen.out.lines().count(), 2);
    assert!(
        seen.out
            .lines()
            .all(|line| serde_json::from_str::<EventRecord>(line).is_ok())
    );
}

/// Goal: following begins where the past ended, and its end is an error.
/// Method: one past event, one new one, then the stream closes.
#[test]
fn following_leaves_no_gap() {
    let fake = answering([Response::Events(vec![sample::event()])]);
    let seen = type_in(&fake, &["events", "--follow"]);
    assert_eq!(
        fake.asked.borrow()[1],
        Request::FollowEvents { since: Some(40) }
    );
    assert_eq!((seen.out.lines().count(), seen.good), (2, false));
    assert!(seen.err.contains("closed the stream"), "{}", seen.err);
}

/// Goal: a refusal is exit code 1 and says what to do; so is an absent daemon.
/// Method: a problem from the daemon, an answer of the wrong kind, no array.
#[test]
fn refusals_go_to_stderr_with_what_to_do_next() {
    let problem = Problem::new(
        ProblemKind::NotFound,
        "refused",
        "host h9 is not in the array",
        "`rais hosts` lists the hosts",
    );
    let seen = type_in(
        &answering([Response::Refused { problem }]),
        &["forget", "h9"],
    );
    assert_eq!((seen.out.as_str(), seen.good), ("", false));
    assert_eq!(
        seen.err,
        "rais: refused: host h9 is not in the array\n  next: `rais hosts` lists the hosts\n"
    );
    let seen = type_in(
        &answering([Response::Status(Box::new(sample::status()))]),
        &["forget", "h9"],
    );
    assert!(
        seen.err
            .contains("an answer of the kind Status was not asked for"),
        "{}",
        seen.err
    );
    let seen = type_in(
        &Fake {
            away: true,
            ..Fake::default()
        },
        &["--data-dir", "/nowhere", "status"],
    );
    assert!(
        seen.err.contains("no array in /nowhere") && seen.err.contains("--data-dir"),
        "{}",
        seen.err
    );
}

/// Goal: `group apply` shows the difference first and applies exactly what it showed.
/// Method: the generation of the dry run goes into the real request; a dry run stops before it.
#[test]
fn group_apply_shows_the_difference_then_applies_it() {
    let file = TempFile::new("apply.toml", "name = 'web'\nzone = 'web.example.'\n");
    let dry = || Response::GroupApplied {
        changes: vec!["~ ttl = \"5s\" -> \"9s\"".to_owned()],
        seen: Some(7),
        index: None,
    };
    let done = Response::GroupApplied {
        changes: Vec::new(),
        seen: Some(7),
        index: Some(43),
    };
    let fake = answering([dry(), done]);
    let seen = type_in(&fake, &["group", "apply", file.path()]);
    assert_eq!(
        seen.out,
        "~ ttl = \"5s\" -> \"9s\"\ngroup web applied (log index 43)\n"
    );
    assert!(matches!(
        &fake.asked.borrow()[1],
        Request::GroupApply {
            seen: Some(7),
            dry_run: false,
            ..
        }
    ));
    let fake = answering([dry()]);
    let seen = type_in(&fake, &["group", "apply", file.path(), "--dry-run"]);
    assert!(seen.good && seen.out.ends_with("not applied: this was a dry run\n"));
    let fake = answering([Response::GroupApplied {
        changes: Vec::new(),
        seen: Some(7),
        index: None,
    }]);
    assert_eq!(
        type_in(&fake, &["group", "apply", file.path()]).out,
        "nothing changes\n"
    );
}

/// Goal: `rais check` needs no daemon and points at the mistake.
/// Method: a good and a bad policy, a missing file, JSON.
#[test]
fn check_works_alone_and_points_at_line_and_column() {
    let away = Fake {
        away: true,
        ..Fake::default()
    };
    let good = TempFile::new("good.toml", "name = 'web'\nzone = 'web.example.'\n");
    let seen = type_in(&away, &["check", good.path()]);
    assert!(
        seen.good
            && seen
                .out
                .contains("a good group policy: web, zone web.example."),
        "{}",
        seen.out
    );
    let bad = TempFile::new("bad.toml", "name = 'web'\nzone = 'web.example'\n");
    let seen = type_in(&away, &["check", bad.path()]);
    assert!(
        !seen.good
            && seen.err.contains(
                "bad.toml:2:8: the zone `web.example` does not end in a dot; write `web.example.`"
            ),
        "{}",
        seen.err
    );
    let seen = type_in(&away, &["check", bad.path(), "--json"]);
    let value: serde_json::Value = serde_json::from_str(&seen.out).unwrap();
    assert_eq!(
        (&value["ok"], &value["mistakes"][0]["line"]),
        (&false.into(), &2.into())
    );
    let seen = type_in(&away, &["check", "/nowhere/x.toml"]);
    assert!(
        seen.err.contains("can't read the file") && seen.err.contains("check the path"),
        "{}",
        seen.err
    );
    let host = TempFile::new(
        "host.toml",
        "name = 'h1'\ndata_dir = '/d'\n[control]\nlisten = ['10.0.0.1:7400']\n",
    );
    assert!(type_in(&away, &["check", host.path()]).good);
    let seen = type_in(&Fake::default(), &["group", "apply", host.path()]);
    assert!(
        seen.err
            .contains("is a host configuration, not a group's policy"),
        "{}",
        seen.err
    );
}

/// Goal: what a policy shows can be applied again; a token alone stands on stdout for scripts.
/// Method: `group show`, `token create`.
#[test]
fn answers_can_be_piped_on() {
    let policy = statemachine::Policy::new("web", "web.example.");
    let fake = answering([Response::Group {
        policy: Box::new(policy.clone()),
        generation: 3,
    }]);
    let seen = type_in(&fake, &["group", "show", "web", "--toml"]);
    assert_eq!(crate::config::parse_policy("f", &seen.out), Ok(policy));
    let fake = answering([Response::Token {
        token: "rais1-x".to_owned(),
        expires: crate::api::WallTime(0),
        uses: 1,
    }]);
    let seen = type_in(&fake, &["token", "create", "--ttl", "90s"]);
    assert_eq!(seen.out, "rais1-x\n");
    assert_eq!(
        fake.asked.borrow()[0],
        Request::TokenCreate { ttl_s: 90, uses: 1 }
    );
    assert!(
        seen.err
            .contains("good for one host until 1970-01-01T00:00:00.000Z")
    );
}

/// Goal: `timing apply` shows the difference, applies it only against what it compared, and refuses an unsafe
/// file with the arithmetic before a daemon is looked for.
/// Method: a preset, a dry run, no change, an unsafe file.
#[test]
fn timing_apply_shows_the_difference_and_refuses_what_is_unsafe() {
    let file = TempFile::new("timing.toml", "preset = 'lan'\nsuspect = '500ms'\n");
    let show = || Response::Timing(sample::timing());
    let done = Response::Done {
        index: Some(43),
        words: "the timing is changed".to_owned(),
    };
    let fake = answering([show(), done]);
    let seen = type_in(&fake, &["timing", "apply", file.path()]);
    assert!(
        seen.out
            .starts_with("~ suspect = \"300ms\" -> \"500ms\"\ntiming applied (log index 43)"),
        "{}",
        seen.out
    );
    let timing = statemachine::Timing {
        suspect_ms: 500,
        ..statemachine::Timing::LAN
    };
    let apply = Request::TimingApply {
        timing,
        seen: statemachine::Timing::LAN,
    };
    assert_eq!(fake.asked.borrow()[1], apply);
    let dry = type_in(
        &answering([show()]),
        &["timing", "apply", file.path(), "--dry-run"],
    );
    assert!(dry.good && dry.out.ends_with("not applied: this was a dry run\n"));
    let same = TempFile::new("lan.toml", "preset = 'lan'\n");
    let seen = type_in(&answering([show()]), &["timing", "apply", same.path()]);
    assert_eq!((seen.out.as_str(), seen.good), ("nothing changes\n", true));
    let away = Fake {
        away: true,
        ..Fake::default()
    };
    let bad = TempFile::new("unsafe.toml", "preset = 'lan'\nlease = '200ms'\n");
    let seen = type_in(&away, &["timing", "apply", bad.path()]);
    let words = "unsafe.toml:2:9: unsafe timing: usable lease 180 ms (90 % of 200 ms) < 2 x heartbeat 100 ms + 30 ms = 230 ms";
    assert!(!seen.good && seen.err.contains(words), "{}", seen.err);
}

/// Goal: what `timing show` shows can be applied again, and says when a change is not settled.
#[test]
fn timing_show_is_for_people_tools_and_files() {
    let show = |words: &[&str]| type_in(&answering([Response::Timing(sample::timing())]), words);
    let shown = show(&["timing", "show"]);
    for words in [
        "preset lan",
        "heartbeat",
        "100ms",
        "270 ms",
        "not settled",
        "up to 4s",
    ] {
        assert!(shown.out.contains(words), "{words}: {}", shown.out);
    }
    let toml = show(&["timing", "show", "--toml"]).out;
    let read = crate::config::parse_timing("t", &toml);
    assert_eq!(read, Ok(statemachine::Timing::LAN));
    let json: serde_json::Value =
        serde_json::from_str(&show(&["timing", "show", "--json"]).out).unwrap();
    assert_eq!(json["timing"]["lease"], "300ms");
    assert_eq!(
        (&json["preset"], &json["settled"]),
        (&"lan".into(), &false.into())
    );
}

/// Goal: `rais init --timing` takes a preset's name or a file.
#[test]
fn init_takes_a_preset_or_a_file() {
    let file = TempFile::new("init.toml", "preset = 'wan'\nsuspect = '6s'\n");
    let rows = [("fast", 60), (file.path(), 6_000)];
    for (named, suspect_ms) in rows {
        let choice = TimingChoice::read(named).unwrap();
        assert_eq!(choice.timing().unwrap().suspect_ms, suspect_ms);
    }
    assert!(TimingChoice::read("").is_err());
    let nowhere = TimingChoice::read("/nowhere/t.toml").unwrap().timing();
    assert!(matches!(nowhere, Err(CliError::BadFile(_))));
}
