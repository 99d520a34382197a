//! The commands. See `execute` for the list.

#![allow(
    unsafe_code,
    clippy::panic,
    clippy::print_stdout,
    reason = "the export macro writes unsafe code; tests tell it to panic and to print"
)]

use std::cell::Cell;
use std::time::Duration;

#[allow(missing_docs, unreachable_pub, reason = "written by a macro")]
mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "command",
        generate_all,
    });
}

use bindings::exports::tidegate::plugin::commands::Guest;
use bindings::tidegate::plugin::directory::{ClientField, Selector};
use bindings::tidegate::plugin::types::Message;
use bindings::tidegate::plugin::{gateway, hub};
use bindings::wasi::config::store;

thread_local! {
    static RUN: Cell<u32> = const { Cell::new(0) };
}

struct Scripted;

impl Guest for Scripted {
    fn execute(name: String, payload: Vec<u8>) -> Result<Vec<u8>, String> {
        let seen = RUN.get();
        RUN.set(seen + 1);
        let text = String::from_utf8_lossy(&payload).into_owned();
        match name.as_str() {
            "echo" => Ok(payload),
            "fail" => Err(text),
            "trap" => panic!("{text}"),
            "spin" => loop {
                std::hint::spin_loop();
            },
            "sleep" => {
                std::thread::sleep(Duration::from_millis(text.parse().unwrap_or(0)));
                Ok(seen.to_string().into_bytes())
            }
            "seen" => Ok(seen.to_string().into_bytes()),
            "print" => {
                println!("{text}");
                Ok(Vec::new())
            }
            "config" => Ok(store::get(&text)
                .ok()
                .flatten()
                .unwrap_or_default()
                .into_bytes()),
            "tell-all" => tell(gateway::send_to_all(&Message::Text(text), &[])),
            "start-command" => tell(gateway::command(None, &text, &[])),
            "set-session" => tell(gateway::set_session(
                &text,
                &[("k".to_owned(), "1".to_owned())],
            )),
            // Until the host has enough.
            "flood" => loop {
                if let Err(error) = gateway::ungroup("g") {
                    return Err(format!("{error:?}"));
                }
            },
            "address" => Ok(hub::gateway_address().into_bytes()),
            "count" => tell(hub::client_count(&[Selector::Everyone])),
            "infos" => tell(hub::infos(
                &[Selector::Groups(vec![text])],
                ClientField::UID,
                None,
                10,
            )),
            "large" => Ok(vec![b'x'; text.parse().unwrap_or(0)]),
            other => Err(format!("no such command: {other}")),
        }
    }
}

fn tell<T: std::fmt::Debug, E: std::fmt::Debug>(result: Result<T, E>) -> Result<Vec<u8>, String> {
    match result {
        Ok(value) => Ok(format!("{value:?}").into_bytes()),
        Err(error) => Err(format!("{error:?}")),
    }
}

bindings::export!(Scripted with_types_in bindings);
