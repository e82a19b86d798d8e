//! Create, stop, start, reboot, ports, remove.

use drivers::{hypervisor::fake::Behaviour, network::ChassisPorts};
use hostlink::{FoundKind, Phase, Power, Standing, WantedPower, server::Command};
use model::id::ServerId;

use crate::world::{World, new_id, spec};

#[tokio::test]
async fn a_server_comes_up_and_says_how_far_it_is() {
    let mut world = World::start().await;
    let spec = spec(&new_id(), "net");
    world.make_port(&spec.ports[0]).await;
    world.ensure(&spec).await;
    let report = world.report_where("running with an active port", |r| {
        r.phase() == Phase::Settled && r.ports.iter().all(|port| port.active)
    });
    let report = report.await;
    assert_eq!((report.generation, report.power(), report.boot), (1, Power::Running, 1));
    assert!(report.started_at > 0);
    assert_eq!(report.ports[0].port_id, spec.ports[0].id);

    let host = world.hub.connected().pop().unwrap();
    let console = world.hub.console_log(&host, &spec.id, 1).await.unwrap();
    assert_eq!(console, b"fake guest is up\n");
    let inventory = world.hub.inventory(&host).await.unwrap();
    assert!(inventory.found.iter().all(|found| found.standing() == Standing::Expected), "{inventory:#?}");
    let kinds: Vec<FoundKind> = inventory.found.iter().map(|found| found.kind()).collect();
    for kind in [FoundKind::Guest, FoundKind::ServerFiles, FoundKind::Port, FoundKind::MetadataNamespace] {
        assert!(kinds.contains(&kind), "{kind:?} in {kinds:?}");
    }
}

#[tokio::test]
async fn a_port_that_becomes_active_later_is_told_at_once() {
    let mut world = World::start().await;
    let spec = spec(&new_id(), "net");
    world.ensure(&spec).await;
    let report = world.settled(&spec.id, 1, Power::Running).await;
    assert_eq!((report.ports[0].plugged, report.ports[0].active), (true, false));
    world.make_port(&spec.ports[0]).await;
    world.report_where("with an active port", |r| r.ports.iter().any(|port| port.active)).await;
}

#[tokio::test]
async fn an_older_generation_is_refused() {
    let mut world = World::start().await;
    let mut spec = spec(&new_id(), "net");
    spec.generation = 5;
    world.ensure(&spec).await;
    world.settled(&spec.id, 5, Power::Running).await;
    spec.generation = 4;
    spec.power = WantedPower::Stopped.into();
    world.ensure(&spec).await;
    let refusal = world.report_where("of a refusal", |r| r.refused_generation != 0).await;
    assert_eq!((refusal.refused_generation, refusal.generation, refusal.power()), (4, 5, Power::Running));
    world.send(Command::remove(&spec.id, 3)).await;
    let refusal = world.report_where("of a refusal", |r| r.refused_generation == 3).await;
    assert_eq!((refusal.generation, refusal.power()), (5, Power::Running));
}

#[tokio::test]
async fn the_same_spec_again_is_answered_and_changes_nothing() {
    let mut world = World::start().await;
    let spec = spec(&new_id(), "net");
    world.ensure(&spec).await;
    let first = world.settled(&spec.id, 1, Power::Running).await;
    world.ensure(&spec).await;
    let again = world.settled(&spec.id, 1, Power::Running).await;
    assert_eq!((first.started_at, first.boot), (again.started_at, again.boot));
}

#[tokio::test]
async fn stop_start_and_reboots_follow_the_boot_counter() {
    let mut world = World::start().await;
    let mut spec = spec(&new_id(), "net");
    world.ensure(&spec).await;
    world.settled(&spec.id, 1, Power::Running).await;
    // generation, power, boot, graceful -> power, boot
    let steps = [
        (2, WantedPower::Stopped, 1, true, Power::Shutdown, 1),
        (3, WantedPower::Stopped, 1, false, Power::Shutdown, 1),
        (4, WantedPower::Running, 2, false, Power::Running, 2),
        (5, WantedPower::Running, 3, false, Power::Running, 3),
        (6, WantedPower::Running, 4, true, Power::Running, 4),
        (7, WantedPower::Stopped, 4, false, Power::Shutdown, 4),
    ];
    for (generation, wanted, boot, graceful, power, reported_boot) in steps {
        (spec.generation, spec.boot, spec.graceful, spec.grace_seconds) = (generation, boot, graceful, 30);
        spec.power = wanted.into();
        world.ensure(&spec).await;
        let report = world.settled(&spec.id, generation, power).await;
        assert_eq!(report.boot, reported_boot, "generation {generation}");
        assert_eq!(report.started_at > 0, power == Power::Running);
    }
}

#[tokio::test]
async fn a_hard_stop_does_not_wait_for_a_graceful_one() {
    let mut world = World::start().await;
    let mut spec = spec(&new_id(), "net");
    world.host.behave(&ServerId::new(spec.id.clone()), Behaviour::IgnoresPowerButton);
    world.ensure(&spec).await;
    world.settled(&spec.id, 1, Power::Running).await;
    (spec.generation, spec.graceful, spec.grace_seconds) = (2, true, 3600);
    spec.power = WantedPower::Stopped.into();
    world.ensure(&spec).await;
    world.report_where("of stopping", |r| r.phase() == Phase::Stopping).await;
    (spec.generation, spec.graceful) = (3, false);
    world.ensure(&spec).await;
    world.settled(&spec.id, 3, Power::Shutdown).await;
}

#[tokio::test]
async fn a_guest_that_ends_by_itself_is_told_and_left_alone() {
    let mut world = World::start().await;
    let mut spec = spec(&new_id(), "net");
    let id = ServerId::new(spec.id.clone());
    world.ensure(&spec).await;
    world.settled(&spec.id, 1, Power::Running).await;
    world.host.power_off_from_inside(&id);
    world.settled(&spec.id, 1, Power::Shutdown).await;
    (spec.generation, spec.boot) = (2, 2);
    world.ensure(&spec).await;
    world.settled(&spec.id, 2, Power::Running).await;
    world.host.crash(&id, "killed");
    let crashed = world.settled(&spec.id, 2, Power::Crashed).await;
    assert!(crashed.fault.contains("killed"), "{}", crashed.fault);
    world.stop_agent().await;
    world.start_agent();
    world.joined().await;
    world.settled(&spec.id, 2, Power::Crashed).await;
    (spec.generation, spec.power) = (3, WantedPower::Stopped.into());
    world.ensure(&spec).await;
    world.settled(&spec.id, 3, Power::Shutdown).await;
}

#[tokio::test]
async fn ports_come_and_go_while_the_guest_runs() {
    let mut world = World::start().await;
    let id = new_id();
    let mut spec = spec(&id, "net");
    let second = crate::world::spec(&id, "other").ports.remove(0);
    world.ensure(&spec).await;
    world.settled(&id, 1, Power::Running).await;
    spec.ports.push(second.clone());
    spec.generation = 2;
    world.ensure(&spec).await;
    let report = world.settled(&id, 2, Power::Running).await;
    assert_eq!(report.ports.iter().filter(|port| port.plugged).count(), 2);
    assert_eq!(world.host.nics(&ServerId::new(id.clone())).len(), 2);
    spec.ports.remove(0);
    spec.generation = 3;
    world.ensure(&spec).await;
    let report = world.settled(&id, 3, Power::Running).await;
    assert_eq!(report.ports.len(), 1);
    assert_eq!(world.host.nics(&ServerId::new(id)).len(), 1);
    assert_eq!(world.chassis.list().await.unwrap().len(), 1);
    let networks = world.chassis.list_metadata_namespaces().await.unwrap();
    assert_eq!(networks.iter().map(|network| network.as_str()).collect::<Vec<_>>(), ["other"]);
}

#[tokio::test]
async fn removal_leaves_nothing_and_may_be_repeated() {
    let mut world = World::start().await;
    let spec = spec(&new_id(), "net");
    world.ensure(&spec).await;
    world.settled(&spec.id, 1, Power::Running).await;
    for generation in [2, 3] {
        world.send(Command::remove(&spec.id, generation)).await;
        world.settled(&spec.id, generation, Power::Absent).await;
        world.forgotten().await;
        let host = world.hub.connected().pop().unwrap();
        let found = world.hub.inventory(&host).await.unwrap().found;
        assert!(found.iter().all(|found| found.kind() == FoundKind::BaseImage), "{found:#?}");
    }
    assert_eq!(std::fs::read_dir(world.state_dir().join("agent/ledger")).unwrap().count(), 0);
    let mut again = spec;
    (again.generation, again.boot) = (4, 1);
    world.ensure(&again).await;
    world.settled(&again.id, 4, Power::Running).await;
}
