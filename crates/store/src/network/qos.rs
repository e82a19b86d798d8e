//! Tables `qos_policies` and `qos_rules`: how much of the network a port may or shall have.

use model::{
    Error,
    id::{NetworkId, PortId, ProjectId},
};

use super::{
    Viewer,
    plain::{self, Column, Plain, Standard},
    rows::{self, Table},
};
use crate::{Conn, Result, Row, RowExt, Tx, list::Select, query};

/// Bits of a second's thousands that may pass.
pub const BANDWIDTH_LIMIT: &str = "bandwidth_limit";
/// The mark that packets get.
pub const DSCP_MARKING: &str = "dscp_marking";
/// Bits of a second's thousands that are kept free.
pub const MINIMUM_BANDWIDTH: &str = "minimum_bandwidth";

/// A policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// What all such tables have.
    pub standard: Standard,
    /// Whether every project may use it.
    pub shared: bool,
    /// Whether networks have it that name none.
    pub is_default: bool,
}

impl Plain for Policy {
    const TABLE: &'static str = "qos_policies";
    const SELECT: &'static str = "select r.* from qos_policies r";
    const FROM: &'static str = "qos_policies r";

    fn read(row: &Row, standard: Standard) -> Result<Self> {
        Ok(Self { standard, shared: row.flag("shared")?, is_default: row.flag("is_default")? })
    }

    fn standard(&self) -> &Standard {
        &self.standard
    }

    fn standard_mut(&mut self) -> &mut Standard {
        &mut self.standard
    }

    fn columns(&self) -> Vec<(&'static str, Column)> {
        vec![("shared", self.shared.into()), ("is_default", self.is_default.into())]
    }

    fn visible(select: &mut Select, project: &ProjectId) {
        select.filter("(r.project_id = ? or r.shared = 1)", [project.into()]);
    }
}

/// A rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its id.
    pub id: String,
    /// Whose rule it is.
    pub policy_id: String,
    /// What it is about: one of the three constants above.
    pub kind: String,
    /// `ingress` or `egress`, seen from the guest.
    pub direction: String,
    /// The limit or minimum.
    pub kbps: i64,
    /// How far the limit may be exceeded for a moment; 0 leaves it to the engine.
    pub burst_kb: i64,
    /// The mark.
    pub dscp_mark: i64,
}

impl Rule {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.text("id")?,
            policy_id: row.text("policy_id")?,
            kind: row.text("kind")?,
            direction: row.text("direction")?,
            kbps: row.int("kbps")?,
            burst_kb: row.int("burst_kb")?,
            dscp_mark: row.int("dscp_mark")?,
        })
    }
}

/// The rules of several policies.
pub async fn rules(conn: &mut Conn, policies: &[&str]) -> Result<Vec<Rule>> {
    let mut select = Select::new("select r.* from qos_rules r", "qos_rules r", "r.id");
    select.any_of("r.policy_id", policies.iter().map(|id| (*id).into()));
    select.all(conn, "r.kind, r.direction, r.id").await?.iter().map(Rule::from_row).collect()
}

/// Adds a rule to a locked policy, or changes the one of that id; wakes whom it concerns.
///
/// # Errors
/// `QoSRulesConflict` where the policy has one of that kind and direction.
pub async fn put_rule(tx: &mut Tx, policy: &mut Policy, rule: &Rule) -> Result<(), Error> {
    let put = query(
        "insert into qos_rules (id, policy_id, kind, direction, kbps, burst_kb, dscp_mark) \
         values ($1, $2, $3, $4, $5, $6, $7) on conflict (id) do update set direction = excluded.direction, \
         kbps = excluded.kbps, burst_kb = excluded.burst_kb, dscp_mark = excluded.dscp_mark",
    )
    .bind(rule.id.as_str())
    .bind(rule.policy_id.as_str())
    .bind(rule.kind.as_str())
    .bind(rule.direction.as_str())
    .bind(rule.kbps)
    .bind(rule.burst_kb)
    .bind(rule.dscp_mark)
    .execute(&mut **tx)
    .await
    .map_err(crate::Error::from);
    match put {
        Err(error) if error.is_unique_violation() => {
            return Err(Error::conflict(
                "QoSRulesConflict",
                format!("Policy {} has a {} rule for {} already.", rule.policy_id, rule.kind, rule.direction),
            ));
        }
        other => other?,
    };
    Ok(touch_users(tx, policy).await?)
}

/// Takes a rule from a locked policy; wakes whom it concerned.
pub async fn remove_rule(tx: &mut Tx, policy: &mut Policy, id: &str) -> Result<()> {
    query("delete from qos_rules where id = $1").bind(id).execute(&mut **tx).await?;
    touch_users(tx, policy).await
}

async fn touch_users(tx: &mut Tx, policy: &mut Policy) -> Result<()> {
    plain::update(tx, policy).await?;
    let rows = query(
        "select id from ports where qos_policy_id = $1 and deleted_at is null union \
         select p.id from ports p join networks n on n.id = p.network_id \
         where n.qos_policy_id = $1 and p.qos_policy_id is null and p.deleted_at is null",
    )
    .bind(policy.standard.id.as_str())
    .fetch_all(&mut **tx)
    .await?;
    for row in &rows {
        rows::touch(tx, Table::Ports, &row.text("id")?).await?;
    }
    Ok(())
}

/// Whether a port or network has the policy.
pub async fn is_used(conn: &mut Conn, id: &str) -> Result<bool> {
    let row = query(
        "select id from ports where qos_policy_id = $1 and deleted_at is null union all \
         select id from networks where qos_policy_id = $1 and deleted_at is null limit 1",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// Forgets that ports and networks which are going had it.
pub async fn forget(tx: &mut Tx, id: &str) -> Result<()> {
    for sql in [
        "update ports set qos_policy_id = null where qos_policy_id = $1 and deleted_at is not null",
        "update networks set qos_policy_id = null where qos_policy_id = $1 and deleted_at is not null",
    ] {
        query(sql).bind(id).execute(&mut **tx).await?;
    }
    Ok(())
}

/// The policy that holds for a port: its own, or its network's.
pub async fn policy_of_port(conn: &mut Conn, port: &PortId, network: &NetworkId) -> Result<Option<String>> {
    let row = query(
        "select coalesce(p.qos_policy_id, n.qos_policy_id, '') as policy from ports p join networks n on n.id = $2 \
         where p.id = $1",
    )
    .bind(port.as_str())
    .bind(network.as_str())
    .fetch_optional(conn)
    .await?;
    let policy = row.map(|row| row.text("policy")).transpose()?;
    Ok(policy.filter(|id| !id.is_empty()))
}

/// The one that networks have which name none, of that project.
pub async fn default_of(conn: &mut Conn, project: &ProjectId) -> Result<Option<Policy>> {
    let mut select = plain::select::<Policy>(&Viewer::Admin);
    select.equal("r.project_id", project).equal("r.is_default", true);
    Ok(plain::all(conn, select).await?.pop())
}
