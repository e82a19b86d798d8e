//! `nacre doctor`.

use std::process::ExitCode;

use serde_json::Value;

use super::{Ask, call};
use crate::{cli::DoctorOptions, layout::Layout};

/// Prints what disagrees; exits with 1 if anything does.
#[allow(clippy::print_stdout, reason = "the command's output")]
pub async fn run(layout: &Layout, options: &DoctorOptions) -> anyhow::Result<ExitCode> {
    let answer = call(layout, &Ask::Doctor { fix: options.fix }).await?;
    let findings = answer["findings"].as_array().cloned().unwrap_or_default();
    if options.json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
    } else if findings.is_empty() {
        println!("The cloud is whole: database, hosts, OVN and disks agree.");
    } else {
        for finding in &findings {
            let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
            println!("{} {}: {}", text("kind"), text("id"), text("problem"));
        }
        println!(
            "{} finding(s){}.",
            findings.len(),
            if options.fix { "; what could be repaired was" } else { "; repair with: nacre doctor --fix" }
        );
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One finding as JSON.
pub fn to_json(finding: &model::doctor::Finding) -> Value {
    serde_json::json!({"kind": finding.kind, "id": finding.id, "problem": finding.problem})
}
