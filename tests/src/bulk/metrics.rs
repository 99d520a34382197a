//! The metrics of a gateway: those of a process are scraped, those of one within this process are
//! recorded by the recorder that `tidegate` has too.

use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::prometheus;

/// What is recorded in this process, from the first call on.
///
/// # Errors
/// When somebody else records already.
pub(super) fn recorded() -> Result<PrometheusHandle> {
    static HANDLE: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    let handle = HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        match metrics::set_global_recorder(recorder) {
            Ok(()) => Ok(handle),
            Err(error) => Err(format!("metrics are not recorded: {error}")),
        }
    });
    handle.clone().map_err(|error| anyhow!(error))
}

/// The sum of all series of one metric.
///
/// # Errors
/// When there is none.
pub(super) fn sum(metrics: &str, name: &str) -> Result<f64> {
    prometheus::sum_of(name, metrics).with_context(|| format!("the gateway has no metric {name}"))
}
