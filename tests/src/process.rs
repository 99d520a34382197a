//! One child process: its output goes to a file, and it is killed when it is dropped.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::wait::eventually;

/// How much of a log is shown with a failed test.
const TAIL_BYTES: u64 = 6 * 1024;

/// A stopped process stops within microseconds; on a machine that does other things too, a little later.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

/// Whether the end of each log is shown when its process is dropped.
static TAILS: AtomicBool = AtomicBool::new(true);

/// For programs that are not tests: libtest shows the logs of failed tests only, nobody filters
/// theirs.
pub fn without_tails() {
    TAILS.store(false, Ordering::Relaxed);
}

/// A signal that a test sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: please stop.
    Terminate,
    /// SIGKILL: the process is gone at once.
    Kill,
    /// SIGSTOP: the process freezes, its sockets stay open.
    Stop,
    /// SIGCONT: it goes on.
    Continue,
    /// SIGINT: what a terminal sends.
    Interrupt,
    /// SIGQUIT: the same, harder.
    Quit,
    /// SIGHUP: look at logs, configuration and plugins again.
    HangUp,
    /// SIGUSR1: look at plugins.
    User1,
    /// SIGUSR2: nothing yet.
    User2,
}

/// A running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in `folder/name.log`; `again` goes on in the same file.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(name: &str, command: Command, folder: &Path, again: bool) -> Result<Self> {
        Self::spawn_to(name, command, folder, again, None)
    }

    /// The same, with its standard error elsewhere.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_to(
        name: &str,
        mut command: Command,
        folder: &Path,
        again: bool,
        stderr: Option<Stdio>,
    ) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let log = folder.join(format!("{name}.log"));
        if !again {
            File::create(&log)?;
        }
        let file = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(stderr.unwrap_or_else(|| file.into()))
            .spawn()
            .with_context(|| format!("cannot start {name}: {command:?}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.status() {
            anyhow::bail!("{} has ended already: {status}", self.name);
        }
        let number = match signal {
            Signal::Terminate => libc::SIGTERM,
            Signal::Kill => libc::SIGKILL,
            Signal::Stop => libc::SIGSTOP,
            Signal::Continue => libc::SIGCONT,
            Signal::Interrupt => libc::SIGINT,
            Signal::Quit => libc::SIGQUIT,
            Signal::HangUp => libc::SIGHUP,
            Signal::User1 => libc::SIGUSR1,
            Signal::User2 => libc::SIGUSR2,
        };
        let pid = libc::pid_t::try_from(self.pid())?;
        #[allow(
            unsafe_code,
            reason = "libc::kill takes two numbers and touches no memory; the child was not reaped a \
                      line ago and nobody else reaps it, so that the id is its own"
        )]
        let sent = unsafe { libc::kill(pid, number) };
        ensure!(sent == 0, "{} (pid {pid}) takes no {signal:?}", self.name);
        if signal == Signal::Stop {
            self.wait_until_stopped()?;
        }
        Ok(())
    }

    /// A stop signal is on its way when `kill` returns: threads that run on other cores may still
    /// answer somebody.
    fn wait_until_stopped(&self) -> Result<()> {
        let deadline = Instant::now() + STOPPED_WITHIN;
        let tasks = format!("/proc/{}/task", self.pid());
        loop {
            let mut all = true;
            for task in std::fs::read_dir(&tasks)? {
                let stat = std::fs::read_to_string(task?.path().join("stat"))?;
                // The state follows the name, which stands in parentheses and may hold anything.
                let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
                all &= state.is_some_and(|state| state.starts_with(['T', 't']));
            }
            if all {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{} does not stop", self.name);
            std::thread::yield_now();
        }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it is still there at the deadline.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let what = format!("{} ends", self.name);
        let child = &mut self.child;
        eventually(&what, async || Ok(child.try_wait()?)).await
    }

    /// How it ended, if it has.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Everything that it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .with_context(|| format!("{} is gone", self.name))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .context("no VmRSS in /proc/PID/status")?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    /// The CPU time that it has used.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))
            .with_context(|| format!("{} is gone", self.name))?;
        // Behind the name, which may have spaces: in user code and in the kernel, in hundredths.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks = ticks.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(10 * ticks))
    }

    fn tail(&self) -> Result<String> {
        let mut file = File::open(&self.log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let before = self.status();
        // A frozen process dies of SIGKILL as well. It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !TAILS.load(Ordering::Relaxed) {
            return;
        }
        // libtest shows this only when the test has failed.
        eprintln!(
            "--- {} ({}), whole log in {}\n{}",
            self.name,
            before.map_or_else(|| "was running".to_owned(), |status| status.to_string()),
            self.log.display(),
            self.tail().unwrap_or_default(),
        );
    }
}
