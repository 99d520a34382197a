//! The nodes of a chaos run as real processes, with a proxy at every way between them, and what can
//! be done to them. A process that ends by itself is started again, as a supervisor would.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::history::{Guards, History};
use super::schedule::{GATEWAYS, REGISTERS, Version, WORKERS, Way, What, Who};
use crate::api::Api;
use crate::client::Transport;
use crate::cluster::{Turn, log_folder, token_of};
use crate::http;
use crate::node::Node;
use crate::plugins::{Plugin, another_build, replace};
use crate::ports;
use crate::process::Signal;
use crate::prometheus::sum_of;
use crate::proxy::{LineId, Proxy, Stream};

/// The tenant of the run.
const TENANT: &str = "default";

/// Clients whose custodians have not all confirmed.
const UNGUARDED: &str = "tidegate_gateway_unguarded_clients";
/// Clients that have one custodian only.
const SINGLE: &str = "tidegate_gateway_single_custodian_clients";
/// How often gateways are asked for that, and how long they may take.
const ASK_EVERY: Duration = Duration::from_millis(100);
const ASKING: Duration = Duration::from_secs(2);

/// Links are narrow beside the sessions of all clients: what a lost worker's clients have kept does not
/// fit in the queue of one at once, what is under way does.
const WINDOW_BYTES: u64 = 1 << 20;

/// Leases are short, so that a run sees many of them, but not so short that a busy machine alone
/// makes nodes lost.
const TIMES: &str = "[log]\nlevel = \"info\"\n\
    [link]\nheartbeat-ms = 300\nlease-ms = 2000\nhandshake-timeout-ms = 2000\nreconnect-ms-max = 300\n\
    queue-bytes-max = 4_194_304\n\
    [register]\nlease-ms = 3000\ngrace-ms = 2500\n";

/// All nodes.
#[derive(Debug)]
pub(super) struct Fleet {
    nodes: BTreeMap<Who, Member>,
    ways: BTreeMap<Way, Proxy>,
    plugin: PathBuf,
    component: Vec<u8>,
    builds: u32,
    /// Since when the plugin's file is good, if it is.
    good_since: Option<Instant>,
    history: History,
    /// What must not happen to processes.
    wrong: Vec<String>,
    /// They ask gateways whether clients are guarded.
    askers: JoinSet<()>,
    _folder: TempDir,
    _turn: Turn,
}

#[derive(Debug)]
struct Member {
    node: Node,
    /// Killed by the schedule: nobody starts it but the schedule.
    down: bool,
    frozen: bool,
}

/// What ends a fault.
#[derive(Debug)]
pub(super) enum Undo {
    /// Nothing.
    Nothing,
    /// The node is started again.
    Start(Who),
    /// The nodes of a machine are started again.
    StartAll([Who; 2]),
    /// The node goes on.
    Thaw(Who),
    /// The connection goes on.
    Release(Way, LineId),
    /// The muted direction goes on.
    Unmute(Way, LineId, Stream),
    /// All connections go on.
    ReleaseAll(Way),
    /// A good version takes the place of a bad one.
    Repair,
}

impl Fleet {
    /// Starts all nodes and waits until each is ready.
    ///
    /// # Errors
    /// When one does not become ready.
    pub(super) async fn start(turn: Turn) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let plugin = Plugin::Recorder.copy_to(folder.path())?;
        let mut fleet = Self {
            nodes: BTreeMap::new(),
            ways: BTreeMap::new(),
            component: std::fs::read(&plugin)?,
            plugin,
            builds: 0,
            good_since: Some(Instant::now()),
            history: History::new(),
            wrong: Vec::new(),
            askers: JoinSet::new(),
            _folder: folder,
            _turn: turn,
        };
        let registers: Vec<SocketAddrV4> = (0..REGISTERS)
            .map(|_| ports::free())
            .collect::<Result<_>>()?;
        for (number, address) in registers.iter().enumerate() {
            fleet.add_register(number, *address)?;
        }
        for number in 0..GATEWAYS {
            fleet.add_gateway(number, &registers).await?;
        }
        for number in 0..WORKERS {
            fleet.add_worker(number, &registers).await?;
        }
        for member in fleet.nodes.values_mut() {
            member.node.ready().await?;
        }
        for number in 0..GATEWAYS {
            let admin = fleet.gateway(number)?.admin()?;
            let asks = ask_whether_guarded(number, admin, fleet.history.guards());
            fleet.askers.spawn(asks);
        }
        Ok(fleet)
    }

    fn add_register(&mut self, number: usize, address: SocketAddrV4) -> Result<()> {
        let mut node = node(&format!("register-{number}"), "register")?;
        node.lan = Some(address);
        let section = format!("listen = \"{address}\"\n");
        // The section of registers stands last in the times.
        self.add(Who::Register(number), node, &section)
    }

    async fn add_gateway(&mut self, number: usize, registers: &[SocketAddrV4]) -> Result<()> {
        let who = Who::Gateway(number);
        let (announced, bound, door) = (ports::free()?, ports::free()?, ports::free()?);
        let (admin, api) = (ports::free()?, ports::free()?);
        let ways = self.ways_to(who, registers).await?;
        let proxy = Proxy::start(announced, bound).await?;
        self.ways.insert(Way::Gateway(number), proxy);
        let mut node = node(&format!("gateway-{number}"), "gateway")?;
        node.admin = Some(admin);
        node.api = Some(api);
        node.lan = Some(announced);
        node.listeners.push((Transport::Ws, door));
        let (name, token) = (&node.name, token_of(TENANT));
        let section = format!(
            "[admin]\nlisten = \"{admin}\"\n[api]\nlisten = \"{api}\"\n\
             [gateway]\nname = \"{name}\"\ntags = [\"host=machine-{number}\"]\n\
             registers = {ways:?}\nlan = \"{announced}\"\n\
             lan-bind = \"{bound}\"\nshutdown-ms = 3000\n\
             [[gateway.listener]]\nlisten = \"ws://{door}\"\n\
             [[api-token]]\ntoken = \"{token}\"\n"
        );
        self.add(who, node, &section)
    }

    async fn add_worker(&mut self, number: usize, registers: &[SocketAddrV4]) -> Result<()> {
        let who = Who::Worker(number);
        let admin = ports::free()?;
        let ways = self.ways_to(who, registers).await?;
        let mut node = node(&format!("worker-{number}"), "worker")?;
        node.admin = Some(admin);
        let (name, file) = (&node.name, &self.plugin);
        // The scripted guest, as a bad version, refuses to start with this configuration.
        let section = format!(
            "[admin]\nlisten = \"{admin}\"\n\
             [worker]\nname = \"{name}\"\ntags = [\"host=machine-{number}\"]\n\
             registers = {ways:?}\ninstances = 1\nwindow-bytes = {WINDOW_BYTES}\n\
             [[plugin]]\nfile = {file:?}\nconfig = {{ at-start = \"refuse\" }}\n"
        );
        self.add(who, node, &section)
    }

    /// A way of its own for this node to each register.
    async fn ways_to(&mut self, who: Who, registers: &[SocketAddrV4]) -> Result<Vec<String>> {
        let mut ways = Vec::new();
        for (number, register) in registers.iter().enumerate() {
            let address = ports::free()?;
            let proxy = Proxy::start(address, *register).await?;
            self.ways.insert(Way::Register(who, number), proxy);
            ways.push(address.to_string());
        }
        Ok(ways)
    }

    fn add(&mut self, who: Who, mut node: Node, section: &str) -> Result<()> {
        let mut config = TIMES.to_owned();
        config.write_str(section)?;
        let folder = self.plugin.parent().unwrap_or(Path::new("."));
        let file = folder.join(&node.name).with_extension("toml");
        std::fs::write(&file, config)?;
        node.args.push("--config".into());
        node.args.push(file.into());
        node.start()?;
        let member = Member {
            node,
            down: false,
            frozen: false,
        };
        self.nodes.insert(who, member);
        Ok(())
    }

    /// A gateway.
    ///
    /// # Errors
    /// When there is none with this number.
    pub(super) fn gateway(&self, number: usize) -> Result<&Node> {
        let member = self.nodes.get(&Who::Gateway(number));
        Ok(&member.with_context(|| format!("no gateway {number}"))?.node)
    }

    /// The Client API of each gateway.
    ///
    /// # Errors
    /// When one has none.
    pub(super) fn apis(&self) -> Result<Vec<Api>> {
        (0..GATEWAYS)
            .map(|number| self.gateway(number)?.api(TENANT))
            .collect()
    }

    /// What each worker has logged.
    #[must_use]
    pub(super) fn worker_logs(&self) -> Vec<(usize, String)> {
        let log = |number| {
            let member = self.nodes.get(&Who::Worker(number))?;
            Some((number, member.node.process().ok()?.log()))
        };
        (0..WORKERS).filter_map(log).collect()
    }

    /// What went wrong when.
    #[must_use]
    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// The faults begin now.
    pub(super) fn begins(&mut self) {
        self.history.start = Instant::now();
    }

    /// What must not have happened to processes.
    #[must_use]
    pub(super) fn wrong(&self) -> &[String] {
        &self.wrong
    }

    /// Lets something go wrong. Returns what ends it.
    ///
    /// # Errors
    /// When the harness cannot do it.
    pub(super) async fn begin(&mut self, what: What) -> Result<Undo> {
        self.history.begins(what);
        Ok(match what {
            What::Kill(who) => {
                let member = self.member(who)?;
                member.down = true;
                // It may have ended by itself a moment ago.
                if member.node.process_mut()?.status().is_none() {
                    member.node.kill().await?;
                }
                self.note_end(who);
                Undo::Start(who)
            }
            What::KillMachine(number) => {
                let lost = [Who::Gateway(number), Who::Worker(number)];
                // All at once: nobody has time to tell anybody of the other's end.
                for who in lost {
                    let member = self.member(who)?;
                    member.down = true;
                    if member.node.process_mut()?.status().is_none() {
                        member.node.signal(Signal::Kill)?;
                    }
                }
                for who in lost {
                    self.member(who)?.node.process_mut()?.ended().await?;
                    self.note_end(who);
                }
                Undo::StartAll(lost)
            }
            What::Freeze(who) => {
                let member = self.member(who)?;
                if member.node.process_mut()?.status().is_some() {
                    return Ok(Undo::Nothing);
                }
                member.node.signal(Signal::Stop)?;
                member.frozen = true;
                Undo::Thaw(who)
            }
            What::Cut(way, nth) => {
                let proxy = self.way(way)?;
                if let Some(line) = proxy.pick(nth) {
                    proxy.cut(line);
                }
                Undo::Nothing
            }
            What::Hold(way, nth) => {
                let proxy = self.way(way)?;
                let Some(line) = proxy.pick(nth) else {
                    return Ok(Undo::Nothing);
                };
                proxy.hold(line, true);
                Undo::Release(way, line)
            }
            What::Mute(way, nth, stream) => {
                let proxy = self.way(way)?;
                let Some(line) = proxy.pick(nth) else {
                    return Ok(Undo::Nothing);
                };
                proxy.hold_one(line, stream, true);
                Undo::Unmute(way, line, stream)
            }
            What::HoldAll(way) => {
                self.way(way)?.hold_all(true);
                Undo::ReleaseAll(way)
            }
            What::Swap(version) => self.swap(version)?,
        })
    }

    /// Ends what went wrong.
    ///
    /// # Errors
    /// When the harness cannot do it.
    pub(super) fn end(&mut self, what: What, undo: &Undo) -> Result<()> {
        self.history.ends(what);
        match undo {
            Undo::Nothing => {}
            Undo::Start(who) => self.start_again(*who)?,
            Undo::StartAll(all) => {
                for who in all {
                    self.start_again(*who)?;
                }
            }
            Undo::Thaw(who) => {
                let member = self.member(*who)?;
                member.frozen = false;
                member.node.signal(Signal::Continue)?;
            }
            Undo::Release(way, line) => self.way(*way)?.hold(*line, false),
            Undo::Unmute(way, line, stream) => self.way(*way)?.hold_one(*line, *stream, false),
            Undo::ReleaseAll(way) => self.way(*way)?.hold_all(false),
            Undo::Repair => {
                self.swap(Version::Good)?;
            }
        }
        Ok(())
    }

    fn start_again(&mut self, who: Who) -> Result<()> {
        let member = self.member(who)?;
        member.down = false;
        member.node.start()
    }

    fn swap(&mut self, version: Version) -> Result<Undo> {
        self.builds += 1;
        let label = format!("build {}", self.builds);
        let half = self.component.len() / 2;
        let bytes = match version {
            Version::Good => another_build(&self.component, &label)?,
            Version::Half => self.component.get(..half).unwrap_or_default().to_vec(),
            Version::Refusing => another_build(&std::fs::read(Plugin::Scripted.path()?)?, &label)?,
            Version::Other => wat::parse_str("(component)")?,
        };
        replace(&self.plugin, &bytes)?;
        let good = version == Version::Good;
        self.good_since = good.then(Instant::now);
        Ok(if good { Undo::Nothing } else { Undo::Repair })
    }

    /// Starts again what has ended by itself. A gateway may, when it was declared lost; a worker may
    /// not, except for one that starts while the plugin is bad.
    ///
    /// # Errors
    /// When a process cannot be started.
    pub(super) fn supervise(&mut self) -> Result<()> {
        let mut ended = Vec::new();
        for (who, member) in &mut self.nodes {
            if !member.down && !member.frozen {
                ended.extend(
                    member
                        .node
                        .process_mut()?
                        .status()
                        .map(|status| (*who, status)),
                );
            }
        }
        for (who, status) in ended {
            let good = self.good_since.is_some_and(|it| it.elapsed().as_secs() > 5);
            match who {
                Who::Gateway(_) => {}
                Who::Worker(_) if !good => {}
                Who::Worker(_) | Who::Register(_) => {
                    self.wrong
                        .push(format!("{who:?} has ended by itself: {status}"));
                }
            }
            self.note_end(who);
            self.member(who)?.node.start()?;
        }
        Ok(())
    }

    fn note_end(&mut self, who: Who) {
        if let Who::Gateway(gateway) = who {
            self.history.gateway_ended(gateway);
        }
    }

    fn member(&mut self, who: Who) -> Result<&mut Member> {
        let member = self.nodes.get_mut(&who);
        member.with_context(|| format!("no {who:?}"))
    }

    fn way(&self, way: Way) -> Result<&Proxy> {
        self.ways.get(&way).with_context(|| format!("no {way:?}"))
    }
}

/// Asks a gateway again and again how many clients lack a custodian who knows them.
async fn ask_whether_guarded(number: usize, admin: SocketAddrV4, guards: Guards) {
    loop {
        let asked = Instant::now();
        let metrics = timeout(ASKING, http::get(admin, "/metrics")).await;
        if let Ok(Ok(metrics)) = metrics
            && let Some(unguarded) = sum_of(UNGUARDED, &metrics.body)
            && let Some(single) = sum_of(SINGLE, &metrics.body)
        {
            guards.note(number, asked, unguarded, single);
        }
        sleep(ASK_EVERY).await;
    }
}

fn node(name: &str, command: &str) -> Result<Node> {
    ensure!(!name.is_empty(), "a node without a name");
    let secret = "the secret of a chaos run, long enough";
    let mut node = Node::new(name, secret, log_folder()?);
    node.args.push(command.into());
    Ok(node)
}
