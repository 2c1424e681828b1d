//! The reads: each is one question of the command line.

use std::net::IpAddr;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response as Http};
use serde_json::json;

use super::fault::Fault;
use super::policy;
use super::reply::{self, Pairs, Params, read};
use super::routes::App;
use crate::api::{Hypothesis, MAX_EVENTS, MAX_HYPOTHESES, Request, Response, Status};
use crate::cli::timing_json;
use crate::config::{policy_to_toml, timing_to_toml};

/// Events in an answer that names no limit.
const USUAL_EVENTS: u32 = 100;

type Answer = Result<Http, Fault>;

/// Answers with a part of the status.
async fn of_status(app: &App, query: Pairs, pick: fn(&Status) -> Answer) -> Answer {
    let params = Params::of(query, &["consistency"])?;
    read(app, &params, Request::Status, |response| match response {
        Response::Status(status) => pick(&status),
        _ => Err(Fault::unexpected()),
    })
    .await
}

pub(super) async fn status(State(app): State<App>, query: Pairs) -> Answer {
    of_status(&app, query, reply::json).await
}

pub(super) async fn hosts(State(app): State<App>, query: Pairs) -> Answer {
    of_status(&app, query, |status| reply::json(&status.hosts)).await
}

pub(super) async fn groups(State(app): State<App>, query: Pairs) -> Answer {
    of_status(&app, query, |status| reply::json(&status.groups)).await
}

pub(super) async fn addresses(State(app): State<App>, query: Pairs) -> Answer {
    of_status(&app, query, all_addresses).await
}

/// Every address as in the status, with its group.
fn all_addresses(status: &Status) -> Answer {
    let mut all = Vec::new();
    for group in &status.groups {
        for address in &group.addresses {
            let mut value = json!(address);
            value["group"] = json!(group.name);
            all.push(value);
        }
    }
    reply::json(&all)
}

pub(super) async fn zone(
    State(app): State<App>,
    Path(group): Path<String>,
    query: Pairs,
) -> Answer {
    let params = Params::of(query, &["consistency"])?;
    read(
        &app,
        &params,
        Request::Zone { group },
        |response| match response {
            Response::Zone(zone) => reply::json(&zone),
            _ => Err(Fault::unexpected()),
        },
    )
    .await
}

pub(super) async fn events(State(app): State<App>, query: Pairs) -> Answer {
    let params = Params::of(query, &["since", "limit", "consistency"])?;
    let since = params.one("since", "a log index")?;
    let limit = params.one("limit", &format!("a number up to {MAX_EVENTS}"))?;
    let limit = limit.unwrap_or(USUAL_EVENTS).min(MAX_EVENTS);
    read(
        &app,
        &params,
        Request::Events { since, limit },
        |response| match response {
            Response::Events(events) => reply::json(&events),
            _ => Err(Fault::unexpected()),
        },
    )
    .await
}

/// An address of a path.
pub(super) fn address_of(text: &str) -> Result<IpAddr, Fault> {
    text.parse().map_err(|_| {
        let what = format!("`{}` is not an IP address", text.escape_debug());
        Fault::invalid(what, "GET /v1/addresses lists the addresses")
    })
}

pub(super) async fn why(
    State(app): State<App>,
    Path(address): Path<String>,
    query: Pairs,
) -> Answer {
    let params = Params::of(query, &["consistency"])?;
    let address = address_of(&address)?;
    read(
        &app,
        &params,
        Request::Why { address },
        |response| match response {
            Response::Why(why) => reply::json(&why),
            _ => Err(Fault::unexpected()),
        },
    )
    .await
}

pub(super) async fn traps(State(app): State<App>, query: Pairs) -> Answer {
    let params = Params::of(query, &["consistency"])?;
    read(&app, &params, Request::Traps, |response| match response {
        Response::Traps(traps) => reply::json(&traps),
        _ => Err(Fault::unexpected()),
    })
    .await
}

pub(super) async fn plan(State(app): State<App>, query: Pairs) -> Answer {
    let params = Params::of(query, &["if", "consistency"])?;
    let mut hypotheses: Vec<Hypothesis> = Vec::new();
    for text in params.all("if") {
        let supposed = text.parse::<Hypothesis>();
        hypotheses.push(supposed.map_err(|wrong| Fault::invalid(wrong.what, wrong.remedy))?);
    }
    if hypotheses.len() > MAX_HYPOTHESES {
        return Err(Fault::invalid(
            "too many suppositions",
            format!("suppose at most {MAX_HYPOTHESES} things at once"),
        ));
    }
    read(
        &app,
        &params,
        Request::Plan { hypotheses },
        |response| match response {
            Response::Plan(plan) => reply::json(&plan),
            _ => Err(Fault::unexpected()),
        },
    )
    .await
}

pub(super) async fn audit(State(app): State<App>, query: Pairs) -> Answer {
    let params = Params::of(query, &["consistency"])?;
    read(&app, &params, Request::Audit, |response| match response {
        Response::Audit(audit) => reply::json(&audit),
        _ => Err(Fault::unexpected()),
    })
    .await
}

/// A group's policy: as the file that `rais group apply` reads if so asked, else the same in JSON.
/// The timing in force; its index is the ETag.
pub(super) async fn timing(State(app): State<App>, headers: HeaderMap, query: Pairs) -> Answer {
    let params = Params::of(query, &["consistency"])?;
    let toml = wants_toml(&headers);
    read(
        &app,
        &params,
        Request::TimingShow,
        |response| match response {
            Response::Timing(report) => {
                let tag = (header::ETAG, format!("\"{}\"", report.index));
                if toml {
                    let kind = (header::CONTENT_TYPE, policy::TOML.to_owned());
                    return Ok(([kind, tag], timing_to_toml(&report.timing)).into_response());
                }
                Ok(([tag], reply::json(&timing_json(&report))?).into_response())
            }
            _ => Err(Fault::unexpected()),
        },
    )
    .await
}

fn wants_toml(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains(policy::TOML))
}

pub(super) async fn group(
    State(app): State<App>,
    Path(group): Path<String>,
    headers: HeaderMap,
    query: Pairs,
) -> Answer {
    let params = Params::of(query, &["consistency"])?;
    let toml = wants_toml(&headers);
    read(
        &app,
        &params,
        Request::GroupShow { group },
        |response| match response {
            Response::Group { policy, generation } => {
                let tag = (header::ETAG, format!("\"{generation}\""));
                if toml {
                    let kind = (header::CONTENT_TYPE, policy::TOML.to_owned());
                    return Ok(([kind, tag], policy_to_toml(&policy)).into_response());
                }
                let shown = json!({"policy": policy::to_json(&policy)?, "generation": generation});
                Ok(([tag], reply::json(&shown)?).into_response())
            }
            _ => Err(Fault::unexpected()),
        },
    )
    .await
}
