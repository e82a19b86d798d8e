//! Subnet pools and address scopes; addresses that are left; the automatic network.

use serde_json::{Value, json};

use crate::{World, create, fault, id, in_a_cloud, in_a_small_cloud, path, show};

async fn pool(world: &World, body: Value) -> Value {
    create(&world.blue, "subnetpools", json!({ "subnetpool": body })).await
}

async fn cut(world: &World, body: Value) -> testkit::Response {
    world.blue.post(&path("subnets"), json!({ "subnet": body })).await
}

#[tokio::test]
async fn subnets_are_cut_from_pools() {
    in_a_cloud(|world| async move {
        let scope =
            create(&world.blue, "address-scopes", json!({"address_scope": {"name": "s", "ip_version": 4}})).await;
        let made = pool(
            &world,
            json!({"name": "p", "prefixes": ["10.8.0.0/16"], "default_prefixlen": 24, "min_prefixlen": "20",
            "address_scope_id": scope["id"], "default_quota": 600}),
        )
        .await;
        assert_eq!((&made["default_prefixlen"], &made["ip_version"]), (&json!("24"), &json!(4)));
        let pool = id(&made);
        let network = id(&create(&world.blue, "networks", json!({"network": {}})).await);
        let body = |more: Value| {
            let mut body = json!({"network_id": network, "ip_version": 4, "subnetpool_id": pool});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        let first = cut(&world, body(json!({}))).await.expect(201).json["subnet"].clone();
        assert_eq!((&first["cidr"], &first["subnetpool_id"]), (&json!("10.8.0.0/24"), &json!(pool)));
        let second = cut(&world, body(json!({"prefixlen": 25}))).await.expect(201).json["subnet"].clone();
        assert_eq!(second["cidr"], "10.8.1.0/25");
        assert_eq!(show(&world.blue, &format!("networks/{network}")).await["ipv4_address_scope"], scope["id"]);
        for (more, status, code) in [
            (json!({"prefixlen": 16}), 400, "MinPrefixSubnetAllocationError"),
            (json!({"prefixlen": 33}), 400, "MaxPrefixSubnetAllocationError"),
            (json!({"cidr": "10.8.0.0/25"}), 409, "SubnetAllocationError"),
            (json!({"cidr": "10.9.0.0/25"}), 409, "SubnetAllocationError"),
            (json!({"prefixlen": 23}), 409, "SubnetPoolQuotaExceeded"),
            (json!({"ip_version": 6}), 400, "BadRequest"),
        ] {
            let reply = cut(&world, body(more.clone())).await;
            assert_eq!((reply.status.as_u16(), fault(&reply)), (status, code), "{more}");
        }
        let foreign = json!({"network_id": network, "ip_version": 4, "subnetpool_id": pool});
        world.red.post(&path("subnets"), json!({ "subnet": foreign })).await.expect(404);
        let elsewhere = json!({"prefixes": ["10.99.0.0/16"]});
        let elsewhere = id(&self::pool(&world, elsewhere).await);
        let mixed = json!({"network_id": network, "ip_version": 4, "subnetpool_id": elsewhere});
        assert_eq!(fault(&cut(&world, mixed).await.expect(400)), "NetworkSubnetPoolAffinityError");
        let used = world.blue.delete(&path(&format!("subnetpools/{pool}"))).await.expect(409);
        assert_eq!(fault(&used), "SubnetPoolDeleteError");
        world.blue.delete(&path(&format!("networks/{network}"))).await.expect(204);
        // Given back, and the pool may go although the subnets' flows have not removed them yet.
        world.blue.delete(&path(&format!("subnetpools/{pool}"))).await.expect(204);
        world.blue.delete(&path(&format!("address-scopes/{}", id(&scope)))).await.expect(204);
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn pools_of_others_and_of_all() {
    in_a_cloud(|world| async move {
        let own = id(&pool(&world, json!({"prefixes": ["10.8.0.0/16"]})).await);
        let at = path(&format!("subnetpools/{own}"));
        world.red.get(&at).await.expect(404);
        world.red.put(&at, json!({"subnetpool": {"name": "x"}})).await.expect(404);
        world.red.delete(&at).await.expect(404);
        world.reader.delete(&at).await.expect(403);
        world.blue.put(&format!("{at}/tags/a"), json!({})).await.expect(201);
        world.red.put(&format!("{at}/tags/b"), json!({})).await.expect(404);
        assert_eq!(show(&world.blue, &format!("subnetpools/{own}")).await["tags"], json!(["a"]));
        let shared = json!({"subnetpool": {"prefixes": ["10.7.0.0/16"], "shared": true, "is_default": true}});
        assert_eq!(fault(&world.blue.post(&path("subnetpools"), shared.clone()).await.expect(403)), "PolicyNotAuthorized");
        let shared = id(&create(&world.admin, "subnetpools", shared).await);
        assert_eq!(show(&world.red, &format!("subnetpools/{shared}")).await["shared"], true);
        let network = id(&create(&world.red, "networks", json!({"network": {}})).await);
        let body = json!({"subnet": {"network_id": network, "ip_version": 4, "use_default_subnetpool": true, "prefixlen": 24}});
        assert_eq!(create(&world.red, "subnets", body).await["cidr"], "10.7.0.0/24");
        // Two pools of one scope have no address in common.
        let scope = id(&create(&world.blue, "address-scopes", json!({"address_scope": {"ip_version": 4}})).await);
        let join = json!({"subnetpool": {"address_scope_id": scope}});
        world.blue.put(&at, join).await.expect(200);
        let clash = json!({"subnetpool": {"prefixes": ["10.8.5.0/24"], "address_scope_id": scope}});
        assert_eq!(fault(&world.blue.post(&path("subnetpools"), clash).await.expect(409)), "AddressScopePrefixConflict");
        let scope = path(&format!("address-scopes/{scope}"));
        assert_eq!(fault(&world.blue.delete(&scope).await.expect(409)), "AddressScopeInUse");
        world.red.get(&scope).await.expect(404);
        world.red.delete(&scope).await.expect(404);
        world.red.put(&scope, json!({"address_scope": {"name": "x"}})).await.expect(404);
        world.blue.put(&scope, json!({"address_scope": {"name": "x"}})).await.expect(200);
        let six = json!({"subnetpool": {"prefixes": ["2001:db8::/48"], "address_scope_id": scope.rsplit('/').next()}});
        world.blue.post(&path("subnetpools"), six).await.expect(400);
        world.blue.post(&path("address-scopes"), json!({"address_scope": {"ip_version": 5}})).await.expect(400);
    })
    .await;
}

#[tokio::test]
async fn addresses_that_are_left() {
    in_a_cloud(|world| async move {
        let (network, subnet) = world.network(&world.blue).await;
        world.port(&world.blue, &network).await;
        let at = format!("network-ip-availabilities/{network}");
        let left = show(&world.admin, &at).await;
        assert_eq!((&left["total_ips"], &left["used_ips"]), (&json!(253), &json!(2)));
        assert_eq!(left["subnet_ip_availability"][0]["subnet_id"], subnet);
        world.blue.get(&path(&at)).await.expect(403);
        world.blue.get(&path("network-ip-availabilities")).await.expect(403);
        let all = world.admin.get(&path("network-ip-availabilities?network_name=n")).await.expect(200).json;
        assert_eq!(all["network_ip_availabilities"].as_array().unwrap().len(), 1);
        world.admin.get(&path("network-ip-availabilities/nothing")).await.expect(404);
        assert_eq!(world.blue.get(&path("service-providers")).await.expect(200).json["service_providers"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn the_automatic_network_comes_and_goes() {
    in_a_cloud(|world| async move {
        let dry = world.blue.get(&path("auto-allocated-topology/blue?fields=dry-run")).await.expect(200).json;
        assert_eq!(dry["auto_allocated_topology"]["id"], "dry-run=pass");
        world.blue.delete(&path("auto-allocated-topology/blue")).await.expect(404);
        let made = world.blue.get(&path("auto-allocated-topology/blue")).await.expect(200).json;
        let network = made["auto_allocated_topology"]["id"].as_str().unwrap().to_owned();
        let again = world.blue.get(&path("auto-allocated-topology/blue")).await.expect(200).json;
        assert_eq!(again, made);
        world.red.get(&path("auto-allocated-topology/blue")).await.expect(403);
        world.red.delete(&path("auto-allocated-topology/blue")).await.expect(403);
        world.settle().await;
        world.blue.delete(&path("auto-allocated-topology/blue")).await.expect(204);
        world.blue.get(&path(&format!("networks/{network}"))).await.expect(404);
        world.settle().await;
        assert_eq!(world.doctor().await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn extra_routes_are_added_one_by_one() {
    in_a_small_cloud(|world| async move {
        let (_, _, router) = world.connected(&world.blue).await;
        let at = |verb: &str| path(&format!("routers/{router}/{verb}_extraroutes"));
        let route = |n: u8| json!({"destination": format!("10.{n}.0.0/16"), "nexthop": "10.0.0.9"});
        let body = |routes: Value| json!({"router": {"routes": routes}});
        world.blue.put(&at("add"), body(json!([route(20)]))).await.expect(200);
        let two = world.blue.put(&at("add"), body(json!([route(21), route(20)]))).await.expect(200).json;
        assert_eq!(two["router"]["routes"], json!([route(20), route(21)]));
        let one = world.blue.put(&at("remove"), body(json!([route(20), route(99)]))).await.expect(200).json;
        assert_eq!(one["router"]["routes"], json!([route(21)]));
        let astray = json!([{"destination": "10.30.0.0/16", "nexthop": "10.99.0.9"}]);
        world.blue.put(&at("add"), body(astray)).await.expect(400);
        world.red.put(&at("add"), body(json!([route(22)]))).await.expect(404);
        world.red.put(&at("remove"), body(json!([route(21)]))).await.expect(404);
    })
    .await;
}
