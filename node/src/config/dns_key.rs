//! The keys that this host shares with name servers that follow its zones: `[[dns.key]]`.
//!
//! In the host's file and not in the policy, since a policy is replicated, shown and diffed; and
//! only the path of a file there, so that `rais.toml` may be read by whoever looks after it. The
//! secret is in nothing that can be printed ([`dns::tsig::Key`] shows its name alone).
//!
//! Reading the file is apart from reading `rais.toml`, which touches nothing: `rais check FILE` and
//! the daemon's start do both.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dns::tsig::{Algorithm, Key};

use super::diagnostic::Report;
use super::host_read::{absolute, choice};
use super::scalar::{Complaint, complaint, object_name};
use super::secret::read_secret;
use super::section::{Placed, Section};

/// Most keys of a host; one would do, two while it is changed.
const MAX_KEYS: usize = 64;

const KEYS: [&str; 3] = ["name", "algorithm", "secret_file"];

/// A key, and where its secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsKey {
    /// Its name, on both sides.
    pub name: String,
    /// How it signs.
    pub algorithm: Algorithm,
    /// File with the secret in base64, readable by its owner only.
    pub secret_file: PathBuf,
}

/// Reads all `[[dns.key]]` of `[dns]`.
pub(crate) fn read(dns: &Section<'_, '_>, report: &mut Report<'_>) -> Vec<DnsKey> {
    let read = read_placed(dns, report);
    read.into_iter().map(|(key, _)| key).collect()
}

/// The keys, each with the place of its file's path.
fn read_placed(dns: &Section<'_, '_>, report: &mut Report<'_>) -> Vec<(DnsKey, Placed<PathBuf>)> {
    let algorithms = Algorithm::ALL.map(|one| (one.as_str(), one));
    let sections = dns.tables("key", "[[dns.key]]", &KEYS, &super::host_read::ROOT, report);
    if sections.len() > MAX_KEYS {
        report.add(
            dns.span_of("key"),
            format!("[[dns.key]] is there {} times", sections.len()),
            format!("write at most {MAX_KEYS}"),
        );
    }
    let mut keys: Vec<(DnsKey, Placed<PathBuf>)> = Vec::new();
    for section in sections.into_iter().take(MAX_KEYS) {
        let name = section.need("name", "\"xfer-key\"", object_name, report);
        let algorithm = section.text(
            "algorithm",
            "\"hmac-sha256\"",
            |text| choice(text, &algorithms),
            report,
        );
        let file = section.need("secret_file", "\"/etc/rais/xfer-key\"", absolute, report);
        let (Some(name), Some(file)) = (name, file) else {
            continue;
        };
        let same = |(key, _): &(DnsKey, _)| key.name.eq_ignore_ascii_case(&name.value);
        if keys.iter().any(same) {
            report.add(
                name.span,
                format!("the key `{}` is there twice", name.value),
                "give each its own name",
            );
            continue;
        }
        let key = DnsKey {
            name: name.value,
            algorithm: algorithm.map_or(Algorithm::HmacSha256, |one| one.value),
            secret_file: file.value.clone(),
        };
        keys.push((key, file));
    }
    keys
}

/// Reports each key whose secret can't be used. Touches the disk.
pub(crate) fn check_files(root: &Section<'_, '_>, report: &mut Report<'_>) {
    // What is wrong with the sections themselves was reported when they were read.
    let mut silent = Report::new("");
    let Some(dns) = root.table("dns", "[dns]", &[], &[], &mut silent) else {
        return;
    };
    for (key, file) in read_placed(&dns, &mut silent) {
        if let Err(Complaint { what, remedy }) = key.load() {
            report.add(file.span, what, remedy);
        }
    }
}

impl DnsKey {
    /// The key with its secret.
    ///
    /// # Errors
    /// What is wrong with the file; never what is in it.
    pub fn load(&self) -> Result<Key, Complaint> {
        let file = self.secret_file.display();
        let text = read_secret(&self.secret_file)?;
        let secret = STANDARD.decode(text.trim()).map_err(|_| {
            complaint(
                format!("`{file}` does not hold a secret in base64"),
                "put nothing but the base64 text there, as `tsig-keygen` prints it",
            )
        })?;
        Key::new(&self.name, self.algorithm, &secret)
            .map_err(|error| complaint(error.to_string(), format!("write another one to {file}")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Diagnostic, check_file, parse_host};
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    const HOST: &str =
        "name = \"h1\"\ndata_dir = \"/d\"\n[control]\nlisten = [\"10.0.0.1:7400\"]\n[dns]\n";
    const SECRET: &str = "c2VjcmV0IG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXMhISE=\n";

    fn with_key(key: &str) -> String {
        format!("{HOST}[[dns.key]]\n{key}\n")
    }

    /// Goal: keys are read, each mistake has its place. Method: a good one, then one mistake each.
    #[test]
    fn keys_are_read_and_mistakes_have_their_place() {
        let good = "name = \"xfer-key\"\nsecret_file = \"/etc/rais/key\"";
        let host = parse_host("f", &with_key(good)).unwrap();
        let [key] = host.dns_keys.as_slice() else {
            panic!("{host:?}");
        };
        assert_eq!(key.algorithm, Algorithm::HmacSha256);
        assert_eq!(parse_host("f", &host.to_toml()).unwrap(), host);
        let rows = [
            (
                good.replace("name", "nmae"),
                "7:1: unknown key `nmae` in [[dns.key]]; did you mean `name`?",
            ),
            (good.replace("xfer-key", "a b"), "7:8: `a b` is not a name"),
            (
                good.replace("/etc", "etc"),
                "8:15: `etc/rais/key` is not an absolute path",
            ),
            (
                format!("{good}\nalgorithm = \"hmac-md5\""),
                "9:13: `hmac-md5` is not known here; write one of: hmac-sha256",
            ),
            (
                format!("{good}\n[[dns.key]]\n{good}"),
                "10:8: the key `xfer-key` is there twice; give each its own name",
            ),
        ];
        for (text, expected) in rows {
            let told = parse_host("f", &with_key(&text)).unwrap_err();
            let has = |one: &Diagnostic| one.headline().starts_with(expected);
            assert!(told.found().iter().any(has), "{expected} in {told}");
        }
    }

    /// Goal: `rais check` looks at the file with the secret and points at its path; the secret is
    /// told by nothing. Method: a missing file, one that others may read, nonsense, a good one.
    #[test]
    fn a_secret_is_for_its_owner_alone() {
        let dir = std::env::temp_dir().join(format!("rais-dns-key-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (secret, config) = (dir.join("secret"), dir.join("rais.toml"));
        let key = format!("name = \"k\"\nsecret_file = \"{}\"", secret.display());
        std::fs::write(&config, with_key(&key)).unwrap();
        let told = || check_file(&config).unwrap_err().found()[0].headline();
        assert!(
            told().starts_with("8:15: can't read the secret in"),
            "{}",
            told()
        );
        std::fs::write(&secret, SECRET).unwrap();
        std::fs::set_permissions(&secret, Permissions::from_mode(0o640)).unwrap();
        assert!(told().contains("has mode 0640, so others can read the secret; run `chmod 0600"));
        std::fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        let checked = format!("{:?}", check_file(&config).unwrap());
        assert!(!checked.contains(SECRET.trim()), "{checked}");
        std::fs::write(&secret, "what?").unwrap();
        assert!(told().contains("does not hold a secret in base64"));
        std::fs::write(&secret, "c2hvcnQ=").unwrap();
        assert!(told().contains("the secret of key `k` has 5 bytes"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
