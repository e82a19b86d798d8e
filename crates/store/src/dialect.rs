//! The only place where SQLite and PostgreSQL differ.

/// Which database is behind a [`crate::Db`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Embedded; one writer at a time, readers beside it.
    Sqlite,
    /// A server that several control planes share.
    Postgres,
}

impl Dialect {
    /// From the URL's scheme.
    pub(crate) fn of(url: &str) -> Option<Self> {
        if url.starts_with("sqlite:") {
            Some(Self::Sqlite)
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            Some(Self::Postgres)
        } else {
            None
        }
    }

    /// What opens a write transaction. SQLite takes the write lock at once: one that is upgraded later can fail.
    pub(crate) fn begin(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }

    /// What each new connection is told first.
    pub(crate) fn session(self) -> &'static [&'static str] {
        match self {
            Self::Sqlite => &[
                "PRAGMA journal_mode = WAL",
                "PRAGMA synchronous = NORMAL",
                "PRAGMA foreign_keys = ON",
                "PRAGMA busy_timeout = 5000",
                "PRAGMA cache_size = -4096",
            ],
            Self::Postgres => &["SET idle_in_transaction_session_timeout = '30s'", "SET lock_timeout = '10s'"],
        }
    }

    /// Appended to a `select` that picks rows to work on: rows that another server holds are passed over. SQLite needs
    /// nothing, its write transactions exclude each other.
    pub(crate) fn skip_locked(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " for update skip locked",
        }
    }

    /// What gathers rows of these columns into one JSON text: a list of lists.
    pub(crate) fn gather(self, columns: &str) -> String {
        match self {
            Self::Sqlite => format!("json_group_array(json_array({columns}))"),
            Self::Postgres => format!("coalesce(json_agg(json_build_array({columns}))::text, '[]')"),
        }
    }

    /// The elements of a JSON list of texts that is bound as one parameter. SQLite walks all parameters to find each, so
    /// a thousand of them cost a million steps.
    pub(crate) fn elements(self, place: &str) -> String {
        match self {
            Self::Sqlite => format!("select value from json_each({place})"),
            Self::Postgres => format!("select json_array_elements_text({place}::json)"),
        }
    }

    /// The order in which rows of the journal's tables were inserted.
    pub(crate) fn insertion(self) -> &'static str {
        match self {
            Self::Sqlite => "rowid",
            Self::Postgres => "written",
        }
    }

    /// Appended to a `select` whose rows a decision depends on until the transaction ends.
    pub(crate) fn for_update(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " for update",
        }
    }
}
