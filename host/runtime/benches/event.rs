//! What an event costs in the runtime, without cluster: `cargo bench -p tidegate-runtime`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    dead_code,
    reason = "a measurement that ends by panicking and prints; it uses part of the tests' harness"
)]

#[path = "../tests/runtime/harness.rs"]
mod harness;

use std::time::Instant;

use harness::{Home, client, deploy, eventually, message, settings};

const EVENTS: u32 = 100_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let mut settings = settings("speed");
    settings.mailbox_events = EVENTS as usize;
    let deployment = deploy(settings).await;
    let home = Home::new();
    for (what, script) in [
        ("an empty handler", ""),
        ("a handler that sends", "echo hi"),
    ] {
        let start = Instant::now();
        for _ in 0..EVENTS {
            home.send(&deployment, client(1), 0, message(script));
        }
        let sent = start.elapsed();
        eventually("all are done", || deployment.queued_events() == 0).await;
        let all = start.elapsed();
        println!(
            "{what}: {:?} an event, {:?} of it to dispatch",
            all / EVENTS,
            sent / EVENTS
        );
    }
}
