//! Rows against files, both ways.

use std::collections::HashMap;

use model::{Result, doctor::Finding, id::ImageId};
use store::{
    Db,
    images::{self, Placement, Status},
};

use crate::{
    State,
    data::{Observed, generation_of},
};

/// What rows and files disagree about: files without rows, rows without files, wrong sizes, quota that differs.
///
/// # Errors
/// When the database or the directory can't be read.
pub async fn doctor(db: &Db, state: &State) -> Result<Vec<Finding>> {
    // Files first: one that an upload completes between the two looks then has its row.
    let files = state.files.observe().await?;
    let mut conn = db.read().await?;
    let mut findings = compare(&images::placements(&mut conn).await?, &files);
    for (quota, project, recorded, counted) in images::quota_drift(&mut conn).await? {
        let problem = format!("{recorded} of {quota} are recorded, {counted} are in use");
        findings.push(Finding::new("quota", project.as_str(), problem));
    }
    Ok(findings)
}

/// Repairs what can be: removes files without rows, counts quota anew. What is lost stays a finding.
///
/// # Errors
/// When the database or the directory can't be written.
pub async fn repair(db: &Db, state: &State) -> Result<()> {
    let files = state.files.observe().await?;
    let rows = images::placements(&mut *db.read().await?).await?;
    let by_id: HashMap<&ImageId, &Placement> = rows.iter().map(|row| (&row.id, row)).collect();
    for stray in files.iter().filter(|file| of_file(file, by_id.get(&file.image).copied()).is_some()) {
        tracing::warn!(image = %stray.image, name = stray.name, "a file without an image removed");
        state.files.remove_stray(stray).await?;
    }
    let mut tx = db.begin().await?;
    images::recount_quotas(&mut tx).await?;
    Ok(tx.commit().await?)
}

fn compare(rows: &[Placement], files: &[Observed]) -> Vec<Finding> {
    let by_id: HashMap<&ImageId, &Placement> = rows.iter().map(|row| (&row.id, row)).collect();
    let mut findings: Vec<Finding> =
        files.iter().filter_map(|file| of_file(file, by_id.get(&file.image).copied())).collect();
    let sizes: HashMap<String, u64> = files
        .iter()
        .filter_map(|file| file.name.as_ref().map(|name| (format!("{}/{name}", file.image), file.size)))
        .collect();
    findings.extend(rows.iter().filter_map(|row| of_row(row, &sizes)));
    findings
}

fn of_file(file: &Observed, row: Option<&Placement>) -> Option<Finding> {
    let path = file.name.as_ref().map_or_else(|| file.image.to_string(), |name| format!("{}/{name}", file.image));
    let finding = |problem: &str| Some(Finding::new("image file", &path, problem));
    let Some(row) = row else { return finding("no image has it") };
    let generation = file.name.as_deref().and_then(generation_of);
    match row.status {
        // Its flow removes whatever there is; an empty folder is where a failed upload was.
        Status::Deleted => None,
        _ if file.name.is_none() => None,
        Status::Active | Status::Deactivated if row.file.as_ref() == Some(&path) => None,
        Status::Saving | Status::Uploading | Status::Importing if generation == Some(row.generation) => None,
        // What was staged, while it is converted.
        Status::Importing if generation.is_some_and(|g| g < row.generation) => None,
        Status::Active
        | Status::Deactivated
        | Status::Saving
        | Status::Uploading
        | Status::Importing
        | Status::Queued => finding("its image has other data"),
    }
}

fn of_row(row: &Placement, sizes: &HashMap<String, u64>) -> Option<Finding> {
    let finding = |problem: String| Some(Finding::new("image", row.id.as_str(), problem));
    match (row.status, &row.file) {
        (Status::Queued | Status::Saving | Status::Uploading | Status::Importing | Status::Deleted, _) => None,
        (_, None) => finding("it is active and has no data".to_owned()),
        (_, Some(file)) => match (sizes.get(file), row.size) {
            (None, _) => finding(format!("its file {file} is missing")),
            (Some(found), Some(size)) if i64::try_from(*found) == Ok(size) => None,
            (Some(found), size) => {
                finding(format!("its file {file} has {found} bytes instead of {}", size.unwrap_or_default()))
            }
        },
    }
}
