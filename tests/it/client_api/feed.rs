//! The live feed: what happens to a tenant's clients, on whatever gateway, is told once.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidegate_tests::{Feed, Outcome, Probe, Told};

use super::Place;

/// What is told of one client, up to its close.
async fn story(feed: &mut Feed, client: &str) -> Result<Vec<Told>> {
    let mut story = Vec::new();
    loop {
        let told = feed.next().await?;
        if told.data["client"] == client {
            let ends = told.kind == "closed";
            story.push(told);
            if ends {
                return Ok(story);
            }
        }
    }
}

/// A life: connects with uid and group, changes both, and is closed.
async fn live(place: &Place, gateway: usize) -> Result<String> {
    let mut client: Probe = place.client(gateway, "uid=ann&group=red").await?;
    let id = client.id().to_owned();
    let bind = json!({"op": "bind_uid", "client": "me", "uid": "bob"});
    let join = json!({"op": "join_group", "client": "me", "group": "blue"});
    let leave = json!({"op": "leave_group", "client": "me", "group": "red"});
    let unbind = json!({"op": "unbind_uid", "client": "me"});
    for step in [bind, join.clone(), join, leave, unbind] {
        let answer = client.ask(&step).await?;
        ensure!(answer.is_ok(), "{step}: {answer:?}");
    }
    client.close().await?;
    Ok(id)
}

#[tokio::test]
async fn all_kinds_of_changes_are_told_once_from_every_gateway() -> Outcome {
    for place in Place::both("feed")? {
        let mut feed = Feed::open(&place.api(0)?, "").await?;
        for gateway in 0..3 {
            let id = live(&place, gateway).await?;
            let story = story(&mut feed, &id).await?;
            let kinds: Vec<_> = story.iter().map(|told| told.kind.as_str()).collect();
            let wanted = [
                "connected",
                "bound",
                "joined",
                "unbound",
                "bound",
                "joined",
                "left",
                "unbound",
                "closed",
            ];
            ensure!(kinds == wanted, "{kinds:?}");
            let of = |at: usize, name: &str| story[at].data[name].clone();
            let uids: Vec<_> = [1, 3, 4, 7].map(|at| of(at, "uid")).into();
            ensure!(uids == ["ann", "ann", "bob", "bob"], "{uids:?}");
            let groups: Vec<_> = [2, 5, 6].map(|at| of(at, "group")).into();
            ensure!(groups == ["red", "blue", "red"], "{groups:?}");
            ensure!(of(8, "groups") == json!(["blue"]), "{:?}", story[8]);
            ensure!(of(8, "reason") == "client", "{:?}", story[8]);
            ensure!(of(8, "uid") == Value::Null, "{:?}", story[8]);
            let peer = of(0, "peer");
            ensure!(peer["transport"] == "web-socket", "{peer}");
            ensure!(
                story.iter().all(|told| told.data["at"].is_u64()),
                "{story:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn filters_keep_everything_else_away() -> Outcome {
    for place in Place::both("feed")? {
        let of_uid = |uid: &str, kinds: &str| format!("uid={uid}{kinds}");
        let mut bound =
            Feed::open(&place.api(1)?, &of_uid("filtered", "&kind=bound,closed")).await?;
        let mut joined = Feed::open(&place.api(2)?, "kind=joined&group=filtered").await?;
        let _noise = live(&place, 0).await?;
        let client = place
            .client(2, "uid=filtered&group=filtered&group=more")
            .await?;
        let id = client.id().to_owned();
        client.close().await?;
        let told = [bound.next().await?, bound.next().await?];
        let kinds = told.each_ref().map(|told| told.kind.as_str());
        ensure!(kinds == ["bound", "closed"], "{told:?}");
        let told = joined.next().await?;
        let what = json!([told.kind, told.data["client"], told.data["group"]]);
        ensure!(what == json!(["joined", id, "filtered"]), "{told:?}");
        // The noise came before: had it been wanted, it would have been told first.
        ensure!(told.data["uid"] == "filtered", "{told:?}");
        let error = place.api(0)?.get("/v1/feed?kind=danced").await?.problem()?;
        ensure!(error == "invalid-argument", "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_feed_tells_nothing_of_another_tenant() -> Outcome {
    for place in Place::both("feed")? {
        let other = Place {
            fixture: place.fixture.clone(),
            tenant: "stranger",
        };
        let mut feed = Feed::open(&other.api(0)?, "kind=connected&uid=quiet").await?;
        let mut all = Feed::open(&other.api(0)?, "kind=bound&uid=quiet").await?;
        let _theirs = place.client(0, "uid=quiet").await?;
        let own = other.client(1, "uid=quiet").await?;
        let told = all.next().await?;
        ensure!(told.data["client"] == own.id(), "{told:?}");
        drop(own);
        // A client has no uid yet when it connects.
        let quiet = tokio::time::timeout(std::time::Duration::from_millis(50), feed.next()).await;
        ensure!(quiet.is_err(), "{quiet:?}");
    }
    Ok(())
}
