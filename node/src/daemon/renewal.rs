//! Keeps this host's certificate good: makes a new one when less than a third of its time is left.
//!
//! Every host has the array's authority (ADR-0005), so nobody is asked. The dates are compared each
//! second and not by one long timer: that costs nothing, and a wall clock that is set is seen as well.
//!
//! Limits: goes by this host's wall clock; one that is years off keeps this host out, and no other (ADR-0051).

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Daemon;
use super::desk::refused;
use crate::api::{Problem, ProblemKind, Response, WallTime};
use crate::clock;
use crate::pki::{ArrayIdentity, PkiError, Validity};

/// Between two looks at the dates, and two tries where a new certificate could not be written.
const LOOK: Duration = Duration::from_secs(1);

/// Makes a new certificate if it is time for it.
///
/// # Errors
/// It cannot be written; the old one stays in use.
pub fn look(identity: &ArrayIdentity, dir: &Path, now: SystemTime) -> Result<(), PkiError> {
    if !identity.validity().is_due(now) {
        return Ok(());
    }
    let validity = identity.renew(dir, now)?;
    tracing::info!(until = %until(validity), "this host's certificate is renewed");
    Ok(())
}

/// At a start, when nothing is shown yet and the data directory is surely ours; what fails is told by [`keep`], which tries again.
pub fn begin(identity: &ArrayIdentity, dir: &Path) {
    let _tried_again = look(identity, dir, clock::wall());
}

/// Looks until the daemon ends. What fails is told once, until it fails otherwise.
pub async fn keep(daemon: Arc<Daemon>) {
    let mut told = None;
    loop {
        if daemon.identity.validity().is_due(clock::wall()) {
            let looked = Arc::clone(&daemon);
            let looked = move || look(&looked.identity, &looked.config.data_dir, clock::wall());
            // A file and its directory are synced: not for a thread of the daemon's.
            let failed = match tokio::task::spawn_blocking(looked).await {
                Ok(done) => done.err().map(|error| error.to_string()),
                Err(ended) => Some(ended.to_string()),
            };
            let validity = daemon.identity.validity();
            let has_run_out = !validity.is_good(clock::wall());
            let failed = failed.map(|error| (error, has_run_out));
            if let Some((error, _)) = failed.as_ref().filter(|_| told != failed) {
                let until = until(validity);
                match has_run_out {
                    false => {
                        tracing::warn!(error, %until, "this host's certificate cannot be renewed; tried again all the time");
                    }
                    true => {
                        tracing::error!(error, %until, "this host's certificate is not valid now and cannot be renewed: no new connection is made");
                    }
                }
            }
            told = failed;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// `rais cert renew`.
pub async fn by_hand(daemon: &Arc<Daemon>) -> Response {
    let asked = Arc::clone(daemon);
    let renew = move || asked.identity.renew(&asked.config.data_dir, clock::wall());
    let renewed = match tokio::task::spawn_blocking(renew).await {
        Ok(renewed) => renewed.map_err(|error| error.to_string()),
        Err(ended) => Err(ended.to_string()),
    };
    match renewed {
        Ok(validity) => {
            let (name, until) = (daemon.identity.name(), until(validity));
            tracing::info!(%until, "this host's certificate is renewed, as an operator asked");
            Response::Done {
                index: None,
                words: format!("{name} has a new certificate, good until {until}"),
            }
        }
        Err(error) => refused(Problem::new(
            ProblemKind::Internal,
            "not renewed",
            error,
            "the certificate it had stays in use; mend the data directory, then try again",
        )),
    }
}

fn until(validity: Validity) -> WallTime {
    WallTime(validity.until.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pki::testing::{TestDir, founder, now};

    /// Goal: a certificate is left alone until it is due, then replaced on disk and in use; where the disk says
    /// no, the old one stays and the next look tries again.
    /// Method: looks at clocks of our own, one of them without a directory to write to.
    #[test]
    fn a_look_renews_what_is_due_and_tries_again_where_it_could_not() {
        let dir = TestDir::new();
        let identity = founder(1);
        let old = identity.validity();
        let later = now() + Duration::from_secs(600 * 24 * 3600);
        look(&identity, &dir.0, now()).unwrap();
        assert!(look(&identity, &dir.0.join("gone"), later).is_err());
        assert_eq!(identity.validity(), old);
        identity.save_new(&dir.0).unwrap();
        look(&identity, &dir.0, later).unwrap();
        assert!(identity.validity().until > old.until && !identity.validity().is_due(later));
        assert_eq!(
            ArrayIdentity::load(&dir.0).unwrap().validity(),
            identity.validity()
        );
        // The clock was ahead, and is set right.
        look(&identity, &dir.0, now()).unwrap();
        assert_eq!(identity.validity(), old);
    }
}
