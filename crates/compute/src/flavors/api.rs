//! The operations on flavors.

use model::{Error, Result, id::FlavorId};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    compute::flavors::{self, Filter, Flavor, SORTS},
    list::{Direction, Page},
};
use web::{Cx, Reply, Target, Version, paging::ListSpec};

use super::{find, is_admin, logic, not_found, wire};
use crate::input::{next_link, only_known};

const LIST: ListSpec = ListSpec { sorts: SORTS, direction: Direction::Ascending, filters: &[] };
const QUERY: &[&str] = &["limit", "marker", "is_public", "minRam", "minDisk", "sort_key", "sort_dir"];

/// `GET /v2.1/flavors`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    let (flavors, page) = page(cx).await?;
    reply(cx, &page, &flavors, |flavor| wire::brief(cx, flavor))
}

/// `GET /v2.1/flavors/detail`.
pub async fn detail(cx: &Cx) -> Result<Reply> {
    let (flavors, page) = page(cx).await?;
    let with_specs = wire::shows_specs(cx);
    reply(cx, &page, &flavors, |flavor| wire::full(cx, flavor, with_specs))
}

/// `GET /v2.1/flavors/{id}`.
pub async fn show(cx: &Cx) -> Result<Reply> {
    let flavor = find(cx, &mut *cx.db().read().await?, cx.param("id")).await?;
    one(cx, &flavor)
}

/// `POST /v2.1/flavors`.
pub async fn create(cx: &Cx) -> Result<Reply> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        flavor: logic::NewFlavor,
    }
    cx.authorize(&Target::none())?;
    let flavor = logic::plan(cx.json::<Body>()?.flavor, cx.version, cx.now())?;
    let mut tx = cx.db().begin().await?;
    if flavors::get(&mut tx, &flavor.id).await?.is_some() {
        return Err(Error::conflict("FlavorIdExists", format!("Flavor with ID {} already exists.", flavor.id)));
    }
    flavors::insert(&mut tx, &flavor).await.map_err(|e| match e.is_unique_violation() {
        true => Error::conflict("FlavorExists", format!("Flavor with name {} already exists.", flavor.name)),
        false => e.into(),
    })?;
    tx.commit().await?;
    one(cx, &flavor)
}

/// `PUT /v2.1/flavors/{id}`: its description.
pub async fn update(cx: &Cx) -> Result<Reply> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        flavor: Changes,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Changes {
        // Null removes it, but leaving it out is an error, as it is all that can be changed.
        #[serde(deserialize_with = "Option::deserialize")]
        description: Option<String>,
    }
    cx.authorize(&Target::none())?;
    let changes = cx.json::<Body>()?.flavor;
    logic::check_description(changes.description.as_deref())?;
    let id = FlavorId::new(cx.param("id"));
    let mut tx = cx.db().begin().await?;
    let mut flavor = flavors::get_for_update(&mut tx, &id).await?.ok_or_else(|| not_found(&id))?;
    flavor.description = changes.description;
    flavors::update(&mut tx, &flavor).await?;
    tx.commit().await?;
    one(cx, &flavor)
}

/// `DELETE /v2.1/flavors/{id}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let id = FlavorId::new(cx.param("id"));
    let mut tx = cx.db().begin().await?;
    if !flavors::delete(&mut tx, &id).await? {
        return Err(not_found(&id));
    }
    tx.commit().await?;
    Ok(Reply::accepted())
}

/// The page that the query asks for, as far as the caller may see it.
async fn page(cx: &Cx) -> Result<(Vec<Flavor>, Page)> {
    only_known(cx, Version(2, 75), QUERY)?;
    let page = LIST.page(&cx.query)?;
    let admin = is_admin(cx);
    let filter = Filter {
        is_public: if admin { logic::is_public(cx.query.get("is_public"))? } else { Some(true) },
        accessible_to: cx.caller.project().cloned(),
        enabled_only: !admin,
        memory_mib_min: logic::minimum("minRam", cx.query.get("minRam"))?,
        disk_gib_min: logic::minimum("minDisk", cx.query.get("minDisk"))?,
    };
    let flavors = flavors::list(&mut *cx.db().read().await?, &filter, &page).await?;
    Ok((flavors, page))
}

fn reply(cx: &Cx, page: &Page, flavors: &[Flavor], shape: impl Fn(&Flavor) -> Value) -> Result<Reply> {
    let mut body = json!({"flavors": flavors.iter().map(shape).collect::<Vec<_>>()});
    if let Some(next) = next_link(cx, page.limit, flavors.len(), flavors.last().map(|f| f.id.as_str())) {
        body["flavors_links"] = next;
    }
    Reply::ok(&body)
}

fn one(cx: &Cx, flavor: &Flavor) -> Result<Reply> {
    Reply::ok(&json!({"flavor": wire::full(cx, flavor, wire::shows_specs(cx))}))
}
