//! What the victim has: a domain with a project, a user and the rest in it; networks, images and servers of the project.
//!
//! A new kind of resource needs a line in [`SEEDS`], so that the walk can put its id into paths and look for its name in
//! answers; a route whose body says more than its resource's name, one in [`change`].

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testkit::Client;
use web::{Route, Service, service::Verb};

use crate::strangers::Asked;

/// In the names of everything that the victim has.
pub const SECRET: &str = "hush-4e0b";

/// How one of the victim's things is made.
struct Seed {
    /// Where it stands in paths.
    collection: &'static str,
    /// What makes it; a cloud without this route has none.
    create: &'static str,
    /// The key in the answer; empty where there is none.
    key: &'static str,
    body: fn(&Seeds) -> Value,
}

const fn seed(collection: &'static str, create: &'static str, key: &'static str, body: fn(&Seeds) -> Value) -> Seed {
    Seed { collection, create, key, body }
}

/// What Neutron tags.
const TAGGED: &[&str] = &[
    "networks",
    "subnets",
    "ports",
    "routers",
    "floatingips",
    "security-groups",
    "security-group-rules",
    "subnetpools",
];

/// In the order in which they need each other.
#[rustfmt::skip]
const SEEDS: &[Seed] = &[
    seed("domains", "/identity/v3/domains", "domain", |s| json!({"domain": {"name": s.name(), "description": SECRET}})),
    seed("projects", "/identity/v3/projects", "project", |s| json!({"project": {"name": s.name(), "domain_id": s.id("domains")}})),
    seed("users", "/identity/v3/users", "user", |s| json!({"user": {"name": s.name(), "domain_id": s.id("domains"), "default_project_id": s.id("projects")}})),
    seed("groups", "/identity/v3/groups", "group", |s| json!({"group": {"name": s.name(), "domain_id": s.id("domains")}})),
    seed("roles", "/identity/v3/roles", "role", |s| json!({"role": {"name": s.name()}})),
    seed("implies", "/identity/v3/roles", "role", |s| json!({"role": {"name": format!("{}-implied", s.name())}})),
    seed("regions", "/identity/v3/regions", "region", |s| json!({"region": {"id": s.name(), "description": SECRET}})),
    seed("services", "/identity/v3/services", "service", |s| json!({"service": {"name": s.name(), "type": s.name()}})),
    seed("endpoints", "/identity/v3/endpoints", "endpoint", |s| json!({"endpoint": {"service_id": s.id("services"), "interface": "internal", "url": format!("http://{SECRET}/"), "region_id": s.id("regions")}})),
    seed("credentials", "/identity/v3/credentials", "credential", |s| json!({"credential": {"blob": SECRET, "type": "cert", "user_id": s.id("users"), "project_id": s.id("projects")}})),
    seed("policies", "/identity/v3/policies", "policy", |_| json!({"policy": {"blob": SECRET, "type": "text/plain"}})),
    seed("registered_limits", "/identity/v3/registered_limits", "registered_limits", |s| json!({"registered_limits": [{"service_id": s.id("services"), "resource_name": s.name(), "default_limit": 5}]})),
    seed("limits", "/identity/v3/limits", "limits", |s| json!({"limits": [{"service_id": s.id("services"), "project_id": s.id("projects"), "resource_name": s.name(), "resource_limit": 5, "description": SECRET}]})),
    seed("endpoint_groups", "/identity/v3/OS-EP-FILTER/endpoint_groups", "endpoint_group", |s| json!({"endpoint_group": {"name": s.name(), "filters": {"interface": "internal"}}})),

    seed("networks", "/networking/v2.0/networks", "network", |s| json!({"network": {"name": s.name()}})),
    seed("subnets", "/networking/v2.0/subnets", "subnet", |s| json!({"subnet": {"name": s.name(), "network_id": s.id("networks"), "cidr": "10.9.8.0/24", "ip_version": 4}})),
    seed("ports", "/networking/v2.0/ports", "port", |s| json!({"port": {"name": s.name(), "network_id": s.id("networks")}})),
    seed("routers", "/networking/v2.0/routers", "router", |s| json!({"router": {"name": s.name(), "external_gateway_info": {"network_id": s.public}}})),
    seed("floatingips", "/networking/v2.0/floatingips", "floatingip", |s| json!({"floatingip": {"description": SECRET, "floating_network_id": s.public}})),
    seed("security-groups", "/networking/v2.0/security-groups", "security_group", |s| json!({"security_group": {"name": s.name(), "description": SECRET}})),
    seed("security-group-rules", "/networking/v2.0/security-group-rules", "security_group_rule", |s| json!({"security_group_rule": {"security_group_id": s.id("security-groups"), "direction": "ingress", "description": SECRET}})),

    seed("address-scopes", "/networking/v2.0/address-scopes", "address_scope", |s| json!({"address_scope": {"name": s.name(), "ip_version": 4}})),
    seed("subnetpools", "/networking/v2.0/subnetpools", "subnetpool", |s| json!({"subnetpool": {"name": s.name(), "prefixes": ["10.77.0.0/16"]}})),
    seed("address-groups", "/networking/v2.0/address-groups", "address_group", |s| json!({"address_group": {"name": s.name(), "addresses": ["10.1.2.3/32"]}})),
    seed("metering-labels", "/networking/v2.0/metering/metering-labels", "metering_label", |s| json!({"metering_label": {"name": s.name(), "description": SECRET}})),
    seed("metering-label-rules", "/networking/v2.0/metering/metering-label-rules", "metering_label_rule", |s| json!({"metering_label_rule": {"metering_label_id": s.id("metering-labels"), "direction": "ingress", "remote_ip_prefix": "10.0.0.0/8"}})),

    seed("images", "/image/v2/images", "", |s| json!({"name": s.name(), "disk_format": "raw", "container_format": "bare", "visibility": "shared", "tags": [SECRET]})),
    seed("namespaces", "/image/v2/metadefs/namespaces", "", |s| json!({"namespace": s.name(), "visibility": "private", "description": SECRET})),
    seed("flavors", "/compute/v2.1/flavors", "flavor", |s| json!({"flavor": {"name": s.name(), "ram": 64, "vcpus": 1, "disk": 1, "os-flavor-access:is_public": false}})),
    seed("os-keypairs", "/compute/v2.1/os-keypairs", "keypair", |s| json!({"keypair": {"name": s.name(), "type": "ssh", "public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPbCcZZxRzfQc5vSEgJzkpzN0l4xF5zRcCJm0cYgZ0dA x"}})),
    seed("os-server-groups", "/compute/v2.1/os-server-groups", "server_group", |s| json!({"server_group": {"name": s.name(), "policy": "anti-affinity"}})),
    seed("os-aggregates", "/compute/v2.1/os-aggregates", "aggregate", |s| json!({"aggregate": {"name": s.name()}})),
];

/// The victim's things, by the collection in which paths name them.
pub struct Seeds {
    ids: BTreeMap<&'static str, String>,
    round: usize,
    public: String,
}

impl Seeds {
    /// Makes one of each: as `root` what is the cloud's, as `victim` what is a project's. `victim` comes of the project
    /// and user that were made.
    pub async fn make(round: usize, services: &[Service], root: &Client, victim: impl Fn(&Self) -> Client) -> Self {
        let public = root.get("/networking/v2.0/networks?router:external=true").await.expect(200);
        let public = public.json["networks"][0]["id"].as_str().unwrap().to_owned();
        let mut seeds = Self { ids: BTreeMap::new(), round, public };
        for seed in SEEDS.iter().filter(|seed| has(services, seed.create)) {
            let client = if seed.create.starts_with("/identity") { root.clone() } else { victim(&seeds) };
            let id = make(&client, seed.create, seed.key, (seed.body)(&seeds)).await;
            seeds.ids.insert(seed.collection, id);
        }
        let victim = victim(&seeds);
        seeds.finish(services, root, &victim).await;
        seeds
    }

    /// What is not simply posted.
    async fn finish(&mut self, services: &[Service], root: &Client, victim: &Client) {
        for collection in ["os-quota-sets", "quotas", "os-simple-tenant-usage", "auto-allocated-topology"] {
            self.ids.insert(collection, self.id("projects"));
        }
        self.ids.insert("network-ip-availabilities", self.id("networks"));
        self.ids.insert("config", "identity".to_owned());
        self.ids.insert("group", "driver".to_owned());
        let (roles, implied) = (self.id("roles"), self.id("implies"));
        root.put(&format!("/identity/v3/roles/{roles}/implies/{implied}"), Value::Null).await.expect(201);
        self.relations(services, root).await;
        let name = self.name();
        self.ids.insert("os-keypairs", name);
        // A server, from an image with data; its parts.
        let (path, data) = (format!("/image/v2/images/{}/file", self.id("images")), SECRET.repeat(512));
        let kind = Some("application/octet-stream");
        victim.send_body(http::Method::PUT, &path, kind, data.into()).await.expect(204);
        let body = json!({"server": {
            "name": self.name(), "description": SECRET, "imageRef": self.id("images"), "flavorRef": "42",
            "networks": [{"uuid": self.id("networks")}], "metadata": {"key": SECRET}, "tags": ["tag"],
        }});
        let server = make(victim, "/compute/v2.1/servers", "server", body).await;
        let spec = json!({"extra_specs": {"key": SECRET}});
        root.post(&format!("/compute/v2.1/flavors/{}/os-extra_specs", self.id("flavors")), spec).await.expect(200);
        let actions = victim.get(&format!("/compute/v2.1/servers/{server}/os-instance-actions")).await.expect(200);
        let request = actions.json["instanceActions"][0]["request_id"].as_str().unwrap().to_owned();
        let ports = victim.get(&format!("/networking/v2.0/ports?device_id={server}")).await.expect(200);
        let port = ports.json["ports"][0]["id"].as_str().unwrap().to_owned();
        let shared = json!({"member": self.id("projects")});
        victim.post(&format!("/image/v2/images/{}/members", self.id("images")), shared).await.expect(200);
        let access = json!({"addTenantAccess": {"tenant": self.id("projects")}});
        root.post(&format!("/compute/v2.1/flavors/{}/action", self.id("flavors")), access).await.expect(200);
        let interface = json!({"subnet_id": self.id("subnets")});
        let routers = format!("/networking/v2.0/routers/{}/add_router_interface", self.id("routers"));
        victim.put(&routers, interface).await.expect(200);
        for collection in TAGGED {
            let path = format!("/networking/v2.0/{collection}/{}/tags/tag", self.id(collection));
            victim.put(&path, Value::Null).await.expect(201);
        }
        let project = format!("/identity/v3/projects/{}/tags/tag", self.id("projects"));
        root.put(&project, Value::Null).await.expect(201);
        self.metadefs(victim).await;
        victim.put(&format!("/image/v2/images/{}/tags/tag", self.id("images")), Value::Null).await.expect(204);
        let parts = [
            ("servers", server),
            ("os-instance-actions", request),
            ("os-interface", port),
            ("members", self.id("projects")),
            ("metadata", "key".into()),
            ("os-extra_specs", "key".into()),
            ("tags", "tag".into()),
            ("objects", "thing".into()),
            ("properties", "thing".into()),
            ("resource_types", "OS::Thing".into()),
            ("ips", self.name()),
            ("extensions", "router".into()),
            ("os-instance_usage_audit_log", "2026-01-01 00:00:00".replace(' ', "%20")),
            ("os-quota-class-sets", "default".into()),
            // The cloud's own, and none's to hide: there is no host in this test.
            ("os-hypervisors", model::id::random_uuid().to_string()),
            ("os-services", model::id::random_uuid().to_string()),
            ("agents", model::id::random_uuid().to_string()),
        ];
        self.ids.extend(parts);
    }

    /// Every grant, membership and association that there are routes for: they take no body.
    async fn relations(&self, services: &[Service], root: &Client) {
        let identity = services.iter().find(|service| service.name == "identity").unwrap();
        let ends = ["/roles/{role_id}", "/inherited_to_projects", "{group_id}/users/{user_id}"];
        let kinds = ["OS-ENDPOINT-POLICY", "OS-EP-FILTER"];
        let relates =
            |path: &str| ends.iter().any(|end| path.ends_with(end)) || kinds.iter().any(|kind| path.contains(kind));
        for route in identity.routes.iter().filter(|route| route.method == Verb::Put && relates(route.path)) {
            let asked = Asked::new(identity, route, |collection| self.id(collection));
            let made = root.put(&asked.path, Value::Null).await;
            assert!(made.status.is_success(), "{}", asked.told(&made));
        }
    }

    /// What is in the namespace.
    async fn metadefs(&self, victim: &Client) {
        let at = |rest: &str| format!("/image/v2/metadefs/namespaces/{}/{rest}", self.id("namespaces"));
        victim.post(&at("objects"), json!({"name": "thing", "description": SECRET})).await.expect(201);
        victim.post(&at("properties"), json!({"name": "thing", "title": SECRET, "type": "string"})).await.expect(201);
        victim.post(&at("resource_types"), json!({"name": "OS::Thing"})).await.expect(201);
        victim.post(&at("tags/tag"), Value::Null).await.expect(201);
    }

    /// The name of all that was made this time.
    pub fn name(&self) -> String {
        format!("{SECRET}-{}", self.round)
    }

    /// The id of the one in this collection.
    pub fn id(&self, collection: &str) -> String {
        self.find(collection).unwrap_or_else(|| panic!("no {collection} was made"))
    }

    /// The id of the one in this collection, if there is one.
    pub fn find(&self, collection: &str) -> Option<String> {
        self.ids.get(collection).cloned()
    }

    /// Everything's id: none of them may stand in an answer to somebody else.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let short = |id: &&str| id.len() >= 32;
        self.ids.values().map(String::as_str).filter(short).chain([SECRET])
    }

    /// Fails the test unless everything is there and has its name.
    pub async fn expect_whole(&self, services: &[Service], root: &Client) {
        for seed in SEEDS.iter().filter(|seed| has(services, seed.create)) {
            let Some(id) = self.find(seed.collection) else { continue };
            let path = format!("{}/{id}", seed.create);
            // Key pairs are shown to their users alone; metering rules have no name.
            if !matches!(seed.collection, "os-keypairs" | "metering-label-rules") {
                let found = root.get(&path).await.expect(200);
                assert!(String::from_utf8_lossy(&found.body).contains(SECRET), "{path} was changed: {}", found.json);
            }
        }
    }

    /// A body with which this route would do something.
    pub fn change(&self, route: &Route, path: &str) -> Option<Value> {
        if let Some(action) = route.action {
            return Some(self.action(action));
        }
        if !matches!(route.method, Verb::Post | Verb::Put | Verb::Patch) {
            return None;
        }
        let name = json!({"name": "mine"});
        let created = SEEDS.iter().find(|seed| route.method == Verb::Post && seed.create == path);
        if let Some(seed) = created {
            let other = Self { ids: self.ids.clone(), round: self.round + 100_000, public: self.public.clone() };
            return Some((seed.body)(&other));
        }
        let tail = route.path.trim_start_matches(|c| c != '{');
        Some(match tail {
            "{id}/metadata" => json!({"metadata": {"key": "mine"}}),
            "{id}/metadata/{key}" => json!({"meta": {"key": "mine"}}),
            "{id}/os-extra_specs" => json!({"extra_specs": {"key": "mine"}}),
            "{id}/os-extra_specs/{key}" => json!({"key": "mine"}),
            "{id}/tags" | "{project_id}/tags" => json!({"tags": ["mine"]}),
            "{id}/os-interface" => json!({"interfaceAttachment": {}}),
            "{id}/add_router_interface" | "{id}/remove_router_interface" => json!({"subnet_id": self.id("subnets")}),
            "{id}/add_addresses" | "{id}/remove_addresses" => json!({"addresses": ["10.1.2.4/32"]}),
            "{namespace}/tags" => json!({"tags": [{"name": "mine"}]}),
            "{namespace}/tags/{name}" if route.method == Verb::Put => json!({"name": "tag"}),
            "{namespace}/objects" | "{namespace}/objects/{name}" => json!({"name": "thing"}),
            "{namespace}/properties" | "{namespace}/properties/{name}" => {
                json!({"name": "thing", "title": "mine", "type": "string"})
            }
            "{namespace}/resource_types" => json!({"name": "OS::Thing"}),
            "{namespace}" => json!({"namespace": self.id("namespaces"), "visibility": "private"}),
            "{image_id}" => json!([{"op": "replace", "path": "/name", "value": "mine"}]),
            "{image_id}/members" => json!({"member": self.id("projects")}),
            "{image_id}/members/{member_id}" => json!({"status": "accepted"}),
            "{image_id}/file" => json!("mine"),
            _ => self.by_collection(route, name)?,
        })
    }

    fn by_collection(&self, route: &Route, name: Value) -> Option<Value> {
        let collection = route.path.split('/').rfind(|part| !part.starts_with('{')).unwrap_or_default();
        let key = match collection {
            "policies" => "policy".to_owned(),
            plural => plural.trim_start_matches("os-").trim_end_matches('s').replace('-', "_"),
        };
        Some(match collection {
            "servers" if route.method == Verb::Post => json!({"server": {
                "name": "mine", "imageRef": self.id("images"), "flavorRef": "42", "networks": [{"uuid": self.id("networks")}],
            }}),
            "floatingips" => json!({"floatingip": {"description": "mine"}}),
            "os-quota-sets" => json!({"quota_set": {"cores": 1}}),
            "os-quota-class-sets" => json!({"quota_class_set": {"cores": 20}}),
            "os-services" => json!({"status": "enabled"}),
            "quotas" => json!({"quota": {"port": 1}}),
            "services" => json!({"service": {"description": "mine"}}),
            "endpoints" => json!({"endpoint": {"url": "http://mine/"}}),
            "regions" => json!({"region": {"description": "mine"}}),
            "limits" => json!({"limit": {"resource_limit": 6}}),
            "registered_limits" => json!({"registered_limit": {"default_limit": 6}}),
            "tokens" => json!({"auth": {
                "identity": {"methods": ["password"], "password": {"user": {"id": self.id("users"), "password": "x"}}},
                "scope": {"project": {"id": self.id("projects")}},
            }}),
            "implies" | "tags" => return None,
            _ => json!({ key: name }),
        })
    }

    fn action(&self, action: &str) -> Value {
        let inner = match action {
            "addSecurityGroup" | "removeSecurityGroup" => json!({"name": "default"}),
            "addTenantAccess" => json!({"tenant": self.id("projects")}),
            // What the victim has must stay for those who come after.
            "removeTenantAccess" => json!({"tenant": format!("{:032x}", 9)}),
            "reboot" => json!({"type": "HARD"}),
            "os-getConsoleOutput" => json!({}),
            "changePassword" => json!({"adminPass": "mine"}),
            "createBackup" => json!({"name": "mine", "backup_type": "daily", "rotation": 1}),
            "createImage" => json!({"name": "mine"}),
            "os-resetState" => json!({"state": "error"}),
            "rebuild" => json!({"imageRef": self.id("images")}),
            "resize" => json!({"flavorRef": "84"}),
            _ => Value::Null,
        };
        json!({ action: inner })
    }
}

fn has(services: &[Service], path: &str) -> bool {
    services.iter().any(|service| {
        let rest = path.strip_prefix(service.prefix).filter(|rest| rest.starts_with('/'));
        let posts = |route: &Route| route.method == Verb::Post && Some(route.path) == rest;
        rest.is_some() && service.routes.iter().any(posts)
    })
}

async fn make(client: &Client, path: &str, key: &str, body: Value) -> String {
    let made = client.post(path, body.clone()).await;
    assert!(made.status.is_success(), "the walk's seed {path} {body}: {} {}", made.status, made.json);
    let made = if key.is_empty() { made.json } else { made.json[key].clone() };
    let made = if made.is_array() { made[0].clone() } else { made };
    let number = made["id"].as_u64().map(|id| id.to_string());
    let text = ["id", "name", "namespace"].iter().find_map(|key| made[*key].as_str());
    number.or_else(|| text.map(str::to_owned)).unwrap_or_else(|| panic!("{path}: no id in {made}"))
}
