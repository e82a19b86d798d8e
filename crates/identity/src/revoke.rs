//! Revocation events: what voided tokens, for clients that check tokens by themselves.

use model::{Error, Result, Timestamp};
use store::{
    identity::revocations,
    list::{Direction, SortKey, Type},
};
use web::{Cx, Reply, Target, paging::ListSpec};

use crate::wire;

const LIST: ListSpec = ListSpec {
    sorts: &[SortKey { name: "revoked_at", sql: "t.revoked_at", kind: Type::Int }],
    direction: Direction::Ascending,
    filters: &[],
};

/// `GET /v3/OS-REVOKE/events`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    cx.authorize(&Target::none())?;
    let since = cx.query.get("since").map(|text| {
        let invalid = || Error::bad_request("ValidationError", format!("Invalid date format {text}."));
        Timestamp::parse(text).ok_or_else(invalid)
    });
    let page = LIST.page(&cx.query)?;
    let found = revocations::list(&mut *cx.db().read().await?, since.transpose()?, &page).await?;
    wire::collection(cx, "events", &page, &found, |(id, event)| (id.as_str(), event.clone()))
}
