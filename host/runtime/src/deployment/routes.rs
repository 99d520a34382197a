//! Which seat serves a client: one of the deployment's, or of its canary's.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_watchdog::watched;
use tidegate_wire::id::ClientId;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::messages::SeatMessage;
use super::peers::{self, PeerSender};
use super::prepared::Tried;
use super::probation::Probation;
use super::seat::{Common, Order, Seat};
use super::starting::Started;
use super::tasks::Served;
use crate::plugin::Plugin;
use crate::version::Version;

/// One take-over, one retirement and one stop can be under way.
const ORDERS_MAX: usize = 4;

/// How others reach a seat.
pub(super) struct SeatHandle {
    pub(super) mailbox: mpsc::Sender<SeatMessage>,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) peers: PeerSender,
    pub(super) task: AbortHandle,
}

/// Whose events a seat runs.
pub(super) enum RouteKind {
    /// A client's, as long as nothing speaks against it; then they go to the quarantine.
    Own {
        quarantine: mpsc::Sender<SeatMessage>,
    },
    /// Those of clients who try a version: only what must run alone goes to the quarantine, so that
    /// what the version breaks is seen.
    Canary {
        quarantine: mpsc::Sender<SeatMessage>,
    },
    /// What must run alone, each event on a fresh instance.
    Quarantine,
}

/// What a new seat begins with.
pub(super) struct RoutePlace<'a> {
    pub(super) common: &'a Arc<Common>,
    pub(super) version: &'a Arc<Version>,
    pub(super) number: usize,
    pub(super) mailbox_events: usize,
    pub(super) kind: RouteKind,
    /// It begins when these are passed.
    pub(super) after: Vec<oneshot::Receiver<()>>,
    /// If its version is on trial.
    pub(super) probation: Option<Arc<Probation>>,
}

impl SeatHandle {
    /// Starts a seat; the quarantine without an instance.
    pub(super) fn spawn(place: RoutePlace<'_>, started: Option<Started>) -> Self {
        let (mailbox, mail) = mpsc::channel(place.mailbox_events);
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        let (peers, said) = peers::channel();
        let tasks = place.common.tasks.clone();
        let seat = Seat::new(place, started, received, said);
        let name = seat.name();
        let task = tasks.spawn(watched(name, seat.run(mail))).abort_handle();
        Self {
            mailbox,
            orders,
            peers,
            task,
        }
    }
}

/// The seats that some clients go to while a version is tried.
pub(super) struct Canary {
    pub(super) served: Served,
    pub(super) share: Share,
    pub(super) seats: Vec<SeatHandle>,
    /// Room for the last mail of each, kept from the beginning.
    pub(super) leave: Mutex<Vec<mpsc::OwnedPermit<SeatMessage>>>,
}

impl Canary {
    /// What they try.
    pub(super) fn plugin(&self) -> &Plugin {
        &self.served.version.plugin
    }

    /// The seat that serves the clients of this one of the deployment's.
    pub(super) fn seat_of(&self, seat: usize, seats: usize) -> Option<&SeatHandle> {
        self.seats
            .get(canary_seat_of(seat, seats, self.seats.len()))
    }

    /// Takes the room for the last mail of each seat.
    pub(super) fn take_leave(&self) -> Vec<mpsc::OwnedPermit<SeatMessage>> {
        std::mem::take(&mut self.leave.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What may change while events come.
#[derive(Default)]
pub(super) struct Routes {
    pub(super) canary: Option<Arc<Canary>>,
    /// A canary whose clients are on their way back.
    pub(super) leaving: Option<Arc<Canary>>,
    pub(super) stopped: bool,
}

/// Some of all clients, always the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    percent: u8,
    chosen: Arc<BTreeSet<ClientId>>,
}

impl Share {
    pub(super) fn of(tried: &Tried) -> Self {
        Self {
            percent: tried.percent,
            chosen: Arc::new(tried.clients.iter().copied().collect()),
        }
    }

    pub(super) fn takes(&self, client: ClientId) -> bool {
        // Another hash than that of the seats, so that each seat has its part of the share.
        let mut hash = bits(client) ^ 0x6a09_e667_f3bc_c908;
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        scaled(hash ^ (hash >> 31), 100) < usize::from(self.percent)
            || self.chosen.contains(&client)
    }
}

/// Of the seats of a deployment so many for such a share of its clients; one for a few chosen ones.
pub(super) fn seats_of(percent: u8, seats: usize) -> usize {
    seats
        .saturating_mul(percent.into())
        .div_ceil(100)
        .clamp(1, seats.max(1))
}

/// A client stays with its instance. Multiplied so that neighbours among connection numbers, whose
/// low bits are the shard, spread evenly.
pub(super) fn seat_of(client: ClientId, seats: usize) -> usize {
    scaled(bits(client).wrapping_mul(0x9e37_79b9_7f4a_7c15), seats)
}

/// Which of the canary's seats serves the clients of this one.
pub(super) const fn canary_seat_of(seat: usize, seats: usize, canary_seats: usize) -> usize {
    if seats == 0 {
        return 0;
    }
    seat * canary_seats / seats
}

fn bits(client: ClientId) -> u64 {
    (u64::from(client.ip) << 32) ^ (u64::from(client.port) << 24) ^ u64::from(client.connection)
}

/// The high half of a hash, scaled down to `count` values.
fn scaled(hash: u64, count: usize) -> usize {
    usize::try_from((u128::from(hash) * count as u128) >> 64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(percent: u8, chosen: &[ClientId]) -> Share {
        Share::of(&Tried {
            percent,
            clients: chosen.to_vec(),
            within: None,
        })
    }

    fn client(connection: u32) -> ClientId {
        ClientId {
            ip: 0x7f00_0001,
            port: 7272,
            connection,
        }
    }

    #[test]
    fn clients_spread_over_all_seats_and_each_stays_on_its_own() {
        let mut counts = [0_u32; 4];
        for connection in 0..4000 {
            let seat = seat_of(client(connection), 4);
            assert_eq!(seat, seat_of(client(connection), 4));
            counts[seat] += 1;
        }
        assert!(counts.iter().all(|count| *count > 800), "{counts:?}");
    }

    #[test]
    fn a_share_is_about_as_large_as_it_says_on_every_seat() {
        for percent in [0, 10, 50, 100] {
            let share = share(percent, &[]);
            let mut counts = [[0_u32; 2]; 4];
            for connection in 0..8000 {
                let client = client(connection);
                counts[seat_of(client, 4)][usize::from(share.takes(client))] += 1;
            }
            for [out, in_it] in counts {
                let found = in_it * 100 / (in_it + out);
                assert!(found.abs_diff(percent.into()) <= 3, "{percent}: {counts:?}");
            }
        }
    }

    #[test]
    fn a_larger_share_keeps_the_clients_of_a_smaller_one() {
        let (small, large) = (share(10, &[]), share(30, &[]));
        assert!(
            (0..1000)
                .map(client)
                .all(|it| !small.takes(it) || large.takes(it))
        );
    }

    #[test]
    fn chosen_clients_are_taken_whatever_the_share() {
        let chosen: Vec<ClientId> = [3, 5, 900].map(client).into();
        let share = share(0, &chosen);
        let taken: Vec<ClientId> = (0..1000)
            .map(client)
            .filter(|it| share.takes(*it))
            .collect();
        assert_eq!(taken, chosen);
    }

    #[test]
    fn every_seat_of_a_canary_has_seats_that_it_serves() {
        for seats in 1..20 {
            for percent in 1..=100 {
                let own = seats_of(percent, seats);
                let mut used: Vec<usize> = (0..seats)
                    .map(|seat| canary_seat_of(seat, seats, own))
                    .collect();
                used.dedup();
                assert_eq!(used, (0..own).collect::<Vec<_>>(), "{seats} {percent}");
            }
        }
    }
}
