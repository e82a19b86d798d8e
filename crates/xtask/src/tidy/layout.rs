//! The anatomy of service crates: whoever has read one finds everything in the others.

use super::{Findings, Rule, arrows::SERVICES, tree::Tree};

/// Files at the top of every service.
const TOP: &[&str] = &["lib", "routes", "policy", "versions", "bootstrap", "doctor"];
/// Files of a resource's folder.
const RESOURCE: &[&str] = &["mod", "api", "wire", "logic", "flow"];
/// Folders that are no resources.
const SWEEPS: &str = "sweeps";
/// Files that every service has.
const REQUIRED: &[&str] = &["lib", "routes", "policy"];

pub(super) fn check(tree: &Tree, findings: &mut Findings) {
    for service in SERVICES {
        let sources = tree.sources(service);
        let routes = sources.iter().find(|(_, below, _)| *below == "routes.rs").map_or("", |(_, _, text)| *text);
        for (path, below, _) in &sources {
            if !fits(below, routes) {
                findings.add_unless_excepted(
                    Rule::Layout,
                    path,
                    "no file of a service is called so, and routes.rs names no handler in it",
                );
            }
        }
        for file in REQUIRED {
            let path = format!("crates/{service}/src/{file}.rs");
            if !tree.paths.contains(&path) {
                findings.add(&path, "every service has it");
            }
        }
        let tests = format!("crates/{service}/tests/it/main.rs");
        if !tree.paths.contains(&tests) {
            findings.add(&tests, "every service has tests through its router");
        }
    }
}

/// Whether a file has its place: `below` is its path below `src/`.
fn fits(below: &str, routes: &str) -> bool {
    let parts: Vec<&str> = below.trim_end_matches(".rs").split('/').collect();
    // A file is a resource of its own, or a part of one, when a route leads into it.
    let routed = |name: &str| routes.contains(&format!("{name}::"));
    match parts.as_slice() {
        [top] => TOP.contains(top) || routed(top),
        [SWEEPS, _] => true,
        [_, file] => RESOURCE.contains(file) || routed(file),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn places() {
        let routes = "Route::get(\"/limits\", Token, handler!(limits::show)), handler!(servers::metadata::list)";
        for (file, expected) in [
            ("lib.rs", true),
            ("routes.rs", true),
            ("limits.rs", true),
            ("helpers.rs", false),
            ("servers/api.rs", true),
            ("servers/flow.rs", true),
            ("servers/metadata.rs", true),
            ("servers/utils.rs", false),
            ("servers/flow/steps.rs", false),
            ("sweeps/purge.rs", true),
        ] {
            assert_eq!(fits(file, routes), expected, "{file}");
        }
    }
}
