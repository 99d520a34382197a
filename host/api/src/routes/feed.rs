//! The live feed, as server-sent events. It ends with the gateway, and when its token is withdrawn;
//! whoever falls behind is told how much was missed.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::unfold;
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tidegate_client::Kind;
use tidegate_cluster::gateway::access::Told;
use tidegate_wire::feed::{ChangeKind, Filter};
use tokio::sync::mpsc;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::body::Params;
use crate::caller::{self, Caller};
use crate::problem::ApiRefusal;
use crate::shared::Api;
use crate::{answers, names};

/// A comment is sent so often, so that both ends see that the other is there.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// nginx keeps a stream to itself until its buffer is full, unless it is told so.
const UNBUFFERED: [(HeaderName, &str); 1] = [(HeaderName::from_static("x-accel-buffering"), "no")];

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(feed))
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Only these kinds, with commas: `connected,closed,joined,left,bound,unbound`.
    kind: Vec<String>,
    /// Only joins and leaves of these groups, and closes of their members.
    group: Vec<String>,
    /// Only changes of clients with one of these uids.
    uid: Vec<String>,
}

/// What happens to clients, as it happens
///
/// `event:` is the kind, or `missed` with `{"missed": n}`, or `coverage` with `{"missing": [...]}`:
/// gateways whose changes are not told at the moment.
#[utoipa::path(get, path = "/v1/feed", tag = "feed", params(Wanted),
    responses((status = 200, description = "Server-sent events", body = String,
        content_type = "text/event-stream")))]
async fn feed(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    wanted: Params<Wanted>,
) -> Result<
    (
        [(HeaderName, &'static str); 1],
        Sse<impl Stream<Item = Result<Event, Infallible>>>,
    ),
    ApiRefusal,
> {
    let filter = Filter {
        kinds: kinds(&wanted.0.kind)?,
        groups: names::names("group", &wanted.0.group)?,
        uids: names::names("uid", &wanted.0.uid)?,
    };
    let told = api.cluster.watch(&caller.0, filter)?;
    let stop = api.stop.clone();
    let over = async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = caller::withdrawn(headers, caller.0, api) => {}
        }
    };
    Ok((UNBUFFERED, events(told, over, HEARTBEAT)))
}

fn events(
    told: mpsc::Receiver<Told>,
    over: impl Future<Output = ()> + Send + 'static,
    heartbeat: Duration,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = unfold(told, |mut told| async move {
        let next = told.recv().await?;
        Some((Ok(event(&next)), told))
    });
    let events = events.take_until(Box::pin(over));
    let alive = KeepAlive::new().interval(heartbeat).text("alive");
    Sse::new(events).keep_alive(alive)
}

fn event(told: &Told) -> Event {
    let (name, data) = match told {
        Told::Happened(happening) => {
            let (kind, data) = answers::happening(happening);
            // Structs of texts and numbers always serialize.
            (
                kind.as_str(),
                serde_json::to_string(&data).unwrap_or_default(),
            )
        }
        Told::Missed(missed) => ("missed", json!({ "missed": missed }).to_string()),
        Told::Missing(gateways) => {
            let missing = answers::addresses(gateways);
            ("coverage", json!({ "missing": missing }).to_string())
        }
    };
    Event::default().event(name).data(data)
}

fn kinds(texts: &[String]) -> Result<Vec<ChangeKind>, ApiRefusal> {
    let words = texts.iter().flat_map(|text| text.split(','));
    let words = words.map(str::trim).filter(|word| !word.is_empty());
    words
        .map(|word| match Kind::of(word) {
            Some(kind) => Ok(answers::kind(kind)),
            None => {
                let word: String = word.chars().take(40).collect();
                Err(ApiRefusal::invalid(format!(
                    "`kind`: {word:?} is none of connected, closed, joined, left, bound, unbound"
                )))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use http_body_util::BodyExt;
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn a_feed_without_news_says_that_it_is_alive_and_ends_with_the_gateway() {
        let (tell, told) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let over = stop.clone().cancelled_owned();
        let feed = events(told, over, Duration::from_millis(5));
        let mut body = feed.into_response().into_body();
        for _ in 0..3 {
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(&frame.into_data().unwrap()[..], b": alive\n\n");
        }
        tell.send(Told::Missed(3)).await.unwrap();
        stop.cancel();
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data.starts_with(b":") || data.starts_with(b"event: missed"));
        }
    }
}
