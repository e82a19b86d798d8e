//! `cargo xtask tidy`: the rules of DESIGN that no compiler checks.
//!
//! | file | rules |
//! |---|---|
//! | `arrows.rs` | which crate may depend on which |
//! | `layout.rs` | which files a service crate consists of |
//! | `text.rs` | sizes, words that must not stay, module documents, SQL only in `store` |
//! | `docs.rs` | the pages that must be there, and that what they name exists |
//!
//! Exceptions stand in `crates/xtask/tidy.toml`, each with its reason; one that nothing needs any more is a finding too.

mod arrows;
mod docs;
mod layout;
mod text;
mod tree;

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, bail};

use tree::Tree;

/// Where exceptions stand.
const EXCEPTIONS: &str = "crates/xtask/tidy.toml";

/// Checks everything, and prints what is wrong. Whether nothing is.
pub(crate) fn run(root: &Path) -> Result<bool> {
    let tree = Tree::read(root)?;
    let mut findings = Findings::new(&fs::read_to_string(root.join(EXCEPTIONS)).context(EXCEPTIONS)?)?;
    arrows::check(&tree, &mut findings)?;
    layout::check(&tree, &mut findings);
    text::check(&tree, &mut findings);
    docs::check(&tree, &mut findings);
    let problems = findings.into_problems();
    for problem in &problems {
        println!("{problem}");
    }
    match problems.len() {
        0 => println!("tidy: {} files", tree.files.len()),
        count => println!("tidy: {count} findings. What must stay as it is goes into {EXCEPTIONS} with its reason."),
    }
    Ok(problems.is_empty())
}

/// A rule that knows exceptions, as `tidy.toml` spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// A file name that the anatomy of service crates does not have.
    Layout,
    /// A file that is longer than it should be.
    Size,
    /// A word that must not stay.
    Word,
    /// SQL outside `store`.
    Sql,
}

impl Rule {
    const ALL: [Self; 4] = [Self::Layout, Self::Size, Self::Word, Self::Sql];

    fn name(self) -> &'static str {
        match self {
            Self::Layout => "layout",
            Self::Size => "size",
            Self::Word => "word",
            Self::Sql => "sql",
        }
    }
}

/// What is wrong, exceptions apart.
pub(crate) struct Findings {
    exceptions: BTreeSet<(Rule, String)>,
    used: BTreeSet<(Rule, String)>,
    problems: Vec<String>,
}

impl Findings {
    fn new(exceptions: &str) -> Result<Self> {
        let table: toml::Table = exceptions.parse().context(EXCEPTIONS)?;
        let mut all = BTreeSet::new();
        for (rule, paths) in table {
            let Some(rule) = Rule::ALL.into_iter().find(|r| r.name() == rule) else {
                bail!("{EXCEPTIONS}: there is no rule {rule}");
            };
            let paths =
                paths.as_table().with_context(|| format!("{EXCEPTIONS}: {}: path = \"reason\"", rule.name()))?;
            for (path, reason) in paths {
                if reason.as_str().is_none_or(|reason| reason.trim().is_empty()) {
                    bail!("{EXCEPTIONS}: {path} has no reason");
                }
                all.insert((rule, path.clone()));
            }
        }
        Ok(Self { exceptions: all, used: BTreeSet::new(), problems: Vec::new() })
    }

    /// Something that is wrong whatever the reason.
    pub(crate) fn add(&mut self, path: &str, problem: impl AsRef<str>) {
        self.problems.push(format!("{path}: {}", problem.as_ref()));
    }

    /// Something that is wrong unless it is an exception.
    pub(crate) fn add_unless_excepted(&mut self, rule: Rule, path: &str, problem: impl AsRef<str>) {
        let key = (rule, path.to_owned());
        if self.exceptions.contains(&key) {
            self.used.insert(key);
        } else {
            self.add(path, problem);
        }
    }

    fn into_problems(mut self) -> Vec<String> {
        for (rule, path) in self.exceptions.difference(&self.used) {
            self.problems
                .push(format!("{EXCEPTIONS}: {path} needs no exception from the rule {} any more", rule.name()));
        }
        self.problems.sort();
        self.problems
    }
}
