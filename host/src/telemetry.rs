//! Logs, and the recorder behind the metrics facade. Both are global to the process and set up once;
//! everything else only emits.
//!
//! Guarantees of the log: it never holds up or ends whoever logs (`writer`), nobody outside fills it
//! (`budget`) or forges a line of it (`text`), and no dependency shows in it what clients say,
//! whatever the filter is.

mod budget;
mod catalogue;
mod text;
mod writer;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::sync::OnceLock;

use anyhow::{Context, anyhow};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::{Log, LogFormat, Purpose};
use budget::Budget;
pub use writer::LogWriter;

/// The target of lines about the log itself, which no budget holds back.
pub(crate) const OWN: &str = "tidegate::log";
/// The target of what plugins say.
const PLUGINS: &str = "tidegate::plugin";

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

/// The recorder's handle, which renders what was recorded. The first call starts the recorder, for a
/// process that does `purpose`; what was recorded before is lost. Without an admin listener do not
/// start it: counters then cost nothing.
///
/// # Errors
/// When another recorder was installed before.
pub fn metrics(purpose: Purpose) -> anyhow::Result<PrometheusHandle> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)
        .map_err(|error| anyhow!("metrics were not started: {error}"))?;
    catalogue::start(purpose);
    metrics::gauge!("tidegate_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(HANDLE.get_or_init(|| handle).clone())
}

/// The histograms, as Prometheus text.
#[must_use]
pub fn histograms() -> String {
    tidegate_histogram::render(catalogue::help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_color_is_honoured_unless_it_is_empty() {
        assert!(refuses_colours(Some("1".into())));
        assert!(!refuses_colours(Some("".into())) && !refuses_colours(None));
    }
}
