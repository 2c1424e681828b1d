//! The smallest service for a host of the lab: HTTP that says which host answers.
//!
//! It lives in the lab's own process, on a thread in the host's namespace, so that it keeps
//! answering whatever happens to the daemon: what clients then see is the address alone. It
//! listens on the wildcard address and so serves each address that the host has at the moment.

use super::clock::timespec;
use super::error::LabError;
use super::space::Space;
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often an idle service looks whether it should end.
const LOOK: Duration = Duration::from_millis(50);
/// A client that sends nothing for this long is let go: there is one thread for all.
const PATIENCE: Duration = Duration::from_millis(50);
/// Longest request that is read.
const MAX_REQUEST: usize = 1024;

/// A service that answers until it is dropped.
#[derive(Debug)]
pub struct Service {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), LabError>>>,
}

impl Space {
    /// Answers HTTP on `port` with `{"host":"h1","address":"10.77.0.101"}`, v4 and v6.
    ///
    /// # Errors
    /// The port is taken, or the namespace is gone.
    pub fn serve(&self, port: u16) -> Result<Service, LabError> {
        let label = self.label().to_owned();
        let listen = move || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port));
        let listener = self.inside(listen)?.and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        let listen = |source| LabError::system(format!("listen on port {port} of {label}"), source);
        let listener = listener.map_err(listen)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (told, host) = (Arc::clone(&stop), label);
        let thread = self.thread("service", move || {
            while !told.load(Ordering::Relaxed) {
                let mut polled = [PollFd::new(&listener, PollFlags::IN)];
                let _ = poll(&mut polled, Some(&timespec(LOOK)));
                while let Ok((client, _)) = listener.accept() {
                    // A client that hangs up is its own affair.
                    let _ = answer(client, &host);
                }
            }
            Ok(())
        })?;
        let thread = Some(thread);
        Ok(Service { stop, thread })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut client: TcpStream, host: &str) -> std::io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut request = [0; MAX_REQUEST];
    if client.read(&mut request)? == 0 {
        return Ok(());
    }
    let address = client.local_addr()?.ip().to_canonical();
    let body = format!("{{\"host\":\"{host}\",\"address\":\"{address}\"}}\n");
    let length = body.len();
    let head = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nConnection: close";
    write!(client, "{head}\r\nContent-Length: {length}\r\n\r\n{body}")
}
