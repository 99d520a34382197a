//! What happens to a tenant's clients, as told to those who watch: for presence and dashboards.
//! Told at most once; a watcher that falls behind learns how much it missed.

use serde::{Deserialize, Serialize};

use crate::Name;
use crate::event::{CloseReason, Peer};
use crate::id::ClientId;

/// One change of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// Milliseconds since 1970, by the clock of the client's gateway.
    pub at_ms: u64,
    /// Whose.
    pub client: ClientId,
    /// The uid that the client has, or had until now.
    pub uid: Option<Name>,
    /// What.
    pub what: Change,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// It connected.
    Connected(Box<Peer>),
    /// It is gone; the groups that it was in, sorted.
    Closed(CloseReason, Vec<Name>),
    /// It joined a group.
    Joined(Name),
    /// It left a group.
    Left(Name),
    /// It got this uid.
    Bound(Name),
    /// It lost this uid.
    Unbound(Name),
}

/// The kinds of change, to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChangeKind {
    /// [`Change::Connected`]
    Connected,
    /// [`Change::Closed`]
    Closed,
    /// [`Change::Joined`]
    Joined,
    /// [`Change::Left`]
    Left,
    /// [`Change::Bound`]
    Bound,
    /// [`Change::Unbound`]
    Unbound,
}

impl Change {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> ChangeKind {
        match self {
            Self::Connected(_) => ChangeKind::Connected,
            Self::Closed(..) => ChangeKind::Closed,
            Self::Joined(_) => ChangeKind::Joined,
            Self::Left(_) => ChangeKind::Left,
            Self::Bound(_) => ChangeKind::Bound,
            Self::Unbound(_) => ChangeKind::Unbound,
        }
    }
}

/// What a watcher wants. An empty list is no restriction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Only these kinds.
    pub kinds: Vec<ChangeKind>,
    /// Only joins and leaves of these groups, and closes of their members.
    pub groups: Vec<Name>,
    /// Only changes of clients with one of these uids.
    pub uids: Vec<Name>,
}

impl Filter {
    /// Whether this is wanted.
    #[must_use]
    pub fn wants(&self, happening: &Happening) -> bool {
        let uid = || match &happening.what {
            Change::Bound(uid) | Change::Unbound(uid) => Some(uid),
            Change::Connected(_) | Change::Closed(..) | Change::Joined(_) | Change::Left(_) => {
                happening.uid.as_ref()
            }
        };
        let in_group = || match &happening.what {
            Change::Joined(group) | Change::Left(group) => self.groups.contains(group),
            // Both lists may be long.
            Change::Closed(_, groups) => {
                let is_among = |group| groups.binary_search(group).is_ok();
                self.groups.iter().any(is_among)
            }
            Change::Connected(_) | Change::Bound(_) | Change::Unbound(_) => false,
        };
        (self.kinds.is_empty() || self.kinds.contains(&happening.what.kind()))
            && (self.groups.is_empty() || in_group())
            && (self.uids.is_empty() || uid().is_some_and(|uid| self.uids.contains(uid)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(kinds: &[ChangeKind], groups: &[&str], uids: &[&str]) -> Filter {
        let names = |names: &[&str]| names.iter().map(|name| Name::from(*name)).collect();
        Filter {
            kinds: kinds.to_vec(),
            groups: names(groups),
            uids: names(uids),
        }
    }

    fn happening(uid: Option<&str>, what: Change) -> Happening {
        Happening {
            at_ms: 1,
            client: ClientId {
                ip: 1,
                port: 2,
                connection: 3,
            },
            uid: uid.map(Name::from),
            what,
        }
    }

    #[test]
    fn every_part_of_a_filter_restricts_and_an_empty_one_does_not() {
        let joined = happening(Some("u"), Change::Joined("g".into()));
        let closed = happening(
            None,
            Change::Closed(CloseReason::Client, vec!["f".into(), "g".into()]),
        );
        let unbound = happening(Some("u"), Change::Unbound("u".into()));
        let all = [&joined, &closed, &unbound];
        let cases = [
            (filter(&[], &[], &[]), [true, true, true]),
            (
                filter(&[ChangeKind::Joined], &[], &[]),
                [true, false, false],
            ),
            (filter(&[], &["g", "h"], &[]), [true, true, false]),
            (filter(&[], &["h"], &[]), [false, false, false]),
            (filter(&[], &[], &["u"]), [true, false, true]),
            (filter(&[], &[], &["v"]), [false, false, false]),
            (
                filter(&[ChangeKind::Closed, ChangeKind::Joined], &["g"], &["u"]),
                [true, false, false],
            ),
        ];
        for (filter, expected) in cases {
            assert_eq!(all.map(|it| filter.wants(it)), expected, "{filter:?}");
        }
    }
}
