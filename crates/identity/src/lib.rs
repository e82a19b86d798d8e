//! The identity service: Keystone's API, version 3.
//!
//! Resources: domains hold projects and users; roles are assigned to users on projects, domains or the system; regions,
//! services and endpoints make the catalog; tokens carry all of it to the other services, which ask [`State`] (the
//! cloud's [`web::Authenticator`]) who calls.
//!
//! | module | holds |
//! |---|---|
//! | [`routes`], [`policy`], [`versions`] | the tables |
//! | [`domain`], [`project`], [`user`], [`group`], [`role`], [`assignment`], [`region`], [`service`], [`endpoint`] | the resources |
//! | [`endpoint_group`], [`project_endpoint`], [`policies`], [`registered_limit`], [`limit`], [`domain_config`] | smaller ones |
//! | [`federation`], [`oidc`] | letting in whom an identity provider vouches for |
//! | [`ldap`] | domains whose users and groups are a directory's |
//! | [`credential`], [`ec2`], [`application_credential`], [`access_rule`], [`trust`], [`oauth1`] | other ways in, and what they may do |
//! | [`revoke`] | what voided tokens, as clients see it |
//! | [`token`] | logging in, validating, revoking |
//! | [`state`] | the cache of validated tokens, and why a revocation is immediate |
//! | [`security`] | what passwords must be and when logins are refused |
//! | [`fernet`], [`payload`], [`keys`], [`password`], [`totp`] | the cryptography, thin |
//! | [`bootstrap`], [`doctor`] | what `nacre up` makes sure of, what `nacre doctor` looks for |
//! | [`wire`] | what all resources' shapes share |
//!
//! Invariants: every write ends with [`State::commit`], so that no cached token outlives it; a failed login says nothing
//! about why, in words or in time; passwords and tokens are in no log.

pub mod access_rule;
pub mod application_credential;
pub mod assignment;
pub mod bootstrap;
pub mod credential;
pub mod doctor;
pub mod domain;
pub mod domain_config;
pub mod ec2;
pub mod endpoint;
pub mod endpoint_group;
pub mod federation;
pub mod fernet;
pub mod group;
pub mod keys;
pub mod ldap;
pub mod limit;
pub mod oauth1;
pub mod oidc;
pub mod password;
pub mod payload;
pub mod policies;
pub mod policy;
pub mod project;
pub mod project_endpoint;
pub mod region;
pub mod registered_limit;
pub mod revoke;
pub mod role;
pub mod routes;
pub mod security;
pub mod service;
pub mod state;
pub mod token;
pub mod totp;
pub mod trust;
pub mod user;
pub mod versions;
pub mod wire;

use std::sync::Arc;

pub use bootstrap::{Bootstrap, STANDARD_SERVICES, bootstrap};
pub use doctor::{doctor, repair};
pub use keys::MasterKey;
pub use password::Password;
pub use security::Compliance;
pub use state::State;
use web::{FaultStyle, Service};

/// The service's tables and state.
pub fn service(state: Arc<State>) -> Service {
    Service {
        name: "identity",
        prefix: "/identity",
        routes: routes::ROUTES,
        policy: policy::RULES,
        versions: None,
        faults: FaultStyle::Keystone,
        state,
    }
}

/// What Keystone has no API for.
pub fn own_service(state: Arc<State>) -> Service {
    Service {
        name: "identity-settings",
        prefix: "/nacre/v1/identity",
        routes: routes::OWN_ROUTES,
        policy: policy::OWN_RULES,
        versions: None,
        faults: FaultStyle::Keystone,
        state,
    }
}
