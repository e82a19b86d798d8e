//! The agent or the control plane away, and back.

use drivers::{
    hypervisor::{GuestEventKind, Hypervisor, fake::FakeHypervisor},
    network::ChassisPorts,
};
use hostlink::{FoundKind, Power, Standing, WantedPower, server::Command};

use crate::world::{World, new_id, soon, spec};

#[tokio::test]
async fn a_new_agent_takes_over_what_runs() {
    let mut world = World::start().await;
    let spec = spec(&new_id(), "net");
    world.ensure(&spec).await;
    let before = world.settled(&spec.id, 1, Power::Running).await;
    for kill in [false, true] {
        if kill {
            world.kill_agent().await
        } else {
            world.stop_agent().await
        }
        let mut events = FakeHypervisor::on(world.host.clone()).subscribe();
        world.start_agent();
        let hello = world.joined().await;
        assert_eq!((hello.holdings.len(), hello.holdings[0].generation), (1, 1));
        let after = world.settled(&spec.id, 1, Power::Running).await;
        assert_eq!((after.boot, after.started_at), (before.boot, before.started_at));
        assert!(events.try_recv().is_err(), "nothing happened to the guest");
    }
}

#[tokio::test]
async fn after_a_reboot_of_the_host_guests_start_without_a_control_plane() {
    let mut world = World::start().await;
    let (running, mut stopped) = (spec(&new_id(), "net"), spec(&new_id(), "net"));
    world.ensure(&running).await;
    world.settled(&running.id, 1, Power::Running).await;
    world.ensure(&stopped).await;
    world.settled(&stopped.id, 1, Power::Running).await;
    stopped.generation = 2;
    stopped.power = WantedPower::Stopped.into();
    world.ensure(&stopped).await;
    world.settled(&stopped.id, 2, Power::Shutdown).await;

    world.stop_agent().await;
    world.stop_control().await;
    world.host.restart_host();
    let mut events = FakeHypervisor::on(world.host.clone()).subscribe();
    world.start_agent();
    let event = soon(events.recv()).await.unwrap();
    assert_eq!((event.id.as_str(), event.kind), (running.id.as_str(), GuestEventKind::Started));

    world.start_control();
    world.joined().await;
    let reports = world.settled_all(&[&running.id, &stopped.id]).await;
    assert_eq!((reports[&running.id].power(), reports[&running.id].boot), (Power::Running, 1));
    assert_eq!(reports[&stopped.id].power(), Power::Shutdown);
}

#[tokio::test]
async fn a_removal_waits_for_the_host_and_its_tombstone_for_the_control_plane() {
    let mut world = World::start().await;
    let spec = spec(&new_id(), "net");
    world.ensure(&spec).await;
    world.settled(&spec.id, 1, Power::Running).await;
    world.stop_agent().await;
    world.script.commands.lock().unwrap().push(Command::remove(&spec.id, 2));
    world.start_agent();
    world.joined().await;
    world.settled(&spec.id, 2, Power::Absent).await;
    world.forgotten().await;
    assert!(world.chassis.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_changed_meanwhile_is_told_after_the_control_plane_returns() {
    let mut world = World::start().await;
    let spec = spec(&new_id(), "net");
    world.ensure(&spec).await;
    world.settled(&spec.id, 1, Power::Running).await;
    world.stop_control().await;
    world.host.power_off_from_inside(&model::id::ServerId::new(spec.id.clone()));
    world.start_control();
    world.joined().await;
    world.report_where("of the shutdown", |r| r.server_id == spec.id && r.power() == Power::Shutdown).await;
}

#[tokio::test]
async fn only_one_agent_works_on_a_state_directory() {
    let mut world = World::start().await;
    world.kill_agent().await;
    world.start_agent();
    world.joined().await;
    let config = agent::Config {
        state_dir: world.state_dir().to_owned(),
        host_name: "h1".into(),
        endpoint: hostlink::client::Endpoint::Unix("/nonexistent".into()),
        chassis: String::new(),
        addresses: Vec::new(),
        memory_mib: None,
        vcpus: None,
        clock: model::Clock::system(),
        limits: agent::Limits::default(),
    };
    let drivers = agent::Drivers {
        hypervisor: std::sync::Arc::new(FakeHypervisor::on(world.host.clone())),
        disks: std::sync::Arc::new(world.disks.clone()),
        network: world.chassis.clone(),
    };
    let second = soon(agent::run(config, drivers, std::future::pending())).await;
    assert!(matches!(second, Err(agent::AgentError::Running)));
}

#[tokio::test]
async fn orphans_are_found_and_removed_and_what_is_wanted_is_not() {
    let mut world = World::start().await;
    let spec = spec(&new_id(), "net");
    world.ensure(&spec).await;
    world.settled(&spec.id, 1, Power::Running).await;
    world.stop_agent().await;
    // Somebody loses the ledger.
    std::fs::remove_dir_all(world.state_dir().join("agent/ledger")).unwrap();
    world.start_agent();
    world.joined().await;
    let host = world.hub.connected().pop().unwrap();
    let mut inventory = world.hub.inventory(&host).await.unwrap();
    let orphans = |found: &[hostlink::Found]| -> Vec<FoundKind> {
        found.iter().filter(|f| f.standing() == Standing::Orphan).map(|f| f.kind()).collect()
    };
    let all = [FoundKind::Guest, FoundKind::ServerFiles, FoundKind::Port, FoundKind::MetadataNamespace];
    assert_eq!(orphans(&inventory.found), all);
    for found in inventory.found.clone() {
        inventory = world.hub.remove_orphan(&host, found).await.unwrap();
    }
    assert_eq!(orphans(&inventory.found), []);
    assert_eq!(inventory.found.len(), 1, "the cached image stays: {inventory:#?}");
}
