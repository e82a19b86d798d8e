//! Every route of every service, as everybody who may come: what the rules' tables say is what happens, and nothing of the
//! victim's is in what others are answered.
//!
//! The expectation is computed: a route's rule, asked of the policy with the persona and a target that is wholly the
//! victim's (or, where a path names nothing, the asker's own). Refused means 403 or 404; admitted means neither. First
//! come all those who are refused, and everything must be whole afterwards; then those who are admitted, after whom what
//! they deleted is made anew.
//!
//! A new route is walked without a word. It fails here if its path names something that [`seeds`] doesn't make, or if its
//! body is looked at before its rule is asked and no body that would do something is known: both say what to add.

pub mod seeds;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use futures_util::future::BoxFuture;
use model::{
    Error, Result, Timestamp,
    id::{DomainId, ProjectId, UserId},
};
use testkit::{Client, Response};
use web::{Access, Authenticator, Caller, Route, Scope, Service, policy::matrix::whole_target, service::Verb};

use self::seeds::Seeds;
use crate::{cloud::Cloud, strangers::Asked};

const HOSTS: &str = "the cloud's hosts, of which there is none here";

/// Routes that the general expectation does not fit, each with the reason.
const PECULIAR: &[(&str, &str)] = &[
    ("/v3/auth/tokens", "the target is the token in X-Subject-Token; identity's own tests ask for others' tokens"),
    ("/v3/auth/catalog", "the catalog is a token's, and these callers have none that identity made"),
    ("/v2.1/extensions/{alias}", "the same for everybody"),
    ("/v2.1/os-services/{id}", HOSTS),
    ("/v2.1/os-hypervisors/{id}", HOSTS),
    ("/v2.1/os-hypervisors/{id}/uptime", HOSTS),
    ("/v2.1/os-hypervisors/{id}/servers", HOSTS),
    ("/v2.1/os-hypervisors/{id}/search", HOSTS),
    ("/v2.0/agents/{id}", HOSTS),
    ("/v3/credentials", "whose it is to be stands in the body, and it is the victim's"),
];

/// Parts of paths of routes that came when this test did: they want seeds, and then their line here goes.
const UNSEEDED: &[&str] = &[
    "/os-hosts/",
    "/migrations/{",
    "/OS-FEDERATION/",
    "/OS-OAUTH1/",
    "/OS-TRUST/",
    "/OS-EC2",
    "/access_rules/",
    "/application_credentials",
    "/port_forwardings",
    "/qos/",
    "/v2.0/policies/",
    "/trunks",
    "/identity/providers/",
    "{image_id}/import",
    "/v2/stores/",
    "/v2/tasks/",
    // Placement's.
    "/allocations/",
    "/resource_classes/",
    "/resource_providers/",
    "/traits/",
    "/usages",
    "/providers/{",
];

/// Where to be admitted is not to find: beginnings of paths.
const HIDDEN: &[(&str, &str)] = &[
    ("/v3/domains/{domain_id}/config", "the victim's domain has no configuration of its own"),
    ("/v2.1/os-keypairs/{name}", "each user has key pairs of their own; only `user_id` leads to another's"),
];

/// Who comes: name, roles, where.
const PERSONAS: &[(&str, &[&str], Where)] = &[
    ("stranger", &["member", "reader"], Where::Elsewhere),
    ("strange manager", &["manager", "member", "reader"], Where::Elsewhere),
    ("nobody's role", &[], Where::Project),
    ("reader", &["reader"], Where::Project),
    ("member", &["member", "reader"], Where::Project),
    ("manager", &["manager", "member", "reader"], Where::Project),
    ("domain reader", &["reader"], Where::Domain),
    ("domain manager", &["manager", "member", "reader"], Where::Domain),
    ("domain admin", &["admin", "manager", "member", "reader"], Where::Domain),
    ("system reader", &["reader"], Where::System),
    ("system admin", &["admin", "manager", "member", "reader"], Where::System),
    ("admin", &["admin", "manager", "member", "reader"], Where::Elsewhere),
];

/// The persona whom only rules for everybody admit.
const NO_ROLE: usize = 2;

/// Seen from the victim.
#[derive(Clone, Copy, PartialEq)]
enum Where {
    Project,
    Domain,
    System,
    Elsewhere,
}

#[tokio::test]
async fn every_route_asked_by_everybody() {
    let mut walk = Walk::new().await;
    let mut wrong = Vec::new();
    let steps = walk.steps(&mut wrong);
    for (at, persona) in steps.iter().flat_map(|at| (0..PERSONAS.len()).map(move |persona| (*at, persona))) {
        if !walk.admits(at, persona) {
            wrong.extend(walk.refused(at, persona).await);
        }
    }
    walk.seeds.expect_whole(walk.cloud.services(), &walk.root).await;
    let refused = wrong.len();
    for (at, persona) in steps.iter().flat_map(|at| (0..PERSONAS.len()).map(move |persona| (*at, persona))) {
        if walk.admits(at, persona) && walk.is_worth_it(at, persona) {
            wrong.extend(walk.admitted(at, persona).await);
        }
    }
    assert!(steps.len() > 200, "only {} routes", steps.len());
    let known: BTreeMap<&String, ()> = wrong.iter().map(|line| (line, ())).collect();
    let lines: Vec<&str> = known.keys().map(|line| line.as_str()).collect();
    assert!(wrong.is_empty(), "{refused} refusals and {} others:\n{}", wrong.len() - refused, lines.join("\n"));
}

/// Callers that the test names, without an identity service between.
#[derive(Default)]
pub struct Callers(Mutex<HashMap<String, Caller>>);

impl Callers {
    pub fn add(&self, token: &str, caller: Caller) {
        self.0.lock().unwrap().insert(token.to_owned(), caller);
    }
}

impl Authenticator for Callers {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Caller>> {
        let known = self.0.lock().unwrap().get(token).cloned();
        Box::pin(async move { known.ok_or_else(|| Error::unauthenticated("Unauthorized", "Who is this?")) })
    }
}

pub struct Walk {
    pub cloud: Cloud,
    callers: Arc<Callers>,
    pub root: Client,
    pub seeds: Seeds,
    personas: Vec<Caller>,
    round: usize,
}

impl Walk {
    pub async fn new() -> Self {
        let callers = Arc::new(Callers::default());
        let cloud = Cloud::with(|_| callers.clone()).await;
        callers.add("root", caller("root", PERSONAS[PERSONAS.len() - 1].1, project(&cloud.admin_project, "default")));
        let root = cloud.anyone.clone().token("root").microversion("compute latest");
        let seeds = plant(&cloud, &callers, &root, 0).await;
        let mut walk = Self { cloud, callers, root, seeds, personas: Vec::new(), round: 0 };
        walk.invite();
        walk
    }

    /// Another victim, with all that one has.
    pub async fn plant_anew(&mut self) {
        let floating = self.root.get("/networking/v2.0/floatingips").await.expect(200);
        for ip in floating.json["floatingips"].as_array().unwrap() {
            self.root.delete(&format!("/networking/v2.0/floatingips/{}", ip["id"].as_str().unwrap())).await;
        }
        self.round += 1;
        self.seeds = plant(&self.cloud, &self.callers, &self.root, self.round).await;
        self.invite();
    }

    /// Each persona in the scope that it has towards the present victim.
    fn invite(&mut self) {
        let (domain, victim) = (self.seeds.id("domains"), self.seeds.id("projects"));
        let one = |(name, roles, place): &(&str, &[&str], Where)| {
            let scope = match place {
                Where::Project => project(&victim, &domain),
                Where::Domain => Scope::Domain { id: DomainId::new(domain.as_str()), name: "walk".to_owned() },
                Where::System => Scope::System,
                Where::Elsewhere => project(&format!("{:032x}", 7), "default"),
            };
            caller(name, roles, scope)
        };
        self.personas = PERSONAS.iter().map(one).collect();
        for persona in &self.personas {
            self.callers.add(&persona.user_name, persona.clone());
        }
    }

    pub fn routes(&self) -> Vec<(&Service, &'static Route)> {
        self.cloud.services().iter().flat_map(|s| s.routes.iter().map(move |route| (s, route))).collect()
    }

    /// The routes to walk, by number; those whose paths can't be filled are told of.
    fn steps(&self, wrong: &mut Vec<String>) -> Vec<usize> {
        let walked = |(at, (_, route)): (usize, &(&Service, &'static Route))| {
            let peculiar = PECULIAR.iter().any(|(path, _)| *path == route.path)
                || UNSEEDED.iter().any(|part| route.path.contains(part));
            (matches!(route.access, Access::Rule(_)) && !peculiar).then_some(at)
        };
        let routes = self.routes();
        let steps: Vec<usize> = routes.iter().enumerate().filter_map(walked).collect();
        for (service, route) in steps.iter().map(|at| routes[*at]) {
            let missing = Mutex::new(Vec::new());
            Asked::new(service, route, |collection| {
                self.seeds.find(collection).unwrap_or_else(|| {
                    missing.lock().unwrap().push(collection.to_owned());
                    String::new()
                })
            });
            for collection in missing.into_inner().unwrap() {
                wrong.push(format!(
                    "{} {}: the walk makes nothing that stands behind {collection:?}: add it to SEEDS in walk/seeds.rs",
                    route.method.as_http(),
                    route.path
                ));
            }
        }
        steps
    }

    /// What the table says.
    fn admits(&self, at: usize, persona: usize) -> bool {
        let (_, route) = self.routes()[at];
        let Access::Rule(rule) = route.access else { return true };
        let caller = &self.personas[persona];
        let domain = self.seeds.id("domains");
        let target = if route.path.contains('{') {
            whole_target(&self.seeds.id("projects"), &self.seeds.id("users"), &domain)
        } else {
            let own = caller.project().map_or("", |project| project.as_str());
            whole_target(own, caller.user().as_str(), &domain)
        };
        let target = target.with("target.role.name", self.seeds.name());
        self.cloud.app.policy().allows(rule, caller, &target)
    }

    /// The request, what was said in it, and what came back.
    async fn ask(&self, at: usize, persona: usize) -> (Asked, String, Response) {
        let (service, route) = self.routes()[at];
        let asked = Asked::new(service, route, |collection| self.seeds.find(collection).unwrap_or_default());
        let body = self.seeds.change(route, &format!("{}{}", service.prefix, route.path));
        let client = self.cloud.anyone.clone().token(&self.personas[persona].user_name);
        let response = asked.send(&client, &body).await;
        let said = format!("{} {}", asked.path, body.unwrap_or_default());
        (asked, said, response)
    }

    async fn refused(&self, at: usize, persona: usize) -> Option<String> {
        let (asked, said, response) = self.ask(at, persona).await;
        let name = PERSONAS[persona].0;
        let text = String::from_utf8_lossy(&response.body);
        let leaked = self.seeds.secrets().find(|secret| text.contains(secret) && !said.contains(secret));
        if let Some(leaked) = leaked {
            return Some(format!("as {name}: {leaked} leaks: {}", asked.told(&response)));
        }
        match response.status.as_u16() {
            403 | 404 => None,
            400 => Some(format!(
                "as {name}: the body before the rule (authorize first, or give the route a body that would do \
                 something in walk/seeds.rs): {}",
                asked.told(&response)
            )),
            _ => Some(format!("as {name}: should be refused: {}", asked.told(&response))),
        }
    }

    /// After who deletes, all is made anew, which takes its time: only the first of those who may does.
    fn is_worth_it(&self, at: usize, persona: usize) -> bool {
        let deletes = self.routes()[at].1.method == Verb::Delete;
        !deletes || !(0..persona).any(|earlier| self.admits(at, earlier))
    }

    async fn admitted(&mut self, at: usize, persona: usize) -> Option<String> {
        let (asked, said, response) = self.ask(at, persona).await;
        let name = PERSONAS[persona].0;
        let deletes = self.routes()[at].1.method == Verb::Delete;
        let text = String::from_utf8_lossy(&response.body);
        let elsewhere = PERSONAS[persona].2 == Where::Elsewhere && !PERSONAS[persona].1.contains(&"admin");
        let leaked = self.seeds.secrets().find(|secret| text.contains(secret) && !said.contains(secret));
        let leaked = leaked.filter(|_| elsewhere && !self.admits(at, NO_ROLE)).map(str::to_owned);
        if deletes && response.status.is_success() {
            self.plant_anew().await;
        }
        if let Some(leaked) = leaked {
            return Some(format!("as {name}: {leaked} leaks: {}", asked.told(&response)));
        }
        // A change may speak of what is not there; that it can be seen at all is what reading it shows.
        let reads = matches!(self.routes()[at].1.method, Verb::Get | Verb::Head);
        let path = self.routes()[at].1.path;
        let refused = match response.status.as_u16() {
            401 => true,
            // Keystone says 403 for more than its rules, but only they name one.
            403 => match self.routes()[at].1.access {
                Access::Rule(rule) => text.contains(&format!("Policy doesn't allow {rule} to")),
                Access::Public | Access::Token => false,
            },
            404 => reads && !HIDDEN.iter().any(|(hidden, _)| path.starts_with(hidden)),
            other => other >= 500 && !matches!(other, 501 | 503),
        };
        refused.then(|| format!("as {name}: should be admitted: {}", asked.told(&response)))
    }
}

async fn plant(cloud: &Cloud, callers: &Arc<Callers>, root: &Client, round: usize) -> Seeds {
    let anyone = cloud.anyone.clone();
    let victim = |seeds: &Seeds| {
        let (project, user, domain) = (seeds.id("projects"), seeds.id("users"), seeds.id("domains"));
        let mut victim = caller("victim", PERSONAS[PERSONAS.len() - 1].1, self::project(&project, &domain));
        victim.user_id = Some(UserId::new(user));
        callers.add("victim", victim);
        anyone.clone().token("victim").microversion("compute latest")
    };
    Seeds::make(round, cloud.services(), root, victim).await
}

fn caller(name: &str, roles: &[&str], scope: Scope) -> Caller {
    Caller {
        user_id: Some(UserId::new(format!("{:032x}", name.len() + 16 * usize::from(name.as_bytes()[0])))),
        user_name: name.to_owned(),
        user_domain_id: "default".to_owned(),
        scope,
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        expires_at: Timestamp(i64::MAX),
        audit_id: name.to_owned(),
        ..Caller::default()
    }
}

fn project(id: &str, domain: &str) -> Scope {
    Scope::Project {
        id: ProjectId::new(id),
        name: "walk".to_owned(),
        domain_id: DomainId::new(domain),
        domain_name: "walk".to_owned(),
    }
}
