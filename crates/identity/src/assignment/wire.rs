//! An assignment as clients see it.

use std::collections::HashMap;

use model::Result;
use serde_json::{Map, Value, json};
use store::{
    Conn,
    identity::assignments::{self, Actor, Name, Named, Target},
};
use web::Cx;

use super::logic::Shown;

/// The names behind the ids of a list.
#[derive(Debug, Default)]
pub struct Names(HashMap<&'static str, HashMap<String, Name>>);

impl Names {
    /// Reads those that the list needs: one query for each kind of thing.
    pub async fn read(cx: &Cx, conn: &mut Conn, shown: &[Shown]) -> Result<Self> {
        let dialect = cx.db().dialect();
        let unique = |ids: Vec<&str>| -> Vec<String> {
            let set: std::collections::BTreeSet<&str> = ids.into_iter().collect();
            set.into_iter().map(str::to_owned).collect()
        };
        let of_kind =
            |kind: &str| unique(shown.iter().filter(|s| s.actor.kind() == kind).map(|s| s.actor.id()).collect());
        let targets = unique(shown.iter().map(|s| s.target.id()).collect());
        let roles = unique(shown.iter().map(|s| s.role_id.as_str()).collect());
        let wanted = [
            ("users", Named::Users, of_kind("user")),
            ("groups", Named::Groups, of_kind("group")),
            ("roles", Named::Roles, roles),
            ("projects", Named::Projects, targets.clone()),
        ];
        let mut all = Self::default();
        let mut domains = targets;
        for (key, kind, ids) in wanted {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let names = assignments::names(conn, dialect, kind, &ids).await?;
            domains.extend(names.values().filter_map(|n| n.domain_id.as_ref()).map(|id| id.as_str().to_owned()));
            all.0.insert(key, names);
        }
        let domains = unique(domains.iter().map(String::as_str).collect());
        let domains: Vec<&str> = domains.iter().map(String::as_str).collect();
        all.0.insert("domains", assignments::names(conn, dialect, Named::Domains, &domains).await?);
        Ok(all)
    }

    fn get(&self, kind: &str, id: &str) -> Option<&Name> {
        self.0.get(kind)?.get(id)
    }

    /// `{"id", "name", "domain": {"id", "name"}}`, as far as it is known.
    fn of(&self, kind: &str, id: &str) -> Value {
        let mut document = json!({ "id": id });
        if let Some(known) = self.get(kind, id) {
            document["name"] = json!(known.name);
            if let Some(domain) = &known.domain_id {
                let name = self.get("domains", domain.as_str()).map(|n| n.name.as_str());
                document["domain"] = json!({ "id": domain, "name": name });
            }
        }
        document
    }
}

impl Shown {
    /// The whole entry; with names where there are some.
    pub fn document(&self, cx: &Cx, names: Option<&Names>) -> Value {
        let named = |kind: &str, id: &str| names.map_or_else(|| json!({ "id": id }), |names| names.of(kind, id));
        let mut entry = Map::new();
        let actor = match &self.actor {
            Actor::User(_) => ("user", "users"),
            Actor::Group(_) => ("group", "groups"),
        };
        entry.insert(actor.0.to_owned(), named(actor.1, self.actor.id()));
        entry.insert("role".to_owned(), named("roles", self.role_id.as_str()));
        let inherited = self.inherited || self.from.is_some();
        let mut scope = match &self.target {
            Target::Project(id) => json!({ "project": named("projects", id.as_str()) }),
            Target::Domain(id) => json!({ "domain": named("domains", id.as_str()) }),
            Target::System => json!({ "system": { "all": true } }),
        };
        if inherited {
            scope["OS-INHERIT:inherited_to"] = json!("projects");
        }
        entry.insert("scope".to_owned(), scope);
        entry.insert("links".to_owned(), self.links(cx, inherited));
        Value::Object(entry)
    }

    fn links(&self, cx: &Cx, inherited: bool) -> Value {
        let v3 = format!("{}/v3", cx.service_url());
        let place = match self.from.as_ref().unwrap_or(&self.target) {
            Target::Project(id) => format!("projects/{id}"),
            Target::Domain(id) => format!("domains/{id}"),
            Target::System => "system".to_owned(),
        };
        let who = match (&self.group, &self.actor) {
            (Some(group), _) => format!("groups/{group}"),
            (None, Actor::Group(group)) => format!("groups/{group}"),
            (None, Actor::User(user)) => format!("users/{user}"),
        };
        let role = self.prior.as_ref().unwrap_or(&self.role_id);
        let assignment = if inherited {
            format!("{v3}/OS-INHERIT/{place}/{who}/roles/{role}/inherited_to_projects")
        } else {
            format!("{v3}/{place}/{who}/roles/{role}")
        };
        let mut links = json!({ "assignment": assignment });
        if let Some(group) = &self.group {
            links["membership"] = json!(format!("{v3}/groups/{group}/users/{}", self.actor.id()));
        }
        if let Some(prior) = &self.prior {
            links["prior_role"] = json!(format!("{v3}/prior_role/{prior}/implies/{}", self.role_id));
        }
        links
    }
}
