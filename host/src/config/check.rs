//! What no key can know alone: keys that must fit each other, and what a command needs.

use std::collections::HashMap;

use tidegate_schedule::timetable::{Timetable, TimetableError};
use tidegate_wire::Name;
use tidegate_wire::event::Transport;
use tidegate_wire::hello::HELLO_BYTES_MAX;

use super::error::{ConfigError, Place, nearest};
use super::listener::WS_ONLY;
use super::schedule::SCHEDULES_MAX;
use super::setting::Setting;
use super::{Codec, Config, Listener, Newlines, Purpose, Router, RouterKey, origin};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A shorter secret can be guessed.
const SECRET_BYTES_MIN: usize = 16;

/// So many of the largest sessions must find room in a link's queue beside its windows.
const QUEUE_SESSIONS_MIN: usize = 16;
/// A node's name and tags leave room for the rest of its hello.
const HELLO_NAMES_BYTES_MAX: usize = HELLO_BYTES_MAX / 2;

const SECRET_HINT: &str = "set TIDEGATE_SECRET to the same text on every node, for example what \
                           `openssl rand -hex 32` prints";

/// Every mistake between keys that is no echo of one of these in a key.
pub(super) fn errors(config: &Config, in_keys: &[ConfigError]) -> Vec<ConfigError> {
    let mut check = Check {
        config,
        in_keys,
        errors: Vec::new(),
    };
    check.log_level();
    check.times();
    check.node();
    check.memory();
    check.listeners();
    check.settings_of_tenants();
    check.plugins();
    check.schedules();
    check.codecs();
    check.needs();
    if !is_in(in_keys, "[[api-token]]") {
        check.errors.extend(super::tokens::errors(config));
    }
    check.errors
}

/// Whether one of these mistakes is in such a table.
fn is_in(in_keys: &[ConfigError], header: &str) -> bool {
    in_keys.iter().any(|it| it.message.contains(header))
}

/// What is allowed but hardly meant.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let length = config.secret.expose().len();
    warnings.extend(super::tokens::warning(config));
    warnings.extend(in_memory(config));
    warnings.extend(short_grace(config));
    warnings.extend(idle_codecs(config));
    // A plugin can be checked alone.
    if length == 0 && config.purpose == Purpose::Check && !config.listeners.is_empty() {
        warnings.push(format!("no secret is given here: {SECRET_HINT}"));
    }
    warnings
}

/// A restarted register would miss nodes that are on their way back.
fn short_grace(config: &Config) -> Option<String> {
    let (grace, pause) = (config.register.grace_ms, config.link.reconnect_ms_max);
    let is_register = matches!(config.purpose, Purpose::Register | Purpose::Check);
    (is_register && grace <= pause).then(|| {
        format!(
            "`register.grace-ms` is {grace}, and a node that has lost its register may pause for \
             `link.reconnect-ms-max`, {pause}: a restarted register takes it for lost then; more than \
             {pause}, and the time of a handshake, is right"
        )
    })
}

/// Codecs that no listener names run nowhere.
fn idle_codecs(config: &Config) -> Vec<String> {
    let listens = config.purpose != Purpose::Worker && config.purpose != Purpose::Register;
    let names = |it: &Codec| {
        let mut listeners = config.listeners.iter();
        listeners.any(|listener| listener.codec.as_ref() == Some(&it.name))
    };
    let codecs = config.codecs.iter().filter(|_| listens);
    let idle = codecs.filter(|it| !names(it)).map(|it| {
        format!(
            "the [[codec]] `{}` is named by no [[gateway.listener]]: give one codec = \"{}\"",
            it.name, it.name
        )
    });
    idle.collect()
}

/// What is deployed does not outlive the process.
fn in_memory(config: &Config) -> Option<String> {
    let runs = matches!(config.purpose, Purpose::Serve | Purpose::Worker);
    let mut plugins = config.plugins.iter();
    let waiting = plugins.find(|it| it.file.is_none())?;
    (runs && config.deploy.state_dir.is_none()).then(|| {
        format!(
            "the [[plugin]] for the tenant `{}` has no file and `deploy.state-dir` is not set: what \
             is deployed is kept in memory only",
            waiting.tenant
        )
    })
}

struct Check<'a> {
    config: &'a Config,
    in_keys: &'a [ConfigError],
    errors: Vec<ConfigError>,
}

/// What is run for a tenant.
struct Run<'a> {
    /// Whether it has one, or needs none.
    has_file: bool,
    tenant: &'a Name,
    cpu_ms: u64,
    wall_ms: u64,
}

impl Check<'_> {
    /// At the key, or at its table where nobody gave the key.
    fn refuse(&mut self, path: &str, message: impl Into<String>) {
        let place = self.config.places.near(path);
        if self.in_keys.is_empty() || self.is_told_apart(&place, path) {
            self.errors.push(ConfigError::new(&place, message));
        }
    }

    /// Refuses what nobody gave.
    fn lacks(&mut self, message: impl Into<String>) {
        if self.in_keys.is_empty() {
            self.errors.push(ConfigError::new(&Place::Nowhere, message));
        }
    }

    /// Beside mistakes in keys only what stands at a place of its own is told. What a table lacks may be
    /// what was mistyped in it.
    fn is_told_apart(&self, place: &Place, path: &str) -> bool {
        let (table, last) = path.rsplit_once('.').unwrap_or_default();
        let is_table = last.parse::<usize>().is_ok();
        let is_mistyped = || is_in(self.in_keys, &format!("[[{table}]]"));
        let is_there = place.is_given() && self.config.places.of(path) == *place;
        let is_wrong = || self.in_keys.iter().any(|it| it.place == *place);
        is_there && !is_wrong() && !(is_table && is_mistyped())
    }

    /// Refuses at the first of these keys that somebody gave.
    fn refuse_pair(&mut self, paths: [&str; 2], message: impl Into<String>) {
        let places = &self.config.places;
        let is_wrong = |path: &&str| {
            let place = places.of(path);
            place.is_given() && self.in_keys.iter().any(|it| it.place == place)
        };
        // Its default is in the place of a wrong one.
        if paths.iter().any(is_wrong) {
            return;
        }
        let given = |path: &&str| places.of(path).is_given();
        let path = paths.into_iter().find(given).unwrap_or_default();
        self.refuse(path, message);
    }

    /// A filter takes any word for the name of a part: it would be silent about a mistyped level.
    fn log_level(&mut self) {
        let filter = &self.config.log.level;
        let levels = filter.split(',').map(|directive| {
            let level = directive.rsplit('=').next().unwrap_or_default();
            level.trim()
        });
        let mut levels =
            levels.filter(|level| !LEVELS.iter().any(|it| it.eq_ignore_ascii_case(level)));
        let wrong = match levels.next() {
            Some(level) => {
                let hint = nearest(level, LEVELS.iter().copied());
                let hint = hint.map_or(String::new(), |it| format!(", did you mean `{it}`?"));
                format!("`{level}` is no level{hint}")
            }
            None if filter.parse::<tracing_subscriber::EnvFilter>().is_err() => {
                format!("`{filter}` is not a filter")
            }
            None => return,
        };
        let message = format!(
            "`level` in [log]: {wrong}; levels are `{}`, alone or behind the name of a part, like \
             `info,tidegate_cluster=debug`",
            LEVELS.join("`, `")
        );
        self.refuse("log.level", message);
    }

    fn times(&mut self) {
        let (link, register) = (&self.config.link, &self.config.register);
        let twice = link.heartbeat_ms.saturating_mul(2);
        for (key, lease) in [
            ("link.lease-ms", link.lease_ms),
            ("register.lease-ms", register.lease_ms),
        ] {
            if lease < twice {
                let message = format!(
                    "`{key}` is {lease}, but one late heartbeat must not end a lease: at least \
                     {twice} is right, twice `link.heartbeat-ms`"
                );
                self.refuse_pair([key, "link.heartbeat-ms"], message);
            }
        }
        let watchdog = &self.config.watchdog;
        if (1..watchdog.stuck_ms).contains(&watchdog.end_ms) {
            let message = format!(
                "`watchdog.end-ms` is {}, less than `watchdog.stuck-ms`, {}: 0 for never, or more is \
                 right",
                watchdog.end_ms, watchdog.stuck_ms
            );
            self.refuse_pair(["watchdog.end-ms", "watchdog.stuck-ms"], message);
        }
        let least = self.config.gateway.session_bytes_max * QUEUE_SESSIONS_MIN;
        if link.queue_bytes_max < least {
            let message = format!(
                "`link.queue-bytes-max` is {}, but sessions travel on links and may have {} bytes each \
                 (`gateway.session-bytes-max`): at least {least} is right, {QUEUE_SESSIONS_MIN} of them",
                link.queue_bytes_max, self.config.gateway.session_bytes_max
            );
            let keys = ["link.queue-bytes-max", "gateway.session-bytes-max"];
            self.refuse_pair(keys, message);
        }
        if link.reconnect_ms_min > link.reconnect_ms_max {
            let message = format!(
                "`link.reconnect-ms-min` is {}, more than `link.reconnect-ms-max`, {}",
                link.reconnect_ms_min, link.reconnect_ms_max
            );
            self.refuse_pair(["link.reconnect-ms-min", "link.reconnect-ms-max"], message);
        }
    }

    /// What waits for workers must leave room for the rest.
    fn memory(&mut self) {
        let it = &self.config.gateway;
        if it.clients_bytes_max <= it.pending_bytes_max {
            let message = format!(
                "`gateway.clients-bytes-max` is {}, but it counts what `gateway.pending-bytes-max` \
                 bounds too, {}: more than that is right",
                it.clients_bytes_max, it.pending_bytes_max
            );
            self.refuse_pair(
                ["gateway.clients-bytes-max", "gateway.pending-bytes-max"],
                message,
            );
        }
    }

    fn node(&mut self) {
        let lan = self.config.gateway.lan;
        if lan.ip().is_unspecified() {
            let message = format!(
                "`gateway.lan` is announced to other nodes, and {} is no address that they can \
                 dial: announce a real one and put {lan} in `lan-bind`",
                lan.ip()
            );
            self.refuse("gateway.lan", message);
        }
        let (gateway, worker) = (&self.config.gateway, &self.config.worker);
        for (key, name, tags) in [
            ("gateway.tags", &gateway.name, &gateway.tags),
            ("worker.tags", &worker.name, &worker.tags),
        ] {
            let bytes: usize = name.len() + tags.iter().map(|tag| tag.len() + 1).sum::<usize>();
            if bytes > HELLO_NAMES_BYTES_MAX {
                let message = format!(
                    "`{key}`: name and tags travel in a node's hello and have {bytes} bytes there, \
                     {HELLO_NAMES_BYTES_MAX} are right"
                );
                self.refuse(key, message);
            }
        }
    }

    fn listeners(&mut self) {
        let mut addresses = HashMap::new();
        let mut names: HashMap<Name, usize> = HashMap::new();
        for (at, listener) in self.config.listeners.iter().enumerate() {
            let path = |key: &str| format!("gateway.listener.{at}.{key}");
            let address = listener.listen.address;
            if address.port() != 0 && addresses.insert(address, at).is_some() {
                let message = format!(
                    "`listen` in [[gateway.listener]]: two listeners for {address}, each needs an \
                     address of its own"
                );
                self.refuse(&path("listen"), message);
            }
            if listener.name.is_some() && names.insert(listener.label(), at).is_some() {
                let message = format!(
                    "`name` in [[gateway.listener]]: two listeners have the name `{}`",
                    listener.label()
                );
                self.refuse(&path("name"), message);
            }
            if listener.listen.transport != Transport::WebSocket {
                for key in WS_ONLY {
                    if self.config.places.of(&path(key)).is_given() {
                        let message = format!(
                            "`{key}` in [[gateway.listener]]: it works with ws:// only, this \
                             listener is {}",
                            listener.listen
                        );
                        self.refuse(&path(key), message);
                    }
                }
            }
            self.codec_of(at, listener);
            let newlines = path("newlines");
            let has_lines = listener.listen.transport == Transport::TextLines;
            if !has_lines && listener.newlines != Newlines::Refuse {
                let message = format!(
                    "`newlines` in [[gateway.listener]]: it works with text:// only, this listener \
                     is {}",
                    listener.listen
                );
                self.refuse(&newlines, message);
            }
            for mistake in listener.origins.iter().filter_map(|it| origin::mistake(it)) {
                let message = format!("`origins` in [[gateway.listener]]: {mistake}");
                self.refuse(&path("origins"), message);
            }
            let own_path = listener.path.as_deref().unwrap_or("/");
            let health = Some(listener.health_path.as_str()).filter(|path| !path.is_empty());
            for (key, value) in [("path", own_path), ("health-path", health.unwrap_or("/"))] {
                if !value.starts_with('/') {
                    let message = format!(
                        "`{key}` in [[gateway.listener]]: `/{value}` is right, with a slash"
                    );
                    self.refuse(&path(key), message);
                }
            }
        }
    }

    /// The codec that a listener names.
    fn codec_of(&mut self, at: usize, listener: &Listener) {
        let Some(name) = &listener.codec else { return };
        let codecs = &self.config.codecs;
        let message = if listener.listen.transport != Transport::Tcp {
            format!(
                "`codec` in [[gateway.listener]]: it works with tcp:// only, this listener is {}",
                listener.listen
            )
        } else if codecs.iter().any(|it| it.name == *name) {
            return;
        } else {
            let known = codecs.iter().map(|it| &*it.name);
            let hint = match nearest(name, known.clone().filter(|it| !it.is_empty())) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if codecs.is_empty() => {
                    format!("give a [[codec]] with name = \"{name}\" and its file")
                }
                None => format!("there are `{}`", known.collect::<Vec<_>>().join("`, `")),
            };
            format!("`codec` in [[gateway.listener]]: no [[codec]] has the name `{name}`, {hint}")
        };
        self.refuse(&format!("gateway.listener.{at}.codec"), message);
    }

    fn codecs(&mut self) {
        let config = self.config;
        for (at, it) in config.codecs.iter().enumerate() {
            let table = format!("codec.{at}");
            let path = |inner: &str| format!("{table}.{inner}");
            let given = |key: &str| config.places.of(&path(key)).is_given();
            for (key, example, lacks) in [
                ("name", "tracker", it.name.is_empty()),
                ("file", "tracker.wasm", it.file.as_os_str().is_empty()),
            ] {
                if lacks && !given(key) {
                    let message =
                        format!("a [[codec]] needs its `{key}`, like {key} = \"{example}\"");
                    self.refuse(&table, message);
                }
            }
            let named = |other: &Codec| !it.name.is_empty() && other.name == it.name;
            if config.codecs.iter().take(at).any(named) {
                let message = format!(
                    "`name` in [[codec]]: two codecs have the name `{}`",
                    it.name
                );
                self.refuse(&path("name"), message);
            }
            if it.wall_ms < it.cpu_ms {
                let message = format!(
                    "`wall-ms` in [[codec]] is {}, less than its `cpu-ms`, {}",
                    it.wall_ms, it.cpu_ms
                );
                self.refuse_pair([&path("wall-ms"), &path("cpu-ms")], message);
            }
        }
    }

    /// What is set for tenants.
    fn settings_of_tenants(&mut self) {
        let config = self.config;
        let listens = matches!(config.purpose, Purpose::Serve | Purpose::Gateway);
        for (at, tenant) in config.tenants.iter().enumerate() {
            let name = &tenant.name;
            let place = format!("tenant.{at}.name");
            if config.tenants.iter().take(at).any(|it| it.name == *name) {
                let message = format!(
                    "two [[tenant]] for the tenant `{name}`: put the keys of both into one"
                );
                self.refuse(&place, message);
            } else if listens && !config.listeners.iter().any(|it| it.tenant == *name) {
                let message = format!(
                    "the [[tenant]] `{name}` has no listener here, so that nothing of it would \
                     matter: name the `tenant` of a [[gateway.listener]]"
                );
                self.refuse(&place, message);
            }
            let router = tenant.router.unwrap_or(config.gateway.router);
            let key = format!("tenant.{at}.router-key");
            if router != Router::Hash && tenant.router_key != RouterKey::Uid {
                let message = format!(
                    "`router-key` in [[tenant]]: it works with router = \"hash\" only, and this \
                     tenant's is {}",
                    router.show().unwrap_or_default()
                );
                self.refuse_pair([&key, &format!("tenant.{at}.router")], message);
            }
            let own = &config.worker.tags;
            let lacks = tenant.worker_tags.iter().find(|tag| !own.contains(tag));
            if config.purpose == Purpose::Serve
                && !config.links()
                && let Some(tag) = lacks
            {
                let message = format!(
                    "`worker-tags` in [[tenant]]: the only worker of `{name}` is the one of this \
                     process, and it has no tag `{tag}`: put that into `worker.tags`, or let other \
                     workers link with `gateway.lan`"
                );
                self.refuse(&format!("tenant.{at}.worker-tags"), message);
            }
        }
    }

    fn plugins(&mut self) {
        let config = self.config;
        let plugins = config.plugins.iter().map(|it| Run {
            has_file: true,
            tenant: &it.tenant,
            cpu_ms: it.cpu_ms,
            wall_ms: it.wall_ms,
        });
        self.run("plugin", plugins);
        for (at, it) in config.plugins.iter().enumerate() {
            if it.task_ms < it.task_cpu_ms {
                let message = format!(
                    "`task-ms` in [[plugin]] is {}, less than its `task-cpu-ms`, {}",
                    it.task_ms, it.task_cpu_ms
                );
                let path = |inner: &str| format!("plugin.{at}.{inner}");
                self.refuse_pair([&path("task-ms"), &path("task-cpu-ms")], message);
            }
            if it.file.is_none() && !config.is_deployable(&it.tenant) {
                let message = format!(
                    "the [[plugin]] for the tenant `{}` has no `file`, and nobody can deploy one: \
                     give a file, like file = \"chat.wasm\", or `api.listen` and an [[api-token]] \
                     of the tenant with deploy = true",
                    it.tenant
                );
                self.refuse(&format!("plugin.{at}"), message);
            }
        }
        let commands = config.commands.iter().map(|it| Run {
            has_file: !it.file.as_os_str().is_empty(),
            tenant: &it.tenant,
            cpu_ms: it.cpu_ms,
            wall_ms: it.wall_ms,
        });
        self.run("command", commands);
        let routers = config.routers.iter().map(|it| Run {
            has_file: !it.file.as_os_str().is_empty(),
            tenant: &it.tenant,
            cpu_ms: it.cpu_ms,
            wall_ms: it.wall_ms,
        });
        self.run("router", routers);
        for (at, it) in config.routers.iter().enumerate() {
            let mut tenants = config.tenants.iter();
            // `bind` is what it is passed over for anyway.
            let is_other = |router: Option<Router>| router.is_some_and(|it| it != Router::Bind);
            if tenants.any(|tenant| tenant.name == it.tenant && is_other(tenant.router)) {
                let message = format!(
                    "the tenant `{}` has a [[router]], and `router` in its [[tenant]]: one of both \
                     chooses its workers",
                    it.tenant
                );
                self.refuse(&format!("router.{at}"), message);
            }
        }
    }

    fn schedules(&mut self) {
        let config = self.config;
        let listens = matches!(config.purpose, Purpose::Serve | Purpose::Gateway);
        if config.schedules.len() > SCHEDULES_MAX {
            let message = format!(
                "{} [[schedule]]: a configuration may have {SCHEDULES_MAX}; one task can do the work of several",
                config.schedules.len()
            );
            self.refuse("schedule", message);
        }
        for (at, it) in config.schedules.iter().enumerate() {
            let table = format!("schedule.{at}");
            for key in ["name", "cron"] {
                if !config.places.of(&format!("{table}.{key}")).is_given() {
                    let message = format!(
                        "a [[schedule]] needs its `{key}`, like name = \"report\" and cron = \"30 2 * * *\""
                    );
                    self.refuse(&table, message);
                }
            }
            let mut before = config.schedules.iter().take(at);
            let name = it.name.as_deref().unwrap_or_default();
            if it.name.is_some()
                && before.any(|other| (&other.tenant, &other.name) == (&it.tenant, &it.name))
            {
                let message = format!(
                    "two [[schedule]] of the tenant `{}` have the name `{name}`: give this one another",
                    it.tenant
                );
                self.refuse(&format!("{table}.name"), message);
            }
            if listens
                && !config
                    .listeners
                    .iter()
                    .any(|other| other.tenant == it.tenant)
            {
                let message = format!(
                    "the [[schedule]] `{name}` is of the tenant `{}`, which has no listener here: name the \
                     `tenant` of a [[gateway.listener]]",
                    it.tenant
                );
                self.refuse(&format!("{table}.tenant"), message);
            }
            if let Err(TimetableError::Never) =
                Timetable::new(it.cron.as_str(), it.time_zone.as_str())
            {
                let message = format!(
                    "`cron` in [[schedule]]: `{}` is never due: no month has such a day",
                    it.cron.as_str()
                );
                self.refuse(&format!("{table}.cron"), message);
            }
        }
    }

    /// What plugins and commands have in common; `key` is the name of their tables.
    fn run<'a>(&mut self, key: &str, all: impl Iterator<Item = Run<'a>>) {
        let mut tenants: HashMap<&Name, usize> = HashMap::new();
        for (at, it) in all.enumerate() {
            let table = format!("{key}.{at}");
            let path = |inner: &str| format!("{table}.{inner}");
            let given = |path: &str| self.config.places.of(path).is_given();
            if !it.has_file && !given(&path("file")) {
                let message = format!("a [[{key}]] needs its `file`, like file = \"chat.wasm\"");
                self.refuse(&table, message);
            }
            if tenants.insert(it.tenant, at).is_some() {
                let message = format!(
                    "two {key}s for the tenant `{}`: a tenant has one, give this one another \
                     `tenant`",
                    it.tenant
                );
                let tenant = path("tenant");
                let place = if given(&tenant) { &tenant } else { &table };
                self.refuse(place, message);
            }
            if it.wall_ms < it.cpu_ms {
                let message = format!(
                    "`wall-ms` in [[{key}]] is {}, less than its `cpu-ms`, {}",
                    it.wall_ms, it.cpu_ms
                );
                self.refuse_pair([&path("wall-ms"), &path("cpu-ms")], message);
            }
        }
    }

    /// What the command cannot do without.
    fn needs(&mut self) {
        let config = self.config;
        let (listens, runs) = match config.purpose {
            Purpose::Serve => (true, true),
            Purpose::Gateway => (true, false),
            Purpose::Worker => (false, true),
            Purpose::Register | Purpose::Check => (false, false),
        };
        if listens && config.listeners.is_empty() {
            let message =
                "no listener: give `--listen ws://127.0.0.1:7272` or a [[gateway.listener]]";
            self.refuse("gateway.listener", message);
        }
        if runs && config.plugins.is_empty() {
            let message =
                "no plugin: name a component file, like `chat.wasm`, or give a [[plugin]]";
            self.lacks(message);
        }
        if listens && runs && !config.plugins.is_empty() {
            self.tenants();
        }
        for (purpose, key, registers) in [
            (
                Purpose::Gateway,
                "gateway.registers",
                &config.gateway.registers,
            ),
            (
                Purpose::Worker,
                "worker.registers",
                &config.worker.registers,
            ),
        ] {
            if config.purpose == purpose && registers.is_empty() {
                self.refuse(
                    key,
                    format!("`{key}` is empty: give `--register 127.0.0.1:1236`"),
                );
            }
        }
        for (key, secret) in [
            ("secret", &config.secret),
            ("also-secret", &config.also_secret),
        ] {
            let length = secret.expose().len();
            if length > 0 && length < SECRET_BYTES_MIN {
                let message = format!(
                    "`{key}` has {length} bytes and can be guessed, {SECRET_BYTES_MIN} or more are \
                     right"
                );
                self.refuse(key, message);
            }
        }
        if config.secret.is_empty() && config.links() {
            let message = format!("no secret, which nodes need to trust each other: {SECRET_HINT}");
            self.lacks(message);
        }
    }

    fn tenants(&mut self) {
        for (at, listener) in self.config.listeners.iter().enumerate() {
            let served = |tenant| {
                self.config
                    .plugins
                    .iter()
                    .any(|plugin| plugin.tenant == tenant)
            };
            if !served(listener.tenant.clone()) {
                let message = format!(
                    "the listener {} is for the tenant `{}`, for which there is no plugin",
                    listener.listen, listener.tenant
                );
                let key = format!("gateway.listener.{at}.tenant");
                let table = format!("gateway.listener.{at}.listen");
                self.refuse_pair([&key, &table], message);
            }
        }
    }
}
