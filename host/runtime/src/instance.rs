//! One running copy of a plugin: the owner of its Store, and the only one who touches it.
//!
//! A call runs under a CPU budget (counted in ticks of the engine's clock, at which the guest also
//! yields its thread), under a time limit on the clock, and under a memory limit. A call that traps
//! or runs into a limit leaves a broken Store: the instance must be dropped, and its effects go
//! with it.

mod codec;
mod command;
mod convert;
mod failure;
mod handshake;
mod http;
mod peers;
mod router;
mod state;
mod store;

use std::sync::Arc;

use tidegate_wire::effect::{Effect, Reply};
use tidegate_wire::event::{Closed, Delivery, EventKind};
use tidegate_wire::payload::Carry;
use tidegate_wire::weight;
use tokio::time::{Instant, timeout, timeout_at};
use wasmtime::Store;
use wasmtime_wasi_http::p2::bindings::exports::wasi::http::incoming_handler;

use crate::bindings::exports::exports::tidegate::plugin::{
    buffer_events, client_events, handshake_events, peer_events, request_events, state as state_of,
    task_events, timer_events, worker_events,
};
use crate::deployment::Job;
use crate::engine::Runtime;
use crate::host_api::{CurrentCall, HostState, Identity, Origin, OutputLog, OwnClient, Steps};
use crate::limits::Limits;
use crate::plugin::{Plugin, PluginError};

pub(crate) use codec::{Called, CodecInstance};
pub(crate) use command::{CommandInstance, Executed};
pub(crate) use failure::{Failure, FailureKind};
pub(crate) use router::RouterInstance;
pub(crate) use state::StateFailure;
use store::{begin_call, ended, start_failed, wrong_type};

/// How a handler ended.
pub(crate) enum Ran {
    /// It returned ok.
    Done(Vec<Effect>),
    /// A request was answered.
    Answered(Vec<Effect>, Reply),
    /// It returned an error: no effects.
    Refused(String),
    /// It does not take events of this kind.
    Unhandled,
    /// It broke; drop the instance.
    Broken(Box<Failure>),
}

/// One Store with one instance of a handler in it.
pub(crate) struct Instance {
    store: Store<HostState>,
    client_events: client_events::Guest,
    request_events: Option<request_events::Guest>,
    handshake_events: Option<handshake_events::Guest>,
    timer_events: Option<timer_events::Guest>,
    task_events: Option<task_events::Guest>,
    buffer_events: Option<buffer_events::Guest>,
    peer_events: Option<peer_events::Guest>,
    state: Option<state_of::Guest>,
    worker_events: Option<worker_events::Guest>,
    http: Option<incoming_handler::Guest>,
    limits: Limits,
    /// How far the task has come that it has run.
    steps: Option<Steps>,
}

impl Instance {
    /// Instantiates the plugin and runs its on-start.
    pub(crate) async fn start(
        runtime: &Runtime,
        plugin: &Plugin,
        identity: &Arc<Identity>,
        number: u32,
        output: &Arc<OutputLog>,
    ) -> Result<Self, PluginError> {
        let exports = plugin.handler()?;
        let (mut store, instance) =
            store::instantiate(runtime, plugin, identity, number, output).await?;
        let wrong = |error: wasmtime::Error| wrong_type(plugin, &error);
        let client_events = exports.client_events.load(&mut store, &instance);
        let request_events = exports.request_events.as_ref();
        let request_events = request_events.map(|it| it.load(&mut store, &instance));
        let handshake_events = exports.handshake_events.as_ref();
        let handshake_events = handshake_events.map(|it| it.load(&mut store, &instance));
        let timer_events = exports.timer_events.as_ref();
        let timer_events = timer_events.map(|it| it.load(&mut store, &instance));
        let task_events = exports.task_events.as_ref();
        let task_events = task_events.map(|it| it.load(&mut store, &instance));
        let buffer_events = exports.buffer_events.as_ref();
        let buffer_events = buffer_events.map(|it| it.load(&mut store, &instance));
        let peer_events = exports.peer_events.as_ref();
        let peer_events = peer_events.map(|it| it.load(&mut store, &instance));
        let state = exports.state.as_ref();
        let state = state.map(|it| it.load(&mut store, &instance));
        let worker_events = exports.worker_events.as_ref();
        let worker_events = worker_events.map(|it| it.load(&mut store, &instance));
        let http = exports.http.as_ref();
        let http = http.map(|it| it.load(&mut store, &instance));
        let mut instance = Self {
            client_events: client_events.map_err(wrong)?,
            request_events: request_events.transpose().map_err(wrong)?,
            handshake_events: handshake_events.transpose().map_err(wrong)?,
            timer_events: timer_events.transpose().map_err(wrong)?,
            task_events: task_events.transpose().map_err(wrong)?,
            buffer_events: buffer_events.transpose().map_err(wrong)?,
            peer_events: peer_events.transpose().map_err(wrong)?,
            state: state.transpose().map_err(wrong)?,
            worker_events: worker_events.transpose().map_err(wrong)?,
            http: http.transpose().map_err(wrong)?,
            store,
            limits: identity.limits,
            steps: None,
        };
        instance.on_start(plugin, identity).await?;
        Ok(instance)
    }

    async fn on_start(&mut self, plugin: &Plugin, identity: &Identity) -> Result<(), PluginError> {
        let Some(worker_events) = &self.worker_events else {
            return Ok(());
        };
        begin_call(&mut self.store);
        let call = worker_events.call_on_start(&mut self.store, &identity.config.json);
        let result = timeout(self.limits.wall(), call).await;
        match ended(&mut self.store, result) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(text)) => Err(PluginError::StartRefused {
                name: plugin.source().to_string(),
                text,
            }),
            Err(failure) => Err(start_failed(plugin, &failure)),
        }
    }

    /// Runs the handler of one event; its time begins now, as the caller's clock has it.
    pub(crate) async fn handle(&mut self, job: &Job, now: Instant) -> Ran {
        let delivery = &job.delivery;
        if !self.takes(&delivery.kind) {
            return Ran::Unhandled;
        }
        let closed = match &delivery.kind {
            EventKind::Close(closed) => Some(&**closed),
            EventKind::Connect { .. }
            | EventKind::Message(_)
            | EventKind::Request { .. }
            | EventKind::Timer { .. }
            | EventKind::BufferFull { .. }
            | EventKind::BufferDrain
            | EventKind::Handshake { .. }
            | EventKind::Http { .. }
            | EventKind::Task { .. }
            | EventKind::TaskFinished { .. } => None,
        };
        let is_of_client = delivery.kind.is_of_client();
        let client = is_of_client.then(|| own_client(job, closed));
        begin_call(&mut self.store);
        let origin = Origin::Event {
            id: delivery.event,
            attempt: delivery.attempt,
            context: Arc::clone(&job.context),
        };
        let ends = now + self.limits.wall();
        let mut call = CurrentCall::new(origin, client, ends);
        call.only_asks = matches!(delivery.kind, EventKind::Handshake { .. });
        if let EventKind::Http { arrival, .. } = &delivery.kind {
            call.caller = Some(Arc::clone(arrival));
        }
        if let EventKind::Task { committed, .. } = delivery.kind {
            call.steps = Some(Steps {
                lane: delivery.client,
                committed,
                next: 0,
                is_void: false,
            });
        }
        self.store.data_mut().call = Some(call);
        let result = self.deliver(delivery, ends).await;
        let call = self.store.data_mut().call.take();
        self.steps = call.as_ref().and_then(|call| call.steps);
        match result {
            Ok(Ok(reply)) => self.done(call, reply),
            Ok(Err(text)) => Ran::Refused(text),
            Err(failure) => Ran::Broken(failure),
        }
    }

    /// How far the task has come that it has run, whatever came of the run.
    pub(crate) const fn steps(&self) -> Option<Steps> {
        self.steps
    }

    /// Whether the plugin exports what is called for such an event.
    const fn takes(&self, kind: &EventKind) -> bool {
        match kind {
            EventKind::Connect { .. } | EventKind::Message(_) | EventKind::Close(_) => true,
            EventKind::Request { .. } => self.request_events.is_some(),
            EventKind::Handshake { .. } => self.handshake_events.is_some(),
            EventKind::Timer { .. } => self.timer_events.is_some(),
            EventKind::Task { .. } | EventKind::TaskFinished { .. } => self.task_events.is_some(),
            EventKind::BufferFull { .. } | EventKind::BufferDrain => self.buffer_events.is_some(),
            EventKind::Http { .. } => self.http.is_some(),
        }
    }

    /// Calls the guest; what it gave back, or the words with which it refused.
    async fn deliver(
        &mut self,
        delivery: &Delivery,
        ends: Instant,
    ) -> Result<Result<Option<Reply>, String>, Box<Failure>> {
        let id = convert::ClientIdText::new(delivery.client);
        let (guest, store) = (&self.client_events, &mut self.store);
        let result = match &delivery.kind {
            EventKind::Message(message) => {
                let message = convert::message(message);
                timeout_at(ends, guest.call_on_message(store, id.as_str(), message)).await
            }
            EventKind::Connect { arrival, request } => {
                let peer = &arrival.peer;
                let address = peer.address.to_string();
                let pairs = request.as_deref().map(convert::Pairs::new);
                let request = request
                    .as_deref()
                    .zip(pairs.as_ref())
                    .map(|(request, pairs)| pairs.request(request));
                let peer = convert::peer(peer, &address);
                let call = guest.call_on_connect(store, id.as_str(), peer, request);
                timeout_at(ends, call).await
            }
            EventKind::Close(closed) => {
                let groups: Vec<&str> = closed.groups.iter().map(|group| &**group).collect();
                let closed = convert::closed(closed, &groups);
                timeout_at(ends, guest.call_on_close(store, id.as_str(), closed)).await
            }
            EventKind::Request { name, payload } => {
                let Some(guest) = &self.request_events else {
                    return Ok(Ok(None));
                };
                let result = timeout_at(ends, guest.call_on_request(store, name, payload)).await;
                let reply = ended(&mut self.store, result)?;
                return Ok(reply.map(|payload| Some(Reply::Ok(payload.into()))));
            }
            EventKind::Handshake { arrival, said } => {
                let Some(guest) = &self.handshake_events else {
                    return Ok(Ok(None));
                };
                let result = handshake::decide(guest, store, arrival, said, ends).await;
                let verdict = ended(&mut self.store, result)?;
                return Ok(verdict.map(Some));
            }
            EventKind::Timer { timer, payload } => {
                let Some(guest) = &self.timer_events else {
                    return Ok(Ok(None));
                };
                let own = timer.client.map(|_| id.as_str());
                let timer = timer.to_string();
                timeout_at(ends, guest.call_on_timer(store, own, &timer, payload)).await
            }
            EventKind::Task { task, payload, .. } => {
                let Some(guest) = &self.task_events else {
                    return Ok(Ok(None));
                };
                let whose = task.client.map(convert::ClientIdText::new);
                let whose = whose.as_ref().map(convert::ClientIdText::as_str);
                let task = task.to_string();
                let call = guest.call_on_task(store, whose, &task, payload);
                let result = timeout_at(ends, call).await;
                let reply = ended(&mut self.store, result)?;
                return Ok(reply.map(|result| Some(Reply::Ok(result.into()))));
            }
            EventKind::TaskFinished {
                task,
                of_client,
                outcome,
            } => {
                let Some(guest) = &self.task_events else {
                    return Ok(Ok(None));
                };
                let own = of_client.then(|| id.as_str());
                let task = task.to_string();
                let outcome = outcome.as_ref().map(|result| &**result);
                let outcome = outcome.map_err(|why| why.as_str());
                timeout_at(ends, guest.call_on_finished(store, own, &task, outcome)).await
            }
            EventKind::BufferFull { bytes } => {
                let Some(guest) = &self.buffer_events else {
                    return Ok(Ok(None));
                };
                timeout_at(ends, guest.call_on_buffer_full(store, id.as_str(), *bytes)).await
            }
            EventKind::BufferDrain => {
                let Some(guest) = &self.buffer_events else {
                    return Ok(Ok(None));
                };
                timeout_at(ends, guest.call_on_buffer_drain(store, id.as_str())).await
            }
            EventKind::Http { arrival, call } => {
                let Some(guest) = &self.http else {
                    return Ok(Ok(None));
                };
                let is_secure = arrival.peer.secure;
                let result = http::handle(guest, store, call, is_secure, ends).await;
                let answer = ended(&mut self.store, result)?;
                return Ok(answer.map(Some));
            }
        };
        Ok(ended(&mut self.store, result)?.map(|()| None))
    }

    /// The effects and the reply are bounded together.
    fn done(&self, call: Option<CurrentCall>, reply: Option<Reply>) -> Ran {
        let effect_bytes = call.as_ref().map_or(0, CurrentCall::effect_bytes);
        let effects = call.map(CurrentCall::into_effects).unwrap_or_default();
        let Some(reply) = reply else {
            return Ran::Done(effects);
        };
        let bytes_max = self.limits.effect_bytes_max;
        let mut bytes = weight::reply(&reply);
        reply.carry(&mut |payload| bytes += payload.len());
        if bytes.saturating_add(effect_bytes) > bytes_max {
            return Ran::Refused(format!(
                "the reply has {bytes} bytes; with the effects it may have {bytes_max}"
            ));
        }
        Ran::Answered(effects, reply)
    }

    /// Runs on-stop and drops the instance.
    pub(crate) async fn stop(mut self) {
        let Some(worker_events) = &self.worker_events else {
            return;
        };
        begin_call(&mut self.store);
        let call = worker_events.call_on_stop(&mut self.store);
        let result = timeout(self.limits.wall(), call).await;
        let Err(failure) = ended(&mut self.store, result) else {
            return;
        };
        let state = self.store.data();
        tracing::warn!(
            tenant = &*state.identity.tenant,
            plugin = &*state.identity.plugin,
            version = &*state.identity.version,
            instance = state.instance,
            reason = failure.reason,
            "on-stop failed"
        );
    }
}

/// The client whose event it is; `closed` is its end, if that is the event.
fn own_client(job: &Job, closed: Option<&Closed>) -> OwnClient {
    OwnClient::new(job.delivery.client, closed, job.context.session())
}
