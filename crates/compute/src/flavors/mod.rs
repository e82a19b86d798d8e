//! Flavors: the sizes that servers come in.
//!
//! A server copies its flavor when it is created, so changing or deleting one changes no server. Who may see a flavor
//! that is not public: administrators, and the projects that were given access to it.

pub mod access;
pub mod api;
pub mod extra_specs;
mod logic;
mod wire;

use model::{Error, Result, id::FlavorId};
use store::{
    Conn,
    compute::flavors::{self, Flavor},
};
use web::{Cx, Target};

/// Finds a flavor that the caller may use.
///
/// # Errors
/// Not found, also where it is another project's.
pub async fn find(cx: &Cx, conn: &mut Conn, id: &str) -> Result<Flavor> {
    let id = FlavorId::new(id);
    let flavor = flavors::get(conn, &id).await?.ok_or_else(|| not_found(&id))?;
    if flavor.is_public || is_admin(cx) {
        return Ok(flavor);
    }
    match cx.caller.project() {
        Some(project) if flavors::has_access(conn, &id, project).await? => Ok(flavor),
        _ => Err(not_found(&id)),
    }
}

fn is_admin(cx: &Cx) -> bool {
    cx.can("context_is_admin", &Target::none())
}

fn not_found(id: &FlavorId) -> Error {
    Error::not_found("FlavorNotFound", format!("Flavor {id} could not be found."))
}
