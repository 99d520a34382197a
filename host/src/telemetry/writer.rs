//! The log's writer: a thread of its own behind a bounded queue.
//!
//! Whoever logs never waits and never fails: a line that finds the queue full, or that cannot be
//! written, is dropped and counted, and the count is told once lines can be written again.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use tidegate_watchdog::Pulse;
use tracing_subscriber::fmt::MakeWriter;

/// How many lines may wait, and how many bytes of them.
const LINES_MAX: usize = 8_192;
const BYTES_MAX: usize = 4 << 20;
/// A longer line is not one for people.
const LINE_BYTES_MAX: usize = 128 << 10;
/// Written at once.
const BATCH_BYTES: usize = 64 << 10;
/// How long a pipe that takes nothing at the moment is asked again.
const PATIENCE: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_millis(10);
/// How often the writer looks around when nothing is logged.
const LOOK: Duration = Duration::from_secs(1);

enum WriterOrder {
    Line(Box<[u8]>),
    Reopen,
    Flushed(SyncSender<()>),
}

/// The way to the writer. Clones share one queue.
#[derive(Clone)]
pub struct LogWriter {
    queue: SyncSender<WriterOrder>,
    shared: Arc<WriterShared>,
}

#[derive(Debug, Default)]
struct WriterShared {
    /// Of the lines that wait.
    bytes: AtomicUsize,
    /// Since lines could last be written.
    lost: AtomicU64,
    /// Whether lines are JSON.
    json: bool,
}

impl std::fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogWriter").finish_non_exhaustive()
    }
}

impl WriterShared {
    fn lose(&self, lines: u64, reason: &'static str) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
        metrics::counter!("tidegate_log_lines_lost_total", "reason" => reason).increment(lines);
    }
}

impl LogWriter {
    /// Starts the thread, which writes to the end of `file`, or to standard error. It calls `look`
    /// every now and then.
    ///
    /// # Errors
    /// When the file cannot be opened, or there is no thread to be had.
    pub fn start(
        file: Option<PathBuf>,
        json: bool,
        look: impl FnMut() + Send + 'static,
    ) -> io::Result<Self> {
        let sink = Sink::open(file)?;
        let (queue, entries) = sync_channel(LINES_MAX);
        let shared = Arc::new(WriterShared {
            json,
            ..WriterShared::default()
        });
        let writer = Thread {
            sink,
            shared: shared.clone(),
            batch: Vec::new(),
            lines: 0,
            torn: false,
        };
        let thread = std::thread::Builder::new().name("log".to_owned());
        thread.spawn(move || writer.run(&entries, look))?;
        Ok(Self { queue, shared })
    }

    /// Opens the file anew, which others may have renamed meanwhile.
    pub fn reopen(&self) {
        // A full queue is told by the lines that are lost.
        let _ = self.queue.try_send(WriterOrder::Reopen);
    }

    /// Waits until all that was logged before is written, or cannot be, at most for so long. False if
    /// there is no writer any more.
    #[must_use]
    pub fn flush(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let (flushed, told) = sync_channel(1);
        let mut entry = WriterOrder::Flushed(flushed);
        loop {
            match self.queue.try_send(entry) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => entry = back,
                Err(TrySendError::Full(_)) => return true,
                Err(TrySendError::Disconnected(_)) => return false,
            }
            std::thread::park_timeout(ASK_AGAIN);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        told.recv_timeout(left) != Err(RecvTimeoutError::Disconnected)
    }

    /// Whether the thread has ended.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        let (told, _) = sync_channel(1);
        matches!(
            self.queue.try_send(WriterOrder::Flushed(told)),
            Err(TrySendError::Disconnected(_))
        )
    }

    fn offer(&self, line: &[u8]) {
        if line.len() > LINE_BYTES_MAX {
            return self.shared.lose(1, "long");
        }
        let line = if self.shared.json {
            escape_json(line)
        } else {
            line.into()
        };
        // Counted as it waits: escaping makes it longer.
        let length = line.len();
        let waiting = self.shared.bytes.fetch_add(length, Ordering::Relaxed);
        if waiting + length > BYTES_MAX || self.queue.try_send(WriterOrder::Line(line)).is_err() {
            self.shared.bytes.fetch_sub(length, Ordering::Relaxed);
            self.shared.lose(1, "full");
        }
    }
}

/// JSON leaves control characters above ASCII as they are; terminals obey them.
fn escape_json(line: &[u8]) -> Box<[u8]> {
    let text = String::from_utf8_lossy(line);
    let is_control = |it: char| it.is_control() && !it.is_ascii_whitespace();
    if !text.contains(is_control) {
        return line.into();
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for it in text.chars() {
        if is_control(it) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(it)));
        } else {
            escaped.push(it);
        }
    }
    escaped.into_bytes().into()
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// Takes one line, which is written as a whole.
#[derive(Debug)]
pub struct Line<'a>(&'a LogWriter);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.offer(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Sink {
    Error(io::Stderr),
    File(PathBuf, File),
}

impl Sink {
    fn open(file: Option<PathBuf>) -> io::Result<Self> {
        match file {
            None => Ok(Self::Error(io::stderr())),
            Some(path) => {
                let file = append(&path)?;
                Ok(Self::File(path, file))
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Error(stderr) => stderr.write(bytes),
            Self::File(_, file) => file.write(bytes),
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

struct Thread {
    sink: Sink,
    shared: Arc<WriterShared>,
    batch: Vec<u8>,
    /// In the batch.
    lines: u64,
    /// Whether the last thing that was written is a part of a line.
    torn: bool,
}

impl Thread {
    fn run(mut self, entries: &Receiver<WriterOrder>, mut look: impl FnMut()) {
        let pulse = Pulse::new("the log's writer");
        let mut looked = Instant::now();
        loop {
            pulse.beat();
            match entries.recv_timeout(LOOK) {
                Ok(entry) => {
                    // However long whoever reads the log takes: it holds up nobody but the log.
                    pulse.rest();
                    self.take(entry);
                    while self.batch.len() < BATCH_BYTES
                        && let Ok(entry) = entries.try_recv()
                    {
                        self.take(entry);
                    }
                    self.write();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                look();
            }
        }
    }

    fn take(&mut self, entry: WriterOrder) {
        match entry {
            WriterOrder::Line(line) => {
                self.shared.bytes.fetch_sub(line.len(), Ordering::Relaxed);
                self.batch.extend_from_slice(&line);
                self.lines += 1;
            }
            WriterOrder::Reopen => {
                self.write();
                self.reopen();
            }
            WriterOrder::Flushed(told) => {
                self.write();
                // Who waited may have gone.
                let _ = told.try_send(());
            }
        }
    }

    fn reopen(&mut self) {
        if let Sink::File(path, file) = &mut self.sink {
            match append(path) {
                Ok(new) => *file = new,
                Err(error) => tracing::error!(file = %path.display(), %error,
                    "the log's file cannot be opened anew: the old one is written on"),
            }
        }
    }

    fn write(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        let lines = std::mem::take(&mut self.lines);
        if self.torn {
            batch.insert(0, b'\n');
        }
        match self.write_all(&batch) {
            Ok(()) => {
                self.torn = false;
                self.tell_lost();
            }
            Err(written) => {
                self.torn = match written {
                    0 => self.torn,
                    _ => batch.get(written - 1) != Some(&b'\n'),
                };
                let rest = batch.get(written..).unwrap_or_default();
                let lost = rest.iter().filter(|byte| **byte == b'\n').count() as u64;
                self.shared.lose(lost.min(lines), "unwritable");
            }
        }
        batch.clear();
        self.batch = batch;
    }

    /// The error is how much was written.
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut written = 0;
        let mut asked = Instant::now();
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match self.sink.write(rest) {
                Ok(0) => return Err(written),
                Ok(count) => {
                    written += count;
                    asked = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock && asked.elapsed() < PATIENCE =>
                {
                    std::thread::park_timeout(ASK_AGAIN);
                }
                Err(_) => return Err(written),
            }
        }
        Ok(())
    }

    fn tell_lost(&self) {
        let lost = self.shared.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(target: super::OWN, lost, "lines of the log could not be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_log_file_is_appended_to_and_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("log"), folder.path().join("log.1"));
        std::fs::write(&path, "before\n").unwrap();
        let writer = LogWriter::start(Some(path.clone()), false, || {}).unwrap();
        writer.offer(b"one\n");
        assert!(writer.flush(Duration::from_secs(10)));
        std::fs::rename(&path, &old).unwrap();
        writer.reopen();
        writer.offer(b"two\n");
        assert!(writer.flush(Duration::from_secs(10)));
        assert_eq!(
            (read(&old), read(&path)),
            ("before\none\n".into(), "two\n".into())
        );
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_hold_up_nobody() {
        let writer = LogWriter::start(Some("/dev/full".into()), false, || {}).unwrap();
        for _ in 0..3 {
            writer.offer(b"one\n");
        }
        assert!(writer.flush(Duration::from_secs(10)));
        assert_eq!(writer.shared.lost.load(Ordering::Relaxed), 3);
        assert_eq!(writer.shared.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn lines_that_are_escaped_are_counted_as_they_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let writer = LogWriter::start(Some(path.clone()), true, || {}).unwrap();
        for _ in 0..1_000 {
            writer.offer(format!("{}\n", "\u{85}".repeat(100)).as_bytes());
            assert!(writer.flush(Duration::from_secs(10)));
        }
        assert_eq!(writer.shared.bytes.load(Ordering::Relaxed), 0);
        writer.offer(b"the last\n");
        assert!(writer.flush(Duration::from_secs(10)));
        assert!(read(&path).ends_with("the last\n"));
    }

    #[test]
    fn a_queue_that_is_full_loses_lines_and_not_time() {
        let (queue, _entries) = sync_channel(2);
        let shared = Arc::default();
        let writer = LogWriter { queue, shared };
        for _ in 0..5 {
            writer.offer(b"one\n");
        }
        assert_eq!(writer.shared.lost.load(Ordering::Relaxed), 3);
        assert_eq!(writer.shared.bytes.load(Ordering::Relaxed), 8);
        let huge = vec![b'x'; LINE_BYTES_MAX + 1];
        writer.offer(&huge);
        assert_eq!(writer.shared.lost.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn json_has_no_character_that_a_terminal_obeys() {
        let line = escape_json("{\"a\":\"\u{9b}31m\u{7f}ü\"}\n".as_bytes());
        assert_eq!(&*line, "{\"a\":\"\\u009b31m\\u007fü\"}\n".as_bytes());
        let plain = b"{\"a\":\"b\"}\n";
        assert_eq!(&*escape_json(plain), plain);
    }
}
