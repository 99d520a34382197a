//! What the services themselves log, told to the trace of a seed that is replayed, with the host
//! and the simulated time. While many seeds run nothing is listened to.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record as Values};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::network::{Clock, Host};
use crate::record::Record;

thread_local! {
    /// The process that runs on this thread.
    static SPEAKER: RefCell<Option<(Host, Clock, Arc<Record>)>> = const { RefCell::new(None) };
}

/// From now on services on this thread are heard.
pub(crate) fn listen() {
    // Only fails if somebody listens already.
    let _ = tracing::subscriber::set_global_default(Ear);
}

/// Runs something as this process.
pub(crate) fn speaking<T>(
    host: Host,
    clock: Clock,
    record: &Arc<Record>,
    run: impl FnOnce() -> T,
) -> T {
    SPEAKER.set(Some((host, clock, record.clone())));
    let done = run();
    SPEAKER.set(None);
    done
}

struct Ear;

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG && metadata.target().starts_with("tidegate")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Values<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        SPEAKER.with_borrow(|speaker| {
            let Some((host, clock, record)) = speaker else {
                return;
            };
            let mut line = Line::default();
            event.record(&mut line);
            let module = event.metadata().target();
            let module = module.strip_prefix("tidegate_cluster::").unwrap_or(module);
            record.log(clock.now_ms(), || {
                format!("  host {host} {module}: {}{}", line.message, line.fields)
            });
        });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        // Writing to a string does not fail.
        let _ = written;
    }
}
