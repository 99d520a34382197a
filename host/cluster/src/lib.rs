//! Register, gateway and worker as tokio services on authenticated links.
//!
//! Never names wasmtime: what runs handlers is behind the trait that [`worker`] defines.

pub mod gateway;
pub mod register;
pub mod worker;
