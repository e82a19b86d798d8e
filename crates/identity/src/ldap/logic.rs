//! A domain's `[ldap]` settings as Keystone names them, the filters that they make, and what entries mean.

use std::{collections::HashMap, fmt, time::Duration};

use ldap3::{Scope, SearchEntry, dn_escape, ldap_escape};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use store::identity::{Extra, directory::Kind};
use zeroize::Zeroizing;

/// Longest anybody waits for a directory, whatever its settings say.
const TIMEOUT_MAX: u64 = 30;

/// When aliases are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aliases {
    /// Never, and where nothing is said.
    Never,
    /// Below the base.
    Searching,
    /// To the base.
    Finding,
    /// Both.
    Always,
}

/// How certificates are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// As they should be.
    Demand,
    /// Any will do.
    Never,
}

/// Where one kind of entry is and what its attributes are called.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// Below what it is looked for.
    pub base: String,
    /// What every entry must match, in brackets; empty for nothing.
    pub filter: String,
    /// Its class.
    pub class: String,
    /// What tells it from others.
    pub id: String,
    /// Its name.
    pub name: String,
    /// For people.
    pub description: String,
    /// More attributes: theirs, ours.
    pub more: Vec<(String, String)>,
}

/// How the directory says that a user may log in.
#[derive(Clone, Debug, PartialEq)]
pub struct Enabled {
    /// The attribute.
    pub attribute: String,
    /// Bits of a number that mean *disabled* (Active Directory: 2); 0: it is a flag.
    pub mask: i64,
    /// What holds where there is no attribute.
    pub default: bool,
    /// The flag means *locked*.
    pub invert: bool,
}

/// A domain's settings.
#[derive(Clone, PartialEq)]
pub struct Settings {
    /// Servers, tried in this order.
    pub urls: Vec<String>,
    /// Who asks; none: nobody in particular.
    pub user: Option<String>,
    /// With this password.
    pub password: Zeroizing<String>,
    /// One level or all below.
    pub scope_is_sub: bool,
    /// Entries of a page; 0: all at once.
    pub page_size: i32,
    /// When aliases are followed.
    pub aliases: Aliases,
    /// Users.
    pub users: Tree,
    /// Who may log in.
    pub enabled: Enabled,
    /// The attribute with the mail address.
    pub mail: String,
    /// Groups.
    pub groups: Tree,
    /// The attribute that names members.
    pub member: String,
    /// Whether it names ids instead of DNs.
    pub members_are_ids: bool,
    /// Active Directory: whether members of members count.
    pub ad_nesting: bool,
    /// StartTLS.
    pub start_tls: bool,
    /// How certificates are looked at.
    pub verify: Verify,
    /// A file with certificates to trust instead of the system's.
    pub ca_file: Option<String>,
    /// How long anything may take.
    pub timeout: Duration,
    /// Connections that are kept.
    pub pool_size: usize,
    /// How long each is.
    pub pool_lifetime: Duration,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("urls", &self.urls).field("user", &self.user).finish_non_exhaustive()
    }
}

impl Settings {
    /// From the options of the group `ldap`.
    ///
    /// # Errors
    /// A sentence that says which option is wrong.
    pub fn parse(options: &Map<String, Value>) -> Result<Self, String> {
        let o = Options(options);
        let suffix = o.text("suffix", "cn=example,cn=com");
        let tree = |kind: &str, default_base: String, class: &str, id: &str, name: &str, description: (&str, &str)| {
            let filter = o.text(&format!("{kind}_filter"), "");
            let in_brackets = filter.starts_with('(') && filter.ends_with(')');
            if !filter.is_empty() && !in_brackets {
                return Err(format!("{kind}_filter must be in brackets: {filter}"));
            }
            Ok(Tree {
                base: o.text(&format!("{kind}_tree_dn"), &default_base),
                filter,
                class: o.attribute(&format!("{kind}_objectclass"), class)?,
                id: o.attribute(&format!("{kind}_id_attribute"), id)?,
                name: o.attribute(&format!("{kind}_name_attribute"), name)?,
                description: o.attribute(description.0, description.1)?,
                more: o.pairs(&format!("{kind}_additional_attribute_mapping"))?,
            })
        };
        let users = tree(
            "user",
            format!("ou=Users,{suffix}"),
            "inetOrgPerson",
            "cn",
            "sn",
            ("user_description_attribute", "description"),
        )?;
        let groups = tree(
            "group",
            format!("ou=UserGroups,{suffix}"),
            "groupOfNames",
            "cn",
            "ou",
            ("group_desc_attribute", "description"),
        )?;
        let urls: Vec<String> = o.text("url", "ldap://localhost").split(',').map(|url| url.trim().to_owned()).collect();
        if let Some(odd) = urls.iter().find(|u| !["ldap://", "ldaps://", "ldapi://"].iter().any(|s| u.starts_with(s))) {
            return Err(format!("url must start with ldap://, ldaps:// or ldapi://: {odd}"));
        }
        let seconds = |name: &str, default: i64| o.number(name, default);
        let timeout = u64::try_from(seconds("connection_timeout", -1)?).ok().filter(|s| *s > 0);
        let start_tls = o.flag("use_tls", false)?;
        if start_tls && urls.iter().any(|url| url.starts_with("ldaps://")) {
            return Err("use_tls is for ldap:// only: ldaps:// begins with TLS".to_owned());
        }
        Ok(Self {
            urls,
            user: o.optional("user"),
            password: Zeroizing::new(o.text("password", "")),
            scope_is_sub: match o.text("query_scope", "one").as_str() {
                "one" => false,
                "sub" => true,
                other => return Err(format!("query_scope is one or sub: {other}")),
            },
            page_size: i32::try_from(o.number("page_size", 0)?)
                .map_err(|_| "page_size is too large".to_owned())?
                .max(0),
            aliases: match o.text("alias_dereferencing", "default").as_str() {
                "never" | "default" => Aliases::Never,
                "searching" => Aliases::Searching,
                "finding" => Aliases::Finding,
                "always" => Aliases::Always,
                other => {
                    let known = "never, searching, always, finding or default";
                    return Err(format!("alias_dereferencing is {known}: {other}"));
                }
            },
            users,
            enabled: Enabled {
                attribute: o.attribute("user_enabled_attribute", "enabled")?,
                mask: o.number("user_enabled_mask", 0)?,
                default: !matches!(
                    o.text("user_enabled_default", "True").to_ascii_lowercase().as_str(),
                    "false" | "0" | "no" | "off"
                ),
                invert: o.flag("user_enabled_invert", false)?,
            },
            mail: o.attribute("user_mail_attribute", "mail")?,
            groups,
            member: o.attribute("group_member_attribute", "member")?,
            members_are_ids: o.flag("group_members_are_ids", false)?,
            ad_nesting: o.flag("group_ad_nesting", false)?,
            start_tls,
            verify: match o.text("tls_req_cert", "demand").as_str() {
                "demand" => Verify::Demand,
                "never" | "allow" => Verify::Never,
                other => return Err(format!("tls_req_cert is demand, never or allow: {other}")),
            },
            ca_file: o.optional("tls_cacertfile"),
            timeout: Duration::from_secs(timeout.unwrap_or(TIMEOUT_MAX).min(TIMEOUT_MAX)),
            pool_size: match o.flag("use_pool", true)? {
                true => usize::try_from(o.number("pool_size", 10)?.clamp(1, 100)).unwrap_or(10),
                false => 0,
            },
            pool_lifetime: Duration::from_secs(
                u64::try_from(seconds("pool_connection_lifetime", 600)?).unwrap_or(600).min(86400),
            ),
        })
    }

    /// The tree of one kind.
    pub fn tree(&self, kind: Kind) -> &Tree {
        match kind {
            Kind::User => &self.users,
            Kind::Group => &self.groups,
        }
    }

    /// How far a search goes.
    pub fn scope(&self) -> Scope {
        if self.scope_is_sub { Scope::Subtree } else { Scope::OneLevel }
    }

    /// The filter for all entries of a kind.
    pub fn all(&self, kind: Kind) -> String {
        let tree = self.tree(kind);
        format!("(&(objectClass={}){})", tree.class, tree.filter)
    }

    /// The filter for the entries of a kind whose attribute is exactly this.
    pub fn with(&self, kind: Kind, attribute: &str, value: &str) -> String {
        let tree = self.tree(kind);
        format!("(&(objectClass={}){}({attribute}={}))", tree.class, tree.filter, ldap_escape(value))
    }

    /// The filter for the groups that a user is in.
    pub fn groups_of(&self, user: &Entry) -> String {
        let member = if self.members_are_ids { user.local_id.as_str() } else { user.dn.as_str() };
        // Active Directory's rule that follows members of members.
        let rule = if self.ad_nesting { ":1.2.840.113556.1.4.1941:" } else { "" };
        self.with(Kind::Group, &format!("{}{rule}", self.member), member)
    }

    /// The attributes that are asked for.
    pub fn attributes(&self, kind: Kind) -> Vec<String> {
        let tree = self.tree(kind);
        let mut names = vec![tree.id.clone(), tree.name.clone(), tree.description.clone()];
        names.extend(tree.more.iter().map(|(theirs, _)| theirs.clone()));
        match kind {
            Kind::User => names.extend([self.mail.clone(), self.enabled.attribute.clone()]),
            Kind::Group => names.push(self.member.clone()),
        }
        names.sort();
        names.dedup();
        names
    }

    /// What an entry means; none where it has no id or no name.
    pub fn read(&self, kind: Kind, found: &SearchEntry) -> Option<Entry> {
        let tree = self.tree(kind);
        let values = Values(&found.attrs);
        let mut extra = Extra::new();
        let mut add = |ours: &str, theirs: &str| {
            if let Some(text) = values.first(theirs) {
                extra.insert(ours.to_owned(), Value::from(text));
            }
        };
        for (theirs, ours) in &tree.more {
            add(ours, theirs);
        }
        if kind == Kind::User {
            add("email", &self.mail);
            add("description", &tree.description);
        }
        Some(Entry {
            dn: found.dn.clone(),
            local_id: values.first(&tree.id)?.to_owned(),
            name: values.first(&tree.name)?.to_owned(),
            description: values.first(&tree.description).unwrap_or_default().to_owned(),
            enabled: kind == Kind::Group || self.enabled.holds(values.first(&self.enabled.attribute)),
            members: values.all(&self.member).to_vec(),
            extra,
        })
    }
}

impl Enabled {
    fn holds(&self, value: Option<&str>) -> bool {
        if self.mask != 0 {
            let number = value.and_then(|text| text.parse::<i64>().ok());
            return number.map_or(self.default, |number| number & self.mask != self.mask);
        }
        let Some(text) = value else { return self.default };
        let flag = matches!(text.to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "on" | "t" | "y");
        flag != self.invert
    }
}

/// A user or group as a directory has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where it is.
    pub dn: String,
    /// What tells it from others.
    pub local_id: String,
    /// Its name.
    pub name: String,
    /// For people.
    pub description: String,
    /// Whether it may log in.
    pub enabled: bool,
    /// A group's members, by DN or id.
    pub members: Vec<String>,
    /// More attributes.
    pub extra: Extra,
}

/// The id that a directory's entry has here: as Keystone makes them, so that assignments of before stay good.
pub fn public_id(domain: &str, kind: Kind, local_id: &str) -> String {
    let mut hash = Sha256::new();
    // Keystone hashes the values in the order of their names: domain_id, entity_type, local_id.
    for part in [domain, kind.as_str(), local_id] {
        hash.update(part.as_bytes());
    }
    hex::encode(hash.finalize())
}

/// The first value of a DN's attribute: who a member is, where the DN itself tells.
pub fn leading_value<'a>(dn: &'a str, attribute: &str) -> Option<&'a str> {
    let (name, rest) = dn.split_once('=')?;
    let value = rest.split(',').next()?;
    let plain = !value.contains(['\\', '+', '"']) && dn_escape(value) == value;
    (plain && name.trim().eq_ignore_ascii_case(attribute)).then_some(value.trim())
}

struct Values<'a>(&'a HashMap<String, Vec<String>>);

impl<'a> Values<'a> {
    fn all(&self, name: &str) -> &'a [String] {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or(&[], |(_, values)| values)
    }

    fn first(&self, name: &str) -> Option<&'a str> {
        self.all(name).iter().map(String::as_str).find(|text| !text.is_empty())
    }
}

/// Options of a group: clients may write numbers and flags as such or as text.
struct Options<'a>(&'a Map<String, Value>);

impl Options<'_> {
    fn optional(&self, name: &str) -> Option<String> {
        let text = match self.0.get(name)? {
            Value::String(text) => text.trim().to_owned(),
            Value::Null => return None,
            other => other.to_string(),
        };
        (!text.is_empty()).then_some(text)
    }

    fn text(&self, name: &str, default: &str) -> String {
        self.optional(name).unwrap_or_else(|| default.to_owned())
    }

    /// What becomes a part of filters as it is, and so must be a name.
    fn attribute(&self, name: &str, default: &str) -> Result<String, String> {
        let text = self.text(name, default);
        let fits = |c: char| c.is_ascii_alphanumeric() || "-.;_".contains(c);
        if text.chars().all(fits) { Ok(text) } else { Err(format!("{name} is no name of an attribute: {text}")) }
    }

    fn number(&self, name: &str, default: i64) -> Result<i64, String> {
        let Some(text) = self.optional(name) else { return Ok(default) };
        text.parse().map_err(|_| format!("{name} is no whole number: {text}"))
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool, String> {
        let Some(text) = self.optional(name) else { return Ok(default) };
        web::paging::parse_flag(&text).ok_or_else(|| format!("{name} is neither true nor false: {text}"))
    }

    /// `theirs:ours` elements, as a list or separated by commas.
    fn pairs(&self, name: &str) -> Result<Vec<(String, String)>, String> {
        let items: Vec<String> = match self.0.get(name) {
            Some(Value::Array(items)) => items.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
            _ => self.text(name, "").split(',').map(|item| item.trim().to_owned()).collect(),
        };
        let pair = |item: &String| {
            let (theirs, ours) =
                item.split_once(':').ok_or_else(|| format!("{name} has theirs:ours elements: {item}"))?;
            Ok((theirs.trim().to_owned(), ours.trim().to_owned()))
        };
        items.iter().filter(|item| !item.is_empty()).map(pair).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(options: Value) -> Result<Settings, String> {
        Settings::parse(options.as_object().unwrap())
    }

    #[test]
    fn options() {
        let plain = settings(json!({ "suffix": "dc=x" })).unwrap();
        assert_eq!((plain.users.base.as_str(), plain.groups.base.as_str()), ("ou=Users,dc=x", "ou=UserGroups,dc=x"));
        assert_eq!(plain.all(Kind::User), "(&(objectClass=inetOrgPerson))");
        let told = json!({ "url": "ldaps://a, ldaps://b", "user_filter": "(a=b)", "page_size": "100", "query_scope": "sub",
            "user_enabled_mask": 2, "connection_timeout": 5, "user_additional_attribute_mapping": "title:position" });
        let told = settings(told).unwrap();
        assert_eq!(told.urls, ["ldaps://a", "ldaps://b"]);
        assert_eq!((told.page_size, told.scope_is_sub, told.timeout.as_secs()), (100, true, 5));
        assert_eq!(told.all(Kind::User), "(&(objectClass=inetOrgPerson)(a=b))");
        assert!(told.attributes(Kind::User).contains(&"title".to_owned()));
        let wrong = [
            json!({ "url": "http://a" }),
            json!({ "query_scope": "all" }),
            json!({ "user_filter": "a=b" }),
            json!({ "user_name_attribute": "cn)(x=*" }),
            json!({ "page_size": "many" }),
            json!({ "url": "ldaps://a", "use_tls": true }),
            json!({ "tls_req_cert": "perhaps" }),
            json!({ "alias_dereferencing": "now and then" }),
        ];
        for options in wrong {
            assert!(settings(options.clone()).is_err(), "{options}");
        }
    }

    /// Whatever a client sends as a name stays one value of one attribute.
    #[test]
    fn names_do_not_become_filters() {
        let s = settings(json!({})).unwrap();
        for name in ["*", "a)(objectClass=*", "\\2a", "x\0y", "(|(cn=*", "ü*"] {
            let filter = s.with(Kind::User, "sn", name);
            let value = filter.strip_prefix("(&(objectClass=inetOrgPerson)(sn=").unwrap().strip_suffix("))").unwrap();
            assert!(!value.contains(['*', '(', ')', '\0']), "{filter}");
            assert!(
                value
                    .replace("\\5c", "")
                    .replace("\\2a", "")
                    .replace("\\28", "")
                    .replace("\\29", "")
                    .replace("\\00", "")
                    .chars()
                    .all(|c| c != '\\'),
                "{filter}"
            );
        }
        let entry = Entry {
            dn: "cn=a*(b),dc=x".into(),
            local_id: "a*".into(),
            name: String::new(),
            description: String::new(),
            enabled: true,
            members: Vec::new(),
            extra: Extra::new(),
        };
        assert_eq!(s.groups_of(&entry), "(&(objectClass=groupOfNames)(member=cn=a\\2a\\28b\\29,dc=x))");
    }

    #[test]
    fn who_is_enabled() {
        let flag = |invert| Enabled { attribute: "e".into(), mask: 0, default: true, invert };
        let mask = Enabled { attribute: "e".into(), mask: 2, default: true, invert: false };
        let cases = [
            (flag(false), None, true),
            (flag(false), Some("TRUE"), true),
            (flag(false), Some("FALSE"), false),
            (flag(true), Some("TRUE"), false),
            (flag(true), Some("FALSE"), true),
            (mask.clone(), Some("512"), true),
            (mask.clone(), Some("514"), false),
            (mask, None, true),
        ];
        for (enabled, value, expected) in cases {
            assert_eq!(enabled.holds(value), expected, "{enabled:?} {value:?}");
        }
    }

    #[test]
    fn ids_are_keystones() {
        // sha256(domain_id + entity_type + local_id), as its generator makes it.
        let id = public_id("default", Kind::User, "mia");
        assert_eq!(id, hex::encode(Sha256::digest(b"defaultusermia")));
        assert_eq!(leading_value("uid=mia,ou=Users,dc=x", "UID"), Some("mia"));
        assert_eq!(leading_value("cn=m\\,a,dc=x", "cn"), None);
    }
}
