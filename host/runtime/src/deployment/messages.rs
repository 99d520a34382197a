//! What lies in a seat's mailbox: events, and between them the marks by which clients go from one
//! seat to another without an event overtaking its predecessor.
//!
//! To a canary: every old seat gets a mark behind the last event that was meant for it, and the
//! canary's seats begin when their marks are passed. Back: the canary's seats finish the event under
//! way and give back what still waits; the old seats hold newer events of those clients, and of no
//! others, until that has come.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::routes::Share;
use super::ticket::Ticket;

/// One thing in a mailbox.
pub(super) enum SeatMessage {
    /// An event.
    Event(Ticket),
    /// Everything before is done: say so.
    Mark(oneshot::Sender<()>),
    /// From here on these clients are served here again.
    Return(Box<Held>),
    /// The last mail of a canary's seat: where what it has set aside goes to, by seat.
    Leave(Vec<(usize, oneshot::Sender<Vec<Ticket>>)>),
}

/// Clients that come back, and their events that must wait for earlier ones.
pub(super) struct Held {
    pub(super) share: Share,
    pub(super) back: oneshot::Receiver<Vec<Ticket>>,
    pub(super) tickets: VecDeque<Ticket>,
    /// Marks behind them.
    pub(super) marks: Vec<oneshot::Sender<()>>,
    /// They are served.
    pub(super) done: oneshot::Sender<()>,
}
