//! Tables of the service; see its migration.
