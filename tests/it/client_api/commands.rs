//! Command components are replaced like plugins: a good one takes over, a bad one is refused while
//! the old one answers.

use anyhow::{Result, ensure};
use serde_json::json;
use tidegate_tests::plugins::{another_build, replace};
use tidegate_tests::{Api, Outcome, eventually};

use super::Place;

async fn answers(api: &Api, gateways: usize) -> Outcome {
    let body = json!({"name": "echo", "text": "here", "timeout_ms": 5000});
    let got = api.post("/v1/commands", &body).await?.ok()?;
    let answers = got["answers"].as_array().map_or(&[][..], Vec::as_slice);
    let good = answers.iter().filter(|one| one["text"] == "here").count();
    ensure!(good == gateways && got["missing"] == json!([]), "{got}");
    Ok(())
}

/// Waits until this stands in the log of every process that runs commands, while they answer.
async fn until_logged(place: &Place, before: &[usize], words: &[&str]) -> Outcome {
    let api = place.api(0)?;
    let gateways = place.fixture.gateways();
    eventually(&format!("every gateway logs {words:?}"), async || {
        answers(&api, gateways).await?;
        let logs = logs(place)?;
        let all = logs.iter().zip(before).all(|(log, &before)| {
            let new = log.get(before..).unwrap_or_default();
            words.iter().all(|word| new.contains(word))
        });
        Ok(all.then_some(()))
    })
    .await
}

fn logs(place: &Place) -> Result<Vec<String>> {
    let gateways = place.fixture.cluster.gateways.iter();
    gateways.map(|node| Ok(node.process()?.log())).collect()
}

#[tokio::test]
async fn commands_are_replaced_while_they_answer() -> Outcome {
    for place in Place::both("commands")? {
        let api = place.api(0)?;
        answers(&api, place.fixture.gateways()).await?;
        let file = place.fixture.command();
        let component = std::fs::read(file)?;
        let lengths = |logs: Vec<String>| logs.iter().map(String::len).collect::<Vec<_>>();
        let before = lengths(logs(&place)?);
        replace(file, b"no component at all")?;
        until_logged(&place, &before, &["WARN", "probe-command.wasm"]).await?;
        let before = lengths(logs(&place)?);
        replace(file, &another_build(&component, "commands")?)?;
        until_logged(&place, &before, &["probe-command.wasm"]).await?;
    }
    Ok(())
}
