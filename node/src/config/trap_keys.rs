//! The secrets that this host shares with those who are told of events: `[[traps.user]]`, the users of
//! SNMPv3, and `[[traps.key]]`, the keys that sign webhooks.
//!
//! As with `[[dns.key]]`: in the host's file and not in the policy, which is replicated and shown; and only
//! the paths of files there. Whoever leads does the telling, so every host that votes needs them.

use std::path::{Path, PathBuf};

use ring::{digest, hmac};
use statemachine::{SnmpSecurity, Traps};

use super::diagnostic::Report;
use super::host::quote;
use super::host_read::{ROOT, absolute, choice};
use super::scalar::{Complaint, complaint, object_name};
use super::secret::read_secret;
use super::section::{Placed, Section};
use super::traps::user;

/// Most users, and most keys, of a host.
const MAX: usize = 64;
/// Fewest characters of a password (RFC 3414, 11.2).
const MIN_PASSWORD: usize = 8;
/// Fewest characters of a key that signs: what an attacker can't try.
const MIN_KEY: usize = 16;

const USER: [&str; 5] = ["name", "auth", "auth_file", "priv", "priv_file"];
const KEY: [&str; 2] = ["name", "secret_file"];

/// How a user's messages are signed (RFC 7860).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// The least that is taken.
    Sha256,
    /// Longer.
    Sha384,
    /// The longest.
    Sha512,
}

impl Auth {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Its hash.
    #[must_use]
    pub fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }

    /// Its HMAC.
    #[must_use]
    pub fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    /// As many bytes of the HMAC are sent.
    #[must_use]
    pub const fn mac_len(self) -> usize {
        match self {
            Self::Sha256 => 24,
            Self::Sha384 => 32,
            Self::Sha512 => 48,
        }
    }
}

/// A user of SNMPv3. Its messages are always signed and encrypted, the latter with AES-128 (RFC 3826).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrapUser {
    /// Its name, on both sides.
    pub name: String,
    /// How it signs.
    pub auth: Auth,
    /// File with the password that signs.
    pub auth_file: PathBuf,
    /// File with the password that encrypts.
    pub priv_file: PathBuf,
}

/// A key that signs webhooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookKey {
    /// Its name, as policies call it.
    pub name: String,
    /// File with its secret.
    pub secret_file: PathBuf,
}

/// Both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrapKeys {
    /// Users of SNMPv3.
    pub users: Vec<TrapUser>,
    /// Keys of webhooks.
    pub keys: Vec<HookKey>,
}

impl TrapUser {
    /// Its two passwords: that signs, that encrypts.
    ///
    /// # Errors
    /// What is wrong with the files; never what is in them.
    pub fn load(&self) -> Result<(String, String), Complaint> {
        let read = |file| read_line(file, MIN_PASSWORD);
        Ok((read(&self.auth_file)?, read(&self.priv_file)?))
    }
}

impl HookKey {
    /// Its secret.
    ///
    /// # Errors
    /// What is wrong with the file; never what is in it.
    pub fn load(&self) -> Result<String, Complaint> {
        read_line(&self.secret_file, MIN_KEY)
    }
}

fn read_line(file: &Path, least: usize) -> Result<String, Complaint> {
    let text = read_secret(file)?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.len() < least || secret.contains(['\r', '\n']) {
        return Err(complaint(
            format!(
                "`{}` does not hold one line of {least} characters or more",
                file.display()
            ),
            "write a longer one; `openssl rand -hex 16` makes one",
        ));
    }
    Ok(secret.to_owned())
}

struct PlacedKeys {
    keys: TrapKeys,
    files: Vec<Placed<PathBuf>>,
}

/// Reads `[traps]` of a host's file.
pub(super) fn read(root: &Section<'_, '_>, report: &mut Report<'_>) -> TrapKeys {
    read_placed(root, report).keys
}

fn read_placed(root: &Section<'_, '_>, report: &mut Report<'_>) -> PlacedKeys {
    let mut placed = PlacedKeys {
        keys: TrapKeys::default(),
        files: Vec::new(),
    };
    let Some(section) = root.table("traps", "[traps]", &["user", "key"], &ROOT, report) else {
        return placed;
    };
    for one in tables(&section, "user", "[[traps.user]]", &USER, report) {
        let name = one.need("name", "\"rais\"", user, report);
        let auth = Auth::ALL.map(|auth| (auth.as_str(), auth));
        let auth = one.text("auth", "\"sha256\"", |text| choice(text, &auth), report);
        let encrypts = |text: &str| choice(text, &[("aes128", ())]);
        one.text("priv", "\"aes128\"", encrypts, report);
        let auth_file = one.need("auth_file", "\"/etc/rais/snmp-auth\"", absolute, report);
        let priv_file = one.need("priv_file", "\"/etc/rais/snmp-priv\"", absolute, report);
        let (Some(name), Some(auth_file), Some(priv_file)) = (name, auth_file, priv_file) else {
            continue;
        };
        let known = placed.keys.users.iter().map(|user| user.name.as_str());
        if is_new(known, &name, report) {
            placed.keys.users.push(TrapUser {
                name: name.value,
                auth: auth.map_or(Auth::Sha256, |auth| auth.value),
                auth_file: auth_file.value.clone(),
                priv_file: priv_file.value.clone(),
            });
            placed.files.extend([auth_file, priv_file]);
        }
    }
    for one in tables(&section, "key", "[[traps.key]]", &KEY, report) {
        let name = one.need("name", "\"hooks\"", object_name, report);
        let file = one.need("secret_file", "\"/etc/rais/hook-key\"", absolute, report);
        let (Some(name), Some(file)) = (name, file) else {
            continue;
        };
        let known = placed.keys.keys.iter().map(|key| key.name.as_str());
        if is_new(known, &name, report) {
            placed.keys.keys.push(HookKey {
                name: name.value,
                secret_file: file.value.clone(),
            });
            placed.files.push(file);
        }
    }
    placed
}

fn tables<'a, 'i>(
    section: &Section<'a, 'i>,
    key: &str,
    title: &str,
    known: &[&str],
    report: &mut Report<'_>,
) -> Vec<Section<'a, 'i>> {
    let found = section.tables(key, title, known, &ROOT, report);
    if found.len() > MAX {
        report.add(
            section.span_of(key),
            format!("{title} is there {} times", found.len()),
            format!("write at most {MAX}"),
        );
    }
    found.into_iter().take(MAX).collect()
}

fn is_new<'k>(
    mut known: impl Iterator<Item = &'k str>,
    name: &Placed<String>,
    report: &mut Report<'_>,
) -> bool {
    let new = known.all(|other| other != name.value);
    if !new {
        report.add(
            name.span.clone(),
            format!("the name `{}` is there twice", name.value),
            "give each its own name",
        );
    }
    new
}

/// Reports each secret that can't be used. Touches the disk.
pub(super) fn check_files(root: &Section<'_, '_>, report: &mut Report<'_>) {
    // What is wrong with the sections themselves was reported when they were read.
    let PlacedKeys { keys, files } = read_placed(root, &mut Report::new(""));
    let users = keys
        .users
        .iter()
        .flat_map(|user| [&user.auth_file, &user.priv_file]);
    let least = users
        .map(|_| MIN_PASSWORD)
        .chain(keys.keys.iter().map(|_| MIN_KEY));
    for (file, least) in files.into_iter().zip(least) {
        if let Err(Complaint { what, remedy }) = read_line(&file.value, least) {
            report.add(file.span, what, remedy);
        }
    }
}

impl TrapKeys {
    /// What a policy names that is not here, one line each: whoever leads does the telling.
    pub fn lacking(&self, traps: Option<&Traps>) -> Vec<String> {
        let line = |what: &str, name: &str| {
            format!(
                "! traps: the leader's file has no [[traps.{what}]] named {name}; every host needs it"
            )
        };
        let mut lines = Vec::new();
        for target in traps.iter().flat_map(|traps| &traps.snmp) {
            if let SnmpSecurity::User(name) = &target.security
                && !self.users.iter().any(|user| user.name == *name)
            {
                lines.push(line("user", name));
            }
        }
        let hooks = traps.iter().flat_map(|traps| &traps.webhook);
        for name in hooks.filter_map(|hook| hook.key.as_ref()) {
            if !self.keys.iter().any(|key| key.name == *name) {
                lines.push(line("key", name));
            }
        }
        lines.dedup();
        lines
    }

    /// As it reads back.
    pub(super) fn to_toml(&self) -> String {
        let path = |path: &Path| quote(&path.to_string_lossy());
        let mut out = String::new();
        for user in &self.users {
            out += &format!(
                "\n[[traps.user]]\nname = {}\nauth = \"{}\"\nauth_file = {}\npriv = \"aes128\"\npriv_file = {}\n",
                quote(&user.name),
                user.auth.as_str(),
                path(&user.auth_file),
                path(&user.priv_file)
            );
        }
        for key in &self.keys {
            out += &format!(
                "\n[[traps.key]]\nname = {}\nsecret_file = {}\n",
                quote(&key.name),
                path(&key.secret_file)
            );
        }
        out
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
        "name = \"h1\"\ndata_dir = \"/d\"\n[control]\nlisten = [\"10.0.0.1:7400\"]\n";
    const GOOD: &str = "[[traps.user]]\nname = \"rais\"\nauth = \"sha512\"\nauth_file = \"/a\"\npriv = \"aes128\"\npriv_file = \"/p\"\n[[traps.key]]\nname = \"hooks\"\nsecret_file = \"/k\"\n";

    /// Goal: users and keys are read, each mistake has its place. Method: good ones, then one mistake each.
    #[test]
    fn users_and_keys_are_read_and_mistakes_have_their_place() {
        let host = parse_host("f", &format!("{HOST}{GOOD}")).unwrap();
        assert_eq!(host.trap_keys.users[0].auth, Auth::Sha512);
        assert_eq!(host.trap_keys.keys[0].secret_file, Path::new("/k"));
        assert_eq!(parse_host("f", &host.to_toml()).unwrap(), host);
        let rows = [
            (
                GOOD.replace("sha512", "md5"),
                "7:8: `md5` is not known here; write one of: sha256, sha384, sha512",
            ),
            (
                GOOD.replace("aes128", "des"),
                "9:8: `des` is not known here",
            ),
            (
                GOOD.replace("\"rais\"", "\"a b\""),
                "6:8: `a b` is not a name",
            ),
            (
                GOOD.replace("priv_file = \"/p\"\n", ""),
                "5:1: `priv_file` is missing in [[traps.user]]",
            ),
            (
                format!("{GOOD}[[traps.key]]\nname = \"hooks\"\nsecret_file = \"/l\"\n"),
                "15:8: the name `hooks` is there twice",
            ),
        ];
        for (text, expected) in rows {
            let told = parse_host("f", &format!("{HOST}{text}")).unwrap_err();
            let has = |one: &Diagnostic| one.headline().starts_with(expected);
            assert!(told.found().iter().any(has), "{expected} in {told}");
        }
    }

    /// Goal: `rais check` looks at the files, and nothing tells a secret. Method: short, public, good.
    #[test]
    fn secrets_are_long_and_for_their_owner_alone() {
        let dir = std::env::temp_dir().join(format!("rais-trap-keys-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (config, secret) = (dir.join("rais.toml"), dir.join("key"));
        let key = format!(
            "[[traps.key]]\nname = \"k\"\nsecret_file = \"{}\"\n",
            secret.display()
        );
        std::fs::write(&config, format!("{HOST}{key}")).unwrap();
        let told = || check_file(&config).unwrap_err().found()[0].headline();
        assert!(
            told().starts_with("7:15: can't read the secret in"),
            "{}",
            told()
        );
        std::fs::write(&secret, "short\n").unwrap();
        std::fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        assert!(
            told().contains("does not hold one line of 16 characters or more"),
            "{}",
            told()
        );
        std::fs::write(&secret, "long enough to be one\n").unwrap();
        let checked = format!("{:?}", check_file(&config).unwrap());
        assert!(!checked.contains("long enough"), "{checked}");
        std::fs::set_permissions(&secret, Permissions::from_mode(0o644)).unwrap();
        assert!(told().contains("has mode 0644, so others can read the secret"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
