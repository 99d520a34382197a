//! Logs to standard error, and the recorder behind the metrics facade. Both are global to the
//! process and set up once; everything else only emits.

use std::io::IsTerminal;

use anyhow::{Context, anyhow};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Upper bounds in seconds for histograms whose name ends with `_seconds`.
const SECONDS: [f64; 13] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0,
];

/// Starts logging as configured.
///
/// # Errors
/// When the filter does not parse, or when logging was started before.
pub fn start_logging(log: &Log) -> anyhow::Result<()> {
    let filter: EnvFilter = log
        .level
        .parse()
        .with_context(|| format!("log.level: `{}` is not a filter", log.level))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow!("logging was not started: {error}"))
}

/// Starts the recorder. The handle renders what was recorded. Samples of histograms pile up until
/// `run_upkeep`, which [`crate::admin::serve`] calls; so without an admin listener do not start it:
/// metrics then cost nothing.
///
/// # Errors
/// When another recorder was installed before.
pub fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    let recorder = recorder()?;
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)
        .map_err(|error| anyhow!("metrics were not started: {error}"))?;
    metrics::describe_gauge!(
        "tidegate_build_info",
        "Always 1; the label has the version."
    );
    metrics::gauge!("tidegate_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

fn recorder() -> anyhow::Result<metrics_exporter_prometheus::PrometheusRecorder> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?;
    Ok(builder.build_recorder())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rendered_as_buckets_of_seconds() {
        let recorder = recorder().unwrap();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("event_seconds").record(0.002);
            metrics::counter!("events").increment(2);
        });
        let text = handle.render();
        assert!(
            text.contains("event_seconds_bucket{le=\"0.0025\"} 1"),
            "{text}"
        );
        assert!(text.contains("events 2"), "{text}");
    }
}
