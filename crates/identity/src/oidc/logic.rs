//! What tokens must say, decided from their claims alone.

use std::time::Duration;

use model::Timestamp;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

/// How far a provider's clock may be off.
const LEEWAY: Duration = Duration::from_secs(60);

/// What is expected of a token.
pub struct Expected<'a> {
    /// Who must have made it.
    pub issuer: &'a str,
    /// Whom it must be meant for: one of them.
    pub audiences: &'a [String],
    /// The moment.
    pub now: Timestamp,
}

/// Checks what every token must say; why it is refused.
///
/// # Errors
/// A sentence for the log.
pub fn check(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), &'static str> {
    if claims.get("iss").and_then(Value::as_str) != Some(expected.issuer) {
        return Err("another issuer");
    }
    if !audiences(claims).iter().any(|audience| expected.audiences.iter().any(|ours| ours == audience)) {
        return Err("meant for somebody else");
    }
    check_time(claims, expected.now)
}

/// Checks when it is good.
///
/// # Errors
/// A sentence for the log.
pub fn check_time(claims: &Map<String, Value>, now: Timestamp) -> Result<(), &'static str> {
    let moment = |name: &str| claims.get(name).and_then(Value::as_f64).map(seconds);
    let ends = moment("exp").ok_or("no end")?;
    if now >= ends + LEEWAY {
        return Err("expired");
    }
    if moment("nbf").is_some_and(|from| now + LEEWAY < from) {
        return Err("not good yet");
    }
    if moment("iat").is_some_and(|made| now + LEEWAY < made) {
        return Err("made in the future");
    }
    Ok(())
}

/// Checks what an ID token must say besides: that this client asked for it, in this login.
///
/// # Errors
/// A sentence for the log.
pub fn check_id_token(claims: &Map<String, Value>, client_id: &str, nonce: &str) -> Result<(), &'static str> {
    let party = claims.get("azp").and_then(Value::as_str);
    if party.map_or(audiences(claims).len() > 1, |party| party != client_id) {
        return Err("another client asked for it");
    }
    let given = claims.get("nonce").and_then(Value::as_str).unwrap_or_default();
    if nonce.is_empty() || !bool::from(given.as_bytes().ct_eq(nonce.as_bytes())) {
        return Err("of another login");
    }
    Ok(())
}

/// Whom a token is meant for.
pub fn audiences(claims: &Map<String, Value>) -> Vec<&str> {
    match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn seconds(since_1970: f64) -> Timestamp {
    // Beyond what a moment can be, the cast stops at its limits.
    #[allow(clippy::cast_possible_truncation, reason = "saturates")]
    Timestamp((since_1970 * 1e6) as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verdict(claims: Value) -> Result<(), &'static str> {
        let audiences = ["nacre".to_owned(), "cloud".to_owned()];
        let now = Timestamp(1_000_000_000_000);
        check(claims.as_object().unwrap(), &Expected { issuer: "https://idp", audiences: &audiences, now })
    }

    #[test]
    fn tokens() {
        let good = json!({ "iss": "https://idp", "aud": ["other", "cloud"], "exp": 1_000_100, "iat": 999_999 });
        assert_eq!(verdict(good.clone()), Ok(()));
        let cases = [
            ("iss", json!("https://idp/"), false),
            ("iss", Value::Null, false),
            ("aud", json!("nacre"), true),
            ("aud", json!("other"), false),
            ("aud", json!([]), false),
            ("aud", Value::Null, false),
            ("exp", json!(999_941), true),
            ("exp", json!(999_940), false),
            ("exp", json!("never"), false),
            ("exp", Value::Null, false),
            ("nbf", json!(1_000_060), true),
            ("nbf", json!(1_000_061), false),
            ("iat", json!(1_000_061), false),
        ];
        for (name, value, expected) in cases {
            let mut claims = good.clone();
            claims[name] = value.clone();
            assert_eq!(verdict(claims).is_ok(), expected, "{name} {value}");
        }
    }

    #[test]
    fn id_tokens() {
        let cases = [
            (json!({ "aud": "nacre", "nonce": "n" }), true),
            (json!({ "aud": "nacre", "nonce": "m" }), false),
            (json!({ "aud": "nacre" }), false),
            (json!({ "aud": ["nacre", "other"], "nonce": "n" }), false),
            (json!({ "aud": ["nacre", "other"], "azp": "nacre", "nonce": "n" }), true),
            (json!({ "aud": "nacre", "azp": "other", "nonce": "n" }), false),
        ];
        for (claims, expected) in cases {
            let verdict = check_id_token(claims.as_object().unwrap(), "nacre", "n");
            assert_eq!(verdict.is_ok(), expected, "{claims}");
        }
        assert!(check_id_token(json!({ "nonce": "" }).as_object().unwrap(), "nacre", "").is_err());
    }
}
