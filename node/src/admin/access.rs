//! Who may do what over HTTP.
//!
//! TLS has proved the certificate; here it becomes a right. Whoever holds a host's key is that
//! host's operator and may do all. Everyone else is nobody, but a local user may be let in to look.
//!
//! A browser that holds a certificate sends it for any page that asks, so a change that comes from
//! another site's page is refused by its `Origin`.

use std::net::SocketAddr;

use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use statemachine::HostId;

use super::fault::Fault;
use super::routes::App;

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// Where it is.
    pub(super) address: SocketAddr,
    /// The host of this array whose certificate it has proved to own.
    pub(super) host: Option<HostId>,
}

impl Peer {
    fn is_local(self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }
}

/// What a route asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Health and metrics: nothing of a local caller.
    Probe,
    /// Look at the array.
    Look,
    /// Change it.
    Change,
}

/// Why a caller was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// It showed no certificate.
    Unknown,
    /// It is a viewer and wants to change something.
    Viewer,
    /// Its host was forgotten while the connection was open.
    Forgotten,
}

/// May this peer do this? `member` says whether its host is in the array, `open` whether local
/// users may look without a certificate.
pub(super) fn judge(peer: Peer, member: bool, open: bool, need: Need) -> Result<(), Denied> {
    match (peer.host, need) {
        (Some(_), _) if member => Ok(()),
        (Some(_), _) => Err(Denied::Forgotten),
        (None, Need::Probe) if peer.is_local() => Ok(()),
        (None, Need::Look) if peer.is_local() && open => Ok(()),
        (None, Need::Change) if peer.is_local() && open => Err(Denied::Viewer),
        (None, _) => Err(Denied::Unknown),
    }
}

impl Denied {
    fn fault(self) -> Fault {
        match self {
            Self::Unknown => Fault::new(
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "no certificate",
                "this needs a certificate of a host of the array, and none was shown",
                "show host.pem and host.key of a data directory, or set `open_on_loopback = true` under [admin] to let local users look",
            ),
            Self::Viewer => Fault::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "a viewer may only look",
                "without a certificate a local user may look at the array, not change it",
                "show host.pem and host.key of a data directory, or use `rais`",
            ),
            Self::Forgotten => Fault::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "host was forgotten",
                "the certificate is of a host that is in the array no more",
                "use the certificate of a host that `rais hosts` lists",
            ),
        }
    }
}

/// Whether a request was made by this server's own page, or by no page at all.
fn is_own_page(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let own = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let from = origin
        .to_str()
        .ok()
        .and_then(|it| it.strip_prefix("https://"));
    from.is_some() && from == own
}

/// Lets a request through to its route, or answers why not.
pub(super) async fn guard(
    State((app, need)): State<(App, Need)>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let member = peer.host.is_some_and(|host| app.door.knows(host));
    if let Err(denied) = judge(peer, member, app.door.open(), need) {
        tracing::debug!(peer = %peer.address, path = request.uri().path(), ?denied, "request refused");
        return denied.fault().into_response();
    }
    if need == Need::Change && !is_own_page(request.headers()) {
        return Fault::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "page of another site",
            "a page of another site asked the browser for this change",
            "make the change from this server's own page, from `rais`, or without an Origin header",
        )
        .into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the whole table of rights.
    /// Method: every kind of peer with every need, with the door open and shut.
    #[test]
    fn only_a_member_host_may_change_and_only_local_users_may_look_without_one() {
        use Denied::{Forgotten, Unknown, Viewer};
        let peer = |address: &str, host: Option<u64>| Peer {
            address: address.parse().unwrap(),
            host: host.map(HostId),
        };
        let needs = [Need::Probe, Need::Look, Need::Change];
        let all = [Ok(()), Ok(()), Ok(())];
        let rows = [
            // peer, its host is a member, open on loopback, what each need gets
            (peer("10.0.0.9:1", Some(2)), true, false, all),
            (peer("127.0.0.1:1", Some(2)), true, true, all),
            (
                peer("10.0.0.9:1", Some(2)),
                false,
                true,
                [Err(Forgotten); 3],
            ),
            (
                peer("127.0.0.1:1", Some(2)),
                false,
                true,
                [Err(Forgotten); 3],
            ),
            (
                peer("127.0.0.1:1", None),
                false,
                false,
                [Ok(()), Err(Unknown), Err(Unknown)],
            ),
            (
                peer("[::1]:1", None),
                false,
                false,
                [Ok(()), Err(Unknown), Err(Unknown)],
            ),
            (
                peer("127.0.0.1:1", None),
                false,
                true,
                [Ok(()), Ok(()), Err(Viewer)],
            ),
            (
                peer("[::ffff:127.0.0.1]:1", None),
                false,
                true,
                [Ok(()), Ok(()), Err(Viewer)],
            ),
            (peer("10.0.0.9:1", None), false, true, [Err(Unknown); 3]),
            (
                peer("[::ffff:10.0.0.9]:1", None),
                false,
                true,
                [Err(Unknown); 3],
            ),
        ];
        for (peer, member, open, expected) in rows {
            let got = needs.map(|need| judge(peer, member, open, need));
            assert_eq!(got, expected, "{peer:?} member {member} open {open}");
        }
    }

    /// Goal: only our own page, or no page, may change something with the browser's certificate.
    #[test]
    fn a_page_of_another_site_is_told_apart_by_its_origin() {
        let rows = [
            (None, true),
            (Some("https://127.77.0.1:7443"), true),
            (Some("https://evil.example"), false),
            (Some("http://127.77.0.1:7443"), false),
            (Some("https://127.77.0.1:7443.evil.example"), false),
            (Some("null"), false),
        ];
        for (origin, own) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "127.77.0.1:7443".parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(is_own_page(&headers), own, "{origin:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, "https://a".parse().unwrap());
        assert!(!is_own_page(&headers), "no Host header");
    }
}
