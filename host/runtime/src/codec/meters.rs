//! Counters of one codec for one tenant.

use metrics::{Counter, counter};

use super::CodecFault;
use crate::instance::FailureKind;

/// The counters.
pub(super) struct Meters {
    jobs: Counter,
    reloads_ok: Counter,
    reloads_failed: Counter,
    refused_bytes: Counter,
    refused_messages: Counter,
    nonsense: Counter,
    broken: Vec<(FailureKind, Counter)>,
}

impl Meters {
    pub(super) fn new(codec: &str, tenant: &str) -> Self {
        let labels = || [("codec", codec.to_owned()), ("tenant", tenant.to_owned())];
        let with = |name: &'static str, key: &'static str, value: &'static str| {
            let [codec, tenant] = labels();
            let labels = [codec, tenant, (key, value.to_owned())];
            counter!(name, &labels)
        };
        let fault = |kind| with("tidegate_gateway_codec_faults_total", "kind", kind);
        let refusal = |what| with("tidegate_gateway_codec_refusals_total", "what", what);
        let reload = |result| with("tidegate_gateway_codec_reloads_total", "result", result);
        Self {
            jobs: counter!("tidegate_gateway_codec_jobs_total", &labels()),
            reloads_ok: reload("ok"),
            reloads_failed: reload("failed"),
            refused_bytes: refusal("bytes"),
            refused_messages: refusal("message"),
            nonsense: fault("nonsense"),
            broken: FailureKind::ALL
                .into_iter()
                .map(|kind| (kind, fault(kind.name())))
                .collect(),
        }
    }

    pub(super) fn job(&self) {
        self.jobs.increment(1);
    }

    /// An instance broke.
    pub(super) fn broke(&self, kind: FailureKind) {
        if let Some((_, counter)) = self.broken.iter().find(|(own, _)| *own == kind) {
            counter.increment(1);
        }
    }

    /// The codec refused a connection's bytes, or made nonsense of them.
    pub(super) fn fault(&self, fault: &CodecFault) {
        match fault {
            CodecFault::Refused(_) => self.refused_bytes.increment(1),
            CodecFault::Nonsense(_) => self.nonsense.increment(1),
            // Counted by its kind, or nobody's fault.
            CodecFault::Broken(_) | CodecFault::Stopped => {}
        }
    }

    /// It refused a message.
    pub(super) fn message_refused(&self) {
        self.refused_messages.increment(1);
    }

    pub(super) fn reload(&self, ok: bool) {
        match ok {
            true => self.reloads_ok.increment(1),
            false => self.reloads_failed.increment(1),
        }
    }
}
