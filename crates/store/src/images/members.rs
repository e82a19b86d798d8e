//! Projects that a shared image is shared with.

use model::{
    Timestamp,
    id::{ImageId, ProjectId},
};

use super::row::words;
use crate::{Conn, Error, Result, Row, RowExt, Tx, query};

words! {
    /// What a member has said to it.
    MemberStatus {
        Pending = "pending": "Nothing yet: lists don't show the image, asking for its id does.",
        Accepted = "accepted": "The image is in the member's lists.",
        Rejected = "rejected": "The member doesn't want to see it in lists.",
    }
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The image.
    pub image_id: ImageId,
    /// The project.
    pub member: ProjectId,
    /// What it has said to it.
    pub status: MemberStatus,
    /// Since when it is a member.
    pub created_at: Timestamp,
    /// When it last said something.
    pub updated_at: Timestamp,
}

impl Member {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            image_id: row.id("image_id")?,
            member: row.id("member")?,
            status: MemberStatus::of(row, "status")?,
            created_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
        })
    }
}

/// An image's members in the order in which they came.
pub async fn list_members(conn: &mut Conn, image: &ImageId) -> Result<Vec<Member>> {
    let rows = query("select * from image_members where image_id = $1 order by created_at, member")
        .bind(image.as_str())
        .fetch_all(conn)
        .await?;
    rows.iter().map(Member::from_row).collect()
}

/// One member.
pub async fn get_member(conn: &mut Conn, image: &ImageId, member: &ProjectId) -> Result<Option<Member>> {
    let row = query("select * from image_members where image_id = $1 and member = $2")
        .bind(image.as_str())
        .bind(member.as_str())
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(Member::from_row).transpose()
}

/// How many members an image has.
pub async fn count_members(conn: &mut Conn, image: &ImageId) -> Result<i64> {
    let row = query("select count(*) as n from image_members where image_id = $1")
        .bind(image.as_str())
        .fetch_one(conn)
        .await?;
    row.int("n")
}

/// Inserts a member. One that is there already is a unique violation.
pub async fn insert_member(tx: &mut Tx, member: &Member) -> Result<()> {
    query("insert into image_members (image_id, member, status, created_at, updated_at) values ($1, $2, $3, $4, $5)")
        .bind(member.image_id.as_str())
        .bind(member.member.as_str())
        .bind(member.status.as_str())
        .bind(member.created_at.0)
        .bind(member.updated_at.0)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Writes what the member says. False: it is none.
pub async fn set_member_status(tx: &mut Tx, image: &ImageId, member: &ProjectId, status: MemberStatus) -> Result<bool> {
    let now = tx.now();
    let done = query("update image_members set status = $3, updated_at = $4 where image_id = $1 and member = $2")
        .bind(image.as_str())
        .bind(member.as_str())
        .bind(status.as_str())
        .bind(now.0)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Removes a member. False: it was none.
pub async fn delete_member(tx: &mut Tx, image: &ImageId, member: &ProjectId) -> Result<bool> {
    let done = query("delete from image_members where image_id = $1 and member = $2")
        .bind(image.as_str())
        .bind(member.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}
