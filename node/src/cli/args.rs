//! Every command of `rais`, its options and its help, exactly as interface.md has them.
//!
//! Values are checked while they are read (addresses, names, durations), so a slip is a usage
//! error with exit code 2 and never reaches a daemon. Each command's help ends in an example.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dns::tsig::{Algorithm, Key};
use statemachine::Timing;

use super::error::CliError;
use super::timing::TimingChoice;
use crate::api::Hypothesis;
use crate::config::{DnsKey, Millis, duration, group_name, host_name, socket, zone_name};

/// A redundant array of independent servers: service addresses that survive their hosts.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "rais",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(
    after_help = "Example:\n  rais demo                 a whole array on this machine, no root\n  rais status               how the array is\n\nExit codes: 0 done, 1 refused or failed, 2 wrong usage."
)]
pub struct Cli {
    /// Directory of the daemon to talk to, or to set up
    #[arg(
        long,
        global = true,
        env = "RAIS_DATA_DIR",
        default_value = "/var/lib/rais",
        value_name = "DIR"
    )]
    pub data_dir: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `rais` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run a whole array on this machine, without root
    #[command(
        after_help = "Example:\n  rais demo --hosts 3\n  rais demo --for 30\n  rais demo --restart h2 --dir /tmp/array     start a killed host again"
    )]
    Demo(DemoArgs),
    /// Start a new array with this host as its first member
    #[command(
        after_help = "Example:\n  rais init --data-dir /var/lib/rais --name h1 --control 10.77.0.1:7400,10.78.0.1:7400"
    )]
    Init(InitArgs),
    /// Make join tokens
    #[command(
        subcommand,
        after_help = "Example:\n  rais token create --ttl 1h --uses 1"
    )]
    Token(TokenCommand),
    /// Join an array: get a certificate for this host
    #[command(
        after_help = "Example:\n  rais join --data-dir /var/lib/rais --name h2 --control 10.77.0.2:7400 --token TOKEN --peer 10.77.0.1:7400"
    )]
    Join(JoinArgs),
    /// Run the daemon
    #[command(after_help = "Example:\n  rais node --config /etc/rais/rais.toml")]
    Node {
        /// The host's configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Hold service addresses for a node, which starts it; not for typing
    #[command(
        after_help = "Example:\n  rais warden     its standard input is a socket of the node's"
    )]
    Warden,
    /// Run the programs of tests and scripts for a node, which starts it; not for typing
    #[command(
        after_help = "Example:\n  rais runner     its standard input is a socket of the node's"
    )]
    Runner,
    /// Validate a host configuration, a group policy or a timing
    #[command(after_help = "Example:\n  rais check /etc/rais/rais.toml\n  rais check web.toml")]
    Check {
        /// The file
        file: PathBuf,
        /// How to answer.
        #[command(flatten)]
        look: Look,
    },
    /// Show the whole array
    #[command(after_help = "Example:\n  rais status\n  rais status --json | jq .leader")]
    Status(Look),
    /// Show the hosts
    #[command(after_help = "Example:\n  rais hosts")]
    Hosts(Look),
    /// Show the service addresses
    #[command(after_help = "Example:\n  rais addresses --json")]
    Addresses(Look),
    /// Show the service groups and their members
    #[command(after_help = "Example:\n  rais groups")]
    Groups(Look),
    /// Show what this host tests and measures of its own services, and what it found
    #[command(
        after_help = "Example:\n  rais tests\n  rais tests --json | jq '.tests[] | select(.good | not)'"
    )]
    Tests(Look),
    /// Show a group's zone: every record, and why each address is in or out; or push it elsewhere
    #[command(
        after_help = "Example:\n  rais zone web\n  rais zone web --rfc2136 10.77.0.53:53 --key push-key --secret-file /etc/rais/push-key --follow"
    )]
    Zone {
        /// The group
        #[arg(value_parser = group_name)]
        group: String,
        /// Where to push it.
        #[command(flatten)]
        push: PushArgs,
        /// How to answer.
        #[command(flatten)]
        look: Look,
    },
    /// Show what happened
    #[command(after_help = "Example:\n  rais events\n  rais events --follow --json")]
    Events(EventsArgs),
    /// Show who is told of events, SNMP managers and webhooks, and what became of it; or try them
    #[command(after_help = "Example:\n  rais traps\n  rais traps test web")]
    Traps {
        /// Instead of showing.
        #[command(subcommand)]
        command: Option<TrapsCommand>,
        /// How to answer.
        #[command(flatten)]
        look: Look,
    },
    /// Say why an address is where it is and what happens next
    #[command(after_help = "Example:\n  rais why 10.77.0.101")]
    Why {
        /// The address
        address: IpAddr,
        /// How to answer.
        #[command(flatten)]
        look: Look,
    },
    /// Show what the leader would do now, changing nothing
    #[command(
        after_help = "Example:\n  rais plan\n  rais plan --if \"down h2\" --if \"quiesce h3 web\""
    )]
    Plan {
        /// Suppose this: `down HOST`, `up HOST`, `quiesce HOST [GROUP]`, `resume HOST [GROUP]`; may be repeated
        #[arg(long = "if", value_name = "SUPPOSITION")]
        suppose: Vec<Hypothesis>,
        /// How to answer.
        #[command(flatten)]
        look: Look,
    },
    /// Check that the array keeps its laws: equal states, all served, true zones; exit code 1 if not
    #[command(after_help = "Example:\n  rais audit")]
    Audit(Look),
    /// Keep a host from acquiring addresses
    #[command(
        after_help = "Example:\n  rais quiesce h2\n  rais quiesce h2 --group web --drain     also give away what it holds"
    )]
    Quiesce {
        /// Which host, and in which group.
        #[command(flatten)]
        member: MemberArgs,
        /// Also give away what it holds
        #[arg(long)]
        drain: bool,
    },
    /// Let a quiesced host acquire addresses again
    #[command(after_help = "Example:\n  rais resume h2")]
    Resume(MemberArgs),
    /// Hand an address over to another host
    #[command(after_help = "Example:\n  rais move 10.77.0.101 --to h2")]
    Move {
        /// The address
        address: IpAddr,
        /// The host that is to serve it
        #[arg(long, value_name = "HOST", value_parser = host_name)]
        to: String,
        /// How to answer.
        #[command(flatten)]
        look: Look,
    },
    /// Create, show or delete service groups
    #[command(subcommand, after_help = "Example:\n  rais group apply web.toml")]
    Group(GroupCommand),
    /// Show or change how fast silence is noticed, in the whole array
    #[command(
        subcommand,
        after_help = "Example:\n  rais timing show\n  rais timing apply timing.toml     with, say, preset = \"fast\" in it"
    )]
    Timing(TimingCommand),
    /// Remove a failed host from the array for good
    #[command(after_help = "Example:\n  rais forget h3")]
    Forget {
        /// The host
        #[arg(value_parser = host_name)]
        host: String,
        /// How to answer.
        #[command(flatten)]
        look: Look,
    },
    /// Show or renew this host's certificate; its daemon renews it in time by itself
    #[command(
        subcommand,
        after_help = "Example:\n  rais cert show\n  rais cert renew"
    )]
    Cert(CertCommand),
    /// Hand leadership to another host
    #[command(after_help = "Example:\n  rais transfer-leader h2")]
    TransferLeader {
        /// The host that is to lead
        #[arg(value_parser = host_name)]
        host: String,
        /// How to answer.
        #[command(flatten)]
        look: Look,
    },
    /// Plague a simulated array with faults, and see which law breaks; needs `rais-chaos` beside `rais`
    #[command(
        after_help = "Example:\n  rais chaos sim --seeds 0..1000     storms, and which of them break a law\n  rais chaos sim --seed 7 --trace    one, with all that happened"
    )]
    Chaos {
        /// What `rais-chaos` is to do
        #[arg(
            value_name = "WORDS",
            required = true,
            trailing_var_arg = true,
            allow_hyphen_values = true
        )]
        words: Vec<OsString>,
    },
}

/// How a command answers.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Look {
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `rais demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// How many hosts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=50))]
    pub hosts: u8,
    /// Where the hosts keep their data (host hI in DIR/hI); by default a new temporary directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Port of every host's DNS server, on 127.77.0.I
    #[arg(long, value_name = "PORT", default_value_t = 5300, value_parser = clap::value_parser!(u16).range(1..))]
    pub dns_port: u16,
    /// Port of the HTTP service on every service address, 127.77.1.I
    #[arg(long, value_name = "PORT", default_value_t = 8077, value_parser = clap::value_parser!(u16).range(1..))]
    pub http_port: u16,
    /// End by itself after so many seconds
    #[arg(long = "for", value_name = "SECONDS")]
    pub for_seconds: Option<u64>,
    /// Start this killed host of the demo in --dir again
    #[arg(long, value_name = "HOST", requires = "dir", value_parser = host_name)]
    pub restart: Option<String>,
    /// How fast silence is noticed
    #[arg(long, value_enum, default_value_t = TimingPreset::Lan)]
    pub timing: TimingPreset,
}

/// Options of `rais init`.
#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    /// This host's name
    #[arg(long, value_name = "HOST", value_parser = host_name)]
    pub name: String,
    /// This host's control addresses; the first is its id address
    #[arg(long, value_name = "IP:PORT", value_delimiter = ',', required = true, value_parser = socket)]
    pub control: Vec<SocketAddr>,
    /// How fast silence is noticed: fast, lan, wan, or a file as for `rais timing apply`
    #[arg(long, value_name = "PRESET|FILE", default_value = "lan", value_parser = TimingChoice::read)]
    pub timing: TimingChoice,
}

/// Options of `rais join`.
#[derive(Clone, Debug, Args)]
pub struct JoinArgs {
    /// This host's name
    #[arg(long, value_name = "HOST", value_parser = host_name)]
    pub name: String,
    /// This host's control addresses; the first is its id address
    #[arg(long, value_name = "IP:PORT", value_delimiter = ',', required = true, value_parser = socket)]
    pub control: Vec<SocketAddr>,
    /// The token that `rais token create` printed
    #[arg(long)]
    pub token: String,
    /// A control address of any host of the array; several may be given
    #[arg(long, value_name = "IP:PORT", value_delimiter = ',', required = true, value_parser = socket)]
    pub peer: Vec<SocketAddr>,
}

/// `rais token …`
#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a join token; it carries the fingerprint of the array's CA
    #[command(after_help = "Example:\n  rais token create --ttl 1h --uses 1")]
    Create {
        /// How long it is good for
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
        ttl: Millis,
        /// For how many hosts it is good
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=128))]
        uses: u32,
        /// How to answer.
        #[command(flatten)]
        look: Look,
    },
}

/// `rais traps …`
#[derive(Clone, Debug, Subcommand)]
pub enum TrapsCommand {
    /// Send a test to all whom a group's policy names, and say how it went
    #[command(after_help = "Example:\n  rais traps test web")]
    Test {
        /// The group
        #[arg(value_parser = group_name)]
        group: String,
        /// How to answer.
        #[command(flatten)]
        look: Look,
    },
}

/// Options of `rais events`.
#[derive(Clone, Debug, Args)]
pub struct EventsArgs {
    /// Go on showing what happens
    #[arg(long, short)]
    pub follow: bool,
    /// Only what happened after this position in the log
    #[arg(long, value_name = "INDEX")]
    pub since: Option<u64>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// How to answer.
    #[command(flatten)]
    pub look: Look,
}

/// Where `rais zone` pushes a zone.
#[derive(Clone, Debug, Args)]
pub struct PushArgs {
    /// Push the zone's addresses into this primary name server, by a dynamic update (RFC 2136)
    #[arg(long, value_name = "IP:PORT", value_parser = socket)]
    pub rfc2136: Option<SocketAddr>,
    /// The primary's zone that the names are in; by default the group's own
    #[arg(long, value_name = "ZONE", requires = "rfc2136", value_parser = zone_name)]
    pub in_zone: Option<String>,
    /// Name of the key that signs the updates (TSIG)
    #[arg(
        long,
        value_name = "NAME",
        requires = "rfc2136",
        requires = "secret_file"
    )]
    pub key: Option<String>,
    /// File with the key's secret in base64, readable by its owner only
    #[arg(long, value_name = "FILE", requires = "key")]
    pub secret_file: Option<PathBuf>,
    /// How the key signs: hmac-sha256, hmac-sha384 or hmac-sha512
    #[arg(long, value_name = "ALGORITHM", requires = "key", value_parser = algorithm, default_value = "hmac-sha256")]
    pub algorithm: Algorithm,
    /// Go on: push again after each change
    #[arg(long, requires = "rfc2136")]
    pub follow: bool,
}

impl PushArgs {
    /// The key that signs, with its secret; none where none was named.
    ///
    /// # Errors
    /// What is wrong with its name or its file.
    pub fn key(&self) -> Result<Option<Key>, CliError> {
        let (Some(name), Some(file)) = (&self.key, &self.secret_file) else {
            return Ok(None);
        };
        let key = DnsKey {
            name: name.clone(),
            algorithm: self.algorithm,
            secret_file: file.clone(),
        };
        let loaded = key.load();
        loaded
            .map(Some)
            .map_err(|no| CliError::failed(no.what, no.remedy))
    }
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    let known = Algorithm::ALL.into_iter().find(|one| one.as_str() == text);
    known.ok_or_else(|| "write hmac-sha256, hmac-sha384 or hmac-sha512".to_owned())
}

/// A host, in one group or all.
#[derive(Clone, Debug, Args)]
pub struct MemberArgs {
    /// The host
    #[arg(value_parser = host_name)]
    pub host: String,
    /// Only in this group
    #[arg(long, value_name = "GROUP", value_parser = group_name)]
    pub group: Option<String>,
    /// How to answer.
    #[command(flatten)]
    pub look: Look,
}

/// `rais group …`
#[derive(Clone, Debug, Subcommand)]
pub enum GroupCommand {
    /// Create a group or change its policy; shows the difference first
    #[command(
        after_help = "Example:\n  rais group apply web.toml --dry-run\n  rais group apply web.toml"
    )]
    Apply {
        /// The policy
        file: PathBuf,
        /// Only show the difference
        #[arg(long)]
        dry_run: bool,
        /// How to answer.
        #[command(flatten)]
        look: Look,
    },
    /// Show a group's policy
    #[command(after_help = "Example:\n  rais group show web --toml > web.toml")]
    Show {
        /// The group
        #[arg(value_parser = group_name)]
        group: String,
        /// As a file for `rais group apply` (the default)
        #[arg(long, conflicts_with = "json")]
        toml: bool,
        /// How to answer.
        #[command(flatten)]
        look: Look,
    },
    /// Delete a group; its addresses go when their holders have let go
    #[command(after_help = "Example:\n  rais group delete web")]
    Delete {
        /// The group
        #[arg(value_parser = group_name)]
        group: String,
        /// How to answer.
        #[command(flatten)]
        look: Look,
    },
}

/// `rais cert …`
#[derive(Clone, Debug, Subcommand)]
pub enum CertCommand {
    /// Show until when this host's certificate is good; no daemon is needed
    #[command(after_help = "Example:\n  rais cert show --json | jq -r .until")]
    Show(Look),
    /// Make a new certificate for this host now; connections that are open go on
    #[command(after_help = "Example:\n  rais cert renew")]
    Renew(Look),
}

/// `rais timing …`
#[derive(Clone, Debug, Subcommand)]
pub enum TimingCommand {
    /// Change the timing of a running array; shows the difference first, refuses what is unsafe
    #[command(
        after_help = "Example:\n  rais timing apply timing.toml --dry-run\n  rais timing apply timing.toml\n\nThe file names a preset (fast, lan, wan), numbers of its own, or both:\n  preset = \"lan\"\n  suspect = \"500ms\"\nKeys: heartbeat, suspect, lease, raft_heartbeat, election_min, election_max."
    )]
    Apply {
        /// The timing
        file: PathBuf,
        /// Only show the difference
        #[arg(long)]
        dry_run: bool,
        /// How to answer.
        #[command(flatten)]
        look: Look,
    },
    /// Show the timing in force, and whether every host follows it yet
    #[command(after_help = "Example:\n  rais timing show\n  rais timing show --toml > timing.toml")]
    Show {
        /// As a file for `rais timing apply`
        #[arg(long, conflicts_with = "json")]
        toml: bool,
        /// How to answer.
        #[command(flatten)]
        look: Look,
    },
}

/// How fast silence is noticed: a preset of lease.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TimingPreset {
    /// Heartbeat 20 ms: one rack, dedicated links
    Fast,
    /// Heartbeat 100 ms: the default
    Lan,
    /// Heartbeat 1 s: across sites
    Wan,
}

impl TimingPreset {
    /// The timing itself.
    pub const fn timing(self) -> Timing {
        match self {
            Self::Fast => Timing::FAST,
            Self::Lan => Timing::LAN,
            Self::Wan => Timing::WAN,
        }
    }
}

/// Reads the process's arguments. Help and usage errors are printed here; the code to end with is
/// then the error: 0 after help, 2 after wrong usage.
pub fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        // When not even the message can be written there is nobody left to tell.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}
