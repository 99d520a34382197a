//! Deploys over real links with real folders, with workers whose components are made up.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "deploy/fake.rs"]
mod fake;
#[path = "deploy/rig.rs"]
mod rig;

#[path = "deploy/away.rs"]
mod away;
#[path = "deploy/canary.rs"]
mod canary;
#[path = "deploy/chaos.rs"]
mod chaos;
#[path = "deploy/full_disk.rs"]
mod full_disk;
#[path = "deploy/here.rs"]
mod here;
#[path = "deploy/history.rs"]
mod history;
#[path = "deploy/losses.rs"]
mod losses;
#[path = "deploy/strangers.rs"]
mod strangers;
#[path = "deploy/two_phases.rs"]
mod two_phases;
