//! Where a demo's hosts live: addresses, ports, directories. All on loopback, so no root is needed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use statemachine::Policy;

use crate::cli::CliError;
use crate::config::{Driver, HostConfig, MemberConfig, Prefix, load_host, policy_to_toml};
use crate::found::Newcomer;
use crate::pki::ArrayIdentity;

/// From the DNS port to the control port: 5300 gives 7400. So two demos with different DNS ports
/// share no port.
const CONTROL_ABOVE_DNS: u16 = 2_100;
/// From the DNS port to the port of the dashboard and the API: 5300 gives 7443.
const ADMIN_ABOVE_DNS: u16 = 2_143;
/// The group and its zone.
pub const GROUP: &str = "web";
/// The group's zone.
pub const ZONE: &str = "web.example.";

/// Name of a host's configuration.
const CONFIG: &str = "rais.toml";

/// Where everything is.
pub struct Layout {
    /// The demo's directory.
    pub dir: PathBuf,
    /// How many hosts.
    pub hosts: u8,
    /// Port of every host's DNS server.
    pub dns_port: u16,
    /// Port of the HTTP service on each service address.
    pub http_port: u16,
}

impl Layout {
    /// The layout of the array that `dir` holds.
    ///
    /// # Errors
    /// When its first host's configuration is not that of a demo.
    pub fn recall(dir: PathBuf) -> Result<Self, CliError> {
        let config = load_host(&dir.join(Self::name(1)).join(CONFIG))?;
        let (Driver::Loopback { http_port }, Some(dns)) = (config.driver, config.dns.first())
        else {
            let what = format!("{} holds no demo", dir.display());
            return Err(CliError::failed(what, "choose another --dir"));
        };
        let dns_port = dns.port();
        let is_there = |number: &u8| ArrayIdentity::exists(&dir.join(Self::name(*number)));
        let hosts = (1..=u8::MAX).take_while(is_there).last().unwrap_or(1);
        Ok(Self {
            dir,
            hosts,
            dns_port,
            http_port,
        })
    }

    /// The name of host `number`, which counts from 1.
    pub fn name(number: u8) -> String {
        format!("h{number}")
    }

    /// Its directory.
    pub fn host_dir(&self, number: u8) -> PathBuf {
        self.dir.join(Self::name(number))
    }

    /// Its control address.
    pub fn control(&self, number: u8) -> SocketAddr {
        let port = self
            .dns_port
            .checked_add(CONTROL_ABOVE_DNS)
            .unwrap_or(self.dns_port - CONTROL_ABOVE_DNS);
        SocketAddr::new(own(number), port)
    }

    /// Where it serves the dashboard and the API.
    pub fn admin(&self, number: u8) -> SocketAddr {
        let port = self
            .dns_port
            .checked_add(ADMIN_ABOVE_DNS)
            .unwrap_or(self.dns_port - ADMIN_ABOVE_DNS);
        SocketAddr::new(own(number), port)
    }

    /// Where it serves DNS.
    pub fn dns(&self, number: u8) -> SocketAddr {
        SocketAddr::new(own(number), self.dns_port)
    }

    /// Its preferred service address.
    pub fn service(&self, number: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, 77, 1, number))
    }

    /// The host as it is founded or joins.
    pub fn newcomer(&self, number: u8) -> Newcomer {
        Newcomer {
            data_dir: self.host_dir(number),
            name: Self::name(number),
            control: vec![self.control(number)],
        }
    }

    /// Writes what `rais node` and `rais group apply` read; files that are there stay as they are.
    pub fn write_files(&self, number: u8) -> Result<PathBuf, CliError> {
        let dir = self.host_dir(number);
        let mut config = HostConfig::new(Self::name(number), &dir, vec![self.control(number)]);
        config.dns = vec![self.dns(number)];
        config.admin = self.admin(number);
        config.admin_open_on_loopback = true;
        config.driver = Driver::Loopback {
            http_port: self.http_port,
        };
        config.members = vec![MemberConfig {
            group: GROUP.to_owned(),
            preferred: vec![Prefix {
                address: self.service(number),
                length: 8,
            }],
            interface: "lo".to_owned(),
        }];
        let file = dir.join(CONFIG);
        self.write_new(&file, &config.to_toml())?;
        self.write_new(
            &self.policy_file(),
            &policy_to_toml(&Policy::new(GROUP, ZONE)),
        )?;
        Ok(file)
    }

    /// Writes a file that is not there yet.
    pub fn write_new(&self, file: &Path, text: &str) -> Result<(), CliError> {
        if file.exists() {
            return Ok(());
        }
        std::fs::write(file, text).map_err(|error| {
            CliError::failed(
                format!("cannot write {}: {error}", file.display()),
                "choose another --dir",
            )
        })
    }

    /// The group's policy.
    pub fn policy_file(&self) -> PathBuf {
        self.dir.join("web.toml")
    }
}

/// The address of a host itself.
fn own(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 77, 0, number))
}
