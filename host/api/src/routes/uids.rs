//! Lists and counts of uids, and who is online.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tidegate_client::{ClientsOfUids, Count, Online, Page, UidState, Uids};
use tidegate_wire::Name;
use tidegate_wire::cursor::Cursor;
use tidegate_wire::query::{Answer, ClientFields, LIMIT_MAX, Query, Selector};
use tokio::time::Instant;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::clients::count;
use crate::body::{Body, InPath, Params};
use crate::caller::Caller;
use crate::problem::ApiRefusal;
use crate::questions::Which;
use crate::shared::{Api, Outcome, unexpected};
use crate::{answers, names};

/// The most clients in one answer.
const CLIENTS_MAX: usize = 100_000;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_uids))
        .routes(routes!(count_uids))
        .routes(routes!(are_online))
        .routes(routes!(clients_of_uids))
        .routes(routes!(get_uid))
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListUids {
    /// Ids of clients. With none of `client`, `uid`, `group`, `all_of_groups`: everyone.
    client: Vec<String>,
    /// All clients of these uids.
    uid: Vec<String>,
    /// All members of these groups.
    group: Vec<String>,
    /// Members of every one of these groups.
    all_of_groups: Vec<String>,
    /// Where the list goes on: `next` of the page before.
    after: Option<String>,
    /// At most so many; 100 by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Distinct uids of clients, in order
#[utoipa::path(get, path = "/v1/uids", tag = "uids", params(ListUids),
    responses((status = 200, description = "A page of uids", body = Page<String>)))]
async fn list_uids(
    State(api): State<Api>,
    caller: Caller,
    query: Params<ListUids>,
) -> Outcome<Page<String>> {
    let it = query.0;
    let which = Which {
        client: it.client,
        uid: it.uid,
        group: it.group,
        all_of_groups: it.all_of_groups,
    };
    let question = Query::Uids {
        of: which.selectors()?,
        after: names::after(it.after.as_ref(), Cursor::name)?,
        limit: names::limit(it.limit)?,
    };
    page_of_names(&api, &caller, question).await
}

pub(super) async fn page_of_names(
    api: &Api,
    caller: &Caller,
    query: Query,
) -> Outcome<Page<String>> {
    let answered = api.ask(&caller.0, query).await?;
    let Answer::Names { page, more } = answered.answer else {
        return Err(unexpected());
    };
    let cursor = |name: &Name| Cursor::Name(name.clone());
    let text = |name: Name| name.to_string();
    Ok(Json(answers::page(
        page,
        more,
        &answered.missing,
        cursor,
        text,
    )))
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CountUids {
    /// Ids of clients. With none of `client`, `uid`, `group`, `all_of_groups`: everyone.
    client: Vec<String>,
    /// All clients of these uids.
    uid: Vec<String>,
    /// All members of these groups.
    group: Vec<String>,
    /// Members of every one of these groups.
    all_of_groups: Vec<String>,
    /// About how many, of everyone, in one round trip: a standard error below 2 %.
    estimate: bool,
}

/// How many distinct uids clients have
#[utoipa::path(get, path = "/v1/uids/count", tag = "uids", params(CountUids),
    responses((status = 200, description = "How many", body = Count)))]
async fn count_uids(
    State(api): State<Api>,
    caller: Caller,
    query: Params<CountUids>,
) -> Outcome<Count> {
    let it = query.0;
    let which = Which {
        client: it.client,
        uid: it.uid,
        group: it.group,
        all_of_groups: it.all_of_groups,
    };
    let of = which.selectors()?;
    if !it.estimate {
        return count(&api, &caller, Query::UidCount { of }).await;
    }
    if of != [Selector::Everyone] {
        let detail = "`estimate` is there for everyone only: without it the count is exact";
        return Err(ApiRefusal::invalid(detail));
    }
    count(&api, &caller, Query::UidEstimate).await
}

/// How many clients each uid has, in the order asked, and whom the answer is without.
async fn counts(
    api: &Api,
    caller: &Caller,
    uids: Vec<Name>,
) -> Result<(Vec<u64>, Vec<String>), ApiRefusal> {
    let asked = uids.len();
    let answered = api.ask(&caller.0, Query::UidCounts(uids)).await?;
    let Answer::Counts(counts) = answered.answer else {
        return Err(unexpected());
    };
    if counts.len() != asked {
        return Err(unexpected());
    }
    Ok((counts, answers::addresses(&answered.missing)))
}

/// Which of these uids have a client
#[utoipa::path(post, path = "/v1/uids/online", tag = "uids", request_body = Uids,
    responses((status = 200, description = "Each uid that was asked for", body = Online)))]
async fn are_online(State(api): State<Api>, caller: Caller, body: Body<Uids>) -> Outcome<Online> {
    let uids = names::names("uid", &body.value.uids)?;
    let (counts, missing) = counts(&api, &caller, uids).await?;
    let pairs = body.value.uids.into_iter().zip(counts);
    let online = pairs.map(|(uid, count)| (uid, count > 0)).collect();
    Ok(Json(Online { online, missing }))
}

/// The clients of each of these uids
#[utoipa::path(post, path = "/v1/uids/clients", tag = "uids", request_body = Uids,
    responses((status = 200, description = "Each uid that was asked for", body = ClientsOfUids)))]
async fn clients_of_uids(
    State(api): State<Api>,
    caller: Caller,
    body: Body<Uids>,
) -> Outcome<ClientsOfUids> {
    let uids = names::names("uid", &body.value.uids)?;
    let mut clients: BTreeMap<String, Vec<String>> = body
        .value
        .uids
        .into_iter()
        .map(|uid| (uid, Vec::new()))
        .collect();
    let fields = ClientFields {
        uid: true,
        ..ClientFields::default()
    };
    let deadline = Instant::now() + api.query;
    let (mut missing, mut after, mut found) = (Vec::new(), None, 0);
    loop {
        let query = Query::Clients {
            of: vec![Selector::Uids(uids.clone())],
            fields,
            after,
            limit: LIMIT_MAX,
        };
        let within = deadline.saturating_duration_since(Instant::now());
        let answered = api.cluster.ask(&caller.0, query, within).await?;
        let Answer::Clients { page, more } = answered.answer else {
            return Err(unexpected());
        };
        missing.extend(answered.missing);
        after = page.last().map(|last| last.client);
        found += page.len();
        if found > CLIENTS_MAX {
            return Err(ApiRefusal::overloaded(format!(
                "these uids have more than {CLIENTS_MAX} clients: ask for fewer at once, or with \
                 /v1/clients page by page"
            )));
        }
        for info in page {
            let uid = info.uid.as_deref().unwrap_or_default();
            if let Some(list) = clients.get_mut(uid) {
                list.push(info.client.to_string());
            }
        }
        if !more || after.is_none() {
            break;
        }
    }
    missing.sort_unstable();
    missing.dedup();
    let missing = answers::addresses(&missing);
    Ok(Json(ClientsOfUids { clients, missing }))
}

/// One uid and how many clients it has
#[utoipa::path(get, path = "/v1/uids/{uid}", tag = "uids",
    params(("uid" = String, Path, description = "The uid")),
    responses((status = 200, description = "Also if it has no client", body = UidState)))]
async fn get_uid(
    State(api): State<Api>,
    caller: Caller,
    path: InPath<String>,
) -> Outcome<UidState> {
    let uid = names::name("uid", &path.0)?;
    let (counts, missing) = counts(&api, &caller, vec![uid]).await?;
    let clients = counts.first().copied().unwrap_or_default();
    Ok(Json(UidState {
        uid: path.0,
        online: clients > 0,
        clients,
        missing,
    }))
}
