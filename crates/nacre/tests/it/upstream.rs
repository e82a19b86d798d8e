//! Our rules beside OpenStack's own: names, default checks, scopes. `upstream/*.tsv` hold the facts, read from Keystone,
//! Nova, Neutron and Glance as installed from PyPI.
//!
//! Two checks are equal if no caller and no target tells them apart: both are decided under every combination of their
//! smallest parts, `rule:` followed to its end in the table that it stands in.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use web::{
    Service,
    policy::{COMMON, Check, ScopeType, parse},
};

use crate::cloud::{Cloud, repository};

/// Rules that upstream has not, or has otherwise, each with the reason.
const OTHERWISE: &[(&str, &str)] = &[
    ("create_floatingip_port_forwarding", "the target's project is the floating IP's own, by another name"),
    ("get_floatingip_port_forwarding", "the target's project is the floating IP's own, by another name"),
    ("update_floatingip_port_forwarding", "the target's project is the floating IP's own, by another name"),
    ("delete_floatingip_port_forwarding", "the target's project is the floating IP's own, by another name"),
    ("get_rule_type", "wider: the kinds of rules are told to every token"),
    ("create_policy", "stricter so far: upstream admits managers of the project, too"),
    ("update_policy", "stricter so far: upstream admits managers of the project, too"),
    ("delete_policy", "stricter so far: upstream admits managers of the project, too"),
    ("get_policy_bandwidth_limit_rule", "wider: who sees a shared policy sees its rules"),
    ("create_policy_bandwidth_limit_rule", "stricter so far: upstream admits managers of the project, too"),
    ("update_policy_bandwidth_limit_rule", "stricter so far: upstream admits managers of the project, too"),
    ("delete_policy_bandwidth_limit_rule", "stricter so far: upstream admits managers of the project, too"),
    ("get_policy_dscp_marking_rule", "wider: who sees a shared policy sees its rules"),
    ("create_policy_dscp_marking_rule", "stricter so far: upstream admits managers of the project, too"),
    ("update_policy_dscp_marking_rule", "stricter so far: upstream admits managers of the project, too"),
    ("delete_policy_dscp_marking_rule", "stricter so far: upstream admits managers of the project, too"),
    ("get_policy_minimum_bandwidth_rule", "wider: who sees a shared policy sees its rules"),
    ("create_policy_minimum_bandwidth_rule", "stricter so far: upstream admits managers of the project, too"),
    ("update_policy_minimum_bandwidth_rule", "stricter so far: upstream admits managers of the project, too"),
    ("delete_policy_minimum_bandwidth_rule", "stricter so far: upstream admits managers of the project, too"),
    ("get_subnetpools_tags", "still by the name of before"),
    ("update_subnetpools_tags", "still by the name of before"),
    ("delete_subnetpools_tags", "still by the name of before"),
    ("get_trunks_tags", "still by the name of before"),
    ("update_trunks_tags", "still by the name of before"),
    ("delete_trunks_tags", "still by the name of before"),
    ("get_policies_tags", "still by the name of before"),
    ("update_policies_tags", "still by the name of before"),
    ("delete_policies_tags", "still by the name of before"),
    ("os_compute_api:os-migrate-server:migrate", "stricter so far: upstream admits managers of the project, too"),
    ("os_compute_api:os-migrate-server:migrate_live", "stricter so far: upstream admits managers of the project, too"),
    ("os_compute_api:servers:migrations:index", "stricter so far: upstream admits managers of the project, too"),
    ("os_compute_api:servers:migrations:delete", "stricter so far: upstream admits managers of the project, too"),
    (
        "os_compute_api:servers:migrations:force_complete",
        "stricter so far: upstream admits managers of the project, too",
    ),
    ("os_compute_api:os-migrations:index", "stricter so far: upstream admits managers of the project, too"),
    ("list_quotas", "Neutron's code asks for an administrator here, without a rule that operators could change"),
    (
        "get_security_group_rule:tags",
        "tags on rules of security groups are allowed as on all else; Neutron lacks the rules",
    ),
    ("update_security_group_rule:tags", "the same"),
    ("delete_security_group_rule:tags", "the same"),
    ("create_metering_label", "stricter: metering is the administrators' here, no project's manager may meter yet"),
    ("get_metering_label", "the same"),
    ("delete_metering_label", "the same"),
    ("create_metering_label_rule", "the same"),
    ("get_metering_label_rule", "the same"),
    ("delete_metering_label_rule", "the same"),
    ("metadef_admin", "only part of other rules, all of which are for projects' tokens"),
    ("get_extension", "Neutron shows its extensions to every token, without a rule"),
];

/// Smallest parts in one check, both sides together.
const PARTS_MAX: usize = 16;

#[tokio::test]
async fn rules_are_openstacks() {
    let cloud = Cloud::new().await;
    let mut wrong = Vec::new();
    let mut excused: BTreeSet<&str> = OTHERWISE.iter().map(|(name, _)| *name).collect();
    for service in
        cloud.services().iter().filter(|service| !service.policy.iter().all(|rule| rule.name.starts_with("nacre:")))
    {
        let ours = ours(service);
        let theirs = theirs(service.name);
        for rule in service.policy {
            let differs = match theirs.get(rule.name) {
                None => Some("upstream has no such rule".to_owned()),
                Some(upstream) => difference(rule.name, &ours, upstream, &theirs),
            };
            match (differs, excused.remove(rule.name)) {
                (Some(why), false) => wrong.push(format!("{}: {}: {why}", service.name, rule.name)),
                (None, true) => wrong.push(format!("{}: as upstream has it: take it from OTHERWISE", rule.name)),
                _ => {}
            }
        }
    }
    wrong.extend(excused.into_iter().map(|name| format!("{name}: no such rule: take it from OTHERWISE")));
    assert!(wrong.is_empty(), "{}\n(or list them in OTHERWISE, with the reason)", wrong.join("\n"));
}

/// A comparison that finds everything equal would prove nothing.
#[test]
fn differences_are_seen() {
    let table =
        |check: &str| Table::from([("r".to_owned(), Entry { check: parse(check).unwrap(), scopes: scopes("") })]);
    let equal = |left: &str, right: &str| {
        let (left, right) = (table(left), table(right));
        difference("r", &left, &right["r"], &right).is_none()
    };
    assert!(equal("role:a and (role:b or role:c)", "role:c and role:a or role:a and role:b"));
    assert!(equal("tenant_id:%(tenant_id)s", "project_id:%(project_id)s"));
    assert!(equal("not (role:a or role:b)", "not role:a and not role:b"));
    assert!(!equal("role:a", "role:b"));
    assert!(!equal("role:a", "role:a and project_id:%(project_id)s"));
    assert!(!equal("@", "role:a"));
}

type Table = BTreeMap<String, Entry>;

struct Entry {
    check: Check,
    scopes: BTreeSet<String>,
}

fn ours(service: &Service) -> Table {
    let spelled = |scope: &ScopeType| format!("{scope:?}").to_lowercase();
    let entry = |rule: &web::policy::Rule| Entry {
        check: parse(rule.check).unwrap(),
        scopes: rule.scopes.iter().map(spelled).collect(),
    };
    COMMON.iter().chain(service.policy).map(|rule| (rule.name.to_owned(), entry(rule))).collect()
}

fn theirs(service: &str) -> Table {
    let path = repository("crates/nacre/tests/it/upstream").join(format!("{service}.tsv"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| {
        panic!("{}: {e}: a service needs the facts of its upstream (rule, check, scopes, by tabs)", path.display())
    });
    let entry = |line: &str| {
        let mut columns = line.split('\t');
        let mut next = || columns.next().unwrap_or_default();
        (next().to_owned(), Entry { check: parse(next()).unwrap(), scopes: scopes(next()) })
    };
    text.lines().filter(|line| !line.starts_with('#')).map(entry).collect()
}

fn scopes(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn difference(name: &str, ours: &Table, upstream: &Entry, theirs: &Table) -> Option<String> {
    let mine = &ours[name];
    let mut parts = BTreeSet::new();
    collect(&mine.check, ours, &mut parts);
    collect(&upstream.check, theirs, &mut parts);
    let parts: Vec<String> = parts.into_iter().collect();
    assert!(parts.len() <= PARTS_MAX, "{name}: {} parts", parts.len());
    for combination in 0..1_u32 << parts.len() {
        let holds = |part: &str| parts.iter().position(|p| p == part).is_some_and(|at| combination >> at & 1 == 1);
        let (we, they) = (decide(&mine.check, ours, &holds), decide(&upstream.check, theirs, &holds));
        if we != they {
            let true_ones: Vec<&str> = parts.iter().map(String::as_str).filter(|part| holds(part)).collect();
            return Some(format!(
                "with {true_ones:?} we say {we}\n    ours:     {}\n    upstream: {}",
                mine.check, upstream.check
            ));
        }
    }
    (mine.scopes != upstream.scopes).then(|| format!("scopes {:?}, upstream {:?}", mine.scopes, upstream.scopes))
}

fn collect(check: &Check, table: &Table, parts: &mut BTreeSet<String>) {
    match check {
        Check::Rule(name) => {
            if let Some(next) = table.get(name) {
                collect(&next.check, table, parts);
            }
        }
        Check::Not(inner) => collect(inner, table, parts),
        Check::And(all) | Check::Or(all) => all.iter().for_each(|one| collect(one, table, parts)),
        Check::Always | Check::Never => {}
        Check::Role(_) | Check::Equal(..) | Check::Field(..) => {
            parts.insert(part(check));
        }
    }
}

fn decide(check: &Check, table: &Table, holds: &dyn Fn(&str) -> bool) -> bool {
    check.decide(&|smallest| match smallest {
        Check::Rule(name) => table.get(name).is_some_and(|next| decide(&next.check, table, holds)),
        other => holds(&part(other)),
    })
}

/// A part as both sides spell it. Nova's and Keystone's flag of an administrator is the role's by the time it is looked at.
fn part(check: &Check) -> String {
    match check.to_string().replace("tenant_id", "project_id") {
        flag if flag == "is_admin:True" || flag == "is_admin:1" => "role:admin".to_owned(),
        other => other,
    }
}
