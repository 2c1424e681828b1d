//! Helpers of the tests: a data dir that goes away, identities of small arrays.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use statemachine::{ArrayId, HostId, TokenId};

use super::{ArrayIdentity, HostKey};

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A directory of its own for one test.
pub(crate) struct TestDir(pub(crate) PathBuf);

impl TestDir {
    pub(crate) fn new() -> Self {
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("rais-pki-{}-{serial}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A time in the validity of what it makes when the test is run by a machine with a sane clock.
pub(crate) fn now() -> SystemTime {
    let real = UNIX_EPOCH.elapsed().unwrap();
    UNIX_EPOCH + Duration::from_secs(real.as_secs())
}

/// The founder of an array.
pub(crate) fn founder(array: u8) -> ArrayIdentity {
    ArrayIdentity::found(ArrayId([array; 16]), HostId(1), "h1", now()).unwrap()
}

/// A host that joined the founder's array, by way of proof and grant.
pub(crate) fn joined(founder: &ArrayIdentity, host: u64) -> ArrayIdentity {
    joined_at(founder, host, now())
}

/// As [`joined`], by a clock that says `now`.
pub(crate) fn joined_at(founder: &ArrayIdentity, host: u64, now: SystemTime) -> ArrayIdentity {
    let key = HostKey::generate().unwrap();
    let fingerprint = founder.authority().fingerprint();
    let name = format!("h{host}");
    let proof = key.prove(&fingerprint, &TokenId(7), &name).unwrap();
    proof.verify(&fingerprint, &TokenId(7), &name).unwrap();
    let issued = founder
        .authority()
        .issue(HostId(host), &name, &proof.public_key, now)
        .unwrap();
    let grant = founder.grant(HostId(host), &name, issued);
    ArrayIdentity::from_grant(&grant, key, &fingerprint).unwrap()
}
