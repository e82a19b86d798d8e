//! Chores of the repository: `cargo xtask tidy`, `cargo xtask golden`.
//!
//! | command | does |
//! |---|---|
//! | `tidy` | checks what no compiler does: layout, arrows between crates, sizes, words, documents |
//! | `golden` | writes the golden files of the whole cloud anew: `crates/nacre/tests/it/golden/` |

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to people")]

mod tidy;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};

const USAGE: &str = "usage: cargo xtask tidy | golden";

fn main() -> ExitCode {
    let command = std::env::args().nth(1);
    let done = match command.as_deref() {
        Some("tidy") => root().and_then(|root| tidy::run(&root)),
        Some("golden") => root().and_then(|root| golden(&root)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// The tests that compare golden files write them when asked to, so that both see the same cloud.
fn golden(root: &Path) -> Result<bool> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut tests = Command::new(cargo);
    tests.current_dir(root).env("UPDATE_GOLDEN", "1");
    tests.args(["test", "--quiet", "--locked", "--package", "nacre", "--test", "it", "golden::"]);
    Ok(tests.status().context("calling cargo")?.success())
}

/// The repository, wherever in it cargo was called.
fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map(Path::to_path_buf).context("xtask is not in crates/xtask")
}
