//! Certificates of a running array that run out.

use std::path::Path;

use serde_json::Value;

use crate::admin::ask;
use crate::array::{Array, name, until};

/// Every certificate that was made before has run out.
const TWO_YEARS_AND_MORE_S: i64 = 750 * 24 * 3600;
/// The daemon looks each second.
const RENEWED_S: u64 = 30;

/// From when the certificate of host `number` is good.
fn from(array: &Array, number: u8) -> String {
    let shown = array.json(number, &["cert", "show"]);
    shown["from"].as_str().unwrap().to_owned()
}

/// Waits until every host has a certificate that was made after `before`, or before it.
fn renewed(array: &Array, before: &[String], is_later: bool) {
    until("every host has a new certificate", RENEWED_S, || {
        let mut all = (1..=array.hosts).zip(before);
        all.all(|(host, before)| {
            let from = from(array, host);
            from != *before && (from > *before) == is_later
        })
        .then_some(())
    });
}

/// What tells whether anything moved: every address with its holder and epoch.
fn standing(array: &Array) -> Value {
    let addresses = array.json(1, &["addresses"]);
    let of = |one: &Value| {
        [
            one["address"].clone(),
            one["host"].clone(),
            one["epoch"].clone(),
        ]
    };
    let addresses: Vec<_> = addresses.as_array().unwrap().iter().map(of).collect();
    serde_json::json!(addresses)
}

/// As the metrics of host `number` have it.
fn metric(array: &Array, number: u8, name: &str) -> f64 {
    let (code, page) = ask(array, number, None, "GET", "/metrics");
    assert_eq!(code, 200, "{page}");
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {page}"))
        .trim()
        .parse()
        .unwrap()
}

/// A copy of the identity in `from`, and where its daemon listens.
fn copy_identity(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in [
        "ca.pem",
        "ca.key",
        "host.pem",
        "host.key",
        "identity.toml",
        "control.addr",
    ] {
        // With its mode.
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

/// Goal: an array whose certificates have all run out goes on, renews them without a restart, refuses and counts
/// the old ones, and lets hosts in that start later; the clock set right, the same again. By hand too.
/// Method: the array's wall clock is set by more than two years, both ways; a host is killed in between, and
/// somebody shows a certificate of before.
#[test]
fn certificates_that_run_out_are_renewed_and_nobody_notices() {
    let mut array = Array::start_with_wall(3);
    let certificates = |array: &Array| -> Vec<String> { (1..=3).map(|n| from(array, n)).collect() };
    let (old, before) = (array.dir.join("old"), standing(&array));
    copy_identity(&array.data(2), &old);
    let first = certificates(&array);

    array.step_wall(TWO_YEARS_AND_MORE_S);
    renewed(&array, &first, true);
    assert_eq!(standing(&array), before);
    let dir = old.display().to_string();
    array.bare(&["status", "--data-dir", &dir]).refused(&[
        "it refuses our certificate: not valid by its clock",
        "compare the clocks",
    ]);
    let killed = if array.leader(1) == 3 { 1 } else { 3 };
    array.kill(killed);
    array.restart(killed);
    // Killed and back at once, it is not missed before its new start is seen: then it gets its address anew.
    let held = |standing: &Value| standing[usize::from(killed) - 1].clone();
    until("the killed host has its address anew", RENEWED_S, || {
        let now = held(&standing(&array));
        let anew = now[1] == name(killed).as_str() && now[2] != held(&before)[2];
        anew.then_some(())
    });
    array.whole();

    let (second, before) = (certificates(&array), standing(&array));
    array.step_wall(0);
    renewed(&array, &second, false);
    assert_eq!(standing(&array), before);
    let expired = "rais_certificates_refused_total{side=\"server\"}";
    let until_s = "rais_certificate_expires_timestamp_seconds";
    let (third, until_third) = (from(&array, 2), metric(&array, 2, until_s));
    assert!(metric(&array, 2, expired) >= 1.0);
    until(
        "a second has passed, which is what certificates count in",
        5,
        || {
            let said = array.rais(2, &["cert", "renew"]).good();
            assert!(
                said.starts_with("h2 has a new certificate, good until "),
                "{said}"
            );
            (from(&array, 2) > third).then_some(())
        },
    );
    assert!(metric(&array, 2, until_s) > until_third);
}
