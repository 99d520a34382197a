//! New versions: they take over while every connection stays; bad ones are refused while the old
//! one serves.

use std::time::Duration;

use anyhow::{Result, ensure};
use tidegate_tests::plugins::{another_build, replace};
use tidegate_tests::swaps::{self, Plan};
use tidegate_tests::{Client, Cluster, Outcome, Plugin, eventually};

async fn version(client: &mut Client) -> Result<String> {
    Ok(client.who().await?.version)
}

async fn answers_another(client: &mut Client, old: &str) -> Outcome {
    eventually("another version answers", async || {
        Ok((version(client).await? != *old).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_new_version_takes_over_while_connections_and_sessions_stay() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = Plugin::Bench.copy_to(folder.path())?;
    let component = std::fs::read(&file)?;
    let cluster = Cluster::serve().plugin_file(&file).start().await?;
    let mut client = cluster.ws(0).await?;
    client.send("S:k:1").await?;
    client.send("J:stay").await?;
    let old = version(&mut client).await?;
    replace(&file, &another_build(&component, "new")?)?;
    answers_another(&mut client, &old).await?;
    ensure!(client.ask("?:k").await? == "1", "the session is lost");
    client.send("G:stay:together").await?;
    client.expect("together").await?;
    let mut later = cluster.ws(0).await?;
    ensure!(
        version(&mut later).await? != old,
        "a new client meets the old version"
    );
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_written_in_place_is_taken_when_it_is_finished() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = Plugin::Bench.copy_to(folder.path())?;
    let component = std::fs::read(&file)?;
    let cluster = Cluster::serve().plugin_file(&file).start().await?;
    let mut client = cluster.ws(0).await?;
    let old = version(&mut client).await?;
    std::fs::write(&file, another_build(&component, "in place")?)?;
    answers_another(&mut client, &old).await
}

#[tokio::test]
async fn a_half_written_plugin_is_refused_while_the_old_one_serves() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = Plugin::Bench.copy_to(folder.path())?;
    let component = std::fs::read(&file)?;
    let half = component.get(..component.len() / 2).unwrap_or_default();
    refused(&file, half).await
}

#[tokio::test]
async fn a_component_without_a_handler_is_refused_while_the_old_one_serves() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = Plugin::Bench.copy_to(folder.path())?;
    refused(&file, &wat::parse_str("(component)")?).await
}

/// Serves `file`, replaces it by `bytes`, and expects a word in the log and the old version; then
/// a good one, which is taken.
async fn refused(file: &std::path::Path, bytes: &[u8]) -> Outcome {
    let component = std::fs::read(file)?;
    let cluster = Cluster::serve().plugin_file(file).start().await?;
    let mut client = cluster.ws(0).await?;
    let old = version(&mut client).await?;
    let process = cluster.gateway(0)?.process()?;
    let before = process.log().len();
    replace(file, bytes)?;
    eventually("the log says that the file is refused", async || {
        client.nothing_else().await?;
        let log = process.log();
        let new = log.get(before..).unwrap_or_default();
        Ok(new.contains("bench.wasm").then_some(()))
    })
    .await?;
    ensure!(version(&mut client).await? == old, "a bad version serves");
    replace(file, &another_build(&component, "good again")?)?;
    answers_another(&mut client, &old).await
}

#[tokio::test]
async fn a_removed_file_changes_nothing() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = Plugin::Bench.copy_to(folder.path())?;
    let component = std::fs::read(&file)?;
    let cluster = Cluster::serve().plugin_file(&file).start().await?;
    let mut client = cluster.ws(0).await?;
    let old = version(&mut client).await?;
    std::fs::remove_file(&file)?;
    for _ in 0..50 {
        client.nothing_else().await?;
    }
    std::fs::write(&file, another_build(&component, "back")?)?;
    answers_another(&mut client, &old).await
}

#[tokio::test]
async fn a_hundred_swaps_in_a_row_lose_repeat_reorder_and_close_nothing() -> Outcome {
    let found = swaps::run(Plan {
        swaps: 100,
        clients: 50,
        every: Duration::from_millis(50),
        normal: Duration::from_secs(1),
        fresh: false,
        pin: None,
    })
    .await?;
    ensure!(found.swaps == 100, "{found}");
    Ok(())
}
