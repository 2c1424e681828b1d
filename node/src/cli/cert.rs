//! `rais cert show`: this host's certificate, as its data directory has it. No daemon is asked, since one
//! whose certificate has run out could not answer.

use std::path::Path;

use serde_json::json;

use super::args::Look;
use super::error::CliError;
use super::run::Console;
use crate::api::WallTime;
use crate::pki::ArrayIdentity;

/// Shows it.
pub(super) fn show(data_dir: &Path, look: Look, console: &mut Console<'_>) -> Result<(), CliError> {
    if !ArrayIdentity::exists(data_dir) {
        let data_dir = data_dir.to_owned();
        return Err(CliError::NoArray { data_dir });
    }
    let identity = ArrayIdentity::load(data_dir).map_err(|error| {
        let remedy = "type it as the user of the daemon, or as root";
        CliError::failed(error.to_string(), remedy)
    })?;
    let validity = identity.validity();
    let time = |secs: u64| WallTime(secs.saturating_mul(1000));
    let (from, until) = (time(validity.from), time(validity.until));
    let renewed = time(validity.renewed());
    let authority = identity.authority().fingerprint().to_string();
    let (name, id, array) = (identity.name(), identity.host(), identity.array());
    if look.json {
        return console.print_json(&json!({
            "host": name, "id": id.0, "array": array.to_string(), "authority": authority,
            "from": from, "until": until, "renewed": renewed,
        }));
    }
    console.print(&format!(
        "host       {name} (id {id})\narray      {array}\nauthority  {authority}\ngood       {from} to {until}\nrenewed    by its daemon from {renewed} on\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::style::Style;
    use crate::pki::testing::{TestDir, founder};

    fn shown(dir: &Path, json: bool) -> Result<String, CliError> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console {
            out: &mut out,
            err: &mut err,
            style: Style::PLAIN,
        };
        show(dir, Look { json }, &mut console)?;
        Ok(String::from_utf8(out).unwrap())
    }

    /// Goal: people and programs see until when it is good, without a daemon.
    /// Method: an empty directory, then an identity on disk.
    #[test]
    fn a_certificate_is_shown_with_its_dates() {
        let dir = TestDir::new();
        let none = shown(&dir.0, false);
        assert!(matches!(none, Err(CliError::NoArray { .. })));
        let identity = founder(1);
        identity.save_new(&dir.0).unwrap();
        let until = WallTime(identity.validity().until * 1000).to_string();
        let text = shown(&dir.0, false).unwrap();
        assert!(
            text.contains(&until) && text.contains("h1 (id 1)"),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_str(&shown(&dir.0, true).unwrap()).unwrap();
        assert_eq!(json["until"], until);
        assert!(json["renewed"].as_str() > json["from"].as_str());
        assert!(json["renewed"].as_str() < json["until"].as_str());
    }
}
