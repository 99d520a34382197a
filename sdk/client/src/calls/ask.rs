//! Asking. An answer's `missing` names gateways that gave nothing in time.

use crate::call::Call;
use crate::client::Client;
use crate::error::Error;
use crate::types::{
    ClientInfo, ClientRef, ClientsOfUids, ClientsQuery, Count, CountQuery, Field, Gateways,
    GroupClient, GroupCounts, GroupInfo, GroupState, GroupUid, Groups, Online, Page, Schedules,
    Selector, SessionEntries, Status, Tasks, UidState, Uids,
};

/// The longest page.
pub(crate) const LIMIT: u32 = 1000;

impl Client {
    /// Clients, ordered by id: one page.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn clients(&self, query: &ClientsQuery) -> Result<Page<ClientInfo>, Error> {
        Call::ask("/v1/clients/query", query)?.make(self).await
    }

    /// How many clients.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn client_count(&self, of: impl Into<Vec<Selector>>) -> Result<Count, Error> {
        let query = CountQuery { of: of.into() };
        Call::ask("/v1/clients/count", &query)?.make(self).await
    }

    /// What is known about one client.
    ///
    /// # Errors
    /// See [`Error`]; offline if it is not connected.
    pub async fn client(&self, client: &str, fields: &[Field]) -> Result<ClientInfo, Error> {
        let fields: Vec<&str> = fields.iter().map(|field| field.as_str()).collect();
        Call::get("/v1/clients")
            .part(client)?
            .with("fields", fields.join(","))
            .make(self)
            .await
    }

    /// A client's session.
    ///
    /// # Errors
    /// See [`Error`]; offline if it is not connected.
    pub async fn session(&self, client: &str) -> Result<SessionEntries, Error> {
        Call::get("/v1/clients")
            .part(client)?
            .word("session")
            .make(self)
            .await
    }

    /// Distinct uids in order, of the clients in these groups or of all: one page.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn uids(&self, groups: &[&str], after: Option<&str>) -> Result<Page<String>, Error> {
        let call = groups.iter().fold(Call::get("/v1/uids"), |call, group| {
            call.with("group", group)
        });
        let call = call.with("limit", LIMIT).with_some("after", after);
        call.make(self).await
    }

    /// How many distinct uids, of the clients in these groups or of all.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn uid_count(&self, groups: &[&str]) -> Result<Count, Error> {
        let call = Call::get("/v1/uids/count");
        let call = groups
            .iter()
            .fold(call, |call, group| call.with("group", group));
        call.make(self).await
    }

    /// About how many distinct uids there are, in one round trip.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn uid_count_estimate(&self) -> Result<Count, Error> {
        let call = Call::get("/v1/uids/count").with("estimate", true);
        call.make(self).await
    }

    /// One uid and how many clients it has.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn uid(&self, uid: &str) -> Result<UidState, Error> {
        Call::get("/v1/uids").part(uid)?.make(self).await
    }

    /// Which of these uids have a client.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn are_online(&self, uids: &[&str]) -> Result<Online, Error> {
        let uids = owned(uids);
        let call = Call::ask("/v1/uids/online", &Uids { uids })?;
        call.make(self).await
    }

    /// The clients of each of these uids.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn clients_of_uids(&self, uids: &[&str]) -> Result<ClientsOfUids, Error> {
        let uids = owned(uids);
        let call = Call::ask("/v1/uids/clients", &Uids { uids })?;
        call.make(self).await
    }

    /// Groups with their counts, in order: one page.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn groups(&self, after: Option<&str>) -> Result<Page<GroupInfo>, Error> {
        self.group_page("/v1/groups/counts", after).await
    }

    /// Groups in order, names only: one page.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn group_names(&self, after: Option<&str>) -> Result<Page<String>, Error> {
        self.group_page("/v1/groups", after).await
    }

    async fn group_page<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        after: Option<&str>,
    ) -> Result<Page<T>, Error> {
        let call = Call::get(path).with("limit", LIMIT);
        call.with_some("after", after).make(self).await
    }

    /// One group with its counts.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn group(&self, group: &str) -> Result<GroupState, Error> {
        Call::get("/v1/groups").part(group)?.make(self).await
    }

    /// How many clients each of these groups has.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn group_counts(&self, groups: &[&str]) -> Result<GroupCounts, Error> {
        let groups = owned(groups);
        let call = Call::ask("/v1/groups/counts", &Groups { groups })?;
        call.make(self).await
    }

    /// Every pair of a group and a member, in order: one page.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn group_clients(&self, after: Option<&str>) -> Result<Page<GroupClient>, Error> {
        let call = Call::get("/v1/groups/members").with("of", "clients");
        let call = call.with("limit", LIMIT).with_some("after", after);
        call.make(self).await
    }

    /// Every pair of a group and a member's uid, in order: one page.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn group_uids(&self, after: Option<&str>) -> Result<Page<GroupUid>, Error> {
        let call = Call::get("/v1/groups/members").with("of", "uids");
        let call = call.with("limit", LIMIT).with_some("after", after);
        call.make(self).await
    }

    /// The live gateways.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn gateways(&self) -> Result<Gateways, Error> {
        Call::get("/v1/gateways").make(self).await
    }

    /// The id of a connection of a gateway; no look-up.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn client_at(&self, gateway: &str, connection: u32) -> Result<ClientRef, Error> {
        Call::get("/v1/gateways")
            .part(gateway)?
            .word("clients")
            .word(&connection.to_string())
            .make(self)
            .await
    }

    /// The cluster as this tenant sees it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn status(&self) -> Result<Status, Error> {
        Call::get("/v1/status").make(self).await
    }

    /// The tenant's tasks that wait or are under way: how many, and one page of them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tasks(&self, after: Option<&str>) -> Result<Tasks, Error> {
        let call = Call::get("/v1/tasks").with("limit", LIMIT);
        call.with_some("after", after).make(self).await
    }

    /// The tenant's schedules, as the gateway that answers knows them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn schedules(&self) -> Result<Schedules, Error> {
        Call::get("/v1/schedules").make(self).await
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}
