//! Tables `federated_users` and `expiring_group_members`: who came in through which provider, and the groups that the
//! provider's word puts them in for a while.

use model::{
    Timestamp,
    id::{DomainId, GroupId, UserId},
};

use crate::{Conn, Result, Row, RowExt, Tx, query};

/// A provider's user, and the one that stands for it here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FederatedUser {
    /// The provider.
    pub idp_id: String,
    /// The protocol.
    pub protocol_id: String,
    /// What the provider tells it from others by.
    pub unique_id: String,
    /// The user here.
    pub user_id: UserId,
    /// How the provider calls it.
    pub display_name: String,
}

fn from_row(row: &Row) -> Result<FederatedUser> {
    Ok(FederatedUser {
        idp_id: row.text("idp_id")?,
        protocol_id: row.text("protocol_id")?,
        unique_id: row.text("unique_id")?,
        user_id: row.id("user_id")?,
        display_name: row.text("display_name")?,
    })
}

/// One, by what the provider tells it from others by.
pub async fn get(conn: &mut Conn, idp_id: &str, protocol_id: &str, unique_id: &str) -> Result<Option<FederatedUser>> {
    let row = query("select * from federated_users where idp_id = $1 and protocol_id = $2 and unique_id = $3")
        .bind(idp_id)
        .bind(protocol_id)
        .bind(unique_id)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(from_row).transpose()
}

/// What a user here stands for, in the order of providers.
pub async fn of_user(conn: &mut Conn, user: &UserId) -> Result<Vec<FederatedUser>> {
    let rows = query("select * from federated_users where user_id = $1 order by idp_id, protocol_id, unique_id")
        .bind(user.as_str())
        .fetch_all(conn)
        .await?;
    rows.iter().map(from_row).collect()
}

/// Adds one, or writes how it is called now.
pub async fn put(tx: &mut Tx, user: &FederatedUser) -> Result<()> {
    query(
        "insert into federated_users (idp_id, protocol_id, unique_id, user_id, display_name) values ($1, $2, $3, $4, $5) \
         on conflict (idp_id, protocol_id, unique_id) do update set display_name = excluded.display_name",
    )
    .bind(user.idp_id.as_str())
    .bind(user.protocol_id.as_str())
    .bind(user.unique_id.as_str())
    .bind(user.user_id.as_str())
    .bind(user.display_name.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Replaces what a provider said before: these groups, until that moment.
pub async fn set_groups(tx: &mut Tx, user: &UserId, idp_id: &str, groups: &[GroupId], until: Timestamp) -> Result<()> {
    let rows = query("select group_id from expiring_group_members where user_id = $1 and idp_id = $2")
        .bind(user.as_str())
        .bind(idp_id)
        .fetch_all(&mut **tx)
        .await?;
    for row in rows {
        let group = row.id("group_id")?;
        if !groups.contains(&group) {
            forget(tx, user, &group, idp_id).await?;
        }
    }
    for group in groups {
        let made = query(
            "insert into group_members (user_id, group_id) values ($1, $2) on conflict (user_id, group_id) do nothing",
        )
        .bind(user.as_str())
        .bind(group.as_str())
        .execute(&mut **tx)
        .await?;
        query(
            "insert into expiring_group_members (user_id, group_id, idp_id, added, expires_at) \
             values ($1, $2, $3, $4, $5) on conflict (user_id, group_id, idp_id) \
             do update set expires_at = excluded.expires_at",
        )
        .bind(user.as_str())
        .bind(group.as_str())
        .bind(idp_id)
        .bind(i64::from(made.rows_affected() > 0))
        .bind(until.0)
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// Ends one membership, unless somebody else made it or another provider's word still holds.
async fn forget(tx: &mut Tx, user: &UserId, group: &GroupId, idp_id: &str) -> Result<()> {
    query(
        "delete from group_members where user_id = $1 and group_id = $2 \
         and exists (select 1 from expiring_group_members e where e.user_id = $1 and e.group_id = $2 and e.added = 1) \
         and not exists (select 1 from expiring_group_members e \
             where e.user_id = $1 and e.group_id = $2 and e.idp_id <> $3)",
    )
    .bind(user.as_str())
    .bind(group.as_str())
    .bind(idp_id)
    .execute(&mut **tx)
    .await?;
    query("delete from expiring_group_members where user_id = $1 and group_id = $2 and idp_id = $3")
        .bind(user.as_str())
        .bind(group.as_str())
        .bind(idp_id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Whether some membership of the user has outlived the word that it was made on.
pub async fn has_expired_groups(conn: &mut Conn, user: &UserId, now: Timestamp) -> Result<bool> {
    let row = query("select 1 as one from expiring_group_members where user_id = $1 and expires_at <= $2 limit 1")
        .bind(user.as_str())
        .bind(now.0)
        .fetch_optional(conn)
        .await?;
    Ok(row.is_some())
}

/// Ends those memberships.
pub async fn end_expired_groups(tx: &mut Tx, user: &UserId) -> Result<()> {
    let now = tx.now();
    let rows = query("select group_id, idp_id from expiring_group_members where user_id = $1 and expires_at <= $2")
        .bind(user.as_str())
        .bind(now.0)
        .fetch_all(&mut **tx)
        .await?;
    for row in rows {
        forget(tx, user, &row.id("group_id")?, &row.text("idp_id")?).await?;
    }
    Ok(())
}

/// The groups that providers put a user in, and until when.
pub async fn groups_of(conn: &mut Conn, user: &UserId, now: Timestamp) -> Result<Vec<(GroupId, Timestamp)>> {
    let rows = query(
        "select group_id, max(expires_at) as expires_at from expiring_group_members \
         where user_id = $1 and expires_at > $2 group by group_id order by group_id",
    )
    .bind(user.as_str())
    .bind(now.0)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| Ok((row.id("group_id")?, row.time("expires_at")?))).collect()
}

/// Adds the user that stands for one of a provider. It has no password.
pub async fn insert_shadow(
    tx: &mut Tx,
    id: &UserId,
    domain: &DomainId,
    name: &str,
    extra: &super::Extra,
) -> Result<()> {
    let now = tx.now();
    query("insert into users (id, domain_id, name, enabled, extra, created_at) values ($1, $2, $3, 1, $4, $5)")
        .bind(id.as_str())
        .bind(domain.as_str())
        .bind(name)
        .bind(super::json_text(extra))
        .bind(now.0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
