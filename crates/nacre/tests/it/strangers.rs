//! Every route, asked by those whom it owes nothing: nobody, a tenant with nonsense, a tenant with another's ids.

use http::Method;
use serde_json::{Value, json};
use testkit::{Client, Response};
use web::{Access, Route, Service, Version};

use crate::cloud::Cloud;

/// In the name of everything that the administrator's project has. Nobody else may ever read it.
const SECRET: &str = "hush-7d1f";
/// What Nova shows to everyone who knows a project's id: limits that hold for the whole cloud.
const FOR_ALL: &[&str] = &["/v2.1/os-quota-sets/{id}/defaults"];

#[tokio::test]
async fn nobody_passes_without_a_token() {
    let cloud = Cloud::new().await;
    let mut wrong = Vec::new();
    for (service, route) in routes(&cloud).filter(|(_, route)| route.access != Access::Public) {
        let asked = Asked::new(service, route, |_| random());
        for client in [cloud.anyone.clone(), cloud.anyone.clone().token("gAAAAAnonsense")] {
            let response = asked.send(&client, &asked.nonsense()[0]).await;
            if response.status != 401 {
                wrong.push(asked.told(&response));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Ids that are nobody's, bodies that mean nothing: a refusal, and never a failure of ours.
#[tokio::test]
async fn nonsense_is_refused() {
    let cloud = Cloud::new().await;
    let demo = cloud.log_in("demo").await;
    let ids: [fn() -> String; 4] = [random, || "0".to_owned(), || "%F0%9F%A6%AA%27".to_owned(), || "n".repeat(300)];
    let mut wrong = Vec::new();
    for (service, route) in routes(&cloud) {
        for id in ids {
            let asked = Asked::new(service, route, |_| id());
            for body in asked.nonsense() {
                let response = asked.send(&demo, &body).await;
                let of_something = route.path.contains('{');
                if response.status.is_server_error() || (of_something && !response.status.is_client_error()) {
                    wrong.push(format!("{body:?}: {}", asked.told(&response)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What is another project's is not there, whatever the method; and it is still there afterwards.
#[tokio::test]
async fn what_is_anothers_stays_hidden_and_whole() {
    let cloud = Cloud::new().await;
    let (admin, demo) = (cloud.log_in("admin").await, cloud.log_in("demo").await);
    let theirs = Possessions::make(&cloud, &admin).await;
    let mut wrong = Vec::new();
    for (service, route) in routes(&cloud) {
        let asked = Asked::new(service, route, |collection| theirs.id(collection).unwrap_or_else(random));
        for body in asked.nonsense() {
            let response = asked.send(&demo, &body).await;
            let leaked = String::from_utf8_lossy(&response.body).contains(SECRET);
            let may = !route.path.contains('{') || FOR_ALL.contains(&route.path);
            let refused = response.status.is_client_error() || may;
            if leaked || !refused || response.status.is_server_error() {
                wrong.push(asked.told(&response));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    theirs.expect_whole(&admin).await;
}

/// The same with bodies that would do something: that they mean well must not be looked at before whose it is.
#[tokio::test]
async fn what_is_anothers_cannot_be_changed() {
    let cloud = Cloud::new().await;
    let (admin, demo) = (cloud.log_in("admin").await, cloud.log_in("demo").await);
    let theirs = Possessions::make(&cloud, &admin).await;
    let mut wrong = Vec::new();
    let mut asked_for = 0;
    for (service, route) in routes(&cloud).filter(|(_, route)| route.method.as_http() != Method::GET) {
        let Some(body) = theirs.change(route) else { continue };
        let asked = Asked::new(service, route, |collection| theirs.id(collection).unwrap_or_else(random));
        let response = asked.send(&demo, &Some(body)).await;
        asked_for += 1;
        if !matches!(response.status.as_u16(), 403 | 404) {
            wrong.push(asked.told(&response));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(asked_for >= 35, "only {asked_for} routes were asked: have paths changed?");
    theirs.expect_whole(&admin).await;
}

/// A list that is asked for another project's, or for everyone's.
#[tokio::test]
async fn lists_show_nothing_of_others() {
    let cloud = Cloud::new().await;
    let (admin, demo) = (cloud.log_in("admin").await, cloud.log_in("demo").await);
    Possessions::make(&cloud, &admin).await;
    let (project, user) = (&cloud.admin_project, &cloud.admin_user);
    let queries = [
        String::new(),
        "?all_tenants=1".to_owned(),
        "?shared=true".to_owned(),
        "?limit=1".to_owned(),
        "?sort_key=project_id&sort_key=name".to_owned(),
        format!("?project_id={project}"),
        format!("?tenant_id={project}"),
        format!("?all_tenants=1&project_id={project}"),
        format!("?owner={project}&visibility=all"),
        format!("?user_id={user}"),
    ];
    let mut wrong = Vec::new();
    for (service, route) in routes(&cloud).filter(|(_, r)| r.method.as_http() == Method::GET && !r.path.contains('{')) {
        for query in &queries {
            let path = format!("{}{}{query}", service.prefix, route.path);
            let response = demo.get(&path).await;
            let leaked = String::from_utf8_lossy(&response.body).contains(SECRET);
            if leaked || response.status.is_server_error() {
                wrong.push(format!("{path}: {} {}", response.status, response.json));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn routes(cloud: &Cloud) -> impl Iterator<Item = (&Service, &'static Route)> {
    cloud.services().iter().flat_map(|service| service.routes.iter().map(move |route| (service, route)))
}

fn random() -> String {
    model::id::random_uuid().to_string()
}

/// One request to a route.
pub struct Asked {
    route: &'static Route,
    pub path: String,
    version: Option<String>,
}

impl Asked {
    /// With each parameter filled by what `fill` says for the collection it stands in.
    pub fn new(service: &Service, route: &'static Route, fill: impl Fn(&str) -> String) -> Self {
        let mut collection = "";
        let mut path = service.prefix.to_owned();
        for part in route.path.trim_start_matches('/').split('/') {
            path.push('/');
            if part.starts_with('{') {
                path.push_str(&fill(collection));
            } else {
                path.push_str(part);
                collection = part;
            }
        }
        let version = service.versions.map(|known| {
            let newest = if route.until == Version::MAX { known.max } else { route.until };
            format!("{} {newest}", known.service_type)
        });
        Self { route, path, version }
    }

    /// Bodies that mean nothing; for a method without one, none.
    fn nonsense(&self) -> Vec<Option<Value>> {
        if let Some(action) = self.route.action {
            return [Value::Null, json!({}), json!("x"), json!({"x": [1]})].map(|v| Some(json!({ action: v }))).into();
        }
        if !matches!(self.route.method.as_http(), Method::POST | Method::PUT | Method::PATCH) {
            return vec![None];
        }
        let literal = self.route.path.split('/').rfind(|part| !part.starts_with('{')).unwrap_or_default();
        let key = literal.trim_start_matches("os-").trim_end_matches('s').replace('-', "_");
        let inner = [json!({}), json!({"id": 1, "name": {"x": "y"}}), Value::Null, json!([7])];
        let named = inner.map(|v| Some(json!({ key.as_str(): v })));
        [Some(json!({})), None, Some(json!([])), Some(json!("x"))].into_iter().chain(named).collect()
    }

    pub async fn send(&self, client: &Client, body: &Option<Value>) -> Response {
        let client = match &self.version {
            Some(version) => client.clone().microversion(version),
            None => client.clone(),
        };
        let kind = match self.route.path {
            "/v2/images/{image_id}" => "application/openstack-images-v2.1-json-patch",
            _ if self.route.streaming => "application/octet-stream",
            _ => "application/json",
        };
        let bytes = body.as_ref().map(Value::to_string).unwrap_or_default();
        let kind = body.as_ref().map(|_| kind);
        client.send_body(self.route.method.as_http(), &self.path, kind, bytes.into()).await
    }

    pub fn told(&self, response: &Response) -> String {
        let (method, body) = (self.route.method.as_http(), String::from_utf8_lossy(&response.body));
        format!("{method} {} {}: {} {body}", self.path, self.route.action.unwrap_or_default(), response.status)
    }
}

/// What the administrator's project has: one of each.
struct Possessions {
    /// Collection as paths name it, id.
    ids: Vec<(&'static str, String)>,
    /// Where the administrator sees each that was made.
    documents: Vec<String>,
}

impl Possessions {
    async fn make(cloud: &Cloud, admin: &Client) -> Self {
        let mut all = Self { ids: Vec::new(), documents: Vec::new() };
        for collection in ["projects", "os-quota-sets", "quotas", "os-simple-tenant-usage"] {
            all.ids.push((collection, cloud.admin_project.clone()));
        }
        all.ids.push(("users", cloud.admin_user.clone()));
        all.ids.push(("members", cloud.demo_project.clone()));
        all.ids.push(("metadata", "key".to_owned()));
        all.network(admin).await;
        all.image(admin).await;
        all.server(admin).await;
        all
    }

    fn id(&self, collection: &str) -> Option<String> {
        self.ids.iter().find(|(name, _)| *name == collection).map(|(_, id)| id.clone())
    }

    /// A body with which the owner's request would do something.
    fn change(&self, route: &Route) -> Option<Value> {
        let name = json!({"name": "mine"});
        Some(match (route.path.trim_start_matches(|c| c != '{'), route.action) {
            (_, Some("addSecurityGroup" | "removeSecurityGroup")) => json!({ route.action?: {"name": "default"} }),
            (_, Some("reboot")) => json!({"reboot": {"type": "HARD"}}),
            (_, Some("os-getConsoleOutput")) => json!({"os-getConsoleOutput": {}}),
            (_, Some("changePassword")) => json!({"changePassword": {"adminPass": "mine"}}),
            (_, Some("createBackup")) => {
                json!({"createBackup": {"name": "mine", "backup_type": "daily", "rotation": 1}})
            }
            (_, Some("createImage")) => json!({"createImage": {"name": "mine"}}),
            (_, Some("os-resetState")) => json!({"os-resetState": {"state": "error"}}),
            (_, Some("rebuild")) => json!({"rebuild": {"imageRef": self.id("images")}}),
            (_, Some("resize")) => json!({"resize": {"flavorRef": "84"}}),
            (_, Some(action)) if route.path.contains("/servers/") => json!({ action: null }),
            ("{id}/metadata", _) => json!({"metadata": {"key": "mine"}}),
            ("{id}/metadata/{key}", _) => json!({"meta": {"key": "mine"}}),
            ("{id}/tags", _) => json!({"tags": ["mine"]}),
            ("{id}/os-interface", _) => json!({"interfaceAttachment": {}}),
            ("{id}/add_router_interface" | "{id}/remove_router_interface", _) => {
                json!({"subnet_id": self.id("subnets")})
            }
            ("{image_id}", _) => json!([{"op": "replace", "path": "/name", "value": "mine"}]),
            ("{image_id}/members", _) => json!({"member": self.id("members")}),
            ("{image_id}/members/{member_id}", _) => json!({"status": "accepted"}),
            ("{image_id}/file", _) => json!("mine"),
            ("{project_id}", _) if route.path.contains("/quotas/") => json!({"quota": {"port": 1}}),
            ("{project_id}", _) => json!({ "project": name }),
            ("{user_id}", _) => json!({"user": {"password": "mine"}}),
            ("{id}", _) => {
                let collection = route.path.split('/').nth(2)?;
                let key = collection.trim_start_matches("os-").trim_end_matches('s').replace('-', "_");
                let body = match collection {
                    "floatingips" => json!({"description": "mine"}),
                    "os-quota-sets" => json!({"cores": 1}),
                    _ => name,
                };
                json!({ key: body })
            }
            _ => return None,
        })
    }

    /// Fails the test unless everything is there and has its name.
    async fn expect_whole(&self, admin: &Client) {
        for path in &self.documents {
            let found = admin.get(path).await.expect(200);
            assert!(String::from_utf8_lossy(&found.body).contains(SECRET), "{path} was changed: {}", found.json);
        }
    }

    async fn add(&mut self, admin: &Client, root: &str, collection: &'static str, key: &str, body: Value) -> String {
        let created = admin.post(&format!("{root}/{collection}"), body).await;
        assert!(created.status.is_success(), "{collection}: {} {}", created.status, created.json);
        let id = if key.is_empty() { &created.json["id"] } else { &created.json[key]["id"] };
        let id = id.as_str().unwrap().to_owned();
        self.ids.push((collection, id.clone()));
        self.documents.push(format!("{root}/{collection}/{id}"));
        id
    }

    async fn network(&mut self, admin: &Client) {
        const ROOT: &str = "/networking/v2.0";
        let body = json!({"network": {"name": SECRET}});
        let network = self.add(admin, ROOT, "networks", "network", body).await;
        let body = json!({"subnet": {"name": SECRET, "network_id": network, "cidr": "10.9.8.0/24", "ip_version": 4}});
        let subnet = self.add(admin, ROOT, "subnets", "subnet", body).await;
        let body = json!({"port": {"name": SECRET, "network_id": network}});
        self.add(admin, ROOT, "ports", "port", body).await;
        let public = admin.get(&format!("{ROOT}/networks?router:external=true")).await.expect(200);
        let public = &public.json["networks"][0]["id"];
        let body = json!({"router": {"name": SECRET, "external_gateway_info": {"network_id": public}}});
        let router = self.add(admin, ROOT, "routers", "router", body).await;
        let interface = format!("{ROOT}/routers/{router}/add_router_interface");
        admin.put(&interface, json!({ "subnet_id": subnet })).await.expect(200);
        let body = json!({"floatingip": {"description": SECRET, "floating_network_id": public}});
        self.add(admin, ROOT, "floatingips", "floatingip", body).await;
        let body = json!({"security_group": {"name": SECRET, "description": SECRET}});
        let group = self.add(admin, ROOT, "security-groups", "security_group", body).await;
        let body = json!({"security_group_rule": {
            "security_group_id": group, "direction": "ingress", "description": SECRET,
        }});
        self.add(admin, ROOT, "security-group-rules", "security_group_rule", body).await;
    }

    async fn image(&mut self, admin: &Client) {
        let body = json!({
            "name": SECRET, "disk_format": "raw", "container_format": "bare", "visibility": "private", "tags": [SECRET],
        });
        let id = self.add(admin, "/image/v2", "images", "", body).await;
        let (path, data) = (format!("/image/v2/images/{id}/file"), SECRET.repeat(512));
        admin.send_body(Method::PUT, &path, Some("application/octet-stream"), data.into()).await.expect(204);
    }

    async fn server(&mut self, admin: &Client) {
        const ROOT: &str = "/compute/v2.1";
        let body = json!({"server": {
            "name": SECRET, "description": SECRET, "imageRef": self.id("images"), "flavorRef": "42",
            "networks": [{"uuid": self.id("networks")}], "metadata": {"key": SECRET}, "tags": [SECRET],
        }});
        self.add(admin, ROOT, "servers", "server", body).await;
    }
}
