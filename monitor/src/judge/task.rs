//! What an object does, with `{address}` filled in.
//!
//! Closed and plain, so that two groups that want the same thing are seen to want the same thing.

use std::fmt;
use std::net::IpAddr;

use statemachine::{LoadKind, TestKind};

/// What a policy writes where the service address goes.
const PLACE: &str = "{address}";

/// What an object does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// What it looks at.
    pub look: Look,
    /// The service addresses that it counts for; only `connections` asks.
    pub of: Vec<IpAddr>,
}

/// What it looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Is it well?
    Test(TestKind),
    /// How much is it used?
    Load(LoadKind),
}

impl Task {
    /// A test, of the service at `address`.
    #[must_use]
    pub fn of_test(kind: &TestKind, address: IpAddr) -> Self {
        let mut kind = kind.clone();
        match &mut kind {
            TestKind::Tcp { target } => fill(target, address),
            TestKind::Http { url, .. } | TestKind::Https { url, .. } => fill(url, address),
            TestKind::Dns { server, .. } => fill(server, address),
            TestKind::Exec { command } => {
                command.iter_mut().for_each(|word| fill_bare(word, address))
            }
            TestKind::Process { .. } | TestKind::Interface { .. } => {}
        }
        Self {
            look: Look::Test(kind),
            of: Vec::new(),
        }
    }

    /// A load, of the service at `address`; `served` are all addresses of the group here.
    #[must_use]
    pub fn of_load(kind: &LoadKind, address: IpAddr, served: &[IpAddr]) -> Self {
        let mut kind = kind.clone();
        let mut of = Vec::new();
        match &mut kind {
            LoadKind::Http { url, .. } => fill(url, address),
            LoadKind::Exec { command } => {
                command.iter_mut().for_each(|word| fill_bare(word, address))
            }
            LoadKind::Connections { .. } => of = served.to_vec(),
            LoadKind::Cpu | LoadKind::Net { .. } | LoadKind::Pressure { .. } => {}
        }
        Self {
            look: Look::Load(kind),
            of,
        }
    }
}

/// In a URL or before a port a v6 address stands in brackets.
fn fill(text: &mut String, address: IpAddr) {
    let written = match address {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    *text = text.replace(PLACE, &written);
}

fn fill_bare(text: &mut String, address: IpAddr) {
    *text = text.replace(PLACE, &address.to_string());
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.look {
            Look::Test(TestKind::Exec { command }) | Look::Load(LoadKind::Exec { command }) => {
                write!(f, "exec {}", command.join(" "))
            }
            Look::Test(TestKind::Tcp { target }) => write!(f, "tcp {target}"),
            Look::Test(TestKind::Http { url, .. } | TestKind::Https { url, .. })
            | Look::Load(LoadKind::Http { url, .. }) => write!(f, "{url}"),
            Look::Test(TestKind::Dns { server, query }) => write!(f, "dns {query} at {server}"),
            Look::Test(TestKind::Process { pid_file }) => write!(f, "process of {pid_file}"),
            Look::Test(TestKind::Interface { name, gateway }) => match gateway {
                Some(gateway) => write!(f, "interface {name}, gateway {gateway}"),
                None => write!(f, "interface {name}"),
            },
            Look::Load(LoadKind::Cpu) => write!(f, "cpu"),
            Look::Load(LoadKind::Net { interface }) => write!(f, "net {interface}"),
            Look::Load(LoadKind::Connections { .. }) => write!(f, "connections"),
            Look::Load(LoadKind::Pressure { resource }) => write!(f, "pressure {resource}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: v4 and v6 addresses are written as URLs, targets and arguments want them.
    #[test]
    fn an_address_is_written_as_its_place_wants_it() {
        let (v4, v6): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        let http = TestKind::Http {
            url: "http://{address}:81/health".into(),
            expect_status: 200,
            expect_body: None,
        };
        assert_eq!(
            Task::of_test(&http, v4).to_string(),
            "http://10.0.0.1:81/health"
        );
        assert_eq!(
            Task::of_test(&http, v6).to_string(),
            "http://[fd00::1]:81/health"
        );
        let exec = TestKind::Exec {
            command: vec!["/bin/check".into(), "--at={address}".into()],
        };
        assert_eq!(
            Task::of_test(&exec, v6).to_string(),
            "exec /bin/check --at=fd00::1"
        );
    }
}
