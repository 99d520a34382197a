//! Sessions live with the connection, not with the worker.

use anyhow::ensure;
use tidegate_tests::{Cluster, Outcome};

use crate::behaviour::{Named, session_is};

#[tokio::test]
async fn a_session_survives_from_event_to_event_and_from_worker_to_worker() -> Outcome {
    let mut cluster = Cluster::apart(1, 2).start().await?;
    let mut client = cluster.ws(0).await?;
    client.send(r#"S:k:{"n":1}"#).await?;
    session_is(&mut client, "k", r#"{"n":1}"#).await?;
    let first = client.worker().await?;
    cluster.worker_named(&first)?.kill().await?;
    session_is(&mut client, "k", r#"{"n":1}"#).await?;
    let second = client.worker().await?;
    ensure!(first != second, "{first} is dead and serves");
    client.send("S:k:2").await?;
    session_is(&mut client, "k", "2").await
}

#[tokio::test]
async fn a_session_survives_with_a_router_that_chooses_per_event() -> Outcome {
    let cluster = Cluster::apart(1, 2)
        .gateway_flags(&["--router", "rand"])
        .start()
        .await?;
    let mut client = cluster.ws(0).await?;
    for number in 0..200 {
        client.send(&format!("S:k:{number}")).await?;
        let answer = client.ask("?:k").await?;
        ensure!(answer == number.to_string(), "{answer}, not {number}");
    }
    Ok(())
}

#[tokio::test]
async fn two_writers_of_different_keys_both_win() -> Outcome {
    let cluster = Cluster::apart(2, 2).start().await?;
    let mut owner = Named::connect(&cluster, 0).await?;
    let mut other = Named::connect(&cluster, 1).await?;
    for number in 0..100 {
        owner.client.send(&format!("S:own:{number}")).await?;
        let command = format!("T:{}:theirs:{number}", owner.id);
        other.client.send(&command).await?;
    }
    other.does("G:nobody:barrier").await?;
    session_is(&mut owner.client, "own", "99").await?;
    session_is(&mut owner.client, "theirs", "99").await
}
