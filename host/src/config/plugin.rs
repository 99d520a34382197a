//! The tables of what is run for tenants: handlers at workers, command components and codecs at
//! gateways.

use std::path::PathBuf;

use tidegate_wire::Name;

use super::listener::MESSAGE_BYTES_MAX;
use super::section::section;
use super::services::{BYTES, COUNT, PARALLEL, SECONDS, TIME, TIME_OR_OFF};
use super::types::{PluginConfig, Watch};

section! {
    /// A plugin and the tenant that it serves. A tenant has one.
    pub struct Plugin {
        /// The component file. A relative path starts at the folder of the configuration file.
        /// Not set: the tenant is served from its first `tidegate deploy` on. What was deployed
        /// takes the place of the file, which is not followed any more.
        file: Option<PathBuf> = None;
        /// Whom it serves.
        tenant: Name = "default".into();
        /// How many instances of it run in a worker; 0 is as many as `worker.instances` says.
        instances: usize = 0 => PARALLEL;
        /// How many of its tasks run at a time in a worker, each on an instance of its own; the others
        /// wait.
        task_instances: usize = 4 => 1..=1_024;
        /// How a new version is noticed when the file changes: the system tells it (`auto`, or
        /// `true`); by looking every second, for file systems where nothing is told (`poll`); not
        /// at all (`off`, or `false`).
        watch: Watch = Watch::Auto;
        /// How many versions stay compiled in memory, the one that serves among them, so that
        /// going back to one takes no time. With 1 only a version on trial is gone back from.
        versions_kept: usize = 5 => 1..=100;
        /// How long an instance may take to save its memory for its successor, and that one to
        /// restore it; their clients wait meanwhile.
        state_ms: u64 = 1_000 => TIME;
        /// How many bytes of memory an instance may hand to its successor.
        state_bytes_max: usize = 16 << 20 => BYTES;
        /// Of a hundred clients so many try a new version of the file before the others follow;
        /// with 0 it serves all at once. A deploy over the cluster says for itself who tries it.
        canary_percent: u8 = 0 => 0..=100;
        /// How long they try it. Who wants to say when, deploys over the cluster: `tidegate deploy
        /// --canary-percent`, then `tidegate promote`.
        canary_seconds: u64 = 60 => 1..=86_400;
        /// For how long after it serves all clients a new version is on trial: the version before
        /// runs what breaks under it, and it is rolled back by itself if it crosses one of the
        /// next three bounds, which hold for a canary too. With 0 only a canary is on trial.
        rollback_seconds: u64 = 120 => SECONDS;
        /// How often the instances of a new version may break, all of a worker together; with 0
        /// any number of times.
        rollback_traps: u64 = 20 => 0..=1_000_000;
        /// How many of a hundred events of a new version may fail; with 0 all.
        rollback_errors_percent: u8 = 50 => 0..=100;
        /// How long 99 of a hundred events of a new version may take, without their time in
        /// queues; with 0 any time.
        rollback_latency_ms: u64 = 0 => TIME_OR_OFF;
        /// What the plugin is given at its start: any table.
        config: PluginConfig = PluginConfig::new();
        /// How much processor time one event may take.
        cpu_ms: u64 = 500 => TIME;
        /// How much time one event may take, waiting included; at least `cpu-ms`.
        wall_ms: u64 = 5_000 => TIME;
        /// How much processor time one task may take.
        task_cpu_ms: u64 = 10_000 => TIME;
        /// How much time one task may take, waiting included; at least `task-cpu-ms`.
        task_ms: u64 = 300_000 => TIME;
        /// How long an event waits for the answer to one of its questions; never into the last
        /// part of `wall-ms`, so that it can still end well.
        query_ms: u64 = 1_000 => TIME;
        /// How many questions one event may ask.
        queries_max: usize = 1_000 => COUNT;
        /// How much memory one instance may take.
        memory_mib: u64 = 128 => 1..=4_096;
        /// How many effects one event may have.
        effects_max: usize = 10_000 => COUNT;
        /// How many bytes all effects of one event may have, with the reply to a request.
        effect_bytes_max: usize = 8 << 20 => 1_024..=MESSAGE_BYTES_MAX;
        /// How large a session may become, keys and values together.
        session_bytes_max: usize = 64 << 10 => BYTES;
    }
}

section! {
    /// A router: a component that chooses the worker of each event of its tenant, at a gateway. A tenant has
    /// at most one, and no `router` of another kind. Its compiled code is kept where `worker.cache-dir` says.
    pub struct RouterComponent {
        /// The component file. A relative path starts at the folder of the configuration file.
        file: PathBuf = PathBuf::new();
        /// Whom it serves.
        tenant: Name = "default".into();
        /// The keys of a client's session that it is told.
        session_keys: Vec<Name> = Vec::new();
        /// How many calls may run at once; each has an instance of its own, made when it is
        /// needed.
        instances: usize = 4 => 1..=1_024;
        /// How many events may wait for an instance; further ones go where `bind` sends them.
        waiting_max: usize = 4_096 => 0..=65_536;
        /// How a new version is noticed when the file changes: the system tells it (`auto`, or
        /// `true`); by looking every second, for file systems where nothing is told (`poll`); not
        /// at all (`off`, or `false`).
        watch: Watch = Watch::Auto;
        /// What the component finds in `wasi:config`: any table.
        config: PluginConfig = PluginConfig::new();
        /// How much processor time one call may take.
        cpu_ms: u64 = 50 => TIME;
        /// How long an event waits for its answer, waiting for an instance included; at least `cpu-ms`.
        wall_ms: u64 = 100 => TIME;
        /// How much memory one instance may take.
        memory_mib: u64 = 64 => 1..=4_096;
    }
}

section! {
    /// A command component and the tenant whose custom commands it runs, beside the hub of a
    /// gateway. A tenant has at most one. Its compiled code is kept where `worker.cache-dir` says.
    pub struct Command {
        /// The component file. A relative path starts at the folder of the configuration file.
        file: PathBuf = PathBuf::new();
        /// Whom it serves.
        tenant: Name = "default".into();
        /// How many calls may run at once; each has an instance of its own, made when it is
        /// needed.
        instances: usize = 4 => 1..=1_024;
        /// How many calls may wait for an instance; further ones are refused.
        waiting_max: usize = 64 => 0..=65_536;
        /// How a new version is noticed when the file changes: the system tells it (`auto`, or
        /// `true`); by looking every second, for file systems where nothing is told (`poll`); not
        /// at all (`off`, or `false`).
        watch: Watch = Watch::Auto;
        /// What the component finds in `wasi:config`: any table.
        config: PluginConfig = PluginConfig::new();
        /// How much processor time one call may take.
        cpu_ms: u64 = 500 => TIME;
        /// How much time one call may take, waiting included; at least `cpu-ms`.
        wall_ms: u64 = 5_000 => TIME;
        /// How long a call waits for the answer to one of its questions to the hub.
        query_ms: u64 = 1_000 => TIME;
        /// How many questions one call may ask.
        queries_max: usize = 1_000 => COUNT;
        /// How much memory one instance may take.
        memory_mib: u64 = 128 => 1..=4_096;
        /// How many effects one call may have.
        effects_max: usize = 10_000 => COUNT;
        /// How many bytes all effects of one call may have, with its answer.
        effect_bytes_max: usize = 8 << 20 => 1_024..=MESSAGE_BYTES_MAX;
        /// How large a session may become, keys and values together.
        session_bytes_max: usize = 64 << 10 => BYTES;
    }
}

section! {
    /// A codec: a component that turns the bytes of `tcp` listeners into messages and back, for a
    /// protocol of devices. Each tenant whose listeners name it has instances of its own. Its
    /// compiled code is kept where `worker.cache-dir` says.
    pub struct Codec {
        /// Its name, by which a `[[gateway.listener]]` names it.
        name: Name = "".into();
        /// The component file. A relative path starts at the folder of the configuration file.
        file: PathBuf = PathBuf::new();
        /// How many instances work at once for a tenant. Nothing of a connection stays in one.
        instances: usize = 2 => 1..=1_024;
        /// How many connections may wait for an instance with what they have; further ones are
        /// not read meanwhile.
        waiting_max: usize = 256 => 0..=65_536;
        /// How a new version is noticed when the file changes: the system tells it (`auto`, or
        /// `true`); by looking every second, for file systems where nothing is told (`poll`); not
        /// at all (`off`, or `false`).
        watch: Watch = Watch::Auto;
        /// What the component finds in `wasi:config`: any table.
        config: PluginConfig = PluginConfig::new();
        /// How much processor time one call may take: so much can a stranger cost who makes it
        /// loop.
        cpu_ms: u64 = 50 => TIME;
        /// How much time one call may take; at least `cpu-ms`.
        wall_ms: u64 = 5_000 => TIME;
        /// How much memory one instance may take.
        memory_mib: u64 = 32 => 1..=4_096;
        /// How many bytes it may keep of one connection, beside those that wait for the rest of
        /// their message, which `message-bytes-max` of the listener bounds.
        state_bytes_max: usize = 4 << 10 => BYTES;
        /// How many messages it may make in one call.
        messages_max: usize = 1_000 => COUNT;
        /// How many bytes all messages of one call may have, and what it makes of one message.
        output_bytes_max: usize = 2 << 20 => 1_024..=MESSAGE_BYTES_MAX;
    }
}
