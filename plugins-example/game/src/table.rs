//! A table: two seats and the round that is played. Pure. Every change says what it expects (which
//! round, which turn, which version), and one that was done already is recognised: an event that runs
//! again after the loss of its worker, or a client that asks again, changes nothing twice.

use serde::{Deserialize, Serialize};
use tidegate_sdk::Client;

use crate::rules::{self, Side};

/// So often a seat may be left and taken again in a round with the clock starting anew; then the time
/// to come back is over at once.
pub(crate) const DROPS_MAX: u32 = 5;

/// What is kept of a game, in the session of one of its players. Fields that come later need a
/// default: the version before may read this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) id: String,
    /// Grows with each change.
    pub(crate) version: u64,
    pub(crate) round: u32,
    pub(crate) first: Side,
    /// The columns of the round, in order.
    pub(crate) moves: Vec<u8>,
    pub(crate) red: Seat,
    pub(crate) yellow: Seat,
    pub(crate) end: Option<End>,
}

/// A player's place at the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seat {
    pub(crate) name: String,
    /// With it the player comes back.
    pub(crate) secret: String,
    /// None: the player is away.
    pub(crate) client: Option<Client>,
    /// How often the player was away in this round.
    pub(crate) drops: u32,
    pub(crate) wins: u32,
    /// Wants another round.
    pub(crate) again: bool,
}

/// How a round has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) winner: Option<Side>,
    pub(crate) why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Why {
    Four,
    Full,
    Time,
    Gone,
    Resigned,
}

/// What became of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Changed,
    /// It was done before; telling it again does no harm.
    Already,
    /// The time for it is over, and nobody need know.
    Stale,
    /// The text is for the person who asked.
    Refused(&'static str),
}

impl Seat {
    pub(crate) const fn new(name: String, secret: String, client: Client) -> Self {
        Self {
            name,
            secret,
            client: Some(client),
            drops: 0,
            wins: 0,
            again: false,
        }
    }
}

impl Table {
    /// Red begins.
    pub(crate) const fn new(id: String, red: Seat, yellow: Seat) -> Self {
        Self {
            id,
            version: 1,
            round: 1,
            first: Side::Red,
            moves: Vec::new(),
            red,
            yellow,
            end: None,
        }
    }

    pub(crate) const fn seat(&self, side: Side) -> &Seat {
        match side {
            Side::Red => &self.red,
            Side::Yellow => &self.yellow,
        }
    }

    const fn seat_mut(&mut self, side: Side) -> &mut Seat {
        match side {
            Side::Red => &mut self.red,
            Side::Yellow => &mut self.yellow,
        }
    }

    /// The players that are there.
    pub(crate) fn clients(&self) -> Vec<Client> {
        self.red
            .client
            .into_iter()
            .chain(self.yellow.client)
            .collect()
    }

    /// Whose secret it is.
    pub(crate) fn side_of(&self, secret: &str) -> Option<Side> {
        [Side::Red, Side::Yellow]
            .into_iter()
            .find(|&side| self.seat(side).secret == secret)
    }

    /// Whose turn it is, while the round goes on.
    pub(crate) fn mover(&self) -> Option<Side> {
        let mover = rules::mover(self.first, self.moves.len());
        self.end.is_none().then_some(mover)
    }

    /// Whether the round goes on and both are there: then the clock runs.
    pub(crate) const fn is_running(&self) -> bool {
        self.end.is_none() && self.red.client.is_some() && self.yellow.client.is_some()
    }

    /// Puts a stone into a column.
    pub(crate) fn put(&mut self, side: Side, round: u32, turn: usize, column: u8) -> Outcome {
        let mover = rules::mover(self.first, turn);
        if round != self.round || (mover == side && self.moves.get(turn) == Some(&column)) {
            return Outcome::Already;
        }
        if self.end.is_some() {
            return Outcome::Refused("this round is over");
        }
        if turn != self.moves.len() || mover != side {
            return Outcome::Refused("it is not your turn");
        }
        if !self.is_running() {
            return Outcome::Refused("your opponent is away: the game waits");
        }
        if !rules::fits(&self.moves, column) {
            return Outcome::Refused("no stone fits into this column");
        }
        self.moves.push(column);
        if rules::has_won(&self.moves) {
            self.ends(Some(side), Why::Four);
        } else if rules::is_full(&self.moves) {
            self.ends(None, Why::Full);
        }
        self.changed()
    }

    /// A player gives up.
    pub(crate) fn resign(&mut self, side: Side, round: u32) -> Outcome {
        if round != self.round || self.end.is_some() {
            return Outcome::Already;
        }
        self.ends(Some(side.other()), Why::Resigned);
        self.changed()
    }

    /// A player wants another round; it begins when both do.
    pub(crate) fn again(&mut self, side: Side, round: u32) -> Outcome {
        if round != self.round || self.seat(side).again {
            return Outcome::Already;
        }
        if self.end.is_none() {
            return Outcome::Refused("this round is not over");
        }
        if self.seat(side.other()).client.is_none() {
            return Outcome::Refused("your opponent has left");
        }
        self.seat_mut(side).again = true;
        if self.red.again && self.yellow.again {
            self.round += 1;
            self.first = self.first.other();
            self.moves.clear();
            self.end = None;
            for seat in [&mut self.red, &mut self.yellow] {
                (seat.again, seat.drops) = (false, 0);
            }
        }
        self.changed()
    }

    /// The connection of a player is gone, unless the seat is another connection's by now.
    pub(crate) fn lose(&mut self, side: Side, client: Client) -> Outcome {
        let seat = self.seat_mut(side);
        if seat.client != Some(client) {
            return Outcome::Already;
        }
        seat.client = None;
        seat.drops += 1;
        self.changed()
    }

    /// A player leaves for good.
    pub(crate) fn leave(&mut self, side: Side, client: Client) -> Outcome {
        if self.seat(side).client != Some(client) {
            return Outcome::Already;
        }
        self.seat_mut(side).client = None;
        if self.end.is_none() {
            self.ends(Some(side.other()), Why::Resigned);
        }
        self.changed()
    }

    /// Who knows the secret takes the seat.
    pub(crate) fn come_back(&mut self, secret: &str, client: Client) -> Outcome {
        let Some(side) = self.side_of(secret) else {
            return Outcome::Refused("this token is no seat of this game");
        };
        if self.seat(side).client == Some(client) {
            return Outcome::Already;
        }
        self.seat_mut(side).client = Some(client);
        self.changed()
    }

    /// The clock that was started at this version has run out.
    pub(crate) fn run_out(&mut self, version: u64) -> Outcome {
        match (self.end, self.mover()) {
            (Some(end), _) if end.why == Why::Time && self.version == version + 1 => {
                Outcome::Already
            }
            (None, Some(mover)) if self.version == version && self.is_running() => {
                self.ends(Some(mover.other()), Why::Time);
                self.changed()
            }
            _ => Outcome::Stale,
        }
    }

    /// The time to come back is over for who was away for the so-manieth time.
    pub(crate) fn give_up(&mut self, side: Side, drops: u32) -> Outcome {
        match self.end {
            Some(end) if end.why == Why::Gone => Outcome::Already,
            Some(_) => Outcome::Stale,
            None if self.seat(side).client.is_some() || self.seat(side).drops != drops => {
                Outcome::Stale
            }
            None => {
                self.ends(Some(side.other()), Why::Gone);
                self.changed()
            }
        }
    }

    /// The table as it is found by the first who comes back when both were away.
    pub(crate) fn found_by(&self, side: Side, client: Client) -> Self {
        let mut table = self.clone();
        table.red.client = None;
        table.yellow.client = None;
        table.seat_mut(side).client = Some(client);
        table.version += 1;
        table
    }

    fn ends(&mut self, winner: Option<Side>, why: Why) {
        self.end = Some(End { winner, why });
        if let Some(side) = winner {
            self.seat_mut(side).wins += 1;
        }
    }

    const fn changed(&mut self) -> Outcome {
        self.version += 1;
        Outcome::Changed
    }
}
