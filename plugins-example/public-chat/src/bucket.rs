//! The rate of a client's messages: a bucket of tokens that fills up again. It is one number, the time
//! at which it is full, so it costs a session next to nothing, and it lives there: another instance or
//! worker goes on counting. Pure.

use serde::{Deserialize, Serialize};

/// So many refusals, one after the other, and the client is closed.
pub(crate) const REFUSALS_MAX: u32 = 10;

/// What a client may say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// How many messages at once.
    pub(crate) burst: u32,
    /// How many a second after that.
    pub(crate) per_second: u32,
}

impl Rate {
    /// Milliseconds after which there is room for `messages`, at least one.
    fn refill_ms(self, messages: u32) -> u64 {
        (u64::from(messages) * 1000).div_ceil(u64::from(self.per_second).max(1))
    }
}

/// What the session keeps of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Bucket {
    full_at_ms: u64,
    refusals: u32,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Go,
    /// So many milliseconds from now it would have been in time.
    Wait {
        ms: u64,
    },
    /// It was told often enough.
    Close,
}

impl Bucket {
    /// Takes what a message costs.
    pub(crate) fn take(&mut self, now_ms: u64, cost: u32, rate: Rate) -> Verdict {
        let capacity = rate.refill_ms(rate.burst);
        // A clock that was set back, or another worker's, locks nobody out for longer than a bucket.
        let full_at = self.full_at_ms.clamp(now_ms, now_ms + capacity);
        if full_at == now_ms {
            self.refusals = 0;
        }
        let empty_by = (full_at - now_ms + rate.refill_ms(cost)).saturating_sub(capacity);
        if empty_by == 0 {
            self.full_at_ms = full_at + rate.refill_ms(cost);
            return Verdict::Go;
        }
        self.full_at_ms = full_at;
        self.refusals += 1;
        match self.refusals {
            ..=REFUSALS_MAX => Verdict::Wait { ms: empty_by },
            _ => Verdict::Close,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        burst: 5,
        per_second: 2,
    };

    #[test]
    fn a_burst_goes_and_then_so_many_a_second() {
        let mut bucket = Bucket::default();
        let mut took = |now_ms, cost| bucket.take(now_ms, cost, RATE);
        assert!((0..5).all(|_| took(10_000, 1) == Verdict::Go));
        assert_eq!(took(10_000, 1), Verdict::Wait { ms: 500 });
        assert_eq!(took(10_500, 1), Verdict::Go);
        assert_eq!(took(10_500, 3), Verdict::Wait { ms: 1500 });
        assert!((0..5).all(|_| took(60_000, 1) == Verdict::Go));
    }

    #[test]
    fn whoever_does_not_listen_is_closed_and_whoever_rests_is_forgiven() {
        let mut bucket = Bucket::default();
        for _ in 0..5 {
            bucket.take(0, 1, RATE);
        }
        for _ in 0..REFUSALS_MAX {
            assert!(matches!(bucket.take(0, 1, RATE), Verdict::Wait { .. }));
        }
        let rested = &mut bucket.clone();
        assert_eq!(bucket.take(0, 1, RATE), Verdict::Close);
        assert_eq!(rested.take(2500, 1, RATE), Verdict::Go);
        assert_eq!(rested.refusals, 0);
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let mut bucket = Bucket::default();
        bucket.take(1_000_000, 1, RATE);
        assert_eq!(bucket.take(0, 1, RATE), Verdict::Wait { ms: 500 });
    }
}
