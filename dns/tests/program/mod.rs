//! Name servers that people run, started by hand for a test: a directory and a port of their own, a log
//! that is shown when the test fails. Nothing is signalled but what was started here.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods)]

use std::fs::File;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A program may take so long to start or to end on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Where a program is; also among those that only root has in its path.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut folders = path.split(':').chain(["/usr/sbin", "/sbin"]);
    folders.find_map(|folder| {
        let file = Path::new(folder).join(program);
        file.exists().then_some(file)
    })
}

/// An address that is free over both transports, below the ports that connections are given.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 100) as u16 * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// A name server, running or not.
pub struct Program {
    /// What it is called in a test's words.
    pub name: String,
    /// Its configuration, data and log.
    pub dir: PathBuf,
    /// Where it answers.
    pub address: SocketAddr,
    child: Option<Child>,
}

impl Program {
    /// A place for one, not started yet.
    pub fn new(name: &str) -> Program {
        let address = free_address();
        let dir = format!("{name}-{}-{}", std::process::id(), address.port());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(dir);
        std::fs::create_dir_all(&dir).unwrap();
        Program {
            name: name.to_owned(),
            dir,
            address,
            child: None,
        }
    }

    /// Writes one of its files.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.join(name), text).unwrap();
    }

    /// Starts it, and waits until `answers`.
    pub fn start(&mut self, program: &str, arguments: &[&str], answers: impl Fn(&Program) -> bool) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .unwrap();
        let child = Command::new(which(program).unwrap())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        while !answers(self) {
            assert!(Instant::now() < deadline, "{} does not answer", self.name);
            // A poll of another process: there is no event to await.
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Ends it in order, or outright when it takes too long.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        // Not reaped yet, so this id is still the child's.
        let id = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        if let Ok(process) = pidfd_open(id, PidfdFlags::empty()) {
            let _gone = pidfd_send_signal(&process, Signal::TERM);
            let patience = Timespec::try_from(PATIENCE).unwrap();
            let _ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience));
        }
        let _killed = child.kill();
        let _reaped = child.wait();
    }

    /// One question over UDP.
    pub fn udp(&self, query: &[u8]) -> Option<Message> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let patience = Some(Duration::from_millis(500));
        socket.set_read_timeout(patience).unwrap();
        socket.connect(self.address).unwrap();
        socket.send(query).ok()?;
        let mut buffer = [0; 4_096];
        let length = socket.recv(&mut buffer).ok()?;
        Message::from_vec(&buffer[..length]).ok()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!(
                "{} said last, newest first:\n{}",
                self.name,
                last.join("\n")
            );
        } else {
            let _rest = std::fs::remove_dir_all(&self.dir);
        }
    }
}
