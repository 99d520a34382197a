//! What a bad plugin does, on purpose: the host's tests need one.

use tidegate_sdk::prelude::*;

/// Bytes that `X:grow` allocates at a time.
const GROW_BYTES: usize = 1 << 20;

pub(crate) fn run(client: Client, how: &str) -> Result {
    match how {
        "trap" => trap(),
        "spin" => loop {
            std::hint::black_box(());
        },
        "grow" => grow(),
        "err" => {
            gateway::to_all().send("leak")?;
            client.join("leak")?;
            bail!("failing on purpose, after a send and a join")
        }
        other => bail!("unknown command \"X:{other}\": trap, spin, grow or err is expected"),
    }
}

/// Under wasm an abort is the `unreachable` instruction.
fn trap() -> ! {
    std::process::abort()
}

/// Touches every page, so that it costs memory and not only addresses.
fn grow() -> ! {
    let mut kept = Vec::new();
    loop {
        kept.push(std::hint::black_box(vec![0xA5_u8; GROW_BYTES]));
    }
}
