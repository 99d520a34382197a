//! `tidegate:plugin/directory`: asking, all over the cluster. Each call checks its arguments, asks
//! the event's home and waits; the event's own changes travel with the question.

pub(super) mod convert;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddrV4;
use std::time::Duration;

use tidegate_wire::Name;
use tidegate_wire::cursor::Cursor;
use tidegate_wire::id::ClientId;
use tidegate_wire::query::{
    Answer, ClientFields, ClientInfo, LIMIT_MAX, Query, Selector, SwapRefusal,
};
use tokio::time::Instant;

use super::call::session_too_large;
use super::gateway::{check_json, parse_client, parse_gateway, parse_gateways, parse_name};
use super::{HostState, offered, quota};
use convert::{check_length, counts, coverage, cursor, name_page, names, next, selectors};
use offered::directory as wit;
use offered::types::Error;

/// Clients that `clients-of-uids` gives at most.
const CLIENTS_OF_UIDS_MAX: usize = 10_000;

impl wit::Host for HostState {
    async fn is_online(&mut self, client: String) -> Result<bool, Error> {
        let client = parse_client(&client)?;
        let found = self.one_client(client, ClientFields::default()).await?;
        Ok(found.is_some())
    }

    async fn are_uids_online(
        &mut self,
        uids: Vec<String>,
    ) -> Result<(Vec<bool>, wit::Coverage), Error> {
        let uids = names("uid", uids)?;
        let (counts, coverage) = self.counts(uids.len(), Query::UidCounts(uids)).await?;
        Ok((counts.into_iter().map(|it| it > 0).collect(), coverage))
    }

    async fn clients(
        &mut self,
        of: Vec<wit::Selector>,
        after: Option<String>,
        limit: u32,
    ) -> Result<wit::ClientPage, Error> {
        let query = Query::Clients {
            of: selectors(of)?,
            fields: ClientFields::default(),
            after: cursor(after, Cursor::client)?,
            limit: convert::limit(limit)?,
        };
        let answered = self.ask(query, self.patience()).await?;
        let (page, more) = convert::clients(answered.answer)?;
        Ok(wit::ClientPage {
            next: next(&page, more, convert::after_client),
            clients: page.iter().map(|info| info.client.to_string()).collect(),
            coverage: coverage(&answered.missing),
        })
    }

    async fn client_count(&mut self, of: Vec<wit::Selector>) -> Result<wit::Count, Error> {
        let of = selectors(of)?;
        self.count(Query::ClientCount { of }).await
    }

    async fn infos(
        &mut self,
        of: Vec<wit::Selector>,
        fields: wit::ClientField,
        after: Option<String>,
        limit: u32,
    ) -> Result<wit::InfoPage, Error> {
        let query = Query::Clients {
            of: selectors(of)?,
            fields: convert::fields(fields),
            after: cursor(after, Cursor::client)?,
            limit: convert::limit(limit)?,
        };
        let answered = self.ask(query, self.patience()).await?;
        convert::info_page(answered.answer, &answered.missing)
    }

    async fn info(
        &mut self,
        client: String,
        fields: wit::ClientField,
    ) -> Result<Option<wit::ClientInfo>, Error> {
        let client = parse_client(&client)?;
        let found = self.one_client(client, convert::fields(fields)).await?;
        Ok(found.map(convert::info))
    }

    async fn clients_of_uids(
        &mut self,
        uids: Vec<String>,
    ) -> Result<(Vec<Vec<String>>, wit::Coverage), Error> {
        let uids = names("uid", uids)?;
        let (found, missing) = self.all_clients_of(&uids).await?;
        let mut by_uid: HashMap<Name, Vec<String>> = HashMap::new();
        for info in found {
            if let Some(uid) = info.uid {
                by_uid.entry(uid).or_default().push(info.client.to_string());
            }
        }
        let clients = uids
            .iter()
            .map(|uid| by_uid.get(uid).cloned().unwrap_or_default())
            .collect();
        Ok((clients, coverage(&missing)))
    }

    async fn uids(
        &mut self,
        of: Vec<wit::Selector>,
        after: Option<String>,
        limit: u32,
    ) -> Result<wit::NamePage, Error> {
        let query = Query::Uids {
            of: selectors(of)?,
            after: cursor(after, Cursor::name)?,
            limit: convert::limit(limit)?,
        };
        let answered = self.ask(query, self.patience()).await?;
        name_page(answered.answer, &answered.missing)
    }

    async fn uid_count(&mut self, of: Vec<wit::Selector>) -> Result<wit::Count, Error> {
        let of = selectors(of)?;
        self.count(Query::UidCount { of }).await
    }

    async fn uid_count_estimate(&mut self) -> Result<wit::Count, Error> {
        self.count(Query::UidEstimate).await
    }

    async fn groups(&mut self, after: Option<String>, limit: u32) -> Result<wit::NamePage, Error> {
        let query = Query::Groups {
            after: cursor(after, Cursor::name)?,
            limit: convert::limit(limit)?,
        };
        let answered = self.ask(query, self.patience()).await?;
        name_page(answered.answer, &answered.missing)
    }

    async fn group_infos(
        &mut self,
        after: Option<String>,
        limit: u32,
    ) -> Result<wit::GroupPage, Error> {
        let query = Query::GroupInfos {
            after: cursor(after, Cursor::name)?,
            limit: convert::limit(limit)?,
        };
        let answered = self.ask(query, self.patience()).await?;
        convert::group_page(answered.answer, &answered.missing)
    }

    async fn client_counts_of_groups(
        &mut self,
        groups: Vec<String>,
    ) -> Result<(Vec<u64>, wit::Coverage), Error> {
        let groups = names("group", groups)?;
        self.counts(groups.len(), Query::GroupCounts(groups)).await
    }

    async fn group_clients(
        &mut self,
        after: Option<String>,
        limit: u32,
    ) -> Result<wit::GroupClientPage, Error> {
        let query = Query::GroupClients {
            after: cursor(after, Cursor::group_client)?,
            limit: convert::limit(limit)?,
        };
        let answered = self.ask(query, self.patience()).await?;
        convert::group_client_page(answered.answer, &answered.missing)
    }

    async fn group_uids(
        &mut self,
        after: Option<String>,
        limit: u32,
    ) -> Result<wit::GroupUidPage, Error> {
        let query = Query::GroupUids {
            after: cursor(after, Cursor::group_uid)?,
            limit: convert::limit(limit)?,
        };
        let answered = self.ask(query, self.patience()).await?;
        convert::group_uid_page(answered.answer, &answered.missing)
    }

    async fn session_of(&mut self, client: String) -> Result<Option<Vec<(String, String)>>, Error> {
        let client = parse_client(&client)?;
        let fields = ClientFields {
            session: true,
            ..ClientFields::default()
        };
        let found = self.one_client(client, fields).await?;
        Ok(found.map(|info| convert::session(info.session)))
    }

    async fn compare_and_set_session(
        &mut self,
        client: String,
        key: String,
        expected: Option<String>,
        new: Option<String>,
    ) -> Result<(), Error> {
        let client = parse_client(&client)?;
        let key = parse_name("session key", &key)?;
        for value in expected.iter().chain(&new) {
            check_json(&key, value)?;
        }
        let bytes_max = self.identity.limits.session_bytes_max;
        let bytes = new.as_ref().map_or(0, |new| key.len() + new.len());
        if bytes > bytes_max {
            return Err(session_too_large(bytes_max));
        }
        let query = Query::CompareAndSet {
            client,
            key: key.clone(),
            expected,
            new: new.clone(),
            nth: self.current()?.next_swap(),
        };
        let answer = self.ask(query, self.patience()).await?.answer;
        let Answer::Swapped(swapped) = answer else {
            return Err(convert::unexpected(&answer));
        };
        match swapped {
            Ok(()) => {
                self.current()?.swapped(client, key, new);
                Ok(())
            }
            Err(SwapRefusal::Offline) => Err(Error::Offline),
            Err(SwapRefusal::Conflict) => Err(Error::Conflict),
            Err(SwapRefusal::TooLarge) => Err(session_too_large(bytes_max)),
        }
    }

    async fn command(
        &mut self,
        gateways: Option<Vec<String>>,
        name: String,
        payload: Vec<u8>,
        timeout_ms: u32,
    ) -> Result<Vec<(String, Result<Vec<u8>, Error>)>, Error> {
        check_length(gateways.as_ref().map_or(0, Vec::len))?;
        let gateways = gateways.map(|list| parse_gateways(&list)).transpose()?;
        let named: Option<BTreeSet<SocketAddrV4>> = gateways.map(|list| list.into_iter().collect());
        let name = parse_name("command", &name)?;
        let bytes_max = self.identity.limits.effect_bytes_max;
        if payload.len() > bytes_max {
            return Err(quota(format!("a command may have {bytes_max} bytes")));
        }
        self.current()?;
        if named.as_ref().is_some_and(BTreeSet::is_empty) {
            return Ok(Vec::new());
        }
        let query = Query::Command {
            gateways: named.as_ref().map(|set| set.iter().copied().collect()),
            name,
            payload: payload.into(),
        };
        let until = Instant::now() + Duration::from_millis(timeout_ms.into());
        let answered = self.ask(query, until).await?;
        convert::outcomes(answered.answer, &answered.missing, named)
    }

    async fn gateways(&mut self) -> Result<Vec<String>, Error> {
        let answer = self.ask(Query::Gateways, self.patience()).await?.answer;
        let Answer::Gateways(list) = answer else {
            return Err(convert::unexpected(&answer));
        };
        Ok(list.iter().map(SocketAddrV4::to_string).collect())
    }

    async fn address_of(&mut self, client: String) -> Result<wit::ClientAddress, Error> {
        let client = parse_client(&client)?;
        Ok(wit::ClientAddress {
            gateway: client.gateway().to_string(),
            connection: client.connection,
        })
    }

    async fn client_at(&mut self, address: wit::ClientAddress) -> Result<String, Error> {
        let gateway = parse_gateway(&address.gateway)?;
        Ok(ClientId::new(gateway, address.connection).to_string())
    }
}

impl HostState {
    /// One client; a time-out if its gateway had no part in the answer.
    async fn one_client(
        &mut self,
        client: ClientId,
        fields: ClientFields,
    ) -> Result<Option<ClientInfo>, Error> {
        let query = Query::Clients {
            of: vec![Selector::Clients(vec![client])],
            fields,
            after: None,
            limit: 1,
        };
        let answered = self.ask(query, self.patience()).await?;
        let (page, _more) = convert::clients(answered.answer)?;
        let found = page.into_iter().find(|info| info.client == client);
        if found.is_none() && answered.missing.contains(&client.gateway()) {
            return Err(Error::Timeout);
        }
        Ok(found)
    }

    /// All clients of these uids, ordered, and who had no part in it. One deadline for all pages.
    async fn all_clients_of(
        &mut self,
        uids: &[Name],
    ) -> Result<(Vec<ClientInfo>, Vec<SocketAddrV4>), Error> {
        let until = self.patience();
        let mut found: Vec<ClientInfo> = Vec::new();
        let mut missing = BTreeSet::new();
        loop {
            let query = Query::Clients {
                of: vec![Selector::Uids(uids.to_vec())],
                fields: ClientFields {
                    uid: true,
                    ..ClientFields::default()
                },
                after: found.last().map(|info| info.client),
                limit: LIMIT_MAX,
            };
            let answered = self.ask(query, until).await?;
            let (page, more) = convert::clients(answered.answer)?;
            missing.extend(answered.missing);
            let more = more && !page.is_empty();
            found.extend(page);
            if found.len() > CLIENTS_OF_UIDS_MAX {
                return Err(quota(format!(
                    "these uids have more than {CLIENTS_OF_UIDS_MAX} clients; use `clients`"
                )));
            }
            if !more {
                return Ok((found, missing.into_iter().collect()));
            }
        }
    }

    async fn count(&mut self, query: Query) -> Result<wit::Count, Error> {
        let answered = self.ask(query, self.patience()).await?;
        Ok(wit::Count {
            value: convert::count(&answered.answer)?,
            coverage: coverage(&answered.missing),
        })
    }

    async fn counts(
        &mut self,
        asked: usize,
        query: Query,
    ) -> Result<(Vec<u64>, wit::Coverage), Error> {
        let answered = self.ask(query, self.patience()).await?;
        let counts = counts(answered.answer, asked)?;
        Ok((counts, coverage(&answered.missing)))
    }
}
