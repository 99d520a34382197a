//! What runs beside clients: tasks and schedules.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tidegate_client::{Done, ScheduleInfo, Schedules, TaskInfo, Tasks};
use tidegate_cluster::gateway::access::ScheduleStatus;
use tidegate_wire::effect::Effect;
use tidegate_wire::query::{self, Answer, Query};
use tidegate_wire::task::TaskId;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answers;
use crate::body::{InPath, Params};
use crate::caller::{Caller, Key};
use crate::problem::ApiRefusal;
use crate::shared::{Api, Outcome, unexpected};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_tasks))
        .routes(routes!(cancel_task))
        .routes(routes!(list_schedules))
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListTasks {
    /// Where the list goes on: `next` of the page before.
    after: Option<String>,
    /// At most so many; 100 by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Tasks that wait or are under way: how many, and a part of them in order
#[utoipa::path(get, path = "/v1/tasks", tag = "tasks", params(ListTasks),
    responses((status = 200, description = "The tasks of the tenant", body = Tasks)))]
async fn list_tasks(
    State(api): State<Api>,
    caller: Caller,
    params: Params<ListTasks>,
) -> Outcome<Tasks> {
    let after = params.0.after.as_deref().map(task_id).transpose()?;
    let query = Query::Tasks {
        after: after.map(Box::new),
        limit: params.0.limit.unwrap_or(100),
    };
    let answered = api.ask(&caller.0, query).await?;
    let Answer::Tasks {
        waiting,
        under_way,
        oldest_ms,
        page,
        more,
    } = answered.answer
    else {
        return Err(unexpected());
    };
    let last = page.last().filter(|_| more);
    Ok(Json(Tasks {
        waiting,
        under_way,
        oldest_ms,
        next: last.map(|last| last.task.to_string()),
        items: page.into_iter().map(task).collect(),
        missing: answers::addresses(&answered.missing),
    }))
}

/// End a task; nothing happens if there is none of this id
#[utoipa::path(delete, path = "/v1/tasks/{task}", tag = "tasks",
    params(("task" = String, Path, description = "Its id")),
    responses((status = 200, description = "Done; what it has committed stays", body = Done)))]
async fn cancel_task(
    State(api): State<Api>,
    caller: Caller,
    key: Key,
    path: InPath<String>,
) -> Outcome<Done> {
    let task = task_id(&path.0)?;
    let effects = vec![Effect::CancelTask {
        task: Box::new(task),
    }];
    api.act(&caller.0, key.over(&[]), effects).await
}

fn task_id(text: &str) -> Result<TaskId, ApiRefusal> {
    text.parse().map_err(|_| {
        let short: String = text.chars().take(80).collect();
        ApiRefusal::invalid(format!(
            "{short:?} is not the id of a task: use one that `GET /v1/tasks` has given, as it is"
        ))
    })
}

fn task(it: query::TaskInfo) -> TaskInfo {
    TaskInfo {
        task: it.task.to_string(),
        client: it.task.client.map(|client| client.to_string()),
        under_way: it.under_way,
        attempt: it.attempt,
        steps: it.steps,
        age_ms: it.age_ms,
    }
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
