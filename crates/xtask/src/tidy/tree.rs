//! The repository's own files, as text.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result};

/// Folders that hold nothing of ours.
const SKIPPED: &[&str] =
    &["target", "build", ".git", ".venv", "node_modules", ".tempest", "__pycache__", ".pytest_cache"];
/// Files that rules look at.
const KINDS: &[&str] = &["rs", "toml", "md", "sql", "proto", "py", "sh"];

/// Every file that rules look at, by its path from the root; and every path there is.
pub(crate) struct Tree {
    /// Path to text.
    pub files: BTreeMap<String, String>,
    /// All files and folders.
    pub paths: BTreeSet<String>,
}

impl Tree {
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self { files: BTreeMap::new(), paths: BTreeSet::new() };
        tree.add(root, "")?;
        Ok(tree)
    }

    fn add(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if SKIPPED.contains(&name.as_str()) {
                continue;
            }
            let path = format!("{prefix}{name}");
            if entry.file_type()?.is_dir() {
                self.add(&entry.path(), &format!("{path}/"))?;
            } else if KINDS.contains(&name.rsplit('.').next().unwrap_or_default()) {
                let text = fs::read_to_string(entry.path()).with_context(|| path.clone())?;
                self.files.insert(path.clone(), text);
            }
            self.paths.insert(path);
        }
        Ok(())
    }

    /// The crates, by name: every folder of `crates/` with a manifest.
    pub(crate) fn crates(&self) -> Vec<&str> {
        let names = self.files.keys().filter_map(|path| path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml"));
        names.filter(|name| !name.contains('/')).collect()
    }

    /// Rust files below `crates/NAME/src/`: path, path below `src/`, text.
    pub(crate) fn sources<'a>(&'a self, name: &str) -> Vec<(&'a str, &'a str, &'a str)> {
        let prefix = format!("crates/{name}/src/");
        let of_crate = self.files.iter().filter(|(path, _)| path.ends_with(".rs"));
        of_crate.filter_map(|(path, text)| Some((path.as_str(), path.strip_prefix(&prefix)?, text.as_str()))).collect()
    }
}
