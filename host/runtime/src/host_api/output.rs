//! What an instance says: stdout and stderr in lines, and `wasi:logging`, to the host's log.
//!
//! One [`OutputLog`] per instance number: its limit of bytes a second holds for all three together
//! and outlives traps. Lines over the limit are counted and the count is told once there is room.
//! The last bytes of stderr are kept for trap reports.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tracing::Level;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::Identity;

/// The longest line; what is over is cut off into the next one.
const LINE_BYTES_MAX: usize = 4 << 10;
/// How much of stderr a trap report shows.
const TAIL_BYTES_MAX: usize = 4 << 10;
/// What the guest may write at once.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Which stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Stdout,
    Stderr,
}

/// The output of one instance.
#[derive(Debug)]
pub(crate) struct OutputLog {
    identity: Arc<Identity>,
    instance: u32,
    inner: Mutex<OutputInner>,
}

#[derive(Debug)]
struct OutputInner {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    tail: Vec<u8>,
    /// Bytes that may be logged now.
    room: usize,
    refilled: Instant,
    suppressed: u64,
}

impl OutputLog {
    pub(crate) fn new(identity: Arc<Identity>, instance: u32) -> Self {
        let room = identity.limits.log_bytes_per_second;
        Self {
            identity,
            instance,
            inner: Mutex::new(OutputInner {
                stdout: Vec::new(),
                stderr: Vec::new(),
                tail: Vec::new(),
                room,
                refilled: Instant::now(),
                suppressed: 0,
            }),
        }
    }

    pub(crate) fn stream(self: &Arc<Self>, source: Source) -> GuestStream {
        GuestStream {
            log: Arc::clone(self),
            source,
        }
    }

    /// One message of `wasi:logging`.
    pub(crate) fn log(&self, level: Level, context: &str, message: &str) {
        let context = cut(context, LINE_BYTES_MAX);
        let message = cut(message, LINE_BYTES_MAX);
        let admitted = self.inner().admit(
            context.len() + message.len(),
            self.identity.limits.log_bytes_per_second,
        );
        if let Some(suppressed) = admitted {
            self.tell_suppressed(suppressed);
            self.emit(level, context, message);
        }
    }

    /// The last of stderr, and an end to what stands there unfinished: the guest is gone.
    pub(crate) fn take_stderr_tail(&self) -> String {
        let (rest_out, rest_err, tail) = {
            let mut inner = self.inner();
            (
                std::mem::take(&mut inner.stdout),
                std::mem::take(&mut inner.stderr),
                std::mem::take(&mut inner.tail),
            )
        };
        self.line(Source::Stdout, &rest_out);
        self.line(Source::Stderr, &rest_err);
        String::from_utf8_lossy(&tail).trim().to_owned()
    }

    fn write(&self, source: Source, bytes: &[u8]) {
        let mut lines: Vec<Vec<u8>> = Vec::new();
        {
            let mut inner = self.inner();
            if source == Source::Stderr {
                inner.keep_tail(bytes);
            }
            let pending = match source {
                Source::Stdout => &mut inner.stdout,
                Source::Stderr => &mut inner.stderr,
            };
            for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                for piece in piece.chunks(LINE_BYTES_MAX) {
                    pending.extend_from_slice(piece);
                    if piece.ends_with(b"\n") || pending.len() >= LINE_BYTES_MAX {
                        lines.push(std::mem::take(pending));
                    }
                }
            }
        }
        for line in lines {
            self.line(source, &line);
        }
    }

    fn line(&self, source: Source, line: &[u8]) {
        let line = line.trim_ascii_end();
        if line.is_empty() {
            return;
        }
        let admitted = self
            .inner()
            .admit(line.len(), self.identity.limits.log_bytes_per_second);
        if let Some(suppressed) = admitted {
            self.tell_suppressed(suppressed);
            let text = String::from_utf8_lossy(line);
            match source {
                Source::Stdout => self.emit(Level::INFO, "stdout", &text),
                Source::Stderr => self.emit(Level::WARN, "stderr", &text),
            }
        }
    }

    fn tell_suppressed(&self, suppressed: u64) {
        if suppressed > 0 {
            tracing::warn!(
                tenant = &*self.identity.tenant,
                plugin = &*self.identity.plugin,
                instance = self.instance,
                suppressed,
                limit_bytes_per_second = self.identity.limits.log_bytes_per_second,
                "the plugin said more than is logged per second; messages were left out"
            );
        }
    }

    fn emit(&self, level: Level, context: &str, message: &str) {
        // The macros need a level known at compile time.
        macro_rules! say {
            ($level:ident) => {
                tracing::$level!(
                    target: "tidegate::plugin",
                    tenant = &*self.identity.tenant,
                    plugin = &*self.identity.plugin,
                    instance = self.instance,
                    context,
                    "{message}"
                )
            };
        }
        match level {
            Level::TRACE => say!(trace),
            Level::DEBUG => say!(debug),
            Level::INFO => say!(info),
            Level::WARN => say!(warn),
            Level::ERROR => say!(error),
        }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, OutputInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OutputInner {
    /// Charges `bytes`; gives how many messages were suppressed before, or None to suppress this.
    fn admit(&mut self, bytes: usize, per_second: usize) -> Option<u64> {
        let bytes = bytes.saturating_add(32);
        if self.room < bytes {
            let elapsed = self.refilled.elapsed();
            let earned = elapsed.as_millis().saturating_mul(per_second as u128) / 1000;
            let earned = usize::try_from(earned).unwrap_or(usize::MAX);
            if earned > 0 {
                self.room = self.room.saturating_add(earned).min(per_second);
                self.refilled = Instant::now();
            }
        }
        if self.room < bytes {
            self.suppressed += 1;
            return None;
        }
        self.room -= bytes;
        Some(std::mem::take(&mut self.suppressed))
    }

    fn keep_tail(&mut self, bytes: &[u8]) {
        let start = bytes.len().saturating_sub(TAIL_BYTES_MAX);
        self.tail.extend(bytes.iter().skip(start));
        let excess = self.tail.len().saturating_sub(TAIL_BYTES_MAX);
        self.tail.drain(..excess);
    }
}

/// The first bytes of `text`, at most `bytes_max`, whole characters only.
fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max))
        .unwrap_or_default()
}

/// stdout or stderr of a guest. Never waits, never fails.
pub(crate) struct GuestStream {
    log: Arc<OutputLog>,
    source: Source,
}

impl IsTerminal for GuestStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.log.stream(self.source))
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.log.stream(self.source))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestStream {
    async fn ready(&mut self) {}
}

impl OutputStream for GuestStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.write(self.source, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl AsyncWrite for GuestStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.log.write(self.source, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
