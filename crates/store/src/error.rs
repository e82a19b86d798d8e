//! What can go wrong with the database, and how the control plane sees it.

use std::time::Duration;

/// A result of the database.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the database or of reading a row.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The driver's own error.
    #[error("database: {0}")]
    Sql(#[from] sqlx::Error),
    /// A column held something that its type does not allow.
    #[error("column {column} holds what it must not: {reason}")]
    Column {
        /// The column's name.
        column: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another request took this one's idempotency key while it ran; nothing of this one was done.
    #[error("the idempotency key is another request's")]
    KeyTaken,
    /// The marker of a list names no row that the list would show.
    #[error("marker [{0}] not found")]
    Marker(String),
    /// A schema that this binary is too old for, or a migration that failed.
    #[error("migration: {0}")]
    Migration(String),
}

impl Error {
    /// Whether a unique index refused the row: someone else was faster, or the name is taken.
    pub fn is_unique_violation(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::Database(e)) if e.is_unique_violation())
    }

    /// Whether a foreign key refused the change: the parent is gone, or children are left.
    pub fn is_foreign_key_violation(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::Database(e)) if e.is_foreign_key_violation())
    }

    /// Whether PostgreSQL ended the transaction for another's sake: a deadlock, a lock not had in time.
    fn is_contention(&self) -> bool {
        const DEADLOCK_SERIALIZATION_LOCK: [&str; 3] = ["40P01", "40001", "55P03"];
        matches!(self, Self::Sql(sqlx::Error::Database(e))
            if e.code().is_some_and(|code| DEADLOCK_SERIALIZATION_LOCK.contains(&&*code)))
    }

    fn is_out_of_connections(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_)))
    }
}

impl From<Error> for model::Error {
    fn from(error: Error) -> Self {
        match &error {
            Error::KeyTaken => model::Error::conflict(
                "IdempotentRequestInProgress",
                "Another request with this Idempotency-Key took effect meanwhile; ask again for its answer.",
            )
            .retry_after(Duration::from_secs(1)),
            Error::Marker(_) => model::Error::bad_request("MarkerNotFound", error.to_string()),
            _ if error.is_out_of_connections() || error.is_contention() => {
                model::Error::unavailable("DatabaseBusy", "The database is not reachable or overloaded; try again.")
                    .because(error)
                    .retry_after(Duration::from_secs(2))
            }
            _ => model::Error::internal("using the database", error),
        }
    }
}
