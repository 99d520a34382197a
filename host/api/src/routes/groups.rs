//! Lists and counts of groups and their members.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tidegate_client::{GroupClient, GroupCounts, GroupInfo, GroupState, GroupUid, Groups, Page};
use tidegate_wire::Name;
use tidegate_wire::cursor::Cursor;
use tidegate_wire::id::ClientId;
use tidegate_wire::query::{Answer, GroupInfo as Found, Query, Selector};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::clients::count;
use super::uids::page_of_names;
use crate::body::{Body, InPath, Params};
use crate::caller::Caller;
use crate::problem::ApiRefusal;
use crate::shared::{Api, Outcome, unexpected};
use crate::{answers, names};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_groups))
        .routes(routes!(list_group_counts, group_counts))
        .routes(routes!(list_members))
        .routes(routes!(get_group))
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Paging {
    /// Where the list goes on: `next` of the page before.
    after: Option<String>,
    /// At most so many; 100 by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Groups that have members, in order
#[utoipa::path(get, path = "/v1/groups", tag = "groups", params(Paging),
    responses((status = 200, description = "A page of groups", body = Page<String>)))]
async fn list_groups(
    State(api): State<Api>,
    caller: Caller,
    query: Params<Paging>,
) -> Outcome<Page<String>> {
    let question = Query::Groups {
        after: names::after(query.0.after.as_ref(), Cursor::name)?,
        limit: names::limit(query.0.limit)?,
    };
    page_of_names(&api, &caller, question).await
}

/// Groups with their exact counts, in order
#[utoipa::path(get, path = "/v1/groups/counts", tag = "groups", params(Paging),
    responses((status = 200, description = "A page of groups", body = Page<GroupInfo>)))]
async fn list_group_counts(
    State(api): State<Api>,
    caller: Caller,
    query: Params<Paging>,
) -> Outcome<Page<GroupInfo>> {
    let question = Query::GroupInfos {
        after: names::after(query.0.after.as_ref(), Cursor::name)?,
        limit: names::limit(query.0.limit)?,
    };
    let answered = api.ask(&caller.0, question).await?;
    let Answer::Groups { page, more } = answered.answer else {
        return Err(unexpected());
    };
    let cursor = |it: &Found| Cursor::Name(it.group.clone());
    let info = |it: Found| GroupInfo {
        group: it.group.to_string(),
        clients: it.clients,
        uids: it.uids,
    };
    Ok(Json(answers::page(
        page,
        more,
        &answered.missing,
        cursor,
        info,
    )))
}

/// How many clients each of these groups has
#[utoipa::path(post, path = "/v1/groups/counts", tag = "groups", request_body = Groups,
    responses((status = 200, description = "Each group that was asked for", body = GroupCounts)))]
async fn group_counts(
    State(api): State<Api>,
    caller: Caller,
    body: Body<Groups>,
) -> Outcome<GroupCounts> {
    let groups = names::names("group", &body.value.groups)?;
    let asked = groups.len();
    let answered = api.ask(&caller.0, Query::GroupCounts(groups)).await?;
    let Answer::Counts(counts) = answered.answer else {
        return Err(unexpected());
    };
    if counts.len() != asked {
        return Err(unexpected());
    }
    Ok(Json(GroupCounts {
        clients: body.value.groups.into_iter().zip(counts).collect(),
        missing: answers::addresses(&answered.missing),
    }))
}

/// What a list of members pairs groups with.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum MembersOf {
    /// Clients.
    Clients,
    /// Distinct uids of clients.
    Uids,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListMembers {
    /// What each group is paired with.
    #[param(inline)]
    of: MembersOf,
    /// Where the list goes on: `next` of the page before.
    after: Option<String>,
    /// At most so many; 100 by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// A pair of either kind. The page is one type, so that an empty one has one schema.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Member {
    /// With `of=clients`.
    Client(GroupClient),
    /// With `of=uids`.
    Uid(GroupUid),
}

/// Every pair of a group and a member, in order
#[utoipa::path(get, path = "/v1/groups/members", tag = "groups", params(ListMembers),
    responses((status = 200, description = "A page of pairs", body = Page<Member>)))]
async fn list_members(
    State(api): State<Api>,
    caller: Caller,
    query: Params<ListMembers>,
) -> Outcome<Page<Member>> {
    let it = query.0;
    let limit = names::limit(it.limit)?;
    let after = it.after.as_ref();
    let members = match it.of {
        MembersOf::Clients => {
            let after = names::after(after, Cursor::group_client)?;
            let query = Query::GroupClients { after, limit };
            group_clients(&api, &caller, query).await?
        }
        MembersOf::Uids => {
            let after = names::after(after, Cursor::group_uid)?;
            let query = Query::GroupUids { after, limit };
            group_uids(&api, &caller, query).await?
        }
    };
    Ok(Json(members))
}

async fn group_clients(
    api: &Api,
    caller: &Caller,
    query: Query,
) -> Result<Page<Member>, ApiRefusal> {
    let answered = api.ask(&caller.0, query).await?;
    let Answer::GroupClients { page, more } = answered.answer else {
        return Err(unexpected());
    };
    let cursor = |(group, client): &(Name, ClientId)| Cursor::GroupClient(group.clone(), *client);
    let pair = |(group, client): (Name, ClientId)| {
        Member::Client(GroupClient {
            group: group.to_string(),
            client: client.to_string(),
        })
    };
    Ok(answers::page(page, more, &answered.missing, cursor, pair))
}

async fn group_uids(api: &Api, caller: &Caller, query: Query) -> Result<Page<Member>, ApiRefusal> {
    let answered = api.ask(&caller.0, query).await?;
    let Answer::GroupUids { page, more } = answered.answer else {
        return Err(unexpected());
    };
    let cursor = |(group, uid): &(Name, Name)| Cursor::GroupUid(group.clone(), uid.clone());
    let pair = |(group, uid): (Name, Name)| {
        Member::Uid(GroupUid {
            group: group.to_string(),
            uid: uid.to_string(),
        })
    };
    Ok(answers::page(page, more, &answered.missing, cursor, pair))
}

/// One group with its counts
#[utoipa::path(get, path = "/v1/groups/{group}", tag = "groups",
    params(("group" = String, Path, description = "The group")),
    responses((status = 200, description = "Also if nobody is in it", body = GroupState)))]
async fn get_group(
    State(api): State<Api>,
    caller: Caller,
    path: InPath<String>,
) -> Outcome<GroupState> {
    let group = names::name("group", &path.0)?;
    let of = vec![Selector::Groups(vec![group])];
    let (clients, uids) = tokio::join!(
        count(&api, &caller, Query::ClientCount { of: of.clone() }),
        count(&api, &caller, Query::UidCount { of }),
    );
    let (Json(clients), Json(uids)) = (clients?, uids?);
    let mut missing = clients.missing;
    missing.extend(uids.missing);
    missing.sort_unstable();
    missing.dedup();
    Ok(Json(GroupState {
        group: path.0,
        clients: clients.count,
        uids: uids.count,
        missing,
    }))
}
