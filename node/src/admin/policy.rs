//! A group's policy and the timing over HTTP: the files of `rais group apply` and `rais timing apply`, or
//! the same keys in JSON.
//!
//! JSON is turned into the file's form and read by the file's reader, so that both are checked by the
//! same rules, and what was read back can be sent again.

use axum::http::HeaderMap;
use serde_json::Value;
use statemachine::{Policy, Timing};

use super::fault::Fault;
use super::reply::{media_type, parse_json, unsupported};
use crate::config::{parse_policy, parse_timing, policy_to_toml};

/// The media type of the file (RFC 9618).
pub(super) const TOML: &str = "application/toml";
const JSON: &str = "application/json";
/// What messages call the file.
const NAME: &str = "policy";

/// The policy in JSON, with the file's keys.
pub(super) fn to_json(policy: &Policy) -> Result<Value, Fault> {
    let table: toml::Table = policy_to_toml(policy)
        .parse()
        .map_err(|_| Fault::unexpected())?;
    serde_json::to_value(table).map_err(|_| Fault::unexpected())
}

/// The policy of group `group` that a body holds.
pub(super) fn from_body(group: &str, headers: &HeaderMap, body: &[u8]) -> Result<Policy, Fault> {
    let text = text_of(headers, body)?;
    let policy = parse_policy(NAME, &text).map_err(|mistakes| {
        Fault::invalid(
            mistakes.to_string(),
            "mend it; `rais check FILE` finds the same",
        )
    })?;
    if policy.name.0 == group {
        return Ok(policy);
    }
    let what = format!(
        "the policy is of group {}, the path of group {}",
        policy.name,
        group.escape_debug()
    );
    Err(Fault::invalid(what, "name the same group in both"))
}

/// The timing that a body holds.
pub(super) fn timing_from_body(headers: &HeaderMap, body: &[u8]) -> Result<Timing, Fault> {
    let text = text_of(headers, body)?;
    parse_timing("timing", &text).map_err(|mistakes| {
        Fault::invalid(
            mistakes.to_string(),
            "mend it; `rais check FILE` finds the same",
        )
    })
}

/// A body as the text of a file.
fn text_of(headers: &HeaderMap, body: &[u8]) -> Result<String, Fault> {
    match media_type(headers) {
        Some(TOML) => Ok(std::str::from_utf8(body)
            .map_err(|_| Fault::invalid("the body is not UTF-8", "send it as UTF-8"))?
            .to_owned()),
        Some(JSON) => file_of(parse_json(body)?),
        _ => Err(unsupported("application/toml` or `application/json")),
    }
}

/// The text of the file that says the same as `value`.
fn file_of(value: Value) -> Result<String, Fault> {
    let value = without_nulls(value);
    toml::to_string(&value).map_err(|error| {
        Fault::invalid(
            format!("the object does not fit: {error}"),
            "send the object that GET gives",
        )
    })
}

/// TOML knows no null: a member that is null is one that is not there.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let there = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(
                there
                    .map(|(name, value)| (name, without_nulls(value)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::header::CONTENT_TYPE;

    fn typed(kind: &str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())])
    }

    const FILE: &str = "name = \"web\"\nzone = \"web.example.\"\nttl = \"7s\"\n\n[[test]]\nname = \"up\"\ntcp = { target = \"{address}:80\" }\ninterval = \"2s\"\n\n[traps]\nwebhook = [\"https://hooks.example/x\"]\n";

    /// Goal: a policy means the same as file and as JSON, and what is read can be sent again.
    #[test]
    fn json_and_toml_give_the_same_policy_and_read_back() {
        let policy = from_body(
            "web",
            &typed("application/toml; charset=utf-8"),
            FILE.as_bytes(),
        )
        .unwrap();
        let shown = to_json(&policy).unwrap();
        assert_eq!(shown["ttl"], "7s");
        let body = shown.to_string();
        assert_eq!(
            from_body("web", &typed("application/json"), body.as_bytes()).unwrap(),
            policy
        );
        let small = r#"{"name":"web","zone":"web.example.","scripts":null}"#;
        let small = from_body("web", &typed("application/json"), small.as_bytes()).unwrap();
        assert_eq!(small, Policy::new("web", "web.example."));
    }

    /// Goal: a wrong body is refused with a reason, whatever is wrong with it.
    #[test]
    fn wrong_policies_are_refused_with_the_reason() {
        let rows = [
            ("application/toml", "name = ", 422),
            (
                "application/toml",
                "name = \"web\"\nzone = \"web.example.\"\nttk = \"1s\"",
                422,
            ),
            (
                "application/toml",
                "name = \"other\"\nzone = \"web.example.\"",
                422,
            ),
            ("application/json", "{\"name\":\"web\"", 422),
            ("application/json", "[1]", 422),
            ("application/json", "7", 422),
            (
                "application/json",
                "{\"name\":\"web\",\"zone\":[null]}",
                422,
            ),
            ("text/plain", FILE, 415),
        ];
        for (kind, body, status) in rows {
            let fault = from_body("web", &typed(kind), body.as_bytes()).unwrap_err();
            assert_eq!(fault.status().as_u16(), status, "{kind} {body}");
        }
        assert_eq!(
            from_body("web", &HeaderMap::new(), FILE.as_bytes())
                .unwrap_err()
                .status(),
            415
        );
    }
}
