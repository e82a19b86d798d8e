//! OAuth 1: programs (consumers) that users let act for them, without their passwords.
//!
//! A consumer asks for a request token, a user authorizes it for some of its roles, the consumer exchanges it for an
//! access token, and logs in by signing its requests with that.
//!
//! | file | holds |
//! |---|---|
//! | `api.rs` | the handlers of `/v3/OS-OAUTH1` and of a user's access tokens |
//! | `logic.rs` | the signature of RFC 5849 |

pub mod api;
mod logic;

use model::Result;
use store::{
    Conn,
    identity::oauth::{self, Token},
};
use web::Cx;

use crate::{State, state::unauthenticated};
pub(crate) use logic::Signed;

/// Whether the request is signed by its consumer, with the token where one belongs to it.
///
/// # Errors
/// Unauthenticated.
pub(crate) async fn check(
    cx: &Cx,
    state: &State,
    conn: &mut Conn,
    signed: &Signed,
    token: Option<&Token>,
) -> Result<()> {
    let consumer = oauth::get_consumer(conn, signed.required("oauth_consumer_key")?).await?;
    let consumer = consumer.ok_or_else(unauthenticated)?;
    if token.is_some_and(|token| token.consumer_id != consumer.id) {
        return Err(unauthenticated());
    }
    let secret = state.reveal(conn, &consumer.secret).await?;
    let token_secret = match token {
        Some(token) => Some(state.reveal(conn, &token.secret).await?),
        None => None,
    };
    let right = signed.is_recent(cx.now())
        && signed.is_signed(
            cx.method.as_str(),
            &cx.self_url(),
            &cx.query,
            &secret,
            token_secret.as_deref().map(String::as_str),
        );
    if right { Ok(()) } else { Err(unauthenticated()) }
}
