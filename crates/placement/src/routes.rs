//! Every operation.

use web::{
    Access::{Public, Rule},
    Route, handler,
};

use crate::{aggregate, allocation, candidate, inventory, provider, resource_class, traits, usage, versions};

/// The table.
pub const ROUTES: &[Route] = &[
    Route::get("/", Public, handler!(versions::list)),
    Route::get("/resource_providers", Rule("placement:resource_providers:list"), handler!(provider::list)),
    Route::post("/resource_providers", Rule("placement:resource_providers:create"), handler!(provider::create)),
    Route::get("/resource_providers/{uuid}", Rule("placement:resource_providers:show"), handler!(provider::show)),
    Route::put("/resource_providers/{uuid}", Rule("placement:resource_providers:update"), handler!(provider::update)),
    Route::delete(
        "/resource_providers/{uuid}",
        Rule("placement:resource_providers:delete"),
        handler!(provider::delete),
    ),
    Route::get(
        "/resource_providers/{uuid}/inventories",
        Rule("placement:resource_providers:inventories:list"),
        handler!(inventory::list),
    ),
    Route::post(
        "/resource_providers/{uuid}/inventories",
        Rule("placement:resource_providers:inventories:create"),
        handler!(inventory::create),
    ),
    Route::put(
        "/resource_providers/{uuid}/inventories",
        Rule("placement:resource_providers:inventories:update"),
        handler!(inventory::update_all),
    ),
    Route::delete(
        "/resource_providers/{uuid}/inventories",
        Rule("placement:resource_providers:inventories:delete"),
        handler!(inventory::delete_all),
    )
    .since(1, 5),
    Route::get(
        "/resource_providers/{uuid}/inventories/{resource_class}",
        Rule("placement:resource_providers:inventories:show"),
        handler!(inventory::show),
    ),
    Route::put(
        "/resource_providers/{uuid}/inventories/{resource_class}",
        Rule("placement:resource_providers:inventories:update"),
        handler!(inventory::update),
    ),
    Route::delete(
        "/resource_providers/{uuid}/inventories/{resource_class}",
        Rule("placement:resource_providers:inventories:delete"),
        handler!(inventory::delete),
    ),
    Route::get(
        "/resource_providers/{uuid}/usages",
        Rule("placement:resource_providers:usages"),
        handler!(usage::of_provider),
    ),
    Route::get(
        "/resource_providers/{uuid}/aggregates",
        Rule("placement:resource_providers:aggregates:list"),
        handler!(aggregate::list),
    )
    .since(1, 1),
    Route::put(
        "/resource_providers/{uuid}/aggregates",
        Rule("placement:resource_providers:aggregates:update"),
        handler!(aggregate::update),
    )
    .since(1, 1),
    Route::get(
        "/resource_providers/{uuid}/allocations",
        Rule("placement:resource_providers:allocations:list"),
        handler!(allocation::api::of_provider),
    ),
    Route::get(
        "/resource_providers/{uuid}/traits",
        Rule("placement:resource_providers:traits:list"),
        handler!(traits::of_provider),
    )
    .since(1, 6),
    Route::put(
        "/resource_providers/{uuid}/traits",
        Rule("placement:resource_providers:traits:update"),
        handler!(traits::update_provider),
    )
    .since(1, 6),
    Route::delete(
        "/resource_providers/{uuid}/traits",
        Rule("placement:resource_providers:traits:delete"),
        handler!(traits::delete_provider),
    )
    .since(1, 6),
    Route::get("/allocations/{consumer_uuid}", Rule("placement:allocations:list"), handler!(allocation::api::show)),
    Route::post("/allocations", Rule("placement:allocations:manage"), handler!(allocation::api::create)).since(1, 13),
    Route::put("/allocations/{consumer_uuid}", Rule("placement:allocations:update"), handler!(allocation::api::update)),
    Route::delete(
        "/allocations/{consumer_uuid}",
        Rule("placement:allocations:delete"),
        handler!(allocation::api::delete),
    ),
    Route::get("/allocation_candidates", Rule("placement:allocation_candidates:list"), handler!(candidate::api::list))
        .since(1, 10),
    Route::get("/usages", Rule("placement:usages"), handler!(usage::of_project)).since(1, 9),
    Route::get("/traits", Rule("placement:traits:list"), handler!(traits::list)).since(1, 6),
    Route::get("/traits/{name}", Rule("placement:traits:show"), handler!(traits::show)).since(1, 6),
    Route::put("/traits/{name}", Rule("placement:traits:update"), handler!(traits::create)).since(1, 6),
    Route::delete("/traits/{name}", Rule("placement:traits:delete"), handler!(traits::delete)).since(1, 6),
    Route::get("/resource_classes", Rule("placement:resource_classes:list"), handler!(resource_class::list))
        .since(1, 2),
    Route::post("/resource_classes", Rule("placement:resource_classes:create"), handler!(resource_class::create))
        .since(1, 2),
    Route::get("/resource_classes/{name}", Rule("placement:resource_classes:show"), handler!(resource_class::show))
        .since(1, 2),
    Route::put("/resource_classes/{name}", Rule("placement:resource_classes:update"), handler!(resource_class::ensure))
        .since(1, 7),
    Route::delete(
        "/resource_classes/{name}",
        Rule("placement:resource_classes:delete"),
        handler!(resource_class::delete),
    )
    .since(1, 2),
    Route::post("/reshaper", Rule("placement:reshaper:reshape"), handler!(allocation::api::reshape)).since(1, 30),
];
