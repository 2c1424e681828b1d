//! Orphan timers as people see them. Their end is in `crash.rs`, whose timer runs anyway.

use std::net::IpAddr;

use crate::admin::ask;
use crate::array::{Array, service, until};

/// Applies the group's policy with some lines replaced; gives the policy as the array has it then.
pub fn apply_with(array: &Array, changes: &[(&str, &str)]) -> String {
    let mut policy = array.rais(1, &["group", "show", "web", "--toml"]).good();
    for (old, new) in changes {
        assert!(policy.contains(old), "`{old}` is not in {policy}");
        policy = policy.replace(old, new);
    }
    let file = array.dir.join("changed.toml");
    std::fs::write(&file, &policy).unwrap();
    array
        .rais(1, &["group", "apply", &file.display().to_string()])
        .good();
    policy
}

/// How long until `address` runs out as an orphan, in ms.
pub fn remaining_ms(array: &Array, asked: u8, address: IpAddr) -> Option<u64> {
    let status = array.address(asked, address)?;
    status["orphan_expires_s"].as_u64()?;
    array.try_json(asked, &["why", &address.to_string()])?["next_in_ms"]
        .as_u64()
        .filter(|ms| *ms > 0)
}

/// Goal: what `status` and `why` say of an orphan's end agrees with the clock, on every host.
/// Method: reads both twice, some seconds apart.
#[test]
fn the_time_left_of_an_orphan_is_told_to_the_second() {
    let array = Array::start(3);
    apply_with(&array, &[("orphan_ttl = \"30d\"", "orphan_ttl = \"1h\"")]);
    array.kill(3);
    let first = until("an orphan", 20, || remaining_ms(&array, 1, service(3)));
    let later = |asked: u8| {
        until("three seconds less", 5, || {
            let left = array.address(asked, service(3))?["orphan_expires_s"].as_u64()?;
            (left * 1000 + 3_000 <= first + 1_000).then_some(left)
        })
    };
    let (one, two) = (later(1), later(2));
    assert!(one.abs_diff(two) <= 2, "h1 says {one} s, h2 {two} s");
}

/// Goal: an orphan may have years, every door says how many are left, and its host's return ends the count.
/// Method: the longest time, a host killed and brought back; command line, API and metrics of two hosts.
#[test]
fn an_orphan_of_years_is_shown_everywhere_and_cancelled_when_its_host_is_back() {
    let mut array = Array::start(3);
    apply_with(
        &array,
        &[("orphan_ttl = \"30d\"", "orphan_ttl = \"3650d\"")],
    );
    let victim = array.follower_and_leader().0;
    let (ip, asked) = (
        service(victim),
        [1, 2, 3].into_iter().filter(|host| *host != victim),
    );
    array.kill(victim);
    let days = 3_649 * 86_400;
    for asked in asked.clone() {
        let left = until("an orphan online", 20, || {
            let address = array.address(asked, ip)?;
            let left = address["orphan_expires_s"].as_u64()?;
            (address["state"] == "online").then_some(left)
        });
        assert!((days..=days + 86_400).contains(&left), "{left} s");
        let table = array.rais(asked, &["addresses"]).good();
        let line = table.lines().find(|line| line.contains(&ip.to_string()));
        assert!(line.unwrap().contains("in 36"), "{table}");
        let why = array.rais(asked, &["why", &ip.to_string()]).good();
        assert!(why.contains("as an orphan in 36"), "{why}");
        let (_, status) = ask(&array, asked, None, "GET", "/v1/addresses");
        assert!(status.contains("\"orphan_expires_s\":31"), "{status}");
        let (_, metrics) = ask(&array, asked, None, "GET", "/metrics");
        let name = format!("rais_orphan_expires_seconds{{group=\"web\",address=\"{ip}\"}} 31");
        assert!(metrics.contains(&name), "{metrics}");
    }
    array.restart(victim);
    array.whole();
    for asked in 1..=3 {
        let address = array.address(asked, ip).unwrap();
        assert!(address["orphan_expires_s"].is_null(), "{address}");
        let (_, metrics) = ask(&array, asked, None, "GET", "/metrics");
        assert!(
            !metrics.contains("rais_orphan_expires_seconds{"),
            "{metrics}"
        );
    }
}
