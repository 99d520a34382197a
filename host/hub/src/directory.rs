//! Questions over all gateways, the pure part: what may be asked, who can matter, and how the
//! parts of an answer become one.
//!
//! Guarantees: whatever the split of the clients over parts, paging through merged pages gives
//! each entry that is there all the while exactly once, in order; a merged page never goes beyond
//! the last entry of a part that has more.

mod merge;
#[cfg(test)]
mod tests;

use std::net::SocketAddrV4;

use tidegate_wire::id::ClientId;
use tidegate_wire::query::{AskError, LIMIT_MAX, Query, Selector};
use tidegate_wire::sketch::stable_hash;
use tidegate_wire::{Name, is_name};

pub use merge::merge;

/// Who can matter to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nobody is asked: the answer is known.
    Nobody,
    /// The homes of these clients.
    Homes(Vec<ClientId>),
    /// Gateways whose address is not below that of this client.
    From(ClientId),
    /// Every gateway.
    Everywhere,
    /// Each of these gateways, as a whole.
    Gateways(Vec<SocketAddrV4>),
    /// Every gateway, as a whole.
    EveryGateway,
    /// The gateway that remembers this key.
    Owner([u8; 32]),
}

/// Who can matter to `query`.
#[must_use]
pub fn reach(query: &Query) -> Reach {
    match query {
        Query::Clients { of, after, .. } => match (of_clients(of), after) {
            (Reach::Everywhere, Some(after)) => Reach::From(*after),
            (reach, _) => reach,
        },
        Query::ClientCount { of } | Query::Uids { of, .. } | Query::UidCount { of } => {
            of_clients(of)
        }
        Query::UidCounts(list) | Query::GroupCounts(list) if list.is_empty() => Reach::Nobody,
        Query::UidCounts(_)
        | Query::GroupCounts(_)
        | Query::UidEstimate
        | Query::Groups { .. }
        | Query::GroupInfos { .. }
        | Query::GroupClients { .. }
        | Query::GroupUids { .. } => Reach::Everywhere,
        Query::Gateways => Reach::Nobody,
        Query::Timers { of, .. } => {
            of.map_or(Reach::Everywhere, |client| Reach::Homes(vec![client]))
        }
        Query::Tasks { .. } => Reach::Everywhere,
        Query::CompareAndSet { client, .. } => Reach::Homes(vec![*client]),
        Query::Command { gateways, .. } => match gateways {
            Some(gateways) => Reach::Gateways(gateways.clone()),
            None => Reach::EveryGateway,
        },
        Query::Once { key, .. } | Query::Request { key, .. } => Reach::Owner(*key),
    }
}

fn of_clients(of: &[Selector]) -> Reach {
    let mut homes = Vec::new();
    for selector in of {
        match selector {
            Selector::Clients(clients) => homes.extend(clients),
            Selector::Uids(list) | Selector::Groups(list) | Selector::AllOfGroups(list)
                if list.is_empty() => {}
            Selector::Everyone
            | Selector::Uids(_)
            | Selector::Groups(_)
            | Selector::AllOfGroups(_) => return Reach::Everywhere,
        }
    }
    match homes.is_empty() {
        true => Reach::Nobody,
        false => Reach::Homes(homes),
    }
}

/// The gateway that remembers a key: the highest of their hashes with it.
#[must_use]
pub fn owner(key: &[u8; 32], gateways: impl Iterator<Item = SocketAddrV4>) -> Option<SocketAddrV4> {
    gateways.max_by_key(|gateway| {
        let mut bytes = key.to_vec();
        bytes.extend(gateway.ip().octets());
        bytes.extend(gateway.port().to_be_bytes());
        (stable_hash(&bytes), *gateway)
    })
}

/// Refuses a query that breaks a rule.
///
/// # Errors
/// [`AskError::Invalid`], whose text says which one.
pub fn check(query: &Query) -> Result<(), AskError> {
    match query {
        Query::Clients { of, limit, .. } | Query::Uids { of, limit, .. } => {
            check_limit(*limit)?;
            check_selectors(of)
        }
        Query::ClientCount { of } | Query::UidCount { of } => check_selectors(of),
        Query::UidCounts(list) | Query::GroupCounts(list) => {
            check_names(list)?;
            check_length(list.len())
        }
        Query::Groups { limit, .. }
        | Query::GroupInfos { limit, .. }
        | Query::GroupClients { limit, .. }
        | Query::GroupUids { limit, .. }
        | Query::Timers { limit, .. }
        | Query::Tasks { limit, .. } => check_limit(*limit),
        Query::CompareAndSet { key: name, .. } | Query::Request { name, .. } => {
            check_names(std::slice::from_ref(name))
        }
        Query::Command { gateways, name, .. } => {
            check_names(std::slice::from_ref(name))?;
            check_length(gateways.as_ref().map_or(0, Vec::len))
        }
        Query::UidEstimate | Query::Gateways | Query::Once { .. } => Ok(()),
    }
}

fn check_limit(limit: u32) -> Result<(), AskError> {
    if (1..=LIMIT_MAX).contains(&limit) {
        return Ok(());
    }
    let text = format!("a limit of {limit}: 1 to {LIMIT_MAX} is right");
    Err(AskError::Invalid(text))
}

fn check_length(length: usize) -> Result<(), AskError> {
    if length <= LIMIT_MAX as usize {
        return Ok(());
    }
    let text = format!("{length} names or ids: {LIMIT_MAX} at most in one query");
    Err(AskError::Invalid(text))
}

fn check_selectors(of: &[Selector]) -> Result<(), AskError> {
    let mut length = of.len();
    for selector in of {
        match selector {
            Selector::Everyone => {}
            Selector::Clients(clients) => length += clients.len(),
            Selector::Uids(list) | Selector::Groups(list) | Selector::AllOfGroups(list) => {
                check_names(list)?;
                length += list.len();
            }
        }
    }
    // A list of the full length is one selector.
    check_length(length.saturating_sub(1))
}

fn check_names(names: &[Name]) -> Result<(), AskError> {
    match names.iter().find(|name| !is_name(name)) {
        None => Ok(()),
        Some(name) => {
            let text = format!("a name of {} bytes: 1 to 255 are right", name.len());
            Err(AskError::Invalid(text))
        }
    }
}
