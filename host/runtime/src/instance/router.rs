//! An instance of a router: the same kind of Store, under the same limits, and no call that it could ask
//! anything by.

use std::sync::Arc;

use tidegate_wire::event::EventType;
use tidegate_wire::routing::RouteCall;
use tokio::time::{Instant, timeout_at};
use wasmtime::Store;

use super::convert;
use super::failure::Failure;
use super::store::{begin_call, ended, instantiate, wrong_type};
use crate::bindings::exports::exports::tidegate::plugin::routing as wit;
use crate::engine::Runtime;
use crate::host_api::{HostState, Identity, OutputLog};
use crate::on_demand::Called;
use crate::plugin::{Plugin, PluginError};

/// One Store with one instance of a router in it.
pub(crate) struct RouterInstance {
    store: Store<HostState>,
    guest: wit::Guest,
}

impl Called for RouterInstance {
    fn expect(plugin: &Plugin) -> Result<(), PluginError> {
        plugin.routing().map(drop)
    }

    async fn start(
        runtime: &Runtime,
        plugin: &Plugin,
        identity: &Arc<Identity>,
        number: u32,
        output: &Arc<OutputLog>,
    ) -> Result<Self, PluginError> {
        let exports = plugin.routing()?;
        let (mut store, instance) = instantiate(runtime, plugin, identity, number, output).await?;
        let guest = exports
            .load(&mut store, &instance)
            .map_err(|error| wrong_type(plugin, &error))?;
        Ok(Self { store, guest })
    }
}

impl RouterInstance {
    /// What it answers, which must come by then.
    pub(crate) async fn route(
        &mut self,
        call: &RouteCall,
        deadline: Instant,
    ) -> Result<Option<u32>, Box<Failure>> {
        begin_call(&mut self.store);
        let client = call.client.map(convert::ClientIdText::new);
        let address = call.peer.as_ref().map(|peer| peer.address.to_string());
        let peer = call.peer.as_ref().zip(address.as_deref());
        let session: Vec<(&str, &str)> = call
            .session
            .iter()
            .map(|(key, value)| (&**key, value.as_str()))
            .collect();
        let event = wit::Event {
            kind: kind(call.kind),
            client: client.as_ref().map(convert::ClientIdText::as_str),
            peer: peer.map(|(peer, address)| convert::peer(peer, address)),
            uid: call.uid.as_deref(),
            session: &session,
            payload: call.payload.as_ref().map(convert::message),
        };
        let tags: Vec<Vec<&str>> = call
            .candidates
            .iter()
            .map(|it| it.tags.iter().map(|tag| &**tag).collect())
            .collect();
        let candidates = call.candidates.iter().zip(&tags);
        let candidates: Vec<wit::Candidate<'_>> = candidates
            .map(|(it, tags)| wit::Candidate {
                name: &it.name,
                tags,
                clients: it.clients,
                queued_bytes: it.queued_bytes,
            })
            .collect();
        let called = self.guest.call_route(&mut self.store, event, &candidates);
        let result = timeout_at(deadline, called).await;
        ended(&mut self.store, result)
    }
}

const fn kind(kind: EventType) -> wit::EventKind {
    match kind {
        EventType::Connect => wit::EventKind::Connect,
        EventType::Message => wit::EventKind::Message,
        EventType::Close => wit::EventKind::Close,
        EventType::Request => wit::EventKind::Request,
        EventType::Timer => wit::EventKind::Timer,
        EventType::BufferFull | EventType::BufferDrain => wit::EventKind::Buffer,
        EventType::Handshake => wit::EventKind::Handshake,
        EventType::Task => wit::EventKind::Task,
        EventType::TaskFinished => wit::EventKind::TaskFinished,
        EventType::Http => wit::EventKind::Http,
    }
}
