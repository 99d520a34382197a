//! Bearer tokens: which tenant each reaches, and what it may do there. Only their hashes are kept, and they are compared in
//! constant time.

use std::collections::BTreeSet;
use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tidegate_wire::Name;

/// A shorter token can be guessed.
pub const TOKEN_BYTES_MIN: usize = 16;

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whom it reaches.
    pub tenant: Name,
    /// Whom the history of deploys names.
    pub name: Name,
    /// Whether it may deploy handlers of its tenant.
    pub deploy: bool,
}

/// The tokens of all tenants.
#[derive(Clone, Default)]
pub struct Tokens {
    entries: Vec<([u8; 32], Grant)>,
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

    /// Adds a token.
    pub fn add(&mut self, token: &[u8], grant: Grant) {
        self.entries.push((hash(token), grant));
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// How many tenants they reach.
    #[must_use]
    pub fn tenants(&self) -> usize {
        let tenants = self.entries.iter().map(|(_, grant)| &grant.tenant);
        tenants.collect::<BTreeSet<_>>().len()
    }

    /// What this token is good for. All tokens are looked at, whichever fits.
    #[must_use]
    pub(crate) fn grant(&self, token: &[u8]) -> Option<&Grant> {
        let hash = hash(token);
        self.entries.iter().fold(None, |found, (known, grant)| {
            match bool::from(known.ct_eq(&hash)) {
                true => Some(grant),
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
        let grant = |tenant: &str| Grant {
            tenant: tenant.into(),
            name: "token".into(),
            deploy: false,
        };
        tokens.add(b"0123456789abcdef", grant("a"));
        tokens.add(b"fedcba9876543210", grant("b"));
        assert_eq!(tokens.grant(b"fedcba9876543210"), Some(&grant("b")));
        assert_eq!(tokens.grant(b"fedcba987654321"), None);
        assert_eq!(tokens.grant(b""), None);
        assert_eq!(format!("{tokens:?}"), "2 tokens");
    }
}
