//! The shapes of requests and of the token document.

use serde::{Deserialize, Serialize};

use crate::password::Password;

/// `POST /v3/auth/tokens`.
#[derive(Debug, Deserialize)]
pub struct AuthRequest {
    /// Who asks and how.
    pub identity: Identity,
    /// What the token shall be good for.
    pub scope: Option<ScopeRequest>,
}

/// Who asks and how.
#[derive(Debug, Deserialize)]
pub struct Identity {
    /// Names of methods; each has its data under its name.
    pub methods: Vec<String>,
    /// Data of `password`.
    pub password: Option<PasswordMethod>,
    /// Data of `token`.
    pub token: Option<TokenMethod>,
    /// Data of `totp`.
    pub totp: Option<TotpMethod>,
    /// Data of `application_credential`.
    pub application_credential: Option<ApplicationCredentialMethod>,
}

/// Data of `totp`.
#[derive(Debug, Deserialize)]
pub struct TotpMethod {
    /// The user with the passcode.
    pub user: TotpUser,
}

/// The user with the passcode.
#[derive(Debug, Deserialize)]
pub struct TotpUser {
    /// Either this...
    pub id: Option<String>,
    /// ...or this...
    pub name: Option<String>,
    /// ...with this.
    pub domain: Option<Reference>,
    /// The passcode.
    pub passcode: Secret,
}

/// Text that is not shown.
#[derive(Deserialize)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Data of `application_credential`.
#[derive(Debug, Deserialize)]
pub struct ApplicationCredentialMethod {
    /// Either this...
    pub id: Option<String>,
    /// ...or this...
    pub name: Option<String>,
    /// ...with this.
    pub user: Option<UserRequest>,
    /// Its secret.
    pub secret: Option<Password>,
}

/// Data of `password`.
#[derive(Debug, Deserialize)]
pub struct PasswordMethod {
    /// The user with the password.
    pub user: UserRequest,
}

/// The user with the password.
#[derive(Debug, Deserialize)]
pub struct UserRequest {
    /// Either this...
    pub id: Option<String>,
    /// ...or this...
    pub name: Option<String>,
    /// ...with this.
    pub domain: Option<Reference>,
    /// The password.
    pub password: Option<Password>,
}

/// Data of `token`.
#[derive(Deserialize)]
pub struct TokenMethod {
    /// The token.
    pub id: String,
}

impl std::fmt::Debug for TokenMethod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenMethod(..)")
    }
}

/// A domain by id or by name.
#[derive(Clone, Debug, Deserialize)]
pub struct Reference {
    /// Its id.
    pub id: Option<String>,
    /// Its name.
    pub name: Option<String>,
}

/// A project by id, or by name and domain.
#[derive(Clone, Debug, Deserialize)]
pub struct ProjectReference {
    /// Its id.
    pub id: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// The domain in which the name is looked up.
    pub domain: Option<Reference>,
}

/// `"unscoped"`, or an object with one key.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum ScopeRequest {
    /// `"unscoped"`.
    Word(String),
    /// `{"project": {...}}` and so on.
    Object(Box<ScopeObject>),
}

/// Exactly one of these.
#[derive(Debug, Deserialize)]
pub struct ScopeObject {
    /// One project.
    pub project: Option<ProjectReference>,
    /// One domain.
    pub domain: Option<Reference>,
    /// `{"all": true}`.
    pub system: Option<SystemScope>,
    /// The older spelling of `"unscoped"`.
    pub unscoped: Option<serde_json::Value>,
    /// What a trust hands on.
    #[serde(rename = "OS-TRUST:trust")]
    pub trust: Option<Reference>,
}

/// `{"all": true}`.
#[derive(Debug, Deserialize)]
pub struct SystemScope {
    /// Whether all of it: nothing else exists.
    pub all: Option<bool>,
}

/// `{"token": {...}}`, the catalog aside.
#[derive(Serialize)]
pub struct TokenDocument<'a> {
    /// How the user authenticated.
    pub methods: Vec<&'static str>,
    /// Who.
    pub user: UserInToken<'a>,
    /// The token's names.
    pub audit_ids: Vec<String>,
    /// When it ends.
    pub expires_at: String,
    /// When it was made.
    pub issued_at: String,
    /// The project that it is good for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<InDomain<'a>>,
    /// Never: domains aren't projects here. Keystone shows it beside a project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_domain: Option<bool>,
    /// The domain that it is good for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<Named<'a>>,
    /// That it is good for the installation as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<AllOfIt>,
    /// The roles that hold, implied ones included.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Named<'a>>,
    /// Other clouds that trust this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_providers: Option<&'a serde_json::Value>,
    /// What made it, if not a login: under its own name.
    #[serde(flatten)]
    pub origin: std::collections::BTreeMap<&'static str, serde_json::Value>,
}

/// Something with a name.
#[derive(Clone, Copy, Serialize)]
pub struct Named<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// Something with a name in a domain.
#[derive(Serialize)]
pub struct InDomain<'a> {
    /// Its domain.
    pub domain: Named<'a>,
    /// Its id.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// The user.
#[derive(Serialize)]
pub struct UserInToken<'a> {
    /// Its domain.
    pub domain: Named<'a>,
    /// Its id.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// When its password expires.
    pub password_expires_at: Option<&'a str>,
    /// By whose word it is in, where an identity provider's was.
    #[serde(rename = "OS-FEDERATION", skip_serializing_if = "Option::is_none")]
    pub federation: Option<serde_json::Value>,
}

/// `{"all": true}`.
#[derive(Serialize)]
pub struct AllOfIt {
    /// True.
    pub all: bool,
}
