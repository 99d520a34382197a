//! One connection: bytes on their way in each direction, late, held or lost. Within one direction
//! nothing is reordered.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::SmallRng;

use super::{Host, STEP_MS};

/// End 0 has connected to end 1; way 0 leads from end 0 to end 1.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) hosts: [Host; 2],
    pub(super) ways: [Way; 2],
    pub(super) rng: SmallRng,
    /// Of each end: the read half and the write half are dropped.
    pub(super) dropped: [[bool; 2]; 2],
}

#[derive(Debug, Default)]
pub(super) struct Way {
    /// With the time of arrival; none while it is held.
    pub(super) chunks: VecDeque<(Option<u64>, Bytes)>,
    pub(super) bytes: usize,
    pub(super) end: Option<(Option<u64>, End)>,
    last_ms: u64,
    /// Between its hosts nothing passes.
    blocked: bool,
    /// On this connection nothing passes.
    paused: bool,
    /// When the writer learns that nobody reads.
    pub(super) broken: Option<u64>,
    /// One of its hosts vanished: nothing arrives any more.
    pub(super) dead: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    Reset,
}

fn delay_ms(rng: &mut SmallRng) -> u64 {
    let more = match rng.random_range(0..100) {
        0..80 => rng.random_range(0..=STEP_MS / 2),
        80..97 => rng.random_range(0..=3 * STEP_MS),
        _ => rng.random_range(0..=10 * STEP_MS),
    };
    STEP_MS + more
}

impl Way {
    pub(super) fn schedule(&mut self, now: u64, rng: &mut SmallRng) -> Option<u64> {
        if self.is_held() || self.dead {
            return None;
        }
        self.last_ms = self.last_ms.max(now + delay_ms(rng));
        Some(self.last_ms)
    }

    pub(super) fn finish(&mut self, end: End, now: u64, rng: &mut SmallRng) {
        if self.end.is_none() {
            self.end = Some((self.schedule(now, rng), end));
        }
    }

    /// Between its hosts nothing passes from now on, or it goes on.
    pub(super) fn block(&mut self, blocked: bool, now: u64, rng: &mut SmallRng) {
        let was_held = self.is_held();
        self.blocked = blocked;
        self.hold(was_held, now, rng);
    }

    /// On this connection nothing passes from now on, or it goes on.
    pub(super) fn pause(&mut self, paused: bool, now: u64, rng: &mut SmallRng) {
        let was_held = self.is_held();
        self.paused = paused;
        self.hold(was_held, now, rng);
    }

    const fn is_held(&self) -> bool {
        self.blocked || self.paused
    }

    /// Everything that has not arrived waits from now on, or goes on.
    fn hold(&mut self, was_held: bool, now: u64, rng: &mut SmallRng) {
        let held = self.is_held();
        if was_held == held || self.dead {
            return;
        }
        let mut chunks = std::mem::take(&mut self.chunks);
        for (at, _) in &mut chunks {
            match (held, *at) {
                (true, Some(due)) if due > now => *at = None,
                (false, None) => *at = self.schedule(now, rng),
                (true | false, _) => {}
            }
        }
        self.chunks = chunks;
        if let Some((at, end)) = self.end {
            let at = match (held, at) {
                (true, Some(due)) if due > now => None,
                (false, None) => self.schedule(now, rng),
                (true | false, at) => at,
            };
            self.end = Some((at, end));
        }
    }

    pub(super) fn next(&self) -> Option<u64> {
        match self.chunks.front() {
            Some((at, _)) => *at,
            None => self.end.and_then(|(at, _)| at),
        }
    }
}

impl Connection {
    /// Wakes whoever waits for anything; not under the lock of the net.
    pub(super) fn wakers(&mut self, wake: &mut Vec<Waker>) {
        for way in &mut self.ways {
            wake.extend(way.reader.take());
            wake.extend(way.writer.take());
        }
    }

    pub(super) fn cut(&mut self, now: u64) {
        for way in &mut self.ways {
            way.chunks.retain(|(at, _)| at.is_some_and(|at| at <= now));
            way.bytes = way.chunks.iter().map(|(_, bytes)| bytes.len()).sum();
            way.end = None;
            way.finish(End::Reset, now, &mut self.rng);
            way.broken.get_or_insert(now + STEP_MS);
        }
    }
}
