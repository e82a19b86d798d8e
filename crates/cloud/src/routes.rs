//! Every operation.

use web::{
    Access::{Public, Rule},
    Route, handler,
};

use crate::{audit, events, openapi};

/// A-Z by resource.
pub const ROUTES: &[Route] = &[
    Route::get("/v1", Public, handler!(openapi::index)),
    Route::get("/v1/audit", Rule("nacre:audit:list"), handler!(audit::list)),
    Route::get("/v1/audit/export", Rule("nacre:audit:list"), handler!(audit::export)).streaming(),
    Route::get("/v1/events", Rule("nacre:events:list"), handler!(events::follow)).streaming(),
    Route::get("/v1/openapi.json", Public, handler!(openapi::show)),
];
