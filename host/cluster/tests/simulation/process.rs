//! The processes of a simulation: the real services, each on a runtime of its own whose clock moves
//! only when the world says so. Dropping one is kill -9; not stepping it is SIGSTOP.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidegate_cluster::gateway::Gateway;
use tidegate_cluster::gateway::settings::{GatewaySettings, ListenerSettings};
use tidegate_cluster::register::{Register, RegisterSettings};
use tidegate_cluster::worker::{Handlers, Worker, WorkerSettings};
use tidegate_hub::routing::{Routing, Routings};
use tidegate_link::membership::{self, Members, MembershipSettings};
use tidegate_link::net::stream::Listen;
use tidegate_link::{Identity, LinkSettings, Secret};
use tidegate_wire::Name;
use tidegate_wire::event::Transport;
use tidegate_wire::hello::Refusal;
use tidegate_wire::id::Incarnation;
use tidegate_wire::membership::{Node, Role};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{advance, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::network::{Clock, Host, Net, STEP_MS, Socket};

const HEARTBEAT: Duration = Duration::from_millis(50);
/// Of links, and at registers.
pub(crate) const LEASE: Duration = Duration::from_millis(250);
/// How long a worker may take to leave in peace: until it is known what became of a gateway.
pub(crate) const DRAIN: Duration = Duration::from_millis(1_500);
const GRACE: Duration = Duration::from_millis(450);
const RECONNECT_MIN: Duration = Duration::from_millis(10);
const RECONNECT_MAX: Duration = Duration::from_millis(80);
const HANDSHAKE: Duration = Duration::from_millis(200);

const LINK: LinkSettings = LinkSettings {
    heartbeat: HEARTBEAT,
    lease: LEASE,
    handshake: HANDSHAKE,
    queue_bytes_max: 1 << 20,
};

fn link_settings(bounds: Bounds) -> LinkSettings {
    LinkSettings {
        queue_bytes_max: bounds.link_queue_bytes_max,
        ..LINK
    }
}

/// A process that runs.
pub(crate) struct Process {
    // Dropped first: its tasks hold what those of the runtime look at.
    local: LocalSet,
    runtime: Runtime,
    pub(crate) clock: Clock,
    view: Rc<Slot<watch::Receiver<Arc<Members>>>>,
}

/// What a process shows of itself.
pub(crate) type Slot<T> = RefCell<Option<T>>;

impl Process {
    fn start<F: Future<Output = ()> + 'static>(
        now_ms: u64,
        main: impl FnOnce(Clock, Rc<Slot<watch::Receiver<Arc<Members>>>>) -> F,
    ) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let clock = runtime.block_on(async { Clock::start(now_ms) });
        let local = LocalSet::new();
        let view: Rc<Slot<_>> = Rc::default();
        local.spawn_local(main(clock.clone(), view.clone()));
        Self {
            local,
            runtime,
            clock,
            view,
        }
    }

    /// Runs until this time of the world. One that was not stepped for a while wakes up late, as a
    /// thawed process does.
    /// With `asleep` its machine was suspended: its clock does not jump.
    pub(crate) fn step(&self, until_ms: u64, asleep: bool) {
        let clock = self.clock.clone();
        self.local.block_on(&self.runtime, async move {
            let late = (until_ms - STEP_MS).saturating_sub(clock.now_ms());
            if asleep {
                clock.sleep_through(late);
            } else if late > 0 {
                advance(Duration::from_millis(late)).await;
            }
            sleep_until(clock.instant(until_ms)).await;
        });
    }

    /// Runs something more in it.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.local.spawn_local(task);
    }

    /// How many nodes it sees.
    pub(crate) fn nodes(&self) -> usize {
        let view = self.view.borrow();
        view.as_ref().map_or(0, |view| view.borrow().nodes.len())
    }
}

/// How a node says on which machine it runs.
fn place_tag(place: usize) -> Name {
    format!("host=place-{place}").as_str().into()
}

/// Where a host listens.
pub(crate) fn address(host: Host) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, host as u8), 7000)
}

/// What a process needs to know to start.
#[derive(Clone)]
pub(crate) struct Birth {
    pub(crate) net: Arc<Net>,
    pub(crate) host: Host,
    pub(crate) incarnation: u64,
    pub(crate) registers: Vec<Host>,
    /// The machine that it shares with others, if it says so.
    pub(crate) place: Option<usize>,
    pub(crate) now_ms: u64,
}

impl Birth {
    fn identity(&self, role: Role, clock: Clock) -> Identity {
        let node = Node {
            role,
            incarnation: Incarnation(self.incarnation),
            address: (role != Role::Worker).then(|| address(self.host)),
            name: format!("{}-{}", role.name(), self.host).into(),
            tags: self.place.map(place_tag).into_iter().collect(),
        };
        Identity {
            node,
            secret: Secret::new(b"a secret of the simulation"),
            net: self.net.dialer(self.host, clock),
        }
    }

    fn listen(&self, clock: Clock) -> Socket {
        let at = SocketAddr::V4(address(self.host));
        self.net.listen(self.host, at, clock)
    }

    fn join(&self, identity: Identity) -> membership::Membership {
        let registers = self.registers.iter().map(|it| address(*it).to_string());
        let settings = MembershipSettings {
            link: LINK,
            lease: LEASE,
            reconnect_min: RECONNECT_MIN,
            reconnect_max: RECONNECT_MAX,
        };
        membership::join(
            registers.collect(),
            identity,
            settings,
            CancellationToken::new(),
        )
    }
}

pub(crate) fn register(birth: Birth) -> Process {
    Process::start(birth.now_ms, move |clock, _| async move {
        let settings = RegisterSettings {
            lease_max: LEASE,
            grace: GRACE,
            nodes_max: 64,
            link: LINK,
        };
        let socket = birth.listen(clock.clone());
        let identity = birth.identity(Role::Register, clock);
        Register::run(socket, identity, settings, CancellationToken::new()).await;
    })
}

/// As `tidegate worker` does: one that is told to stop drains and leaves.
pub(crate) fn worker(
    birth: Birth,
    bounds: Bounds,
    handlers: impl FnOnce(Clock) -> Arc<dyn Handlers> + 'static,
) -> (Process, Rc<Shown>) {
    let shown = Rc::new(Shown::default());
    let showing = shown.clone();
    let process = Process::start(birth.now_ms, move |clock, view| async move {
        let settings = WorkerSettings {
            window_events: bounds.window_events,
            window_bytes: bounds.window_bytes,
            load_interval: Duration::from_millis(100),
            reconnect_min: RECONNECT_MIN,
            reconnect_max: RECONNECT_MAX,
            shutdown: DRAIN,
            link: link_settings(bounds),
        };
        let identity = birth.identity(Role::Worker, clock.clone());
        let membership = birth.join(identity.clone());
        view.replace(Some(membership.members.clone()));
        let worker = Worker::new(identity, settings, handlers(clock));
        worker
            .run(membership.members.clone(), showing.stop.clone())
            .await;
        membership.leave().await;
        showing.ended.set(true);
    });
    (process, shown)
}

/// What a worker's or a gateway's process shows, and how it is told to stop.
#[derive(Default)]
pub(crate) struct Shown {
    pub(crate) gateway: Slot<Arc<Gateway>>,
    pub(crate) stop: CancellationToken,
    /// It has left in peace, or was declared lost, has closed its clients and ended.
    pub(crate) ended: Cell<bool>,
}

/// Bounds of queues.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Uncommitted at one worker.
    pub(crate) window_events: u32,
    pub(crate) window_bytes: u64,
    /// That wait on one link.
    pub(crate) link_queue_bytes_max: usize,
    /// Of one client at its gateway.
    pub(crate) hold_bytes_max: usize,
    /// Of all clients of a gateway.
    pub(crate) pending_bytes_max: usize,
}

/// As `tidegate gateway` does: a gateway that was declared lost closes its clients and ends.
pub(crate) fn gateway(birth: Birth, routing: Routing, bounds: Bounds) -> (Process, Rc<Shown>) {
    let shown = Rc::new(Shown::default());
    let showing = shown.clone();
    let process = Process::start(birth.now_ms, move |clock, view| async move {
        let identity = birth.identity(Role::Gateway, clock.clone());
        let membership = birth.join(identity.clone());
        view.replace(Some(membership.members.clone()));
        let settings = gateway_settings(address(birth.host), routing, bounds);
        let gateway = Arc::new(Gateway::start_here(identity.clone(), settings).unwrap());
        showing.gateway.replace(Some(gateway.clone()));
        let ending = CancellationToken::new();
        let link = link_settings(bounds);
        spawn_local(accept(birth.listen(clock), identity, link, gateway.clone()));
        let serve = gateway.run(vec![], None, membership.members.clone(), ending.clone());
        tokio::pin!(serve);
        let mut refused = membership.refused.clone();
        tokio::select! {
            biased;
            () = &mut serve => {}
            () = showing.stop.cancelled() => {
                ending.cancel();
                serve.await;
            }
            lost = refused.wait_for(|refused| *refused == Some(Refusal::Lost)) => {
                drop(lost);
                gateway.lose();
                ending.cancel();
                serve.await;
            }
        }
        membership.leave().await;
        showing.ended.set(true);
    });
    (process, shown)
}

async fn accept(socket: Socket, identity: Identity, settings: LinkSettings, gateway: Arc<Gateway>) {
    loop {
        let Ok((stream, _)) = socket.accept().await else {
            return;
        };
        let (identity, gateway) = (identity.clone(), gateway.clone());
        spawn_local(async move {
            if let Ok(link) = tidegate_link::accept(stream, &identity, &settings).await {
                gateway.attach(link);
            }
        });
    }
}

fn gateway_settings(announced: SocketAddrV4, routing: Routing, bounds: Bounds) -> GatewaySettings {
    let tenant = crate::handlers::tenant();
    GatewaySettings {
        shards: 2,
        routings: Routings::all(routing),
        hold_bytes_max: bounds.hold_bytes_max,
        pending_bytes_max: bounds.pending_bytes_max,
        clients_bytes_max: bounds.pending_bytes_max + (64 << 20),
        forward_bytes_max: 1 << 20,
        timer_bytes_max: 16 << 20,
        task_bytes_max: 16 << 20,
        tasks_under_way_max: 64,
        connections_max: 1000,
        handshakes_max: 64,
        handshakes_per_address_max: 64,
        close: LEASE,
        shutdown: LEASE,
        reconnect: (RECONNECT_MIN, RECONNECT_MAX),
        link: link_settings(bounds),
        listeners: vec![ListenerSettings {
            handshake: HANDSHAKE,
            connections_max: 1000,
            ..ListenerSettings::new("lines", tenant, announced.into(), Transport::TextLines)
        }],
        ..GatewaySettings::new(announced)
    }
}
