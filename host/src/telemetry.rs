//! Logs, and the recorder behind the metrics facade. Both are global to the process and set up once;
//! everything else only emits.
//!
//! Guarantees of the log: it never holds up or ends whoever logs (`writer`), nobody outside fills it
//! (`budget`) or forges a line of it (`text`), and no dependency shows in it what clients say,
//! whatever the filter is.

mod budget;
mod text;
mod writer;

use std::ffi::OsString;
use std::io::IsTerminal;

use anyhow::{Context, anyhow};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::{Log, LogFormat};
use budget::Budget;
pub use writer::LogWriter;

/// The target of lines about the log itself, which no budget holds back.
pub(crate) const OWN: &str = "tidegate::log";
/// The target of what plugins say.
const PLUGINS: &str = "tidegate::plugin";

/// Upper bounds in seconds for histograms whose name ends with `_seconds`.
const SECONDS: [f64; 13] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0,
];

/// The log of this process.
#[derive(Clone, Debug)]
pub struct Logging {
    /// Where it is written.
    pub writer: LogWriter,
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Logging {
    /// Logs at other levels from now on.
    ///
    /// # Errors
    /// When the filter does not parse.
    pub fn set_level(&self, level: &str) -> anyhow::Result<()> {
        self.filter.reload(filter(level)?).context("log.level")
    }
}

/// Starts logging as configured.
///
/// # Errors
/// When the filter does not parse, the file cannot be opened, or logging was started before.
pub fn start_logging(log: &Log) -> anyhow::Result<Logging> {
    let (filter, handle) = reload::Layer::new(filter(&log.level)?);
    let budget = Budget::default();
    let told = budget.clone();
    let json = log.format == LogFormat::Json;
    let writer = LogWriter::start(log.file.clone(), json, move || told.tell());
    let writer = writer.with_context(|| match &log.file {
        Some(file) => format!("log.file: {} cannot be opened", file.display()),
        None => "the log's thread cannot be started".to_owned(),
    })?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer.clone())
        // It would be written to standard error, and panic where that cannot be.
        .log_internal_errors(false);
    let lines = match log.format {
        LogFormat::Text => lines
            .with_ansi(log.file.is_none() && has_colours())
            .fmt_fields(text::Escaped)
            .boxed(),
        LogFormat::Json => lines.with_ansi(false).json().flatten_event(true).boxed(),
    };
    let started = tracing_subscriber::registry()
        .with(filter)
        .with(filter_fn(is_shown))
        .with(budget)
        .with(lines)
        .try_init();
    started.map_err(|error| anyhow!("logging was not started: {error}"))?;
    Ok(Logging {
        writer,
        filter: handle,
    })
}

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    level
        .parse()
        .with_context(|| format!("log.level: `{level}` is not a filter"))
}

/// See <https://no-color.org>.
fn has_colours() -> bool {
    std::io::stderr().is_terminal() && !refuses_colours(std::env::var_os("NO_COLOR"))
}

fn refuses_colours(no_color: Option<OsString>) -> bool {
    no_color.is_some_and(|it| !it.is_empty())
}

/// What dependencies say at `trace`, and the WebSocket parser at `debug` too, contains what clients
/// say: it is never shown.
fn is_shown(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let most = if target.starts_with("tidegate") {
        Level::TRACE
    } else if target.contains("tungstenite") {
        Level::INFO
    } else {
        Level::DEBUG
    };
    *metadata.level() <= most
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
    metrics::describe_counter!(
        "tidegate_log_lines_lost_total",
        "Lines of the log that could not be written."
    );
    metrics::describe_counter!(
        "tidegate_log_lines_left_out_total",
        "Lines of the log beyond what one source may cause."
    );
    metrics::describe_counter!(
        "tidegate_panics_total",
        "Panics in the work of one client or caller, which ended it."
    );
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
    fn no_color_is_honoured_unless_it_is_empty() {
        assert!(refuses_colours(Some("1".into())));
        assert!(!refuses_colours(Some("".into())) && !refuses_colours(None));
    }

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
