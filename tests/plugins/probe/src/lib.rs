//! A guest that makes any call of the contract: a client sends one JSON text, the probe makes the
//! calls inside the event and answers with their results. Calls are named as in the contract, with
//! underscores; `README.md` has the protocol.

use serde_json::json;
use tidegate_sdk::prelude::*;

mod arguments;
mod asking;
mod doing;
mod own;
mod run;
mod shape;
#[cfg(test)]
mod tests;
mod web;
mod work;

use run::{Run, Then};

/// The plugin.
#[derive(Default)]
pub struct Probe;

#[tidegate_sdk::handler]
impl Handler for Probe {
    fn on_handshake(&mut self, _: Peer, request: HttpRequest) -> Result<Verdict> {
        if let Some(status) = request.query("reject") {
            return Rejected::new(status.parse()?).body("rejected").into();
        }
        if request.query("fail").is_some() {
            bail!("told to fail");
        }
        match request.query("accept") {
            Some(uid) => Accepted::new().uid(uid).session("accepted", uid)?.into(),
            None => Accepted::new().into(),
        }
    }

    fn on_sign_in(&mut self, _: Peer, first: Message) -> Result<Verdict> {
        Accepted::new().uid(first.text()?).into()
    }

    fn on_connect(&mut self, client: Client, _: Peer, request: Option<HttpRequest>) -> Result {
        for (name, value) in request.iter().flat_map(|request| &request.query) {
            match name.as_str() {
                "uid" => client.bind_uid(value)?,
                "group" => client.join(value)?,
                "who" => {
                    session::set("who", value)?;
                    gateway::to_group(value).send_json(&own::who("connect")?)?;
                }
                _ => {}
            }
        }
        client.send(client.as_str())
    }

    fn on_message(&mut self, client: Client, message: Message) -> Result {
        let run = Run::read(message.bytes());
        let answer = run.answer(Some(client));
        if !run.quiet {
            client.send_json(&answer)?;
        }
        finish(run.then)
    }

    fn on_close(&mut self, client: Client, closed: Closed) -> Result {
        if let Some(group) = session::get::<String>("who")? {
            gateway::to_group(&group).send_json(&own::who("close")?)?;
        }
        if let Some(run) = session::get_json("at_close")? {
            Run::read(run.as_bytes()).answer(Some(client));
        }
        let uid = closed.uid.as_deref().unwrap_or("-");
        let groups = closed.groups.join(",");
        let reason = closed.reason.name();
        gateway::to_group("watchers").send(format!("closed:{client}:{reason}:{uid}:{groups}"))
    }

    fn on_timer(&mut self, client: Option<Client>, timer: Timer, payload: Vec<u8>) -> Result {
        let run = Run::read(&payload);
        let answer = run.answer(client);
        if !run.quiet {
            let told = json!({ "timer": timer, "event": worker::event_id(), "answer": answer });
            match client {
                Some(client) => client.send_json(&told)?,
                None => gateway::to_group("timers").send_json(&told)?,
            }
        }
        finish(run.then)
    }

    fn on_task(&mut self, client: Option<Client>, task: Task, payload: Vec<u8>) -> Result<Vec<u8>> {
        work::work(client, &task, &payload)
    }

    fn on_finished(&mut self, client: Option<Client>, task: Task, finished: Finished) -> Result {
        work::finished(client, &task, finished)
    }

    fn on_buffer_full(&mut self, client: Client, queued_bytes: u64) -> Result {
        gateway::to_group("watchers").send(format!("full:{client}:{queued_bytes}"))
    }

    fn on_buffer_drain(&mut self, client: Client) -> Result {
        gateway::to_group("watchers").send(format!("drained:{client}"))
    }

    fn on_peer_message(&mut self, topic: &str, payload: Vec<u8>) -> Result {
        own::heard(topic, &payload);
        Ok(())
    }

    fn on_http(&mut self, peer: Peer, request: http::Request) -> Result<http::Response> {
        web::answer(&peer, &request)
    }

    fn on_request(&mut self, name: &str, payload: Vec<u8>) -> Result<Vec<u8>> {
        match name {
            "echo" => Ok(payload),
            "fail" => bail!("{}", String::from_utf8_lossy(&payload)),
            "trap" => trap(),
            "loop" => spin(),
            "run" => {
                let run = Run::read(&payload);
                let answer = run.answer(None);
                finish(run.then)?;
                Ok(serde_json::to_vec(&answer)?)
            }
            other => bail!("unknown request {other:?}: echo, fail, trap, loop or run is expected"),
        }
    }
}

fn finish(then: Then) -> Result {
    match then {
        Then::Commit => Ok(()),
        Then::Fail => bail!("told to fail"),
        Then::Trap => trap(),
    }
}

/// Under wasm an abort is the `unreachable` instruction.
fn trap() -> ! {
    std::process::abort()
}

fn spin() -> ! {
    loop {
        std::hint::black_box(());
    }
}
