//! Images that were made of servers, in the images' own tables.

use model::id::{ImageId, ServerId};

use crate::{Conn, Result, RowExt, query};

/// Backups of that kind beyond the newest `kept`, oldest first.
pub async fn old_backups(conn: &mut Conn, server: &ServerId, kind: &str, kept: i64) -> Result<Vec<ImageId>> {
    let rows = query(
        "select i.id from images i \
         join image_properties u on u.image_id = i.id and u.name = 'instance_uuid' and u.value = $1 \
         join image_properties k on k.image_id = i.id and k.name = 'backup_type' and k.value = $2 \
         where i.status <> 'deleted' order by i.created_at desc, i.id desc",
    )
    .bind(server.as_str())
    .bind(kind)
    .fetch_all(conn)
    .await?;
    let kept = usize::try_from(kept).unwrap_or(0);
    rows.iter().skip(kept).rev().map(|row| row.id("id")).collect()
}
