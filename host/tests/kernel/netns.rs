//! Throw-away network namespaces without names: each lives in a thread that entered it, and is gone
//! with that thread, its sockets and its children. So a test that panics or is killed leaves nothing
//! behind, and tests run beside each other.

use std::io::Write as _;
use std::net::IpAddr;
use std::process::Command;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use host::address::{Addresses, Interface};
use host::gate::KernelGate;
use rustix::thread::{UnshareFlags, gettid, unshare_unsafe};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace, and a thread that runs jobs in it.
pub struct Netns {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    path: String,
}

impl Netns {
    pub fn new() -> Result<Self, String> {
        let (jobs, queue) = sync_channel::<Job>(1);
        let (tell, told) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            // SAFETY: a network namespace of its own shares no memory rule with other threads; only
            // the sockets that this thread opens from now on differ.
            let entered = unsafe { unshare_unsafe(UnshareFlags::NEWNET) };
            tell.send(entered.map(|()| gettid())).unwrap();
            for job in queue {
                job();
            }
        });
        let tid = told
            .recv()
            .unwrap()
            .map_err(|error| format!("no network namespace: {error}"))?;
        let path = format!(
            "/proc/{}/task/{}/ns/net",
            std::process::id(),
            tid.as_raw_nonzero()
        );
        let netns = Self {
            jobs: Some(jobs),
            thread: Some(thread),
            path,
        };
        netns.run(|| {
            // Else a v6 address waits two seconds for duplicates before it may be used.
            for kind in ["all", "default"] {
                let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{kind}/accept_dad"), "0");
            }
        });
        netns.shell("ip link set lo up");
        Ok(netns)
    }

    /// Runs `job` in the namespace, and waits for what it gives.
    pub fn run<R: Send + 'static>(&self, job: impl FnOnce() -> R + Send + 'static) -> R {
        let (tell, told) = sync_channel(1);
        let job = Box::new(move || {
            let _ = tell.send(job());
        });
        self.jobs.as_ref().unwrap().send(job).unwrap();
        told.recv().expect("the job in the namespace panicked")
    }

    /// Runs a command line there; it must succeed.
    pub fn shell(&self, line: &str) -> String {
        self.feed(line, "")
    }

    /// As `shell`, with something to read.
    pub fn feed(&self, line: &str, input: &str) -> String {
        let (line, input) = (line.to_owned(), input.to_owned());
        self.run(move || {
            let mut words = line.split(' ');
            let mut child = Command::new(words.next().unwrap())
                .args(words)
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            child
                .stdin
                .take()
                .unwrap()
                .write_all(input.as_bytes())
                .unwrap();
            let output = child.wait_with_output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{line}: {told}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        self.jobs = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A host and a client on one wire.
pub struct Wire {
    pub host: Netns,
    pub client: Netns,
    pub at_host: Interface,
    pub at_client: Interface,
}

pub const DEVICE: &str = "eth0";
pub const HOST4: &str = "10.9.0.1";
pub const CLIENT4: &str = "10.9.0.9";
pub const HOST6: &str = "fd09::1";
pub const CLIENT6: &str = "fd09::9";
/// The service addresses that tests move.
pub const SERVICE4: &str = "10.9.0.100";
pub const SERVICE6: &str = "fd09::100";

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn services() -> [IpAddr; 2] {
    [ip(SERVICE4), ip(SERVICE6)]
}

impl Wire {
    /// None, and a loud word why, where tests can't have namespaces or packet filters.
    pub fn lay(test: &str) -> Option<Self> {
        match Self::try_lay() {
            Ok(wire) => Some(wire),
            Err(reason) => {
                // Past the capture of the test runner, which hides the words of a test that passes.
                let _ = writeln!(std::io::stderr(), "\nSKIPPED {test}: {reason}\n");
                None
            }
        }
    }

    fn try_lay() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("needs root for network namespaces".into());
        }
        for program in ["ip", "nft"] {
            if Command::new(program).arg("-V").output().is_err() {
                return Err(format!(
                    "needs the program `{program}` (Debian: iproute2, nftables)"
                ));
            }
        }
        let (host, client) = (Netns::new()?, Netns::new()?);
        host.run(KernelGate::probe)
            .map_err(|error| error.to_string())?;
        let path = client.path.clone();
        host.shell(&format!(
            "ip link add {DEVICE} type veth peer name {DEVICE} netns {path}"
        ));
        for (netns, v4, v6) in [(&host, HOST4, HOST6), (&client, CLIENT4, CLIENT6)] {
            netns.shell(&format!("ip link set {DEVICE} up"));
            netns.shell(&format!("ip address add {v4}/24 dev {DEVICE}"));
            netns.shell(&format!("ip address add {v6}/64 dev {DEVICE} nodad"));
        }
        let look = || {
            Addresses::open()
                .unwrap()
                .interface(DEVICE)
                .unwrap()
                .unwrap()
        };
        let (at_host, at_client) = (host.run(look), client.run(look));
        assert!(at_host.carrier && at_client.carrier, "the wire is not up");
        Ok(Self {
            host,
            client,
            at_host,
            at_client,
        })
    }
}
