//! The catalog as tokens carry it: enabled services with their enabled endpoints, addresses filled in.

use bytes::Bytes;
use model::{
    Error, Result,
    id::{ProjectId, UserId},
};
use serde::Serialize;
use serde_json::{Value, json};
use store::{
    Conn,
    identity::{
        catalog::{self, Endpoint, Service},
        endpoint_filters::{self, Given},
        federation::{self, ServiceProvider},
    },
};

/// The catalog's rows, and its text where that is the same for everyone.
pub struct Catalog {
    rows: Vec<(Service, Vec<Endpoint>)>,
    common: Option<Bytes>,
    /// Whether any project was given endpoints of its own.
    filtered: bool,
    /// The clouds that trust this one; none: tokens say nothing of it.
    service_providers: Option<Value>,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    r#type: &'a str,
    name: &'a str,
    endpoints: Vec<Address<'a>>,
}

#[derive(Serialize)]
struct Address<'a> {
    id: &'a str,
    interface: &'a str,
    region_id: Option<&'a str>,
    region: Option<&'a str>,
    url: String,
}

impl Catalog {
    /// Reads it.
    pub(crate) async fn read(conn: &mut Conn) -> Result<Self> {
        let rows = catalog::whole(conn).await?;
        let fixed = rows.iter().flat_map(|(_, endpoints)| endpoints).all(|endpoint| !endpoint.url.contains(")s"));
        let common = if fixed { Some(render(&rows, "", None, &Given::default())?) } else { None };
        let filtered = endpoint_filters::any(conn).await?;
        let trusting = federation::enabled_service_providers(conn).await?;
        let shown = |p: &ServiceProvider| json!({ "id": p.id, "auth_url": p.auth_url, "sp_url": p.sp_url });
        let service_providers = (!trusting.is_empty()).then(|| trusting.iter().map(shown).collect());
        Ok(Self { rows, common, filtered, service_providers })
    }

    /// The clouds that trust this one, as tokens show them.
    pub(crate) fn service_providers(&self) -> Option<&Value> {
        self.service_providers.as_ref()
    }

    /// What the project was given: it sees nothing else, or everything where it was given nothing.
    pub(crate) async fn given_to(&self, conn: &mut Conn, project: &ProjectId) -> Result<Given> {
        if self.filtered { Ok(endpoint_filters::given_to(conn, project).await?) } else { Ok(Given::default()) }
    }

    /// Its JSON for a user in a project, or in no project: then without endpoints whose address needs one.
    pub(crate) fn render(&self, user: &UserId, project: Option<&ProjectId>, given: &Given) -> Result<Bytes> {
        match &self.common {
            Some(common) if given.is_nothing() => Ok(common.clone()),
            _ => render(&self.rows, user.as_str(), project.map(AsRef::as_ref), given),
        }
    }
}

fn render(rows: &[(Service, Vec<Endpoint>)], user: &str, project: Option<&str>, given: &Given) -> Result<Bytes> {
    let shown = |endpoint: &&Endpoint| given.is_nothing() || given.includes(endpoint);
    let entries: Vec<Entry<'_>> = rows
        .iter()
        // A service of which a project was given nothing isn't there for it.
        .filter(|(_, endpoints)| given.is_nothing() || endpoints.iter().any(|e| given.includes(e)))
        .map(|(service, endpoints)| Entry {
            id: service.id.as_str(),
            r#type: &service.kind,
            name: service.name.as_deref().unwrap_or_default(),
            endpoints: endpoints.iter().filter(shown).filter_map(|endpoint| address(endpoint, user, project)).collect(),
        })
        .collect();
    let text = serde_json::to_vec(&entries).map_err(|e| Error::internal("writing the catalog", e))?;
    Ok(text.into())
}

fn address<'a>(endpoint: &'a Endpoint, user: &str, project: Option<&str>) -> Option<Address<'a>> {
    let url = substitute(&endpoint.url, user, project)?;
    let region = endpoint.region_id.as_deref();
    Some(Address { id: endpoint.id.as_str(), interface: &endpoint.interface, region_id: region, region, url })
}

/// Fills in `$(project_id)s` and the like; none where it needs a project that there isn't.
fn substitute(url: &str, user: &str, project: Option<&str>) -> Option<String> {
    let mut filled = url.replace("%(", "$(").replace("$(user_id)s", user);
    for name in ["$(project_id)s", "$(tenant_id)s"] {
        if filled.contains(name) {
            filled = filled.replace(name, project?);
        }
    }
    // What is left names something that no token has.
    (!filled.contains("$(")).then_some(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let cases = [
            ("http://c/compute/v2.1", Some("p"), Some("http://c/compute/v2.1")),
            ("http://c/v3/$(project_id)s", Some("p"), Some("http://c/v3/p")),
            ("http://c/v1/AUTH_%(tenant_id)s", Some("p"), Some("http://c/v1/AUTH_p")),
            ("http://c/v3/$(project_id)s", None, None),
            ("http://c/$(user_id)s", None, Some("http://c/u")),
            ("http://c/$(secret)s", Some("p"), None),
        ];
        for (url, project, expected) in cases {
            assert_eq!(substitute(url, "u", project).as_deref(), expected, "{url} {project:?}");
        }
    }
}
