//! Signatures of JSON Web Tokens, on ring: only public-key algorithms, each for its own kind of key.
//!
//! The header's `alg` chooses among what the key can be, never the other way round: no `none`, no HMAC, so that nothing
//! can be signed with what everybody may read.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Longest token that is looked at.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Keys of one provider that are looked at.
const KEYS_MAX: usize = 64;

/// A provider's keys.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct KeySet {
    keys: Vec<Value>,
}

/// A key, as far as signatures need it. What other kinds of key have is left out.
#[derive(Debug, Deserialize)]
struct Key {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

/// A token taken apart; nothing is proven yet.
pub struct Unverified<'a> {
    header: Header,
    signed: &'a [u8],
    signature: Vec<u8>,
    claims: Map<String, Value>,
}

/// Why a token isn't one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// It has another form.
    #[error("this is no signed JSON Web Token")]
    Malformed,
    /// No key of the provider is meant: new ones may be there.
    #[error("the provider has no such key")]
    UnknownKey,
    /// The signature isn't the key's.
    #[error("the signature is not the provider's")]
    Forged,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// Malformed.
    pub fn parse(token: &'a str) -> Result<Self, JwsError> {
        let malformed = JwsError::Malformed;
        if token.len() > TOKEN_BYTES_MAX {
            return Err(malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(malformed)?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| malformed)?;
        let claims = serde_json::from_slice(&decode(payload)?).map_err(|_| malformed)?;
        // Extensions that must be understood, and none is.
        if header.crit.is_some() {
            return Err(malformed);
        }
        Ok(Self { header, signed: signed.as_bytes(), signature: decode(signature)?, claims })
    }

    /// The header's `typ` in lower case: `at+jwt` for access tokens that say so.
    pub fn kind(&self) -> Option<String> {
        self.header.typ.as_deref().map(str::to_ascii_lowercase)
    }

    /// The claims, once one of the keys has signed them.
    ///
    /// # Errors
    /// An unknown key, or a signature that isn't its.
    pub fn verified(self, keys: &KeySet) -> Result<Map<String, Value>, JwsError> {
        let candidates: Vec<Key> = keys
            .keys
            .iter()
            .take(KEYS_MAX)
            .filter_map(|key| serde_json::from_value(key.clone()).ok())
            .filter(|key: &Key| key.may_sign(&self.header))
            .collect();
        if candidates.is_empty() {
            return Err(JwsError::UnknownKey);
        }
        let good = candidates.iter().any(|key| key.verifies(&self.header.alg, self.signed, &self.signature));
        if good { Ok(self.claims) } else { Err(JwsError::Forged) }
    }
}

impl Key {
    fn may_sign(&self, header: &Header) -> bool {
        let named = header.kid.is_none() || self.kid == header.kid;
        let meant = self.purpose.as_deref().is_none_or(|purpose| purpose == "sig");
        let algorithm = self.alg.as_deref().is_none_or(|alg| alg == header.alg);
        named && meant && algorithm && self.kty == kind_of(&header.alg)
    }

    fn verifies(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
        self.check(algorithm, signed, signature).is_some()
    }

    /// Some where the signature is this key's.
    fn check(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> Option<()> {
        if let Some(parameters) = rsa(algorithm) {
            let (n, e) = (decode(self.n.as_ref()?)?, decode(self.e.as_ref()?)?);
            return RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).ok();
        }
        let (verification, curve): (&'static dyn VerificationAlgorithm, &str) = match algorithm {
            "ES256" => (&ECDSA_P256_SHA256_FIXED, "P-256"),
            "ES384" => (&ECDSA_P384_SHA384_FIXED, "P-384"),
            "EdDSA" | "Ed25519" => (&ED25519, "Ed25519"),
            _ => return None,
        };
        if self.crv.as_deref() != Some(curve) {
            return None;
        }
        let mut point = decode(self.x.as_ref()?)?;
        if curve != "Ed25519" {
            // An uncompressed point.
            point.insert(0, 4);
            point.extend(decode(self.y.as_ref()?)?);
        }
        UnparsedPublicKey::new(verification, point).verify(signed, signature).ok()
    }
}

fn decode(text: &String) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

fn kind_of(algorithm: &str) -> &'static str {
    match algorithm {
        "ES256" | "ES384" => "EC",
        "EdDSA" | "Ed25519" => "OKP",
        _ if rsa(algorithm).is_some() => "RSA",
        _ => "none",
    }
}

fn rsa(algorithm: &str) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        "RS256" => &RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &RSA_PSS_2048_8192_SHA256,
        "PS384" => &RSA_PSS_2048_8192_SHA384,
        "PS512" => &RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
    };
    use serde_json::json;

    use super::*;

    fn encode(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    struct Signer(EcdsaKeyPair);

    impl Signer {
        fn new() -> Self {
            let random = SystemRandom::new();
            let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            Self(EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap())
        }

        fn key(&self, kid: &str) -> Value {
            let point = self.0.public_key().as_ref();
            json!({ "kty": "EC", "crv": "P-256", "kid": kid, "use": "sig",
                "x": encode(&point[1..33]), "y": encode(&point[33..]) })
        }

        fn sign(&self, header: &Value, claims: &Value) -> String {
            let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
            let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
            format!("{signed}.{}", encode(signature))
        }
    }

    fn open(token: &str, keys: &[Value]) -> Result<Map<String, Value>, JwsError> {
        Unverified::parse(token)?.verified(&KeySet { keys: keys.to_vec() })
    }

    #[test]
    fn signatures() {
        let (ours, other) = (Signer::new(), Signer::new());
        let claims = json!({ "sub": "mia" });
        let header = json!({ "alg": "ES256", "kid": "a", "typ": "at+JWT" });
        let token = ours.sign(&header, &claims);
        assert_eq!(open(&token, &[json!({ "kty": "odd" }), ours.key("a")]).map(Value::Object), Ok(claims.clone()));
        assert_eq!(Unverified::parse(&token).ok().and_then(|t| t.kind()).as_deref(), Some("at+jwt"));
        assert_eq!(open(&token, &[other.key("a")]), Err(JwsError::Forged));
        assert_eq!(open(&token, &[ours.key("b")]), Err(JwsError::UnknownKey));
        assert_eq!(open(&token, &[]), Err(JwsError::UnknownKey));
        // Without a name, any key that fits.
        let nameless = ours.sign(&json!({ "alg": "ES256" }), &claims);
        assert!(open(&nameless, &[other.key("b"), ours.key("a")]).is_ok());
        // Other claims under the same signature.
        let (head, rest) = token.split_once('.').unwrap();
        let signature = rest.split_once('.').unwrap().1;
        let forged = format!("{head}.{}.{signature}", encode(json!({ "sub": "root" }).to_string()));
        assert_eq!(open(&forged, &[ours.key("a")]), Err(JwsError::Forged));
    }

    #[test]
    fn algorithms_are_not_the_tokens_choice() {
        let ours = Signer::new();
        let claims = json!({ "sub": "root" });
        for algorithm in ["none", "None", "HS256", "RS256", "ES384", "EdDSA", ""] {
            let token = ours.sign(&json!({ "alg": algorithm, "kid": "a" }), &claims);
            let expected = if algorithm == "ES384" { JwsError::Forged } else { JwsError::UnknownKey };
            assert_eq!(open(&token, &[ours.key("a")]), Err(expected), "{algorithm}");
        }
        let critical = ours.sign(&json!({ "alg": "ES256", "crit": ["b64"] }), &claims);
        assert_eq!(open(&critical, &[ours.key("a")]), Err(JwsError::Malformed));
        let mut encryption = ours.key("a");
        encryption["use"] = json!("enc");
        assert_eq!(open(&ours.sign(&json!({ "alg": "ES256" }), &claims), &[encryption]), Err(JwsError::UnknownKey));
        for odd in ["", ".", "..", "a.b.c", "e30.e30.", &"x".repeat(TOKEN_BYTES_MAX + 1)] {
            assert!(open(odd, &[ours.key("a")]).is_err(), "{odd}");
        }
    }

    /// Made by another implementation (pyca/cryptography), whose private key is gone.
    #[test]
    fn rsa_by_others() {
        let n = "3UTt73WdpNN1kkWOzRlKXaK5dVPBx1inJZN2axl8G2uUQI3tx1jVYbfiiXLq4-yEtzxJ6Vz9aGP3AlBZMVhArRFlfDvH8eoJmAU7\
            zPzJJqXKN3KBXjNAwVsHOUZOWYjHgQ2MApWVmxl4tgEL_n_RB2alZCh2BM8h9Z6ZNReoWLOLe7kEsxRLyJrdegG34r0pqQ9SaMiM\
            ctKNtTTeBV8X7oFFGvyNRsbp-4C5h3Cehbboc-HITOvqYOIUpxXPAZGMAsJPLAkCG4kfUiNeDFUuZBtu4f9fhyiNVTPQ9KNq1IKb\
            npJ4zy02drJdpgmj1e8ZPw5XVgCXVI9KhL0TeSbZ4Q";
        let rs256 = "eyJhbGciOiAiUlMyNTYifQ.eyJpc3MiOiAiam9lIn0.hTDvnYXYM0VUE_HkohxQY40J_nFs0BhA6u2zEQ3UIt4SKJ_jHDgNhNkp9\
            2qbHo5pDpWs0UMPOKtIPKIqxhy3k17voI9uWY0vl59H_PaSNEdipGBEGijUO0sj5LXOwSH5hF1rGpQV9hfYh_QnyQMf9EZkxGul2\
            yRPvljOKmTX9P1CHYEiEg98se4XCC3RRgBrOGWZoZMcivXv-Oo9dC7PNT8e_JZKVCdSnQ11iuJ07n8IeYZl8zIU3XDKW_2VQveuB\
            tOAltgM57PM7gDjZXMYgz2Azfmga9L9Ns4SNg-B0Xan6ETDRfdLlRwKTe_Z98my7Yj-YuIHaITu80lBYEmpYQ";
        let ps256 = "eyJhbGciOiAiUFMyNTYifQ.eyJpc3MiOiAiam9lIn0.rj_76cira7FFpfrRAbB28ua_p0hSWCdEQ9BFcWtuEL3KcZVqQwzEF9Z8G\
            bEWfrte83sOyAJaV5nWN43eZR_Z8zYYegPBCmpybY3l1raxHaxEI9-170dHFksX4gJ3qAHQaDO5Fh_62vU58RjcHO0TCeCzyhq62\
            EiPUCgWrG1dxMGj4Mt_E_htxMIClsnEVbMZ4_r4X053IYvTmAYGLqFBnRTdZDiFCl2I6qzGTjSHGvE_zekZ2g_aw-CI4T4dqFeij\
            F_6g60frZ-ZNM3uwCNbnOh6ePujDSb5JNboZ0AIqeIx3tTdbJNGLAt9IE7Mlm1ry_cW3qbNvMfozseXMBzjKA";
        let key = json!({ "kty": "RSA", "e": "AQAB", "n": n });
        for token in [rs256, ps256] {
            assert_eq!(open(token, std::slice::from_ref(&key)).unwrap()["iss"], "joe");
            let (signed, signature) = token.rsplit_once('.').unwrap();
            let other = format!("{signed}.{}", signature.chars().rev().collect::<String>());
            assert!(open(&other, std::slice::from_ref(&key)).is_err());
        }
        // The same signature under another algorithm's name.
        let renamed = rs256.replacen(rs256.split('.').next().unwrap(), ps256.split('.').next().unwrap(), 1);
        assert_eq!(open(&renamed, &[key]), Err(JwsError::Forged));
    }
}
