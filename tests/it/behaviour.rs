//! Every command of the bench protocol, and so every effect: the same function over the bench in
//! Rust, C and JavaScript, in one process, and across two gateways.

use anyhow::{Context, Result, ensure};
use tidegate_tests::{Client, Cluster, Outcome, Plugin, Received, eventually, tools};

use crate::watcher::Watcher;

#[tokio::test]
async fn every_effect_works_in_one_process() -> Outcome {
    let cluster = Cluster::serve().start().await?;
    behaviour(&cluster, 0, 0).await
}

#[tokio::test]
async fn every_effect_works_across_gateways() -> Outcome {
    let cluster = Cluster::apart(2, 2).start().await?;
    behaviour(&cluster, 0, 1).await
}

#[tokio::test]
async fn a_handler_in_c_behaves_as_the_one_in_rust() -> Outcome {
    guest(Plugin::BenchC, "python3").await
}

#[tokio::test]
async fn a_handler_in_javascript_behaves_as_the_one_in_rust() -> Outcome {
    guest(Plugin::BenchJs, "node").await
}

async fn guest(plugin: Plugin, needs: &str) -> Outcome {
    let Ok(file) = plugin.path() else {
        return tools::skip(
            plugin.name(),
            &format!("{needs}, then plugins-example/build all"),
        );
    };
    let cluster = Cluster::serve().plugin_file(&file).start().await?;
    behaviour(&cluster, 0, 0).await
}

/// The whole protocol between clients of two gateways, or of one.
async fn behaviour(cluster: &Cluster, here: usize, there: usize) -> Outcome {
    answers(cluster, here).await.context("answers")?;
    groups(cluster, here, there).await.context("groups")?;
    everyone(cluster, here, there).await.context("everyone")?;
    peers(cluster, here).await.context("peers")?;
    uids(cluster, here, there).await.context("uids")?;
    own_session(cluster, here).await.context("own session")?;
    other_session(cluster, here, there)
        .await
        .context("other session")?;
    asking(cluster, here, there).await.context("asking")?;
    closing(cluster, here, there).await.context("closing")?;
    failing(cluster, here, there).await.context("failing")
}

/// A client, its id, and that it hears nothing that it should not.
pub(crate) struct Named {
    pub(crate) client: Client,
    pub(crate) id: String,
}

impl Named {
    pub(crate) async fn connect(cluster: &Cluster, gateway: usize) -> Result<Self> {
        let mut client = cluster.ws(gateway).await?;
        let id = client.id().await?;
        Ok(Self { client, id })
    }

    /// Sends a command and waits until it is handled.
    pub(crate) async fn does(&mut self, command: &str) -> Result<()> {
        self.client.send(command).await?;
        self.client
            .nothing_else()
            .await
            .with_context(|| format!("after {command:?}"))
    }

    /// Proves that nothing that `from` did before reached this client: effects arrive in the
    /// order of their commits, so what `from` sends now comes after it.
    pub(crate) async fn heard_nothing_from(&mut self, from: &mut Self) -> Result<()> {
        from.does(&format!("C:{}:marker", self.id)).await?;
        self.client.expect("marker").await
    }
}

async fn answers(cluster: &Cluster, here: usize) -> Outcome {
    let address = cluster
        .gateway(here)?
        .listener(tidegate_tests::Transport::Ws)?;
    let mut client = Client::web_socket(address, "/?hello=good%20day").await?;
    client.expect("good day").await?;
    client.send("E:text").await?;
    client.expect("text").await?;
    client.send_binary(b"E:\xff\x00binary").await?;
    client.expect_binary(b"\xff\x00binary").await?;
    client.send_binary(b"F:\x81\x03raw").await?;
    client.expect("raw").await?;
    let id = client.id().await?;
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    ensure!(id.len() == 20 && id.chars().all(hex), "{id:?} is no id");
    let who = client.who().await?;
    ensure!(who.tenant == "default" && who.attempt == 0, "{who:?}");
    ensure!(who.version.len() == 64, "{who:?}");
    Ok(())
}

async fn groups(cluster: &Cluster, here: usize, there: usize) -> Outcome {
    let mut a = Named::connect(cluster, here).await?;
    let mut b = Named::connect(cluster, there).await?;
    let mut outside = Named::connect(cluster, there).await?;
    a.does("J:red").await?;
    b.does("J:red").await?;
    b.does("J:red").await?;
    a.client.send("G:red:one").await?;
    a.client.expect("one").await?;
    b.client.expect("one").await?;
    outside.heard_nothing_from(&mut a).await?;
    b.does("L:red").await?;
    a.client.send("G:red:two").await?;
    a.client.expect("two").await?;
    b.heard_nothing_from(&mut a).await?;
    b.does("J:red").await?;
    a.does("N:red").await?;
    b.heard_nothing_from(&mut a).await?;
    a.does("G:red:three").await?;
    b.heard_nothing_from(&mut a).await
}

async fn everyone(cluster: &Cluster, here: usize, there: usize) -> Outcome {
    let mut a = Named::connect(cluster, here).await?;
    let mut b = Named::connect(cluster, there).await?;
    a.client.send("B:all of you").await?;
    a.client.expect("all of you").await?;
    b.client.expect("all of you").await?;
    b.heard_nothing_from(&mut a).await
}

/// The instances of the bench remember nothing: that it is taken is all that is seen.
async fn peers(cluster: &Cluster, here: usize) -> Outcome {
    let gateway = cluster.gateway(here)?;
    let failed = async || {
        let commits = "tidegate_gateway_commits_total";
        gateway.metric(commits, "outcome=\"failed\"").await
    };
    let before = failed().await?;
    let mut a = Named::connect(cluster, here).await?;
    a.does("Y:news:to the others").await?;
    a.client.send_binary(b"Y:news:\xff").await?;
    a.does("Y::without a topic").await?;
    let failed = failed().await? - before;
    ensure!(failed == 1.0, "{failed} of three were refused");
    Ok(())
}

async fn uids(cluster: &Cluster, here: usize, there: usize) -> Outcome {
    let mut a = Named::connect(cluster, here).await?;
    let mut b = Named::connect(cluster, there).await?;
    let mut second = Named::connect(cluster, here).await?;
    b.does("U:bob").await?;
    second.does("U:bob").await?;
    a.client.send("P:bob:to both").await?;
    b.client.expect("to both").await?;
    second.client.expect("to both").await?;
    second.does("U:carol").await?;
    a.does("P:bob:to one").await?;
    b.client.expect("to one").await?;
    second.heard_nothing_from(&mut a).await?;
    b.does("u:").await?;
    a.does("P:bob:to nobody").await?;
    b.heard_nothing_from(&mut a).await?;
    second.does("U:bob").await?;
    a.does("R:bob").await?;
    second.client.expect("bye").await?;
    let last = second.client.next().await?;
    ensure!(matches!(last, Received::Closed(_)), "received {last:?}");
    Ok(())
}

async fn own_session(cluster: &Cluster, here: usize) -> Outcome {
    let mut a = cluster.ws(here).await?;
    ensure!(a.ask("?:k").await? == "null", "a fresh session has a key");
    a.send(r#"S:k:{"n":[1,"ü"]}"#).await?;
    let value: serde_json::Value = serde_json::from_str(&a.ask("?:k").await?)?;
    ensure!(value == serde_json::json!({"n": [1, "ü"]}), "{value}");
    a.send("S:k:2").await?;
    ensure!(a.ask("?:k").await? == "2", "the key was not replaced");
    Ok(())
}

async fn other_session(cluster: &Cluster, here: usize, there: usize) -> Outcome {
    let mut a = Named::connect(cluster, here).await?;
    let mut b = Named::connect(cluster, there).await?;
    b.does(r#"S:deep:{"x":{"one":1},"y":1}"#).await?;
    b.does("S:own:true").await?;
    a.does(&format!(r#"M:{}:deep:{{"x":{{"two":2}}}}"#, b.id))
        .await?;
    session_is(&mut b.client, "deep", r#"{"x":{"one":1,"two":2},"y":1}"#).await?;
    a.does(&format!(r#"T:{}:deep:{{"z":3}}"#, b.id)).await?;
    session_is(&mut b.client, "deep", r#"{"z":3}"#).await?;
    session_is(&mut b.client, "own", "true").await
}

/// A handler sees the clients of every gateway, and a refused question is an error of the event.
async fn asking(cluster: &Cluster, here: usize, there: usize) -> Outcome {
    let mut a = Named::connect(cluster, here).await?;
    let mut b = Named::connect(cluster, there).await?;
    b.does("J:asked").await?;
    let everyone: u64 = a.client.ask("#:").await?.parse()?;
    ensure!(everyone >= 2, "{everyone} clients instead of two at least");
    let online = format!("O:{}", b.id);
    for (question, answer) in [("#:asked", "1"), ("#:nobody", "0"), (&online, "true")] {
        let said = a.client.ask(question).await?;
        ensure!(said == answer, "{question}: {said:?} instead of {answer:?}");
    }
    a.does("O:nobody").await?;
    b.client.close().await?;
    eventually("the client is offline", async || {
        let said = (a.client.ask(&online).await?, a.client.ask("#:asked").await?);
        ensure!(said == ("false".into(), "0".into()), "{said:?}");
        Ok(Some(()))
    })
    .await
}

/// Waits until a key of the client's own session has this JSON value.
pub(crate) async fn session_is(client: &mut Client, key: &str, expected: &str) -> Outcome {
    let expected: serde_json::Value = serde_json::from_str(expected)?;
    eventually(&format!("{key} is {expected}"), async || {
        let text = client.ask(&format!("?:{key}")).await?;
        let value: serde_json::Value = serde_json::from_str(&text)?;
        ensure!(value == expected, "it is {value}");
        Ok(Some(()))
    })
    .await
}

async fn closing(cluster: &Cluster, here: usize, there: usize) -> Outcome {
    let mut watcher = Watcher::join(cluster, here).await?;
    let mut told = Named::connect(cluster, there).await?;
    for command in ["U:dave", "J:one", "J:two", r#"S:k:{"a":1}"#] {
        told.does(command).await?;
    }
    told.client.close().await?;
    let closed = watcher.told(&told.id).await?;
    let rest = closed
        .strip_prefix("client:dave:")
        .with_context(|| format!("told {closed:?}"))?;
    let (groups, session) = rest.split_once(':').context("no session")?;
    let mut groups: Vec<_> = groups.split(',').collect();
    groups.sort_unstable();
    ensure!(groups == ["one", "two"], "groups in {closed:?}");
    ensure!(session == r#"{"a":1}"#, "session in {closed:?}");

    let mut kicked = Named::connect(cluster, there).await?;
    watcher.does(&format!("K:{}", kicked.id)).await?;
    kicked.client.expect("bye").await?;
    ensure!(kicked.client.closed().await?.is_some(), "no close frame");
    watcher.expect(&kicked.id, "server:-::null").await?;

    let mut destroyed = Named::connect(cluster, there).await?;
    watcher.does(&format!("D:{}", destroyed.id)).await?;
    destroyed.client.closed().await?;
    watcher.expect(&destroyed.id, "server:-::null").await?;
    for id in [&told.id, &kicked.id, &destroyed.id] {
        watcher.quiet_about(id).await?;
    }
    Ok(())
}

/// A handler that fails leaves nothing behind.
async fn failing(cluster: &Cluster, here: usize, there: usize) -> Outcome {
    let mut a = Named::connect(cluster, here).await?;
    let mut b = Named::connect(cluster, there).await?;
    a.does("X:err").await?;
    b.heard_nothing_from(&mut a).await?;
    a.does("G:leak:nobody is in it").await?;
    a.does("no such command").await
}
