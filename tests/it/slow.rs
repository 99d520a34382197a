//! A client that does not read is closed or misses messages, as configured; nobody else notices
//! and the gateway does not grow.

use anyhow::{Result, ensure};
use serde_json::json;
use tidegate_tests::plugins::Plugin;
use tidegate_tests::{Client, Cluster, Outcome, Probe, Received, Transport};

use crate::watcher::Watcher;

/// Together far more than what kernel and queue take for one client.
const MESSAGES: usize = 300;
const BYTES: usize = 64 * 1024;

struct Flooded {
    cluster: Cluster,
    witness: Watcher,
    slow: Client,
    slow_id: String,
}

/// A group of two is flooded: the witness reads everything, the other reads nothing.
async fn flood(policy: &str) -> Result<Flooded> {
    let cluster = Cluster::serve()
        .listener(&format!(
            "queue-bytes-max = 262144\nqueue-policy = \"{policy}\"\nping-interval-ms = 0"
        ))
        .start()
        .await?;
    let mut witness = Watcher::join(&cluster, 0).await?;
    witness.does("J:flood").await?;
    let address = cluster.gateway(0)?.listener(Transport::Ws)?;
    let mut slow = Client::web_socket_with_small_window(address).await?;
    let slow_id = slow.id().await?;
    slow.send("J:flood").await?;
    slow.nothing_else().await?;
    let before = cluster.gateway(0)?.process()?.resident_bytes()?;
    let padding = "x".repeat(BYTES);
    for number in 0..MESSAGES {
        // One at a time: the witness has read it when its barrier comes back.
        witness.does(&format!("G:flood:{number}:{padding}")).await?;
    }
    if policy == "close" {
        witness.expect(&slow_id, "slow:-:flood:null").await?;
    } else {
        witness.quiet_about(&slow_id).await?;
    }
    let grown = cluster
        .gateway(0)?
        .process()?
        .resident_bytes()?
        .saturating_sub(before);
    ensure!(grown < 32 << 20, "the process has grown by {grown} bytes");
    Ok(Flooded {
        cluster,
        witness,
        slow,
        slow_id,
    })
}

/// Which messages of the flood the slow client gets when it reads at last.
async fn read_at_last(flooded: &mut Flooded) -> Result<Vec<usize>> {
    let mut numbers = Vec::new();
    let marker = format!("C:{}:marker", flooded.slow_id);
    loop {
        // Again and again: a marker may find the queue full as well.
        flooded.witness.client.send(&marker).await?;
        match flooded.slow.next().await? {
            Received::Text(text) if text == "marker" => break,
            Received::Text(text) => {
                numbers.push(text.split(':').next().unwrap_or_default().parse()?);
            }
            other @ (Received::Binary(_) | Received::Closed(_)) => {
                anyhow::bail!("received {other:?}")
            }
        }
    }
    ensure!(numbers.is_sorted(), "out of order: {numbers:?}");
    ensure!(numbers.len() < MESSAGES, "nothing was dropped");
    flooded.cluster.ws(0).await?.nothing_else().await?;
    Ok(numbers)
}

#[tokio::test]
async fn a_slow_reader_is_closed_not_buffered() -> Outcome {
    let mut flooded = flood("close").await?;
    flooded.slow.closed().await?;
    let id = flooded.slow_id.clone();
    flooded.witness.quiet_about(&id).await
}

#[tokio::test]
async fn a_slow_reader_misses_the_newest_messages_if_so_configured() -> Outcome {
    let mut flooded = flood("drop-new").await?;
    let numbers = read_at_last(&mut flooded).await?;
    ensure!(numbers.first() == Some(&0), "{numbers:?}");
    ensure!(numbers.last() != Some(&(MESSAGES - 1)), "{numbers:?}");
    Ok(())
}

#[tokio::test]
async fn a_slow_reader_misses_the_oldest_messages_if_so_configured() -> Outcome {
    let mut flooded = flood("drop-old").await?;
    let numbers = read_at_last(&mut flooded).await?;
    ensure!(numbers.contains(&(MESSAGES - 1)), "{numbers:?}");
    Ok(())
}

#[tokio::test]
async fn who_reads_slowly_skips_to_the_newest_of_what_is_sent_under_a_key() -> Outcome {
    let cluster = Cluster::serve()
        .listener("queue-bytes-max = 262144\nping-interval-ms = 0")
        .other_plugin_file(&Plugin::Probe.path()?)
        .start()
        .await?;
    let gateway = cluster.gateway(0)?;
    let address = gateway.listener(Transport::Ws)?;
    let mut actor = Probe::connect(address, "").await?;
    let mut slow = Client::web_socket_with_small_window(address).await?;
    slow.text().await?;
    let padding = "x".repeat(BYTES);
    for number in 0..MESSAGES {
        let message = format!("{number}:{padding}");
        let send = json!({"op": "send_latest", "key": "k", "message": message});
        ensure!(actor.ask(&send).await?.is_ok());
        // Who reads in time gets each of them.
        ensure!(actor.next().await? == Received::Text(message));
    }
    let mut numbers: Vec<usize> = Vec::new();
    while numbers.last() != Some(&(MESSAGES - 1)) {
        let text = slow.text().await?;
        numbers.push(text.split(':').next().unwrap_or_default().parse()?);
    }
    ensure!(
        numbers.is_sorted() && numbers.len() < MESSAGES,
        "{numbers:?}"
    );
    let replaced = "tidegate_gateway_replaced_messages_total";
    let replaced = gateway.metric(replaced, "").await?;
    ensure!(
        replaced == (MESSAGES - numbers.len()) as f64,
        "{replaced} were replaced, {} came",
        numbers.len()
    );
    // Of several in one event the last alone.
    let many = json!({"op": "send_latest", "key": "k", "message": "#", "times": 100});
    ensure!(actor.ask(&many).await?.is_ok());
    ensure!(actor.rest().await? == json!(["99"]));
    slow.expect("99").await
}

/// Sends large messages to a client that does not read, until its handler is told.
async fn fill(actor: &mut Probe, slow: &str) -> Result<()> {
    let message = "x".repeat(BYTES);
    let send = json!({"op": "send_to_client", "client": slow, "message": message});
    let full = format!("full:{slow}:");
    for _ in 0..MESSAGES {
        ensure!(actor.ask(&send).await?.is_ok());
        let told = actor.rest().await?;
        let told = told.as_array().and_then(|it| it.first());
        if let Some(told) = told.and_then(serde_json::Value::as_str) {
            let bytes = told.strip_prefix(&full).unwrap_or_default();
            let bytes: usize = bytes.parse()?;
            ensure!((131_072..=262_144).contains(&bytes), "{told}");
            return Ok(());
        }
    }
    anyhow::bail!("nobody was told that the queue is full")
}

#[tokio::test]
async fn a_handler_is_told_that_much_waits_for_a_client_and_that_it_is_written() -> Outcome {
    let cluster = Cluster::serve()
        .listener("queue-bytes-max = 262144\nping-interval-ms = 0")
        .other_plugin_file(&Plugin::Probe.path()?)
        .start()
        .await?;
    let address = cluster.gateway(0)?.listener(Transport::Ws)?;
    let mut actor = Probe::connect(address, "group=watchers").await?;
    let mut slow = Client::web_socket_with_small_window(address).await?;
    let id = slow.text().await?;
    for _ in 0..3 {
        fill(&mut actor, &id).await?;
        let drained = async {
            loop {
                let told = actor.heard().await?;
                if told == json!(format!("drained:{id}")) {
                    return anyhow::Ok(());
                }
            }
        };
        let read = async {
            loop {
                slow.text().await?;
            }
        };
        tokio::select! {
            drained = drained => drained?,
            read = read => { let never: Outcome = read; never?; }
        }
    }
    Ok(())
}
