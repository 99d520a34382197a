//! `tidegate clients`

use futures_util::TryStreamExt;
use serde_json::json;
use tidegate_client::{Client, ClientInfo, ClientsQuery, Error, Field, Selector};

use super::output::{Output, ago, brief};
use super::send::selectors;
use crate::cli::client as cli;

/// The longest page of the API.
const PAGE_MAX: usize = 1000;

pub(super) async fn run(
    client: &Client,
    it: &cli::ClientsArgs,
    out: &mut Output,
) -> anyhow::Result<()> {
    let mut of = selectors(&it.which);
    if !it.in_all.is_empty() {
        of.push(Selector::all_of_groups(it.in_all.iter().cloned()));
    }
    if of.is_empty() {
        of.push(Selector::everyone());
    }
    if it.count {
        let count = client.client_count(of).await?;
        out.without(&count.missing);
        return match out.is_json() {
            true => out.json(&count),
            false => out.line(&count.count.to_string()),
        };
    }
    let fields = fields(&it.fields)?;
    let mut query = ClientsQuery::new(of, fields.clone());
    query.limit = Some(page(&it.bound));
    let mut pages = Box::pin(client.client_pages(query));
    let mut list = List::default();
    while let Some(page) = pages.try_next().await? {
        list.add(page, &it.bound);
        if list.is_full(&it.bound) {
            break;
        }
    }
    list.tell("clients", out, |clients, out| {
        let rows = clients.iter().map(|info| row(info, &fields)).collect();
        out.table(&header(&fields), rows)
    })
}

/// The length of a page that is enough.
pub(super) fn page(bound: &cli::Bound) -> u32 {
    let wanted = if bound.all {
        PAGE_MAX
    } else {
        bound.limit.get()
    };
    u32::try_from(wanted.clamp(1, PAGE_MAX)).unwrap_or(1)
}

/// What has come of a list.
pub(super) struct List<T> {
    items: Vec<T>,
    missing: Vec<String>,
    next: Option<String>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            missing: Vec::new(),
            next: None,
        }
    }
}

impl<T: serde::Serialize> List<T> {
    pub(super) fn add(&mut self, page: tidegate_client::Page<T>, bound: &cli::Bound) {
        self.items.extend(page.items);
        self.missing.extend(page.missing);
        self.next = page.next;
        if !bound.all && self.items.len() > bound.limit.get() {
            self.items.truncate(bound.limit.get());
            self.next = None;
        }
    }

    pub(super) fn is_full(&self, bound: &cli::Bound) -> bool {
        !bound.all && self.items.len() >= bound.limit.get()
    }

    /// `what` these are, for a person if there are none.
    pub(super) fn tell(
        mut self,
        what: &str,
        out: &mut Output,
        people: impl FnOnce(&[T], &Output) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.missing.sort_unstable();
        self.missing.dedup();
        match out.is_json() {
            true => out.json(&json!({
                "items": self.items,
                "next": self.next,
                "missing": self.missing,
            }))?,
            false if self.items.is_empty() => out.none(what),
            false => people(&self.items, out)?,
        }
        out.without(&self.missing);
        if self.next.is_some() && !out.is_json() {
            out.note("there are more: give --all or a larger --limit");
        }
        Ok(())
    }
}

fn fields(words: &[String]) -> Result<Vec<Field>, Error> {
    words
        .iter()
        .filter(|word| !word.is_empty())
        .map(|word| {
            let known = Field::ALL.into_iter().find(|field| field.as_str() == word);
            known.ok_or_else(|| {
                Error::Setting(format!(
                    "--fields: `{word}` is none of peer, uid, groups, session, times, traffic"
                ))
            })
        })
        .collect()
}

fn header(fields: &[Field]) -> Vec<&'static str> {
    let columns = |field: &Field| match field {
        Field::Peer => vec!["ADDRESS", "LISTENER"],
        Field::Uid => vec!["UID"],
        Field::Groups => vec!["GROUPS"],
        Field::Session => vec!["SESSION"],
        Field::Times => vec!["CONNECTED", "LAST MESSAGE"],
        Field::Traffic => vec!["IN", "OUT"],
    };
    let ids = ["CLIENT", "GATEWAY"].into_iter();
    ids.chain(fields.iter().flat_map(columns)).collect()
}

fn row(info: &ClientInfo, fields: &[Field]) -> Vec<String> {
    let mut row = vec![info.client.clone(), info.gateway.clone()];
    let none = || "-".to_owned();
    for field in fields {
        match field {
            Field::Peer => match &info.peer {
                Some(peer) => row.extend([peer.address.clone(), peer.listener.clone()]),
                None => row.extend([none(), none()]),
            },
            Field::Uid => row.push(info.uid.clone().unwrap_or_else(none)),
            Field::Groups => row.push(info.groups.join(", ")),
            Field::Session => {
                row.push(brief(
                    serde_json::to_string(&info.session).unwrap_or_default(),
                ));
            }
            Field::Times => row.extend([
                info.connected_at.map_or_else(none, ago),
                info.last_message_at.map_or_else(none, ago),
            ]),
            Field::Traffic => row.extend([
                info.bytes_in.map_or_else(none, |bytes| bytes.to_string()),
                info.bytes_out.map_or_else(none, |bytes| bytes.to_string()),
            ]),
        }
    }
    row
}
