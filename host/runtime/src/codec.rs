//! One codec for one tenant: bytes of connections go in and messages come out, and the other way.
//!
//! Nothing of a connection lives in an instance: its state comes with each job and goes back with
//! the outcome. So any instance takes any job, a call that breaks costs no other connection
//! anything, and a swap needs no hand-over. Each instance is a task on the executor on which the
//! deployment was started; it takes jobs as long as there are any without going to sleep.
//!
//! A call that breaks is tried once more on a fresh instance, unless it used up its CPU time: another
//! call may have left the instance without memory. Its instance is dropped either way.

mod meters;
mod queue;
mod run;
mod trouble;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tidegate_wire::Name;
use tidegate_wire::event::Message;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::deployment::Boxed;
use crate::engine::Runtime;
use crate::limits::Limits;
use crate::plugin::{Plugin, PluginError};
use crate::version::{Version, Whose};

use meters::Meters;
use queue::{JobQueue, Waiting};
use run::Seat;
use trouble::Trouble;

/// What a deployment of a codec is.
#[derive(Clone, Debug)]
pub struct CodecSettings {
    /// Its name in the configuration.
    pub name: Name,
    /// Whose listeners.
    pub tenant: Name,
    /// This gateway's name in its configuration.
    pub gateway_name: Name,
    /// Per call and per instance. `effects_max` are messages of one call, `effect_bytes_max` bytes
    /// of all messages of one call, or those that are sent for one message.
    pub limits: Limits,
    /// The component's own configuration.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// Instances; at least one.
    pub instances: usize,
    /// Jobs that may wait for an instance. Over it whoever has one waits before it.
    pub waiting_max: usize,
    /// Bytes that a codec may keep of one connection.
    pub state_bytes_max: usize,
}

impl CodecSettings {
    fn whose(&self) -> Whose<'_> {
        Whose {
            tenant: &self.tenant,
            node_name: &self.gateway_name,
            tags: &[],
            limits: self.limits,
            config: &self.config,
        }
    }
}

/// What is to be done for one connection: first what is to be sent, then what has come.
#[derive(Debug, Default)]
pub struct CodecJob {
    /// IP address and port of the client.
    pub peer: Arc<str>,
    /// What the job before has left.
    pub state: Bytes,
    /// What is to be sent, in order.
    pub send: Vec<CodecPart>,
    /// What has come and was not taken before.
    pub input: Option<CodecInput>,
}

/// One thing that is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodecPart {
    /// As it is.
    Raw(Bytes),
    /// To be made bytes.
    Message(Message),
}

/// Bytes of a connection.
#[derive(Debug, Default)]
pub struct CodecInput {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// No more will come.
    pub ended: bool,
}

/// What came of a job.
#[derive(Debug, Default)]
pub struct CodecOutcome {
    /// What the next job gets.
    pub state: Bytes,
    /// Bytes to be sent, in order.
    pub bytes: Vec<Bytes>,
    /// Messages that were refused and are not sent.
    pub unsent: u32,
    /// The bytes that came, with what was made of them.
    pub decoded: Option<Decoded>,
    /// Why the connection is to be closed, behind what was sent before.
    pub fault: Option<CodecFault>,
}

/// What was made of bytes.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Messages, in order.
    pub messages: Vec<Message>,
    /// The bytes that are not done with.
    pub rest: Vec<u8>,
    /// How many bytes, those included, are needed for anything to come of them; 0 if unknown.
    pub needs: usize,
    /// They are there: the codec had enough for one call and is to be called again at once.
    pub again: bool,
}

/// Why a connection is to be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecFault {
    /// The codec says that the client broke the protocol.
    #[error("{0}")]
    Refused(String),
    /// The codec broke, on a fresh instance too.
    #[error("{0}")]
    Broken(String),
    /// What it returned cannot be.
    #[error("{0}")]
    Nonsense(String),
    /// It is stopped.
    #[error("the codec is stopped")]
    Stopped,
}

/// A running codec. Clones are handles to the same.
#[derive(Clone)]
pub struct CodecDeployment {
    shared: Arc<CodecShared>,
}

struct CodecShared {
    runtime: Runtime,
    settings: CodecSettings,
    current: Mutex<Arc<Version>>,
    version: watch::Sender<Name>,
    queue: JobQueue,
    /// Jobs that wait, run or whose outcome nobody has taken yet.
    places: Arc<Semaphore>,
    /// One swap at a time.
    swaps: Semaphore,
    meters: Meters,
    trouble: Trouble,
    tasks: TaskTracker,
    abort: CancellationToken,
}

impl std::fmt::Debug for CodecDeployment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CodecDeployment")
            .field("name", &self.shared.settings.name)
            .field("version", &*self.shared.version.borrow())
            .finish_non_exhaustive()
    }
}

impl CodecDeployment {
    /// Starts its instances; ready when a first one is there.
    ///
    /// # Errors
    /// If the plugin is no codec or does not start.
    pub async fn start(
        runtime: &Runtime,
        plugin: Plugin,
        mut settings: CodecSettings,
    ) -> Result<Self, PluginError> {
        settings.instances = settings.instances.clamp(1, u16::MAX.into());
        let memory_bytes = &mut settings.limits.memory_bytes;
        *memory_bytes = (*memory_bytes).min(runtime.memory_bytes_max());
        let version = started(runtime, plugin, &settings).await?;
        let (name, _) = watch::channel(version.plugin.version().clone());
        let places = settings.instances.saturating_add(settings.waiting_max);
        let shared = Arc::new(CodecShared {
            runtime: runtime.clone(),
            current: Mutex::new(version),
            version: name,
            queue: JobQueue::default(),
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            swaps: Semaphore::new(1),
            meters: Meters::new(&settings.name, &settings.tenant),
            trouble: Trouble::default(),
            tasks: TaskTracker::new(),
            abort: CancellationToken::new(),
            settings,
        });
        for number in 0..shared.settings.instances {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            shared.tasks.spawn(Seat::new(&shared, number).work());
        }
        Ok(Self { shared })
    }

    /// Does one job. A connection gives one at a time. Does not block the caller's thread; a job
    /// whose future is dropped is not begun.
    pub fn run(&self, job: CodecJob) -> Boxed<CodecOutcome> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let stopped = || CodecOutcome {
                fault: Some(CodecFault::Stopped),
                ..CodecOutcome::default()
            };
            let Ok(place) = Arc::clone(&shared.places).acquire_owned().await else {
                return stopped();
            };
            let (tell, told) = oneshot::channel();
            shared.queue.push(Waiting { job, tell, place });
            match told.await {
                Ok((outcome, _place)) => outcome,
                Err(_dropped) => stopped(),
            }
        })
    }

    /// Replaces the version. Calls under way end on the old one; what it kept of connections goes
    /// on to the new one.
    ///
    /// # Errors
    /// If no instance of the new version starts: the old one serves on.
    pub async fn swap(&self, plugin: Plugin) -> Result<(), PluginError> {
        let shared = &self.shared;
        let name = plugin.source().to_string();
        let turn = shared.swaps.acquire().await;
        let _turn = turn.map_err(|_closed| PluginError::Stopped { name })?;
        let started = started(&shared.runtime, plugin, &shared.settings).await;
        shared.meters.reload(started.is_ok());
        let new = started?;
        let version = new.plugin.version().clone();
        *shared
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = new;
        shared.version.send_replace(version);
        Ok(())
    }

    /// The version that serves.
    #[must_use]
    pub fn version(&self) -> watch::Receiver<Name> {
        self.shared.version.subscribe()
    }

    /// What went wrong lately and is the codec's own fault: a part of a sentence.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lately()
    }

    /// Takes no more jobs and finishes those that wait; what is not done by the deadline is given
    /// up.
    pub async fn stop(&self, deadline: Duration) {
        let shared = &self.shared;
        shared.swaps.close();
        let all = shared.settings.instances + shared.settings.waiting_max;
        let all = u32::try_from(all).unwrap_or(u32::MAX);
        // All places are free: nothing waits, nothing runs.
        let _ = timeout(deadline, shared.places.acquire_many(all)).await;
        shared.places.close();
        shared.abort.cancel();
        shared.queue.clear();
        shared.tasks.close();
        shared.tasks.wait().await;
    }
}

/// A version of which an instance starts: that is known before it serves.
async fn started(
    runtime: &Runtime,
    plugin: Plugin,
    settings: &CodecSettings,
) -> Result<Arc<Version>, PluginError> {
    plugin.framing()?;
    let version = Version::new(plugin, &settings.whose());
    run::instance(runtime, &version, 0, &version.output(0)).await?;
    Ok(version)
}
