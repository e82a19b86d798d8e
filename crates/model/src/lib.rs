//! The vocabulary of Nacre: identifiers, time, errors, limits and arithmetic that every other crate shares.
//!
//! Pure: no input or output, no database, no HTTP. Anything here can be tested with a table.
//!
//! | module | holds |
//! |---|---|
//! | [`id`] | typed identifiers, and the one source of new ones |
//! | [`time`] | [`time::Timestamp`] and the one clock |
//! | [`error`] | the one [`Error`] type of the control plane, transport-neutral |
//! | [`limits`] | every explicit limit that more than one crate must agree on |
//! | [`addr`] | MAC and IP arithmetic |
//! | [`doctor`] | what `nacre doctor` reports |
//! | [`quota`] | quota arithmetic |
//! | [`image_format`] | what an image file is, and whether it is safe to open |
//! | [`placement`] | which host takes a server, and why the others do not |

pub mod addr;
pub mod doctor;
pub mod error;
pub mod id;
pub mod image_format;
pub mod limits;
pub mod placement;
pub mod quota;
pub mod time;

pub use error::{Error, ErrorKind, Result};
pub use id::Id;
pub use time::{Clock, Timestamp};
