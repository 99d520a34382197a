//! Several gateways in one process, linked over real sockets, with views that the test writes.

use std::collections::BTreeMap;

use tidegate_cluster::gateway::access::Access;
use tidegate_link::accept;
use tidegate_link::membership::Members;
use tidegate_wire::query::{
    Answer, Answered, AskError, ClientFields, ClientInfo, Query, Question, Selector,
};
use tokio::sync::watch;
use tokio::time::Instant;

use super::*;

/// What a call may take in a test in which everybody answers.
pub(crate) const WITHIN: Duration = Duration::from_secs(5);

pub(crate) fn tenant() -> tidegate_wire::Name {
    "t".into()
}

pub(crate) fn secret() -> Secret {
    Secret::new(b"a secret of tests")
}

/// A link that says nothing by itself.
pub(crate) fn quiet_link() -> LinkSettings {
    LinkSettings {
        heartbeat: Duration::from_secs(3600),
        lease: Duration::from_secs(3600),
        ..LinkSettings::default()
    }
}

pub(crate) fn gateway_node(incarnation: u64, address: SocketAddrV4) -> Node {
    Node {
        address: Some(address),
        ..node(Role::Gateway, incarnation)
    }
}

/// One gateway of several.
pub(crate) struct Member {
    pub(crate) node: Node,
    pub(crate) access: Access,
    gateway: Arc<Gateway>,
    clients: SocketAddr,
    stop: CancellationToken,
    running: Option<tokio::task::JoinHandle<()>>,
    workers: u64,
}

/// All of them.
pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    view: watch::Sender<Arc<Members>>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) async fn v4_listener() -> (TcpListener, SocketAddrV4) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let SocketAddr::V4(address) = listener.local_addr().unwrap() else {
        panic!("an IPv4 address was asked for")
    };
    (listener, address)
}

impl Cluster {
    /// Gateways that know each other, with two shards each.
    pub(crate) async fn start(gateways: u64) -> Self {
        let view = watch::channel(Arc::new(Members::default())).0;
        let mut members = Vec::new();
        for incarnation in 1..=gateways {
            members.push(Self::member(incarnation, view.subscribe()).await);
        }
        let cluster = Self { members, view };
        cluster.show(cluster.members.iter().map(|it| it.node.clone()).collect());
        cluster.until_whole(0).await;
        cluster
    }

    async fn member(incarnation: u64, view: watch::Receiver<Arc<Members>>) -> Member {
        let (lan, address) = v4_listener().await;
        let (socket, _) = v4_listener().await;
        let node = gateway_node(incarnation, address);
        let identity = Identity {
            node: node.clone(),
            secret: secret(),
            net: tidegate_link::net::stream::tcp(),
        };
        let defaults = settings(Routing::default(), Transport::TextLines);
        let listeners = defaults.listeners.iter().cloned();
        let listeners = listeners.map(|it| ListenerSettings {
            connections_max: 10_000,
            ..it
        });
        let settings = GatewaySettings {
            announced: address,
            connections_max: 10_000,
            shutdown: Duration::from_millis(50),
            link: quiet_link(),
            listeners: listeners.collect(),
            ..defaults
        };
        let gateway = Arc::new(Gateway::start(identity, settings).unwrap());
        let clients = socket.local_addr().unwrap();
        let stop = CancellationToken::new();
        let (run, ending) = (gateway.clone(), stop.clone());
        let running = tokio::spawn(async move {
            run.run(vec![socket], Some(lan), view, ending).await;
        });
        Member {
            node,
            access: gateway.access(),
            gateway,
            clients,
            stop,
            running: Some(running),
            workers: 1000 * incarnation,
        }
    }

    /// Tells everybody who is there.
    pub(crate) fn show(&self, nodes: Vec<Node>) {
        let nodes: BTreeMap<Incarnation, Node> = nodes
            .into_iter()
            .map(|node| (node.incarnation, node))
            .collect();
        self.view.send_replace(Arc::new(Members {
            nodes,
            connected: 1,
            ..Members::default()
        }));
    }

    /// Waits until every gateway from this one on reaches all that it knows.
    pub(crate) async fn until_whole(&self, from: usize) {
        let count = self.members.len() - from;
        for member in self.members.iter().skip(from) {
            eventually(async || {
                let gateways = member.ask(Query::Gateways).await.unwrap().answer;
                let count_query = Query::ClientCount {
                    of: vec![Selector::Everyone],
                };
                let whole = member.ask(count_query).await.unwrap().missing.is_empty();
                whole && matches!(gateways, Answer::Gateways(all) if all.len() == count)
            })
            .await;
        }
    }

    /// Ends one gateway and takes it off the view.
    pub(crate) async fn end(&mut self, place: usize) {
        let mut member = self.members.remove(place);
        member.stop.cancel();
        if let Some(running) = member.running.take() {
            within(running).await.unwrap();
        }
        self.show(self.members.iter().map(|it| it.node.clone()).collect());
        let gone = member.node.address.unwrap();
        for member in &self.members {
            eventually(async || {
                let gateways = member.ask(Query::Gateways).await.unwrap().answer;
                matches!(gateways, Answer::Gateways(all) if !all.contains(&gone))
            })
            .await;
        }
    }
}

impl Member {
    pub(crate) async fn ask(&self, query: Query) -> Result<Answered, AskError> {
        self.access.ask(&tenant(), query, WITHIN).await
    }

    /// A whole answer.
    pub(crate) async fn whole(&self, query: Query) -> Answer {
        let answered = self.ask(query).await.unwrap();
        assert_eq!(answered.missing, vec![]);
        answered.answer
    }

    pub(crate) async fn count(&self, of: Selector) -> u64 {
        match self.whole(Query::ClientCount { of: vec![of] }).await {
            Answer::Count(count) => count,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn act(&self, effects: Vec<Effect>) {
        self.access.act(&tenant(), effects).await.unwrap();
    }

    pub(crate) fn worker(&mut self) -> Scripted {
        self.workers += 1;
        let (mine, theirs) = pair(
            node(Role::Worker, self.workers),
            self.node.clone(),
            &LinkSettings::default(),
        );
        self.gateway.attach(theirs);
        let announcement = Announcement {
            serving: vec![Serving {
                tenant: "t".into(),
                version: "v1".into(),
                http: false,
            }],
            window_events: 4096,
            window_bytes: 1 << 24,
        };
        mine.sender
            .send(WorkerFrame::Announce(announcement))
            .unwrap();
        Scripted {
            link: mine,
            frames: VecDeque::new(),
            swaps: std::collections::HashMap::new(),
        }
    }

    pub(crate) async fn client(&self) -> Client {
        let (read, write) = TcpStream::connect(self.clients).await.unwrap().into_split();
        Client {
            read: BufReader::new(read),
            write,
        }
    }

    /// Every page of a list of clients, with so many entries each.
    pub(crate) async fn pages(&self, of: &[Selector], limit: u32) -> Vec<ClientInfo> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let (page, more) = self.page(of, after, limit).await;
            assert!(page.len() <= limit as usize);
            after = page.last().map(|info| info.client).or(after);
            all.extend(page);
            if !more {
                return all;
            }
        }
    }

    pub(crate) async fn page(
        &self,
        of: &[Selector],
        after: Option<ClientId>,
        limit: u32,
    ) -> (Vec<ClientInfo>, bool) {
        let query = Query::Clients {
            of: of.to_vec(),
            fields: ClientFields::default(),
            after,
            limit,
        };
        match self.whole(query).await {
            Answer::Clients { page, more } => (page, more),
            other => panic!("{other:?}"),
        }
    }
}

impl Scripted {
    /// The next delivery, past what a custodian is told.
    pub(crate) async fn event(&mut self) -> Delivery {
        loop {
            match self.frame().await {
                GatewayFrame::Deliver(delivery) => return *delivery,
                GatewayFrame::Custody(_)
                | GatewayFrame::CustodyChanged(_)
                | GatewayFrame::CustodyRank(_) => {}
                other => panic!("expected a delivery, got {other:?}"),
            }
        }
    }

    /// The handler is run again on this worker: it begins anew.
    pub(crate) fn try_again(&mut self) {
        self.swaps.clear();
    }

    /// Asks during an event and waits for the answer; other frames are kept.
    pub(crate) async fn ask(
        &mut self,
        during: &Delivery,
        effects: Vec<Effect>,
        mut query: Query,
    ) -> Result<Answered, AskError> {
        if let Query::CompareAndSet { nth, .. } = &mut query {
            let asked = self
                .swaps
                .entry((during.event, during.attempt))
                .or_default();
            *nth = *asked;
            *asked += 1;
        }
        let number = rand_number();
        let question = Question {
            number,
            event: during.event,
            attempt: during.attempt,
            client: during.client,
            effects,
            query,
            within_ms: 5000,
        };
        let frame = WorkerFrame::Question(Box::new(question));
        self.link.sender.send(frame).unwrap();
        let mut kept = VecDeque::new();
        loop {
            match self.frame().await {
                GatewayFrame::Answered { number: of, answer } if of == number => {
                    kept.append(&mut self.frames);
                    self.frames = kept;
                    return *answer;
                }
                frame => kept.push_back(frame),
            }
        }
    }
}

fn rand_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Waits until it is so.
pub(crate) async fn eventually(mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < deadline, "the deadline passed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A gateway of which the test writes every frame: it takes links and dials none.
pub(crate) struct FakePeer {
    pub(crate) node: Node,
    listener: TcpListener,
}

impl FakePeer {
    pub(crate) async fn start(incarnation: u64) -> Self {
        let (listener, address) = v4_listener().await;
        Self {
            node: gateway_node(incarnation, address),
            listener,
        }
    }

    /// The next link that somebody dials.
    pub(crate) async fn link(&self) -> Link {
        let (socket, _) = within(self.listener.accept()).await.unwrap();
        let identity = self.identity();
        within(accept(socket, &identity, &quiet_link()))
            .await
            .unwrap()
    }

    fn identity(&self) -> Identity {
        Identity {
            node: self.node.clone(),
            secret: secret(),
            net: tidegate_link::net::stream::tcp(),
        }
    }
}
