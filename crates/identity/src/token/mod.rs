//! Tokens: asking for one, what one means, validating and revoking one.
//!
//! | file | holds |
//! |---|---|
//! | `api.rs` | the handlers of `/v3/auth/...` |
//! | `wire.rs` | the shapes of requests and of the token document |
//! | `logic.rs` | who is asked for and for what, decided from the request alone |
//! | `proofs.rs` | each way to prove who one is |
//! | `login.rs` | from a request to the payload of a token: enough methods, scopes |
//! | `delegated.rs` | what tokens mean that a trust, an application credential or an access token made |
//! | `validated.rs` | from a payload to what the token means now |
//! | `catalog.rs` | the catalog as tokens carry it |

pub mod api;
pub mod catalog;
mod delegated;
mod logic;
mod login;
mod proofs;
pub mod validated;
mod wire;

pub(crate) use delegated::with_implied;
pub use logic::Lookup;
pub use proofs::{check_password, subject};

use model::{Error, Result};
use web::{Cx, Delegation};

/// Refuses a token that a trust, an application credential, an access token or a signature made: it must not be turned
/// into something that lasts longer or may do more.
///
/// # Errors
/// Forbidden.
pub(crate) fn refuse_delegated(cx: &Cx, what: &str) -> Result<()> {
    if cx.caller.delegation == Delegation::None {
        return Ok(());
    }
    let message = format!("{what} can't be done with a token that was made by delegation: log in for it.");
    Err(Error::forbidden("ForbiddenAction", message))
}
