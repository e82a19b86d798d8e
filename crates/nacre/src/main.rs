//! `nacre`: a cloud in one binary. The command line, and the wiring of the parts; no logic of the cloud itself.
//!
//! | file | holds |
//! |---|---|
//! | `cli.rs` | commands and options |
//! | `layout.rs` | where files are |
//! | `preflight.rs` | what must be true before a cloud starts, each with what to do about it |
//! | `secrets.rs`, `clouds.rs` | the master key and passwords; `clouds.yaml` |
//! | `up.rs`, `down.rs` | a whole cloud in the background, and its end |
//! | `control_plane.rs`, `host.rs`, `engines.rs` | the roles that `up`, `server` and `agent` run |
//! | `admin/` | the private socket of a running control plane, and the commands that use it |
//! | `policy.rs` | the operator's policy file, followed as it changes |
//! | `logs.rs` | structured logs |

mod admin;
mod cli;
mod clouds;
mod control_plane;
mod down;
mod engines;
mod host;
mod layout;
mod logs;
mod policy;
mod preflight;
mod secrets;
mod up;

use std::process::ExitCode;

use clap::Parser;
use cli::{AdminCommand, AuditCommand, Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::from(error).context("starting the runtime")),
    };
    match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let layout = cli.layout();
    match cli.command {
        Command::Up(options) if options.foreground => up::run(&layout, &options).await?,
        Command::Up(options) => up::start(&layout, &options).await?,
        Command::Server(options) => up::run_server(&layout, &options).await?,
        Command::Agent(options) => up::run_agent(&layout, &options).await?,
        Command::Down(options) => down::run(&layout, &options).await?,
        Command::Clouds => clouds::print(&layout)?,
        Command::Doctor(options) => return admin::doctor::run(&layout, &options).await,
        Command::Admin(AdminCommand::Flows(options)) => admin::flows::run(&layout, &options).await?,
        Command::Admin(AdminCommand::Migrate(options)) => control_plane::migrate(&layout, &options).await?,
        Command::Admin(AdminCommand::RotateKeys) => admin::call(&layout, &admin::Ask::RotateKeys).await.map(drop)?,
        Command::Admin(AdminCommand::Policy(command)) => return admin::policy::run(&command),
        Command::Admin(AdminCommand::Hosts) => admin::hosts(&layout).await?,
        Command::Admin(AdminCommand::Audit(AuditCommand::Verify(options))) => {
            return admin::audit::verify(&layout, &options).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One clear sentence, then its causes.
#[allow(clippy::print_stderr, reason = "the command line's own error")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("nacre: {error:#}");
    ExitCode::FAILURE
}
