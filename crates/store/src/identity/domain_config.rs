//! Table `domain_config`: a domain's own settings.

use std::fmt;

use model::id::DomainId;

use crate::{Conn, Result, Row, RowExt, Tx, query};

/// One setting.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    /// The group that it is in: `ldap`.
    pub group: String,
    /// Its name: `url`.
    pub name: String,
    /// The value as JSON; sealed where it is secret.
    pub value: String,
    /// Whether it is secret.
    pub sensitive: bool,
}

impl fmt::Debug for Setting {
    /// Without the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setting").field("group", &self.group).field("name", &self.name).finish_non_exhaustive()
    }
}

/// All settings of a domain, by group and name.
pub async fn get(conn: &mut Conn, domain: &DomainId) -> Result<Vec<Setting>> {
    let rows = query("select * from domain_config where domain_id = $1 order by option_group, name")
        .bind(domain.as_str())
        .fetch_all(conn)
        .await?;
    let read = |row: &Row| {
        Ok(Setting {
            group: row.text("option_group")?,
            name: row.text("name")?,
            value: row.text("value")?,
            sensitive: row.flag("sensitive")?,
        })
    };
    rows.iter().map(read).collect()
}

/// Sets one, over what it was.
pub async fn put(tx: &mut Tx, domain: &DomainId, setting: &Setting) -> Result<()> {
    query(
        "insert into domain_config (domain_id, option_group, name, value, sensitive) values ($1, $2, $3, $4, $5) \
         on conflict (domain_id, option_group, name) do update set value = excluded.value, \
         sensitive = excluded.sensitive",
    )
    .bind(domain.as_str())
    .bind(setting.group.as_str())
    .bind(setting.name.as_str())
    .bind(setting.value.as_str())
    .bind(i64::from(setting.sensitive))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes all settings of a domain, those of a group, or one.
pub async fn delete(tx: &mut Tx, domain: &DomainId, group: Option<&str>, name: Option<&str>) -> Result<()> {
    query(
        "delete from domain_config where domain_id = $1 and option_group = coalesce($2, option_group) \
         and name = coalesce($3, name)",
    )
    .bind(domain.as_str())
    .bind(group)
    .bind(name)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
