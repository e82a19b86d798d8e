//! Every operation of the service.

use web::{
    Access::Public,
    Route, handler,
};

use crate::versions;

/// The table. Paths are below `/compute`.
pub const ROUTES: &[Route] = &[
    Route::get("/", Public, handler!(versions::list)),
    Route::get("/v2", Public, handler!(versions::show_v2_0)),
    Route::get("/v2.1", Public, handler!(versions::show_v2_1)),
    // Servers.
    // Flavors, key pairs, quotas, limits, services, hypervisors, zones, extensions.
];
