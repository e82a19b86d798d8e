//! Who is who over TCP: the internal certificate authority, the names in certificates, and a host's identity.
//!
//! The authority signs for nobody but hosts and the agents' listener. A host's certificate carries the host's id as its
//! only name, so that a host can speak for itself alone. Certificates do not expire: a host that is forgotten is turned
//! away by its id, at once, where an expiry date would only cut off the ones that are wanted.

use std::{
    fmt, fs,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use model::id::HostId;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::{client::verify_server_name, server::ParsedCertificate};

/// The name in the listener's certificate, whatever address it is reached by.
pub(crate) const CONTROL_NAME: &str = "control.nacre.internal";

/// Why certificates could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A certificate, key or request is malformed, or could not be made.
    #[error("certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The files could not be read or written.
    #[error("certificates: {0}")]
    Files(#[from] io::Error),
    /// A text that is no PEM.
    #[error("certificates: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
}

/// The internal certificate authority.
pub struct Authority {
    certificate_pem: String,
    fingerprint: [u8; 32],
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority. Keep [`Authority::certificate_pem`] and [`Authority::key_pem`]: all control plane processes of a
    /// cloud share one.
    pub fn generate() -> Result<Self, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "Nacre internal authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key)?.pem();
        Self::from_pem(&pem, &key.serialize_pem())
    }

    /// The authority of these texts.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())?;
        let issuer = Issuer::from_ca_cert_der(&der, KeyPair::from_pem(key_pem)?)?;
        Ok(Self { certificate_pem: certificate_pem.to_owned(), fingerprint: fingerprint(&der), issuer })
    }

    /// The certificate that hosts trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key. A secret.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// SHA-256 of the certificate: what a join token carries.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Certificate chain and key of the agents' listener.
    pub(crate) fn listener_identity(&self) -> Result<(String, String), PkiError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![CONTROL_NAME.to_owned()])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok((format!("{certificate}{}", self.certificate_pem), key.serialize_pem()))
    }

    /// A certificate for the host. Of the request only the key is taken: what it says about names is ignored.
    pub(crate) fn sign_host(&self, request_pem: &str, host: &HostId) -> Result<String, PkiError> {
        let mut request = CertificateSigningRequestParams::from_pem(request_pem)?;
        let mut params = CertificateParams::new(vec![host_name(host)])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        request.params = params;
        Ok(request.signed_by(&self.issuer)?.pem())
    }
}

/// What a host shows and trusts. Its Debug form leaves out the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The authority's certificate.
    pub authority_pem: String,
    /// The host's certificate.
    pub certificate_pem: String,
    /// The host's private key.
    pub key_pem: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

impl Identity {
    const FILES: [&str; 3] = ["authority.pem", "host.pem", "host.key"];

    /// Reads what [`Identity::save`] wrote; `None` if the host has not joined.
    pub fn load(folder: &Path) -> io::Result<Option<Self>> {
        let read = |name: &str| fs::read_to_string(folder.join(name));
        let [authority, certificate, key] = Self::FILES;
        let key_pem = match read(key) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        Ok(Some(Self { authority_pem: read(authority)?, certificate_pem: read(certificate)?, key_pem }))
    }

    /// Writes the three files, the key last: it says that the host has joined.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        for (name, text) in Self::FILES.into_iter().zip([&self.authority_pem, &self.certificate_pem, &self.key_pem]) {
            let beside = folder.join(format!("{name}.new"));
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(beside, folder.join(name))?;
        }
        Ok(())
    }
}

/// A key for a host, and the request to sign it: (key, request).
pub(crate) fn host_request() -> Result<(String, String), PkiError> {
    let key = KeyPair::generate()?;
    let request = CertificateParams::new(Vec::new())?.serialize_request(&key)?;
    Ok((key.serialize_pem(), request.pem()?))
}

/// Whether the certificate, already verified by TLS, is that host's.
pub(crate) fn is_certificate_of(certificate: &CertificateDer<'_>, host: &HostId) -> bool {
    let Ok(name) = ServerName::try_from(host_name(host)) else { return false };
    ParsedCertificate::try_from(certificate).is_ok_and(|parsed| verify_server_name(&parsed, &name).is_ok())
}

pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

fn host_name(host: &HostId) -> String {
    format!("{host}.host.nacre.internal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_names_its_host_and_no_other() {
        let authority = Authority::generate().unwrap();
        let (_, request) = host_request().unwrap();
        let (host, other) = (HostId::random(), HostId::random());
        let pem = authority.sign_host(&request, &host).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert!(is_certificate_of(&der, &host));
        assert!(!is_certificate_of(&der, &other));
        assert!(authority.sign_host("nonsense", &host).is_err());
        assert!(!is_certificate_of(&der, &HostId::new("not a name")));
    }

    #[test]
    fn kept_texts_make_the_same_authority() {
        let authority = Authority::generate().unwrap();
        let again = Authority::from_pem(authority.certificate_pem(), &authority.key_pem()).unwrap();
        assert_eq!(again.fingerprint(), authority.fingerprint());
    }
}
