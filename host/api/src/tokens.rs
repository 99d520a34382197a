//! Bearer tokens: which tenant each reaches. Only their hashes are kept, and they are compared in
//! constant time.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tidegate_wire::Name;

/// A shorter token can be guessed.
pub const TOKEN_BYTES_MIN: usize = 16;

/// The tokens of all tenants.
#[derive(Clone, Default)]
pub struct Tokens {
    entries: Vec<([u8; 32], Name)>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.entries.len())
    }
}

impl Tokens {
    /// No tokens: nobody is let in.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a token that reaches `tenant`.
    pub fn add(&mut self, token: &[u8], tenant: Name) {
        self.entries.push((hash(token), tenant));
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// The tenant that this token reaches. All tokens are looked at, whichever fits.
    #[must_use]
    pub fn tenant(&self, token: &[u8]) -> Option<&Name> {
        let hash = hash(token);
        self.entries.iter().fold(None, |found, (known, tenant)| {
            match bool::from(known.ct_eq(&hash)) {
                true => Some(tenant),
                false => found,
            }
        })
    }
}

fn hash(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reaches_its_tenant_and_is_never_shown() {
        let mut tokens = Tokens::new();
        tokens.add(b"0123456789abcdef", "a".into());
        tokens.add(b"fedcba9876543210", "b".into());
        assert_eq!(tokens.tenant(b"fedcba9876543210"), Some(&"b".into()));
        assert_eq!(tokens.tenant(b"fedcba987654321"), None);
        assert_eq!(tokens.tenant(b""), None);
        assert_eq!(format!("{tokens:?}"), "2 tokens");
    }
}
