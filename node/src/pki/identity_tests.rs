//! Tests of the identity on disk.
#![allow(clippy::unwrap_used)]

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;

use super::super::testing::{TestDir, founder, joined, now};
use super::*;
use statemachine::TokenId;

/// Goal: what was saved is read back, private, and not overwritten.
/// Method: save, look at modes and names, load, save as new again.
#[test]
fn saved_identity_is_loaded_and_private() {
    let dir = TestDir::new();
    let data = dir.0.join("data");
    let identity = founder(1);
    assert!(!ArrayIdentity::exists(&data));
    identity.save_new(&data).unwrap();
    assert!(ArrayIdentity::exists(&data));
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    let files: Vec<_> = data
        .read_dir()
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    assert_eq!(files.len(), 5, "no temporary file stays: {files:?}");
    assert!(files.iter().all(|file| mode(file) == 0o600));

    let loaded = ArrayIdentity::load(&data).unwrap();
    assert_eq!(
        (loaded.array(), loaded.host(), loaded.name()),
        (identity.array(), HostId(1), "h1")
    );
    assert_eq!(
        loaded.authority().fingerprint(),
        identity.authority().fingerprint()
    );
    assert_eq!(loaded.validity(), identity.validity());
    assert!(matches!(
        identity.save_new(&data),
        Err(PkiError::AlreadyInitialised { .. })
    ));
}

/// Goal: each missing, open, broken or foreign file is told by name, with the remedy.
/// Method: damage one file of a good set at a time.
#[test]
fn each_damage_names_the_file_and_the_remedy() {
    let dir = TestDir::new();
    let data = dir.0.as_path();
    let (ours, theirs) = (founder(1), founder(2));
    let second = joined(&ours, 2);
    let fresh = || {
        set_permissions(data, Permissions::from_mode(0o700)).unwrap();
        ours.save(data).unwrap();
    };
    let fails = |file: &str, remedy: &str| {
        let text = ArrayIdentity::load(data).unwrap_err().to_string();
        assert!(
            text.contains(file) && text.contains(remedy),
            "{file}: {text}"
        );
    };
    for file in [
        CA_CERT_FILE,
        CA_KEY_FILE,
        HOST_CERT_FILE,
        HOST_KEY_FILE,
        IDENTITY_FILE,
    ] {
        fresh();
        set_permissions(data.join(file), Permissions::from_mode(0o640)).unwrap();
        fails(file, "chmod 0600");
        fresh();
        write_private(data, file, b"garbage").unwrap();
        fails(
            if file == CA_KEY_FILE {
                CA_CERT_FILE
            } else {
                file
            },
            "restore",
        );
        fresh();
        write_private(data, file, &[0xff; 10]).unwrap();
        fails(file, "UTF-8");
        fresh();
        write_private(data, file, &[b'a'; 70_000]).unwrap();
        fails(file, "64 KiB");
        std::fs::remove_file(data.join(file)).unwrap();
        fails(file, "rais init");
    }
    fresh();
    set_permissions(data, Permissions::from_mode(0o770)).unwrap();
    fails("", "chmod 0700");
    fresh();
    write_private(data, HOST_CERT_FILE, second.shown.now().pem.as_bytes()).unwrap();
    assert!(matches!(
        ArrayIdentity::load(data),
        Err(PkiError::HostMismatch { .. })
    ));
    write_private(data, HOST_CERT_FILE, theirs.shown.now().pem.as_bytes()).unwrap();
    assert!(matches!(
        ArrayIdentity::load(data),
        Err(PkiError::ArrayMismatch { .. })
    ));
    fresh();
    write_private(data, HOST_KEY_FILE, second.key.pem().as_bytes()).unwrap();
    assert!(matches!(
        ArrayIdentity::load(data),
        Err(PkiError::KeyMismatch { .. })
    ));
    let missing = ArrayIdentity::load(&data.join("none")).unwrap_err();
    assert!(matches!(missing, PkiError::Missing { .. }));
}

const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// Goal: a certificate is renewed in the last third of its time, after it has run out, and when the clock that
/// made it was ahead; not before.
/// Method: the dates that a verifier reads, against clocks around them.
#[test]
fn certificate_is_due_in_its_last_third_and_before_it_is_good() {
    let made = now();
    let validity = founder(1).validity();
    let seconds = |time: SystemTime| {
        time.duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    assert_eq!(validity.from, seconds(made - DAY));
    assert_eq!(validity.until, seconds(made + 730 * DAY));
    let third = std::time::UNIX_EPOCH + std::time::Duration::from_secs(validity.renewed());
    assert_eq!(seconds(third), validity.until - 731 * 24 * 3600 / 3);
    let second = std::time::Duration::from_secs(1);
    for (now, good, due) in [
        (made, true, false),
        (third - second, true, false),
        (third, true, true),
        (made + 730 * DAY, true, true),
        (made + 730 * DAY + second, false, true),
        (made + 3_000 * DAY, false, true),
        (made - DAY, true, false),
        (made - DAY - second, false, true),
        (std::time::UNIX_EPOCH - DAY, false, true),
    ] {
        let found = (validity.is_good(now), validity.is_due(now));
        assert_eq!(found, (good, due), "{now:?}");
    }
}

/// Goal: a renewal replaces the certificate, on disk and for handshakes, and neither key; one that cannot be
/// written leaves all as it was.
/// Method: renew a year later, load again; then take the directory away.
#[test]
fn renewal_replaces_the_certificate_and_keeps_the_keys() {
    let dir = TestDir::new();
    let identity = founder(1);
    identity.save_new(&dir.0).unwrap();
    let read = |file: &str| std::fs::read_to_string(dir.0.join(file)).unwrap();
    let keys = || [CA_CERT_FILE, CA_KEY_FILE, HOST_KEY_FILE].map(read);
    let (before, old, shown) = (keys(), read(HOST_CERT_FILE), identity.shown());
    let renewed = identity.renew(&dir.0, now() + 365 * DAY).unwrap();
    assert_eq!(keys(), before);
    assert_ne!(read(HOST_CERT_FILE), old);
    assert_eq!(shown.now().pem, read(HOST_CERT_FILE));
    assert_eq!(
        (identity.validity(), shown.now().validity),
        (renewed, renewed)
    );
    assert_eq!(ArrayIdentity::load(&dir.0).unwrap().validity(), renewed);
    assert!(read(IDENTITY_FILE).contains(&renewed.until.to_string()));

    let gone = identity.renew(&dir.0.join("gone"), now() + 700 * DAY);
    assert!(matches!(gone, Err(PkiError::Io { .. })), "{gone:?}");
    assert_eq!(identity.validity(), renewed);
}

/// Goal: a clock without a battery makes certificates that can be read, and the right clock makes good ones again.
/// Method: renew in 1970, load, renew today.
#[test]
fn certificate_of_1970_is_read_and_replaced() {
    let dir = TestDir::new();
    let identity = founder(1);
    identity.save_new(&dir.0).unwrap();
    let early = identity.renew(&dir.0, std::time::UNIX_EPOCH).unwrap();
    assert_eq!((early.from, early.until), (0, 730 * 24 * 3600));
    let loaded = ArrayIdentity::load(&dir.0).unwrap();
    assert_eq!(loaded.validity(), early);
    assert!(loaded.validity().is_due(now()));
    assert!(!loaded.renew(&dir.0, now()).unwrap().is_due(now()));
}

/// Goal: a joiner is not given the keys of another array, nor another host's certificate.
/// Method: grants with the wrong authority, the wrong key, the wrong proof.
#[test]
fn joiner_refuses_a_grant_of_another_array_and_leader_a_false_proof() {
    let (ours, theirs) = (founder(1), founder(2));
    let key = HostKey::generate().unwrap();
    let issued = theirs
        .authority()
        .issue(HostId(2), "h2", &key.public_key(), now())
        .unwrap();
    let grant = theirs.grant(HostId(2), "h2", issued);
    let result = ArrayIdentity::from_grant(&grant, key, &ours.authority().fingerprint());
    assert!(matches!(result, Err(PkiError::WrongAuthority { .. })));
    assert!(!format!("{grant:?}").contains("PRIVATE"));

    let other = HostKey::generate().unwrap();
    let result = ArrayIdentity::from_grant(&grant, other, &theirs.authority().fingerprint());
    assert!(matches!(result, Err(PkiError::KeyMismatch { .. })));

    let key = HostKey::generate().unwrap();
    let fingerprint = ours.authority().fingerprint();
    let proof = key.prove(&fingerprint, &TokenId(1), "h2").unwrap();
    assert!(proof.verify(&fingerprint, &TokenId(1), "h2").is_ok());
    assert!(proof.verify(&fingerprint, &TokenId(2), "h2").is_err());
    assert!(proof.verify(&fingerprint, &TokenId(1), "h3").is_err());
    assert!(
        proof
            .verify(&theirs.authority().fingerprint(), &TokenId(1), "h2")
            .is_err()
    );
}

/// Goal: a name that can't stand in a certificate is refused. Method: empty, long, control.
#[test]
fn unusable_host_names_are_refused() {
    for name in ["", &"x".repeat(64), "a\nb"] {
        let result = ArrayIdentity::found(ArrayId([1; 16]), HostId(1), name, now());
        assert!(matches!(result, Err(PkiError::BadName { .. })), "{name:?}");
    }
}
