//! Arrows between crates: `nacre -> services -> {web, flow, hostlink, drivers} -> store -> model`.

use anyhow::{Context, Result};

use super::{Findings, tree::Tree};

/// What each crate may depend on. A new crate has to be added here: that is where its place is decided.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("store", &["model"]),
    ("flow", &["store", "model"]),
    ("web", &["store", "model"]),
    ("drivers", &["model"]),
    ("hostlink", &["model"]),
    ("agent", &["hostlink", "drivers", "model"]),
    ("identity", SERVICE),
    ("image", SERVICE),
    ("network", SERVICE),
    ("compute", SERVICE),
    ("placement", SERVICE),
    ("cloud", SERVICE),
    (
        "nacre",
        &[
            "identity",
            "image",
            "network",
            "compute",
            "placement",
            "cloud",
            "agent",
            "web",
            "flow",
            "hostlink",
            "drivers",
            "store",
            "model",
        ],
    ),
    ("testkit", &["web", "flow", "hostlink", "drivers", "agent", "store", "model"]),
    ("xtask", XTASK),
];

const SERVICE: &[&str] = &["web", "flow", "hostlink", "drivers", "store", "model"];
/// Golden files are written from the tables of the services.
const XTASK: &[&str] = &[
    "identity",
    "image",
    "network",
    "compute",
    "placement",
    "cloud",
    "agent",
    "web",
    "flow",
    "hostlink",
    "drivers",
    "store",
    "model",
];

/// The services: they never depend on each other, not even in their tests.
pub(super) const SERVICES: &[&str] = &["identity", "image", "network", "compute", "placement", "cloud"];

/// What tests may use besides: anything but another service and the product's binary.
fn in_tests(name: &str, to: &str) -> bool {
    to != name && to != "nacre" && !SERVICES.contains(&to)
}

pub(super) fn check(tree: &Tree, findings: &mut Findings) -> Result<()> {
    let crates = tree.crates();
    for name in &crates {
        let path = format!("crates/{name}/Cargo.toml");
        let manifest: toml::Table = tree.files.get(&path).context("manifest")?.parse().with_context(|| path.clone())?;
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| known == name) else {
            findings.add(&path, "the crate is not in the table of arrows (crates/xtask/src/tidy/arrows.rs)");
            continue;
        };
        let ours = |section: &str| -> Vec<String> {
            let dependencies = manifest.get(section).and_then(toml::Value::as_table);
            let names = dependencies.into_iter().flat_map(toml::Table::keys).cloned();
            names.filter(|dependency| crates.contains(&dependency.as_str())).collect()
        };
        for to in ours("dependencies").iter().chain(&ours("build-dependencies")) {
            if !allowed.contains(&to.as_str()) {
                findings.add(&path, format!("{name} must not depend on {to}"));
            }
        }
        for to in ours("dev-dependencies") {
            if !allowed.contains(&to.as_str()) && !in_tests(name, &to) {
                findings.add(&path, format!("the tests of {name} must not depend on {to}"));
            }
        }
        let lints = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
        if lints != Some(true) {
            findings.add(&path, "the workspace's lints must hold: [lints] workspace = true");
        }
    }
    Ok(())
}
