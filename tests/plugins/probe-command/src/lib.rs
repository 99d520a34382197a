//! The command component that goes with the probe; its commands are in the probe's `README.md`.

use tidegate_sdk::prelude::*;

/// The component.
#[derive(Default)]
pub struct ProbeCommand;

#[tidegate_sdk::command]
impl Command for ProbeCommand {
    fn execute(&mut self, name: &str, payload: Vec<u8>) -> Result<Vec<u8>> {
        match name {
            "echo" => Ok(payload),
            "address" => Ok(hub::gateway_address().into_bytes()),
            "count" => Ok(hub::count(&hub::everyone())?.to_string().into_bytes()),
            "list" => list(),
            "broadcast" => {
                // As text where it can be, so that a text sent through this stays one.
                let sent = match String::from_utf8(payload) {
                    Ok(text) => gateway::to_all().send(text),
                    Err(binary) => gateway::to_all().send(binary.into_bytes()),
                };
                sent.map(|()| Vec::new())
            }
            "fail" => bail!("{}", String::from_utf8_lossy(&payload)),
            // Under wasm an abort is the `unreachable` instruction.
            "trap" => std::process::abort(),
            "loop" => loop {
                std::hint::black_box(());
            },
            "flood" => loop {
                gateway::to_all().send("flood")?;
            },
            other => bail!("unknown command {other:?}; the probe's README lists them"),
        }
    }
}

fn list() -> Result<Vec<u8>> {
    let page = hub::infos(hub::everyone(), Fields::NONE).page()?;
    let ids: Vec<Client> = page.into_iter().map(|info| info.client).collect();
    Ok(serde_json::to_vec(&ids)?)
}

#[cfg(test)]
mod tests {
    use super::ProbeCommand;
    use tidegate_sdk::prelude::*;
    use tidegate_sdk::testing::CommandGateway;

    #[test]
    fn commands_see_and_reach_the_clients_of_their_gateway() {
        let mut gateway = CommandGateway::<ProbeCommand>::start();
        let (a, b) = (gateway.connect().unwrap(), gateway.connect().unwrap());
        assert_eq!(gateway.execute("echo", b"\xff").unwrap(), b"\xff");
        assert_eq!(gateway.execute("count", "").unwrap(), b"2");
        let ids = gateway.execute("list", "").unwrap();
        let ids: Vec<Client> = serde_json::from_slice(&ids).unwrap();
        assert_eq!(ids, [a, b]);
        assert!(!gateway.execute("address", "").unwrap().is_empty());
        gateway.execute("broadcast", "hi").unwrap();
        assert_eq!(gateway.received(b), [Message::from("hi")]);
        let failed = gateway.execute("fail", "why").unwrap_err();
        assert_eq!(failed.to_string(), "why");
        assert!(gateway.execute("what", "").is_err());
    }
}
