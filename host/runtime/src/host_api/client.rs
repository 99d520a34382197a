//! `tidegate:plugin/client`: who the client is whose event is handled. Nothing here asks the gateway or
//! costs a limit.

use std::sync::Arc;

use tidegate_wire::event::Arrival;

use super::directory::convert::peer;
use super::{HostState, Origin, OwnClient, offered};
use offered::client as wit;
use offered::types::{CloseFrame, Error};

impl wit::Host for HostState {
    fn id(&mut self) -> Result<String, Error> {
        Ok(self.own_client()?.id.to_string())
    }

    fn peer(&mut self) -> Result<wit::PeerInfo, Error> {
        if let Some(caller) = &self.current()?.caller {
            return Ok(peer(&caller.peer));
        }
        Ok(peer(&self.arrival()?.peer))
    }

    fn gateway(&mut self) -> Result<String, Error> {
        Ok(self.own_client()?.id.gateway().to_string())
    }

    fn subprotocol(&mut self) -> Result<Option<String>, Error> {
        let arrival = self.arrival()?;
        Ok(arrival.subprotocol.as_deref().map(str::to_owned))
    }

    fn connected_at_ms(&mut self) -> Result<u64, Error> {
        Ok(self.arrival()?.connected_at_ms)
    }

    fn closed_with(&mut self) -> Result<Option<CloseFrame>, Error> {
        let frame = self.own_client()?.close_frame.as_ref();
        Ok(frame.map(|frame| CloseFrame {
            code: frame.code,
            reason: frame.reason.clone(),
        }))
    }
}

impl HostState {
    /// The client whose event is handled.
    pub(super) fn own_client(&mut self) -> Result<&OwnClient, Error> {
        self.current()?.client.as_ref().ok_or_else(|| {
            Error::NotPermitted("a request has no client, and so no session either".to_owned())
        })
    }

    fn arrival(&mut self) -> Result<Arc<Arrival>, Error> {
        self.own_client()?;
        let arrival = match &self.current()?.origin {
            Origin::Event { context, .. } => context.arrival(),
            Origin::Command { .. } => None,
        };
        arrival
            .ok_or_else(|| Error::Other("the gateway has not said how the client came".to_owned()))
    }
}
