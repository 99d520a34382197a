//! Who calls, and under which idempotency key: both stand in the headers, and no body is read
//! before the token is known.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};
use tidegate_client::ErrorName;
use tidegate_wire::Name;

use crate::cluster::OnceKey;
use crate::problem::ApiRefusal;
use crate::shared::Api;
use crate::tokens::Grant;

pub(crate) const KEY_HEADER: &str = "idempotency-key";
const KEY_BYTES_MAX: usize = 255;

/// The tenant of the call's token. A handler without it is open to everybody.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) Name);

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiRefusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiRefusal> {
        Ok(Self(grant(&parts.headers, api)?.tenant))
    }
}

/// Whoever may deploy handlers of the tenant of the call's token.
#[derive(Clone, Debug)]
pub(crate) struct Deployer {
    pub(crate) tenant: Name,
    /// For the history.
    pub(crate) name: Name,
}

impl FromRequestParts<Api> for Deployer {
    type Rejection = ApiRefusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiRefusal> {
        let grant = grant(&parts.headers, api)?;
        if !grant.deploy {
            return Err(ApiRefusal::new(
                StatusCode::FORBIDDEN,
                ErrorName::NotPermitted,
                "this token may not deploy: its [[api-token]] needs deploy = true",
            ));
        }
        Ok(Self {
            tenant: grant.tenant,
            name: grant.name,
        })
    }
}

/// The tenant of a call, if its token is one's.
pub(crate) fn tenant(headers: &HeaderMap, api: &Api) -> Option<Name> {
    grant(headers, api).ok().map(|grant| grant.tenant)
}

/// Waits until the call's token reaches this tenant no more.
pub(crate) async fn withdrawn(headers: HeaderMap, of: Name, api: Api) {
    let mut tokens = api.tokens.clone();
    while tokens.changed().await.is_ok() {
        if tenant(&headers, &api).is_none_or(|tenant| tenant != of) {
            return;
        }
    }
    // They will never change again.
    std::future::pending().await
}

/// What the call's token is good for.
pub(crate) fn grant(headers: &HeaderMap, api: &Api) -> Result<Grant, ApiRefusal> {
    let refused =
        |detail: &str| ApiRefusal::new(StatusCode::UNAUTHORIZED, ErrorName::NotPermitted, detail);
    let Some(value) = single(headers, AUTHORIZATION.as_str())? else {
        let detail = "a token is needed: send the header `Authorization: Bearer TOKEN`";
        return Err(refused(detail));
    };
    let token = bearer(value)
        .ok_or_else(|| refused("the header `Authorization` is not `Bearer` and a token"))?;
    let grant = api.tokens.borrow().grant(token).cloned();
    grant.ok_or_else(|| refused("no tenant has this token"))
}

/// The scheme's case is not distinguished (RFC 9110).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a [u8]>, ApiRefusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => Ok(Some(value.as_bytes())),
        (Some(_), Some(_)) => Err(ApiRefusal::invalid(format!(
            "the header `{name}` stands more than once"
        ))),
    }
}

/// The idempotency key of an action, with what is known of the call before its body.
#[derive(Clone, Debug)]
pub(crate) struct Key(Option<([u8; 32], Sha256)>);

impl FromRequestParts<Api> for Key {
    type Rejection = ApiRefusal;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiRefusal> {
        let Some(key) = single(&parts.headers, KEY_HEADER)? else {
            return Ok(Self(None));
        };
        let right = (1..=KEY_BYTES_MAX).contains(&key.len())
            && key.iter().all(|byte| (b' '..=b'~').contains(byte));
        if !right {
            return Err(ApiRefusal::invalid(format!(
                "the header `{KEY_HEADER}` is not 1 to {KEY_BYTES_MAX} printable ASCII characters"
            )));
        }
        let mut request = Sha256::new();
        request.update(parts.method.as_str());
        request.update([0]);
        request.update(parts.uri.to_string());
        request.update([0]);
        Ok(Self(Some((Sha256::digest(key).into(), request))))
    }
}

impl Key {
    /// Whether there is one.
    pub(crate) const fn is_given(&self) -> bool {
        self.0.is_some()
    }

    /// The hashes, for a call with this body.
    pub(crate) fn over(self, body: &[u8]) -> Option<OnceKey> {
        let (key, mut request) = self.0?;
        request.update(body);
        let request = request.finalize().into();
        Some(OnceKey { key, request })
    }
}
