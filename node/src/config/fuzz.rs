//! No text whatever makes the readers panic, and what they take is sound.

use proptest::prelude::*;

use super::mistakes::{HOST, POLICY, every_kind};
use super::{check, decode, duration, parse_host, parse_policy, policy_to_toml};

/// Reads `text` as each kind of file and prints what was found, which must not panic either.
fn read(text: &str) -> Result<(), TestCaseError> {
    for all in [
        check("f", text).err(),
        parse_host("f", text).err(),
        parse_policy("f", text).err(),
    ]
    .into_iter()
    .flatten()
    {
        prop_assert!(!all.found().is_empty(), "an error without a word");
        prop_assert!(!all.to_string().is_empty());
    }
    if let Ok(policy) = parse_policy("f", text) {
        prop_assert_eq!(policy.check(), Ok(()));
        let again = parse_policy("f", &policy_to_toml(&policy));
        prop_assert_eq!(again, Ok(policy));
    }
    if let Ok(host) = parse_host("f", text) {
        prop_assert_eq!(parse_host("f", &host.to_toml()), Ok(host));
    }
    Ok(())
}

/// A valid file, a piece of which is replaced by something else from a valid file or by noise.
fn mutated() -> impl Strategy<Value = String> {
    let files = vec![HOST.to_owned(), POLICY.to_owned(), every_kind()];
    let noise = prop_oneof![
        Just(String::new()),
        any::<String>(),
        "[-0-9a-z\\[\\]{}\"'=.,:/ \n]{0,12}",
        Just("0".to_owned()),
        Just("[[".to_owned()),
        Just("{".repeat(200)),
        Just("a.".repeat(200)),
        Just("18446744073709551616".to_owned()),
    ];
    (
        prop::sample::select(files),
        prop::collection::vec((any::<prop::sample::Index>(), 0..20_usize, noise), 1..4),
    )
        .prop_map(|(mut text, edits)| {
            for (at, length, noise) in edits {
                let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
                if places.is_empty() {
                    break;
                }
                let start = at.index(places.len());
                let end = (start + length).min(places.len() - 1);
                text.replace_range(places[start]..places[end], &noise);
            }
            text
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Goal: no bytes make the reader panic. Method: random bytes.
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        if let Ok(text) = decode("f", bytes) {
            read(&text)?;
        }
    }

    /// Goal: no file makes the reader panic, and what is taken is written back the same.
    /// Method: good files with pieces replaced.
    #[test]
    fn mutated_files_never_panic_and_survive_a_round_trip(text in mutated()) {
        read(&text)?;
    }

    /// Goal: every duration reads back. Method: any number of milliseconds within the bound.
    #[test]
    fn durations_read_back(ms in 0..=super::scalar::MAX_MILLIS) {
        let time = super::Millis(ms);
        prop_assert_eq!(duration(&time.to_string()), Ok(time));
    }
}

/// Goal: the file and the log agree on how long a zone may be.
/// Method: the longest zone that is taken here passes there, one more is refused here.
#[test]
fn the_longest_zone_is_the_same_here_and_in_the_log() {
    let zone = |length: usize| {
        let name = "a.".repeat(length / 2 - 1);
        format!(
            "name = 'web'\nzone = '{name}{}.'",
            "b".repeat(length - name.len() - 1)
        )
    };
    let policy = parse_policy("f", &zone(super::scalar::MAX_ZONE)).unwrap();
    assert_eq!(
        (policy.zone.len(), policy.check()),
        (super::scalar::MAX_ZONE, Ok(()))
    );
    assert!(parse_policy("f", &zone(super::scalar::MAX_ZONE + 1)).is_err());
}

/// Goal: a hostile megabyte costs neither the stack nor minutes.
/// Method: deep nesting, and many times the same mistake.
#[test]
fn large_and_deep_files_end_in_an_error() {
    let deep = format!("zone = {}", "[".repeat(100_000));
    assert!(parse_policy("f", &deep).is_err());
    let members = "[[member]]\ngroup = 'web'\nx = 1\n".repeat(20_000);
    assert!(parse_host("f", &members).is_err());
    let listen = format!("[dns]\nlisten = [{}]", "'10.0.0.1:53',".repeat(50_000));
    assert!(parse_host("f", &listen).is_err());
    assert!(
        parse_host("f", &" ".repeat(super::MAX_FILE + 1))
            .unwrap_err()
            .to_string()
            .contains("larger than 1 MiB")
    );
    assert!(
        decode("f", vec![b'a', b'\n', 0xff])
            .unwrap_err()
            .to_string()
            .starts_with("f:2:1: the file is not UTF-8")
    );
}
