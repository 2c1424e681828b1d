//! The writes: each is one command of the command line, carried out by the leader.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response as Http};
use serde::Deserialize;
use serde_json::json;

use super::fault::Fault;
use super::policy;
use super::reads::address_of;
use super::reply::{self, Pairs, Params, ask, body_bytes, json_body};
use super::routes::App;
use crate::api::{Problem, Request, Response};
use crate::config::timing_diff;

/// A token that names nothing else is good for an hour and one host, as that of `rais token create`.
const TOKEN_TTL_S: u64 = 3_600;
const TOKEN_USES: u32 = 1;

type Answer = Result<Http, Fault>;

/// Carries out a change that is answered by what was done.
async fn done(app: &App, query: Pairs, request: Request) -> Answer {
    Params::of(query, &[])?;
    app.awake()?;
    match ask(app, request).await? {
        Response::Done { index, words } => reply::json(&json!({"done": words, "index": index})),
        _ => Err(Fault::unexpected()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Quiesce {
    group: Option<String>,
    #[serde(default)]
    drain: bool,
}

pub(super) async fn quiesce(
    State(app): State<App>,
    Path(host): Path<String>,
    query: Pairs,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let Quiesce { group, drain } = json_body(&headers, body).await?;
    done(&app, query, Request::Quiesce { host, group, drain }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resume {
    group: Option<String>,
}

pub(super) async fn resume(
    State(app): State<App>,
    Path(host): Path<String>,
    query: Pairs,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let Resume { group } = json_body(&headers, body).await?;
    done(&app, query, Request::Resume { host, group }).await
}

pub(super) async fn forget(
    State(app): State<App>,
    Path(host): Path<String>,
    query: Pairs,
) -> Answer {
    done(&app, query, Request::Forget { host }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Move {
    to: String,
}

pub(super) async fn move_address(
    State(app): State<App>,
    Path(address): Path<String>,
    query: Pairs,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let address = address_of(&address)?;
    let Move { to } = json_body(&headers, body).await?;
    done(&app, query, Request::Move { address, to }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Leader {
    host: String,
}

pub(super) async fn leader(
    State(app): State<App>,
    query: Pairs,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let Leader { host } = json_body(&headers, body).await?;
    done(&app, query, Request::TransferLeader { host }).await
}

pub(super) async fn delete_group(
    State(app): State<App>,
    Path(group): Path<String>,
    query: Pairs,
) -> Answer {
    done(&app, query, Request::GroupDelete { group }).await
}

/// Of the host that is asked; no other has its key.
pub(super) async fn renew_certificate(State(app): State<App>, query: Pairs) -> Answer {
    done(&app, query, Request::CertRenew).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Trial {
    group: String,
}

pub(super) async fn try_traps(
    State(app): State<App>,
    query: Pairs,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    Params::of(query, &[])?;
    app.awake()?;
    let Trial { group } = json_body(&headers, body).await?;
    match ask(&app, Request::TrapsTest { group }).await? {
        Response::Tried(tried) => reply::json(&tried),
        _ => Err(Fault::unexpected()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    ttl_s: Option<u64>,
    uses: Option<u32>,
}

pub(super) async fn token(
    State(app): State<App>,
    query: Pairs,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    Params::of(query, &[])?;
    app.awake()?;
    let Token { ttl_s, uses } = json_body(&headers, body).await?;
    let request = Request::TokenCreate {
        ttl_s: ttl_s.unwrap_or(TOKEN_TTL_S),
        uses: uses.unwrap_or(TOKEN_USES),
    };
    match ask(&app, request).await? {
        Response::Token {
            token,
            expires,
            uses,
        } => {
            let made = reply::json(&json!({"token": token, "expires": expires, "uses": uses}))?;
            Ok((StatusCode::CREATED, made).into_response())
        }
        _ => Err(Fault::unexpected()),
    }
}

/// The generation that the client saw, if it names one: only that one is replaced.
fn generation_seen(headers: &HeaderMap) -> Result<Option<Option<u64>>, Fault> {
    let text = |name| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or_default().trim())
    };
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (None, None) => Ok(None),
        (None, Some("*")) => Ok(Some(None)),
        (Some(tag), None) => match tag.trim_matches('"').parse() {
            Ok(generation) => Ok(Some(Some(generation))),
            Err(_) => Err(Fault::invalid(
                "If-Match is not a generation",
                "send the ETag that GET gave, such as \"17\"",
            )),
        },
        _ => Err(Fault::invalid(
            "the conditions do not fit",
            "send `If-Match: \"GENERATION\"` to change a group, `If-None-Match: *` to create one, or neither",
        )),
    }
}

/// Creates or changes a group; as the command line does, only against what was seen.
pub(super) async fn apply(
    State(app): State<App>,
    Path(group): Path<String>,
    query: Pairs,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let params = Params::of(query, &["dry_run"])?;
    let dry_run = params.one("dry_run", "`true` or `false`")?.unwrap_or(false);
    app.awake()?;
    let named = generation_seen(&headers)?;
    let policy = Box::new(policy::from_body(
        &group,
        &headers,
        &body_bytes(body).await?,
    )?);
    let look = Request::GroupApply {
        policy: policy.clone(),
        seen: None,
        dry_run: true,
    };
    let Response::GroupApplied { changes, seen, .. } = ask(&app, look).await? else {
        return Err(Fault::unexpected());
    };
    let show = |index: Option<u64>| {
        let value = json!({"group": group, "changes": changes, "seen": seen, "index": index, "dry_run": dry_run});
        reply::json(&value)
    };
    // With a condition the leader must check it even if nothing would change.
    if dry_run || (changes.is_empty() && named.is_none()) {
        return show(None);
    }
    let real = Request::GroupApply {
        policy,
        seen: named.unwrap_or(seen),
        dry_run: false,
    };
    match ask(&app, real).await? {
        Response::GroupApplied { index, .. } | Response::Done { index, .. } => show(index),
        _ => Err(Fault::unexpected()),
    }
}

/// Changes the timing; as the command line does, only against what was seen.
pub(super) async fn retime(
    State(app): State<App>,
    query: Pairs,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let params = Params::of(query, &["dry_run"])?;
    let dry_run = params.one("dry_run", "`true` or `false`")?.unwrap_or(false);
    app.awake()?;
    let named = generation_seen(&headers)?;
    let timing = policy::timing_from_body(&headers, &body_bytes(body).await?)?;
    let Response::Timing(current) = ask(&app, Request::TimingShow).await? else {
        return Err(Fault::unexpected());
    };
    if named.is_some_and(|seen| seen != Some(current.index)) {
        let rejected = statemachine::Rejected::Stale {
            planned: named.flatten().unwrap_or(0),
            current: current.index,
        };
        return Err(Problem::rejected(&rejected).into());
    }
    let seen = current.timing;
    let changes = timing_diff(&seen, &timing);
    let mut index = None;
    if !dry_run && !changes.is_empty() {
        index = match ask(&app, Request::TimingApply { timing, seen }).await? {
            Response::Done { index, .. } => index,
            _ => return Err(Fault::unexpected()),
        };
    }
    reply::json(
        &json!({"changes": changes, "seen": current.index, "index": index, "dry_run": dry_run}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a condition names exactly what may be replaced.
    #[test]
    fn conditions_name_the_generation_that_was_seen() {
        type Row = (
            &'static [(header::HeaderName, &'static str)],
            Result<Option<Option<u64>>, ()>,
        );
        let rows: [Row; 7] = [
            (&[], Ok(None)),
            (&[(header::IF_MATCH, "\"17\"")], Ok(Some(Some(17)))),
            (&[(header::IF_MATCH, "17")], Ok(Some(Some(17)))),
            (&[(header::IF_NONE_MATCH, "*")], Ok(Some(None))),
            (&[(header::IF_MATCH, "\"x\"")], Err(())),
            (&[(header::IF_NONE_MATCH, "\"17\"")], Err(())),
            (
                &[(header::IF_MATCH, "\"1\""), (header::IF_NONE_MATCH, "*")],
                Err(()),
            ),
        ];
        for (given, expected) in rows {
            let headers = given
                .iter()
                .map(|(name, value)| (name.clone(), value.parse().unwrap()));
            let headers: HeaderMap = headers.collect();
            assert_eq!(
                generation_seen(&headers).map_err(drop),
                expected,
                "{given:?}"
            );
        }
    }
}
