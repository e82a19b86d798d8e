//! The metadata service, over real connections. All guests seem to have the address 127.0.0.1.

use std::net::SocketAddr;

use hostlink::{Ec2Metadata, FixedIp, Power};
use model::id::ServerId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::world::{World, new_id, soon, spec};

/// Status and body of a request.
async fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: 169.254.169.254\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn the_same_address_in_two_networks_is_two_guests() {
    let mut world = World::start().await;
    let (mut one, other) = (spec(&new_id(), "net-a"), spec(&new_id(), "net-b"));
    one.metadata.as_mut().unwrap().ec2 = Some(Ec2Metadata { instance_id: "i-00000001".into(), ..Default::default() });
    for spec in [&one, &other] {
        world.ensure(spec).await;
        world.settled(&spec.id, 1, Power::Running).await;
    }
    let (net_a, net_b) = (world.chassis.metadata_address("net-a"), world.chassis.metadata_address("net-b"));
    for (address, spec) in [(net_a, &one), (net_b, &other)] {
        let (status, body) = http(address, "GET", "/openstack/latest/meta_data.json", "").await;
        assert_eq!((status, body), (200, spec.metadata.as_ref().unwrap().meta_data_json.clone()));
    }
    assert_eq!(http(net_a, "GET", "/latest/meta-data/instance-id", "").await, (200, "i-00000001".into()));
    assert_eq!(http(net_b, "GET", "/latest/meta-data/instance-id", "").await.0, 404);
    assert_eq!(http(net_a, "GET", "/nonsense", "").await.0, 404);
    assert_eq!(http(net_a, "DELETE", "/openstack/latest/meta_data.json", "").await.0, 405);
}

#[tokio::test]
async fn it_answers_with_no_control_plane_and_follows_the_spec() {
    let mut world = World::start().await;
    let mut spec = spec(&new_id(), "net");
    world.ensure(&spec).await;
    world.settled(&spec.id, 1, Power::Running).await;
    spec.generation = 2;
    spec.metadata.as_mut().unwrap().meta_data_json = r#"{"meta":{"role":"db"}}"#.into();
    world.ensure(&spec).await;
    world.settled(&spec.id, 2, Power::Running).await;
    world.stop_control().await;
    let address = world.chassis.metadata_address("net");
    let newest = (200, r#"{"meta":{"role":"db"}}"#.to_owned());
    assert_eq!(http(address, "GET", "/openstack/latest/meta_data.json", "").await, newest);

    world.start_control();
    world.joined().await;
    spec.generation = 3;
    spec.ports[0].fixed_ips = vec![FixedIp { address: "10.0.0.5".into(), prefix_length: 24 }];
    world.ensure(&spec).await;
    world.settled(&spec.id, 3, Power::Running).await;
    assert_eq!(http(address, "GET", "/openstack/latest/meta_data.json", "").await.0, 404, "an unknown address");
}

#[tokio::test]
async fn a_config_drive_holds_the_documents() {
    let mut world = World::start().await;
    let mut spec = spec(&new_id(), "net");
    spec.config_drive = true;
    spec.metadata.as_mut().unwrap().user_data_base64 = "I2Nsb3VkLWNvbmZpZwo=".into();
    world.ensure(&spec).await;
    world.settled(&spec.id, 1, Power::Running).await;
    let files = world.disks.config_drive(&ServerId::new(spec.id.clone())).unwrap();
    let user_data = files.iter().find(|file| file.path == "openstack/latest/user_data").unwrap();
    assert_eq!(user_data.content, b"#cloud-config\n");
}

#[tokio::test]
async fn a_password_is_set_once_and_told() {
    let mut world = World::start().await;
    let spec = spec(&new_id(), "net");
    world.ensure(&spec).await;
    world.settled(&spec.id, 1, Power::Running).await;
    let address = world.chassis.metadata_address("net");
    let path = "/openstack/latest/password";
    assert_eq!(http(address, "GET", path, "").await, (200, String::new()));
    assert_eq!(http(address, "POST", path, &"x".repeat(5000)).await.0, 400);
    assert_eq!(http(address, "POST", path, "c2VjcmV0").await.0, 200);
    assert_eq!(http(address, "POST", path, "b3RoZXI=").await.0, 409);
    assert_eq!(http(address, "GET", path, "").await, (200, "c2VjcmV0".into()));
    world.report_where("of the password", |r| r.encrypted_password == "c2VjcmV0").await;
    world.stop_agent().await;
    world.start_agent();
    world.joined().await;
    world.settled(&spec.id, 1, Power::Running).await;
    let address = world.chassis.metadata_address("net");
    assert_eq!(http(address, "GET", path, "").await, (200, "c2VjcmV0".into()), "it is in the ledger");
}

#[tokio::test]
async fn the_service_ends_with_the_last_server_of_the_network() {
    let mut world = World::start().await;
    let servers = [spec(&new_id(), "net"), spec(&new_id(), "net")];
    for spec in &servers {
        world.ensure(spec).await;
        world.settled(&spec.id, 1, Power::Running).await;
    }
    let address = world.chassis.metadata_address("net");
    world.send(hostlink::server::Command::remove(&servers[0].id, 2)).await;
    world.settled(&servers[0].id, 2, Power::Absent).await;
    TcpStream::connect(address).await.unwrap();
    world.send(hostlink::server::Command::remove(&servers[1].id, 2)).await;
    world.settled(&servers[1].id, 2, Power::Absent).await;
    assert!(TcpStream::connect(address).await.is_err());
}
