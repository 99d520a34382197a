//! The worker on real links: a scripted gateway at one end, scripted handlers at the other.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names the one frame that it expects"
)]

mod custody;
mod delivery;
mod dialling;
mod drain;
mod questions;
mod rig;
mod script;
