//! What happens during a deploy, as server-sent events. A failure before anything else happened is
//! an ordinary refusal.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::header::ACCEPT;
use axum::http::request::Parts;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use tidegate_deploy::Progress;
use tidegate_fair::Place;
use tidegate_wire::Name;
use tokio::sync::mpsc;

use crate::deployments;
use crate::problem::ApiRefusal;

/// A comment is sent so often, so that both ends see that the other is there.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How whoever asks wants to hear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Each event as it happens.
    Events,
    /// The last one alone, when all is over.
    Last,
}

impl<S: Sync> FromRequestParts<S> for Manner {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let accepts = |kind: &str| {
            let mut accepts = parts.headers.get_all(ACCEPT).iter();
            accepts.any(|it| it.to_str().is_ok_and(|it| it.contains(kind)))
        };
        // Whoever takes events as well gets events.
        let (json, events) = (accepts("application/json"), accepts("text/event-stream"));
        Ok(if json && !events {
            Self::Last
        } else {
            Self::Events
        })
    }
}

/// Waits for the first event, and answers with all of them. `place` is kept until the last.
pub(super) async fn answer(
    mut progress: mpsc::Receiver<Progress>,
    place: Option<Place<Name>>,
    manner: Manner,
) -> Result<Response, ApiRefusal> {
    if manner == Manner::Last {
        let last = last(progress).await;
        drop(place);
        return last;
    }
    let first = match progress.recv().await {
        Some(Progress::Failed { reason }) => return Err(deployments::refusal(&reason)),
        Some(
            first @ (Progress::Uploaded { .. }
            | Progress::Worker { .. }
            | Progress::Decided { .. }
            | Progress::Done { .. }
            | Progress::Waiting { .. }),
        ) => first,
        None => return Err(ApiRefusal::broken("nobody takes deploys any more")),
    };
    let state = (Some(first), progress, place);
    let events = unfold(state, |(first, mut progress, place)| async move {
        let next = match first {
            Some(first) => first,
            None => progress.recv().await?,
        };
        Some((Ok::<_, Infallible>(event(&next)), (None, progress, place)))
    });
    let alive = KeepAlive::new().interval(HEARTBEAT).text("alive");
    Ok(Sse::new(events).keep_alive(alive).into_response())
}

/// Waits until all is over: a refusal has its own status then.
async fn last(mut progress: mpsc::Receiver<Progress>) -> Result<Response, ApiRefusal> {
    while let Some(told) = progress.recv().await {
        match told {
            Progress::Failed { reason } => return Err(deployments::refusal(&reason)),
            done @ Progress::Done { .. } => {
                return Ok(Json(deployments::progress(&done)).into_response());
            }
            Progress::Uploaded { .. }
            | Progress::Worker { .. }
            | Progress::Decided { .. }
            | Progress::Waiting { .. } => {}
        }
    }
    Err(ApiRefusal::broken("nobody takes deploys any more"))
}

fn event(progress: &Progress) -> Event {
    let told = deployments::progress(progress);
    // Structs of texts and numbers always serialize.
    let data = serde_json::to_string(&told).unwrap_or_default();
    Event::default().event(told.name()).data(data)
}
