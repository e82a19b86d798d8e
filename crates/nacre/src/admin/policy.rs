//! `nacre admin policy`: needs no cloud that runs.

use std::{path::Path, process::ExitCode};

use web::policy::{COMMON, Policy, Rule, matrix};

use crate::{
    cli::PolicyCommand,
    policy::{load, tables},
};

/// Prints rules, or what a file makes of them.
#[allow(clippy::print_stdout, reason = "the command's output")]
pub fn run(command: &PolicyCommand) -> anyhow::Result<ExitCode> {
    match command {
        PolicyCommand::Sample => print!("{}", sample()),
        PolicyCommand::List { policy_file } => print!("{}", list(&load(policy_file.as_deref())?)),
        PolicyCommand::Check { file } => {
            let (text, whole) = check(file)?;
            print!("{text}");
            return Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn rules() -> impl Iterator<Item = &'static Rule> {
    COMMON.iter().chain(tables().into_iter().flatten())
}

fn sample() -> String {
    let head = "# Who may do what. Take the # from a rule's line and change its check; the file is read again when it \
                changes.\n# nacre admin policy check FILE says what a file changes.\n";
    let one = |rule: &Rule| {
        let scopes: Vec<String> = rule.scopes.iter().map(|scope| format!("{scope:?}").to_lowercase()).collect();
        let scopes = if scopes.is_empty() { String::new() } else { format!("\n# scope: {}", scopes.join(", ")) };
        format!("\n# {}{scopes}\n#\"{}\": \"{}\"\n", rule.description, rule.name, rule.check)
    };
    rules().map(one).fold(head.to_owned(), |text, rule| text + &rule)
}

fn list(policy: &Policy) -> String {
    let one = |rule: &Rule| {
        let check = policy.check(rule.name).map(ToString::to_string).unwrap_or_default();
        format!("{:66} {}\n    {check}\n", rule.name, matrix::row(policy, rule.name))
    };
    rules().map(one).fold(matrix::LEGEND.to_owned(), |text, rule| text + &rule)
}

/// What the file changes, and whether all of it has an effect.
fn check(file: &Path) -> anyhow::Result<(String, bool)> {
    let (before, after) = (load(None)?, load(Some(file))?);
    let mut text = String::new();
    let mut changed = 0;
    for rule in rules() {
        let checks = [&before, &after].map(|policy| policy.check(rule.name).map(ToString::to_string));
        if checks[0] != checks[1] {
            changed += 1;
            let rows = [&before, &after].map(|policy| matrix::row(policy, rule.name));
            text += &format!("{}\n    default {}\n    file    {}\n", rule.name, rows[0], rows[1]);
        }
    }
    // Rules that lead to a changed one change too, without having another check.
    let led = rules().filter(|rule| {
        before.check(rule.name) == after.check(rule.name)
            && matrix::row(&before, rule.name) != matrix::row(&after, rule.name)
    });
    let led: Vec<&str> = led.map(|rule| rule.name).collect();
    if !led.is_empty() {
        text += &format!("{} more rule(s) admit others, as they lead to these: {}\n", led.len(), led.join(", "));
    }
    for warning in after.warnings() {
        text += &format!("warning: {warning}\n");
    }
    text += &format!("{changed} rule(s) changed.\n");
    Ok((if changed > 0 { format!("{}{text}", matrix::LEGEND) } else { text }, after.warnings().is_empty()))
}
