//! The control thread: signals and the admin listener, apart from the runtime that serves clients,
//! so that a process whose work is stuck still says so and still takes a signal.

use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use tidegate_watchdog as watchdog;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::{API_TOKEN, Config, ConfigErrors, Difference, differences};
use crate::ending::{self, FAILED};
use crate::telemetry::Logging;

/// A signal that is repeated earlier is the same one: shells, npm and other wrappers pass on what
/// their children were sent as well.
const REPEATED: Duration = Duration::from_secs(1);
/// How often the runtimes show that they turn.
const BEAT: Duration = Duration::from_millis(500);

static CONTROL: OnceLock<Handle> = OnceLock::new();
static HANG_UPS: LazyLock<watch::Sender<Latest>> = LazyLock::new(|| watch::channel(None).0);

/// The configuration that SIGHUP read last and that can be used, if there is one.
pub type Latest = Option<Arc<Config>>;

/// Reads the configuration anew.
pub type Reread = Box<dyn Fn() -> Result<Config, ConfigErrors> + Send>;

/// Starts the thread, which takes the process's signals from now on.
///
/// # Errors
/// When there is no thread or no signal to be had.
pub fn start(config: &Config, logging: Logging, reread: Reread) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the control thread's runtime cannot be started")?;
    let signals = {
        let _inside = runtime.enter();
        Signals::take()?
    };
    let _ = CONTROL.set(runtime.handle().clone());
    let reload = Reload {
        in_force: config.clone(),
        logging,
        reread,
        latest: None,
    };
    let thread = std::thread::Builder::new().name("control".to_owned());
    let run = async move {
        tokio::spawn(beat("the control thread"));
        signals.obey(reload).await;
    };
    thread
        .spawn(move || runtime.block_on(run))
        .context("the control thread cannot be started")?;
    Ok(())
}

/// The control thread's runtime; the caller's own where there is none, as in tests.
#[must_use]
pub fn handle() -> Handle {
    CONTROL.get().cloned().unwrap_or_else(Handle::current)
}

/// Changes at each SIGHUP from now on, for those who take up more than the log's level.
#[must_use]
pub fn hang_ups() -> watch::Receiver<Latest> {
    HANG_UPS.subscribe()
}

/// Shows that a runtime turns. To be run on it.
pub async fn beat(name: &str) {
    let pulse = watchdog::Pulse::new(name);
    let mut ticks = tokio::time::interval(BEAT);
    loop {
        ticks.tick().await;
        pulse.beat();
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hang_up: Signal,
    user_1: Signal,
    user_2: Signal,
}

impl Signals {
    fn take() -> anyhow::Result<Self> {
        let take = |kind, name| signal(kind).context(name);
        Ok(Self {
            terminate: take(SignalKind::terminate(), "SIGTERM")?,
            interrupt: take(SignalKind::interrupt(), "SIGINT")?,
            quit: take(SignalKind::quit(), "SIGQUIT")?,
            hang_up: take(SignalKind::hangup(), "SIGHUP")?,
            user_1: take(SignalKind::user_defined1(), "SIGUSR1")?,
            user_2: take(SignalKind::user_defined2(), "SIGUSR2")?,
        })
    }

    async fn obey(mut self, mut reload: Reload) {
        let mut first: Option<Instant> = None;
        loop {
            let name = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.quit.recv() => "SIGQUIT",
                _ = self.hang_up.recv() => {
                    reload.all();
                    continue;
                }
                _ = self.user_1.recv() => {
                    tracing::info!("SIGUSR1: looking at the plugins");
                    tidegate_runtime::look_at_plugins();
                    continue;
                }
                _ = self.user_2.recv() => {
                    tracing::info!("SIGUSR2 is kept for upgrades: nothing is done");
                    continue;
                }
            };
            match first {
                None => {
                    first = Some(Instant::now());
                    tracing::info!(
                        signal = name,
                        "stopping; another signal after a second ends at once"
                    );
                    ending::begin();
                }
                Some(first) if first.elapsed() < REPEATED => {
                    tracing::debug!(signal = name, "the same signal again");
                }
                Some(_) => {
                    tracing::warn!(signal = name, "another signal: ending at once");
                    ending::leave(FAILED);
                }
            }
        }
    }
}

/// What SIGHUP does.
struct Reload {
    in_force: Config,
    logging: Logging,
    reread: Reread,
    latest: Latest,
}

impl Reload {
    fn all(&mut self) {
        self.logging.writer.reopen();
        tracing::info!("SIGHUP: looking at log, configuration and plugins");
        match (self.reread)() {
            Ok(config) => self.compare(config),
            Err(errors) => {
                for error in errors.iter() {
                    tracing::error!(%error, "the configuration cannot be used: the old one stays in force");
                }
            }
        }
        HANG_UPS.send_replace(self.latest.clone());
        tidegate_runtime::look_at_plugins();
    }

    /// The log's level and the tokens are taken; what else is new waits for the next start, and is
    /// named.
    fn compare(&mut self, config: Config) {
        if config.log.level != self.in_force.log.level {
            match self.logging.set_level(&config.log.level) {
                Ok(()) => {
                    self.in_force.log.level = config.log.level.clone();
                    tracing::info!(level = self.in_force.log.level, "the log's level is new");
                }
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "the log's level stays")
                }
            }
        }
        let all = differences(&self.in_force, &config);
        let (tokens, waiting): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|it| it.table == API_TOKEN);
        // One line for all: lines have a budget, and none of these may be left out.
        if !tokens.is_empty() {
            let changed = text_of(&tokens);
            tracing::info!(
                changed,
                "tokens of the configuration have changed: they are looked at now"
            );
        }
        if !waiting.is_empty() {
            let changed = text_of(&waiting);
            tracing::warn!(
                changed,
                "settings of the configuration have changed: they are in force after a restart"
            );
        }
        self.in_force.api_tokens = config.api_tokens.clone();
        self.latest = Some(Arc::new(config));
    }
}

fn text_of(differences: &[Difference]) -> String {
    let texts: Vec<&str> = differences.iter().map(|it| it.text.as_str()).collect();
    texts.join("; ")
}
