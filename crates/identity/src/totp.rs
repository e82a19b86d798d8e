//! Passcodes that change with time: RFC 6238 with SHA-1, six digits and 30 s, as every authenticator has it.

use model::Timestamp;
use ring::hmac;
use subtle::ConstantTimeEq;

const STEP_SECONDS: i64 = 30;
/// Steps before the present one whose passcode still counts (Keystone's `included_previous_windows`).
const STEPS_BEFORE: i64 = 1;

/// The step whose passcode it is, of the present one and the one before.
pub fn step_of(secret: &str, passcode: &str, now: Timestamp) -> Option<i64> {
    let key = decode(secret)?;
    let current = now.seconds().div_euclid(STEP_SECONDS);
    // Looks at all of them, so that it takes as long whichever it is.
    (0..=STEPS_BEFORE).map(|before| current - before).fold(None, |found, step| {
        let same: bool = at(&key, step).as_bytes().ct_eq(passcode.as_bytes()).into();
        if same { Some(step) } else { found }
    })
}

/// Whether a secret is base32, as authenticators write it.
pub fn is_secret(secret: &str) -> bool {
    decode(secret).is_some()
}

fn at(key: &[u8], step: i64) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key), &step.to_be_bytes());
    let tag = tag.as_ref();
    let offset = usize::from(tag[tag.len() - 1] & 0x0f);
    let number = tag[offset..offset + 4].iter().fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
    format!("{:06}", (number & 0x7fff_ffff) % 1_000_000)
}

/// Base32 of RFC 4648, with or without padding, whatever the case.
fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim().trim_end_matches('=');
    let (mut bytes, mut buffer, mut bits) = (Vec::with_capacity(text.len() * 5 / 8), 0_u32, 0);
    for c in text.bytes() {
        let value = match c.to_ascii_uppercase() {
            upper @ b'A'..=b'Z' => upper - b'A',
            digit @ b'2'..=b'7' => digit - b'2' + 26,
            _ => return None,
        };
        buffer = (buffer << 5) | u32::from(value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((buffer >> bits) & 0xff).ok()?);
        }
    }
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B, its last six digits.
    #[test]
    fn vectors() {
        let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        let cases = [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (2_000_000_000, "279037")];
        for (seconds, passcode) in cases {
            let now = Timestamp(seconds * 1_000_000);
            assert_eq!(step_of(secret, passcode, now), Some(seconds / 30), "{seconds}");
            assert_eq!(step_of(secret, passcode, Timestamp(now.0 + 30_000_000)), Some(seconds / 30));
            assert_eq!(step_of(secret, passcode, Timestamp(now.0 + 60_000_000)), None);
            assert_eq!(step_of(secret, "000000", now), None);
        }
        assert_eq!(decode("mzxw6ytboi======"), Some(b"foobar".to_vec()));
        assert!(!is_secret("not base32!"));
    }
}
