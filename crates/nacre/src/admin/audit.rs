//! `nacre admin audit verify`: reads the database itself, so that no control plane has to run or to be believed.

use std::process::ExitCode;

use anyhow::Context;
use model::Clock;
use store::{Db, audit};

use crate::{cli::VerifyOptions, layout::Layout};

/// Prints what was proved, or what is wrong; exits with 1 then.
#[allow(clippy::print_stdout, reason = "the command's output")]
pub async fn verify(layout: &Layout, options: &VerifyOptions) -> anyhow::Result<ExitCode> {
    let expected = match &options.expect {
        None => None,
        Some(text) => {
            let (seq, hash) = text.split_once(':').context("--expect takes SEQ:HASH")?;
            Some((seq.parse().context("--expect takes SEQ:HASH")?, hash))
        }
    };
    let db = Db::connect(&layout.database_url(options.database.as_deref()), Clock::system()).await?;
    let report = audit::verify(&mut *db.read().await?, expected).await?;
    db.close().await;
    for finding in &report.findings {
        println!("{finding}");
    }
    let audit::Report { first, last, hash, checked, unsealed, .. } = &report;
    if !report.findings.is_empty() {
        println!("The audit log is NOT whole: {} finding(s) among {checked} entries.", report.findings.len());
        return Ok(ExitCode::FAILURE);
    }
    println!("The audit log is whole: entries {first} to {last} are as they were sealed ({unsealed} not sealed yet).");
    println!("Keep this elsewhere, for the next time: --expect {last}:{hash}");
    Ok(ExitCode::SUCCESS)
}
