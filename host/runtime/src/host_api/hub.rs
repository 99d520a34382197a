//! `tidegate:plugin/hub`: the clients of the gateway beside which a command runs.

use tidegate_wire::cursor::Cursor;
use tidegate_wire::query::Query;

use super::call::Origin;
use super::directory::convert;
use super::{HostState, offered};
use offered::directory::{ClientField, InfoPage, Selector};
use offered::hub as wit;
use offered::types::Error;

impl wit::Host for HostState {
    async fn gateway_address(&mut self) -> String {
        match self.call.as_ref().map(|call| &call.origin) {
            Some(Origin::Command { hub }) => hub.address().to_string(),
            // Only commands are linked with this interface, and nothing of them runs outside a call.
            Some(Origin::Event { .. }) | None => String::new(),
        }
    }

    async fn infos(
        &mut self,
        of: Vec<Selector>,
        fields: ClientField,
        after: Option<String>,
        limit: u32,
    ) -> Result<InfoPage, Error> {
        let query = Query::Clients {
            of: convert::selectors(of)?,
            fields: convert::fields(fields),
            after: convert::cursor(after, Cursor::client)?,
            limit: convert::limit(limit)?,
        };
        let answer = self.ask_hub(query).await?;
        convert::info_page(answer, &[])
    }

    async fn client_count(&mut self, of: Vec<Selector>) -> Result<u64, Error> {
        let of = convert::selectors(of)?;
        let answer = self.ask_hub(Query::ClientCount { of }).await?;
        convert::count(&answer)
    }
}
