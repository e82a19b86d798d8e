//! Lists of servers: which rows, and what a page shows besides them. A constant number of statements per page.

use std::collections::{BTreeMap, HashMap};

use model::id::ServerId;
use sqlx::AssertSqlSafe;

use super::{json, server_row::COLUMNS, servers::Server};
use crate::{
    Conn, Dialect, Gathered, Result, RowExt, gather,
    list::{Page, Select, Value},
    query,
};

/// All servers, also those that are gone.
pub fn select() -> Select {
    Select::new("select s.* from servers s", "servers s", "s.id")
}

/// Only servers that have not gone.
pub fn alive(select: &mut Select) {
    select.filter("s.deleted_at is null", []);
}

/// Only servers that are gone.
pub fn gone(select: &mut Select) {
    select.filter("s.deleted_at is not null", []);
}

/// Only servers one of whose addresses contains the text.
pub fn with_address(select: &mut Select, part: &str, version: i64) {
    let part = part.trim_start_matches('^').trim_end_matches('$').replace(['%', '_', '\\'], "");
    let like = Value::Text(format!("%{part}%"));
    let kind = Value::Text(if version == 4 { "%.%" } else { "%:%" }.to_owned());
    select.filter(
        "exists (select 1 from server_ports sp join port_ips pi on pi.port_id = sp.port_id \
         where sp.server_id = s.id and pi.ip like ? and pi.ip like ?)",
        [like, kind],
    );
}

/// How tags are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagMatch {
    /// All of them.
    All,
    /// At least one.
    Any,
    /// Not all of them.
    NotAll,
    /// None of them.
    NotAny,
}

/// Only servers whose tags match.
pub fn with_tags(select: &mut Select, tags: &[&str], how: TagMatch) {
    const HAS: &str = "exists (select 1 from server_tags t where t.server_id = s.id and t.tag = ?)";
    const HAS_NOT: &str = "not exists (select 1 from server_tags t where t.server_id = s.id and t.tag = ?)";
    const COUNT_BELOW: &str = "(select count(*) from server_tags t where t.server_id = s.id and t.tag in (\
         select tag from server_tags where tag = ? or tag = ? or tag = ? or tag = ? or tag = ?)) < ?";
    const ANY: &str = "exists (select 1 from server_tags t where t.server_id = s.id and \
         (t.tag = ? or t.tag = ? or t.tag = ? or t.tag = ? or t.tag = ?))";
    match how {
        TagMatch::All => tags.iter().for_each(|tag| {
            select.filter(HAS, [Value::from(*tag)]);
        }),
        TagMatch::NotAny => tags.iter().for_each(|tag| {
            select.filter(HAS_NOT, [Value::from(*tag)]);
        }),
        TagMatch::Any => {
            select.filter(ANY, padded(tags));
        }
        TagMatch::NotAll => {
            let count = i64::try_from(tags.len()).unwrap_or(i64::MAX);
            select.filter(COUNT_BELOW, padded(tags).into_iter().chain([Value::Int(count)]));
        }
    }
}

/// Tags that one filter may name where any or not all of them are asked for.
pub const TAGS_MAX: usize = 5;

/// The conditions above have five places: the last tag fills those that are left.
fn padded(tags: &[&str]) -> Vec<Value> {
    let last = tags.last().copied().unwrap_or_default();
    (0..TAGS_MAX).map(|at| Value::from(tags.get(at).copied().unwrap_or(last))).collect()
}

/// Columns that no list shows.
const UNLISTED: &[&str] = &["key_public", "random_seed", "told_digest", "guest_password"];

/// A page of servers; without what no list shows of them.
pub async fn page(conn: &mut Conn, dialect: Dialect, select: Select, page: &Page) -> Result<Vec<Server>> {
    select.gathered_page(conn, dialect, (COLUMNS, UNLISTED), page).await?.rows()?.iter().map(Server::from_row).collect()
}

/// What is shown of a server besides its row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// Metadata, by name.
    pub metadata: BTreeMap<String, String>,
    /// Tags, sorted.
    pub tags: Vec<String>,
    /// Addresses, interface by interface.
    pub addresses: Vec<Address>,
    /// Names of security groups, each once.
    pub security_groups: Vec<String>,
    /// The server group that it is in.
    pub server_groups: Vec<String>,
}

/// An address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The network's name.
    pub network: String,
    /// The port's MAC.
    pub mac: String,
    /// The address.
    pub ip: String,
    /// Whether it is a floating one.
    pub floating: bool,
}

/// The details of these servers, with five statements for all of them.
pub async fn details(conn: &mut Conn, dialect: Dialect, servers: &[Server]) -> Result<HashMap<ServerId, Details>> {
    let mut all: HashMap<ServerId, Details> = HashMap::with_capacity(servers.len());
    if servers.is_empty() {
        return Ok(all);
    }
    let mut of = async |listing: &Listing| run(&mut *conn, dialect, listing, servers).await;
    for row in of(&METADATA).await?.rows()? {
        all.entry(row.id("server_id")?).or_default().metadata.insert(row.text("name")?, row.text("value")?);
    }
    for row in of(&TAGS).await?.rows()? {
        all.entry(row.id("server_id")?).or_default().tags.push(row.text("tag")?);
    }
    for row in of(&ADDRESSES).await?.rows()? {
        let addresses = &mut all.entry(row.id("server_id")?).or_default().addresses;
        let (network, mac) = (row.text("network")?, row.text("mac")?);
        let fixed = Address { network, mac, ip: row.text("ip")?, floating: false };
        let floating = row.opt_text("floating")?.map(|ip| Address { ip, floating: true, ..fixed.clone() });
        if addresses.last().is_none_or(|last| last.ip != fixed.ip) {
            addresses.push(fixed);
        }
        addresses.extend(floating);
    }
    for row in of(&GROUPS).await?.rows()? {
        all.entry(row.id("server_id")?).or_default().security_groups.push(row.text("name")?);
    }
    for row in of(&SERVER_GROUPS).await?.rows()? {
        all.entry(row.id("server_id")?).or_default().server_groups.push(row.text("group_id")?);
    }
    Ok(all)
}

/// Something that hangs on servers; `@` in the query stands for their ids.
struct Listing {
    sql: &'static str,
    columns: &'static [&'static str],
}

const METADATA: Listing = Listing {
    sql: "select server_id, name, value from server_metadata where server_id in (@)",
    columns: &["server_id", "name", "value"],
};

const TAGS: Listing = Listing {
    sql: "select server_id, tag from server_tags where server_id in (@) order by tag",
    columns: &["server_id", "tag"],
};

const ADDRESSES: Listing = Listing {
    sql: "select sp.server_id, n.name as network, p.mac, pi.ip, f.address as floating from server_ports sp \
          join ports p on p.id = sp.port_id join networks n on n.id = p.network_id \
          join port_ips pi on pi.port_id = p.id \
          left join floating_ips f on f.port_id = p.id and f.fixed_ip = pi.ip and f.deleted_at is null \
          where sp.server_id in (@) and p.deleted_at is null order by sp.position, pi.position, f.address",
    columns: &["server_id", "network", "mac", "ip", "floating"],
};

const GROUPS: Listing = Listing {
    sql: "select distinct sp.server_id, g.name from server_ports sp \
          join port_security_groups psg on psg.port_id = sp.port_id join security_groups g on g.id = psg.security_group_id \
          where sp.server_id in (@) order by g.name",
    columns: &["server_id", "name"],
};

const SERVER_GROUPS: Listing = Listing {
    sql: "select server_id, group_id from server_group_members where server_id in (@)",
    columns: &["server_id", "group_id"],
};

async fn run(conn: &mut Conn, dialect: Dialect, listing: &Listing, servers: &[Server]) -> Result<Gathered> {
    let ids = json(&servers.iter().map(|server| server.id.as_str()).collect::<Vec<_>>());
    let inner = listing.sql.replace('@', &dialect.elements("$1"));
    let sql = gather::sql(dialect, &inner, listing.columns, &[]);
    Gathered::from_row(&query(AssertSqlSafe(sql)).bind(ids).fetch_one(conn).await?, listing.columns)
}
