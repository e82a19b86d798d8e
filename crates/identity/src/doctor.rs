//! What `nacre doctor` looks for in identity's tables, and what it can put right.

use model::{Result, doctor::Finding};
use store::{
    Db,
    identity::{
        assignments,
        tokens::{self, KeyState},
    },
};

/// Assignments of nobody or on nothing, and keys that don't work out.
///
/// # Errors
/// The database's.
pub async fn doctor(db: &Db) -> Result<Vec<Finding>> {
    let mut conn = db.read().await?;
    let mut findings: Vec<Finding> = assignments::dangling(&mut conn)
        .await?
        .into_iter()
        .map(|(actor, kind, target, role)| {
            let problem = format!("{actor} has role {role} on {kind} {target}, and one of them is gone");
            Finding::new("role assignment", format!("{actor}/{target}/{role}"), problem)
        })
        .collect();
    let keys = tokens::keys(&mut conn).await?;
    for (state, name) in [(KeyState::Primary, "primary"), (KeyState::Staged, "staged")] {
        let count = keys.iter().filter(|key| key.state == state).count();
        if count != 1 && !keys.is_empty() {
            findings.push(Finding::new("token keys", name, format!("there are {count} of them instead of one")));
        }
    }
    Ok(findings)
}

/// Removes the assignments of nobody or on nothing. Keys are left alone: which of them is right, a person must say.
///
/// # Errors
/// The database's.
pub async fn repair(db: &Db) -> Result<()> {
    let mut tx = db.begin().await?;
    // Every server's cache of tokens hears of it.
    tokens::next_revision(&mut tx).await?;
    assignments::remove_dangling(&mut tx).await?;
    Ok(tx.commit().await?)
}
