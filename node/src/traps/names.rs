//! Addresses of webhooks' names, asked of the system's resolver.
//!
//! That blocks a thread for as long as name servers are silent, and cannot be cancelled. So whoever asks for a
//! name that is being asked for waits for that answer: a name never has more than one thread, however often
//! and by however many webhooks it is tried.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::Failure;

/// Threads that may wait for the system's resolver: as many as the names of the webhooks of a policy.
pub(super) const RESOLVERS: usize = 64;

type Found = Result<Vec<IpAddr>, String>;
type Look = dyn Fn(&str) -> Found + Send + Sync;
type UnderWay = BTreeMap<String, watch::Receiver<Option<Found>>>;

/// What is asked for at the moment.
#[derive(Clone)]
pub struct Names {
    look: Arc<Look>,
    under_way: Arc<Mutex<UnderWay>>,
}

impl Default for Names {
    fn default() -> Self {
        Self::by(system)
    }
}

impl Names {
    /// Those that `look` finds.
    pub(super) fn by(look: impl Fn(&str) -> Found + Send + Sync + 'static) -> Self {
        Self {
            look: Arc::new(look),
            under_way: Arc::default(),
        }
    }

    /// The addresses of `host`, a name or an address.
    ///
    /// # Errors
    /// There are none.
    pub async fn find(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        let found = match host.parse() {
            Ok(address) => Ok(vec![address]),
            Err(_) => self.ask(host).await,
        };
        let failed = |words| Failure::passing(format!("cannot connect: {words}"));
        let all = found.map_err(failed)?.into_iter();
        Ok(all.map(|address| (address, port).into()).collect())
    }

    async fn ask(&self, host: &str) -> Found {
        let mut answer = self.begin(host);
        let answer = answer.wait_for(Option::is_some).await;
        let ended = || Err("the system's resolver ended".to_owned());
        answer.map_or_else(|_| ended(), |found| found.clone().unwrap_or_else(ended))
    }

    /// The answer that is to come: of the lookup under way, or of a new one.
    fn begin(&self, host: &str) -> watch::Receiver<Option<Found>> {
        let mut all = lock(&self.under_way);
        if let Some(answer) = all.get(host) {
            return answer.clone();
        }
        let (tell, answer) = watch::channel(None);
        all.insert(host.to_owned(), answer.clone());
        let (names, host) = (self.clone(), host.to_owned());
        // Ends when the resolver does, whether or not anybody still waits.
        let _detached = tokio::task::spawn_blocking(move || {
            let found = (names.look)(&host);
            lock(&names.under_way).remove(&host);
            tell.send_replace(Some(found));
        });
        answer
    }
}

fn lock(all: &Mutex<UnderWay>) -> MutexGuard<'_, UnderWay> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

fn system(host: &str) -> Found {
    let found = (host, 0).to_socket_addrs();
    let found = found.map_err(|error| error.to_string())?;
    Ok(found.map(|address| address.ip()).collect())
}
