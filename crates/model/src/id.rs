//! Typed identifiers.
//!
//! OpenStack ids are opaque strings: Keystone writes 32 hex digits, the others a dashed UUID, and bootstrapped objects
//! may have a readable one (`default`). [`Id`] keeps the string and adds the kind, so that a port's id can't be handed
//! to a function that wants a subnet's.

use std::{cmp::Ordering, fmt, hash, marker::PhantomData};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// An identifier of one kind of thing. `K` is a marker from [`kind`].
pub struct Id<K> {
    text: String,
    kind: PhantomData<fn() -> K>,
}

impl<K> Id<K> {
    /// Takes an identifier as it stands (from a request, a row, a report). Nothing is checked: an id that names
    /// nothing is simply not found.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: PhantomData }
    }

    /// A fresh random identifier as a dashed UUID (version 4), as Nova, Neutron and Glance show them.
    pub fn random() -> Self {
        Self::new(random_uuid().to_string())
    }

    /// A fresh random identifier as 32 hex digits, as Keystone shows them.
    pub fn random_hex() -> Self {
        Self::new(random_uuid().simple().to_string())
    }

    /// The identifier's text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same text as an identifier of another kind: a server's flow has the server's own id.
    pub fn cast<T>(&self) -> Id<T> {
        Id::new(self.text.clone())
    }
}

/// A random UUID (version 4). The one place that makes them.
#[allow(clippy::disallowed_methods, reason = "this is the source that the ban points to")]
pub fn random_uuid() -> Uuid {
    Uuid::new_v4()
}

/// A UUID that sorts by the time it was made (version 7): request ids, flow leases, events.
#[allow(clippy::disallowed_methods, reason = "this is the source that the ban points to")]
pub fn ordered_uuid() -> Uuid {
    Uuid::now_v7()
}

/// Whether the text is a UUID in one of the two spellings OpenStack accepts.
pub fn is_uuid_like(text: &str) -> bool {
    matches!(text.len(), 32 | 36) && Uuid::try_parse(text).is_ok()
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        Self::new(self.text.clone())
    }
}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}
impl<K> hash::Hash for Id<K> {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}
impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl<K> From<String> for Id<K> {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}
impl<K> From<&str> for Id<K> {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}
impl<K> AsRef<str> for Id<K> {
    fn as_ref(&self) -> &str {
        &self.text
    }
}
impl<K> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}
impl<'de, K> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self::new)
    }
}

macro_rules! kinds {
    ($($kind:ident => $alias:ident: $doc:literal;)*) => {
        /// Marker types that tell identifiers apart; they have no values.
        pub mod kind {
            $(#[doc = $doc] pub enum $kind {})*
        }
        $(#[doc = concat!("Identifier of ", $doc)] pub type $alias = Id<kind::$kind>;)*
    };
}

kinds! {
    Domain => DomainId: "an identity domain.";
    Project => ProjectId: "a project (tenant).";
    User => UserId: "a user.";
    Group => GroupId: "a group of users.";
    Role => RoleId: "a role.";
    Service => ServiceId: "a service of the catalog.";
    Endpoint => EndpointId: "an endpoint of the catalog.";
    EndpointGroup => EndpointGroupId: "a group of endpoints of the catalog.";
    Policy => PolicyId: "a policy document that services fetch from the identity service.";
    RegisteredLimit => RegisteredLimitId: "the default limit of a service's resource.";
    Limit => LimitId: "a project's or domain's own limit.";
    Image => ImageId: "an image.";
    Network => NetworkId: "a network.";
    Subnet => SubnetId: "a subnet.";
    Port => PortId: "a port.";
    Router => RouterId: "a router.";
    FloatingIp => FloatingIpId: "a floating IP.";
    SecurityGroup => SecurityGroupId: "a security group.";
    SecurityGroupRule => SecurityGroupRuleId: "a security group rule.";
    Server => ServerId: "a server (virtual machine).";
    Volume => VolumeId: "a volume.";
    VolumeSnapshot => VolumeSnapshotId: "a snapshot of a volume.";
    Flavor => FlavorId: "a flavor.";
    Host => HostId: "a hypervisor host.";
    Flow => FlowId: "a flow; the same text as its resource's id.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        assert_eq!(ServerId::random().as_str().len(), 36);
        assert_eq!(ProjectId::random_hex().as_str().len(), 32);
        assert!(is_uuid_like(ServerId::random().as_str()));
        assert!(!is_uuid_like("default"));
    }
}
