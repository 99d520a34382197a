//! What happens during a deploy, as server-sent events. A failure before anything else happened is
//! an ordinary refusal.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use tidegate_cluster::deploy::Progress;
use tidegate_fair::Place;
use tidegate_wire::Name;
use tokio::sync::mpsc;

use crate::deployments;
use crate::problem::Refusal;

/// A comment is sent so often, so that both ends see that the other is there.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Waits for the first event, and answers with all of them. `place` is kept until the last.
pub(super) async fn answer(
    mut progress: mpsc::Receiver<Progress>,
    place: Option<Place<Name>>,
) -> Result<Response, Refusal> {
    let first = match progress.recv().await {
        Some(Progress::Failed { reason }) => return Err(deployments::refusal(&reason)),
        Some(
            first @ (Progress::Uploaded { .. }
            | Progress::Worker { .. }
            | Progress::Decided { .. }
            | Progress::Done { .. }),
        ) => first,
        None => return Err(Refusal::broken("nobody takes deploys any more")),
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

fn event(progress: &Progress) -> Event {
    let told = deployments::progress(progress);
    // Structs of texts and numbers always serialize.
    let data = serde_json::to_string(&told).unwrap_or_default();
    Event::default().event(told.name()).data(data)
}
