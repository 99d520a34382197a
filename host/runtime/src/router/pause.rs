//! A router that fails again and again is left alone for a while. Plain data.

use std::time::{Duration, Instant};

/// So many failures in a row, and it is left alone.
const FAILURES_MAX: u32 = 5;
/// For how long the first time, and at most: twice as long each time.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// How often the log says the same of it.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How the last calls of one router have ended.
#[derive(Debug, Default)]
pub(super) struct Pause {
    failures: u32,
    until: Option<Instant>,
    last: Duration,
    fault: Option<String>,
    /// What the log was told last, and when.
    told: Option<(String, Instant)>,
}

impl Pause {
    /// Whether it is not asked now.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// It has answered.
    pub(super) fn answered(&mut self) {
        if self.failures > 0 {
            let told = self.told.take();
            *self = Self {
                told,
                ..Self::default()
            };
        }
    }

    /// It has not, and why. Says whether the log is to say so: at once what is new, else now and then.
    pub(super) fn failed(&mut self, why: &str, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.fault = Some(why.to_owned());
        if self.failures >= FAILURES_MAX && !self.is_on(now) {
            self.last = (self.last * 2).clamp(SHORTEST, LONGEST);
            self.until = Some(now + self.last);
        }
        let is_known = |(said, at): &(String, Instant)| said == why && now < *at + TELL_EVERY;
        let tells = !self.told.as_ref().is_some_and(is_known);
        if tells {
            self.told = Some((why.to_owned(), now));
        }
        tells
    }

    /// Why the last call has failed, if it has.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_again_and_again_is_left_alone_longer_and_longer_until_it_answers() {
        let (mut pause, mut now) = (Pause::default(), Instant::now());
        for _ in 0..4 {
            pause.failed("why", now);
        }
        assert!(!pause.is_on(now) && pause.fault() == Some("why"));
        assert!(!pause.failed("why", now) && pause.failed("another", now));
        assert!(pause.failed("another", now + TELL_EVERY));
        pause = Pause::default();
        for _ in 0..4 {
            pause.failed("why", now);
        }
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            pause.failed("why", now);
            assert!(pause.is_on(now + Duration::from_millis(seconds * 1000 - 1)));
            now += Duration::from_secs(seconds);
            assert!(!pause.is_on(now), "after {seconds} s");
        }
        pause.answered();
        assert_eq!(pause.fault(), None);
        pause.failed("why", now);
        assert!(!pause.is_on(now));
    }
}
