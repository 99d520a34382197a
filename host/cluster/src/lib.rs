//! Register, gateway and worker as tokio services on authenticated links.
//!
//! Never names wasmtime: what runs handlers is behind the trait that [`worker`] defines.

pub mod directory;
pub mod gateway;
mod give_back;
pub mod register;
pub mod worker;
