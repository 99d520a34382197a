//! Whole lists, page by page. A page keeps its `missing`, so that a partial list does not look
//! like a whole one.

use futures_util::Stream;
use futures_util::stream::try_unfold;

use crate::client::Client;
use crate::error::Error;
use crate::types::{ClientInfo, ClientsQuery, GroupClient, GroupInfo, GroupUid, Page};

fn pages<T, F>(next: impl Fn(Option<String>) -> F) -> impl Stream<Item = Result<Page<T>, Error>>
where
    F: Future<Output = Result<Page<T>, Error>>,
{
    // None: the list has ended.
    try_unfold((next, Some(None)), |(next, at)| async move {
        let Some(after) = at else { return Ok(None) };
        let page = next(after).await?;
        let at = page.next.clone().map(Some);
        Ok(Some((page, (next, at))))
    })
}

impl Client {
    /// All pages of clients, from the query's `after` on.
    pub fn client_pages(
        &self,
        query: ClientsQuery,
    ) -> impl Stream<Item = Result<Page<ClientInfo>, Error>> + use<> {
        let client = self.clone();
        pages(move |after: Option<String>| {
            let (client, mut query) = (client.clone(), query.clone());
            query.after = after.or(query.after);
            async move { client.clients(&query).await }
        })
    }

    /// All pages of uids, of the clients in these groups or of all.
    pub fn uid_pages(
        &self,
        groups: &[&str],
    ) -> impl Stream<Item = Result<Page<String>, Error>> + use<> {
        let client = self.clone();
        let groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
        pages(move |after: Option<String>| {
            let (client, groups) = (client.clone(), groups.clone());
            async move {
                let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
                client.uids(&groups, after.as_deref()).await
            }
        })
    }

    /// All pages of groups with their counts.
    pub fn group_pages(&self) -> impl Stream<Item = Result<Page<GroupInfo>, Error>> + use<> {
        let client = self.clone();
        pages(move |after: Option<String>| {
            let client = client.clone();
            async move { client.groups(after.as_deref()).await }
        })
    }

    /// All pages of pairs of a group and a member.
    pub fn group_client_pages(
        &self,
    ) -> impl Stream<Item = Result<Page<GroupClient>, Error>> + use<> {
        let client = self.clone();
        pages(move |after: Option<String>| {
            let client = client.clone();
            async move { client.group_clients(after.as_deref()).await }
        })
    }

    /// All pages of pairs of a group and a member's uid.
    pub fn group_uid_pages(&self) -> impl Stream<Item = Result<Page<GroupUid>, Error>> + use<> {
        let client = self.clone();
        pages(move |after: Option<String>| {
            let client = client.clone();
            async move { client.group_uids(after.as_deref()).await }
        })
    }
}
