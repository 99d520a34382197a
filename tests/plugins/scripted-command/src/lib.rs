//! A command component for tests: each command tries one thing. Empty unless built for wasm.

#[cfg(target_family = "wasm")]
mod guest;
