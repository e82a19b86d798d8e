//! The daemons: started once, adopted by the next engine, started again when they die, stopped.

use std::time::Duration;

use drivers::network::{
    Northbound,
    engine::{Daemon, Engine},
};

use crate::{
    lab::{Lab, PATIENCE, binaries, in_lab, run, settings},
    things,
};

fn pids(engine: &Engine) -> Vec<Option<i32>> {
    engine.status().iter().map(|status| status.pid).collect()
}

#[test]
fn daemons_are_adopted_revived_and_stopped() {
    in_lab(|Lab { engine, ovn, directory, .. }| async move {
        let first = pids(&engine);
        assert!(first.len() == 6 && first.iter().all(Option::is_some), "{first:?}");
        let again = Engine::new(settings(binaries().unwrap(), directory)).unwrap();
        again.ensure_running().await.unwrap();
        assert_eq!(pids(&again), first, "a second engine adopts what runs");

        let net = things::network();
        ovn.ensure_network(&net).await.unwrap();
        for daemon in [Daemon::NorthDb, Daemon::Switch] {
            let at = engine.status().iter().position(|status| status.daemon == daemon).unwrap();
            run("kill", &["-9", &first[at].unwrap().to_string()]);
            revived(&engine, at, first[at]).await;
        }
        ovn.ensure_network(&things::network()).await.unwrap();
        assert_eq!(ovn.inventory().await.unwrap().len(), 2, "the database is as it was, and writable");
        let address = || run("ip", &["-o", "addr", "show", "br-ex"]).contains("172.24.4.1/24");
        within(address, "the bridge's address is back").await;

        engine.stop_all().await.unwrap();
        again.stop_all().await.unwrap();
        assert_eq!(pids(&engine), [None; 6]);
    });
}

async fn revived(engine: &Engine, at: usize, before: Option<i32>) {
    let is_new = || engine.status()[at].pid.is_some_and(|pid| Some(pid) != before);
    within(is_new, "it is started again").await;
}

/// Files and devices tell nobody when they change, so this looks again and again.
async fn within(holds: impl Fn() -> bool, what: &str) {
    let looking = async {
        let mut clock = tokio::time::interval(Duration::from_millis(20));
        while !holds() {
            clock.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("{what}"));
}
