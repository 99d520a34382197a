//! The closes that handlers ran, from the logs of the workers: the recorder guest logs each run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One run of `on-close`, committed or not.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// The event's id.
    pub(super) event: String,
    /// Which worker.
    pub(super) worker: usize,
    /// When.
    pub(super) at: Instant,
}

impl Run {
    /// Whether a custodian made the event, the home being lost: it uses a shard that no home has.
    pub(super) fn is_custodians(&self) -> bool {
        self.event.contains("-65535-")
    }
}

/// By client, in order of the logs.
pub(super) type Runs = BTreeMap<String, Vec<Run>>;

/// The runs in the logs of workers, each with its worker's number.
pub(super) fn runs(logs: &[(usize, String)]) -> Runs {
    let clock = Clock::now();
    let mut runs = Runs::new();
    for (worker, log) in logs {
        for line in log.lines() {
            let Some((_, rest)) = line.split_once("closing:") else {
                continue;
            };
            let Some((client, rest)) = rest.split_once(':') else {
                continue;
            };
            let event = rest.split(' ').next().unwrap_or(rest).to_owned();
            let run = Run {
                event,
                worker: *worker,
                at: clock.instant(line),
            };
            runs.entry(client.to_owned()).or_default().push(run);
        }
    }
    runs
}

/// Turns the times of log lines into instants.
struct Clock {
    now: Instant,
    /// Seconds since midnight, as lines have them.
    second: f64,
}

const DAY: f64 = 86_400.0;

impl Clock {
    fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            now: Instant::now(),
            second: since.map_or(0.0, |it| it.as_secs_f64()) % DAY,
        }
    }

    /// The time of a line, which starts with `2026-11-22T03:13:30.378740Z`; now, if it does not.
    fn instant(&self, line: &str) -> Instant {
        let time = line.split_once('T').and_then(|(_, it)| it.split_once('Z'));
        let parts = time.map(|(time, _)| time.split(':').map(str::parse::<f64>));
        let second = parts.and_then(|parts| {
            parts
                .into_iter()
                .try_fold(0.0, |sum, part| Some(sum * 60.0 + part.ok()?))
        });
        let ago = second.map_or(0.0, |second| (self.second - second).rem_euclid(DAY));
        self.now
            .checked_sub(Duration::from_secs_f64(ago))
            .unwrap_or(self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_its_client_event_worker_and_time() {
        let before = Instant::now();
        let log = "2026-11-22T03:13:30.378740Z  INFO tidegate::plugin: closing:7f01:ab-65535-7 tenant\n\
                   another line\n\
                   2026-11-22T03:13:32.378740Z  INFO tidegate::plugin: closing:7f01:cd-0-9 tenant\n";
        let runs = runs(&[(2, log.to_owned())]);
        let of_client = &runs["7f01"];
        assert_eq!(of_client.len(), 2);
        let (first, second) = (&of_client[0], &of_client[1]);
        assert!(first.is_custodians() && !second.is_custodians());
        assert_eq!((first.event.as_str(), first.worker), ("ab-65535-7", 2));
        assert!(first.at <= before + Duration::from_secs(1));
        let between = second.at - first.at;
        assert!(between.abs_diff(Duration::from_secs(2)) < Duration::from_millis(1));
    }
}
