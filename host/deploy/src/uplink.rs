//! A node's link for deploys to one coordinator: connects, enrols, passes on what comes, connects again.
//!
//! Guarantees: reconnects with jittered backoff until `stop`; says in the log why there is no link,
//! once per reason; what comes is answered or handed over in order.

use tidegate_link::net::{Backoff, resolve};
use tidegate_link::{Identity, Link, LinkEnd, LinkError, LinkSender};
use tidegate_watchdog::watched;
use tidegate_wire::deploy::Deploy;
use tidegate_wire::frame::Frame;
use tidegate_wire::membership::Role;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::transfer::Exchange;
use super::{Coordinator, Coordinators, DeploySettings, Store};

/// Tells this use of the incarnation as a seed from the membership's.
const SEED: u64 = 0x6465_706c_6f79;

/// What an uplink tells its owner, with its place among the coordinators.
#[derive(Debug)]
pub(super) enum News {
    Up(LinkSender),
    Said(Deploy),
    Down,
}

/// What all uplinks of a node share.
#[derive(Clone, Debug)]
pub(super) struct Uplinks {
    pub(super) identity: Identity,
    pub(super) store: Store,
    pub(super) exchange: Exchange,
    pub(super) settings: DeploySettings,
    pub(super) stop: CancellationToken,
}

#[derive(Clone, Debug)]
enum UplinkWay {
    Address(String),
    Here(Coordinator),
}

impl Uplinks {
    /// Starts one for each coordinator; returns how each is called.
    pub(super) fn start<M: Send + 'static>(
        self,
        coordinators: Coordinators,
        inbox: &mpsc::Sender<M>,
        wrap: fn(usize, News) -> M,
    ) -> Vec<String> {
        let mut ways = Vec::new();
        match coordinators {
            Coordinators::Here(coordinator) => {
                ways.push(("here".to_owned(), UplinkWay::Here(coordinator)))
            }
            Coordinators::Registers(addresses) => {
                for address in addresses {
                    // Two links of one node to one register would be told everything twice.
                    if !ways.iter().any(|(known, _)| *known == address) {
                        ways.push((address.clone(), UplinkWay::Address(address)));
                    }
                }
            }
        }
        for (place, (name, way)) in ways.iter().enumerate() {
            let uplink = Uplink {
                place,
                name: name.clone(),
                way: way.clone(),
                shared: self.clone(),
                inbox: inbox.clone(),
                wrap,
            };
            let name = format!("the link for deploys to {name}");
            tokio::spawn(watched(name, uplink.run()));
        }
        ways.into_iter().map(|(name, _)| name).collect()
    }
}

struct Uplink<M> {
    place: usize,
    name: String,
    way: UplinkWay,
    shared: Uplinks,
    inbox: mpsc::Sender<M>,
    wrap: fn(usize, News) -> M,
}

impl<M: Send + 'static> Uplink<M> {
    async fn run(self) {
        let settings = &self.shared.settings;
        let seed = self.shared.identity.node.incarnation.0 ^ SEED ^ self.place as u64;
        let mut backoff = Backoff::new(settings.reconnect_min, settings.reconnect_max, seed);
        let mut told = None;
        let stop = self.shared.stop.clone();
        loop {
            let once = async {
                let connected = self.connect().await;
                let reason = match connected {
                    Ok(link) => {
                        told = None;
                        let since = Instant::now();
                        let end = self.stay(link).await;
                        if since.elapsed() >= settings.link.lease {
                            backoff.reset();
                        }
                        end.to_string()
                    }
                    Err(reason) => reason,
                };
                self.say(&reason, &mut told);
                sleep(backoff.next()).await;
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = once => {}
            }
        }
    }

    fn say(&self, reason: &str, told: &mut Option<String>) {
        let register = &self.name;
        if told.as_deref() == Some(reason) {
            tracing::debug!(%register, reason, "still no link for deploys");
        } else {
            tracing::warn!(%register, reason, "no link for deploys; trying again until there is one");
            *told = Some(reason.to_owned());
        }
    }

    async fn connect(&self) -> Result<Link, String> {
        let address = match &self.way {
            UplinkWay::Here(coordinator) => {
                let node = self.shared.identity.node.clone();
                return Ok(coordinator.connect(node, &self.shared.settings.link));
            }
            UplinkWay::Address(address) => address,
        };
        let limit = self.shared.settings.link.handshake;
        let address = timeout(limit, resolve(address))
            .await
            .map_err(|_| LinkError::Timeout(limit).to_string())?
            .map_err(|error| error.to_string())?;
        let dialled =
            tidegate_link::dial(address, &self.shared.identity, &self.shared.settings.link).await;
        let link = dialled.map_err(|error| error.to_string())?;
        if link.peer.role != Role::Register {
            let role = link.peer.role.name();
            return Err(format!("a {role} answers there, not a register"));
        }
        Ok(link)
    }

    async fn stay(&self, mut link: Link) -> LinkEnd {
        let enrol = Deploy::Enrol {
            node: self.shared.identity.node.clone(),
            first: self.place == 0,
            desired: (*self.shared.store.desired()).clone(),
        };
        if let Err(end) = link.sender.send(enrol) {
            return end;
        }
        let peer = self.place as u64;
        self.shared.exchange.join(peer, link.sender.clone());
        self.tell(News::Up(link.sender.clone())).await;
        let end = self.serve(&mut link).await;
        self.shared.exchange.leave(peer);
        self.tell(News::Down).await;
        end
    }

    async fn serve(&self, link: &mut Link) -> LinkEnd {
        let peer = self.place as u64;
        let mut frames = Vec::new();
        loop {
            if let Err(end) = link.receiver.recv(&mut frames).await {
                return end;
            }
            for frame in frames.drain(..) {
                let Frame::Deploy(frame) = frame else {
                    tracing::warn!(register = %self.name, "a register sent a frame that is not for deploys");
                    return LinkEnd::ClosedHere;
                };
                let exchange = &self.shared.exchange;
                if let Some(frame) = exchange.serve(peer, *frame, &link.sender).await {
                    self.tell(News::Said(frame)).await;
                }
            }
        }
    }

    /// The owner may be gone: then the process ends.
    async fn tell(&self, news: News) {
        let _ = self.inbox.send((self.wrap)(self.place, news)).await;
    }
}
