//! Structured logs: JSON lines where a program reads them, text where a person does.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging to standard error. `NACRE_LOG` sets what is shown (`info`, `debug`, `web=debug,info`).
pub fn start() {
    let filter =
        EnvFilter::try_from_env("NACRE_LOG").unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn,h2=warn,hyper=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Set twice only when tests run several roles in one process.
    let _ = if std::io::stderr().is_terminal() {
        builder.try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
}
