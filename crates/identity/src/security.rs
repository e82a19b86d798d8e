//! What passwords must be, how long they last, and when a login is refused: Keystone's security compliance, decided
//! from its settings and the user's row alone.

use std::time::Duration;

use fancy_regex::Regex;
use model::{Error, Result, Timestamp};
use serde_json::{Value, json};
use store::identity::{
    Extra,
    logins::Failures,
    users::{Security, User},
};

use crate::{Password, wire::required};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long failed logins count that led to no lock-out.
const FAILURES_COUNT_FOR: Duration = DAY;
/// Passwords that may be remembered; each one costs a hash when a new one is chosen.
pub const REMEMBERED_MAX: u32 = 24;
/// Rules of a user, and methods of each.
const MFA_RULES_MAX: usize = 32;

/// Options of a user that are on or off.
const FLAGS: &[&str] = &[
    "ignore_change_password_upon_first_use",
    "ignore_password_expiry",
    "ignore_lockout_failure_attempts",
    "lock_password",
    "ignore_user_inactivity",
    "multi_factor_auth_enabled",
];
/// Lists of methods, each of which is enough to log in.
pub const MFA_RULES: &str = "multi_factor_auth_rules";

/// The cloud's settings, named as Keystone names them.
#[derive(Clone, Debug)]
pub struct Compliance {
    /// Failed logins in a row after which none succeeds for a while; 0: never.
    pub lockout_failure_attempts: u32,
    /// How long that is; zero: until an administrator sets another password.
    pub lockout_duration: Duration,
    /// Of how many last passwords, the one in force among them, a user's new one must differ.
    pub unique_last_password_count: u32,
    /// Days for which a user keeps a password that it chose.
    pub minimum_password_age: u32,
    /// Days after which a password is no longer good; 0: never.
    pub password_expires_days: u32,
    /// What every password must match.
    pub password_regex: Option<Regex>,
    /// The same in words.
    pub password_regex_description: Option<String>,
    /// Whether a password that an administrator chose only serves to choose another.
    pub change_password_upon_first_use: bool,
    /// Days without a login after which a user is disabled; 0: never.
    pub disable_user_account_days_inactive: u32,
    /// Whether a token with a scope can be exchanged for one with another.
    pub allow_rescope_scoped_token: bool,
}

impl Default for Compliance {
    fn default() -> Self {
        Self {
            lockout_failure_attempts: 10,
            lockout_duration: Duration::from_secs(60),
            unique_last_password_count: 0,
            minimum_password_age: 0,
            password_expires_days: 0,
            password_regex: None,
            password_regex_description: None,
            change_password_upon_first_use: false,
            disable_user_account_days_inactive: 0,
            allow_rescope_scoped_token: true,
        }
    }
}

fn days(count: u32) -> Duration {
    DAY.saturating_mul(count)
}

impl Compliance {
    /// Whether the expression for passwords can be read.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn regex(text: &str) -> Result<Regex, String> {
        Regex::new(text).map_err(|e| e.to_string())
    }

    /// Whether failed logins are counted.
    pub fn counts_failures(&self) -> bool {
        self.lockout_failure_attempts > 0
    }

    /// Whether so many failures refuse every login now.
    pub fn is_locked_out(&self, failures: Failures, now: Timestamp) -> bool {
        self.counts_failures()
            && failures.count >= i64::from(self.lockout_failure_attempts)
            && (self.lockout_duration.is_zero() || now < failures.failed_at + self.lockout_duration)
    }

    /// Lock-outs that began before this are over.
    pub fn lockout_over_before(&self, now: Timestamp) -> Timestamp {
        if self.lockout_duration.is_zero() { Timestamp(i64::MIN) } else { now - self.lockout_duration }
    }

    /// Failures whose last one was before this count no more.
    pub fn failures_forgotten_before(&self, now: Timestamp) -> Timestamp {
        if self.lockout_duration.is_zero() {
            Timestamp(i64::MIN)
        } else {
            now - self.lockout_duration.max(FAILURES_COUNT_FOR)
        }
    }

    /// Whether the user hasn't logged in for too long.
    pub fn is_idle(&self, user: &User, now: Timestamp) -> bool {
        let max = self.disable_user_account_days_inactive;
        let since = user.security.active_at;
        max > 0 && !user.security.has("ignore_user_inactivity") && since.is_some_and(|at| now >= at + days(max))
    }

    /// Whether the user may log in at all.
    pub fn is_enabled(&self, user: &User, now: Timestamp) -> bool {
        user.enabled && !self.is_idle(user, now)
    }

    /// Whether a login now must be noted, so that the user counts as active.
    pub fn notes_activity(&self, user: &User, now: Timestamp) -> bool {
        self.disable_user_account_days_inactive > 0
            && user.security.active_at.is_none_or(|at| now >= at + Duration::from_secs(3600))
    }

    /// When the password expires, as users are shown it.
    pub fn expiry(&self, user: &User) -> Option<Timestamp> {
        let security = &user.security;
        let expires = security.password_expires_at?;
        let must_change = security.password_at == Some(expires);
        (must_change || !security.has("ignore_password_expiry")).then_some(expires)
    }

    /// Notes a new password on the user's row, whoever chose it.
    pub fn set_password(&self, security: &mut Security, now: Timestamp, by_self: bool) {
        let must_change =
            !by_self && self.change_password_upon_first_use && !security.has("ignore_change_password_upon_first_use");
        let expires = self.password_expires_days > 0 && !security.has("ignore_password_expiry");
        security.password_at = Some(now);
        security.password_by_self = by_self;
        security.password_expires_at = match (must_change, expires) {
            (true, _) => Some(now),
            (false, true) => Some(now + days(self.password_expires_days)),
            (false, false) => None,
        };
    }

    /// Whether the password is strong enough.
    ///
    /// # Errors
    /// Bad request that says what it must be.
    pub fn check_strength(&self, password: &Password) -> Result<()> {
        let Some(regex) = &self.password_regex else { return Ok(()) };
        // One that takes too long to match doesn't.
        if regex.is_match(password.reveal()).unwrap_or(false) {
            return Ok(());
        }
        let detail = self.password_regex_description.as_deref().unwrap_or_else(|| regex.as_str());
        let message = format!("The password does not match the requirements: {detail}.");
        Err(Error::bad_request("PasswordRequirementsValidationError", message))
    }

    /// Whether the user may choose another password now.
    ///
    /// # Errors
    /// Bad request that says why not.
    pub fn check_may_change(&self, user: &User, now: Timestamp) -> Result<()> {
        let security = &user.security;
        if security.has("lock_password") {
            let message = "You cannot change your password: it is locked. Ask an administrator to reset it.";
            return Err(Error::bad_request("PasswordSelfServiceDisabled", message));
        }
        let oldest = security.password_at.unwrap_or(user.created_at) + days(self.minimum_password_age);
        if security.password_by_self && now < oldest {
            let (age, left) = (self.minimum_password_age, oldest.since(now).as_secs().div_ceil(DAY.as_secs()));
            let message = format!(
                "You cannot change your password yet: it must be used for {age} day(s) first. Try again in {left} \
                 day(s), or ask an administrator to reset it."
            );
            return Err(Error::bad_request("PasswordAgeValidationError", message));
        }
        Ok(())
    }

    /// That the new password was in use before.
    pub fn used_before(&self) -> Error {
        let message = format!(
            "The new password must differ from the last {}, the one in force among them.",
            self.unique_last_password_count
        );
        Error::bad_request("PasswordHistoryValidationError", message)
    }
}

/// A request's options, merged over those that the user has; null takes one back.
///
/// # Errors
/// Bad request for an unknown one or another type.
pub fn merge_options(current: &mut Extra, requested: Option<Value>) -> Result<()> {
    let Some(requested) = requested else { return Ok(()) };
    let Value::Object(requested) = requested else {
        return Err(invalid("options", &requested, "is not of type 'object'"));
    };
    for (name, value) in requested {
        if value.is_null() {
            current.remove(&name);
            continue;
        }
        if name == MFA_RULES {
            check_rules(&value)?;
        } else if !FLAGS.contains(&name.as_str()) {
            return Err(invalid("options", &json!(name), "is no option of users"));
        } else if !value.is_boolean() {
            return Err(invalid(&name, &value, "is not of type 'boolean'"));
        }
        current.insert(name, value);
    }
    Ok(())
}

/// Lists of words: none of them empty, no word and no list twice.
fn check_rules(value: &Value) -> Result<()> {
    let rules: Option<Vec<Vec<String>>> = serde_json::from_value(value.clone()).ok();
    let unique = |list: &[String]| !list.is_empty() && list.iter().enumerate().all(|(at, w)| !list[..at].contains(w));
    let fits = |rules: &Vec<Vec<String>>| {
        rules.len() <= MFA_RULES_MAX
            && rules
                .iter()
                .enumerate()
                .all(|(at, rule)| rule.len() <= MFA_RULES_MAX && unique(rule) && !rules[..at].contains(rule))
    };
    if rules.as_ref().is_some_and(fits) {
        return Ok(());
    }
    Err(invalid(MFA_RULES, value, "is not a list of different lists of different methods"))
}

/// The rules that the methods of a login must satisfy, without methods that this cloud doesn't know. None: any method
/// is enough.
pub fn mfa_rules(options: &Extra, known: &[&str]) -> Vec<Vec<String>> {
    if options.get("multi_factor_auth_enabled") == Some(&Value::Bool(false)) {
        return Vec::new();
    }
    let rules: Vec<Vec<String>> =
        options.get(MFA_RULES).and_then(|rules| serde_json::from_value(rules.clone()).ok()).unwrap_or_default();
    rules
        .into_iter()
        .map(|rule| rule.into_iter().filter(|method| known.contains(&method.as_str())).collect())
        .filter(|rule: &Vec<String>| !rule.is_empty())
        .collect()
}

fn invalid(field: &str, value: &Value, what: &str) -> Error {
    Error::bad_request("SchemaValidationError", format!("Invalid input for field '{field}': {value} {what}"))
}

/// That a password is missing where one is needed.
pub fn password_required() -> Error {
    required("password")
}

#[cfg(test)]
mod tests {
    use model::id::{DomainId, UserId};

    use super::*;

    fn user(options: Value) -> User {
        let Value::Object(options) = options else { panic!("an object") };
        User {
            id: UserId::new("u"),
            domain_id: DomainId::new("d"),
            name: "u".into(),
            enabled: true,
            default_project_id: None,
            password_hash: None,
            generation: 0,
            extra: Extra::new(),
            security: Security { options, ..Security::default() },
            created_at: Timestamp(0),
        }
    }

    fn at(days: i64) -> Timestamp {
        Timestamp(days * 24 * 3600 * 1_000_000)
    }

    #[test]
    fn lock_outs() {
        let settings = Compliance {
            lockout_failure_attempts: 2,
            lockout_duration: Duration::from_secs(5),
            ..Compliance::default()
        };
        let forever = Compliance { lockout_duration: Duration::ZERO, ..settings.clone() };
        let never = Compliance { lockout_failure_attempts: 0, ..settings.clone() };
        let second = |s: i64| Timestamp(s * 1_000_000);
        let cases = [
            (&settings, 1, 4, false),
            (&settings, 2, 4, true),
            (&settings, 2, 5, false),
            (&forever, 2, 5000, true),
            (&never, 99, 0, false),
        ];
        for (settings, count, now, expected) in cases {
            let failures = Failures { count, failed_at: second(0) };
            assert_eq!(settings.is_locked_out(failures, second(now)), expected, "{count} {now}");
        }
    }

    #[test]
    fn expiry() {
        let settings = Compliance { password_expires_days: 3, ..Compliance::default() };
        let first_use = Compliance { change_password_upon_first_use: true, ..settings.clone() };
        let cases = [
            (&settings, json!({}), false, Some(at(4))),
            (&settings, json!({"ignore_password_expiry": true}), false, None),
            (&Compliance::default(), json!({}), false, None),
            (&first_use, json!({}), false, Some(at(1))),
            (&first_use, json!({"ignore_password_expiry": true}), false, Some(at(1))),
            (&first_use, json!({}), true, Some(at(4))),
            (&first_use, json!({"ignore_change_password_upon_first_use": true}), false, Some(at(4))),
        ];
        for (settings, options, by_self, expected) in cases {
            let mut user = user(options.clone());
            settings.set_password(&mut user.security, at(1), by_self);
            assert_eq!(settings.expiry(&user), expected, "{options} {by_self}");
        }
        // The option helps a password that was set before it.
        let mut late = user(json!({}));
        settings.set_password(&mut late.security, at(1), false);
        late.security.options.insert("ignore_password_expiry".into(), json!(true));
        assert_eq!(settings.expiry(&late), None);
    }

    #[test]
    fn idle_users() {
        let settings = Compliance { disable_user_account_days_inactive: 2, ..Compliance::default() };
        let mut user = user(json!({}));
        assert!(settings.is_enabled(&user, at(9)), "one that never logged in can't be told from a new one");
        user.security.active_at = Some(at(1));
        assert!(settings.is_enabled(&user, at(2)));
        assert!(!settings.is_enabled(&user, at(3)));
        user.security.options.insert("ignore_user_inactivity".into(), json!(true));
        assert!(settings.is_enabled(&user, at(3)));
    }

    #[test]
    fn strength_and_age() {
        let regex = Compliance::regex(r"^(?=.*\d)(?=.*[a-zA-Z]).{7,}$").unwrap();
        let settings = Compliance { password_regex: Some(regex), minimum_password_age: 1, ..Compliance::default() };
        assert!(settings.check_strength(&Password::new("abcdefg1")).is_ok());
        assert!(settings.check_strength(&Password::new("abcdefgh")).is_err());
        assert!(Compliance::regex("(").is_err());
        let mut user = user(json!({}));
        settings.set_password(&mut user.security, at(1), false);
        assert!(settings.check_may_change(&user, at(1)).is_ok(), "an administrator's choice can be changed at once");
        settings.set_password(&mut user.security, at(1), true);
        assert!(settings.check_may_change(&user, at(1)).is_err());
        assert!(settings.check_may_change(&user, at(2)).is_ok());
        user.security.options.insert("lock_password".into(), json!(true));
        assert!(settings.check_may_change(&user, at(2)).is_err());
    }

    #[test]
    fn options() {
        let bad = [
            json!([]),
            json!({"magic": true}),
            json!({"lock_password": 1}),
            json!({MFA_RULES: [[]]}),
            json!({MFA_RULES: [["password", "password"]]}),
            json!({MFA_RULES: [["password"], ["password"]]}),
            json!({MFA_RULES: "password"}),
        ];
        for options in bad {
            assert!(merge_options(&mut Extra::new(), Some(options.clone())).is_err(), "{options}");
        }
        let mut options = Extra::new();
        let rules = json!([["password", "totp"], ["magic", "password"], ["magic"]]);
        merge_options(&mut options, Some(json!({"lock_password": true, MFA_RULES: rules}))).unwrap();
        let known = ["password", "totp"];
        assert_eq!(mfa_rules(&options, &known), [vec!["password", "totp"], vec!["password"]]);
        merge_options(&mut options, Some(json!({"lock_password": null, "multi_factor_auth_enabled": false}))).unwrap();
        assert!(mfa_rules(&options, &known).is_empty());
        assert!(!options.contains_key("lock_password"));
    }
}
