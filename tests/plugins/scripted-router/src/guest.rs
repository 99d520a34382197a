//! Where events go. See `route` for what they may say.

#![allow(
    unsafe_code,
    clippy::panic,
    reason = "the export macro writes unsafe code; tests tell it to panic"
)]

use std::time::Duration;

#[allow(missing_docs, unreachable_pub, reason = "written by a macro")]
mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "router",
        generate_all,
    });
}

use bindings::exports::tidegate::plugin::routing::{Candidate, Event, Guest};
use bindings::tidegate::plugin::types::Message;
use bindings::wasi::config::store;

struct Scripted;

impl Guest for Scripted {
    fn route(event: Event, candidates: Vec<Candidate>) -> Option<u32> {
        let text = match &event.payload {
            Some(Message::Text(text)) => text.clone(),
            Some(Message::Binary(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            None => String::new(),
        };
        if text.contains("!trap") {
            panic!("told to trap");
        }
        if text.contains("!loop") {
            loop {
                std::hint::spin_loop();
            }
        }
        if text.contains("!sleep") {
            std::thread::sleep(Duration::from_secs(30));
        }
        if text.contains("!grow") {
            let mut all: Vec<Vec<u8>> = Vec::new();
            loop {
                all.push(vec![1; 1 << 20]);
            }
        }
        if text.contains("!far") {
            return Some(99);
        }
        if let Some(expected) = text.strip_prefix("expect:") {
            return (expected == told(&event, &candidates)).then_some(1);
        }
        let named = |name: &str| {
            let at = candidates.iter().position(|it| it.name == name)?;
            u32::try_from(at).ok()
        };
        if let Some((_, rest)) = text.split_once("route=") {
            return named(rest.split(';').next().unwrap_or_default());
        }
        let mode = store::get("mode").ok().flatten();
        match mode.as_deref() {
            // By what it carries, so that events of one client go to all.
            Some("spread") => {
                let sum: usize = text.bytes().map(usize::from).sum();
                u32::try_from(sum % candidates.len()).ok()
            }
            Some("session") => {
                let (_, value) = event.session.first()?;
                named(value.trim_matches('"'))
            }
            Some("tag") => {
                let tagged = |it: &Candidate| it.tags.iter().any(|tag| tag == "chosen");
                u32::try_from(candidates.iter().position(tagged)?).ok()
            }
            Some(_) | None => None,
        }
    }
}

fn told(event: &Event, candidates: &[Candidate]) -> String {
    let names: Vec<String> = candidates
        .iter()
        .map(|it| {
            let tags = it.tags.join(",");
            format!("{}({tags}) {} {}", it.name, it.clients, it.queued_bytes)
        })
        .collect();
    format!(
        "{:?}|{}|{}|{}|{:?}|{}",
        event.kind,
        event.client.as_deref().unwrap_or("-"),
        event.peer.as_ref().map_or("-", |peer| &peer.address),
        event.uid.as_deref().unwrap_or("-"),
        event.session,
        names.join(";"),
    )
}

bindings::export!(Scripted with_types_in bindings);
