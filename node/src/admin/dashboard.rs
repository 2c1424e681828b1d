//! The two documents that the binary carries: the dashboard and the API's description.

use axum::http::header;
use axum::response::IntoResponse;

use super::fault::Fault;
use super::reply::{Pairs, Params};

const PAGE: &str = include_str!("dashboard.html");
/// The description, by hand: a test compares its paths with the routes.
pub(super) const OPENAPI: &str = include_str!("openapi.json");
/// The page loads nothing and talks to nobody but this server, and no other page may frame it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

pub(super) async fn page() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE)
}

pub(super) async fn openapi(query: Pairs) -> Result<impl IntoResponse, Fault> {
    Params::of(query, &[])?;
    Ok(([(header::CONTENT_TYPE, "application/json")], OPENAPI))
}
