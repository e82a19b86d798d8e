//! The part of an import that takes long: it fetches, or converts what was staged.

use std::sync::Arc;

use model::{Error, Result, id::ImageId};
use store::{Db, images};

use super::fetch;
use crate::{
    State,
    data::{
        Received,
        logic::{self, Declared},
        upload::{self, Purpose, Upload},
    },
};

/// What is to be done.
pub(crate) enum Work {
    /// Fetch from this address.
    Fetch(String),
    /// Convert the staged file.
    Convert(String),
}

/// Begins the job of this generation, unless this process has begun it before.
pub(crate) fn spawn(state: &Arc<State>, db: &Db, image: ImageId, generation: i64, work: Work) {
    let key = (image.clone(), generation);
    if !state.jobs().insert(key.clone()) {
        return;
    }
    let (state, db) = (state.clone(), db.clone());
    tokio::spawn(async move {
        if let Err(error) = run(&state, &db, image, generation, work).await {
            // Its flow finds it: nobody reports on this import any more.
            tracing::error!(image = %key.0, ?error, "an import could not be carried on");
        }
        state.jobs().remove(&key);
    });
}

async fn run(state: &Arc<State>, db: &Db, id: ImageId, generation: i64, work: Work) -> Result<()> {
    let upload = begin(state, db, id, generation).await?;
    match work {
        Work::Convert(source) => {
            let Declared::Recognised(format, _) = upload.declared else {
                return Err(Error::internal("converting an image", "its format needs none"));
            };
            let converted = upload.convert_file(format, &source).await;
            upload.end(converted).await
        }
        Work::Fetch(uri) => match fetch::open(&uri, &state.config.download_networks).await {
            Ok((length, body)) => {
                let upload = Upload { announced: length, ..upload };
                let (result, _) = upload.run(body).await;
                // Told by the task; not an error of ours.
                result.or(Ok(()))
            }
            Err(refused) => upload.end(Err::<Received, _>(refused)).await,
        },
    }
}

async fn begin(state: &Arc<State>, db: &Db, id: ImageId, generation: i64) -> Result<Upload> {
    let mut conn = db.read().await?;
    let gone = || Error::not_found("ImageNotFound", "The image is gone.");
    let image = images::get(&mut conn, &id).await?.ok_or_else(gone)?;
    Ok(Upload {
        purpose: Purpose::Import,
        convert: state.config.convert.clone(),
        db: db.clone(),
        files: state.files.clone(),
        declared: logic::declared(&image)?,
        bytes_max: logic::bytes_max(upload::quota_left(&mut conn, &image).await?),
        id,
        generation,
        announced: None,
        expected: None,
    })
}
