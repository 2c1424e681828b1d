//! What keeps a process at work on a busy machine, and what it may do there.
//!
//! The warden must renew or shut the gate while the machine swaps, compiles or shuts down: its memory
//! stays, its turn comes first, the signals that end other processes do not end it. Each is asked for
//! and none is needed for safety: where the system says no, only more leases run out.
//!
//! Limits: Linux. Capabilities belong to a thread: drop them before the second thread starts, or in each.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// The lowest of the priorities that go before all ordinary work.
const PRIORITY: i32 = 1;

/// How nice [`sooner`] makes a thread: five steps are three times the share of a busy core.
const SOONER: i32 = -5;

/// Lets every thread of this process, and what it starts, ask for [`realtime`] without a capability.
///
/// # Errors
/// When this process may not raise its own limit.
pub fn allow_realtime() -> io::Result<()> {
    let most = u64::try_from(PRIORITY).ok();
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    Ok(setrlimit(Resource::Rtprio, limit)?)
}

/// This thread goes before all ordinary ones (SCHED_FIFO); what it starts does not.
///
/// # Errors
/// When the system does not allow it: see [`allow_realtime`].
#[expect(unsafe_code, reason = "rustix has no sched_setscheduler")]
pub fn realtime() -> io::Result<()> {
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    let parameter = libc::sched_param {
        sched_priority: PRIORITY,
    };
    // SAFETY: the parameter outlives the call, which reads it and keeps no pointer; 0 is this thread.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// This thread, and what it starts from now on, gets more of a busy core than ordinary ones.
///
/// # Errors
/// When the system does not allow it: it takes CAP_SYS_NICE, or a limit on niceness that says so.
pub fn sooner() -> io::Result<()> {
    let now = rustix::process::getpriority_process(None)?;
    Ok(rustix::process::setpriority_process(None, now.min(SOONER))?)
}

/// Keeps all memory of this process, present and future, out of swap, and the program's pages loaded.
///
/// # Errors
/// When the system does not allow so much.
pub fn lock_memory() -> io::Result<()> {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    // Under a limit, what is allocated later would be refused: an abort is worse than a page fault.
    let future = match setrlimit(Resource::Memlock, unlimited) {
        Ok(()) => MlockAllFlags::FUTURE,
        Err(_) => MlockAllFlags::empty(),
    };
    Ok(mlockall(MlockAllFlags::CURRENT | future)?)
}

/// SIGTERM, SIGINT and SIGHUP no longer end this process: it ends when its work is done.
#[expect(unsafe_code, reason = "rustix leaves signals to libc")]
pub fn outlive_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: SIG_IGN is no handler, so no code of ours runs in a signal's context.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// SIGTERM, SIGINT and SIGHUP no longer end this process, and what it starts gets them as usual: unlike
/// one that is ignored or held back, a signal that is caught is not so in a program that was started.
#[expect(unsafe_code, reason = "rustix leaves signals to libc")]
pub fn catch_signals() {
    extern "C" fn nothing(_signal: libc::c_int) {}
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let handler = nothing as extern "C" fn(libc::c_int);
        // SAFETY: the handler does nothing, which is allowed in a signal's context.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// Has `command` start with `files` descriptors allowed, whatever this process itself is allowed by then: a
/// program that closes all it could have, or uses select(2), is slow or lost with a million.
#[expect(
    unsafe_code,
    reason = "what runs between fork and exec is in nobody's type system"
)]
pub fn allow_files(command: &mut Command, files: Rlimit) {
    let allow = move || Ok(setrlimit(Resource::Nofile, files)?);
    // SAFETY: one system call that is allowed after a fork; it takes no lock and allocates nothing.
    unsafe { command.pre_exec(allow) };
}

/// Gives up every capability but these, for this thread, those that it starts, and their programs.
///
/// # Errors
/// When the kernel refuses; the capabilities are then as before.
pub fn keep_only(kept: CapabilitySet) -> io::Result<()> {
    let now = rustix::thread::capabilities(None)?;
    for capability in CapabilitySet::all().difference(kept).iter() {
        // Without CAP_SETPCAP it stays in the bound, and a program with it on its file could have it back.
        let _kept = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    let left = now.permitted & kept;
    let sets = CapabilitySets {
        effective: left,
        permitted: left,
        inheritable: CapabilitySet::empty(),
    };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// What [`keep_only`] takes, without a dependency on who defines it.
pub mod capability {
    use rustix::thread::CapabilitySet;

    /// For the warden: addresses, packet filters, and frames of its own making.
    pub const WARDEN: CapabilitySet = CapabilitySet::NET_ADMIN.union(CapabilitySet::NET_RAW);
    /// For the node: ports below 1024, which DNS has.
    pub const NODE: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;
    /// For the runner: to be another user, and to end what that one started.
    pub const RUNNER: CapabilitySet = CapabilitySet::SETUID
        .union(CapabilitySet::SETGID)
        .union(CapabilitySet::KILL);
    /// For a node that may not raise its limits: its control thread goes first by this, and gives it up.
    pub const TURN: CapabilitySet = CapabilitySet::SYS_NICE;
    /// For a node whose data belongs to another user.
    pub const FILES: CapabilitySet = CapabilitySet::DAC_OVERRIDE;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Goal: a thread that gave up its capabilities has none but those kept, and cannot have them back.
    /// Method: a thread of its own, which ends.
    #[test]
    fn what_is_given_up_is_gone() {
        let thread = std::thread::spawn(|| {
            let before = rustix::thread::capabilities(None).unwrap().permitted;
            keep_only(capability::NODE).unwrap();
            let after = rustix::thread::capabilities(None).unwrap();
            assert_eq!(after.permitted, before & capability::NODE);
            assert_eq!(after.effective, after.permitted);
            let lost = before.difference(capability::NODE);
            if !lost.is_empty() {
                let again = CapabilitySets {
                    effective: before,
                    permitted: before,
                    inheritable: CapabilitySet::empty(),
                };
                assert!(rustix::thread::set_capabilities(None, again).is_err());
            }
        });
        thread.join().unwrap();
    }
}
