//! DNS put together: the name server, and what the name servers that follow it get.

use std::sync::Arc;

use dns::tsig::Keys;
use dns::{DnsServer, Primary, Settings};

use super::DaemonError;
use super::shelf::Shelf;
use crate::config::{DnsKey, HostConfig};

/// What this host is to name servers that follow its zones, with the keys of its file.
pub(super) fn primary(config: &HostConfig) -> Result<Arc<Primary>, DaemonError> {
    let keys = config.dns_keys.iter().map(DnsKey::load);
    let keys = Keys::new(keys.collect::<Result<_, _>>()?);
    Ok(Arc::new(Primary::new(keys)))
}

/// The name server; SERVFAIL until what this host knew is recovered.
pub(super) fn serve(config: &HostConfig, shelf: &Shelf) -> Result<Arc<DnsServer>, DaemonError> {
    let secret = crate::random::bytes().map_err(DaemonError::Random)?;
    let settings = config
        .dns_limits
        .of(Settings::new(secret, crate::clock::wall_us));
    let (zones, primary) = (shelf.zones(), shelf.primary());
    let server = DnsServer::bind_primary(&config.dns, zones, primary, settings)?;
    Ok(Arc::new(server))
}
