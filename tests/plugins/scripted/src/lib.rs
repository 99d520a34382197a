//! A guest that does what the messages it gets tell it to: each line of a text message is one
//! command. Behaviour at start is told by its configuration. Empty unless built for wasm.

#[cfg(target_family = "wasm")]
mod guest;
