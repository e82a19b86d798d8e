//! Data that hosts deliver: snapshots of servers' disks. See `store::images::deliveries`.

use std::sync::Arc;

use ::flow::BoxFuture;
use axum::body::Body;
use hostlink::{
    ImageAnnouncement,
    server::{ImageIntake, ImageReader},
};
use model::{
    Error, ErrorKind, Result,
    id::{HostId, ImageId},
};
use store::{
    Db, flows,
    images::{self, deliveries},
};
use tokio_util::io::ReaderStream;

use crate::{
    State,
    data::{
        logic,
        upload::{self, Purpose, Upload},
    },
};

const READ_BYTES: usize = 256 << 10;

/// What the agents' listener hands images to.
pub(crate) struct Deliveries {
    pub db: Db,
    pub state: Arc<State>,
}

impl ImageIntake for Deliveries {
    fn take_in<'a>(
        &'a self,
        host: &'a HostId,
        announced: &'a ImageAnnouncement,
        data: ImageReader,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let image = ImageId::new(&*announced.image_id);
            let upload = self.begin(host, &image, announced).await?;
            let body = Body::from_stream(ReaderStream::with_capacity(data, READ_BYTES));
            // On its own: a connection that ends drops this future, and must not end the tidying up.
            let run = tokio::spawn(upload.run(body));
            let (result, _) = run.await.map_err(|e| Error::internal("taking a delivery in", e))?;
            if let Err(error) = &result
                && is_final(error)
            {
                self.refuse(&image, &error.message).await?;
            }
            result
        })
    }
}

impl Deliveries {
    async fn begin(&self, host: &HostId, image: &ImageId, announced: &ImageAnnouncement) -> Result<Upload> {
        let mut tx = self.db.begin().await?;
        let none =
            || Error::not_found("ImageNotFound", format!("The data of image {image} is not expected of this host."));
        let (generation, _) = deliveries::begin(&mut tx, image, host).await?.ok_or_else(none)?;
        let row = images::get(&mut tx, image).await?.ok_or_else(none)?;
        let declared = logic::declared(&row)?;
        let bytes_max = logic::bytes_max(upload::quota_left(&mut tx, &row).await?);
        if announced.size_bytes > bytes_max {
            drop(tx);
            let error = upload::too_large(bytes_max);
            self.refuse(image, &error.message).await?;
            return Err(error);
        }
        flows::wake(&mut tx, image);
        tx.commit().await?;
        Ok(Upload {
            purpose: Purpose::Save,
            convert: self.state.config.convert.clone(),
            db: self.db.clone(),
            files: self.state.files.clone(),
            id: image.clone(),
            generation,
            declared,
            bytes_max,
            announced: Some(announced.size_bytes),
            expected: Some(("sha256".to_owned(), announced.sha256.clone())),
        })
    }

    async fn refuse(&self, image: &ImageId, why: &str) -> Result<()> {
        let mut tx = self.db.begin().await?;
        deliveries::refuse(&mut tx, image, why).await?;
        Ok(tx.commit().await?)
    }
}

/// Whether the same data would be refused again.
fn is_final(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::UnsupportedMedia | ErrorKind::TooLarge | ErrorKind::OverQuota)
}
