//! Pings and idle checks: one wheel per listener and shard, so that many clients never have their
//! turn at once. The arithmetic is that of GatewayWorker: with an interval I and a limit L, a client
//! that is silent gets its first ping after I to 1.5 I, then one every I, and is closed after
//! (L + 0.5) I to (L + 1) I; with a limit of 0 it is pinged and never closed.

use std::rc::Rc;
use std::time::Duration;

use tidegate_hub::outbound::{Outgoing, Queued, ping_frame};
use tidegate_wire::event::{Message, Transport};
use tokio::time::{MissedTickBehavior, interval};

use crate::gateway::clients::connection::Connection;
use crate::gateway::clients::connection::home::Home;
use crate::gateway::settings::ListenerSettings;

/// Into how many parts a listener's clients are divided.
const SLOTS: usize = 32;

/// The clients of one listener, spread over the slots.
#[derive(Debug)]
pub(in crate::gateway) struct Wheel {
    slots: Vec<Vec<u32>>,
    /// The slot whose turn is next, and the slot of the next client.
    turn: usize,
    next: usize,
}

impl Default for Wheel {
    fn default() -> Self {
        Self {
            slots: vec![Vec::new(); SLOTS],
            turn: 0,
            next: 0,
        }
    }
}

impl Wheel {
    pub(in crate::gateway) fn insert(&mut self, number: u32) {
        self.next = (self.next + 1) % SLOTS;
        if let Some(slot) = self.slots.get_mut(self.next) {
            slot.push(number);
        }
    }

    /// The clients of the next slot. Those that are no longer live are forgotten.
    pub(in crate::gateway) fn turn(&mut self, is_live: impl Fn(u32) -> bool) -> Vec<u32> {
        self.turn = (self.turn + 1) % SLOTS;
        let Some(slot) = self.slots.get_mut(self.turn) else {
            return Vec::new();
        };
        slot.retain(|number| is_live(*number));
        slot.shrink_to(slot.len() * 2);
        slot.clone()
    }
}

/// How long one tick of the counters is: half an interval where there is a limit.
fn period(listener: &ListenerSettings) -> Duration {
    if listener.ping_not_response_limit > 0 {
        listener.ping_interval / 2
    } else {
        listener.ping_interval
    }
}

/// Turns one listener's wheel for ever.
pub(in crate::gateway) async fn turn(home: Rc<dyn Home>, listener: usize) {
    let Some(settings) = home.listener(listener) else {
        return;
    };
    // A wheel must turn even without pings, so that it forgets clients that are gone.
    let period = if settings.ping_interval.is_zero() {
        Duration::from_secs(60)
    } else {
        period(&settings).max(Duration::from_millis(SLOTS as u64))
    };
    let mut clock = interval(period / SLOTS as u32);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        home.ping(listener);
    }
}

/// What a tick finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Tick {
    /// Nothing is wrong.
    Fine,
    /// The client has been silent for too long.
    Silent,
    /// Its queue had no room for the ping, and the policy is to close.
    Slow,
}

/// One tick for one client: pings it if it is due.
pub(in crate::gateway) fn tick(connection: &Connection) -> Tick {
    let settings = &connection.listener;
    if settings.ping_interval.is_zero() {
        return Tick::Fine;
    }
    connection.watch_silence();
    // What it sends is not read: its silence is ours.
    if connection.is_paused() {
        connection.heard();
        return Tick::Fine;
    }
    let limit = i32::from(settings.ping_not_response_limit);
    let silent = connection.silent.get();
    if limit > 0 && silent >= 2 * limit {
        return Tick::Silent;
    }
    connection.silent.set(silent.saturating_add(1));
    if is_due(silent + 1, limit) && !ping(connection) {
        return Tick::Slow;
    }
    Tick::Fine
}

const fn is_due(silent: i32, limit: i32) -> bool {
    silent != 0 && (limit == 0 || silent % 2 == 0)
}

/// Whether the client's queue took it, as far as its policy asks for that.
fn ping(connection: &Connection) -> bool {
    let settings = &connection.listener;
    let mut queued = Vec::new();
    if let Some(data) = &settings.ping_data {
        let message = Message::Text(data.clone().into_bytes().into());
        queued.extend(connection.send(&Outgoing::message(&message)));
    }
    if settings.web_socket_ping && settings.transport == Transport::WebSocket {
        queued.push(connection.queue(ping_frame()));
    }
    connection.flush();
    !queued.contains(&Queued::Full)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ticks at which a client that is silent from the start is pinged, and the one that closes it.
    fn silence(limit: i32) -> (Vec<i32>, Option<i32>) {
        let (mut silent, mut pings) = (-1, Vec::new());
        for tick in 1..20 {
            if limit > 0 && silent >= 2 * limit {
                return (pings, Some(tick));
            }
            silent += 1;
            if is_due(silent, limit) {
                pings.push(tick);
            }
        }
        (pings, None)
    }

    #[test]
    fn a_silent_client_gets_as_many_pings_as_the_limit_and_is_then_closed() {
        // Ticks are half intervals: pings after 1 to 1.5, closed after 1.5 to 2 intervals.
        assert_eq!(silence(1), (vec![3], Some(4)));
        assert_eq!(silence(2), (vec![3, 5], Some(6)));
    }

    #[test]
    fn without_a_limit_a_silent_client_is_pinged_and_never_closed() {
        let (pings, closed) = silence(0);
        assert_eq!((pings.len(), closed), (18, None));
    }

    #[test]
    fn a_wheel_gives_each_live_client_one_turn_per_round() {
        let mut wheel = Wheel::default();
        (0..100).for_each(|number| wheel.insert(number));
        let mut seen: Vec<u32> = (0..SLOTS)
            .flat_map(|_| wheel.turn(|n| n % 2 == 0))
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..100).filter(|n| n % 2 == 0).collect::<Vec<_>>());
    }
}
