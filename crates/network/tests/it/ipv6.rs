//! IPv6: addresses that guests make themselves and those that they ask for; what routers advertise.

use drivers::network::{AddressMode, Advertisement};
use model::addr::Mac;
use serde_json::{Value, json};

use crate::{World, create, fault, id, in_a_cloud, in_a_small_cloud, path, show};

async fn subnet(world: &World, network: &str, cidr: &str, mode: Option<&str>) -> String {
    let mut body = json!({"network_id": network, "ip_version": 6, "cidr": cidr});
    if let Some(mode) = mode {
        body["ipv6_ra_mode"] = json!(mode);
        body["ipv6_address_mode"] = json!(mode);
    }
    id(&create(&world.blue, "subnets", json!({ "subnet": body })).await)
}

fn addresses(port: &Value) -> Vec<String> {
    let ips = port["fixed_ips"].as_array().unwrap().iter();
    ips.map(|ip| ip["ip_address"].as_str().unwrap().to_owned()).collect()
}

fn eui64(port: &Value, network: &str) -> String {
    let mac: Mac = port["mac_address"].as_str().unwrap().parse().unwrap();
    mac.eui64(network.parse().unwrap()).to_string()
}

#[tokio::test]
async fn guests_make_their_own_addresses() {
    in_a_cloud(|world| async move {
        let (network, _) = world.network(&world.blue).await;
        let before = world.port(&world.blue, &network).await;
        assert_eq!(addresses(&before).len(), 1);
        let slaac = subnet(&world, &network, "2001:db8:1::/64", Some("slaac")).await;
        // Who was there before has made one too.
        let at = format!("ports/{}", id(&before));
        let now = show(&world.blue, &at).await;
        assert_eq!(addresses(&now)[1], eui64(&before, "2001:db8:1::"));
        let after = world.port(&world.blue, &network).await;
        assert_eq!(addresses(&after)[1..], [eui64(&after, "2001:db8:1::")]);
        // It can't be chosen, and comes without being asked for.
        let chosen = json!({"port": {"network_id": network, "fixed_ips": [{"subnet_id": slaac, "ip_address": "2001:db8:1::9"}]}});
        let refused = world.blue.post(&path("ports"), chosen).await.expect(400);
        assert_eq!(fault(&refused), "InvalidInput");
        let four = json!({"port": {"network_id": network, "fixed_ips": [{"ip_address": "10.0.0.77"}]}});
        assert_eq!(addresses(&create(&world.blue, "ports", four).await).len(), 2);
        let none = json!({"port": {"network_id": network, "fixed_ips": []}});
        assert_eq!(addresses(&create(&world.blue, "ports", none).await).len(), 0);
        // The subnet goes although guests have addresses in it.
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
        world.blue.delete(&path(&format!("subnets/{slaac}"))).await.expect(204);
        assert_eq!(addresses(&show(&world.blue, &at).await).len(), 1);
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn guests_ask_for_their_addresses() {
    in_a_cloud(|world| async move {
        let network = id(&create(&world.blue, "networks", json!({"network": {}})).await);
        let stateful = subnet(&world, &network, "2001:db8:2::/64", Some("dhcpv6-stateful")).await;
        let port = world.port(&world.blue, &network).await;
        assert_eq!(addresses(&port), ["2001:db8:2::2"]);
        let second = json!({"port": {"network_id": network, "fixed_ips": [{"subnet_id": stateful, "ip_address": "2001:db8:2::2"}]}});
        let refused = world.blue.post(&path("ports"), second).await.expect(409);
        assert_eq!(fault(&refused), "IpAddressAlreadyAllocated");
        world.settle().await;
        let spec = world.fake.port(&id(&port).as_str().into()).unwrap();
        assert_eq!(spec.dhcp, [stateful.as_str().into()]);
        // An IPv6-only network has a place for its metadata service too.
        let listed = world.blue.get(&path(&format!("ports?network_id={network}&device_owner=network:distributed"))).await;
        assert_eq!(listed.expect(200).json["ports"][0]["fixed_ips"], json!([]));
        let refused = world.blue.delete(&path(&format!("subnets/{stateful}"))).await.expect(409);
        assert_eq!(fault(&refused), "SubnetInUse");
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn routers_advertise() {
    in_a_small_cloud(|world| async move {
        let network = id(&create(&world.blue, "networks", json!({"network": {}})).await);
        let first = subnet(&world, &network, "2001:db8:3::/64", Some("dhcpv6-stateless")).await;
        let second = subnet(&world, &network, "2001:db8:4::/64", Some("dhcpv6-stateless")).await;
        let servers = json!({"subnet": {"dns_nameservers": ["2001:db8::53"]}});
        world.blue.put(&path(&format!("subnets/{first}")), servers).await.expect(200);
        let router = id(&create(&world.blue, "routers", json!({"router": {}})).await);
        let add = path(&format!("routers/{router}/add_router_interface"));
        let one = world.blue.put(&add, json!({"subnet_id": first})).await.expect(200).json;
        let two = world.blue.put(&add, json!({"subnet_id": second})).await.expect(200).json;
        assert_eq!(one["port_id"], two["port_id"], "one port for all IPv6 subnets of a network");
        world.settle().await;
        let spec = world.fake.router(&router.as_str().into()).unwrap();
        let expected =
            Advertisement { mode: AddressMode::Stateless, mtu: 1442, dns_server: "2001:db8::53".parse().ok() };
        assert_eq!(spec.interfaces[0].advertisement, Some(expected));
        assert_eq!(spec.interfaces[0].addresses.len(), 2);
        assert!(spec.snat_cidrs.is_empty(), "nobody translates IPv6");
        let remove = path(&format!("routers/{router}/remove_router_interface"));
        world.blue.put(&remove, json!({"subnet_id": first})).await.expect(200);
        world.settle().await;
        assert_eq!(world.fake.router(&router.as_str().into()).unwrap().interfaces[0].addresses.len(), 1);
        world.blue.put(&remove, json!({"subnet_id": second})).await.expect(200);
        world.settle().await;
        assert!(world.fake.router(&router.as_str().into()).unwrap().interfaces.is_empty());
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn what_single_guests_are_told() {
    in_a_cloud(|world| async move {
        let (network, subnet) = world.network(&world.blue).await;
        let body = json!({"port": {"network_id": network, "extra_dhcp_opts": [
            {"opt_name": "bootfile-name", "opt_value": "pxelinux.0"}, {"opt_name": "mtu", "opt_value": "1300", "ip_version": 4}]}});
        let port = create(&world.blue, "ports", body).await;
        assert_eq!(port["extra_dhcp_opts"][0], json!({"opt_name": "bootfile-name", "opt_value": "pxelinux.0", "ip_version": 4}));
        world.settle().await;
        let told = || world.fake.port(&id(&port).as_str().into()).unwrap().dhcp_options;
        assert_eq!(told().iter().map(|o| o.name).collect::<Vec<_>>(), ["bootfile_name", "mtu"]);
        let at = path(&format!("ports/{}", id(&port)));
        let change = |options: Value| json!({"port": {"extra_dhcp_opts": options}});
        let changed = change(json!([{"opt_name": "bootfile-name", "opt_value": null}, {"opt_name": "mtu", "opt_value": "1200"}]));
        let changed = world.blue.put(&at, changed).await.expect(200).json;
        assert_eq!(changed["port"]["extra_dhcp_opts"], json!([{"opt_name": "mtu", "opt_value": "1200", "ip_version": 4}]));
        let six = change(json!([{"opt_name": "server-ip-address", "opt_value": "2001:db8::1"}]));
        world.blue.put(&at, six).await.expect(200);
        world.settle().await;
        assert_eq!(told().len(), 1, "an address of the other version is told to nobody");
        for bad in [json!([{"opt_name": "magic", "opt_value": "1"}]), json!([{"opt_name": "mtu", "opt_value": "x"}])] {
            assert_eq!(fault(&world.blue.put(&at, change(bad)).await.expect(400)), "InvalidInput");
        }
        let off = change(json!([{"opt_name": "dhcp_disabled", "opt_value": "true"}]));
        world.blue.put(&at, off).await.expect(200);
        world.settle().await;
        assert!(world.fake.port(&id(&port).as_str().into()).unwrap().dhcp.is_empty(), "no answers at all");
        // Its answers contain the subnet's: they follow it.
        world.blue.put(&path(&format!("subnets/{subnet}")), json!({"subnet": {"dns_nameservers": ["9.9.9.9"]}})).await.expect(200);
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn subnets_for_some_ports_only() {
    in_a_small_cloud(|world| async move {
        let network = id(&create(&world.blue, "networks", json!({"network": {}})).await);
        for (cidr, kinds) in
            [("10.1.0.0/24", json!(["compute:nova"])), ("10.2.0.0/24", json!(["network:router_interface"]))]
        {
            let body =
                json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": cidr, "service_types": kinds}});
            assert_eq!(create(&world.blue, "subnets", body).await["service_types"], kinds);
        }
        let body = json!({"port": {"network_id": network, "device_owner": "compute:nova"}});
        assert_eq!(addresses(&create(&world.blue, "ports", body).await), ["10.1.0.3"]);
        assert!(addresses(&world.port(&world.blue, &network).await).is_empty());
    })
    .await;
}

#[tokio::test]
async fn changes_meant_for_another_revision_are_refused() {
    in_a_cloud(|world| async move {
        let (network, _) = world.network(&world.blue).await;
        let at = path(&format!("networks/{network}"));
        let now = show(&world.blue, &format!("networks/{network}")).await["revision_number"].as_i64().unwrap();
        let with = |revision: String| world.blue.clone().header("if-match", &revision);
        let body = || json!({"network": {"name": "x"}});
        let refused = with(format!("revision_number={}", now - 1)).put(&at, body()).await.expect(412);
        assert_eq!(fault(&refused), "RevisionNumberConstraintFailed");
        with("nonsense".into()).put(&at, body()).await.expect(400);
        with(format!("revision_number={now}")).put(&at, body()).await.expect(200);
        with(format!("revision_number={now}")).delete(&at).await.expect(412);
    })
    .await;
}
