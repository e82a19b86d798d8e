//! What the agent and the link cost where the drivers cost nothing. Bounds are wide: these catch a sleep or a poll in
//! the path, the figures themselves are printed (`--nocapture`).

use std::time::{Duration, Instant};

use hostlink::{Power, server::Command};

use crate::world::{World, new_id, spec};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_command_to_running() {
    let mut world = World::start().await;
    let mut times = Vec::new();
    for _ in 0..21 {
        let spec = spec(&new_id(), "net");
        let start = Instant::now();
        world.ensure(&spec).await;
        world.settled(&spec.id, 1, Power::Running).await;
        times.push(start.elapsed());
    }
    times.sort();
    println!("command to running: median {:?}, slowest {:?}", times[10], times[20]);
    assert!(times[10] < Duration::from_millis(100), "{times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_servers() {
    let mut world = World::start().await;
    let specs: Vec<_> = (0..1000).map(|number| spec(&new_id(), &format!("net-{}", number % 50))).collect();
    let ids: Vec<&String> = specs.iter().map(|spec| &spec.id).collect();
    let start = Instant::now();
    for spec in &specs {
        world.ensure(spec).await;
    }
    world.settled_all(&ids).await;
    println!("1,000 servers running: {:?}", start.elapsed());
    let start = Instant::now();
    for id in &ids {
        world.send(Command::remove(id.as_str(), 2)).await;
    }
    world.forgotten().await;
    println!("1,000 servers removed: {:?}", start.elapsed());
}
