//! Chores of the repository: `cargo xtask tidy`.
//!
//! | command | does |
//! |---|---|
//! | `tidy` | checks what no compiler does: layout, arrows between crates, sizes, words, documents |

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to people")]

mod tidy;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};

const USAGE: &str = "usage: cargo xtask tidy";

fn main() -> ExitCode {
    let command = std::env::args().nth(1);
    let done = match command.as_deref() {
        Some("tidy") => root().and_then(|root| tidy::run(&root)),
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

/// The repository, wherever in it cargo was called.
fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map(Path::to_path_buf).context("xtask is not in crates/xtask")
}
