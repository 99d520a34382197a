//! The gateway's side: gives orders to the first register and passes their progress on.
//!
//! Guarantees: every order ends with one last progress, also when the register goes away; the
//! gateway keeps the desired state as every node does, and teaches registers that know less.

mod task;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_link::Identity;
use tidegate_watchdog::watched;
use tidegate_wire::Name;
use tidegate_wire::deploy::{COMPONENT_BYTES_MAX, Order};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::keeping::Keeping;
use super::transfer::{Exchange, Offer};
use super::uplink::{News, Uplinks};
use super::{
    Coordinators, DeployError, DeployOrder, DeploySettings, Desired, Overview, Progress, Store,
    version_of,
};
use task::ClientTask;

/// How many messages may wait.
const MESSAGES_MAX: usize = 256;
/// How many orders of this gateway may be under way; the register takes one at a time anyhow.
const ORDERS_MAX: usize = 8;
/// How many steps of an order may wait for whoever listens; more of them are left out.
const PROGRESS_MAX: usize = 1024;

/// How long the first register may take to say what it knows, before what others say is taken.
const TELLS_WITHIN: Duration = Duration::from_millis(800);
/// How long a link to the first register is waited for by who only looks.
const LOOKS_WITHIN: Duration = Duration::from_millis(200);

/// Who has told an overview.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Teller {
    /// The first register, which decides.
    First,
    /// Another one, which keeps a copy and sees the workers.
    Other,
    /// This gateway itself, which keeps a copy.
    Own,
}

/// Gives orders. Clones share the links. Lives until `stop`.
#[derive(Clone, Debug)]
pub struct DeployClient {
    inner: Arc<ClientInner>,
}

#[derive(Debug)]
struct ClientInner {
    inbox: mpsc::Sender<ClientMessage>,
    exchange: Exchange,
    /// Whether the first register has a link.
    up: watch::Receiver<bool>,
    /// How long an order waits for that.
    patience: Duration,
    register: String,
    store: Store,
    orders: Arc<Semaphore>,
}

/// What reaches the task.
#[derive(Debug)]
enum ClientMessage {
    News(usize, News),
    Order {
        order: Order,
        progress: mpsc::Sender<Progress>,
        offer: Option<Offer>,
        /// Given back with the last progress.
        place: OwnedSemaphorePermit,
    },
    Ask {
        first: oneshot::Sender<Overview>,
        other: Option<oneshot::Sender<Overview>>,
    },
}

impl DeployClient {
    /// Connects to the registers; never waits. `identity` is the gateway's.
    #[must_use]
    pub fn start(
        coordinators: Coordinators,
        identity: Identity,
        store: Store,
        settings: DeploySettings,
        stop: CancellationToken,
    ) -> Self {
        let (inbox, messages) = mpsc::channel(MESSAGES_MAX);
        let exchange = Exchange::new(store.clone(), settings.link.lease);
        let seed = identity.node.incarnation.0;
        let uplinks = Uplinks {
            identity,
            store: store.clone(),
            exchange: exchange.clone(),
            settings,
            stop: stop.clone(),
        };
        let coordinators = uplinks.start(coordinators, &inbox, ClientMessage::News);
        let register = coordinators.first().cloned();
        let register = register.unwrap_or_else(|| "(none is configured)".to_owned());
        let (tell_up, up) = watch::channel(false);
        let task = ClientTask::new(
            coordinators.len(),
            store.clone(),
            Keeping::new(store.clone(), &settings, seed).holding(),
            register.clone(),
            tell_up,
        );
        tokio::spawn(watched("the deploy client", task.run(messages, stop)));
        Self {
            inner: Arc::new(ClientInner {
                inbox,
                exchange,
                up,
                patience: settings.reconnect_max * 2,
                register,
                store,
                orders: Arc::new(Semaphore::new(ORDERS_MAX)),
            }),
        }
    }

    /// Progress until the last, which is `Done` or `Failed`. Dropping the receiver does not undo.
    #[must_use]
    pub fn deploy(&self, order: DeployOrder, component: Bytes) -> mpsc::Receiver<Progress> {
        let bytes = component.len() as u64;
        if bytes > COMPONENT_BYTES_MAX {
            let limit = COMPONENT_BYTES_MAX;
            return failed(DeployError::TooLarge { bytes, limit });
        }
        let exchange = self.inner.exchange.clone();
        self.give(order.tenant.clone(), move || {
            let version = version_of(&component);
            let offer = exchange.offer(&version, component);
            let order = Order::Deploy {
                order,
                version,
                bytes,
            };
            (order, Some(offer))
        })
    }

    /// Back to an earlier release: the one before, or the one whose version begins with `to`. With
    /// a canary under way and no `to`: gives that up.
    #[must_use]
    pub fn rollback(&self, tenant: Name, to: Option<String>, by: Name) -> mpsc::Receiver<Progress> {
        let order = Order::Rollback {
            tenant: tenant.clone(),
            to,
            by,
        };
        self.give(tenant, || (order, None))
    }

    /// The canary under way serves everybody.
    #[must_use]
    pub fn promote(&self, tenant: Name, by: Name) -> mpsc::Receiver<Progress> {
        let order = Order::Promote {
            tenant: tenant.clone(),
            by,
        };
        self.give(tenant, || (order, None))
    }

    /// Forgets the tenant's deploy: at their next start workers use their configured file.
    #[must_use]
    pub fn withdraw(&self, tenant: Name, by: Name) -> mpsc::Receiver<Progress> {
        let order = Order::Withdraw {
            tenant: tenant.clone(),
            by,
        };
        self.give(tenant, || (order, None))
    }

    /// What is to be and what is, as the first register knows it.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn overview(&self) -> Result<Overview, DeployError> {
        self.inner.reach().await?;
        let (first, answered) = oneshot::channel();
        let asked = self
            .inner
            .inbox
            .send(ClientMessage::Ask { first, other: None })
            .await;
        asked.map_err(|_| DeployError::GatewayStopping)?;
        let answered = timeout(self.inner.patience, answered).await;
        let unreached = || self.inner.unreached();
        answered.map_err(|_| unreached())?.map_err(|_| unreached())
    }

    /// What is to be and what is, as far as that can be had at once: from the first register, or
    /// without it from another one or from what this gateway keeps.
    pub async fn look(&self) -> (Overview, Teller) {
        let (first, first_told) = oneshot::channel();
        let (other, other_told) = oneshot::channel();
        let mut up = self.inner.up.clone();
        // Right after the start, or between two links.
        let _ = timeout(LOOKS_WITHIN, up.wait_for(|up| *up)).await;
        let other = Some(other);
        // A mailbox that is closed drops both: the gateway ends.
        let _ = self
            .inner
            .inbox
            .send(ClientMessage::Ask { first, other })
            .await;
        if let Ok(Ok(overview)) = timeout(TELLS_WITHIN, first_told).await {
            return (overview, Teller::First);
        }
        let own = (*self.inner.store.desired()).clone();
        match timeout(LOOKS_WITHIN, other_told).await {
            Ok(Ok(mut overview)) => {
                if own.beats(&overview.desired) {
                    overview.desired = own;
                }
                (overview, Teller::Other)
            }
            Ok(Err(_)) | Err(_) => {
                let overview = Overview {
                    desired: own,
                    workers: Vec::new(),
                    under_way: None,
                    settles_in_ms: 0,
                };
                (overview, Teller::Own)
            }
        }
    }

    /// What is to be, as the first register knows it: state and history.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn desired(&self) -> Result<Desired, DeployError> {
        Ok(self.overview().await?.desired)
    }

    /// `make` may take its time: it hashes.
    fn give(
        &self,
        tenant: Name,
        make: impl FnOnce() -> (Order, Option<Offer>) + Send + 'static,
    ) -> mpsc::Receiver<Progress> {
        let Ok(place) = self.inner.orders.clone().try_acquire_owned() else {
            return failed(DeployError::Busy { tenant });
        };
        let (progress, receiver) = mpsc::channel(PROGRESS_MAX);
        let front = self.inner.clone();
        tokio::spawn(async move {
            if let Err(reason) = front.give(make, progress.clone(), place).await {
                // Whoever asked may have gone.
                let _ = progress.send(Progress::Failed { reason }).await;
            }
        });
        receiver
    }
}

fn failed(reason: DeployError) -> mpsc::Receiver<Progress> {
    let (progress, receiver) = mpsc::channel(1);
    // There is room.
    let _ = progress.try_send(Progress::Failed { reason });
    receiver
}

impl ClientInner {
    fn unreached(&self) -> DeployError {
        DeployError::NoRegister {
            register: self.register.clone(),
        }
    }

    /// Waits a little for the first register.
    async fn reach(&self) -> Result<(), DeployError> {
        let mut up = self.up.clone();
        let up = timeout(self.patience, up.wait_for(|up| *up)).await;
        match up {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(DeployError::GatewayStopping),
            Err(_) => Err(self.unreached()),
        }
    }

    async fn give(
        &self,
        make: impl FnOnce() -> (Order, Option<Offer>) + Send + 'static,
        progress: mpsc::Sender<Progress>,
        place: OwnedSemaphorePermit,
    ) -> Result<(), DeployError> {
        let made = spawn_blocking(make).await;
        let (order, offer) = made.map_err(|_| DeployError::GatewayStopping)?;
        self.reach().await?;
        let inbox = ClientMessage::Order {
            order,
            progress,
            offer,
            place,
        };
        let sent = self.inbox.send(inbox).await;
        sent.map_err(|_| DeployError::GatewayStopping)
    }
}
