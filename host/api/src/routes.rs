//! The calls, a file for each subject. Each checks, asks or acts, and answers: nothing else.

mod actions;
mod clients;
mod commands;
mod deployment;
mod feed;
mod gateways;
mod groups;
mod sessions;
mod tasks;
mod uids;

use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::shared::Api;

/// All of them, with their part of the document, which begins with `head`.
pub(crate) fn all(head: OpenApi) -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(head)
        .merge(actions::routes())
        .merge(clients::routes())
        .merge(sessions::routes())
        .merge(uids::routes())
        .merge(groups::routes())
        .merge(gateways::routes())
        .merge(commands::routes())
        .merge(feed::routes())
        .merge(tasks::routes())
        .merge(deployment::routes())
}
