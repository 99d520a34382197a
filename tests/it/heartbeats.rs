//! Pings and idle clients: who is pinged with what, who is closed, and who is not.

use anyhow::{Context, ensure};
use tidegate_tests::{Cluster, Outcome, Received, Transport};

use crate::watcher::Watcher;

/// Silent clients are closed 250 to 300 ms after their last sign.
const QUICK: &str = "ping-interval-ms = 100\nping-not-response-limit = 2";

#[tokio::test]
async fn a_client_that_answers_no_ping_is_closed_as_idle() -> Outcome {
    let cluster = Cluster::serve().listener(QUICK).start().await?;
    // The watcher stays because it answers pings while it listens.
    let mut watcher = Watcher::join(&cluster, 0).await?;
    // Nobody reads this one, so nobody answers for it.
    let mut silent = cluster.ws(0).await?;
    let id = silent.id().await?;
    watcher.expect(&id, "idle:-::null").await?;
    silent.closed().await.map(drop)
}

#[tokio::test]
async fn a_client_that_only_answers_pings_stays() -> Outcome {
    let cluster = Cluster::serve().listener(QUICK).start().await?;
    let mut other = cluster.ws(0).await?;
    let mut quiet = cluster.ws(0).await?;
    let started = std::time::Instant::now();
    // Well past the moment at which a silent client would be closed.
    while started.elapsed().as_millis() < 1000 {
        other.nothing_else().await?;
        let reading = quiet.next();
        if let Ok(received) =
            tokio::time::timeout(std::time::Duration::from_millis(50), reading).await
        {
            anyhow::bail!("the quiet client received {:?}", received?);
        }
    }
    quiet.nothing_else().await
}

#[tokio::test]
async fn pongs_do_not_count_where_the_application_must_talk() -> Outcome {
    let cluster = Cluster::serve()
        .listener(QUICK)
        .web_socket_listener("pong-counts = false")
        .start()
        .await?;
    let mut quiet = cluster.ws(0).await?;
    let received = quiet.next().await?;
    ensure!(
        matches!(received, Received::Closed(_)),
        "received {received:?}"
    );
    Ok(())
}

#[tokio::test]
async fn ping_data_is_sent_as_a_message() -> Outcome {
    let cluster = Cluster::serve()
        .listener("ping-interval-ms = 100\nping-not-response-limit = 0")
        .listener("ping-data = \"are you there?\"")
        .web_socket_listener("websocket-ping = false")
        .start()
        .await?;
    for transport in [Transport::Ws, Transport::Text, Transport::Frame] {
        let mut client = cluster.gateway(0)?.connect(transport).await?;
        for _ in 0..3 {
            client
                .expect("are you there?")
                .await
                .with_context(|| format!("on {}", transport.scheme()))?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_silent_client_of_a_plain_listener_is_closed() -> Outcome {
    let cluster = Cluster::serve().listener(QUICK).start().await?;
    for transport in [Transport::Tcp, Transport::Text, Transport::Frame] {
        let mut client = cluster.gateway(0)?.connect(transport).await?;
        client
            .closed()
            .await
            .with_context(|| format!("on {}", transport.scheme()))?;
    }
    Ok(())
}
