//! Limits that more than one crate must agree on. A limit that only one crate needs stands in that crate.

use std::time::Duration;

/// Largest page a list returns, whatever `limit` says (Nova's `max_limit`).
pub const PAGE_SIZE_MAX: u32 = 1000;
/// Largest JSON request body in bytes. User-data of 64 KiB in base64 fits several times.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Longest name of any resource, in characters.
pub const NAME_CHARS_MAX: usize = 255;
/// How long a request may take, uploads and downloads apart.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);
/// Largest user-data in bytes before base64 (65,535 characters after it, as Nova has it).
pub const USER_DATA_CHARS_MAX: usize = 65_535;
/// Servers that one request may create.
pub const SERVERS_PER_REQUEST_MAX: u32 = 1000;
