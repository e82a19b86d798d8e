//! What a request for a key pair may hold.

use model::Result;
use web::Version;

use crate::input::{self, invalid};

/// A name: letters, digits, dashes, underscores and spaces; `@` and points from 2.92 on.
pub fn check_name(version: Version, name: &str) -> Result<()> {
    input::check_name("name", name)?;
    let more = if version >= Version(2, 92) { "@." } else { "" };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_- ".contains(c) || more.contains(c);
    if name.chars().all(allowed) {
        return Ok(());
    }
    Err(invalid(format!(
        "Invalid input for name: {name:?}; letters, digits, dashes, underscores and spaces are possible, and from \
         microversion 2.92 on @ and points."
    )))
}

/// Fields that came with later microversions.
pub fn check_fields(version: Version, kind: Option<&str>, user: Option<&str>) -> Result<()> {
    let too_early = [("type", kind.is_some(), Version(2, 2)), ("user_id", user.is_some(), Version(2, 10))];
    if let Some((name, ..)) = too_early.iter().find(|(_, given, since)| *given && version < *since) {
        return Err(invalid(format!("Additional properties are not allowed ('{name}' was unexpected)")));
    }
    match kind {
        None | Some("ssh") => Ok(()),
        Some("x509") => Err(invalid("Keypair data is invalid: this cloud takes keys of type ssh only, not x509.")),
        Some(other) => Err(invalid(format!("Invalid input for type: {other:?} is neither ssh nor x509."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "my key_1-x"] {
            assert!(check_name(Version(2, 1), good).is_ok(), "{good}");
        }
        let long = "k".repeat(256);
        for bad in ["", " a", "a/b", "key@home", "ke\ny", &long] {
            assert!(check_name(Version(2, 1), bad).is_err(), "{bad}");
        }
        assert!(check_name(Version(2, 92), "key@home.x").is_ok());
        assert!(check_name(Version(2, 92), "a:b").is_err());
    }

    #[test]
    fn fields() {
        let cases = [
            (1, None, None, true),
            (1, Some("ssh"), None, false),
            (2, Some("ssh"), None, true),
            (9, None, Some("u"), false),
            (10, None, Some("u"), true),
            (10, Some("x509"), None, false),
            (10, Some("pgp"), None, false),
        ];
        for (minor, kind, user, good) in cases {
            assert_eq!(check_fields(Version(2, minor), kind, user).is_ok(), good, "2.{minor} {kind:?} {user:?}");
        }
    }
}
