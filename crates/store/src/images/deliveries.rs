//! Images whose data a host delivers: snapshots of servers' disks.
//!
//! ```text
//! compute's transaction:  create(image) + expect(image, host, the flow to wake)
//! host -> image service:  begin ... finish_upload, or refuse          each wakes that flow
//! compute's step:         looks at the image's status, and at `refusal`
//! ```
//!
//! A delivery that breaks off may begin anew at any time: [`begin`] raises the generation, so that what the attempt
//! before has left can never become the data. Deleting the image ends it.

use model::{
    Result as ModelResult, Timestamp,
    id::{FlowId, HostId, ImageId, ProjectId},
};

use super::{COUNT_QUOTA, Image, insert};
use crate::{Conn, Result, Row, RowExt, Tx, flows, query, quotas};

/// The kind of an image's flow and the step in which it begins.
pub const FLOW: (&str, &str) = ("image", "rest");
/// Images of a project, unless the operator says otherwise.
pub const COUNT_DEFAULT: i64 = 1000;

/// An image that waits for what a host delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The image.
    pub image_id: ImageId,
    /// The only host that may.
    pub host_id: HostId,
    /// The flow to wake when the data is there or refused: the server's.
    pub flow_id: FlowId,
    /// Why what came was refused for good; empty while it was not.
    pub refusal: String,
    /// Since when it is expected.
    pub created_at: Timestamp,
}

impl Delivery {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            image_id: row.id("image_id")?,
            host_id: row.id("host_id")?,
            flow_id: row.id("flow_id")?,
            refusal: row.text("refusal")?,
            created_at: row.time("created_at")?,
        })
    }
}

/// Inserts an image that has no data yet, its flow, and the charge of its owner's quota of images.
///
/// # Errors
/// Over quota; conflict where the id is taken.
pub async fn create(tx: &mut Tx, image: &Image) -> ModelResult<()> {
    quotas::charge(tx, &image.owner, &[count_charge()]).await?;
    insert(tx, image).await.map_err(|error| {
        if error.is_unique_violation() {
            return model::Error::conflict("Duplicate", format!("Image ID {} already exists!", image.id));
        }
        error.into()
    })?;
    let (kind, first) = FLOW;
    Ok(flows::insert(tx, &image.id, kind, first, None).await?)
}

/// One image more.
pub fn count_charge() -> quotas::Charge {
    quotas::Charge { resource: COUNT_QUOTA, default_limit: COUNT_DEFAULT, amount: 1 }
}

/// Expects the image's data of that host, and of no other any more.
pub async fn expect(tx: &mut Tx, image: &ImageId, host: &HostId, flow: &FlowId) -> Result<()> {
    let now = tx.now();
    query(
        "insert into image_deliveries (image_id, host_id, flow_id, created_at) values ($1, $2, $3, $4) \
         on conflict (image_id) do update set host_id = excluded.host_id, flow_id = excluded.flow_id, refusal = ''",
    )
    .bind(image.as_str())
    .bind(host.as_str())
    .bind(flow.as_str())
    .bind(now.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What is expected of whom.
pub async fn get(conn: &mut Conn, image: &ImageId) -> Result<Option<Delivery>> {
    let row =
        query("select * from image_deliveries where image_id = $1").bind(image.as_str()).fetch_optional(conn).await?;
    row.as_ref().map(Delivery::from_row).transpose()
}

/// Begins an attempt of the host: its generation, with the owner whose quota it is charged to. None where nothing is
/// expected of it, or the image has its data.
pub async fn begin(tx: &mut Tx, image: &ImageId, host: &HostId) -> Result<Option<(i64, ProjectId)>> {
    let now = tx.now();
    let row = query(
        "update images set status = 'saving', generation = generation + 1, upload_seen = $3, updated_at = $3 \
         where id = $1 and status in ('queued', 'saving') and id in \
         (select image_id from image_deliveries where image_id = $1 and host_id = $2 and refusal = '') \
         returning generation, owner",
    )
    .bind(image.as_str())
    .bind(host.as_str())
    .bind(now.0)
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| Ok((row.int("generation")?, row.id("owner")?))).transpose()
}

/// Notes that what was delivered can't become the data, and wakes whoever waits.
pub async fn refuse(tx: &mut Tx, image: &ImageId, why: &str) -> Result<()> {
    query("update image_deliveries set refusal = $2 where image_id = $1")
        .bind(image.as_str())
        .bind(why)
        .execute(&mut **tx)
        .await?;
    wake(tx, image).await
}

/// Wakes whoever waits for the image's data, if anyone does.
pub async fn wake(tx: &mut Tx, image: &ImageId) -> Result<()> {
    if let Some(delivery) = get(tx, image).await? {
        flows::wake(tx, &delivery.flow_id);
    }
    Ok(())
}
