//! Handlers of candidates.

use std::collections::{BTreeMap, BTreeSet};

use model::Result;
use serde_json::{Map, Value, json};
use store::placement::Provider;
use web::{Cx, Reply, Version};

use super::{logic, logic::Candidate, wire::Request};
use crate::provider::{authorize, fresh, load, root};

/// `GET /allocation_candidates`.
pub(crate) async fn list(cx: &Cx) -> Result<Reply> {
    authorize(cx)?;
    let request = Request::parse(&cx.query.0, cx.version)?;
    let all = load(cx, &mut *cx.db().read().await?, None).await?;
    let found = logic::candidates(&request, &all);
    let requests: Vec<Value> = found.iter().map(|candidate| view(cx, candidate)).collect();
    let body = json!({"allocation_requests": requests, "provider_summaries": summaries(cx, &request, &found, &all)});
    Ok(fresh(cx, Reply::ok(&body)?))
}

fn view(cx: &Cx, candidate: &Candidate) -> Value {
    if cx.version < Version(1, 12) {
        let of = |(id, resources): (&String, &BTreeMap<String, i64>)| json!({"resource_provider": {"uuid": id}, "resources": resources});
        return json!({"allocations": candidate.allocations.iter().map(of).collect::<Vec<_>>()});
    }
    let of = |(id, resources): (&String, &BTreeMap<String, i64>)| (id.clone(), json!({"resources": resources}));
    let mut view = json!({"allocations": candidate.allocations.iter().map(of).collect::<Map<_, _>>()});
    if cx.version >= Version(1, 34) {
        view["mappings"] = json!(candidate.mappings);
    }
    view
}

/// The providers of the candidates, since 1.29 with their whole trees.
fn summaries(cx: &Cx, request: &Request, found: &[Candidate], all: &BTreeMap<String, Provider>) -> Map<String, Value> {
    let used: BTreeSet<&str> = found.iter().flat_map(|c| c.allocations.keys().map(String::as_str)).collect();
    let tops: BTreeSet<&str> = used.iter().filter_map(|id| all.get(*id)).map(|p| root(p, all)).collect();
    let shown = all.values().filter(|provider| {
        used.contains(provider.id.as_str()) || (cx.version >= Version(1, 29) && tops.contains(root(provider, all)))
    });
    let asked: BTreeSet<&String> = request.groups.values().flat_map(|group| group.resources.keys()).collect();
    let summary = |provider: &Provider| {
        let classes =
            provider.inventories.iter().filter(|(class, _)| cx.version >= Version(1, 27) || asked.contains(class));
        let resources: Map<String, Value> =
            classes.map(|(class, i)| (class.clone(), json!({"capacity": i.capacity(), "used": i.used}))).collect();
        let mut view = json!({"resources": resources});
        if cx.version >= Version(1, 17) {
            view["traits"] = json!(provider.traits);
        }
        if cx.version >= Version(1, 29) {
            view["parent_provider_uuid"] = json!(provider.parent);
            view["root_provider_uuid"] = json!(root(provider, all));
        }
        (provider.id.clone(), view)
    };
    shown.map(summary).collect()
}
