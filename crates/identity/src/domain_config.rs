//! A domain's own settings: where its users are kept. Only options of the table below can be set; secret ones are sealed
//! in the database and never shown.

use std::collections::BTreeMap;

use model::{Error, Result, id::DomainId};
use serde_json::{Map, Value, json};
use store::{
    Conn,
    identity::{
        domain_config::{self, Setting},
        domains,
    },
};
use web::{Cx, Reply, StatusCode, Target};

use crate::{State, domain};

/// An option that a domain may set.
struct Known {
    group: &'static str,
    name: &'static str,
    /// What it is where nothing is set, as JSON.
    default: &'static str,
    sensitive: bool,
}

const fn known(group: &'static str, name: &'static str, default: &'static str) -> Known {
    Known { group, name, default, sensitive: false }
}

#[rustfmt::skip]
const OPTIONS: &[Known] = &[
    known("identity", "driver", "\"sql\""),
    known("identity", "list_limit", "1000"),
    known("ldap", "url", "\"ldap://localhost\""),
    known("ldap", "user", "null"),
    Known { group: "ldap", name: "password", default: "null", sensitive: true },
    known("ldap", "suffix", "\"cn=example,cn=com\""),
    known("ldap", "query_scope", "\"one\""),
    known("ldap", "page_size", "0"),
    known("ldap", "alias_dereferencing", "\"default\""),
    known("ldap", "debug_level", "null"),
    known("ldap", "chase_referrals", "null"),
    known("ldap", "user_tree_dn", "null"),
    known("ldap", "user_filter", "null"),
    known("ldap", "user_objectclass", "\"inetOrgPerson\""),
    known("ldap", "user_id_attribute", "\"cn\""),
    known("ldap", "user_name_attribute", "\"sn\""),
    known("ldap", "user_mail_attribute", "\"mail\""),
    known("ldap", "user_description_attribute", "\"description\""),
    known("ldap", "user_pass_attribute", "\"userPassword\""),
    known("ldap", "user_enabled_attribute", "\"enabled\""),
    known("ldap", "user_enabled_invert", "false"),
    known("ldap", "user_enabled_mask", "0"),
    known("ldap", "user_enabled_default", "\"True\""),
    known("ldap", "user_attribute_ignore", "[\"default_project_id\"]"),
    known("ldap", "user_default_project_id_attribute", "null"),
    known("ldap", "user_enabled_emulation", "false"),
    known("ldap", "user_enabled_emulation_dn", "null"),
    known("ldap", "user_enabled_emulation_use_group_config", "false"),
    known("ldap", "user_additional_attribute_mapping", "[]"),
    known("ldap", "group_tree_dn", "null"),
    known("ldap", "group_filter", "null"),
    known("ldap", "group_objectclass", "\"groupOfNames\""),
    known("ldap", "group_id_attribute", "\"cn\""),
    known("ldap", "group_name_attribute", "\"ou\""),
    known("ldap", "group_members_are_ids", "false"),
    known("ldap", "group_member_attribute", "\"member\""),
    known("ldap", "group_desc_attribute", "\"description\""),
    known("ldap", "group_attribute_ignore", "[]"),
    known("ldap", "group_additional_attribute_mapping", "[]"),
    known("ldap", "tls_cacertfile", "null"),
    known("ldap", "tls_cacertdir", "null"),
    known("ldap", "use_tls", "false"),
    known("ldap", "tls_req_cert", "\"demand\""),
    known("ldap", "use_pool", "true"),
    known("ldap", "pool_size", "10"),
    known("ldap", "pool_retry_max", "3"),
    known("ldap", "pool_retry_delay", "0.1"),
    known("ldap", "pool_connection_timeout", "-1"),
    known("ldap", "connection_timeout", "-1"),
    known("ldap", "pool_connection_lifetime", "600"),
    known("ldap", "use_auth_pool", "true"),
    known("ldap", "auth_pool_size", "100"),
    known("ldap", "auth_pool_connection_lifetime", "60"),
];

/// The group that every user may read, for its passwords must fit it.
const SECURITY_COMPLIANCE: &str = "security_compliance";

/// Options by group and name.
pub type Config = BTreeMap<String, Map<String, Value>>;

/// What the path is about: all, a group, or one option.
struct Part<'a> {
    group: Option<&'a str>,
    name: Option<&'a str>,
}

impl<'a> Part<'a> {
    fn of(cx: &'a Cx) -> Self {
        let given = |name: &str| Some(cx.param(name)).filter(|value| !value.is_empty());
        Self { group: given("group"), name: given("option") }
    }

    fn holds(&self, group: &str, name: &str) -> bool {
        self.group.is_none_or(|g| g == group) && self.name.is_none_or(|n| n == name)
    }

    /// The group and option must be among those that can be set.
    fn check(&self) -> Result<()> {
        let Some(group) = self.group else { return Ok(()) };
        check_known(group, self.name)
    }

    /// As the API has it: an option stands by itself, without its group.
    fn document(&self, config: Config) -> Result<Reply> {
        match (self.group, self.name) {
            (Some(group), Some(name)) => {
                let value = config.get(group).and_then(|options| options.get(name)).cloned();
                Reply::ok(&json!({ "config": { name: value } }))
            }
            _ => Reply::ok(&json!({ "config": config })),
        }
    }
}

/// `GET /v3/domains/{domain_id}/config`, `.../{group}`, `.../{group}/{option}`.
pub async fn get(cx: &Cx) -> Result<Reply> {
    let part = Part::of(cx);
    if part.group == Some(SECURITY_COMPLIANCE) {
        return get_security_compliance(cx, &part).await;
    }
    cx.authorize(&Target::none())?;
    let mut conn = cx.db().read().await?;
    let domain = load(cx, &mut conn).await?;
    part.check()?;
    let config = shown(&mut conn, &domain, &part).await?;
    if config.is_empty() {
        return Err(missing(&domain, &part));
    }
    part.document(config)
}

/// What passwords must look like, which whoever must choose one may read.
async fn get_security_compliance(cx: &Cx, part: &Part<'_>) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize_instead("identity:get_security_compliance_domain_config", &Target::none())?;
    let domain = load(cx, &mut *cx.db().read().await?).await?;
    if domain.as_str() != domain::DEFAULT {
        let reason = "Reading security compliance information for any domain other than the default domain is not \
                      allowed or supported.";
        return Err(invalid(reason));
    }
    let readable = [
        ("password_regex", json!(state.compliance.password_regex.as_ref().map(ToString::to_string))),
        ("password_regex_description", json!(state.compliance.password_regex_description)),
    ];
    if part.name.is_some_and(|name| readable.iter().all(|(known, _)| *known != name)) {
        let reason = "Reading security compliance values other than password_regex and password_regex_description is \
                      not allowed.";
        return Err(invalid(reason));
    }
    let wanted = readable.into_iter().filter(|(name, _)| part.holds(SECURITY_COMPLIANCE, name));
    let options: Map<String, Value> = wanted.map(|(name, value)| (name.to_owned(), value)).collect();
    part.document(Config::from([(SECURITY_COMPLIANCE.to_owned(), options)]))
}

/// `PUT /v3/domains/{domain_id}/config`: this and nothing else from now on.
pub async fn create(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let config: Config = cx.json_in("config")?;
    check(&config)?;
    let mut tx = state.begin().await?;
    let domain = load(cx, &mut tx).await?;
    let was_there = !domain_config::get(&mut tx, &domain).await?.is_empty();
    domain_config::delete(&mut tx, &domain, None, None).await?;
    for setting in settings(state, config) {
        domain_config::put(&mut tx, &domain, &setting).await?;
    }
    let config = shown(&mut tx, &domain, &Part { group: None, name: None }).await?;
    state.commit(tx).await?;
    let status = if was_there { StatusCode::OK } else { StatusCode::CREATED };
    Reply::json(status, &json!({ "config": config }))
}

/// `PATCH /v3/domains/{domain_id}/config`, `.../{group}`, `.../{group}/{option}`.
pub async fn update(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let part = Part::of(cx);
    part.check()?;
    let config: Config = match (part.group, part.name) {
        // An option comes without its group.
        (Some(group), Some(_)) => Config::from([(group.to_owned(), cx.json_in("config")?)]),
        _ => cx.json_in("config")?,
    };
    check(&config)?;
    let names = || config.iter().flat_map(|(group, options)| options.keys().map(move |name| (group, name)));
    if let Some((group, name)) = names().find(|(group, name)| !part.holds(group, name)) {
        return Err(invalid(&format!("the request is about something else than option {name} in group {group}")));
    }
    let mut tx = state.begin().await?;
    let domain = load(cx, &mut tx).await?;
    let before = domain_config::get(&mut tx, &domain).await?;
    if part.group.is_some() && !before.iter().any(|s| part.holds(&s.group, &s.name)) {
        return Err(missing(&domain, &part));
    }
    for setting in settings(state, config) {
        domain_config::put(&mut tx, &domain, &setting).await?;
    }
    let config = shown(&mut tx, &domain, &Part { group: None, name: None }).await?;
    state.commit(tx).await?;
    Reply::ok(&json!({ "config": config }))
}

/// `DELETE /v3/domains/{domain_id}/config`, `.../{group}`, `.../{group}/{option}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    let state: &State = cx.state()?;
    cx.authorize(&Target::none())?;
    let part = Part::of(cx);
    part.check()?;
    let mut tx = state.begin().await?;
    let domain = load(cx, &mut tx).await?;
    let before = domain_config::get(&mut tx, &domain).await?;
    if part.group.is_some() && !before.iter().any(|s| part.holds(&s.group, &s.name)) {
        return Err(missing(&domain, &part));
    }
    domain_config::delete(&mut tx, &domain, part.group, part.name).await?;
    state.commit(tx).await?;
    Ok(Reply::no_content())
}

/// `GET /v3/domains/config/default`, `.../{group}/default`, `.../{group}/{option}/default`.
pub async fn get_default(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let part = Part::of(cx);
    part.check()?;
    let mut config = Config::new();
    for option in OPTIONS.iter().filter(|o| !o.sensitive && part.holds(o.group, o.name)) {
        let value = serde_json::from_str(option.default).map_err(|e| Error::internal("reading a default", e))?;
        config.entry(option.group.to_owned()).or_default().insert(option.name.to_owned(), value);
    }
    if config.is_empty() {
        let name = part.name.unwrap_or_default();
        return Err(invalid(&format!("Reading the default for option {name} is not supported")));
    }
    part.document(config)
}

/// A domain's settings with its secrets, `%(password)s` in other values filled in: for whoever uses them.
///
/// # Errors
/// Internal where a secret can't be opened.
pub async fn with_secrets(state: &State, conn: &mut Conn, domain: &DomainId) -> Result<Config> {
    let mut config = Config::new();
    let mut secrets = Vec::new();
    for setting in domain_config::get(conn, domain).await? {
        let value = opened(state, &setting)?;
        if let (true, Some(text)) = (setting.sensitive, value.as_str()) {
            secrets.push((format!("%({})s", setting.name), text.to_owned()));
        }
        config.entry(setting.group).or_default().insert(setting.name, value);
    }
    for value in config.values_mut().flat_map(|options| options.values_mut()) {
        if let Value::String(text) = value {
            for (place, secret) in &secrets {
                *text = text.replace(place, secret);
            }
        }
    }
    Ok(config)
}

fn opened(state: &State, setting: &Setting) -> Result<Value> {
    let bad = |why: &'static str| Error::internal(format!("reading domain option {}", setting.name), why);
    let text = match setting.sensitive {
        false => zeroize::Zeroizing::new(setting.value.clone()),
        true => state.master().open_text(&setting.value).ok_or_else(|| bad("the master key does not open it"))?,
    };
    serde_json::from_str(&text).map_err(|_| bad("it is no JSON"))
}

/// What is set and may be shown.
async fn shown(conn: &mut Conn, domain: &DomainId, part: &Part<'_>) -> Result<Config> {
    let mut config = Config::new();
    for setting in domain_config::get(conn, domain).await? {
        if !setting.sensitive && part.holds(&setting.group, &setting.name) {
            let value = serde_json::from_str(&setting.value)
                .map_err(|e| Error::internal(format!("reading domain option {}", setting.name), e))?;
            config.entry(setting.group).or_default().insert(setting.name, value);
        }
    }
    Ok(config)
}

/// As they go into the table; secrets sealed.
fn settings(state: &State, config: Config) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (group, options) in config {
        for (name, value) in options {
            let sensitive = OPTIONS.iter().any(|o| o.sensitive && o.group == group && o.name == name);
            let text = value.to_string();
            let value = if sensitive { state.master().seal_text(&text, state.db().clock().now()) } else { text };
            settings.push(Setting { group: group.clone(), name, value, sensitive });
        }
    }
    settings
}

/// Something must be set, and only what can be.
fn check(config: &Config) -> Result<()> {
    if config.is_empty() {
        return Err(invalid("No options specified"));
    }
    for (group, options) in config {
        if options.is_empty() {
            let reason =
                format!("The value of group {group} specified in the config should be a dictionary of options");
            return Err(invalid(&reason));
        }
        for name in options.keys() {
            check_known(group, Some(name))?;
        }
    }
    Ok(())
}

fn check_known(group: &str, name: Option<&str>) -> Result<()> {
    if !OPTIONS.iter().any(|o| o.group == group) {
        return Err(invalid(&format!("Group {group} is not supported for domain specific configurations")));
    }
    match name.filter(|name| !OPTIONS.iter().any(|o| o.group == group && o.name == *name)) {
        None => Ok(()),
        Some(name) => {
            let reason = format!("Option {name} in group {group} is not supported for domain specific configurations");
            Err(invalid(&reason))
        }
    }
}

async fn load(cx: &Cx, conn: &mut Conn) -> Result<DomainId> {
    let id = DomainId::new(cx.param("domain_id"));
    let found = domains::get(conn, &id).await?;
    found.map(|domain| domain.id).ok_or_else(|| domain::missing(&id))
}

fn invalid(reason: &str) -> Error {
    Error::forbidden("InvalidDomainConfig", format!("Invalid domain specific configuration: {reason}."))
}

fn missing(domain: &DomainId, part: &Part<'_>) -> Error {
    let what = match (part.group, part.name) {
        (Some(group), Some(name)) => format!("option {name} in group {group}"),
        (Some(group), None) => format!("group {group}"),
        _ => "any options".to_owned(),
    };
    let message = format!("Could not find {what} in domain configuration for domain {domain}.");
    Error::not_found("DomainConfigNotFound", message)
}
