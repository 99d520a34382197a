//! Free ports for processes that must be told theirs beforehand, so that a register or a gateway
//! can be restarted at the same address. They lie below the ephemeral range, so that no outgoing
//! connection takes one between the look and the bind.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// An address on loopback that nobody listens on and that this process has not given out lately.
///
/// # Errors
/// When all are taken.
pub fn free() -> Result<SocketAddrV4> {
    // Test processes that run side by side start at different places.
    let start = u16::try_from(std::process::id().wrapping_mul(97) % u32::from(COUNT))?;
    for _ in 0..COUNT {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(turn) % COUNT;
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!(
        "no free port from {FIRST} to {} on loopback",
        FIRST + COUNT - 1
    )
}
