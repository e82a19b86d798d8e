//! Tables of the identity service.
//!
//! | module | tables |
//! |---|---|
//! | [`domains`] | `domains` |
//! | [`projects`] | `projects` |
//! | [`users`] | `users` |
//! | [`groups`] | `user_groups`, `group_members` |
//! | [`roles`] | `roles`, `role_implications` |
//! | [`assignments`] | `role_assignments` |
//! | [`bulk`] | many rows of many tables, for measurements |
//! | [`catalog`] | `regions`, `catalog_services`, `catalog_endpoints` |
//! | [`logins`] | `user_passwords`, `login_failures` |
//! | [`endpoint_filters`] | `project_endpoints`, `endpoint_groups`, `project_endpoint_groups` |
//! | [`policies`] | `policies`, `policy_associations` |
//! | [`limits`] | `registered_limits`, `limits` |
//! | [`domain_config`] | `domain_config` |
//! | [`federation`] | `identity_providers`, `federation_mappings`, `federation_protocols`, `service_providers` |
//! | [`federated_users`] | `federated_users`, `expiring_group_members` |
//! | [`oidc`] | `oidc_clients`, `oidc_logins` |
//! | [`directory`] | `directory_entries` |
//! | [`credentials`] | `credentials`, `secret_keys` |
//! | [`application_credentials`] | `application_credentials`, `access_rules`, `application_credential_rules` |
//! | [`trusts`] | `trusts` |
//! | [`oauth`] | `oauth_consumers`, `oauth_tokens` |
//! | [`revocations`] | `revocation_events` |
//! | [`tokens`] | `fernet_keys`, `token_revocations`, `identity_revision` |
//!
//! Invariants: every write transaction ends with [`tokens::next_revision`], which is how caches of validated tokens
//! hear of it; a token is void once the `generation` of its user or project has moved on.

pub mod application_credentials;
pub mod assignments;
pub mod bulk;
pub mod catalog;
pub mod credentials;
pub mod directory;
pub mod domain_config;
pub mod domains;
pub mod endpoint_filters;
pub mod federated_users;
pub mod federation;
pub mod groups;
pub mod limits;
pub mod logins;
pub mod oauth;
pub mod oidc;
pub mod policies;
pub mod projects;
pub mod revocations;
pub mod roles;
pub mod tokens;
pub mod trusts;
pub mod users;

/// Attributes of the client's own, which Keystone keeps beside those it knows.
pub type Extra = serde_json::Map<String, serde_json::Value>;

/// A JSON document as text for a column.
fn json_text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
