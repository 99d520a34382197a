//! Lists and counts of clients, and what is known about one.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tidegate_client::{ClientInfo, ClientsQuery, Count, CountQuery, Page};
use tidegate_wire::cursor::Cursor;
use tidegate_wire::query::{Answer, ClientFields, ClientInfo as Found, Query, Selector};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::body::{Body, InPath, Params};
use crate::caller::Caller;
use crate::problem::ApiRefusal;
use crate::questions::{Which, fields, fields_of, selectors};
use crate::shared::{Api, Outcome, unexpected};
use crate::{answers, names};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_clients))
        .routes(routes!(query_clients))
        .routes(routes!(count_clients, count_clients_of))
        .routes(routes!(get_client))
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListClients {
    /// Ids of clients. With none of `client`, `uid`, `group`, `all_of_groups`: everyone.
    client: Vec<String>,
    /// All clients of these uids.
    uid: Vec<String>,
    /// All members of these groups.
    group: Vec<String>,
    /// Members of every one of these groups.
    all_of_groups: Vec<String>,
    /// What is wanted of each, with commas: `peer,uid,groups,session,times,traffic`.
    fields: Option<String>,
    /// Where the list goes on: `next` of the page before.
    after: Option<String>,
    /// At most so many; 100 by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Clients, ordered by id
#[utoipa::path(get, path = "/v1/clients", tag = "clients", params(ListClients),
    responses((status = 200, description = "A page of clients", body = Page<ClientInfo>)))]
async fn list_clients(
    State(api): State<Api>,
    caller: Caller,
    query: Params<ListClients>,
) -> Outcome<Page<ClientInfo>> {
    let it = query.0;
    let which = Which {
        client: it.client,
        uid: it.uid,
        group: it.group,
        all_of_groups: it.all_of_groups,
    };
    let of = which.selectors()?;
    let fields = fields_of(it.fields.as_deref().unwrap_or_default())?;
    let question = question(of, fields, it.after.as_ref(), it.limit)?;
    clients(&api, &caller, question).await
}

/// The same for long lists of selectors
#[utoipa::path(post, path = "/v1/clients/query", tag = "clients", request_body = ClientsQuery,
    responses((status = 200, description = "A page of clients", body = Page<ClientInfo>)))]
async fn query_clients(
    State(api): State<Api>,
    caller: Caller,
    body: Body<ClientsQuery>,
) -> Outcome<Page<ClientInfo>> {
    let it = body.value;
    let (of, fields) = (selectors(&it.of)?, fields(&it.fields));
    let question = question(of, fields, it.after.as_ref(), it.limit)?;
    clients(&api, &caller, question).await
}

fn question(
    of: Vec<Selector>,
    fields: ClientFields,
    after: Option<&String>,
    limit: Option<u32>,
) -> Result<Query, ApiRefusal> {
    Ok(Query::Clients {
        of,
        fields,
        after: names::after(after, Cursor::client)?,
        limit: names::limit(limit)?,
    })
}

async fn clients(api: &Api, caller: &Caller, query: Query) -> Outcome<Page<ClientInfo>> {
    let answered = api.ask(&caller.0, query).await?;
    let Answer::Clients { page, more } = answered.answer else {
        return Err(unexpected());
    };
    let cursor = |info: &Found| Cursor::Client(info.client);
    let page = answers::page(page, more, &answered.missing, cursor, answers::client);
    Ok(Json(page))
}

/// How many clients
#[utoipa::path(get, path = "/v1/clients/count", tag = "clients", params(Which),
    responses((status = 200, description = "How many", body = Count)))]
async fn count_clients(
    State(api): State<Api>,
    caller: Caller,
    query: Params<Which>,
) -> Outcome<Count> {
    let of = query.0.selectors()?;
    count(&api, &caller, Query::ClientCount { of }).await
}

/// The same for long lists of selectors
#[utoipa::path(post, path = "/v1/clients/count", tag = "clients", request_body = CountQuery,
    responses((status = 200, description = "How many", body = Count)))]
async fn count_clients_of(
    State(api): State<Api>,
    caller: Caller,
    body: Body<CountQuery>,
) -> Outcome<Count> {
    let of = selectors(&body.value.of)?;
    count(&api, &caller, Query::ClientCount { of }).await
}

pub(super) async fn count(api: &Api, caller: &Caller, query: Query) -> Outcome<Count> {
    let answered = api.ask(&caller.0, query).await?;
    let Answer::Count(count) = answered.answer else {
        return Err(unexpected());
    };
    let missing = answers::addresses(&answered.missing);
    Ok(Json(Count { count, missing }))
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OneClient {
    /// What is wanted, with commas: `peer,uid,groups,session,times,traffic`; all by default.
    fields: Option<String>,
}

/// What is known about one client
#[utoipa::path(get, path = "/v1/clients/{client}", tag = "clients",
    params(("client" = String, Path, description = "Its id"), OneClient),
    responses((status = 200, description = "It is connected", body = ClientInfo),
        (status = 404, description = "offline: it is not connected")))]
async fn get_client(
    State(api): State<Api>,
    caller: Caller,
    path: InPath<String>,
    query: Params<OneClient>,
) -> Outcome<ClientInfo> {
    let wanted = match &query.0.fields {
        Some(text) => fields_of(text)?,
        None => fields(&tidegate_client::Field::ALL),
    };
    let info = one_client(&api, &caller, &path.0, wanted).await?;
    Ok(Json(answers::client(info)))
}

/// One client, or why there is none: it is offline, or its gateway did not answer.
pub(super) async fn one_client(
    api: &Api,
    caller: &Caller,
    text: &str,
    fields: ClientFields,
) -> Result<Found, ApiRefusal> {
    let client = names::client(text)?;
    let query = Query::Clients {
        of: vec![Selector::Clients(vec![client])],
        fields,
        after: None,
        limit: 1,
    };
    let answered = api.ask(&caller.0, query).await?;
    let Answer::Clients { page, .. } = answered.answer else {
        return Err(unexpected());
    };
    match page.into_iter().next() {
        Some(info) => Ok(info),
        None if answered.missing.contains(&client.gateway()) => Err(ApiRefusal::timeout(format!(
            "the client's gateway {} did not answer",
            client.gateway()
        ))),
        None => Err(ApiRefusal::offline(client)),
    }
}
