//! The mapping language: from what an identity provider says of somebody to who that is here.
//!
//! A rule applies when all of its `remote` requirements hold; what all applying rules' `local` parts say is put
//! together, the first user wins. A requirement that only names a type, or filters it by `whitelist` or `blacklist`,
//! is a value that `{0}`, `{1}`... in `local` stand for; `any_one_of` and `not_any_of` only ask. Version 2.0 of the
//! language honours the domains of users and projects; 1.0 puts both into the provider's domain.
//!
//! Expressions are the `regex` crate's, whose time is linear: a mapping can't be made to search for ever.

use std::collections::BTreeMap;

use model::{Error, Result};
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Rules of a mapping, and requirements or locals of a rule.
const RULES_MAX: usize = 200;
const PARTS_MAX: usize = 100;
/// Largest compiled expression.
const REGEX_BYTES_MAX: usize = 256 * 1024;

/// What an identity provider says: values by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assertion(BTreeMap<String, Vec<String>>);

impl Assertion {
    /// The claims of a token or of a user info answer. Lists are several values, what lies deeper is named with dots.
    pub fn from_claims(claims: &serde_json::Map<String, Value>) -> Self {
        let mut all = BTreeMap::new();
        for (name, value) in claims {
            add(&mut all, name, value, 0);
        }
        Self(all)
    }

    /// The values of a name: the claim's own, or as Apache's OIDC module hands it to Keystone (`OIDC-sub`,
    /// `HTTP_OIDC_SUB`), so that mappings written for it serve here.
    fn get(&self, name: &str) -> Option<&[String]> {
        if let Some(values) = self.0.get(name) {
            return Some(values);
        }
        let prefixes = ["OIDC-", "OIDC_CLAIM_", "HTTP_OIDC_", "HTTP_OIDC-"];
        let claim = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix))?;
        let same = |known: &&String| known.replace('-', "_").eq_ignore_ascii_case(&claim.replace('-', "_"));
        let known = self.0.keys().find(same)?;
        self.0.get(known).map(Vec::as_slice)
    }
}

fn add(all: &mut BTreeMap<String, Vec<String>>, name: &str, value: &Value, depth: usize) {
    let mut push = |text: String| all.entry(name.to_owned()).or_default().push(text);
    match value {
        Value::Null => {}
        Value::String(text) if text.is_empty() => {}
        Value::String(text) => push(text.clone()),
        Value::Bool(_) | Value::Number(_) => push(value.to_string()),
        Value::Array(items) => {
            for item in items.iter().filter(|item| !item.is_array() && !item.is_object()) {
                add(all, name, item, depth);
            }
        }
        Value::Object(inner) if depth < 4 => {
            for (key, value) in inner {
                add(all, &format!("{name}.{key}"), value, depth + 1);
            }
        }
        Value::Object(_) => {}
    }
}

/// A mapping, checked.
#[derive(Debug)]
pub struct Mapping {
    version: Version,
    rules: Vec<Rule>,
}

/// The language's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

#[derive(Debug)]
struct Rule {
    local: Vec<Local>,
    remote: Vec<Requirement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    local: Vec<Local>,
    remote: Vec<RequirementText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequirementText {
    #[serde(rename = "type")]
    name: String,
    any_one_of: Option<Vec<String>>,
    not_any_of: Option<Vec<String>>,
    whitelist: Option<Vec<String>>,
    blacklist: Option<Vec<String>>,
    #[serde(default)]
    regex: bool,
}

#[derive(Debug)]
struct Requirement {
    name: String,
    check: Check,
}

#[derive(Debug)]
enum Check {
    Present,
    AnyOneOf(Patterns),
    NotAnyOf(Patterns),
    Whitelist(Patterns),
    Blacklist(Patterns),
}

#[derive(Debug)]
enum Patterns {
    Texts(Vec<String>),
    Expressions(Vec<Regex>),
}

impl Patterns {
    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Texts(texts) => texts.iter().any(|text| text == value),
            Self::Expressions(expressions) => expressions.iter().any(|expression| expression.is_match(value)),
        }
    }
}

/// What a rule says of whom it applies to; texts may hold `{0}`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Local {
    user: Option<UserText>,
    group: Option<Place>,
    groups: Option<String>,
    group_ids: Option<String>,
    domain: Option<Place>,
    projects: Option<Vec<ProjectText>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserText {
    id: Option<String>,
    name: Option<String>,
    email: Option<String>,
    domain: Option<Place>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Something by id, or by name (and domain).
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Its id.
    pub id: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// The domain that a group's name is looked up in.
    pub domain: Option<Box<Place>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectText {
    name: String,
    roles: Vec<RoleText>,
    domain: Option<Place>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleText {
    name: String,
}

/// Who somebody is here.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapped {
    /// The user.
    pub user: MappedUser,
    /// Groups by id.
    pub group_ids: Vec<String>,
    /// Groups by name and domain.
    pub group_names: Vec<(String, Place)>,
    /// Projects that the user gets, made where they aren't there.
    pub projects: Vec<MappedProject>,
}

/// The user of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub enum MappedUser {
    /// One that exists here.
    Local {
        /// By id...
        id: Option<String>,
        /// ...or by name...
        name: Option<String>,
        /// ...in this domain.
        domain: Option<Place>,
    },
    /// One that the provider knows; here its shadow.
    Ephemeral {
        /// What the provider tells it from others by.
        unique_id: String,
        /// How it is shown.
        name: String,
        /// For people.
        email: Option<String>,
        /// Version 2.0: another domain than the provider's.
        domain: Option<Place>,
    },
}

/// A project of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct MappedProject {
    /// Its name.
    pub name: String,
    /// Version 2.0: another domain than the provider's.
    pub domain: Option<Place>,
    /// Names of the roles that the user gets in it.
    pub roles: Vec<String>,
}

impl Mapping {
    /// Checks rules as they came.
    ///
    /// # Errors
    /// Bad request that says which rule is wrong and how.
    pub fn parse(rules: &Value, version: &str) -> Result<Self> {
        let version = match version {
            "1.0" => Version::One,
            "2.0" => Version::Two,
            other => return Err(invalid(format!("schema_version {other:?} is neither \"1.0\" nor \"2.0\""))),
        };
        let items = rules.as_array().ok_or_else(|| invalid("rules is not a list".to_owned()))?;
        if items.is_empty() || items.len() > RULES_MAX {
            return Err(invalid(format!("a mapping has 1 to {RULES_MAX} rules")));
        }
        let parse =
            |(at, item): (usize, &Value)| rule(item, version).map_err(|why| invalid(format!("rule {at}: {why}")));
        Ok(Self { version, rules: items.iter().enumerate().map(parse).collect::<Result<_>>()? })
    }

    /// Who it is that the provider says this of.
    ///
    /// # Errors
    /// A sentence why it is nobody.
    pub fn apply(&self, assertion: &Assertion) -> Result<Mapped, String> {
        let mut user: Option<UserText> = None;
        let (mut group_ids, mut group_names, mut projects) = (Vec::new(), Vec::new(), Vec::new());
        let mut applied = false;
        for rule in &self.rules {
            let Some(values) = rule.values(assertion) else { continue };
            applied = true;
            for local in &rule.local {
                let domain = local.domain.as_ref().map(|place| place.filled(&values)).transpose()?;
                if let (Some(text), None) = (&local.user, &user) {
                    let mut filled = text.filled(&values)?;
                    filled.domain = filled.domain.or_else(|| domain.clone());
                    user = Some(filled);
                }
                if let Some(group) = &local.group {
                    group.filled(&values)?.into_group(&mut group_ids, &mut group_names)?;
                }
                if let Some(text) = &local.groups {
                    let domain = domain.clone().ok_or("\"groups\" needs a \"domain\" beside it")?;
                    group_names.extend(several(text, &values)?.into_iter().map(|name| (name, domain.clone())));
                }
                if let Some(text) = &local.group_ids {
                    group_ids.extend(several(text, &values)?);
                }
                for project in local.projects.iter().flatten() {
                    projects.push(project.filled(&values, domain.as_ref(), self.version)?);
                }
            }
        }
        if !applied {
            return Err("no rule of the mapping applies to this user".to_owned());
        }
        let user = user.ok_or("the rules that apply name no user")?.finished(self.version)?;
        group_ids.sort();
        group_ids.dedup();
        Ok(Mapped { user, group_ids, group_names, projects })
    }
}

fn rule(item: &Value, version: Version) -> Result<Rule, String> {
    let text: RuleText = serde_json::from_value(item.clone()).map_err(|e| e.to_string())?;
    let sizes = [("local", text.local.len()), ("remote", text.remote.len())];
    if let Some((what, _)) = sizes.iter().find(|(_, count)| *count == 0 || *count > PARTS_MAX) {
        return Err(format!("{what} has 1 to {PARTS_MAX} elements"));
    }
    let with_domain = |local: &Local| local.projects.iter().flatten().any(|project| project.domain.is_some());
    if version == Version::One && text.local.iter().any(with_domain) {
        return Err("domains of projects need schema_version 2.0".to_owned());
    }
    let kinds = text.local.iter().filter_map(|local| local.user.as_ref()?.kind.as_deref());
    if let Some(kind) = kinds.clone().find(|kind| !["local", "ephemeral"].contains(kind)) {
        return Err(format!("user type {kind:?} is neither local nor ephemeral"));
    }
    let remote = text.remote.into_iter().map(requirement).collect::<Result<_, _>>()?;
    Ok(Rule { local: text.local, remote })
}

fn requirement(text: RequirementText) -> Result<Requirement, String> {
    let RequirementText { name, any_one_of, not_any_of, whitelist, blacklist, regex } = text;
    let patterns = |texts: Vec<String>| -> Result<Patterns, String> {
        if texts.len() > PARTS_MAX * 10 {
            return Err(format!("{name}: more than {} values", PARTS_MAX * 10));
        }
        if !regex {
            return Ok(Patterns::Texts(texts));
        }
        let compile = |text: &String| {
            regex::RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build().map_err(|e| format!("{text:?}: {e}"))
        };
        Ok(Patterns::Expressions(texts.iter().map(compile).collect::<Result<_, _>>()?))
    };
    let check = match (any_one_of, not_any_of, whitelist, blacklist) {
        (None, None, None, None) => Check::Present,
        (Some(texts), None, None, None) => Check::AnyOneOf(patterns(texts)?),
        (None, Some(texts), None, None) => Check::NotAnyOf(patterns(texts)?),
        (None, None, Some(texts), None) => Check::Whitelist(patterns(texts)?),
        (None, None, None, Some(texts)) => Check::Blacklist(patterns(texts)?),
        _ => return Err(format!("{name}: only one of any_one_of, not_any_of, whitelist and blacklist may be there")),
    };
    Ok(Requirement { name, check })
}

impl Rule {
    /// What `{0}`, `{1}`... stand for; none where the rule does not apply.
    fn values(&self, assertion: &Assertion) -> Option<Vec<Vec<String>>> {
        let mut values = Vec::new();
        for requirement in &self.remote {
            let found = assertion.get(&requirement.name).filter(|found| !found.is_empty())?;
            let kept = |keep: &dyn Fn(&str) -> bool| found.iter().filter(|v| keep(v)).cloned().collect();
            match &requirement.check {
                Check::AnyOneOf(patterns) if found.iter().any(|v| patterns.matches(v)) => {}
                Check::NotAnyOf(patterns) if !found.iter().any(|v| patterns.matches(v)) => {}
                Check::AnyOneOf(_) | Check::NotAnyOf(_) => return None,
                Check::Present => values.push(found.to_vec()),
                Check::Whitelist(patterns) => values.push(kept(&|v| patterns.matches(v))),
                Check::Blacklist(patterns) => values.push(kept(&|v| !patterns.matches(v))),
            }
        }
        Some(values)
    }
}

/// A text with its places filled; each must stand for one value.
fn one(text: &str, values: &[Vec<String>]) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        filled.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix(brace) {
            filled.push_str(brace);
            rest = after;
            continue;
        }
        let (number, after) = after.split_once('}').filter(|_| brace == "{").ok_or_else(|| broken(text))?;
        match values_of(number, values).ok_or_else(|| broken(text))? {
            [value] => filled.push_str(value),
            [] => return Err(format!("{text:?} stands for no value")),
            _ => return Err(format!("{text:?} stands for several values, and one is needed")),
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// The same where several values may be meant: a text that is one place alone stands for all of its values.
fn several(text: &str, values: &[Vec<String>]) -> Result<Vec<String>, String> {
    match text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        Some(number) if !number.contains(['{', '}']) => {
            values_of(number, values).map(<[String]>::to_vec).ok_or_else(|| broken(text))
        }
        _ => one(text, values).map(|text| vec![text]),
    }
}

fn values_of<'a>(number: &str, values: &'a [Vec<String>]) -> Option<&'a [String]> {
    values.get(number.parse::<usize>().ok()?).map(Vec::as_slice)
}

fn broken(text: &str) -> String {
    format!("{text:?} names a value that no remote of its rule gives")
}

impl Place {
    fn filled(&self, values: &[Vec<String>]) -> Result<Self, String> {
        let fill = |text: &Option<String>| text.as_deref().map(|text| one(text, values)).transpose();
        let domain = self.domain.as_ref().map(|place| place.filled(values)).transpose()?.map(Box::new);
        Ok(Self { id: fill(&self.id)?, name: fill(&self.name)?, domain })
    }

    fn into_group(self, ids: &mut Vec<String>, names: &mut Vec<(String, Place)>) -> Result<(), String> {
        match (self.id, self.name, self.domain) {
            (Some(id), _, _) => ids.push(id),
            (None, Some(name), Some(domain)) => names.push((name, *domain)),
            _ => return Err("a group needs an id, or a name and a domain".to_owned()),
        }
        Ok(())
    }
}

impl UserText {
    fn filled(&self, values: &[Vec<String>]) -> Result<Self, String> {
        let fill = |text: &Option<String>| text.as_deref().map(|text| one(text, values)).transpose();
        Ok(Self {
            id: fill(&self.id)?,
            name: fill(&self.name)?,
            // Nobody is kept out for want of an address.
            email: fill(&self.email).unwrap_or_default(),
            domain: self.domain.as_ref().map(|place| place.filled(values)).transpose()?,
            kind: self.kind.clone(),
        })
    }

    fn finished(self, version: Version) -> Result<MappedUser, String> {
        let Self { id, name, email, domain, kind } = self;
        if kind.as_deref() == Some("local") {
            if id.is_none() && (name.is_none() || domain.is_none()) {
                return Err("a local user needs an id, or a name and a domain".to_owned());
            }
            return Ok(MappedUser::Local { id, name, domain });
        }
        let name_or_id = name.clone().or_else(|| id.clone()).filter(|text| !text.is_empty());
        let name = name_or_id.ok_or("a user needs a name or an id")?;
        let domain = domain.filter(|_| version == Version::Two);
        Ok(MappedUser::Ephemeral { unique_id: id.unwrap_or_else(|| name.clone()), name, email, domain })
    }
}

impl ProjectText {
    fn filled(
        &self,
        values: &[Vec<String>],
        domain: Option<&Place>,
        version: Version,
    ) -> Result<MappedProject, String> {
        let own = self.domain.as_ref().map(|place| place.filled(values)).transpose()?;
        let roles = self.roles.iter().map(|role| one(&role.name, values)).collect::<Result<_, _>>()?;
        let domain = own.or_else(|| domain.cloned()).filter(|_| version == Version::Two);
        Ok(MappedProject { name: one(&self.name, values)?, domain, roles })
    }
}

fn invalid(why: String) -> Error {
    Error::bad_request("ValidationError", format!("Invalid mapping: {why}."))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mapping(rules: Value, version: &str) -> Mapping {
        Mapping::parse(&rules, version).unwrap()
    }

    fn apply(rules: Value, claims: Value) -> Result<Mapped, String> {
        let assertion = Assertion::from_claims(claims.as_object().unwrap());
        mapping(rules, "1.0").apply(&assertion)
    }

    fn user(local: Value, remote: Value, claims: Value) -> Result<(String, String), String> {
        match apply(json!([{ "local": [local], "remote": remote }]), claims)?.user {
            MappedUser::Ephemeral { unique_id, name, .. } => Ok((unique_id, name)),
            MappedUser::Local { .. } => Err("local".to_owned()),
        }
    }

    #[test]
    fn users() {
        let named = json!({ "user": { "id": "{0}", "name": "{1}@x" } });
        let remote = json!([{ "type": "sub" }, { "type": "email" }]);
        let claims = json!({ "sub": "s1", "email": "mia", "groups": ["a", "b"] });
        assert_eq!(user(named.clone(), remote.clone(), claims.clone()), Ok(("s1".into(), "mia@x".into())));
        for kind in ["OIDC-sub", "HTTP_OIDC_SUB", "OIDC_CLAIM_sub"] {
            let found = user(json!({ "user": { "name": "{0}" } }), json!([{ "type": kind }]), claims.clone());
            assert_eq!(found, Ok(("s1".into(), "s1".into())), "{kind}");
        }
        // A place that nothing stands for, several values where one is needed, no such claim, braces as such.
        assert!(user(named, json!([{ "type": "sub" }]), claims.clone()).is_err());
        assert!(user(json!({ "user": { "name": "{0}" } }), json!([{ "type": "groups" }]), claims.clone()).is_err());
        assert!(user(json!({ "user": { "name": "{0}" } }), json!([{ "type": "none" }]), claims.clone()).is_err());
        let braces = user(json!({ "user": { "name": "{{{0}}}" } }), json!([{ "type": "sub" }]), claims);
        assert_eq!(braces, Ok(("{s1}".into(), "{s1}".into())));
    }

    #[test]
    fn requirements() {
        let cases = [
            (json!({ "type": "g", "any_one_of": ["a", "z"] }), true),
            (json!({ "type": "g", "any_one_of": ["z"] }), false),
            (json!({ "type": "g", "any_one_of": ["^B", "a$"], "regex": true }), true),
            (json!({ "type": "g", "any_one_of": ["^B"], "regex": true }), false),
            (json!({ "type": "g", "not_any_of": ["z"] }), true),
            (json!({ "type": "g", "not_any_of": ["b"] }), false),
            (json!({ "type": "g", "not_any_of": ["b+"], "regex": true }), false),
            (json!({ "type": "none", "not_any_of": ["b"] }), false),
            (json!({ "type": "deep.roles", "any_one_of": ["r"] }), true),
        ];
        for (requirement, expected) in cases {
            let claims = json!({ "sub": "s", "g": ["a", "b"], "deep": { "roles": ["r"] } });
            // What is only asked about has no number.
            let found = user(json!({ "user": { "name": "{0}" } }), json!([requirement, { "type": "sub" }]), claims);
            assert_eq!(found.is_ok(), expected, "{requirement}");
        }
    }

    #[test]
    fn groups_and_projects() {
        let rules = json!([
            { "remote": [{ "type": "sub" }], "local": [{ "user": { "name": "{0}" } }] },
            { "remote": [{ "type": "g", "whitelist": ["a", "b"] }],
              "local": [{ "groups": "{0}", "domain": { "name": "d" } }] },
            { "remote": [{ "type": "g", "blacklist": ["^a"], "regex": true }], "local": [{ "group_ids": "{0}" }] },
            { "remote": [{ "type": "sub", "any_one_of": ["other"] }], "local": [{ "group": { "id": "never" } }] },
            { "remote": [{ "type": "sub" }], "local": [
                { "group": { "id": "g1" } }, { "group": { "name": "g2", "domain": { "id": "x" } } },
                { "user": { "name": "second" } },
                { "projects": [{ "name": "home of {0}", "roles": [{ "name": "member" }] }] }] },
        ]);
        let mapped = apply(rules, json!({ "sub": "mia", "g": ["a", "b", "c"] })).unwrap();
        assert!(matches!(&mapped.user, MappedUser::Ephemeral { name, .. } if name == "mia"));
        let d = Place { name: Some("d".into()), ..Place::default() };
        let x = Place { id: Some("x".into()), ..Place::default() };
        assert_eq!(mapped.group_names, [("a".into(), d.clone()), ("b".into(), d), ("g2".into(), x)]);
        assert_eq!(mapped.group_ids, ["b", "c", "g1"]);
        let home = MappedProject { name: "home of mia".into(), domain: None, roles: vec!["member".into()] };
        assert_eq!(mapped.projects, [home]);
    }

    #[test]
    fn local_users_and_domains() {
        let rules = |user: Value| json!([{ "remote": [{ "type": "sub" }], "local": [{ "user": user }] }]);
        let claims = json!({ "sub": "s" });
        assert!(apply(rules(json!({ "name": "{0}", "type": "local" })), claims.clone()).is_err());
        let local = apply(rules(json!({ "name": "{0}", "type": "local", "domain": { "id": "d" } })), claims.clone());
        assert!(matches!(local.unwrap().user, MappedUser::Local { name: Some(_), .. }));
        let with_domain = rules(json!({ "name": "{0}", "domain": { "id": "d" } }));
        let assertion = Assertion::from_claims(claims.as_object().unwrap());
        for (version, honoured) in [("1.0", false), ("2.0", true)] {
            let mapped = mapping(with_domain.clone(), version).apply(&assertion).unwrap();
            let MappedUser::Ephemeral { domain, .. } = mapped.user else { panic!("{mapped:?}") };
            assert_eq!(domain.is_some(), honoured, "{version}");
        }
    }

    #[test]
    fn what_is_no_mapping() {
        let sound = json!({ "remote": [{ "type": "sub" }], "local": [{ "user": { "name": "{0}" } }] });
        assert!(Mapping::parse(&json!([sound]), "3.0").is_err());
        let wrong = [
            json!({}),
            json!([]),
            json!([{ "remote": [], "local": [{}] }]),
            json!([{ "remote": [{ "type": "a" }] }]),
            json!([{ "remote": [{ "type": "a", "any_one_of": ["("], "regex": true }], "local": [{}] }]),
            json!([{ "remote": [{ "type": "a", "any_one_of": [], "whitelist": [] }], "local": [{}] }]),
            json!([{ "remote": [{ "type": "a", "some_of": [] }], "local": [{}] }]),
            json!([{ "remote": [{ "type": "a" }], "local": [{ "user": { "type": "odd" } }] }]),
            json!([{ "remote": [{ "type": "a" }], "local": [{ "house": {} }] }]),
            json!([{ "remote": [{ "type": "a" }], "local": [
                { "projects": [{ "name": "p", "roles": [], "domain": { "id": "d" } }] }] }]),
        ];
        for rules in wrong {
            assert!(Mapping::parse(&rules, "1.0").is_err(), "{rules}");
        }
    }
}
