//! Images: the records. Their content is `data`.

pub(crate) mod api;
pub(crate) mod flow;
pub(crate) mod logic;
pub(crate) mod wire;
