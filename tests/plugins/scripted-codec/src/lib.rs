//! A codec for tests: each line of a client says what to make of it. Empty unless built for wasm.

#[cfg(target_family = "wasm")]
mod guest;
