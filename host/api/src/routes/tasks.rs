//! What happens beside clients: schedules.

use axum::Json;
use axum::extract::State;
use tidegate_client::{ScheduleInfo, Schedules};
use tidegate_cluster::gateway::access::ScheduleStatus;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::caller::Caller;
use crate::shared::{Api, Outcome};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_schedules))
}

/// The tenant's schedules
#[utoipa::path(get, path = "/v1/schedules", tag = "tasks",
    responses((status = 200, description = "As the gateway that answers knows them", body = Schedules)))]
async fn list_schedules(State(api): State<Api>, caller: Caller) -> Outcome<Schedules> {
    let schedules = api.cluster.schedules(&caller.0);
    Ok(Json(Schedules {
        schedules: schedules.into_iter().map(schedule).collect(),
    }))
}

fn schedule(it: ScheduleStatus) -> ScheduleInfo {
    let ms = |at_s: i64| u64::try_from(at_s).unwrap_or(0).saturating_mul(1_000);
    ScheduleInfo {
        name: it.name.to_string(),
        cron: it.cron,
        time_zone: it.time_zone,
        last_at: it.last_s.map(ms),
        next_at: it.next_s.map(ms),
        running_at: it.open_s.map(ms),
    }
}
