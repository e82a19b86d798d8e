//! Who asks.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use model::{
    Result, Timestamp,
    id::{DomainId, ProjectId, UserId},
};

use crate::AccessRule;

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Scope {
    /// Only for asking for another token.
    #[default]
    Unscoped,
    /// One project.
    Project {
        /// The project.
        id: ProjectId,
        /// Its name.
        name: String,
        /// Its domain.
        domain_id: DomainId,
        /// The domain's name.
        domain_name: String,
    },
    /// One domain.
    Domain {
        /// The domain.
        id: DomainId,
        /// Its name.
        name: String,
    },
    /// The installation as a whole.
    System,
}

/// Where a token came from, if its user did not log in for it: then it may do less than the user.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Delegation {
    /// The user logged in.
    #[default]
    None,
    /// A trust.
    Trust {
        /// The trust.
        id: String,
    },
    /// An application credential.
    ApplicationCredential {
        /// The credential.
        id: String,
        /// Whether it may manage application credentials and trusts.
        unrestricted: bool,
    },
    /// An access token of OAuth 1.
    AccessToken {
        /// The access token.
        id: String,
    },
    /// An EC2 credential.
    Ec2,
}

/// An authenticated user with the roles that hold in the token's scope, implied ones included.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The user; empty for nobody.
    pub user_id: Option<UserId>,
    /// The user's name.
    pub user_name: String,
    /// The user's domain.
    pub user_domain_id: String,
    /// The scope.
    pub scope: Scope,
    /// Role names.
    pub roles: Vec<String>,
    /// Where the token came from.
    pub delegation: Delegation,
    /// The only requests that the token may make; none: any.
    pub access_rules: Option<Arc<[AccessRule]>>,
    /// When the token ends.
    pub expires_at: Timestamp,
    /// The token's audit id, which logs may show.
    pub audit_id: String,
}

impl Caller {
    /// Nobody: a request without a token, on a public route.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Whether a token stands behind it.
    pub fn is_authenticated(&self) -> bool {
        self.user_id.is_some()
    }

    /// The user's id; empty text for nobody.
    pub fn user(&self) -> UserId {
        self.user_id.clone().unwrap_or_else(|| UserId::new(""))
    }

    /// The project of the scope.
    pub fn project(&self) -> Option<&ProjectId> {
        match &self.scope {
            Scope::Project { id, .. } => Some(id),
            Scope::Unscoped | Scope::Domain { .. } | Scope::System => None,
        }
    }

    /// Whether the role holds.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|r| r.eq_ignore_ascii_case(role))
    }
}

/// Turns a token into a caller; `identity` does.
pub trait Authenticator: Send + Sync {
    /// The caller behind the token.
    ///
    /// # Errors
    /// Unauthenticated, without saying why: an unknown, expired and revoked token look the same.
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Caller>>;
}
