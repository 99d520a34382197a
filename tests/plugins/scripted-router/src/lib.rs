//! A router for tests: what an event carries says where it goes, or what becomes of the router. Empty
//! unless built for wasm.

#[cfg(target_family = "wasm")]
mod guest;
