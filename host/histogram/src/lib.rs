//! Histograms of durations, one for each name and tenant, shown as Prometheus text.
//!
//! Recording a duration is two atomic additions: it allocates nothing and looks nothing up. Whoever
//! records keeps its handle. The recorder behind the `metrics` facade would keep every sample until
//! the next upkeep instead, which is too much for events.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the buckets, in microseconds, as labels show them in seconds.
const BOUNDS: [(u64, &str); 16] = [
    (100, "0.0001"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
    (60_000_000, "60"),
];

/// By name, then by tenant.
type All = BTreeMap<&'static str, BTreeMap<Box<str>, Arc<Histogram>>>;

/// All of the process: names and tenants are those of its configuration.
static ALL: Mutex<All> = Mutex::new(BTreeMap::new());

/// How many durations lay within which bounds.
#[derive(Debug, Default)]
pub struct Histogram {
    within: [AtomicU64; BOUNDS.len()],
    longer: AtomicU64,
    sum_us: AtomicU64,
}

impl Histogram {
    /// The histogram `name` of a tenant. Made by the first call; later ones give the same.
    #[must_use]
    pub fn of(name: &'static str, tenant: &str) -> Arc<Self> {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let tenants = all.entry(name).or_default();
        let own = tenants.entry(tenant.into()).or_default();
        Arc::clone(own)
    }

    /// One more duration.
    pub fn record(&self, took: Duration) {
        self.record_us(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), 1);
    }

    /// So many more durations of so many microseconds each.
    pub fn record_us(&self, took_us: u64, times: u64) {
        let place = BOUNDS.iter().position(|(bound, _)| took_us <= *bound);
        let bucket = place.and_then(|place| self.within.get(place));
        let bucket = bucket.unwrap_or(&self.longer);
        bucket.fetch_add(times, Ordering::Relaxed);
        let sum = took_us.saturating_mul(times);
        self.sum_us.fetch_add(sum, Ordering::Relaxed);
    }

    fn show(&self, name: &str, tenant: &str, out: &mut String) {
        let mut count = 0;
        for ((_, bound), bucket) in BOUNDS.iter().zip(&self.within) {
            count += bucket.load(Ordering::Relaxed);
            let _ = writeln!(
                out,
                "{name}_bucket{{tenant=\"{tenant}\",le=\"{bound}\"}} {count}"
            );
        }
        count += self.longer.load(Ordering::Relaxed);
        let seconds = self.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(
            out,
            "{name}_bucket{{tenant=\"{tenant}\",le=\"+Inf\"}} {count}\n\
             {name}_sum{{tenant=\"{tenant}\"}} {seconds}\n\
             {name}_count{{tenant=\"{tenant}\"}} {count}"
        );
    }
}

/// All histograms as Prometheus text; `help` says what one of them is.
#[must_use]
pub fn render<'a>(help: impl Fn(&str) -> &'a str) -> String {
    let mut out = String::new();
    let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, tenants) in &*all {
        let help = help(name);
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        for (tenant, histogram) in tenants {
            histogram.show(name, &escaped(tenant), &mut out);
        }
        out.push('\n');
    }
    out
}

/// As the format wants the value of a label.
fn escaped(label: &str) -> String {
    let label = label.replace('\\', "\\\\").replace('"', "\\\"");
    label.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_up_to_each_bound_by_tenant() {
        let own = Histogram::of("waves_seconds", "a\"b");
        own.record(Duration::from_micros(100));
        own.record(Duration::from_micros(101));
        own.record_us(2_000_000, 3);
        Histogram::of("waves_seconds", "a\"b").record(Duration::from_secs(61));
        let text = render(|_| "How long waves are.");
        for line in [
            "# HELP waves_seconds How long waves are.",
            "# TYPE waves_seconds histogram",
            "waves_seconds_bucket{tenant=\"a\\\"b\",le=\"0.0001\"} 1",
            "waves_seconds_bucket{tenant=\"a\\\"b\",le=\"0.0005\"} 2",
            "waves_seconds_bucket{tenant=\"a\\\"b\",le=\"1\"} 2",
            "waves_seconds_bucket{tenant=\"a\\\"b\",le=\"2.5\"} 5",
            "waves_seconds_bucket{tenant=\"a\\\"b\",le=\"60\"} 5",
            "waves_seconds_bucket{tenant=\"a\\\"b\",le=\"+Inf\"} 6",
            "waves_seconds_sum{tenant=\"a\\\"b\"} 67.000201",
            "waves_seconds_count{tenant=\"a\\\"b\"} 6",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in {text}");
        }
    }

    #[test]
    fn the_bounds_are_what_their_labels_say_and_grow() {
        assert!(BOUNDS.is_sorted());
        for (bound, label) in BOUNDS {
            let seconds: f64 = label.parse().unwrap();
            assert!((seconds * 1e6 - bound as f64).abs() < 1e-6, "{label}");
        }
    }
}
