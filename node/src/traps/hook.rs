//! Posts an event to a webhook, as `rais events --json` shows it, signed where a key is named.
//!
//! A connection for each event: events are seldom, and what was idle for hours is dead in half of all
//! networks. Redirects are not followed, since the body would go where nobody wanted it. TLS 1.3 with
//! the roots of this system (`SSL_CERT_FILE` names others).

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use ring::hmac;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use statemachine::Webhook;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::names::Names;
use super::{Failure, Means, Tenure};
use crate::api::EventRecord;
use crate::clock;
use crate::config::WebUrl;

/// How long one post may take, from the name's address to the answer's status.
const PATIENCE: Duration = Duration::from_secs(10);
/// Kind of an event, so that a receiver can choose without parsing.
const KIND: &str = "rais-event";
/// The same for the same event, however often and by whomever it is told.
const DELIVERY: &str = "rais-delivery";
/// `t=SECONDS,v1=HEX`: HMAC-SHA256 over `SECONDS.BODY`.
const SIGNATURE: &str = "rais-signature";

/// A webhook.
pub struct Hook {
    url: WebUrl,
    key: Option<hmac::Key>,
    tls: Option<TlsConnector>,
    names: Names,
}

impl Hook {
    /// One that is posted to as its target says.
    ///
    /// # Errors
    /// This host does not have the key, or this system trusts nobody.
    pub fn new(target: &Webhook, means: &Means) -> Result<Self, Failure> {
        Self::trusting(target, means, system_roots)
    }

    /// One whose certificate the roots are to vouch for.
    ///
    /// # Errors
    /// This host does not have the key, or there are no roots.
    pub(super) fn trusting(
        target: &Webhook,
        means: &Means,
        roots: fn() -> RootCertStore,
    ) -> Result<Self, Failure> {
        let url = WebUrl::parse(&target.url).map_err(|no| Failure::lasting(no.what))?;
        let key = target.key.as_ref().map(|name| {
            let found = means.secrets.keys.iter().find(|(known, _)| known == name);
            let words = || format!("this host's file has no [[traps.key]] named {name}");
            found
                .map(|(_, key)| key.clone())
                .ok_or_else(|| Failure::lasting(words()))
        });
        let tls = url.tls.then(|| connector(roots())).transpose()?;
        Ok(Self {
            url,
            key: key.transpose()?,
            tls,
            names: means.names.clone(),
        })
    }

    /// Posts `event`, the `number`th of its log index.
    ///
    /// # Errors
    /// No connection, no answer in time, or an answer other than 2xx.
    pub async fn tell(
        &self,
        event: &EventRecord,
        number: u32,
        tenure: &Tenure,
    ) -> Result<(), Failure> {
        let request = self.request(event, number, tenure, clock::wall_ms() / 1_000)?;
        let asked = timeout(PATIENCE, self.post(request)).await;
        let late = |_| Failure::passing(format!("no answer within {} s", PATIENCE.as_secs()));
        judge(asked.map_err(late)??)
    }

    fn request(
        &self,
        event: &EventRecord,
        number: u32,
        tenure: &Tenure,
        now_s: u64,
    ) -> Result<Request<Body>, Failure> {
        let unfit = |error: String| Failure::lasting(error);
        let body = serde_json::to_string(event).map_err(|error| unfit(error.to_string()))?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&self.url.path)
            .header(header::HOST, &self.url.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(
                header::USER_AGENT,
                concat!("rais/", env!("CARGO_PKG_VERSION")),
            )
            .header(KIND, &event.kind)
            .header(
                DELIVERY,
                format!("{}-{}-{number}", tenure.array, event.index),
            );
        if let Some(key) = &self.key {
            request = request.header(SIGNATURE, signature(key, now_s, &body));
        }
        request
            .body(Body::from(body))
            .map_err(|error| unfit(error.to_string()))
    }

    async fn post(&self, request: Request<Body>) -> Result<StatusCode, Failure> {
        let found = self.names.find(&self.url.host, self.url.port).await?;
        let stream = TcpStream::connect(found.as_slice()).await;
        let stream =
            stream.map_err(|error| Failure::passing(format!("cannot connect: {error}")))?;
        let Some(tls) = &self.tls else {
            return exchange(stream, request).await;
        };
        let name = ServerName::try_from(self.url.host.clone());
        let name =
            name.map_err(|_| Failure::lasting("its name is none that a certificate can have"))?;
        let stream = tls.connect(name, stream).await;
        exchange(
            stream.map_err(|error| Failure::passing(format!("TLS: {error}")))?,
            request,
        )
        .await
    }
}

async fn exchange<S>(stream: S, request: Request<Body>) -> Result<StatusCode, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |error: hyper::Error| Failure::passing(error.to_string());
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(failed)?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    let answer = tokio::select! {
        // Gives up the connection with what the answer's body may hold.
        answer = &mut answer => answer,
        // The answer may have come before the end.
        _ended = connection => answer.await,
    };
    answer.map(|answer| answer.status()).map_err(failed)
}

/// What is worth another try: the server's own trouble, and too many requests.
fn judge(status: StatusCode) -> Result<(), Failure> {
    let again = status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        );
    match status.is_success() {
        true => Ok(()),
        false if again => Err(Failure::passing(format!("it answers {status}"))),
        false => Err(Failure::lasting(format!("it answers {status}"))),
    }
}

fn signature(key: &hmac::Key, now_s: u64, body: &str) -> String {
    let tag = hmac::sign(key, format!("{now_s}.{body}").as_bytes());
    let hex: String = tag
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("t={now_s},v1={hex}")
}

/// Whom this system trusts; nobody where that can't be read.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn connector(roots: RootCertStore) -> Result<TlsConnector, Failure> {
    if roots.is_empty() {
        let words =
            "this system has no root certificates: install ca-certificates, or set SSL_CERT_FILE";
        return Err(Failure::lasting(words));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| Failure::lasting(error.to_string()))?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the signature is the one that the page explains. Method: the example of docs/traps.md.
    #[test]
    fn the_signature_covers_the_time_and_the_body() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef");
        let expected =
            "t=1800000000,v1=1313ae9c874eb1a0868ad0b65f841c4243c23fdcfad69a3ada227726fad9960e";
        assert_eq!(signature(&key, 1_800_000_000, "{}"), expected);
    }

    /// Goal: what mends itself is tried again, what does not is given up. Method: a table of answers.
    #[test]
    fn only_what_may_pass_is_tried_again() {
        for (status, lasting) in [
            (200, None),
            (204, None),
            (500, Some(false)),
            (503, Some(false)),
            (429, Some(false)),
            (408, Some(false)),
            (301, Some(true)),
            (400, Some(true)),
            (410, Some(true)),
        ] {
            let judged = judge(StatusCode::from_u16(status).unwrap());
            assert_eq!(
                judged.err().map(|failure| failure.lasting),
                lasting,
                "{status}"
            );
        }
    }
}
