//! Questions, requests and commands on the fake.

use std::time::Duration;

use serde_json::json;

use super::{Typed, during, two};
use crate::directory::{self, ClientAddress, Fields, Selection, Selector};
use crate::prelude::*;
use crate::testing::{CommandGateway, Gateway};

#[test]
fn a_question_sees_what_the_event_has_asked_for_and_nothing_remains_of_a_failed_one() {
    let (mut gateway, a, b) = two();
    let failed = during(&mut gateway, a, move |a| {
        a.join("g")?;
        b.join("g")?;
        b.bind_uid("bob")?;
        b.update_session(&json!({"k": 1}))?;
        assert_eq!(directory::in_group("g").count()?.value, 2);
        assert_eq!(directory::with_uid("bob").clients().all()?.items, [b]);
        assert_eq!(b.session::<serde_json::Value>()?, Some(json!({"k": 1})));
        b.close()?;
        assert!(!b.is_online()?);
        assert_eq!(directory::in_group("g").clients().all()?.items, [a]);
        bail!("no")
    });
    assert_eq!(failed.unwrap_err().to_string(), "no");
    during(&mut gateway, a, move |_| {
        assert_eq!(directory::in_group("g").count()?.value, 0);
        assert!(b.is_online()?);
        Ok(())
    })
    .unwrap();
}

#[test]
fn selections_unite_and_count_each_client_once() {
    let (mut gateway, a, b) = two();
    let c = gateway.connect().unwrap();
    during(&mut gateway, a, move |a| {
        for client in [a, b] {
            client.join("g")?;
        }
        b.join("h")?;
        c.bind_uid("u")?;
        let both = directory::in_all_groups(["g", "h"]);
        assert_eq!(both.clients().all()?.items, [b]);
        let united = directory::in_groups(["g", "h"])
            .or(directory::with_uid("u"))
            .or(Selector::Clients(vec![c, a]));
        assert_eq!(united.count()?.value, 3);
        assert_eq!(united.uids().all()?.items, ["u"]);
        assert_eq!(directory::in_all_groups::<&str>([]).count()?.value, 0);
        assert_eq!(Selection::from(Vec::new()).count()?.value, 0);
        assert_eq!(directory::everyone().uid_count()?.value, 1);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_list_comes_in_pages_also_behind_what_is_gone() {
    let (mut gateway, a, b) = two();
    let c = gateway.connect().unwrap();
    during(&mut gateway, a, move |_| {
        let first = directory::everyone().clients().limit(2).page()?;
        assert_eq!(first.items, [a, b]);
        b.destroy()?;
        let rest = directory::everyone().clients().after(first.next).page()?;
        assert_eq!((rest.items, rest.next), (vec![c], None));
        for one in directory::everyone().clients().limit(1) {
            one?.join("g")?;
        }
        let pairs = directory::group_clients().limit(1).all()?;
        assert_eq!(pairs.items, [("g".to_owned(), a), ("g".to_owned(), c)]);
        for wrong in [
            directory::groups().after("c[]".to_owned()).page().err(),
            directory::groups().limit(0).page().err(),
            directory::groups().limit(1001).page().err(),
        ] {
            let wrong = wrong.unwrap();
            let refused = wrong.refused();
            assert!(matches!(refused, Some(Refused::InvalidArgument(_))));
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_client_is_told_by_fields() {
    let (mut gateway, a, b) = two();
    during(&mut gateway, a, move |a| {
        a.bind_uid("ann")?;
        a.join("g")?;
        a.update_session(&json!({"name": "ann", "visits": 2, "tags": []}))?;
        let none = a.info(Fields::NONE)?.unwrap();
        assert_eq!(none, crate::ClientInfo::new(a));
        let all = a.info(Fields::ALL)?.unwrap();
        assert_eq!(all.uid.as_deref(), Some("ann"));
        assert_eq!(all.groups, ["g"]);
        assert_eq!(all.session::<Typed>()?.visits, 2);
        assert_eq!(all.session_key::<u32>("visits")?, Some(2));
        assert_eq!(all.bytes_in, Some(2));
        assert!(all.last_message_at_ms >= all.connected_at_ms);
        assert_eq!(all.peer.unwrap().listener, "testing");
        b.destroy()?;
        assert_eq!(b.info(Fields::ALL)?, None);
        assert_eq!(b.session::<Typed>()?, None);
        Ok(())
    })
    .unwrap();
}

#[test]
fn uids_and_groups_are_counted() {
    let (mut gateway, a, b) = two();
    during(&mut gateway, a, move |a| {
        for client in [a, b] {
            client.bind_uid("0")?;
            client.join("ü")?;
        }
        let online = directory::are_uids_online(&["0", "nobody"])?;
        assert_eq!(online.value, [true, false]);
        let clients = directory::clients_of_uids(&["nobody", "0"])?;
        assert_eq!(clients.value, [vec![], vec![a, b]]);
        let counts = directory::client_counts_of_groups(&["ü", "x"])?;
        assert_eq!(counts.value, [2, 0]);
        let infos = directory::group_infos().all()?.items;
        assert_eq!((infos[0].client_count, infos[0].uid_count), (2, 1));
        assert_eq!(directory::group_uids().all()?.items.len(), 1);
        assert_eq!(directory::uid_count_estimate()?.value, 1);
        assert!(directory::are_uids_online(&["x".repeat(256).as_str()]).is_err());
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_compare_and_set_acts_at_once_and_stays() {
    let (mut gateway, a, b) = two();
    let failed = during(&mut gateway, a, move |a| {
        a.compare_and_set("k", None::<&()>, Some(&json!({"x": 1, "y": 2})))?;
        // The same value in another order, and this event's own session shows it.
        assert_eq!(session::get("k")?, Some(json!({"y": 2, "x": 1})));
        let conflict = a.compare_and_set("k", Some(&1), Some(&2)).unwrap_err();
        assert_eq!(conflict.refused(), Some(&Refused::Conflict));
        a.compare_and_set("k", Some(&json!({"y": 2, "x": 1})), Some(&3))?;
        // Own changes do not count.
        b.update_session(&json!({"k": 1}))?;
        b.compare_and_set("k", None::<&()>, Some(&5))?;
        bail!("no")
    });
    assert_eq!(failed.unwrap_err().to_string(), "no");
    assert_eq!(gateway.session(a)["k"], 3);
    assert_eq!(gateway.session(b)["k"], 5);
    during(&mut gateway, a, move |a| {
        a.compare_and_set("k", Some(&3), None::<&()>)?;
        b.destroy()
    })
    .unwrap();
    assert!(gateway.session(a).is_empty());
    during(&mut gateway, a, move |_| {
        let offline = b.compare_and_set("k", None::<&()>, Some(&1)).unwrap_err();
        assert_eq!(offline.refused(), Some(&Refused::Offline));
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_compare_and_set_is_read_under_the_changes_of_its_own_event() {
    let (mut gateway, a, _) = two();
    gateway.set_session(a, &json!({"k": {"x": 1}})).unwrap();
    during(&mut gateway, a, |a| {
        a.merge_session(&json!({"k": {"y": 2}}))?;
        a.compare_and_set("k", Some(&json!({"x": 1})), Some(&json!({"x": 3})))?;
        assert_eq!(session::get("k")?, Some(json!({"x": 3, "y": 2})));
        session::set("k", &4)?;
        a.compare_and_set("k", Some(&json!({"x": 3})), Some(&5))?;
        assert_eq!(session::get("k")?, Some(4));
        Ok(())
    })
    .unwrap();
    assert_eq!(gateway.session(a)["k"], 4);
}

#[test]
fn only_gateways_that_could_matter_are_missing() {
    let (mut gateway, a, _) = two();
    gateway.set_missing(&["10.0.0.1:2000"]);
    during(&mut gateway, a, |a| {
        assert!(directory::of_clients(&[a]).count()?.is_whole());
        assert!(a.is_online()?);
        let all = directory::gateways()?;
        assert_eq!(all, ["10.0.0.1:2000", "127.0.0.1:3000"]);
        let there = directory::client_at(&ClientAddress {
            gateway: "10.0.0.1:2000".to_owned(),
            connection: 1,
        })?;
        let unknown = there.is_online().unwrap_err();
        assert_eq!(unknown.refused(), Some(&Refused::Timeout));
        let unknown = there.compare_and_set("k", None::<&()>, Some(&1));
        assert_eq!(unknown.unwrap_err().refused(), Some(&Refused::Timeout));
        let elsewhere = directory::client_at(&ClientAddress {
            gateway: "10.0.0.2:2000".to_owned(),
            connection: 1,
        })?;
        assert!(!elsewhere.is_online()?);
        let answers = directory::command(None, "echo", b"", Duration::from_secs(1))?;
        assert_eq!(answers[0].1, Err(Refused::Timeout));
        assert!(matches!(answers[1].1, Err(Refused::NotPermitted(_))));
        Ok(())
    })
    .unwrap();
    gateway.set_missing(&["127.0.0.1:3000"]);
    during(&mut gateway, a, |a| {
        assert_eq!(directory::everyone().count()?.value, 0);
        assert!(a.is_online().is_err());
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_partial_answer_names_whom_it_misses() {
    let (mut gateway, a, _) = two();
    gateway.set_missing(&["10.0.0.1:2000"]);
    during(&mut gateway, a, |_| {
        let count = directory::everyone().count()?;
        assert!(!count.is_whole());
        assert_eq!(count.missing, ["10.0.0.1:2000"]);
        let mut all = directory::everyone().clients().limit(1).into_iter();
        assert_eq!(all.by_ref().count(), 2);
        assert_eq!(all.missing(), ["10.0.0.1:2000"]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn an_address_is_inside_the_id() {
    let (mut gateway, a, _) = two();
    during(&mut gateway, a, |a| {
        let gateways = directory::gateways()?;
        let address = a.address()?;
        assert_eq!(gateways, [address.gateway.as_str()]);
        assert_eq!(directory::client_at(&address)?, a);
        let wrong = ClientAddress {
            gateway: "localhost".to_owned(),
            connection: 1,
        };
        assert!(directory::client_at(&wrong).is_err());
        Ok(())
    })
    .unwrap();
}

#[test]
fn commands_are_answered_by_the_test() {
    let (mut gateway, a, _) = two();
    let ask = |name: &str| directory::command(None, name, b"x", Duration::from_secs(1));
    during(&mut gateway, a, move |_| {
        assert!(matches!(ask("echo")?[0].1, Err(Refused::NotPermitted(_))));
        Ok(())
    })
    .unwrap();
    gateway.answer_commands(|name, payload| match name {
        "echo" => Ok(payload.to_owned()),
        other => bail!("no {other}"),
    });
    during(&mut gateway, a, move |_| {
        assert_eq!(ask("echo")?[0].1, Ok(b"x".to_vec()));
        assert_eq!(ask("what")?[0].1, Err(Refused::Other("no what".to_owned())));
        let both = Some(&["127.0.0.1:3000", "10.0.0.1:1"][..]);
        let at_once = directory::command(both, "echo", b"", Duration::ZERO);
        assert_eq!(at_once.unwrap_err().refused(), Some(&Refused::Timeout));
        let answers = directory::command(both, "echo", b"", Duration::from_secs(1))?;
        assert_eq!(answers[0], ("10.0.0.1:1".to_owned(), Err(Refused::Offline)));
        assert_eq!(answers[1].1, Ok(Vec::new()));
        gateway::command(None, "echo", b"later")
    })
    .unwrap();
    let started = gateway.started_commands();
    assert_eq!(started, [("echo".to_owned(), b"later".to_vec())]);
}

#[derive(Default)]
struct Desk;

#[crate::handler]
impl Handler for Desk {
    fn on_request(&mut self, name: &str, payload: Vec<u8>) -> Result<Vec<u8>> {
        assert!(session::get_json("k").is_err());
        assert!(!worker::event_id().is_empty());
        gateway::to_all().send("asked")?;
        match name {
            "echo" => Ok(payload),
            _ => bail!("no"),
        }
    }
}

#[test]
fn a_request_is_an_event_without_a_client() {
    let mut gateway = Gateway::<Desk>::start().unwrap();
    let client = gateway.connect().unwrap();
    assert_eq!(gateway.request("echo", "x").unwrap(), b"x");
    assert_eq!(gateway.received(client), [Message::from("asked")]);
    assert!(gateway.request("fail", "x").is_err());
    assert!(gateway.received(client).is_empty());
    let (mut other, ..) = two();
    let refused = other.request("echo", "").unwrap_err().to_string();
    assert!(refused.contains("takes no requests"), "{refused}");
}

#[derive(Default)]
struct Counting {
    calls: u32,
}

#[crate::command]
impl Command for Counting {
    fn execute(&mut self, name: &str, payload: Vec<u8>) -> Result<Vec<u8>> {
        self.calls += 1;
        assert!(directory::everyone().count().is_err());
        assert!(gateway::command(None, "more", b"").is_err());
        gateway::to_group("g").send(payload)?;
        let infos = hub::infos(hub::everyone(), Fields::UID | Fields::GROUPS).all()?;
        match name {
            "uids" => Ok(serde_json::to_vec(
                &infos.into_iter().map(|i| i.uid).collect::<Vec<_>>(),
            )?),
            _ => bail!("call {} at {}", self.calls, hub::gateway_address()),
        }
    }
}

#[test]
fn a_command_sees_its_hub_and_its_effects_happen_when_it_is_done() {
    let mut gateway = CommandGateway::<Counting>::start();
    let (a, b) = (gateway.connect().unwrap(), gateway.connect().unwrap());
    gateway.bind_uid(a, "ann");
    gateway.join(b, "g");
    assert_eq!(
        gateway.execute("uids", "hi").unwrap(),
        br#"["ann",null]"#.to_vec()
    );
    assert_eq!(gateway.received(b), [Message::Binary(b"hi".to_vec())]);
    let failed = gateway.execute("fail", "hi").unwrap_err().to_string();
    assert_eq!(failed, "call 2 at 127.0.0.1:3000");
    assert!(gateway.received(b).is_empty());
}
