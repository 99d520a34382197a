//! Messages between instances.

use crate::peers;
use crate::prelude::*;
use crate::testing::Gateway;

/// Says what its clients say, and keeps what other instances say.
#[derive(Default)]
struct Parrot {
    heard: Vec<(String, Vec<u8>)>,
}

#[crate::handler]
impl Handler for Parrot {
    fn on_message(&mut self, _: Client, message: Message) -> Result {
        peers::send("said", message.bytes())?;
        if message.bytes() == b"no" {
            bail!("told to fail");
        }
        Ok(())
    }

    fn on_peer_message(&mut self, topic: &str, payload: Vec<u8>) -> Result {
        for refused in [
            gateway::to_all().send("x"),
            peers::send("again", &payload),
            session::set("k", &1),
            directory::gateways().map(drop),
        ] {
            let refused = refused.unwrap_err();
            let not_permitted = matches!(refused.refused(), Some(Refused::NotPermitted(_)));
            assert!(not_permitted, "{refused}");
        }
        if topic == "bad" {
            bail!("not {topic}");
        }
        self.heard.push((topic.to_owned(), payload));
        Ok(())
    }
}

#[test]
fn what_is_said_to_other_instances_leaves_with_its_event_and_is_checked_at_once() {
    let mut gateway = Gateway::<Parrot>::start().unwrap();
    let client = gateway.connect().unwrap();
    gateway.send(client, "a").unwrap();
    gateway.send(client, "no").unwrap_err();
    gateway.send(client, "x".repeat(65_536)).unwrap();
    let large = gateway.send(client, "x".repeat(65_537)).unwrap_err();
    assert!(matches!(large.refused(), Some(Refused::QuotaExceeded(_))));
    let said: Vec<usize> = gateway
        .peer_messages()
        .iter()
        .map(|it| it.1.len())
        .collect();
    assert_eq!(said, [1, 65_536]);
    assert_eq!(gateway.peer_messages(), []);
}

#[test]
fn what_another_instance_says_changes_memory_and_nothing_else() {
    let mut gateway = Gateway::<Parrot>::start().unwrap();
    gateway.deliver_peer_message("t", "x").unwrap();
    let refused = gateway.deliver_peer_message("bad", "x").unwrap_err();
    assert_eq!(refused.to_string(), "not bad");
    let heard = [("t".to_owned(), b"x".to_vec())];
    assert_eq!(gateway.handler().heard, heard);
    assert_eq!(gateway.peer_messages(), []);
}
