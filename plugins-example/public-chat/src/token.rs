//! Tokens: JSON Web Tokens signed with HMAC-SHA256 (RFC 7519, algorithm `HS256`), so that any library
//! makes them. Only this algorithm is taken, and a token without an end is none.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;

use crate::bot;

/// A token that is longer is not looked at.
const BYTES_MAX: usize = 4096;

/// The longest name and the longest subject, in characters.
const NAME_CHARS_MAX: usize = 64;

/// What a token says. Other claims are not looked at.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Claims {
    /// Who it is, for programs: the uid.
    pub(crate) sub: String,
    /// Who it is, for people.
    pub(crate) name: Option<String>,
    /// Seconds since 1970; from then on it is worth nothing.
    pub(crate) exp: u64,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

/// Why a token is not taken. It is told to whoever sent it, so it says nothing of the secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    Missing,
    Malformed,
    Algorithm,
    Signature,
    Expired,
    Name,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => {
                "a token is expected: `?token=…`, or the header `authorization: Bearer …`"
            }
            Self::Malformed => "the token is no JSON Web Token with `sub` and `exp`",
            Self::Algorithm => "the token is not signed with HS256",
            Self::Signature => "the token is signed with another secret",
            Self::Expired => "the token has expired",
            Self::Name => "`sub` and `name` of the token have 1 to 64 characters and are not `bot`",
        })
    }
}

/// What the token says, if one of the secrets has signed it and it has not expired.
pub(crate) fn verify(token: &str, secrets: &[String], now_s: u64) -> Result<Claims, Denied> {
    let (signed, signature) = token.rsplit_once('.').ok_or(Denied::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(Denied::Malformed)?;
    if token.len() > BYTES_MAX {
        return Err(Denied::Malformed);
    }
    let header: Header = read(header)?;
    if header.alg != "HS256" {
        return Err(Denied::Algorithm);
    }
    let signature = decode(signature)?;
    if !secrets
        .iter()
        .any(|secret| has_signed(secret, signed, &signature))
    {
        return Err(Denied::Signature);
    }
    let claims: Claims = read(claims)?;
    let fits =
        |name: &str| (1..=NAME_CHARS_MAX).contains(&name.chars().count()) && name != bot::NAME;
    if !fits(&claims.sub) || !claims.name.as_deref().is_none_or(fits) {
        return Err(Denied::Name);
    }
    if claims.exp <= now_s {
        return Err(Denied::Expired);
    }
    Ok(claims)
}

/// Compared in constant time.
fn has_signed(secret: &str, signed: &str, signature: &[u8]) -> bool {
    let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(secret.as_bytes()) else {
        return false;
    };
    mac.update(signed.as_bytes());
    mac.verify_slice(signature).is_ok()
}

fn decode(part: &str) -> Result<Vec<u8>, Denied> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Denied::Malformed)
}

fn read<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, Denied> {
    serde_json::from_slice(&decode(part)?).map_err(|_| Denied::Malformed)
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(crate) const SECRET: &str = "a secret of the tests, long enough";

    /// A token as others make them.
    pub(crate) fn signed(header: &Value, claims: &Value, secret: &str) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(signed.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        format!("{signed}.{signature}")
    }

    fn checked(header: &Value, claims: &Value, secret: &str) -> Result<Claims, Denied> {
        let secrets = [
            "the one before, long enough for it".to_owned(),
            SECRET.to_owned(),
        ];
        verify(&signed(header, claims, secret), &secrets, 1000)
    }

    #[test]
    fn only_an_unexpired_token_of_a_secret_is_taken() {
        let header = json!({"alg": "HS256", "typ": "JWT"});
        let ann = json!({"sub": "ann", "name": "Ann", "exp": 1001, "iat": 5});
        let claims = checked(&header, &ann, SECRET).unwrap();
        assert_eq!((claims.sub.as_str(), claims.exp), ("ann", 1001));
        assert!(checked(&header, &ann, "the one before, long enough for it").is_ok());
        assert_eq!(
            checked(&header, &ann, "another one"),
            Err(Denied::Signature)
        );
        let none = json!({"alg": "none"});
        assert_eq!(checked(&none, &ann, SECRET), Err(Denied::Algorithm));
        let old = json!({"sub": "ann", "exp": 1000});
        assert_eq!(checked(&header, &old, SECRET), Err(Denied::Expired));
        let endless = json!({"sub": "ann"});
        assert_eq!(checked(&header, &endless, SECRET), Err(Denied::Malformed));
        for name in ["", "bot", &"x".repeat(65)] {
            let nobody = json!({"sub": name, "exp": 2000});
            assert_eq!(checked(&header, &nobody, SECRET), Err(Denied::Name));
        }
    }

    #[test]
    fn whatever_is_changed_in_a_token_it_is_not_taken() {
        let (header, claims) = (json!({"alg": "HS256"}), json!({"sub": "ann", "exp": 2000}));
        let token = signed(&header, &claims, SECRET);
        let secrets = [SECRET.to_owned()];
        for (at, byte) in token.bytes().enumerate() {
            // The last digit has bits that say nothing: the library refuses those that are set.
            let other = if byte == b'A' { 'Q' } else { 'A' };
            let mut forged = token.clone();
            forged.replace_range(at..=at, &other.to_string());
            assert!(verify(&forged, &secrets, 1000).is_err(), "{forged}");
        }
        for wrong in ["", ".", "..", "a.b", "a.b.c.d", "é.é.é", &"a.".repeat(4000)] {
            assert!(verify(wrong, &secrets, 1000).is_err(), "{wrong:?}");
        }
    }
}
