//! Pieces that handlers share: query, body, and answers with their age.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Query;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use super::door::Unconfirmed;
use super::fault::Fault;
use super::routes::App;
use crate::api::{self, Problem, Request};

/// Longest body, in bytes: as long as a policy file may be.
pub(super) const MAX_BODY: usize = 1 << 20;
/// A body must be there by then.
const BODY: Duration = Duration::from_secs(10);
/// Index of the last log entry that an answer surely contains.
const INDEX: HeaderName = HeaderName::from_static("rais-index");
/// How long ago the leader was heard, in ms.
const HEARD: HeaderName = HeaderName::from_static("rais-leader-heard-ms");
/// `local` or `linearizable`.
const CONSISTENCY: HeaderName = HeaderName::from_static("rais-consistency");

/// The query, name by name, names repeated as given.
pub(super) type Pairs = Query<Vec<(String, String)>>;

/// A query whose names are all known.
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// Takes a query that may hold `known` names.
    pub(super) fn of(Query(pairs): Pairs, known: &[&str]) -> Result<Self, Fault> {
        match pairs
            .iter()
            .find(|(name, _)| !known.contains(&name.as_str()))
        {
            None => Ok(Self(pairs)),
            Some((name, _)) => Err(Fault::invalid(
                format!("the parameter `{}` is not known here", name.escape_debug()),
                if known.is_empty() {
                    "leave it out".to_owned()
                } else {
                    format!("known here: {}", known.join(", "))
                },
            )),
        }
    }

    /// Every value of a name.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.0.iter().filter(move |(known, _)| known == name);
        named.map(|(_, value)| value.as_str())
    }

    /// The only value of a name, parsed.
    pub(super) fn one<T: std::str::FromStr>(
        &self,
        name: &str,
        fit: &str,
    ) -> Result<Option<T>, Fault> {
        let mut all = self.all(name);
        let Some(text) = all.next() else {
            return Ok(None);
        };
        match (text.parse(), all.next()) {
            (Ok(value), None) => Ok(Some(value)),
            (_, Some(_)) => Err(Fault::invalid(
                format!("`{name}` is given twice"),
                "give it once",
            )),
            (Err(_), None) => Err(Fault::invalid(
                format!("`{name}={}` does not fit", text.escape_debug()),
                format!("write {fit}"),
            )),
        }
    }
}

/// A JSON body; an empty one stands for an object without members.
pub(super) async fn json_body<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Fault> {
    let bytes = body_bytes(body).await?;
    if bytes.is_empty() {
        return parse_json(b"{}");
    }
    match media_type(headers) {
        Some("application/json") => parse_json(&bytes),
        _ => Err(unsupported("application/json")),
    }
}

/// The whole body, within bounds of length and time.
pub(super) async fn body_bytes(body: Body) -> Result<Vec<u8>, Fault> {
    match tokio::time::timeout(BODY, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(bytes)) => Ok(bytes.to_vec()),
        Ok(Err(_)) => Err(Fault::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "tooLarge",
            "body too long",
            format!("the body is longer than {MAX_BODY} bytes, or was cut off"),
            "send less at once",
        )),
        Err(_) => Err(Fault::new(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            "body too slow",
            format!("the body was not there within {} s", BODY.as_secs()),
            "send it at once",
        )),
    }
}

/// Reads JSON, saying where it is wrong.
pub(super) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(|error| {
        Fault::invalid(
            format!("the body does not fit: {error}"),
            "GET /v1/openapi.json shows what does",
        )
    })
}

/// A body of a type that the route does not read.
pub(super) fn unsupported(wanted: &str) -> Fault {
    Fault::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupportedMediaType",
        "unsupported media type",
        "the body is of another type than this reads",
        format!("send `Content-Type: {wanted}`"),
    )
}

/// The body's type, without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    value.split(';').next().map(str::trim)
}

/// JSON that no cache keeps: it is about now.
pub(super) fn json(value: &impl serde::Serialize) -> Result<Response, Fault> {
    let text = serde_json::to_string(value).map_err(|_| Fault::unexpected())?;
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, text).into_response())
}

/// Asks the door; a refusal becomes a fault.
pub(super) async fn ask(app: &App, request: Request) -> Result<api::Response, Fault> {
    match app.door.ask(request).await {
        api::Response::Refused { problem } => Err(problem.into()),
        response => Ok(response),
    }
}

/// Answers a read from this host's copy, with its age in the headers, or, if so asked, only once the
/// leader has made sure that nothing is newer.
pub(super) async fn read(
    app: &App,
    params: &Params,
    request: Request,
    show: impl FnOnce(api::Response) -> Result<Response, Fault>,
) -> Result<Response, Fault> {
    app.awake()?;
    let fit = "`local` or `linearizable`";
    let asked: Option<String> = params.one("consistency", fit)?;
    // Taken before the answer: it is never younger than it says.
    let (word, index, heard) = match asked.as_deref() {
        None | Some("local") => {
            let age = app.door.age().await;
            ("local", age.index, age.leader_heard_ms)
        }
        Some("linearizable") => ("linearizable", confirm(app).await?, None),
        Some(other) => {
            let what = format!("`consistency={}` does not fit", other.escape_debug());
            return Err(Fault::invalid(what, format!("write {fit}")));
        }
    };
    let mut response = show(ask(app, request).await?)?;
    let headers = response.headers_mut();
    headers.insert(CONSISTENCY, HeaderValue::from_static(word));
    headers.insert(INDEX, index.into());
    if let Some(heard) = heard {
        headers.insert(HEARD, heard.into());
    }
    Ok(response)
}

async fn confirm(app: &App) -> Result<u64, Fault> {
    app.door
        .confirm()
        .await
        .map_err(|unconfirmed| match unconfirmed {
            Unconfirmed::NotLeader(leader) => Fault::not_leader(leader),
            Unconfirmed::NoQuorum => Problem::no_quorum().into(),
            Unconfirmed::Stopped(why) => Fault::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "raft has stopped",
                why,
                "the daemon's log says more; restart it",
            ),
        })
}
