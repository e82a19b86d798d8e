//! What a token says: the msgpack inside Fernet.
//!
//! Like Keystone's payloads it starts with a version that tells the scope, and packs ids that are 32 hex digits as 16
//! bytes, so that a token stays below 255 characters. Unlike them it carries the generations of user and scope: what
//! voids tokens (a new password, a disabled project) counts a generation up, exactly and whatever the clocks say.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use model::{
    Timestamp,
    id::{DomainId, ProjectId, UserId},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Ways to authenticate, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Methods(u16);

impl Methods {
    /// By password.
    pub const PASSWORD: Self = Self(1 << 1);
    /// By another token.
    pub const TOKEN: Self = Self(1 << 2);
    /// By an application credential.
    pub const APPLICATION_CREDENTIAL: Self = Self(1 << 3);
    /// By an access token of OAuth 1.
    pub const OAUTH1: Self = Self(1 << 4);
    /// By a passcode that changes with time.
    pub const TOTP: Self = Self(1 << 5);
    /// By a signature with an EC2 credential.
    pub const EC2: Self = Self(1 << 6);

    const NAMED: &[(Self, &str)] = &[
        (Self::PASSWORD, "password"),
        (Self::TOKEN, "token"),
        (Self::APPLICATION_CREDENTIAL, "application_credential"),
        (Self::OAUTH1, "oauth1"),
        (Self::TOTP, "totp"),
        (Self::EC2, "ec2credential"),
        (Self::OPENID, "openid"),
    ];

    /// By an identity provider's word.
    pub const OPENID: Self = Self(1 << 7);

    /// Whether all of those are among them.
    pub fn contain(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Both of them.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Their names.
    pub fn names(self) -> Vec<&'static str> {
        Self::NAMED.iter().filter(|(method, _)| self.0 & method.0 != 0).map(|(_, name)| *name).collect()
    }

    /// The names of all there are.
    pub fn known() -> Vec<&'static str> {
        Self::NAMED.iter().map(|(_, name)| *name).collect()
    }

    /// Whether a signature with an EC2 credential is among them.
    pub fn is_ec2(self) -> bool {
        self.0 & Self::EC2.0 != 0
    }

    /// Whether one of them stands for a credential that may do less than its user: tokens from such a one are not
    /// exchanged for others.
    pub fn are_delegated(self) -> bool {
        let delegated = Self::APPLICATION_CREDENTIAL.with(Self::OAUTH1).with(Self::EC2);
        self.0 & delegated.0 != 0
    }
}

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenScope {
    /// Only for asking for another one.
    Unscoped,
    /// One domain.
    Domain(DomainId),
    /// One project.
    Project(ProjectId),
    /// The installation as a whole.
    System,
}

/// From what a token was made that may do less than its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A trust; with the generation of its other party, whose password voids it too.
    Trust(String, i64),
    /// An application credential.
    ApplicationCredential(String),
    /// An access token of OAuth 1.
    AccessToken(String),
}

/// A token's contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Whose it is.
    pub user_id: UserId,
    /// The user's generation when it was made.
    pub user_generation: i64,
    /// How the user authenticated.
    pub methods: Methods,
    /// What it is good for.
    pub scope: TokenScope,
    /// The project's generation when it was made.
    pub scope_generation: i64,
    /// From what it was made, if not by a login.
    pub origin: Option<Origin>,
    /// When it was made.
    pub issued_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Its own name, which may be logged.
    pub audit_id: AuditId,
    /// The first token of the chain that it was rescoped from.
    pub parent_audit_id: Option<AuditId>,
}

impl Payload {
    /// The two audit ids as tokens show them.
    pub fn audit_ids(&self) -> Vec<String> {
        [Some(&self.audit_id), self.parent_audit_id.as_ref()].into_iter().flatten().map(AuditId::to_string).collect()
    }

    /// As msgpack.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (version, scope) = match &self.scope {
            TokenScope::Unscoped => (UNSCOPED, None),
            TokenScope::Domain(id) => (DOMAIN, Some(Compact(id.as_str().to_owned()))),
            TokenScope::Project(id) => (PROJECT, Some(Compact(id.as_str().to_owned()))),
            TokenScope::System => (SYSTEM, None),
        };
        let packed = Packed {
            version,
            user: Compact(self.user_id.as_str().to_owned()),
            user_generation: self.user_generation,
            methods: self.methods,
            scope,
            scope_generation: self.scope_generation,
            issued_at: self.issued_at.0,
            expires_at: self.expires_at.0,
            audit_id: self.audit_id,
            parent_audit_id: self.parent_audit_id,
            origin: self.origin.as_ref().map(|origin| match origin {
                Origin::Trust(id, generation) => (TRUST, Compact(id.clone()), *generation),
                Origin::ApplicationCredential(id) => (APPLICATION_CREDENTIAL, Compact(id.clone()), 0),
                Origin::AccessToken(id) => (ACCESS_TOKEN, Compact(id.clone()), 0),
            }),
        };
        // Writing plain integers and bytes into memory can't fail; empty bytes would be an invalid token.
        rmp_serde::to_vec(&packed).unwrap_or_default()
    }

    /// From msgpack; none where it isn't ours.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let packed: Packed = rmp_serde::from_slice(bytes).ok()?;
        let scope = match (packed.version, packed.scope) {
            (UNSCOPED, None) => TokenScope::Unscoped,
            (DOMAIN, Some(id)) => TokenScope::Domain(DomainId::new(id.0)),
            (PROJECT, Some(id)) => TokenScope::Project(ProjectId::new(id.0)),
            (SYSTEM, None) => TokenScope::System,
            _ => return None,
        };
        let origin = match packed.origin {
            None => None,
            Some((TRUST, id, generation)) => Some(Origin::Trust(id.0, generation)),
            Some((APPLICATION_CREDENTIAL, id, _)) => Some(Origin::ApplicationCredential(id.0)),
            Some((ACCESS_TOKEN, id, _)) => Some(Origin::AccessToken(id.0)),
            Some(_) => return None,
        };
        Some(Self {
            origin,
            user_id: UserId::new(packed.user.0),
            user_generation: packed.user_generation,
            methods: packed.methods,
            scope,
            scope_generation: packed.scope_generation,
            issued_at: Timestamp(packed.issued_at),
            expires_at: Timestamp(packed.expires_at),
            audit_id: packed.audit_id,
            parent_audit_id: packed.parent_audit_id,
        })
    }
}

/// That some methods of a login held, so that the others can follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Who.
    pub user_id: UserId,
    /// The user's generation when it was made.
    pub user_generation: i64,
    /// What held.
    pub methods: Methods,
    /// When it was made.
    pub issued_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl Receipt {
    /// As msgpack. Begins with a number that no token begins with.
    pub fn to_bytes(&self) -> Vec<u8> {
        let user = Compact(self.user_id.as_str().to_owned());
        let packed = (RECEIPT, user, self.user_generation, self.methods, self.issued_at.0, self.expires_at.0);
        rmp_serde::to_vec(&packed).unwrap_or_default()
    }

    /// From msgpack; none where it isn't ours.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (version, user, user_generation, methods, issued_at, expires_at): (u8, Compact, i64, Methods, i64, i64) =
            rmp_serde::from_slice(bytes).ok()?;
        (version == RECEIPT).then(|| Self {
            user_id: UserId::new(user.0),
            user_generation,
            methods,
            issued_at: Timestamp(issued_at),
            expires_at: Timestamp(expires_at),
        })
    }
}

// Keystone's numbers for the same scopes.
const UNSCOPED: u8 = 0;
const DOMAIN: u8 = 1;
const PROJECT: u8 = 2;
const SYSTEM: u8 = 8;
const RECEIPT: u8 = 100;
const TRUST: u8 = 3;
const ACCESS_TOKEN: u8 = 7;
const APPLICATION_CREDENTIAL: u8 = 9;

/// Written as an array, in this order.
#[derive(Serialize, Deserialize)]
struct Packed {
    version: u8,
    user: Compact,
    user_generation: i64,
    methods: Methods,
    scope: Option<Compact>,
    scope_generation: i64,
    issued_at: i64,
    expires_at: i64,
    audit_id: AuditId,
    parent_audit_id: Option<AuditId>,
    /// Absent in tokens of the release before.
    #[serde(default)]
    origin: Option<(u8, Compact, i64)>,
}

/// 16 random bytes that name a token without being one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AuditId([u8; 16]);

impl AuditId {
    /// A fresh one.
    pub fn random() -> Self {
        Self(*model::id::random_uuid().as_bytes())
    }
}

impl fmt::Display for AuditId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for AuditId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for AuditId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for AuditId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match from.deserialize_any(BytesOrText)? {
            Read::Bytes(bytes) => Ok(Self(bytes)),
            Read::Text(_) => Err(de::Error::custom("an audit id is 16 bytes")),
        }
    }
}

/// An id: 16 bytes where it is 32 lower-case hex digits, text otherwise.
struct Compact(String);

impl Serialize for Compact {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut bytes = [0; 16];
        let plain_hex = hex::decode_to_slice(&self.0, &mut bytes).is_ok() && hex::encode(bytes) == self.0;
        if plain_hex { to.serialize_bytes(&bytes) } else { to.serialize_str(&self.0) }
    }
}

impl<'de> Deserialize<'de> for Compact {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match from.deserialize_any(BytesOrText)? {
            Read::Bytes(bytes) => Self(hex::encode(bytes)),
            Read::Text(text) => Self(text),
        })
    }
}

enum Read {
    Bytes([u8; 16]),
    Text(String),
}

struct BytesOrText;

impl de::Visitor<'_> for BytesOrText {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("16 bytes or text")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Read, E> {
        bytes.try_into().map(Read::Bytes).map_err(|_| E::invalid_length(bytes.len(), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Read, E> {
        Ok(Read::Text(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_stays_small() {
        let scopes = [
            TokenScope::Unscoped,
            TokenScope::Domain(DomainId::new("default")),
            TokenScope::Project(ProjectId::random_hex()),
            TokenScope::Project(ProjectId::new("0123456789ABCDEF0123456789ABCDEF")),
            TokenScope::System,
        ];
        let origins = [
            None,
            Some(Origin::Trust(model::Id::<()>::random_hex().as_str().to_owned(), 3)),
            Some(Origin::ApplicationCredential(model::Id::<()>::random_hex().as_str().to_owned())),
            Some(Origin::AccessToken(model::Id::<()>::random_hex().as_str().to_owned())),
        ];
        for (scope, origin) in scopes.into_iter().flat_map(|s| origins.clone().map(|o| (s.clone(), o))) {
            let payload = Payload {
                user_id: UserId::random_hex(),
                user_generation: 3,
                methods: Methods::PASSWORD.with(Methods::TOKEN),
                scope,
                scope_generation: 70_000,
                // What was made from a delegation is not exchanged for another, so it has no parent.
                parent_audit_id: origin.is_none().then(AuditId::random),
                origin,
                issued_at: Timestamp(1_795_000_000_000_001),
                expires_at: Timestamp(1_795_014_400_000_001),
                audit_id: AuditId::random(),
            };
            let bytes = payload.to_bytes();
            assert_eq!(Payload::from_bytes(&bytes).as_ref(), Some(&payload));
            let token = crate::fernet::Key::random().seal(payload.issued_at, &bytes);
            assert!(token.len() <= 255, "{} characters", token.len());
            assert_eq!(payload.audit_ids().len(), if payload.origin.is_none() { 2 } else { 1 });
        }
        let receipt = Receipt {
            user_id: UserId::random_hex(),
            user_generation: 1,
            methods: Methods::TOTP,
            issued_at: Timestamp(1),
            expires_at: Timestamp(2),
        };
        assert_eq!(Receipt::from_bytes(&receipt.to_bytes()).as_ref(), Some(&receipt));
        assert_eq!(Payload::from_bytes(&receipt.to_bytes()), None, "a receipt is no token");
        assert_eq!(Payload::from_bytes(b"\x93\x01\x02\x03"), None);
        assert_eq!(Payload::from_bytes(b""), None);
    }
}
