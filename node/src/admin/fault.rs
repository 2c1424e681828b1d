//! Refusals over HTTP: `application/problem+json` (RFC 9457), from the door's [`Problem`] or from HTTP itself.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::api::{Problem, ProblemKind};

/// A refusal on its way to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    status: StatusCode,
    kind: &'static str,
    title: String,
    detail: String,
    remedy: String,
    /// For a question that another host must answer: which.
    leader: Option<Box<str>>,
}

impl Fault {
    /// A refusal from its parts.
    pub(super) fn new(
        status: StatusCode,
        kind: &'static str,
        title: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            status,
            kind,
            title: title.into(),
            detail: detail.into(),
            remedy: remedy.into(),
            leader: None,
        }
    }

    /// The request itself is wrong.
    pub(super) fn invalid(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self::new(status, "invalid", "invalid request", detail, remedy)
    }

    /// Only the leader can confirm that nothing is newer.
    pub(super) fn not_leader(leader: Option<String>) -> Self {
        let Some(name) = leader else {
            return Problem::no_leader().into();
        };
        let mut fault = Self::new(
            StatusCode::MISDIRECTED_REQUEST,
            "notLeader",
            "not the leader",
            format!("only the leader can confirm that nothing is newer, and {name} leads"),
            format!("ask {name}, or leave out `consistency=linearizable`"),
        );
        fault.leader = Some(name.into());
        fault
    }

    /// The answer is none that the request can have.
    pub(super) fn unexpected() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "unexpected answer",
            "the daemon gave an answer to another question",
            "run the same version on all hosts",
        )
    }

    /// Its status.
    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        let internal = StatusCode::INTERNAL_SERVER_ERROR;
        // As the problem's own JSON has it.
        let kind = match problem.kind {
            ProblemKind::NotFound => "notFound",
            ProblemKind::Conflict => "conflict",
            ProblemKind::Invalid => "invalid",
            ProblemKind::NoLeader => "noLeader",
            ProblemKind::NoQuorum => "noQuorum",
            ProblemKind::Forbidden => "forbidden",
            ProblemKind::Internal => "internal",
        };
        Self::new(
            StatusCode::from_u16(problem.kind.http_status()).unwrap_or(internal),
            kind,
            problem.title,
            problem.detail,
            problem.remedy,
        )
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": format!("urn:rais:problem:{}", self.kind),
            "kind": self.kind,
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "remedy": self.remedy,
        });
        if let Some(leader) = self.leader {
            body["leader"] = json!(leader);
        }
        let kind = HeaderValue::from_static("application/problem+json");
        let mut response = (self.status, body.to_string()).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 wants a scheme named; TLS client certificates have none registered.
            let scheme = HeaderValue::from_static("TLS-Client-Certificate");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a refusal of the door keeps its status and its words on the way through HTTP.
    #[tokio::test]
    async fn a_problem_becomes_problem_json_with_its_status_and_remedy() {
        let rows = [
            (ProblemKind::NotFound, 404, "notFound"),
            (ProblemKind::Conflict, 409, "conflict"),
            (ProblemKind::Invalid, 422, "invalid"),
            (ProblemKind::NoLeader, 503, "noLeader"),
            (ProblemKind::NoQuorum, 503, "noQuorum"),
            (ProblemKind::Forbidden, 403, "forbidden"),
            (ProblemKind::Internal, 500, "internal"),
        ];
        for (kind, status, name) in rows {
            let fault = Fault::from(Problem::new(kind, "t", "d", "r"));
            assert_eq!(fault.status().as_u16(), status);
            assert_eq!(serde_json::to_value(kind).unwrap(), name);
            let response = fault.into_response();
            assert_eq!(
                response.headers()[header::CONTENT_TYPE],
                "application/problem+json"
            );
            let body = axum::body::to_bytes(response.into_body(), 4096)
                .await
                .unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(
                (&body["kind"], &body["status"]),
                (&json!(name), &json!(status))
            );
            assert_eq!(
                (&body["detail"], &body["remedy"]),
                (&json!("d"), &json!("r"))
            );
        }
    }
}
