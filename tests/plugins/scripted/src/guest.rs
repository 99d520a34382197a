//! The commands. See `run` for the list.

#![allow(
    unsafe_code,
    clippy::panic,
    clippy::print_stdout,
    reason = "the export macro writes unsafe code; tests tell it to panic and to print"
)]

mod asking;
mod http;
mod peers;

use std::cell::Cell;
use std::time::Duration;

#[allow(missing_docs, unreachable_pub, reason = "written by a macro")]
mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "full-handler",
        generate_all,
    });
}

use bindings::exports::tidegate::plugin::buffer_events::Guest as BufferEvents;
use bindings::exports::tidegate::plugin::client_events::{
    Closed, Guest as ClientEvents, HttpRequest, Message, Peer,
};
use bindings::exports::tidegate::plugin::handshake_events::{
    Accepted, Guest as HandshakeEvents, Rejected,
};
use bindings::exports::tidegate::plugin::request_events::Guest as RequestEvents;
use bindings::exports::tidegate::plugin::state::Guest as State;
use bindings::exports::tidegate::plugin::task_events::Guest as TaskEvents;
use bindings::exports::tidegate::plugin::timer_events::Guest as TimerEvents;
use bindings::exports::tidegate::plugin::worker_events::Guest as WorkerEvents;
use bindings::tidegate::plugin::types::Error;
use bindings::tidegate::plugin::{gateway, session, tasks, timers, worker};
use bindings::wasi::config::store;
use bindings::wasi::logging::logging;

thread_local! {
    static EVENTS: Cell<u32> = const { Cell::new(0) };
    /// The step of the task under way.
    static STEPS: Cell<u32> = const { Cell::new(0) };
}

struct Scripted;

impl ClientEvents for Scripted {
    fn on_connect(client: String, peer: Peer, request: Option<HttpRequest>) -> Result<(), String> {
        let path = request.map(|request| request.path).unwrap_or_default();
        say(&client, &format!("hello {} {path}", peer.address))
    }

    fn on_message(client: String, message: Message) -> Result<(), String> {
        let seen = EVENTS.get();
        EVENTS.set(seen + 1);
        match message {
            Message::Binary(bytes) => gateway::send_to_client(&client, &Message::Binary(bytes))
                .map_err(|error| text_of(&error)),
            Message::Text(script) => script.lines().try_for_each(|line| run(&client, seen, line)),
        }
    }

    fn on_close(client: String, closed: Closed) -> Result<(), String> {
        answer(timers::after(5, b"after the close"))?;
        let last = answer(session::get("name"))?.unwrap_or_default();
        let changed = session::set("name", "1").map_err(|error| text_of(&error));
        tell_all(&format!(
            "{client} left {:?} last={last} change={changed:?}",
            closed.groups
        ))
    }
}

impl RequestEvents for Scripted {
    fn on_request(name: String, payload: Vec<u8>) -> Result<Vec<u8>, String> {
        let text = || String::from_utf8_lossy(&payload).into_owned();
        match name.as_str() {
            "echo" => Ok(payload),
            "fail" => Err(text()),
            "trap" => panic!("told to trap"),
            "large" => Ok(vec![b'x'; text().parse().unwrap_or(0)]),
            "tell-all" => {
                answer(gateway::send_to_all(&Message::Text(text()), &[]))?;
                Ok(worker::event_id().into_bytes())
            }
            "after" => answer(timers::after(7, &payload)).map(String::into_bytes),
            "session" => Ok(format!("{:?}", session::get("k")).into_bytes()),
            "ask" => Ok(asking::ask(&text()).into_bytes()),
            other => Err(format!("no such request: {other}")),
        }
    }
}

/// The payload of a client's timer is a script. Any other timer is told to all.
impl TimerEvents for Scripted {
    fn on_timer(client: Option<String>, timer: String, payload: Vec<u8>) -> Result<(), String> {
        let script = String::from_utf8_lossy(&payload);
        match client {
            Some(client) => script.lines().try_for_each(|line| run(&client, 0, line)),
            None => tell_all(&format!("timer {timer}: {script}, {:?}", session::get("k"))),
        }
    }
}

/// The payload of a client's task is a script; it gives the number of the next step.
impl TaskEvents for Scripted {
    fn on_task(client: Option<String>, _: String, payload: Vec<u8>) -> Result<Vec<u8>, String> {
        let script = String::from_utf8_lossy(&payload);
        let client = client.unwrap_or_default();
        script.lines().try_for_each(|line| run(&client, 0, line))?;
        Ok(STEPS.get().to_string().into_bytes())
    }

    fn on_finished(
        client: Option<String>,
        task: String,
        outcome: Result<Vec<u8>, String>,
    ) -> Result<(), String> {
        match client {
            Some(client) => say(&client, &format!("finished {outcome:?}")),
            None => tell_all(&format!("{task} finished {outcome:?}")),
        }
    }
}

impl BufferEvents for Scripted {
    fn on_buffer_full(client: String, queued_bytes: u64) -> Result<(), String> {
        say(&client, &format!("full: {queued_bytes}"))
    }

    fn on_buffer_drain(client: String) -> Result<(), String> {
        say(&client, "drained")
    }
}

/// The query, or the first message, says what becomes of it: `uid=U`, `group=G`, `key=JSON`, `sub=S`,
/// `header=V`, `reject=STATUS`, `trap`, `effect`, `sleep=MS`, `status` of a rejection that makes no sense.
impl HandshakeEvents for Scripted {
    fn on_handshake(peer: Peer, request: HttpRequest) -> Result<Accepted, Rejected> {
        decide(&peer, request.query)
    }

    fn on_sign_in(peer: Peer, first: Message) -> Result<Accepted, String> {
        let text = match first {
            Message::Text(text) => text,
            Message::Binary(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        };
        let pairs = text.split('&').map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key.to_owned(), value.to_owned())
        });
        let verdict = decide(&peer, pairs.collect());
        verdict.map_err(|it| String::from_utf8_lossy(&it.body).into_owned())
    }
}

fn decide(peer: &Peer, asked: Vec<(String, String)>) -> Result<Accepted, Rejected> {
    let mut accepted = Accepted {
        session: vec![("peer".to_owned(), format!("{:?}", peer.address))],
        uid: None,
        groups: Vec::new(),
        subprotocol: None,
        headers: Vec::new(),
    };
    for (key, value) in asked {
        match key.as_str() {
            "uid" => accepted.uid = Some(value),
            "group" => accepted.groups.push(value),
            "key" => accepted.session.push(("key".to_owned(), value)),
            "sub" => accepted.subprotocol = Some(value),
            "header" => accepted.headers.push(("x-header".to_owned(), value)),
            "reject" => {
                return Err(Rejected {
                    status: value.parse().unwrap_or(401),
                    headers: vec![("www-authenticate".to_owned(), "Basic".to_owned())],
                    body: b"not you".to_vec(),
                });
            }
            "trap" => panic!("told to trap"),
            "sleep" => std::thread::sleep(Duration::from_millis(value.parse().unwrap_or(0))),
            "effect" => {
                let all = gateway::send_to_all(&Message::Text("no".to_owned()), &[]);
                accepted.uid = Some(format!("{all:?}").chars().take(30).collect());
            }
            _ => {}
        }
    }
    Ok(accepted)
}

impl State for Scripted {
    fn save() -> Vec<u8> {
        match config("at-save").as_deref() {
            Some("trap") => panic!("told to trap in save"),
            Some("sleep") => std::thread::sleep(Duration::from_secs(60)),
            Some("spin") => spin(),
            _ => {}
        }
        let mut saved = EVENTS.get().to_string().into_bytes();
        let bytes = config("save-bytes").and_then(|bytes| bytes.parse().ok());
        saved.resize(bytes.unwrap_or(saved.len()), b' ');
        saved
    }

    fn restore(from_version: String, state: Vec<u8>) -> Result<(), String> {
        let text = String::from_utf8_lossy(&state);
        EVENTS.set(text.trim().parse().map_err(|_| "no number".to_owned())?);
        println!("restored {} from {from_version}", EVENTS.get());
        match config("at-restore").as_deref() {
            Some("refuse") => Err("told to refuse the memory".to_owned()),
            Some("trap") => panic!("told to trap in restore"),
            Some("sleep") => {
                std::thread::sleep(Duration::from_secs(60));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl WorkerEvents for Scripted {
    fn on_start(_config: String) -> Result<(), String> {
        match config("at-start").as_deref() {
            Some("refuse") => return Err("told to refuse".to_owned()),
            Some("trap") => panic!("told to trap at start"),
            Some("spin") => spin(),
            _ => {}
        }
        if let Some(only) = config("only-version")
            && worker::plugin_version() != only
        {
            return Err("not the version that was told".to_owned());
        }
        if config("never-version").is_some_and(|never| never.contains(&worker::plugin_version())) {
            return Err("told never to start".to_owned());
        }
        let effect = gateway::send_to_all(&Message::Text(String::new()), &[]);
        match effect {
            Err(Error::NotPermitted(_)) => Ok(()),
            other => Err(format!("effects in on-start: {other:?}")),
        }
    }

    fn on_stop() {
        println!("stopped after {} events", EVENTS.get());
    }
}

/// One line: a command and its argument.
fn run(client: &str, seen: u32, line: &str) -> Result<(), String> {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (key, value) = rest.split_once(' ').unwrap_or((rest, ""));
    match command {
        "echo" => say(client, rest),
        "err" => Err(rest.to_owned()),
        "trap" => panic!("{rest}"),
        "trap-unless-fresh" if seen > 0 => panic!("told to trap unless fresh"),
        "trap-unless-fresh" => Ok(()),
        "spin" => spin(),
        "sleep" => {
            std::thread::sleep(Duration::from_millis(rest.parse().unwrap_or(0)));
            Ok(())
        }
        "eat" => eat(),
        "exit" => std::process::exit(3),
        "on" if worker::plugin_version() == key => run(client, seen, value),
        "on" => Ok(()),
        "count" => say(client, &seen.to_string()),
        "version" => say(client, &worker::plugin_version()),
        "who" => say(
            client,
            &format!(
                "{} {} {} {:?} {}",
                worker::tenant(),
                worker::worker_name(),
                worker::instance(),
                worker::tags(),
                worker::attempt()
            ),
        ),
        "event-id" => say(client, &worker::event_id()),
        "config" => say(client, &config(rest).unwrap_or_default()),
        "set" => answer(session::set(key, value)),
        "get" => {
            let value = answer(session::get(key))?;
            say(client, &value.unwrap_or_else(|| "none".to_owned()))
        }
        "remove" => answer(session::remove(key)),
        "clear" => answer(session::clear()),
        "entries" => {
            let entries = answer(session::entries())?;
            say(client, &format!("{entries:?}"))
        }
        "merge" => answer(gateway::update_session(
            client,
            &[(key.to_owned(), value.to_owned())],
            true,
        )),
        "set-of" => answer(gateway::set_session(
            key,
            &[("k".to_owned(), value.to_owned())],
        )),
        "ask" => say(client, &asking::ask(rest)),
        "burn" => {
            burn(Duration::from_millis(rest.parse().unwrap_or(0)));
            Ok(())
        }
        "after" => {
            let delay = key.parse().unwrap_or(0);
            say(client, &answer(timers::after(delay, value.as_bytes()))?)
        }
        "every" => {
            let period = key.parse().unwrap_or(0);
            say(client, &answer(timers::every(period, value.as_bytes()))?)
        }
        "cancel" => answer(timers::cancel(rest)),
        "submit" => answer(tasks::submit(rest.as_bytes())).map(drop),
        "step" => answer(tasks::commit()).map(|next| STEPS.set(next)),
        "step-and-trap" => panic!("{:?}", tasks::commit()),
        "resume" => {
            STEPS.set(tasks::resume());
            Ok(())
        }
        "first" if STEPS.get() > 0 => Ok(()),
        "first" => run(client, seen, rest),
        "tell" => peers::tell(key, value.as_bytes()),
        "tell-large" => peers::tell(key, &vec![b'x'; value.parse().unwrap_or(0)]),
        "tell-many" => peers::tell_many(key, value.parse().unwrap_or(0)),
        "heard" => say(client, &peers::heard()),
        "join" => answer(gateway::join_group(client, rest)),
        "bind" => answer(gateway::bind_uid(client, rest)),
        "group" => answer(gateway::send_to_groups(
            &[key.to_owned()],
            &Message::Text(value.to_owned()),
            &[client.to_owned()],
        )),
        "send" => answer(gateway::send_to_client(
            key,
            &Message::Text(value.to_owned()),
        )),
        "close" => answer(gateway::close_client(client, None)),
        "many" => {
            let count: u32 = rest.parse().unwrap_or(0);
            (0..count).try_for_each(|number| say(client, &number.to_string()))
        }
        "large" => {
            let bytes = rest.parse().unwrap_or(0);
            say(client, &"x".repeat(bytes))
        }
        "print" => {
            println!("{rest}");
            Ok(())
        }
        "log" => {
            logging::log(logging::Level::Critical, "scripted", rest);
            Ok(())
        }
        other => Err(format!("no such command: {other}")),
    }
}

fn say(client: &str, text: &str) -> Result<(), String> {
    answer(gateway::send_to_client(
        client,
        &Message::Text(text.to_owned()),
    ))
}

fn tell_all(text: &str) -> Result<(), String> {
    answer(gateway::send_to_all(&Message::Text(text.to_owned()), &[]))
}

fn answer<T>(result: Result<T, Error>) -> Result<T, String> {
    result.map_err(|error| text_of(&error))
}

fn text_of(error: &Error) -> String {
    format!("{error:?}")
}

fn config(key: &str) -> Option<String> {
    store::get(key).ok().flatten()
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

fn burn(time: Duration) {
    let start = std::time::Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Takes memory until there is none.
fn eat() -> ! {
    let mut all = Vec::new();
    loop {
        all.push(vec![1_u8; 1 << 20]);
    }
}

bindings::export!(Scripted with_types_in bindings);
