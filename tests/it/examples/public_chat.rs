//! The chat for strangers: tokens at the door, a rate for each client, and a bot whose answer goes on
//! when its worker is killed.

use std::net::SocketAddrV4;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tidegate_tests::{Builder, Cluster, Outcome, Plugin, Transport, eventually, tools};

use super::{Talker, kill, number, swap, swapped, text};
use crate::sign_in::turned_away;

const SECRET: &str = "a secret of the tests, long enough";

/// A token as any library makes it.
pub(crate) fn token(sub: &str, lasts: Duration) -> Result<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let claims = json!({"sub": sub, "exp": (now + lasts).as_secs()}).to_string();
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(SECRET.as_bytes())?;
    mac.update(signed.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    Ok(format!("{signed}.{signature}"))
}

/// The chat, where only a token opens the door.
pub(crate) fn chat(builder: Builder, settings: &str) -> Builder {
    builder
        .listener("sign-in = \"reject\"")
        .plugin_settings(&format!("config = {{ secret = \"{SECRET}\", {settings} }}"))
}

/// Somebody in a room, who has been told what was said before.
async fn enter(door: SocketAddrV4, sub: &str, room: &str) -> Result<(Talker, Value)> {
    let token = token(sub, Duration::from_secs(600))?;
    let mut talker = Talker::connect(door, &format!("/?token={token}")).await?;
    let welcome = talker.next().await?;
    ensure!(text(&welcome, "uid") == sub, "{welcome}");
    talker.say(&json!({"type": "join", "room": room})).await?;
    let history = talker.told("history").await?;
    Ok((talker, history))
}

#[tokio::test]
async fn only_a_token_opens_the_door_and_its_end_closes_it() -> Outcome {
    let cluster = chat(Cluster::serve(), "burst = 100")
        .other_plugin_file(&Plugin::PublicChat.path()?)
        .start()
        .await?;
    let door = cluster.gateway(0)?.listener(Transport::Ws)?;
    let other = token("ann", Duration::from_secs(60))?.replace('.', ".A");
    for (query, why) in [
        (String::new(), "a token is expected"),
        ("token=x".to_owned(), "no JSON Web Token"),
        (
            format!("token={}", token("ann", Duration::ZERO)?),
            "expired",
        ),
        (format!("token={other}"), ""),
    ] {
        let answer = turned_away(door, &query).await?;
        let head = answer.head.to_ascii_lowercase();
        ensure!(answer.status == 401, "{query}: {answer:?}");
        ensure!(head.contains("www-authenticate: bearer"), "{answer:?}");
        ensure!(answer.body.contains(why), "{query}: {answer:?}");
    }
    let short = token("ann", Duration::from_secs(3))?;
    let mut ann = Talker::connect(door, &format!("/?token={short}")).await?;
    ann.told("welcome").await?;
    ensure!(ann.0.closed().await? == Some(4401));
    if !tools::has("python3") {
        return tools::skip("the script that makes tokens", "python3");
    }
    let script = tools::root().join("plugins-example/public-chat/token.py");
    let made = std::process::Command::new("python3")
        .arg(script)
        .args(["bob", "--name", "Bob", "--hours", "1"])
        .env("CHAT_SECRET", SECRET)
        .output()?;
    let made = String::from_utf8(made.stdout)?;
    let mut bob = Talker::connect(door, &format!("/?token={}", made.trim())).await?;
    let welcome = bob.next().await?;
    ensure!(text(&welcome, "name") == "Bob", "{welcome}");
    Ok(())
}

#[tokio::test]
async fn whoever_floods_a_room_is_told_to_slow_down_and_then_closed_and_the_room_is_spared()
-> Outcome {
    let cluster = chat(Cluster::serve(), "burst = 8, per-second = 1")
        .other_plugin_file(&Plugin::PublicChat.path()?)
        .start()
        .await?;
    let door = cluster.gateway(0)?.listener(Transport::Ws)?;
    let (mut bob, _) = enter(door, "bob", "lobby").await?;
    let (mut ann, history) = enter(door, "ann", "lobby").await?;
    ensure!(
        history["here"].as_array().map(Vec::len) == Some(2),
        "{history}"
    );
    for number in 0..100 {
        let say = json!({"type": "say", "text": number.to_string()});
        if ann.say(&say).await.is_err() {
            break;
        }
    }
    ann.told("slow").await?;
    ensure!(ann.0.closed().await? == Some(4429));
    let mut said = 0;
    loop {
        let message = bob.next().await?;
        match text(&message, "type") {
            "said" => said += 1,
            "went" => break,
            _ => {}
        }
    }
    // What is left of the burst after joining; some more if the machine is slow.
    ensure!((5..20).contains(&said), "{said} of 100 were said");
    Ok(())
}

#[tokio::test]
async fn promise_3_the_bot_says_each_piece_once_though_every_worker_is_killed() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = Plugin::PublicChat.copy_to(folder.path())?;
    let mut cluster = chat(Cluster::apart(3, 3), "burst = 100, bot-pace-ms = 40")
        .settings("[link]\nheartbeat-ms = 200\nlease-ms = 1500")
        .other_plugin_file(&file)
        .start()
        .await?;
    let door = |number| cluster.gateway(number)?.listener(Transport::Ws);
    let doors = [door(0)?, door(1)?, door(2)?];
    let (mut ann, _) = enter(doors[0], "ann", "lobby").await?;
    let (mut bob, _) = enter(doors[1], "bob", "lobby").await?;
    let words: Vec<String> = (0..60).map(|word| word.to_string()).collect();
    let ask = json!({"type": "ask", "text": words.join(" ")});
    ann.say(&ask).await?;
    let (mut heard, mut version) = (String::new(), String::new());
    for piece in 0.. {
        let message = bob.next_of(&["piece", "answered"]).await?;
        if text(&message, "type") == "answered" {
            break;
        }
        ensure!(
            number(&message, "number") == piece,
            "{message}, not {piece}"
        );
        heard.push_str(text(&message, "text"));
        match piece {
            5 => kill(&mut cluster, "worker-0").await?,
            20 => kill(&mut cluster, "worker-1").await?,
            30 => version = swap(&file)?,
            40 => kill(&mut cluster, "worker-2").await?,
            _ => {}
        }
    }
    let backwards: Vec<&str> = words.iter().rev().map(String::as_str).collect();
    ensure!(heard.ends_with(&backwards.join(" ")), "{heard}");
    let workers = ["worker-0", "worker-1", "worker-2"];
    swapped(&cluster, &workers, &version).await?;
    // Whoever comes now finds it in the history, whatever has become of workers.
    ann.told("answered").await?;
    let remembered = async || {
        let (_, history) = enter(doors[2], "eve", "lobby").await?;
        let lines = history["lines"].as_array().context("no lines")?.clone();
        let of_bot = lines.iter().filter(|line| text(line, "name") == "bot");
        let texts: Vec<&str> = of_bot.map(|line| text(line, "text")).collect();
        Ok((texts == [heard.as_str()]).then_some(()))
    };
    eventually("the answer is remembered once", remembered).await?;
    ann.say(&json!({"type": "ask", "text": "and again"}))
        .await?;
    bob.told("piece").await?;
    ann.say(&json!({"type": "stop"})).await?;
    bob.told("stopped").await?;
    Ok(())
}
