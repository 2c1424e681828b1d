//! As whom programs run: a name of the host's configuration, looked up in `/etc/passwd`.
//!
//! Limits: users of a directory service (LDAP) are not found: give their numbers as `uid:gid`.

use super::wire::User;

/// Who runs programs where the configuration names nobody and the daemon is root's.
pub const DEFAULT: &str = "nobody";
/// The numbers of `nobody`, where the list lacks it.
const NOBODY: User = User {
    uid: 65_534,
    gid: 65_534,
};
const LIST: &str = "/etc/passwd";

/// The user named so; none means "as the daemon itself".
///
/// # Errors
/// When there is no such user.
pub fn find(name: Option<&str>) -> Result<Option<User>, String> {
    let root = rustix::process::geteuid().is_root();
    let Some(name) = name.or(root.then_some(DEFAULT)) else {
        return Ok(None);
    };
    let list = std::fs::read_to_string(LIST).unwrap_or_default();
    match numbers(name).or_else(|| look_up(&list, name)) {
        Some(user) => Ok(Some(user)),
        None if name == DEFAULT => Ok(Some(NOBODY)),
        None => Err(format!(
            "there is no user `{name}` in {LIST}; name another, or write uid:gid"
        )),
    }
}

fn numbers(text: &str) -> Option<User> {
    let (uid, gid) = text.split_once(':')?;
    Some(User {
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
    })
}

fn look_up(list: &str, name: &str) -> Option<User> {
    let mut lines = list.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        (fields.next()? == name).then_some(())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(User { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: names and numbers are found; what is not there is not guessed.
    #[test]
    fn a_user_is_found_by_name_or_numbers() {
        let list = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34::/var/www:/bin/false\nbad:x:a:b\n";
        assert_eq!(look_up(list, "www"), Some(User { uid: 33, gid: 34 }));
        assert_eq!(look_up(list, "ww"), None);
        assert_eq!(look_up(list, "bad"), None);
        assert_eq!(find(Some("12:34")), Ok(Some(User { uid: 12, gid: 34 })));
        assert!(find(Some("no-such-user-here")).is_err());
    }
}
