//! Texts of a call → names, ids, addresses: checked before anything is asked or done.

use std::net::SocketAddrV4;
use std::time::Duration;

use tidegate_wire::id::ClientId;
use tidegate_wire::query::LIMIT_MAX;
use tidegate_wire::{NAME_BYTES_MAX, Name, is_name};

use crate::problem::ApiRefusal;

/// The most entries of a list.
pub(crate) const LIST_MAX: usize = LIMIT_MAX as usize;
/// Of a page, if nothing is said.
const LIMIT: u32 = 100;
/// A shorter time would end before a busy gateway looks.
const TIMEOUT_MS_MIN: u32 = 100;
const TIMEOUT_MS_MAX: u32 = 60_000;

/// A uid, group, key or command; `what` says which.
pub(crate) fn name(what: &str, text: &str) -> Result<Name, ApiRefusal> {
    match is_name(text) {
        true => Ok(text.into()),
        false => Err(ApiRefusal::invalid(format!(
            "a {what} has 1 to {NAME_BYTES_MAX} bytes, this one has {}",
            text.len()
        ))),
    }
}

/// A list of names.
pub(crate) fn names(what: &str, texts: &[String]) -> Result<Vec<Name>, ApiRefusal> {
    bounded(what, texts.len())?;
    texts.iter().map(|text| name(what, text)).collect()
}

/// A list's length.
pub(crate) fn bounded(what: &str, length: usize) -> Result<(), ApiRefusal> {
    match length <= LIST_MAX {
        true => Ok(()),
        false => Err(ApiRefusal::invalid(format!(
            "a list has at most {LIST_MAX} entries, that of each {what} has {length}"
        ))),
    }
}

/// A client id.
pub(crate) fn client(text: &str) -> Result<ClientId, ApiRefusal> {
    text.parse()
        .map_err(|error: tidegate_wire::id::ClientIdError| ApiRefusal::invalid(error.to_string()))
}

/// A list of client ids.
pub(crate) fn clients(texts: &[String]) -> Result<Vec<ClientId>, ApiRefusal> {
    bounded("client", texts.len())?;
    texts.iter().map(|text| client(text)).collect()
}

/// A gateway's announced address.
pub(crate) fn gateway(text: &str) -> Result<SocketAddrV4, ApiRefusal> {
    text.parse().map_err(|_| {
        let text: String = text.chars().take(40).collect();
        ApiRefusal::invalid(format!(
            "{text:?} is not the address of a gateway, like 127.0.0.1:2000"
        ))
    })
}

/// The number of a gateway's connection.
pub(crate) fn connection(text: &str) -> Result<u32, ApiRefusal> {
    text.parse().map_err(|_| {
        let text: String = text.chars().take(40).collect();
        ApiRefusal::invalid(format!(
            "{text:?} is not a connection's number: 0 to {} is right",
            u32::MAX
        ))
    })
}

/// Some gateways, or all.
pub(crate) fn gateways(
    texts: Option<&Vec<String>>,
) -> Result<Option<Vec<SocketAddrV4>>, ApiRefusal> {
    let Some(texts) = texts else { return Ok(None) };
    bounded("gateway", texts.len())?;
    let gateways: Result<_, _> = texts.iter().map(|text| gateway(text)).collect();
    gateways.map(Some)
}

/// The length of a page.
pub(crate) fn limit(limit: Option<u32>) -> Result<u32, ApiRefusal> {
    match limit {
        None => Ok(LIMIT),
        Some(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
        Some(limit) => Err(ApiRefusal::invalid(format!(
            "`limit` is {limit}, 1 to {LIMIT_MAX} is right"
        ))),
    }
}

/// Where a list goes on, as `read` understands it.
pub(crate) fn after<T, E: std::fmt::Display>(
    text: Option<&String>,
    read: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, ApiRefusal> {
    let Some(text) = text else { return Ok(None) };
    read(text)
        .map(Some)
        .map_err(|error| ApiRefusal::invalid(format!("`after`: {error}")))
}

/// How long a request or a command may take.
pub(crate) fn timeout(ms: Option<u32>, usual: Duration) -> Result<Duration, ApiRefusal> {
    match ms {
        None => Ok(usual),
        Some(ms) if (TIMEOUT_MS_MIN..=TIMEOUT_MS_MAX).contains(&ms) => {
            Ok(Duration::from_millis(ms.into()))
        }
        Some(ms) => Err(ApiRefusal::invalid(format!(
            "`timeout_ms` is {ms}, {TIMEOUT_MS_MIN} to {TIMEOUT_MS_MAX} is right"
        ))),
    }
}
