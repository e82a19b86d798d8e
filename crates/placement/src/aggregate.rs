//! Aggregates: ids that providers share.

use std::collections::BTreeSet;

use model::{Result, id};
use serde::Deserialize;
use serde_json::{Value, json};
use store::placement::{self, Provider};
use web::{Cx, Reply, Version};

use crate::provider::{bad, find, fresh, take_generation};

/// Since this version the generation goes with them.
const WITH_GENERATION: Version = Version(1, 19);

fn view(cx: &Cx, provider: &Provider) -> Value {
    let mut view = json!({"aggregates": provider.aggregates});
    if cx.version >= WITH_GENERATION {
        view["resource_provider_generation"] = json!(provider.generation);
    }
    view
}

/// `GET /resource_providers/{uuid}/aggregates`.
pub(crate) async fn list(cx: &Cx) -> Result<Reply> {
    let found = find(cx, &mut *cx.db().read().await?).await?;
    Ok(fresh(cx, Reply::ok(&view(cx, &found))?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    aggregates: Vec<String>,
    resource_provider_generation: i64,
}

/// `PUT /resource_providers/{uuid}/aggregates`.
pub(crate) async fn update(cx: &Cx) -> Result<Reply> {
    let mut tx = cx.db().begin().await?;
    let found = find(cx, &mut tx).await?;
    let body = if cx.version >= WITH_GENERATION {
        cx.json::<Body>()?
    } else {
        Body { aggregates: cx.json()?, resource_provider_generation: found.generation }
    };
    if let Some(odd) = body.aggregates.iter().find(|aggregate| !id::is_uuid_like(aggregate)) {
        return Err(bad(format!("JSON does not validate: {odd} is not a UUID.")));
    }
    take_generation(&mut tx, &found, body.resource_provider_generation).await?;
    placement::set_aggregates(&mut tx, &found.id, &body.aggregates.into_iter().collect::<BTreeSet<_>>()).await?;
    let now = find(cx, &mut tx).await?;
    tx.commit().await?;
    Ok(fresh(cx, Reply::ok(&view(cx, &now))?))
}
