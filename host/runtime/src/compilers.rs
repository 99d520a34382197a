//! The threads that compile plugins: of low priority, so that what serves clients never waits for
//! a compilation, only the other way round. On a busy machine a new version then takes longer.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// The kernel gives threads of this niceness about a third of what it gives the others.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

/// A pool of threads, one per core.
#[derive(Debug)]
pub(crate) struct Compilers {
    pool: ThreadPool,
}

impl Compilers {
    pub(crate) fn start() -> Result<Self, ThreadPoolBuildError> {
        let pool = ThreadPoolBuilder::new()
            .thread_name(|number| format!("tidegate-compile-{number}"))
            .start_handler(|_| {
                give_way();
                // Whoever waits for the compilation gets the panic.
                tidegate_watchdog::tolerate_here();
            })
            .build()?;
        Ok(Self { pool })
    }

    /// Does this on the pool, and waits. The compiler shares its work out among the pool's threads,
    /// because it is called on one of them.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.pool.install(work)
    }
}

/// Lowers the priority of this thread.
#[cfg(target_os = "linux")]
fn give_way() {
    // For Linux a priority belongs to a thread, and no process means the calling one.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "compilations have the priority of everything else");
    }
}

/// Elsewhere a priority belongs to the whole process.
#[cfg(not(target_os = "linux"))]
fn give_way() {}
