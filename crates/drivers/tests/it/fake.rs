//! What only the fake drivers can do: misbehave on demand, and be many.

use std::time::Duration;

use drivers::hypervisor::{
    Ensured, Firmware, GuestEnd, GuestPower, GuestSpec, Hypervisor, HypervisorError, Machine,
    fake::{FakeHost, FakeHypervisor, Op},
};
use model::id::ServerId;

fn spec(id: &str) -> GuestSpec {
    GuestSpec {
        id: ServerId::new(id),
        boot: 1,
        vcpus: 1,
        memory_mib: 64,
        machine: Machine::Q35,
        firmware: Firmware::Bios,
        disks: vec![],
        nics: vec![],
        sockets: None,
    }
}

#[tokio::test]
async fn a_fault_hits_one_call_and_then_is_used_up() {
    let host = FakeHost::default();
    let driver = FakeHypervisor::on(host.clone());
    host.fail_next(Op::Start, "no memory");
    host.fail_next(Op::Stop, "stuck");
    let error = driver.ensure_guest(&spec("a")).await.unwrap_err();
    assert_eq!(error.to_string(), "guest a did not start: no memory");
    assert_eq!(driver.ensure_guest(&spec("a")).await.unwrap(), Ensured::Started);
    let stuck = driver.stop_guest(&ServerId::new("a")).await.unwrap_err();
    assert!(matches!(stuck, HypervisorError::Refused { .. }), "{stuck}");
    driver.stop_guest(&ServerId::new("a")).await.unwrap();
}

#[tokio::test]
async fn guests_end_as_they_are_told() {
    let host = FakeHost::default();
    let driver = FakeHypervisor::on(host.clone());
    for id in ["a", "b", "c"] {
        driver.ensure_guest(&spec(id)).await.unwrap();
    }
    host.power_off_from_inside(&ServerId::new("a"));
    host.crash(&ServerId::new("b"), "bug");
    host.restart_host();
    let ends: Vec<GuestPower> = driver.list_guests().await.unwrap().into_iter().map(|guest| guest.power).collect();
    let expected = [GuestEnd::ByGuest, GuestEnd::Crashed("bug".to_owned()), GuestEnd::HostRestart];
    assert_eq!(ends, expected.map(|end| GuestPower::Off { end }));
}

#[tokio::test]
async fn a_thousand_guests_start_at_once() {
    let host = FakeHost::default();
    host.delay(Op::Start, Duration::from_millis(5));
    let driver = FakeHypervisor::on(host);
    let specs: Vec<GuestSpec> = (0..1000).map(|i| spec(&format!("guest-{i}"))).collect();
    let started = futures_util::future::join_all(specs.iter().map(|spec| driver.ensure_guest(spec))).await;
    assert!(started.into_iter().all(|one| one.unwrap() == Ensured::Started));
    assert_eq!(driver.list_guests().await.unwrap().len(), 1000);
}
