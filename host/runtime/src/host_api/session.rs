//! `tidegate:plugin/session`: the session of the client whose event is handled. Reads see the
//! event's own changes; changes are effects, key by key.

use tidegate_wire::effect::SessionChange;
use tidegate_wire::id::ClientId;

use super::gateway::{check_json, parse_name};
use super::{HostState, offered};
use offered::session as wit;
use offered::types::Error;

impl wit::Host for HostState {
    fn get(&mut self, key: String) -> Result<Option<String>, Error> {
        Ok(self.own_client()?.session.get(&key).map(str::to_owned))
    }

    fn set(&mut self, key: String, value: String) -> Result<(), Error> {
        let client = self.own_client()?.id;
        let key = parse_name("session key", &key)?;
        check_json(&key, &value)?;
        let bytes = key.len() + value.len();
        self.change(client, SessionChange::Set { key, value }, bytes)
    }

    fn remove(&mut self, key: String) -> Result<(), Error> {
        let client = self.own_client()?.id;
        let key = parse_name("session key", &key)?;
        self.change(client, SessionChange::Remove { key }, 0)
    }

    fn entries(&mut self) -> Result<Vec<(String, String)>, Error> {
        let session = &self.own_client()?.session;
        Ok(session
            .entries()
            .map(|(key, value)| (key.to_string(), value.to_owned()))
            .collect())
    }

    fn clear(&mut self) -> Result<(), Error> {
        let client = self.own_client()?.id;
        self.change(client, SessionChange::Clear, 0)
    }
}

impl HostState {
    fn change(
        &mut self,
        client: ClientId,
        change: SessionChange,
        bytes: usize,
    ) -> Result<(), Error> {
        self.push_session_changes(client, std::iter::once((change, bytes)))
    }
}
