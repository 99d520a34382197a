//! What one source may put into the log: a burst, then so many lines a second, for each kind of
//! line. What is left out is counted, and the counts are told.
//!
//! A kind of line is its place in the code. A source is whoever the line names: the tenant, the
//! address, the node. All sources of one kind together have a budget too, so that many strangers
//! fill the log no more than one. Lines that plugins write have a budget of their own and pass.

use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The fields that name a source.
const SOURCES: [&str; 9] = [
    "tenant", "address", "node", "name", "peer", "gateway", "worker", "register", "file",
];
/// How many sources of one kind have a bucket of their own.
const SOURCES_MAX: usize = 1_024;
/// How much of a source's names, and of a line, is kept.
const SOURCE_BYTES_MAX: usize = 256;
const SAMPLE_BYTES_MAX: usize = 120;
/// How often the counts of one kind are told.
const TELL: Duration = Duration::from_secs(5);

/// Some lines at once, and so many a second.
#[derive(Clone, Copy, Debug)]
struct Rate {
    burst: f64,
    per_second: f64,
}

const fn rate(burst: f64, per_second: f64) -> Rate {
    Rate { burst, per_second }
}

/// For one source, and for all of a kind.
const fn rates(level: Level) -> (Rate, Rate) {
    match level {
        Level::ERROR | Level::WARN => (rate(5.0, 1.0), rate(100.0, 20.0)),
        Level::INFO => (rate(50.0, 10.0), rate(500.0, 100.0)),
        Level::DEBUG | Level::TRACE => (rate(1_000.0, 200.0), rate(5_000.0, 1_000.0)),
    }
}

#[derive(Debug)]
struct Bucket {
    lines: f64,
    filled: Instant,
}

impl Bucket {
    const fn new(rate: Rate, now: Instant) -> Self {
        Self {
            lines: rate.burst,
            filled: now,
        }
    }

    fn fill(&mut self, rate: Rate, now: Instant) {
        let earned = now.saturating_duration_since(self.filled).as_secs_f64() * rate.per_second;
        self.lines = (self.lines + earned).min(rate.burst);
        self.filled = now;
    }

    fn is_full(&self, rate: Rate) -> bool {
        self.lines >= rate.burst
    }

    fn has_one(&self) -> bool {
        self.lines >= 1.0
    }
}

#[derive(Debug)]
struct LineKind {
    rates: (Rate, Rate),
    all: Bucket,
    sources: HashMap<String, Bucket>,
    left_out: u64,
    /// The line that was left out first since the last count.
    sample: String,
    told: Option<Instant>,
}

/// A count that is to be told.
#[derive(Debug, PartialEq, Eq)]
struct LeftOut {
    lines: u64,
    sample: String,
}

impl LineKind {
    fn new(level: Level, now: Instant) -> Self {
        let rates = rates(level);
        Self {
            all: Bucket::new(rates.1, now),
            rates,
            sources: HashMap::new(),
            left_out: 0,
            sample: String::new(),
            told: None,
        }
    }

    fn admits(&mut self, source: &str, now: Instant) -> bool {
        let (own, all) = self.rates;
        self.all.fill(all, now);
        if !self.all.has_one() {
            return false;
        }
        if let Some(bucket) = self.bucket(source, now) {
            bucket.fill(own, now);
            if !bucket.has_one() {
                return false;
            }
            bucket.lines -= 1.0;
        }
        self.all.lines -= 1.0;
        true
    }

    /// None if there are too many sources: they share the budget of all.
    fn bucket(&mut self, source: &str, now: Instant) -> Option<&mut Bucket> {
        let rate = self.rates.0;
        if !self.sources.contains_key(source) {
            if self.sources.len() >= SOURCES_MAX {
                self.sources.retain(|_, bucket| {
                    bucket.fill(rate, now);
                    !bucket.is_full(rate)
                });
            }
            if self.sources.len() >= SOURCES_MAX {
                return None;
            }
            self.sources
                .insert(source.to_owned(), Bucket::new(rate, now));
        }
        self.sources.get_mut(source)
    }

    fn take_left_out(&mut self, now: Instant) -> Option<LeftOut> {
        let told = self.told.is_some_and(|told| now < told + TELL);
        if self.left_out == 0 || told {
            return None;
        }
        self.told = Some(now);
        Some(LeftOut {
            lines: std::mem::take(&mut self.left_out),
            sample: std::mem::take(&mut self.sample),
        })
    }
}

/// The budgets of all kinds of lines. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget {
    kinds: Arc<Mutex<HashMap<Identifier, LineKind>>>,
}

impl Budget {
    fn kinds(&self) -> MutexGuard<'_, HashMap<Identifier, LineKind>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admits(&self, event: &Event<'_>, now: Instant) -> bool {
        let mut source = SourceNames::default();
        event.record(&mut source);
        let mut kinds = self.kinds();
        let kind = kinds.entry(event.metadata().callsite());
        let kind = kind.or_insert_with(|| LineKind::new(*event.metadata().level(), now));
        let admitted = kind.admits(&source.names, now);
        if !admitted {
            if kind.left_out == 0 {
                let mut sample = Sample::default();
                event.record(&mut sample);
                kind.sample = sample.text;
            }
            kind.left_out += 1;
            drop(kinds);
            metrics::counter!("tidegate_log_lines_left_out_total").increment(1);
        }
        admitted
    }

    /// Tells what was left out. To be called now and then.
    pub(super) fn tell(&self) {
        let now = Instant::now();
        let left_out: Vec<LeftOut> = self
            .kinds()
            .values_mut()
            .filter_map(|kind| kind.take_left_out(now))
            .collect();
        for LeftOut { lines, sample } in left_out {
            tracing::warn!(target: super::OWN, lines, like = sample, "lines were left out");
        }
    }
}

impl<S: Subscriber> Layer<S> for Budget {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let target = event.metadata().target();
        target == super::OWN || target == super::PLUGINS || self.admits(event, Instant::now())
    }
}

/// The names of who caused a line, one after the other.
#[derive(Debug, Default)]
struct SourceNames {
    names: String,
}

impl Visit for SourceNames {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if !SOURCES.contains(&field.name()) || self.names.len() > SOURCE_BYTES_MAX {
            return;
        }
        let begin = self.names.len();
        // Writing to a string does not fail.
        let _ = write!(self.names, "{value:?}");
        if field.name() == "address"
            && let Some(port) = self.names.rfind(':').filter(|port| *port > begin)
        {
            // A stranger has one address and any port.
            self.names.truncate(port);
        }
        self.names
            .truncate(self.names.floor_char_boundary(SOURCE_BYTES_MAX));
        self.names.push(' ');
    }
}

/// The words of a line, without its fields.
#[derive(Debug, Default)]
struct Sample {
    text: String,
}

impl Visit for Sample {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.text = format!("{value:?}");
            self.text
                .truncate(self.text.floor_char_boundary(SAMPLE_BYTES_MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(kind: &mut LineKind, source: &str, lines: usize, now: Instant) -> usize {
        (0..lines).filter(|_| kind.admits(source, now)).count()
    }

    #[test]
    fn one_source_has_a_burst_and_then_one_line_a_second() {
        let now = Instant::now();
        let mut kind = LineKind::new(Level::WARN, now);
        assert_eq!(admitted(&mut kind, "a", 1_000, now), 5);
        assert_eq!(admitted(&mut kind, "b", 1_000, now), 5);
        let later = now + Duration::from_secs(3);
        assert_eq!(admitted(&mut kind, "a", 1_000, later), 3);
    }

    #[test]
    fn many_sources_share_a_budget_and_what_is_kept_of_them_is_bounded() {
        let now = Instant::now();
        let mut kind = LineKind::new(Level::WARN, now);
        let all: usize = (0..100_000)
            .map(|it| admitted(&mut kind, &format!("source {it}"), 1, now))
            .sum();
        assert_eq!(all, 100);
        assert!(kind.sources.len() <= SOURCES_MAX);
        let later = now + Duration::from_secs(60);
        let all: usize = (0..100_000)
            .map(|it| admitted(&mut kind, &format!("another {it}"), 1, later))
            .sum();
        assert_eq!(all, 100);
        assert!(kind.sources.len() <= SOURCES_MAX);
    }

    #[test]
    fn what_was_left_out_is_counted_by_kind_and_strangers_are_told_apart_without_their_port() {
        use tracing_subscriber::prelude::*;
        let budget = Budget::default();
        let subscriber = tracing_subscriber::registry().with(budget.clone());
        tracing::subscriber::with_default(subscriber, || {
            for port in 0..100_u16 {
                let address = std::net::SocketAddr::from(([192, 0, 2, 1], port));
                tracing::warn!(%address, "a stranger");
            }
            for _ in 0..100 {
                tracing::warn!(target: super::super::PLUGINS, tenant = "t", "said");
            }
        });
        let mut kinds = budget.kinds();
        let left_out: Vec<_> = kinds
            .values_mut()
            .filter_map(|kind| kind.take_left_out(Instant::now()))
            .collect();
        let sample = "a stranger".to_owned();
        assert_eq!(left_out, [LeftOut { lines: 95, sample }]);
    }
}
