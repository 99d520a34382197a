//! What an event costs, told on request: `cargo test --release -- --ignored --nocapture speed`.

use std::time::Instant;

use crate::harness::{Home, client, deploy, eventually, message, settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "a measurement, not a check: cargo test --release -p tidegate-runtime -- --ignored --nocapture speed"]
async fn an_event_costs_microseconds() {
    const EVENTS: u32 = 100_000;
    let mut settings = settings("speed");
    settings.mailbox_events = EVENTS as usize;
    let deployment = deploy(settings).await;
    let home = Home::new();
    for script in ["", "echo hi"] {
        let start = Instant::now();
        for _ in 0..EVENTS {
            home.send(&deployment, client(1), 0, message(script));
        }
        let sent = start.elapsed();
        eventually("all are done", || deployment.queued_events() == 0).await;
        let all = start.elapsed();
        eprintln!(
            "{script:?}: {:?} an event, {:?} of it to send",
            all / EVENTS,
            sent / EVENTS
        );
    }
}
