//! The operator's own rules: an oslo `policy.yaml`.

use std::collections::{BTreeMap, HashMap};

use serde_yaml_ng::Value;

use super::{InForce, checked, parse::smallest};

/// Largest policy file in bytes.
const FILE_BYTES_MAX: usize = 1 << 20;

/// A rule's earlier name, the rules that took its place. Files that still say the earlier name go on working.
#[rustfmt::skip]
const RENAMED: &[(&str, &[&str])] = &[
    ("os_compute_api:os-attach-interfaces", &["os_compute_api:os-attach-interfaces:list", "os_compute_api:os-attach-interfaces:show", "os_compute_api:os-attach-interfaces:create", "os_compute_api:os-attach-interfaces:delete"]),
    ("os_compute_api:os-deferred-delete", &["os_compute_api:os-deferred-delete:restore", "os_compute_api:os-deferred-delete:force"]),
    ("os_compute_api:os-floating-ips", &["os_compute_api:os-floating-ips:add", "os_compute_api:os-floating-ips:remove", "os_compute_api:os-floating-ips:list", "os_compute_api:os-floating-ips:create", "os_compute_api:os-floating-ips:show", "os_compute_api:os-floating-ips:delete"]),
    ("os_compute_api:os-hypervisors", &["os_compute_api:os-hypervisors:list", "os_compute_api:os-hypervisors:list-detail", "os_compute_api:os-hypervisors:statistics", "os_compute_api:os-hypervisors:show", "os_compute_api:os-hypervisors:uptime", "os_compute_api:os-hypervisors:search", "os_compute_api:os-hypervisors:servers"]),
    ("os_compute_api:os-instance-actions", &["os_compute_api:os-instance-actions:list", "os_compute_api:os-instance-actions:show"]),
    ("os_compute_api:os-multinic", &["os_compute_api:os-multinic:add", "os_compute_api:os-multinic:remove"]),
    ("os_compute_api:os-rescue", &["os_compute_api:os-unrescue"]),
    ("os_compute_api:os-security-groups", &["os_compute_api:os-security-groups:list", "os_compute_api:os-security-groups:add", "os_compute_api:os-security-groups:remove"]),
    ("os_compute_api:os-server-password", &["os_compute_api:os-server-password:show", "os_compute_api:os-server-password:clear"]),
    ("os_compute_api:os-services", &["os_compute_api:os-services:list", "os_compute_api:os-services:update", "os_compute_api:os-services:delete"]),
    ("os_compute_api:os-used-limits", &["os_compute_api:limits:other_project"]),
    ("create_floatingips_tags", &["create_floatingip:tags"]),
    ("get_floatingips_tags", &["get_floatingip:tags"]),
    ("update_floatingips_tags", &["update_floatingip:tags"]),
    ("delete_floatingips_tags", &["delete_floatingip:tags"]),
    ("create_networks_tags", &["create_network:tags"]),
    ("get_networks_tags", &["get_network:tags"]),
    ("update_networks_tags", &["update_network:tags"]),
    ("delete_networks_tags", &["delete_network:tags"]),
    ("create_ports_tags", &["create_port:tags"]),
    ("get_ports_tags", &["get_port:tags"]),
    ("update_ports_tags", &["update_port:tags"]),
    ("delete_ports_tags", &["delete_port:tags"]),
    ("create_routers_tags", &["create_router:tags"]),
    ("get_routers_tags", &["get_router:tags"]),
    ("update_routers_tags", &["update_router:tags"]),
    ("delete_routers_tags", &["delete_router:tags"]),
    ("create_security_groups_tags", &["create_security_group:tags"]),
    ("get_security_groups_tags", &["get_security_group:tags"]),
    ("update_security_groups_tags", &["update_security_group:tags"]),
    ("delete_security_groups_tags", &["delete_security_group:tags"]),
    ("create_subnets_tags", &["create_subnet:tags"]),
    ("get_subnets_tags", &["get_subnet:tags"]),
    ("update_subnets_tags", &["update_subnet:tags"]),
    ("delete_subnets_tags", &["delete_subnet:tags"]),
];

/// Reads the file's text.
pub(super) fn from_yaml(text: &str) -> Result<BTreeMap<String, String>, String> {
    if text.len() > FILE_BYTES_MAX {
        return Err(format!("a policy file has at most {FILE_BYTES_MAX} bytes"));
    }
    let whole: Value = serde_yaml_ng::from_str(text).map_err(|e| e.to_string())?;
    match whole {
        Value::Null => Ok(BTreeMap::new()),
        Value::Mapping(rules) => rules.into_iter().map(named).collect(),
        _ => Err("expected a mapping of rule names to checks, as in \"identity:list_users\": \"role:auditor\"".into()),
    }
}

fn named((name, value): (Value, Value)) -> Result<(String, String), String> {
    let Value::String(name) = name else {
        return Err(format!("a rule's name is a text, not {}", shown(&name)));
    };
    let check = match &value {
        Value::String(text) => text.clone(),
        Value::Sequence(any) => from_list(any).map_err(|why| format!("policy rule {name}: {why}"))?,
        other => {
            return Err(format!(
                "policy rule {name}: expected a check, found {} (write \"@\" to admit everybody, \"!\" nobody)",
                shown(other)
            ));
        }
    };
    Ok((name, check))
}

/// The old syntax: a list means "any of", a list in it "all of". An empty one admits everybody; empty ones in it are
/// skipped.
fn from_list(any: &[Value]) -> Result<String, String> {
    if any.is_empty() {
        return Ok("@".to_owned());
    }
    let mut alternatives = Vec::new();
    for item in any {
        let all = match item {
            Value::String(one) => vec![one.as_str()],
            Value::Sequence(all) => all.iter().map(text_of).collect::<Result<_, _>>()?,
            other => return Err(format!("in a list, expected a check or a list of checks, found {}", shown(other))),
        };
        for one in &all {
            if one.contains(char::is_whitespace) {
                return Err(format!("{one:?}: in lists, each item is a single check without and, or, not"));
            }
            smallest(one)?;
        }
        if !all.is_empty() {
            alternatives.push(format!("({})", all.join(" and ")));
        }
    }
    Ok(if alternatives.is_empty() { "!".to_owned() } else { alternatives.join(" or ") })
}

fn text_of(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("in a list of checks, found {}", shown(value)))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(s) => format!("{s:?}"),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) | Value::Tagged(_) => "a mapping".to_owned(),
    }
}

/// Puts the operator's checks in the place of the defaults; what deserves a word is returned.
pub(super) fn apply(
    rules: &mut HashMap<String, InForce>,
    overrides: &BTreeMap<String, String>,
) -> Result<Vec<String>, String> {
    let mut warnings = Vec::new();
    let mut unknown = Vec::new();
    // Helpers of the operator's own are rules that others of the file refer to.
    let mut helpers = Vec::new();
    for (name, text) in overrides {
        let check = checked(name, text)?;
        helpers.extend(check.references().into_iter().map(str::to_owned));
        if let Some(rule) = rules.get_mut(name) {
            rule.check = check;
            continue;
        }
        match RENAMED.iter().find(|(old, _)| old == name) {
            Some((_, renamed)) => {
                for new in renamed.iter().filter(|new| !overrides.contains_key(**new)) {
                    if let Some(rule) = rules.get_mut(*new) {
                        rule.check = check.clone();
                        warnings.push(format!("{name} is an earlier name; it sets {new}: name that instead"));
                    }
                }
            }
            None => unknown.push(name),
        }
        rules.insert(name.clone(), InForce { check, scopes: &[] });
    }
    let idle = unknown.into_iter().filter(|name| !helpers.contains(name));
    warnings.extend(idle.map(|name| format!("no service of this cloud asks the rule {name}: it has no effect")));
    Ok(warnings)
}
