//! The pages that must be there, and that what they name exists.

use super::{Findings, tree::Tree};

/// One page each, for everyone who comes here.
const PAGES: &[&str] = &["README.md", "ARCHITECTURE.md", "STYLE.md", "CONTRIBUTING.md"];
/// What is longer is no page.
const PAGE_LINES_MAX: usize = 120;
/// What the pages and CI call.
const REQUIRED: &[&str] =
    &["Makefile", ".ci/run", "Cargo.lock", "rustfmt.toml", "clippy.toml", "deny.toml", "rust-toolchain.toml"];
/// Folders whose files pages name by their path from the root.
const ROOTS: &[&str] = &["crates/", "docs/", "tests/", "scripts/", "images/", "bench/", ".ci/"];

pub(super) fn check(tree: &Tree, findings: &mut Findings) {
    for path in PAGES.iter().chain(REQUIRED) {
        if !tree.paths.contains(*path) {
            findings.add(path, "is missing");
        }
    }
    for page in PAGES {
        let Some(text) = tree.files.get(*page) else { continue };
        let lines = text.lines().count();
        if lines > PAGE_LINES_MAX {
            findings.add(page, format!("{lines} lines are more than one page of {PAGE_LINES_MAX}"));
        }
    }
    let map = tree.files.get("ARCHITECTURE.md").map_or("", String::as_str);
    for name in tree.crates() {
        if !map.contains(&format!("`{name}`")) {
            findings.add("ARCHITECTURE.md", format!("its map lacks the crate `{name}`"));
        }
    }
    let pages = tree.files.iter().filter(|(path, _)| path.ends_with(".md"));
    for (page, text) in pages {
        for path in named(text).filter(|path| !exists(tree, path)) {
            findings.add(page, format!("names {path}, which is not there"));
        }
    }
}

/// Paths in backticks: `crates/web/src/cx.rs`, or below `crates/` without it: `web/src/cx.rs`.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|text| {
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        plain && text.contains('/') && (ROOTS.iter().any(|root| text.starts_with(root)) || text.contains("/src/"))
    })
}

fn exists(tree: &Tree, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let below_crates = format!("crates/{path}");
    // What builds leave behind is not in the repository: only sources are looked for.
    let there = |path: &str| ["", ".rs"].iter().any(|suffix| tree.paths.contains(&format!("{path}{suffix}")));
    there(path) || there(&below_crates)
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn paths_in_pages() {
        let text =
            "See `crates/web/src/cx.rs`, `web/src/fault.rs`, `GET /servers`, `a/b`, `docs/adr`, `crates/<name>/x`.";
        assert_eq!(named(text).collect::<Vec<_>>(), ["crates/web/src/cx.rs", "web/src/fault.rs", "docs/adr"]);
    }
}
