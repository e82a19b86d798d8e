//! EC2 credentials, and tokens for requests that are signed with them.
//!
//! | file | holds |
//! |---|---|
//! | `api.rs` | `/v3/users/{user_id}/credentials/OS-EC2`, `/v3/ec2tokens`, `/v3/s3tokens` |
//! | `logic.rs` | Amazon's signatures, versions 1, 2 and 4 |

pub mod api;
mod logic;
