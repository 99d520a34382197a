//! `wasi:logging`: messages with a level, to the host's log, within the instance's limit of output.

use super::{HostState, wasi_logging as wit};

impl wit::Host for HostState {
    fn log(&mut self, level: wit::Level, context: String, message: String) {
        let level = match level {
            wit::Level::Trace => tracing::Level::TRACE,
            wit::Level::Debug => tracing::Level::DEBUG,
            wit::Level::Info => tracing::Level::INFO,
            wit::Level::Warn => tracing::Level::WARN,
            wit::Level::Error | wit::Level::Critical => tracing::Level::ERROR,
        };
        self.output.log(level, &context, &message);
    }
}
