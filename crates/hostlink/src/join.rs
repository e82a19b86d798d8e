//! How a host becomes one of the cloud's: a one-time token buys a certificate.
//!
//! A token is `nacre1.<secret>.<fingerprint>`: the secret shows the control plane that the host was invited, the
//! fingerprint of the authority shows the host that it talks to the cloud that invited it. So neither trusts the
//! network. The control plane keeps only a hash of the secret, as of a password.

use std::{fmt, fmt::Write, str::FromStr, sync::Arc};

use model::id::HostId;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
};
use tonic::transport::{ClientTlsConfig, Endpoint};

use crate::{
    JoinRequest,
    generated::enrol_client::EnrolClient,
    pki::{self, Authority, CONTROL_NAME, Identity, PkiError},
};

/// How long joining may take.
const JOIN_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// An invitation to join.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// What the control plane recognises; it keeps the hash of it.
    pub secret: String,
    fingerprint: [u8; 32],
}

impl JoinToken {
    /// A new invitation to the cloud of this authority.
    pub fn generate(authority: &Authority) -> Self {
        let secret = format!("{}{}", model::id::random_uuid().simple(), model::id::random_uuid().simple());
        Self { secret, fingerprint: authority.fingerprint() }
    }
}

/// The text to hand to the host's administrator. A secret.
impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nacre1.{}.", self.secret)?;
        self.fingerprint.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken")
    }
}

impl FromStr for JoinToken {
    type Err = JoinError;

    fn from_str(text: &str) -> Result<Self, JoinError> {
        let mut parts = text.trim().split('.');
        let (Some("nacre1"), Some(secret), Some(hex), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JoinError::Token);
        };
        if secret.is_empty() || hex.len() != 64 || !hex.is_ascii() {
            return Err(JoinError::Token);
        }
        let mut fingerprint = [0; 32];
        for (place, byte) in fingerprint.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[place * 2..place * 2 + 2], 16).map_err(|_| JoinError::Token)?;
        }
        Ok(Self { secret: secret.to_owned(), fingerprint })
    }
}

/// Why a host could not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is not one.
    #[error("this is not a join token: they look like nacre1.SECRET.FINGERPRINT")]
    Token,
    /// No connection, or one to somebody else.
    #[error("the control plane can't be reached, or is not the one that made the token: {0}")]
    Connect(String),
    /// The control plane said no.
    #[error("the control plane refused: {0}")]
    Refused(String),
    /// Keys or certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// Buys a certificate for this host from the control plane at `address` (`host:port`). The private key stays here.
pub async fn join(address: &str, token: &JoinToken, host: &HostId, host_name: &str) -> Result<Identity, JoinError> {
    let connect = |e: tonic::transport::Error| JoinError::Connect(chain(&e));
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(PinnedAuthority { fingerprint: token.fingerprint, provider });
    let channel = Endpoint::from_shared(format!("https://{address}"))
        .and_then(|e| e.tls_config_with_verifier(ClientTlsConfig::new().domain_name(CONTROL_NAME), verifier))
        .map_err(connect)?
        .timeout(JOIN_TIME_MAX)
        .connect_timeout(JOIN_TIME_MAX)
        .connect()
        .await
        .map_err(connect)?;
    let (key_pem, certificate_request) = pki::host_request()?;
    let request = JoinRequest {
        token: token.secret.clone(),
        host_id: host.as_str().to_owned(),
        host_name: host_name.to_owned(),
        certificate_request,
    };
    let reply =
        EnrolClient::new(channel).join(request).await.map_err(|s| JoinError::Refused(s.message().to_owned()))?;
    let reply = reply.into_inner();
    Ok(Identity { authority_pem: reply.authority, certificate_pem: reply.certificate, key_pem })
}

/// Trusts the authority of that fingerprint, which the server sends along, and nobody else.
#[derive(Debug)]
struct PinnedAuthority {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let unknown = || TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        let authority = intermediates.iter().find(|c| pki::fingerprint(c) == self.fingerprint).ok_or_else(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|e| TlsError::General(e.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The error and its causes: tonic's own text says only "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        // A String takes all that is written.
        let _ = write!(text, ": {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_being_copied() {
        let token = JoinToken::generate(&Authority::generate().unwrap());
        assert_eq!(format!(" {token}\n").parse::<JoinToken>().unwrap(), token);
        assert!(!format!("{token:?}").contains(&token.secret));
        for bad in ["", "nacre1", "nacre1.s.00", "nacre2.s.00", &format!("nacre1.s.{}", "é".repeat(32))] {
            assert!(bad.parse::<JoinToken>().is_err(), "{bad}");
        }
    }
}
