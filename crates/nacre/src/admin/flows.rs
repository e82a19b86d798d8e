//! `nacre admin flows`: reads the database itself, so that it also works when the control plane does not run.

use model::Clock;
use store::{
    Db,
    flows::{self, Filter},
};

use crate::{cli::FlowOptions, layout::Layout};

/// Prints what is under way, oldest first.
#[allow(clippy::print_stdout, reason = "the command's output")]
pub async fn run(layout: &Layout, options: &FlowOptions) -> anyhow::Result<()> {
    let clock = Clock::system();
    let db = Db::connect(&layout.database_url(options.database.as_deref()), clock.clone()).await?;
    let filter = Filter { busy: !options.all, ..Filter::default() };
    let flows = flows::list(&mut *db.read().await?, &filter, &flows::oldest_first()).await?;
    let now = clock.now();
    println!("{:10} {:36} {:16} {:>9} {:>8}  waits for", "kind", "id", "step", "since", "attempts");
    for flow in &flows {
        let since = format!("{:.1} s", now.since(flow.step_since).as_secs_f64());
        let trouble =
            if flow.last_error.is_empty() { String::new() } else { format!(" (last error: {})", flow.last_error) };
        println!(
            "{:10} {:36} {:16} {since:>9} {:>8}  {}{trouble}",
            flow.kind, flow.id, flow.step, flow.attempts, flow.reason
        );
    }
    Ok(())
}
