//! When the events, or tasks, of one tenant came that are left: how many there are, and the age of the oldest.
//! Pure. Adding and taking one costs a look at the newest or the oldest; memory grows with the spans
//! of time in which some that are left came.

use std::collections::VecDeque;

/// Events that came within so many microseconds of each other (a power of two, 65 ms) count as one.
const SPAN_BITS: u32 = 16;
/// So few spans are not worth looking for those that are empty.
const SPANS_KEPT: usize = 64;

/// Events by the time at which they came.
#[derive(Debug, Default)]
pub(crate) struct Ages {
    /// Spans in order, and how many came in each that are left. The first is never empty.
    spans: VecDeque<(u64, u32)>,
    /// Spans that are empty.
    empty: usize,
    events: usize,
}

impl Ages {
    /// One came. Times do not go back.
    pub(crate) fn add(&mut self, at_us: u64) {
        let span = at_us >> SPAN_BITS;
        self.events += 1;
        match self.spans.back_mut() {
            Some((last, count)) if *last >= span => {
                self.empty -= usize::from(*count == 0);
                *count += 1;
            }
            Some(_) | None => self.spans.push_back((span, 1)),
        }
    }

    /// One that came then is gone.
    pub(crate) fn take(&mut self, at_us: u64) {
        let span = at_us >> SPAN_BITS;
        let place = match self.spans.front() {
            Some((first, _)) if *first >= span => Ok(0),
            Some(_) | None => self.spans.binary_search_by_key(&span, |(own, _)| *own),
        };
        // One that came before the last one was counted with that.
        let place = place.unwrap_or_else(|place| place);
        let Some((_, count)) = self.spans.get_mut(place).filter(|(_, count)| *count > 0) else {
            return;
        };
        *count -= 1;
        self.empty += usize::from(*count == 0);
        self.events -= 1;
        while self.spans.front().is_some_and(|(_, count)| *count == 0) {
            self.spans.pop_front();
            self.empty -= 1;
        }
        if self.spans.len() > SPANS_KEPT && self.empty * 2 > self.spans.len() {
            self.spans.retain(|(_, count)| *count > 0);
            self.empty = 0;
        }
    }

    /// How many are left.
    pub(crate) const fn events(&self) -> usize {
        self.events
    }

    /// The age of the oldest, in microseconds; up to a span too little. None if there is none.
    pub(crate) fn oldest_us(&self, now_us: u64) -> Option<u64> {
        let (span, _) = self.spans.front()?;
        Some(now_us.saturating_sub((span + 1) << SPAN_BITS))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPAN: u64 = 1 << SPAN_BITS;

    #[test]
    fn the_oldest_that_is_left_counts_whatever_went_before_it() {
        let mut ages = Ages::default();
        assert_eq!(ages.oldest_us(0), None);
        for at in [0, 3 * SPAN, 3 * SPAN + 1, 9 * SPAN] {
            ages.add(at);
        }
        ages.take(3 * SPAN);
        assert_eq!(
            (ages.events(), ages.oldest_us(10 * SPAN)),
            (3, Some(9 * SPAN))
        );
        ages.take(0);
        assert_eq!(
            (ages.events(), ages.oldest_us(10 * SPAN)),
            (2, Some(6 * SPAN))
        );
        ages.take(3 * SPAN + 1);
        ages.take(9 * SPAN);
        assert_eq!((ages.events(), ages.oldest_us(10 * SPAN)), (0, None));
    }

    #[test]
    fn one_that_never_goes_does_not_make_it_grow() {
        let mut ages = Ages::default();
        ages.add(0);
        for at in (1..100_000).map(|n| n * SPAN) {
            ages.add(at);
            ages.take(at);
        }
        assert!(ages.spans.len() <= 2 * SPANS_KEPT, "{}", ages.spans.len());
        assert_eq!(ages.events(), 1);
    }

    proptest! {
        #[test]
        fn it_is_what_a_list_of_all_says(steps in prop::collection::vec((0u64..4, any::<u16>()), 0..400)) {
            let (mut ages, mut all, mut now) = (Ages::default(), Vec::new(), 0);
            for (forth, which) in steps {
                now += forth * SPAN / 2;
                if which % 3 == 0 && !all.is_empty() {
                    ages.take(all.remove(usize::from(which) % all.len()));
                } else {
                    ages.add(now);
                    all.push(now);
                }
                prop_assert_eq!(ages.events(), all.len());
                let oldest = all.iter().min();
                let oldest = oldest.map(|at| now.saturating_sub(((at >> SPAN_BITS) + 1) << SPAN_BITS));
                prop_assert_eq!(ages.oldest_us(now), oldest);
            }
        }
    }
}
