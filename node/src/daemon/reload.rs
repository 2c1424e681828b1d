//! Reads `rais.toml` again at SIGHUP: takes what may change in a running daemon, and says what may not.
//!
//! A file that is broken changes nothing. Groups go the way that they go at a start: the log hears of them,
//! and each member does what the log says, so a group that stays is not touched. Interfaces reach the
//! warden before the log names an address for them, and a group that goes keeps its own until the log agrees.
//!
//! Limits: privileges were parted with at the start, and sockets are bound then; what hangs on those waits
//! for a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dns::tsig::Keys;
use tokio::signal::unix::Signal;

use super::mailbox::Letter;
use super::{Daemon, DaemonError, interfaces};
use crate::api::{Reloaded, WallTime};
use crate::clock;
use crate::config::{DnsKey, HostConfig, LogLevel, load_host};
use crate::log::Relevel;
use crate::traps::Secrets;

/// What is read again, when, and what to do about the level of the log.
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// Asks for it.
    pub hangup: Signal,
    /// Changes the level of the log.
    pub relevel: Relevel,
}

/// Follows the file until the daemon ends.
pub async fn follow(daemon: Arc<Daemon>, mut source: Source) {
    while source.hangup.recv().await.is_some() {
        let file = source.file.clone();
        // Files, and some milliseconds for each password: neither is for a thread of the daemon's.
        let read = tokio::task::spawn_blocking(move || New::read(&file)).await;
        let read = read.unwrap_or_else(|ended| Err(ended.to_string()));
        let taken = read.map(|new| take(&daemon, new, &source.relevel));
        let file = source.file.display();
        match &taken {
            Ok(restart) if restart.is_empty() => tracing::info!(%file, "read again, and followed"),
            Ok(restart) => {
                let restart = restart.join(", ");
                tracing::warn!(%file, restart, "read again; these wait for a restart of the daemon");
            }
            Err(error) => tracing::error!(%file, error, "read again, and nothing of it taken"),
        }
        // What waits already does so beside a broken file too.
        let waiting = || daemon.reloaded.load_full().map(|one| one.restart.clone());
        daemon.reloaded.store(Some(Arc::new(Reloaded {
            at: WallTime(clock::wall_ms()),
            error: taken.as_ref().err().cloned(),
            restart: taken.unwrap_or_else(|_| waiting().unwrap_or_default()),
        })));
    }
}

/// What the file says now, and the files of secrets that it names.
struct New {
    config: HostConfig,
    keys: Keys,
    secrets: Secrets,
}

impl New {
    fn read(file: &Path) -> Result<Self, String> {
        let config = load_host(file).map_err(|broken| broken.to_string())?;
        Self::of(config).map_err(|error| error.to_string())
    }

    fn of(config: HostConfig) -> Result<Self, DaemonError> {
        let keys = config.dns_keys.iter().map(DnsKey::load);
        Ok(Self {
            keys: Keys::new(keys.collect::<Result<_, _>>()?),
            secrets: Secrets::load(&config.trap_keys).map_err(DaemonError::TrapKey)?,
            config,
        })
    }
}

/// Takes over what can be; gives what cannot.
fn take(daemon: &Daemon, new: New, relevel: &dyn Fn(LogLevel)) -> Vec<String> {
    let (live, restart) = merge(&daemon.config, &daemon.live.borrow(), new.config);
    relevel(live.log.level);
    daemon.shelf.primary().change_keys(new.keys);
    daemon.traps.change_secrets(new.secrets);
    daemon.mailbox.post(Letter::Interfaces(interfaces(&live)));
    daemon.live.send_replace(Arc::new(live));
    restart
}

/// `live`, with all of `new` that a daemon which was started with `start` can follow; and what it cannot.
fn merge(start: &HostConfig, live: &HostConfig, new: HostConfig) -> (HostConfig, Vec<String>) {
    let HostConfig {
        name,
        data_dir,
        control,
        admin,
        admin_open_on_loopback,
        dns,
        dns_limits,
        dns_keys,
        observer,
        mut members,
        driver,
        log,
        program_user,
        trap_keys,
    } = new;
    let fixed = [
        ("name", name != start.name),
        ("data_dir", data_dir != start.data_dir),
        ("[control] listen", control != start.control),
        ("[admin] listen", admin != start.admin),
        ("[dns] listen", dns != start.dns),
        ("limits of [dns]", dns_limits != start.dns_limits),
        ("observer", observer != start.observer),
        ("driver", driver != start.driver),
        ("[log] format", log.format != start.log.format),
        ("[programs] user", program_user != start.program_user),
    ];
    let changed = fixed.into_iter().filter(|(_, changed)| *changed);
    let mut restart: Vec<String> = changed.map(|(key, _)| key.to_owned()).collect();
    if start.members.is_empty() && !members.is_empty() {
        // There is no warden: a host in no group has parted with what it takes.
        restart.push("the first [[member]]".to_owned());
        members.clear();
    }
    for member in &mut members {
        let before = live.members.iter().find(|one| one.group == member.group);
        if let Some(before) = before.filter(|before| before.interface != member.interface) {
            restart.push(format!("interface of [[member]] {}", member.group));
            member.interface.clone_from(&before.interface);
        }
    }
    let followed = HostConfig {
        admin_open_on_loopback,
        dns_keys,
        members,
        trap_keys,
        log: crate::config::LogConfig {
            level: log.level,
            ..start.log
        },
        ..start.clone()
    };
    (followed, restart)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{MemberConfig, parse_host};

    const FILE: &str = "name = 'h1'\ndata_dir = '/d'\n[control]\nlisten = ['10.0.0.1:7400']\n\
        [[member]]\ngroup = 'web'\npreferred = ['10.0.0.101/24']\ninterface = 'eth0'\n";

    fn host(text: &str) -> HostConfig {
        parse_host("f", text).unwrap()
    }

    /// Goal: groups, the level of the log and the door for local users follow; nothing of it waits.
    #[test]
    fn what_can_change_is_taken() {
        let start = host(FILE);
        let text = format!(
            "{FILE}[[member]]\ngroup = 'mail'\ninterface = 'eth1'\n[log]\nlevel = 'debug'\n\
             [admin]\nopen_on_loopback = true\n\
             [[traps.key]]\nname = 'hooks'\nsecret_file = '/k'\n"
        );
        let new = host(&text);
        let (live, restart) = merge(&start, &start, new.clone());
        assert_eq!((live, restart), (new.clone(), Vec::new()));
        let (back, restart) = merge(&start, &new, start.clone());
        assert_eq!((back, restart), (start, Vec::new()));
    }

    /// Goal: what cannot change stays, and is named; an interface of a group that stays is one of those.
    #[test]
    fn what_cannot_change_is_named_and_stays() {
        let start = host(FILE);
        let text = FILE
            .replace("7400", "7401")
            .replace("eth0", "eth1")
            .replace("data_dir = '/d'", "data_dir = '/e'\nobserver = false")
            + "[log]\nformat = 'json'\n[programs]\nuser = 'root'\n[dns]\nthreads = 3\n";
        let (live, restart) = merge(&start, &start, host(&text));
        assert_eq!(live, start);
        let expected = [
            "data_dir",
            "[control] listen",
            "limits of [dns]",
            "[log] format",
            "[programs] user",
            "interface of [[member]] web",
        ];
        assert_eq!(restart, expected);
    }

    /// Goal: a host that was started in no group needs a restart to join its first.
    #[test]
    fn the_first_group_needs_a_restart() {
        let mut start = host(FILE);
        start.members.clear();
        let (live, restart) = merge(&start, &start, host(FILE));
        assert_eq!(live.members, Vec::<MemberConfig>::new());
        assert_eq!(restart, ["the first [[member]]"]);
    }
}
