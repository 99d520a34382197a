//! The rows of the failure table that are about nodes and links, each by itself: three gateways, three
//! workers and two registers as processes, clients that send numbered messages, one thing that fails.
//! What is checked each time is all that the chaos run checks; see the harness's `chaos`.

use anyhow::ensure;
use tidegate_tests::Outcome;
use tidegate_tests::chaos::{Way, What, Who, scene};
use tidegate_tests::proxy::Stream;

/// Longer than any lease of the harness's nodes.
const LONG_MS: u64 = 5500;

#[tokio::test]
async fn a_half_open_link_ends_after_its_lease_and_loses_nothing() -> Outcome {
    let way = Way::Gateway(0);
    let seen = scene(&[
        (1000, LONG_MS, What::Mute(way, 0, Stream::ToDialler)),
        (1500, LONG_MS, What::Mute(way, 1, Stream::FromDialler)),
        (2000, LONG_MS, What::Mute(way, 2, Stream::ToDialler)),
    ])
    .await?;
    ensure!(seen.broken == 0, "clients noticed it: {seen:?}");
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_only_seemed_lost_closes_its_clients_once_before_it_comes_back() -> Outcome {
    let gateway = Who::Gateway(1);
    let faults = [0, 1].map(|register| {
        let way = Way::Register(gateway, register);
        (1000, LONG_MS, What::HoldAll(way))
    });
    let seen = scene(&faults).await?;
    ensure!(
        seen.lives == 1 && seen.broken > 0 && seen.excused == 0,
        "the gateway lives on: {seen:?}"
    );
    Ok(())
}

#[tokio::test]
async fn the_closes_of_a_frozen_gateway_are_told_once_also_when_it_thaws() -> Outcome {
    let seen = scene(&[(1000, LONG_MS, What::Freeze(Who::Gateway(2)))]).await?;
    ensure!(
        seen.lives == 1 && seen.broken > 0 && seen.excused == 0,
        "the gateway lives on: {seen:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_worker_and_later_a_gateway_are_killed_and_every_close_is_told() -> Outcome {
    let seen = scene(&[
        (1000, 500, What::Kill(Who::Worker(0))),
        (4000, 500, What::Kill(Who::Gateway(0))),
    ])
    .await?;
    ensure!(seen.lives == 1 && seen.excused == 0, "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn workers_that_one_of_two_registers_has_dropped_go_on_serving() -> Outcome {
    let seen = scene(&[
        (
            1000,
            LONG_MS,
            What::HoldAll(Way::Register(Who::Worker(2), 0)),
        ),
        (
            1000,
            LONG_MS,
            What::HoldAll(Way::Register(Who::Worker(1), 1)),
        ),
        // Shorter than its lease: both registers keep it, and the gateway a view of each.
        (2000, 1000, What::HoldAll(Way::Register(Who::Gateway(0), 0))),
        (7500, 500, What::Kill(Who::Register(1))),
        (8500, 500, What::Kill(Who::Worker(0))),
    ])
    .await?;
    ensure!(
        seen.lives == 0 && seen.broken == 0,
        "a gateway was lost: {seen:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_one_of_two_registers_has_dropped_closes_its_clients_once() -> Outcome {
    // Who sees only that register has told their closes, so it must not go on.
    let seen = scene(&[(
        1000,
        LONG_MS,
        What::HoldAll(Way::Register(Who::Gateway(0), 0)),
    )])
    .await?;
    ensure!(
        seen.lives == 1 && seen.broken > 0 && seen.excused == 0,
        "the gateway lives on: {seen:?}"
    );
    Ok(())
}

#[tokio::test]
async fn without_any_register_traffic_goes_on_and_a_lost_gateway_is_told_when_one_is_back()
-> Outcome {
    let seen = scene(&[
        (1000, 7000, What::Kill(Who::Register(0))),
        (1000, 7000, What::Kill(Who::Register(1))),
        (3000, 500, What::Kill(Who::Gateway(1))),
    ])
    .await?;
    ensure!(seen.lives == 1 && seen.excused == 0, "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn a_machine_with_a_gateway_and_a_worker_is_lost_and_every_close_is_told() -> Outcome {
    let seen = scene(&[
        (2500, 500, What::KillMachine(0)),
        (14_000, 500, What::KillMachine(1)),
    ])
    .await?;
    ensure!(
        seen.lives == 2 && seen.broken > 0 && seen.excused == 0,
        "{seen:?}"
    );
    Ok(())
}
