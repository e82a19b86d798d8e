//! Glance's catalogue of metadata definitions: what properties images, flavors and others may have, for whoever builds
//! forms for them. Nothing here enforces anything.
//!
//! | file | holds |
//! |---|---|
//! | `namespace.rs` | namespaces |
//! | `item.rs` | what they hold: objects, properties, tags |
//! | `resource_type.rs` | the types of resources that they describe |
//! | `wire.rs` | shapes and their checks |
//! | `definition.rs` | the schemas that clients read |

pub(crate) mod definition;
pub(crate) mod item;
pub(crate) mod namespace;
pub(crate) mod resource_type;
mod wire;
