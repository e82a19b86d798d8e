//! The operations on key pairs.

use model::{Error, Result, id::UserId, limits::PAGE_SIZE_MAX, quota};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    Tx,
    compute::keypairs::{self, Keypair},
};
use web::{Cx, Reply, StatusCode, Target, Version};

use super::{logic, openssh};
use crate::{
    input::{invalid, next_link, only_known},
    quotas,
};

/// `GET /v2.1/os-keypairs`.
pub async fn list(cx: &Cx) -> Result<Reply> {
    only_known(cx, Version(2, 75), &["user_id", "limit", "marker"])?;
    let user = authorized_user(cx, cx.query.get("user_id"))?;
    let (limit, marker) = if cx.version >= Version(2, 35) {
        (cx.query.number("limit")?.unwrap_or(PAGE_SIZE_MAX).min(PAGE_SIZE_MAX), cx.query.get("marker"))
    } else {
        (PAGE_SIZE_MAX, None)
    };
    let keys = keypairs::list(&mut *cx.db().read().await?, &user, limit, marker).await?;
    let shown: Vec<Value> = keys.iter().map(|key| json!({"keypair": brief(cx, key)})).collect();
    let mut body = json!({"keypairs": shown});
    if cx.version >= Version(2, 35)
        && let Some(next) = next_link(cx, limit, keys.len(), keys.last().map(|key| key.name.as_str()))
    {
        body["keypairs_links"] = next;
    }
    Reply::ok(&body)
}

/// `GET /v2.1/os-keypairs/{name}`.
pub async fn show(cx: &Cx) -> Result<Reply> {
    only_known(cx, Version(2, 75), &["user_id"])?;
    let user = authorized_user(cx, cx.query.get("user_id"))?;
    let name = cx.param("name");
    let key = keypairs::get(&mut *cx.db().read().await?, &user, name).await?;
    let key = key.ok_or_else(|| not_found(&user, name))?;
    let mut shape = brief(cx, &key);
    shape["user_id"] = json!(key.user_id);
    shape["id"] = json!(key.id);
    shape["created_at"] = json!(key.created_at.to_micros_naive());
    shape["updated_at"] = Value::Null;
    shape["deleted"] = json!(false);
    shape["deleted_at"] = Value::Null;
    Reply::ok(&json!({"keypair": shape}))
}

/// `POST /v2.1/os-keypairs`: takes a public key, or makes a pair for clients older than 2.92.
pub async fn create(cx: &Cx) -> Result<Reply> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        keypair: New,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct New {
        name: String,
        public_key: Option<String>,
        #[serde(rename = "type")]
        kind: Option<String>,
        user_id: Option<String>,
    }
    let new = cx.json::<Body>()?.keypair;
    let user = authorized_user(cx, new.user_id.as_deref())?;
    logic::check_fields(cx.version, new.kind.as_deref(), new.user_id.as_deref())?;
    logic::check_name(cx.version, &new.name)?;
    let (public_key, private_key) = match new.public_key {
        Some(public_key) => (public_key, None),
        None if cx.version >= Version(2, 92) => return Err(invalid("'public_key' is a required property")),
        None => {
            let pair = openssh::generate()?;
            (pair.public_key, Some(pair.private_key))
        }
    };
    let keypair = Keypair {
        fingerprint: openssh::fingerprint(&public_key)?,
        user_id: user,
        name: new.name,
        id: i64::from(rand::random::<u32>() >> 1),
        kind: "ssh".to_owned(),
        public_key,
        created_at: cx.now(),
    };
    let mut tx = cx.db().begin().await?;
    charge(cx, &mut tx, &keypair.user_id).await?;
    keypairs::insert(&mut tx, &keypair).await.map_err(|e| match e.is_unique_violation() {
        true => Error::conflict("KeyPairExists", format!("Key pair '{}' already exists.", keypair.name)),
        false => e.into(),
    })?;
    tx.commit().await?;
    let mut shape = brief(cx, &keypair);
    shape["user_id"] = json!(keypair.user_id);
    if let Some(private_key) = private_key {
        shape["private_key"] = json!(private_key);
    }
    let status = if cx.version >= Version(2, 2) { StatusCode::CREATED } else { StatusCode::OK };
    Reply::json(status, &json!({"keypair": shape}))
}

/// `DELETE /v2.1/os-keypairs/{name}`.
pub async fn delete(cx: &Cx) -> Result<Reply> {
    only_known(cx, Version(2, 75), &["user_id"])?;
    let user = authorized_user(cx, cx.query.get("user_id"))?;
    let name = cx.param("name");
    let mut tx = cx.db().begin().await?;
    if !keypairs::delete(&mut tx, &user, name).await? {
        return Err(not_found(&user, name));
    }
    tx.commit().await?;
    Ok(if cx.version >= Version(2, 2) { Reply::no_content() } else { Reply::accepted() })
}

/// Whose keys it is about: the caller's own, from 2.10 on also another user's for administrators.
fn authorized_user(cx: &Cx, named: Option<&str>) -> Result<UserId> {
    let user = match named {
        Some(named) if cx.version >= Version(2, 10) => UserId::new(named),
        _ => cx.caller.user(),
    };
    cx.authorize(&Target::none().with("user_id", user.as_str()))?;
    Ok(user)
}

/// Refuses one key too many. Keys are counted by user against the limit of the caller's project, as Nova does; the lock
/// keeps two requests from both taking the last place.
async fn charge(cx: &Cx, tx: &mut Tx, user: &UserId) -> Result<()> {
    store::quotas::lock(tx, user.as_str(), quotas::KEY_PAIRS).await?;
    let used = keypairs::count(tx, user).await?;
    let limit = quotas::limit(tx, cx.project()?, quotas::KEY_PAIRS).await?;
    quota::check(&[quota::Demand { resource: quotas::KEY_PAIRS, used, wanted: 1, limit }])
}

fn brief(cx: &Cx, key: &Keypair) -> Value {
    let mut shape = json!({"name": key.name, "public_key": key.public_key, "fingerprint": key.fingerprint});
    if cx.version >= Version(2, 2) {
        shape["type"] = json!(key.kind);
    }
    shape
}

fn not_found(user: &UserId, name: &str) -> Error {
    Error::not_found("KeypairNotFound", format!("Keypair {name} not found for user {user}"))
}
