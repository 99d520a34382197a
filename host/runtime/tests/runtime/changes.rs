//! Versions change at random while clients send: no event is lost, repeated or overtaken.

use std::time::{Duration, Instant, SystemTime};

use tidegate_runtime::{Bounds, PluginError};
use tidegate_wire::effect::Outcome;

use crate::harness::{deploy, guest, guest_version, plugin, settings};
use crate::stream::Stream;

/// A small generator of random numbers, so that a failure can be repeated from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_any_changes_of_versions_no_event_is_lost_repeated_or_overtaken() {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let seed = std::env::var("SEED").map_or(now.as_nanos() as u64 | 1, |it| it.parse().unwrap());
    eprintln!("SEED={seed}");
    let mut random = Random(seed);
    let mut settings = settings("any");
    settings.instances = 3;
    settings.rollout.canary_percent = 40;
    settings.rollout.canary_ms = 150;
    settings.rollout.bounds = Bounds {
        traps: 8,
        window_ms: 100,
        ..Bounds::NONE
    };
    let deployment = deploy(settings).await;
    let stream = Stream::start(&deployment, 30, |number| match number % 1999 {
        0 => "trap-unless-fresh".to_owned(),
        1 => "err no".to_owned(),
        2 | 700 | 1400 => "sleep 3\nversion".to_owned(),
        _ => "count".to_owned(),
    });
    let plugins = [
        plugin(guest()).await,
        plugin(guest_version(84)).await,
        plugin(guest_version(85)).await,
    ];
    let start = Instant::now();
    let mut changes = 0;
    while start.elapsed() < Duration::from_secs(4) {
        let result = match random.below(6) {
            0..3 => {
                deployment
                    .swap(plugins[random.below(3) as usize].clone())
                    .await
            }
            3 => deployment.promote().await,
            4 => deployment.rollback(None).await,
            _ => {
                deployment
                    .rollback(Some(plugins[random.below(3) as usize].version()))
                    .await
            }
        };
        match result {
            Ok(()) => changes += 1,
            Err(
                PluginError::NoCanary { .. }
                | PluginError::NoPrevious { .. }
                | PluginError::NotKept { .. },
            ) => {}
            Err(error) => panic!("SEED={seed}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(random.below(60))).await;
    }
    let outcomes = stream.end(&deployment).await;
    eprintln!("{changes} changes, {} events", outcomes.len());
    // A busy machine compiles and starts slowly.
    assert!(changes > 2);
    assert!(!outcomes.contains(&Outcome::Returned));
}
