//! The engine that all plugins of a process share: its settings, its clock, its linkers and its
//! cache of compiled code.
//!
//! One engine per process, since its limits are part of the compiled code; limits of tenants
//! belong to each Store. A thread advances the engine's clock while the engine lives; guests look
//! at it to yield and to stop. Compilation runs off the async threads, two at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_watchdog::{Pulse, tolerate_sync};
use tidegate_wire::deploy::version_of;
use tokio::sync::Semaphore;
use wasmtime::component::{Component, Linker};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
};

use crate::cache::CompileCache;
use crate::compilers::Compilers;
use crate::host_api::{self, HostState};
use crate::limits::{TABLE_ELEMENTS_MAX, TICK};
use crate::plugin::{self, Plugin, PluginError, PluginKind};

/// Core instances inside one component: Rust has 3, Python some 14.
const CORE_INSTANCES_PER_COMPONENT: u32 = 16;
/// Instances beyond the configured ones: quarantine, and a trapped one that is not yet gone.
const SPARE_INSTANCES: u32 = 8;
/// The stack of wasm code; host functions get the rest of the fiber's stack.
const WASM_STACK_BYTES: usize = 512 << 10;
const FIBER_STACK_BYTES: usize = 1 << 20;
/// With little address space: what a memory that grows reserves beyond its size, so that it does not
/// move at each step, and the guard behind it.
const NARROW_GROWTH_BYTES: u64 = 4 << 20;
const NARROW_GUARD_BYTES: u64 = 64 << 10;
/// Compilations at a time. A large guest costs more than ten CPU-seconds.
const COMPILATIONS_MAX: usize = 2;
/// The largest plugin file.
const FILE_BYTES_MAX: u64 = 256 << 20;
const BACKTRACE_FRAMES_MAX: usize = 32;

/// How the engine is built.
#[derive(Clone, Debug)]
pub struct RuntimeSettings {
    /// Where compiled code is kept between runs; None keeps nothing.
    pub cache_dir: Option<PathBuf>,
    /// How many bytes of compiled code are kept there; the least lately used goes first.
    pub cache_bytes_max: u64,
    /// Instances of all deployments together. The pool has room for twice as many, so that a new
    /// version can start beside the old one.
    pub instances_max: u32,
    /// The largest memory that any instance may have; sizes the pool.
    pub memory_bytes_max: usize,
    /// Keep a pool of memories and stacks. Needs much address space; without it each instance
    /// allocates its own.
    pub pooling: bool,
}

impl Default for RuntimeSettings {
    fn default() -> Self {
        Self {
            cache_dir: None,
            cache_bytes_max: 512 << 20,
            instances_max: 64,
            memory_bytes_max: 128 << 20,
            pooling: true,
        }
    }
}

/// Why the engine cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The engine refuses its settings.
    #[error("the wasm engine cannot be built: {0:#}")]
    Engine(wasmtime::Error),
    /// The host functions do not fit together.
    #[error("the host functions cannot be linked: {0:#}")]
    Linker(wasmtime::Error),
    /// The thread of the engine's clock cannot be started.
    #[error("the thread that limits the CPU time of plugins cannot be started: {0}")]
    Clock(std::io::Error),
    /// The threads of the compiler cannot be started.
    #[error("the threads that compile plugins cannot be started: {0}")]
    Compilers(rayon::ThreadPoolBuildError),
}

/// Everything that plugins of one process share. Clones are handles to the same.
#[derive(Clone)]
pub struct Runtime {
    shared: Arc<EngineShared>,
}

struct EngineShared {
    engine: Engine,
    handlers: Linker<HostState>,
    commands: Linker<HostState>,
    /// Of codecs and routers.
    answerers: Linker<HostState>,
    cache: Option<CompileCache>,
    compilers: Compilers,
    compilations: Arc<Semaphore>,
    memory_bytes_max: usize,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

impl Runtime {
    /// Builds the engine and starts its clock.
    ///
    /// # Errors
    /// If the engine refuses the settings or no thread can be started. A cache directory that
    /// cannot be used is only logged.
    pub fn new(settings: RuntimeSettings) -> Result<Self, RuntimeError> {
        let engine = build_engine(&settings)?;
        start_clock(&engine).map_err(RuntimeError::Clock)?;
        let handlers = host_api::linker_of_handlers(&engine).map_err(RuntimeError::Linker)?;
        let commands = host_api::linker_of_commands(&engine).map_err(RuntimeError::Linker)?;
        let answerers = host_api::shared_linker(&engine).map_err(RuntimeError::Linker)?;
        let cache = settings.cache_dir.as_deref().and_then(|dir| {
            CompileCache::open(dir, settings.cache_bytes_max, &engine)
                .inspect_err(|error| {
                    tracing::warn!(
                        dir = %dir.display(),
                        %error,
                        "compiled plugins are not kept: the cache directory cannot be used"
                    );
                })
                .ok()
        });
        Ok(Self {
            shared: Arc::new(EngineShared {
                engine,
                handlers,
                commands,
                answerers,
                cache,
                compilers: Compilers::start().map_err(RuntimeError::Compilers)?,
                compilations: Arc::new(Semaphore::new(COMPILATIONS_MAX)),
                memory_bytes_max: settings.memory_bytes_max,
            }),
        })
    }

    /// Reads, checks and compiles a plugin file. Nothing of the plugin runs.
    ///
    /// # Errors
    /// Says what is wrong with the file and what to do about it.
    pub async fn load(&self, path: &Path) -> Result<Plugin, PluginError> {
        let bytes = read_file(path).await?;
        self.load_bytes(&path.display().to_string(), bytes).await
    }

    /// Checks and compiles a plugin; `name` stands in logs and errors.
    ///
    /// # Errors
    /// Says what is wrong with the bytes and what to do about it.
    pub async fn load_bytes(&self, name: &str, bytes: Vec<u8>) -> Result<Plugin, PluginError> {
        // Never closed, so a permit always comes.
        let permit = Arc::clone(&self.shared.compilations)
            .acquire_owned()
            .await
            .ok();
        let runtime = self.clone();
        let own_name = name.to_owned();
        let work = move || {
            let _permit = permit;
            // Not in the pool: who waits there could stand on the compile that it waits for.
            let cache = runtime.shared.cache.as_ref();
            let _turn = cache.and_then(|cache| cache.turn(&version_of(&bytes)));
            let load = || plugin::load(&runtime, &own_name, &bytes);
            tolerate_sync(|| runtime.shared.compilers.run(load))
        };
        // A component that makes the compiler panic is refused, and nobody else is concerned.
        let failed = |reason: String| PluginError::Invalid {
            name: name.to_owned(),
            reason: format!("the compiler failed: {reason}"),
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(result)) => result,
            Ok(Err(panicked)) => Err(failed(panicked.0)),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// The compiled component of these bytes, from the cache if it is there. Blocks.
    pub(crate) fn compile(&self, hash: &str, bytes: &[u8]) -> wasmtime::Result<Component> {
        let EngineShared { engine, cache, .. } = &*self.shared;
        if let Some(cached) = cache.as_ref().and_then(|cache| cache.get(engine, hash)) {
            return Ok(cached);
        }
        let component = Component::new(engine, bytes)?;
        if let Some(cache) = cache {
            cache.put(hash, &component);
        }
        Ok(component)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// What this kind of component is offered.
    pub(crate) fn linker(&self, kind: PluginKind) -> &Linker<HostState> {
        match kind {
            PluginKind::Handler => &self.shared.handlers,
            PluginKind::Command => &self.shared.commands,
            PluginKind::Codec | PluginKind::Router => &self.shared.answerers,
        }
    }

    pub(crate) fn memory_bytes_max(&self) -> usize {
        self.shared.memory_bytes_max
    }
}

/// The bytes of a plugin file, unless it is larger than any plugin may be.
pub(crate) async fn read_file(path: &Path) -> Result<Vec<u8>, PluginError> {
    let error = |source| PluginError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = tokio::fs::metadata(path).await.map_err(error)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(PluginError::TooLarge {
            name: path.display().to_string(),
            reason: format!("the file has {bytes} bytes, at most {FILE_BYTES_MAX} are read"),
        });
    }
    tokio::fs::read(path).await.map_err(error)
}

/// With the pool if there is address space for it, else with memories that reserve little of it.
fn build_engine(settings: &RuntimeSettings) -> Result<Engine, RuntimeError> {
    let mut config = engine_config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(settings)));
    let pooled = Engine::new(&config);
    let mut config = engine_config();
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    match pooled {
        Ok(engine) if settings.pooling => return Ok(engine),
        // What a pool fits into, memories of their own do too.
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(
                error = format!("{error:#}"),
                instances_max = settings.instances_max,
                "no room for a pool of instances (a limit of address space?); each instance \
                 allocates its own memory and checks its bounds, which is slower"
            );
            // Else each memory reserves 4 GiB, so that no bound has to be checked.
            config
                .memory_reservation(0)
                .memory_reservation_for_growth(NARROW_GROWTH_BYTES)
                .memory_guard_size(NARROW_GUARD_BYTES)
                .guard_before_linear_memory(false);
        }
    }
    Engine::new(&config).map_err(RuntimeError::Engine)
}

fn engine_config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        // The contract is synchronous: calls are cheaper and a dropped call really ends.
        .concurrency_support(false)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(BACKTRACE_FRAMES_MAX))
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        .memory_init_cow(true)
        // Snapshots of JavaScript and Python engines get a copy-on-write image too.
        .memory_guaranteed_dense_image_size(64 << 20)
        .parallel_compilation(true)
        .wasm_memory64(false);
    config
}

fn pool(settings: &RuntimeSettings) -> PoolingAllocationConfig {
    let instances = settings
        .instances_max
        .saturating_mul(2)
        .saturating_add(SPARE_INSTANCES);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_PER_COMPONENT))
        .total_memories(instances.saturating_mul(2))
        .total_tables(instances.saturating_mul(8))
        .total_stacks(instances)
        .max_memory_size(settings.memory_bytes_max)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_tables_per_module(4)
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        .linear_memory_keep_resident(1 << 20)
        .table_keep_resident(64 << 10)
        .max_unused_warm_slots(settings.instances_max)
        .decommit_batch_size(16);
    pool
}

/// One thread for all instances; it ends with the engine.
fn start_clock(engine: &Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new()
        .name("tidegate-epoch".to_owned())
        .spawn(move || {
            let pulse = Pulse::new("the clock of plugins");
            loop {
                pulse.beat();
                #[allow(
                    clippy::disallowed_methods,
                    reason = "a thread of its own whose only work is to tick"
                )]
                std::thread::sleep(TICK);
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        })
        .map(drop)
}
