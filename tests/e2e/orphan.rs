//! Orphan timers as people see them. Their end is in `crash.rs`, whose timer runs anyway.

use std::net::IpAddr;

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
