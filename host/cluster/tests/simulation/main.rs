//! Thousands of short lives of a cluster: the real registers, workers and gateways, each on a
//! runtime with a clock of its own, over a network that delays, holds and cuts as the seed says.
//!
//! Runs seeds from 1, or `TIDEGATE_FIRST_SEED`, on all cores for 40 s, or `TIDEGATE_SIMULATION_SECONDS`.
//! `TIDEGATE_SEED=7` runs one seed and prints what happened, with what the services log;
//! `TIDEGATE_SURVEY=1` does not stop at the first seed that fails but lists them all. The same seed
//! gives the same trace.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::print_stdout,
    reason = "seeds and traces are what is looked for"
)]

mod faults;
mod handlers;
mod holdings;
mod network;
mod people;
mod process;
mod record;
mod voices;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use world::{Extent, World};

const SECONDS: u64 = 40;
/// The last lines of a trace that are printed for a seed that fails.
const TRACE_LINES: usize = 400;

/// Runs one seed, with all that can go wrong or with what went wrong in an earlier version of this
/// simulation. Gives its trace, and what went wrong.
fn run(seed: u64, extent: Extent) -> (Vec<String>, Option<String>) {
    let mut world = World::new(seed, extent);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let wrong = match result {
        Ok(Ok(())) => None,
        Ok(Err(violation)) => Some(violation),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
            Some(format!("a panic: {}", text.unwrap_or_default()))
        }
    };
    let (now, summary) = (world.now_ms, world.summary());
    world.record.log(now, || format!("the end: {summary:?}"));
    (world.record.trace(), wrong)
}

fn number(key: &str) -> Option<u64> {
    std::env::var(key).ok()?.parse().ok()
}

fn fail(seed: u64, trace: &[String], wrong: &str) -> ! {
    let from = trace.len().saturating_sub(TRACE_LINES);
    println!("{}", trace[from..].join("\n"));
    panic!(
        "seed {seed}: {wrong}\nreplay: TIDEGATE_SEED={seed} cargo test -p tidegate-cluster --test \
         simulation -- --nocapture promises"
    );
}

#[test]
fn promises_hold_whatever_the_network_and_the_processes_do() {
    if let Some(seed) = number("TIDEGATE_SEED") {
        voices::listen();
        let (trace, wrong) = run(seed, Extent::Keys);
        println!("{}", trace.join("\n"));
        if let Some(wrong) = wrong {
            fail(seed, &[], &wrong);
        }
        return;
    }
    let seconds = number("TIDEGATE_SIMULATION_SECONDS").unwrap_or(SECONDS);
    let first = number("TIDEGATE_FIRST_SEED").unwrap_or(1);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let begin = Instant::now();
    let end = begin + Duration::from_secs(seconds);
    let (next, runs) = (AtomicU64::new(first), AtomicU64::new(0));
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while Instant::now() < end && failed.lock().unwrap().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let (trace, wrong) = run(seed, Extent::Keys);
                    runs.fetch_add(1, Ordering::Relaxed);
                    if let Some(wrong) = wrong {
                        take(&failed, seed, trace, wrong);
                    }
                }
            });
        }
    });
    println!(
        "{} seeds from {first} in {} s on {threads} threads",
        runs.into_inner(),
        begin.elapsed().as_secs()
    );
    if let Some((seed, trace, wrong)) = failed.into_inner().unwrap() {
        fail(seed, &trace, &wrong);
    }
}

type Failed = Mutex<Option<(u64, Vec<String>, String)>>;

/// Keeps the first seed that failed; a survey only names it and goes on.
fn take(failed: &Failed, seed: u64, trace: Vec<String>, wrong: String) {
    if number("TIDEGATE_SURVEY").is_some() {
        let line = wrong.lines().next().unwrap_or_default();
        println!("seed {seed} (TIDEGATE_SEED={seed} replays it): {line}");
    } else {
        let mut failed = failed.lock().unwrap();
        failed.get_or_insert((seed, trace, wrong));
    }
}

/// A clock that is set cannot change what a service does: leases, deadlines and retries follow
/// `Instant`, which these processes' clocks stand for. What tells a time to somebody may read the
/// wall clock: what is told of a client, the events of the feed, when a release was deployed, and in
/// answers of HTTP their date and that of files; and schedules, which are due by it and have a simulation of their
/// own, in which clocks are set. From
/// that a coordinator that has just started tells how much of a canary's time is left, and never more than
/// all of it.
#[test]
fn only_what_is_told_reads_the_wall_clock() {
    let host = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap();
    let mut readers = Vec::new();
    let mut folders: Vec<_> = ["cluster", "deploy", "fair", "hub", "link"]
        .map(|member| host.join(member).join("src"))
        .into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read_to_string(&path)
                .unwrap()
                .contains("SystemTime")
            {
                readers.push(path.strip_prefix(host).unwrap().to_owned());
            }
        }
    }
    readers.sort();
    let told = [
        "cluster/src/gateway/clients/connection.rs",
        "cluster/src/gateway/clients/handshake/files.rs",
        "cluster/src/gateway/clients/refusals.rs",
        "cluster/src/gateway/schedules.rs",
        "cluster/src/gateway/shard/feed.rs",
        "deploy/src/lib.rs",
        "link/src/net/http/refusal.rs",
    ];
    assert_eq!(readers, told.map(std::path::PathBuf::from));
}

/// Seeds that once failed, each by a cause of its own: a frozen gateway that answers a dial late,
/// custody dropped over a freeze, over the loss of all registers, over a link that the gateway never
/// learnt of, closes whose commit did not arrive, forwards and closes of a lost gateway that lives on, a
/// register that died before its word of a loss arrived, closes adopted by a gateway that knew nobody.
#[test]
fn seeds_that_once_failed_hold() {
    for seed in [74, 229, 153, 86, 1389, 730, 2379, 1750, 3931, 7260] {
        let (trace, wrong) = run(seed, Extent::First);
        if let Some(wrong) = wrong {
            fail(seed, &trace, &wrong);
        }
    }
    // Since more goes wrong: lanes that waited in vain for a window, forwards of a gateway that had
    // left, events given back out of order, an adopter that left, a custodian that never knew, a worker
    // that a lost gateway welcomed, workers that left before the fate of a gateway was known or
    // with closes that no gateway had taken, that linked again while they served nobody, or
    // while the other custodians were out of reach.
    for seed in [
        142, 368, 340, 100_352, 104_341, 105_981, 26_525, 42_066, 60_559, 62_074, 62_243, 64_517,
        64_248, 65_700, 67_111, 67_337, 68_222,
    ] {
        let (trace, wrong) = run(seed, Extent::More);
        if let Some(wrong) = wrong {
            fail(seed, &trace, &wrong);
        }
    }
    // Since there is bulk: what a custodian was told crossed its own commit, or lacked it and had the next
    // one; one that had become the first with an event was dismissed as the second; and a gateway that
    // was taken for lost lived on, also because it did not listen to another one that said so.
    for seed in [641, 1937, 3344, 5673, 65_185] {
        let (trace, wrong) = run(seed, Extent::Bulk);
        if let Some(wrong) = wrong {
            fail(seed, &trace, &wrong);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..12 {
        let ((one, _), (two, _)) = (run(seed, Extent::Keys), run(seed, Extent::Keys));
        let differs = one.iter().zip(&two).position(|(one, two)| one != two);
        if let Some(line) = differs {
            panic!("seed {seed}, line {line}: {} / {}", one[line], two[line]);
        }
        assert_eq!(one.len(), two.len(), "seed {seed}");
    }
}
