//! Every route with what it asks of its caller. The OpenAPI document is tested against this table.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post, put};
use tokio::sync::watch;

use super::access::{Need, guard};
use super::door::Door;
use super::fault::Fault;
use super::{dashboard, metrics, reads, stream, writes};

/// What every handler has.
#[derive(Clone)]
pub(super) struct App {
    /// The daemon.
    pub(super) door: Arc<dyn Door>,
    /// Turns true when the daemon stops.
    pub(super) stop: watch::Receiver<bool>,
}

impl App {
    /// Refuses while this host does not know again what it knew: its copy may be of any age.
    pub(super) fn awake(&self) -> Result<(), Fault> {
        if self.door.recovered() {
            return Ok(());
        }
        Err(Fault::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "recovering",
            "still recovering",
            "this daemon has just started and does not know yet what the array agreed on meanwhile",
            "try again in a second; it waits for a leader",
        ))
    }
}

/// One route.
pub(super) struct Route {
    /// As OpenAPI spells it, in lower case.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the test against the document reads it")
    )]
    pub(super) method: &'static str,
    /// With `{name}` for each parameter.
    pub(super) path: &'static str,
    need: Need,
    handler: MethodRouter<App>,
}

/// Every route, in the order of the document.
pub(super) fn table() -> Vec<Route> {
    use Need::{Change, Look, Probe};
    let route = |method, path, need, handler| Route {
        method,
        path,
        need,
        handler,
    };
    vec![
        route("get", "/", Look, get(dashboard::page)),
        route("get", "/healthz", Probe, get(metrics::health)),
        route("get", "/metrics", Probe, get(metrics::metrics)),
        route("get", "/v1/openapi.json", Look, get(dashboard::openapi)),
        route("get", "/v1/status", Look, get(reads::status)),
        route("get", "/v1/hosts", Look, get(reads::hosts)),
        route("delete", "/v1/hosts/{host}", Change, delete(writes::forget)),
        route(
            "post",
            "/v1/hosts/{host}/quiesce",
            Change,
            post(writes::quiesce),
        ),
        route(
            "post",
            "/v1/hosts/{host}/resume",
            Change,
            post(writes::resume),
        ),
        route("get", "/v1/addresses", Look, get(reads::addresses)),
        route("get", "/v1/addresses/{address}/why", Look, get(reads::why)),
        route(
            "post",
            "/v1/addresses/{address}/move",
            Change,
            post(writes::move_address),
        ),
        route("get", "/v1/groups", Look, get(reads::groups)),
        route("get", "/v1/groups/{group}", Look, get(reads::group)),
        route("put", "/v1/groups/{group}", Change, put(writes::apply)),
        route(
            "delete",
            "/v1/groups/{group}",
            Change,
            delete(writes::delete_group),
        ),
        route("get", "/v1/zones/{group}", Look, get(reads::zone)),
        route("get", "/v1/events", Look, get(reads::events)),
        route("get", "/v1/events/stream", Look, get(stream::follow)),
        route("get", "/v1/timing", Look, get(reads::timing)),
        route("put", "/v1/timing", Change, put(writes::retime)),
        route("get", "/v1/traps", Look, get(reads::traps)),
        route("post", "/v1/traps/test", Change, post(writes::try_traps)),
        route("get", "/v1/plan", Look, get(reads::plan)),
        route("get", "/v1/audit", Look, get(reads::audit)),
        route("post", "/v1/tokens", Change, post(writes::token)),
        route("post", "/v1/leader", Change, post(writes::leader)),
        route(
            "post",
            "/v1/certificate/renew",
            Change,
            post(writes::renew_certificate),
        ),
    ]
}

/// The table as a router; each route is guarded by its need, an unknown one as if it were a look.
pub(super) fn router(app: &App) -> Router {
    let guarded = |need| from_fn_with_state((app.clone(), need), guard);
    let unknown = get(no_route).fallback(no_route).layer(guarded(Need::Look));
    let mut router = Router::new();
    for route in table() {
        router = router.route(route.path, route.handler.route_layer(guarded(route.need)));
    }
    router
        .method_not_allowed_fallback(no_method)
        .fallback_service(unknown.with_state(app.clone()))
        .with_state(app.clone())
}

async fn no_route() -> Fault {
    Fault::new(
        StatusCode::NOT_FOUND,
        "notFound",
        "no such path",
        "the API has no such path",
        "GET /v1/openapi.json lists them all",
    )
}

async fn no_method() -> Fault {
    Fault::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "methodNotAllowed",
        "method not allowed",
        "the path is known, but not with this method",
        "GET /v1/openapi.json lists the methods of each path",
    )
}
