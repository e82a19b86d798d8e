//! What goes wrong is told with its reason, tried again with pauses, or told to be final.

use drivers::{hypervisor::fake::Op, network::NetworkError};
use hostlink::{Phase, Power};

use crate::world::{IMAGE, World, new_id, spec};

#[tokio::test]
async fn failures_are_told_and_tried_again() {
    let mut world = World::start().await;
    let spec = spec(&new_id(), "net");
    let down = NetworkError::Unavailable { what: "ovsdb", why: "it restarts".into() };
    world.network.fail_next("ensure_port_plugged", down);
    world.host.fail_next(Op::Start, "no memory left");
    world.ensure(&spec).await;
    let first = world.report_where("of the first failure", |r| r.phase() == Phase::Failed).await;
    assert_eq!((first.attempts, first.fault_is_final), (1, false));
    assert!(first.fault.contains("it restarts"), "{}", first.fault);
    let second = world.report_where("of the second", |r| r.phase() == Phase::Failed && r.attempts == 2).await;
    assert!(second.fault.contains("no memory left"), "{}", second.fault);
    let report = world.settled(&spec.id, 1, Power::Running).await;
    assert_eq!((report.attempts, report.boot), (0, 1));
}

#[tokio::test]
async fn a_failed_removal_is_tried_again_too() {
    let mut world = World::start().await;
    let spec = spec(&new_id(), "net");
    world.ensure(&spec).await;
    world.settled(&spec.id, 1, Power::Running).await;
    world.host.fail_next(Op::Remove, "the process does not die");
    world.send(hostlink::server::Command::remove(&spec.id, 2)).await;
    let failed = world.report_where("of the failure", |r| r.phase() == Phase::Failed).await;
    assert_eq!(failed.generation, 2);
    world.settled(&spec.id, 2, Power::Absent).await;
}

#[tokio::test]
async fn what_no_repetition_helps_is_final_until_a_new_spec() {
    let mut world = World::start().await;
    let mut spec = spec(&new_id(), "net");
    let good = spec.root_disk.clone();
    spec.root_disk.as_mut().unwrap().hash = "00".repeat(32);
    world.ensure(&spec).await;
    let corrupt = world.report_where("of a wrong checksum", |r| r.phase() == Phase::Failed).await;
    assert!(corrupt.fault_is_final, "{corrupt:#?}");

    spec.generation = 2;
    spec.root_disk.as_mut().unwrap().image_id = "deleted".into();
    world.ensure(&spec).await;
    let gone = world.report_where("of a missing image", |r| r.phase() == Phase::Failed && r.generation == 2).await;
    assert!(gone.fault_is_final && gone.fault.contains("No image with this id."), "{}", gone.fault);

    (spec.generation, spec.root_disk) = (3, good);
    world.ensure(&spec).await;
    world.settled(&spec.id, 3, Power::Running).await;
}

#[tokio::test]
async fn an_image_is_fetched_once_and_needs_no_control_plane_afterwards() {
    let mut world = World::start().await;
    let first = spec(&new_id(), "net");
    world.ensure(&first).await;
    world.settled(&first.id, 1, Power::Running).await;
    world.script.images.lock().unwrap().clear();
    let second = spec(&new_id(), "net");
    world.ensure(&second).await;
    world.settled(&second.id, 1, Power::Running).await;
    assert!(!IMAGE.is_empty());
}

#[tokio::test]
async fn commands_for_things_that_are_no_servers_are_dropped() {
    let mut world = World::start().await;
    let mut bad = spec("../../etc/passwd", "net");
    world.ensure(&bad).await;
    bad = spec(&new_id(), "net");
    world.ensure(&bad).await;
    world.settled(&bad.id, 1, Power::Running).await;
    let files = std::fs::read_dir(world.state_dir().join("agent/ledger")).unwrap().count();
    assert_eq!(files, 1);
}
