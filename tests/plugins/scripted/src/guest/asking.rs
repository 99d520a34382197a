//! Questions of a script: a name and its arguments, separated by blanks. `-` stands for none, lists
//! are separated by commas. The answer is told as it prints.

use super::bindings::tidegate::plugin::directory::{self, ClientAddress, ClientField, Selector};

pub(super) fn ask(line: &str) -> String {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let words: Vec<&str> = words.collect();
    let word = |at: usize| words.get(at).copied().unwrap_or_default();
    let some = |at: usize| (word(at) != "-").then(|| word(at).to_owned());
    let many = |at: usize| list(word(at));
    let number = |at: usize| word(at).parse().unwrap_or(0);
    let of = |at: usize| selectors(word(at));
    let all = ClientField::PEER
        | ClientField::UID
        | ClientField::GROUPS
        | ClientField::SESSION
        | ClientField::TIMES
        | ClientField::TRAFFIC;
    match name {
        "is-online" => format!("{:?}", directory::is_online(word(0))),
        "are-uids-online" => format!("{:?}", directory::are_uids_online(&many(0))),
        "clients" => format!(
            "{:?}",
            directory::clients(&of(0), some(1).as_deref(), number(2))
        ),
        "client-count" => format!("{:?}", directory::client_count(&of(0))),
        "infos" => format!(
            "{:?}",
            directory::infos(&of(0), all, some(1).as_deref(), number(2))
        ),
        "info" => format!("{:?}", directory::info(word(0), ClientField::PEER)),
        "clients-of-uids" => format!("{:?}", directory::clients_of_uids(&many(0))),
        "uids" => format!(
            "{:?}",
            directory::uids(&of(0), some(1).as_deref(), number(2))
        ),
        "uid-count" => format!("{:?}", directory::uid_count(&of(0))),
        "uid-count-estimate" => format!("{:?}", directory::uid_count_estimate()),
        "groups" => format!("{:?}", directory::groups(some(0).as_deref(), number(1))),
        "group-infos" => format!(
            "{:?}",
            directory::group_infos(some(0).as_deref(), number(1))
        ),
        "client-counts-of-groups" => {
            format!("{:?}", directory::client_counts_of_groups(&many(0)))
        }
        "group-clients" => format!(
            "{:?}",
            directory::group_clients(some(0).as_deref(), number(1))
        ),
        "group-uids" => format!("{:?}", directory::group_uids(some(0).as_deref(), number(1))),
        "session-of" => format!("{:?}", directory::session_of(word(0))),
        "cas" => format!(
            "{:?}",
            directory::compare_and_set_session(
                word(0),
                word(1),
                some(2).as_deref(),
                some(3).as_deref()
            )
        ),
        "command" => format!(
            "{:?}",
            directory::command(
                some(0).map(|text| list(&text)).as_deref(),
                word(1),
                word(2).as_bytes(),
                number(3)
            )
        ),
        "gateways" => format!("{:?}", directory::gateways()),
        "address-of" => format!("{:?}", directory::address_of(word(0))),
        "client-at" => format!(
            "{:?}",
            directory::client_at(&ClientAddress {
                gateway: word(0).to_owned(),
                connection: number(1),
            })
        ),
        // As often as it is told; how often it was answered.
        "often" => (0..number(0))
            .take_while(|_| directory::gateways().is_ok())
            .count()
            .to_string(),
        other => format!("no such question: {other}"),
    }
}

fn list(text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    text.split(',').map(ToOwned::to_owned).collect()
}

/// `everyone`, or `uids=a,b`, or several of them separated by `+`.
fn selectors(text: &str) -> Vec<Selector> {
    let one = |text: &str| {
        let (kind, names) = text.split_once('=').unwrap_or((text, ""));
        let names = list(names);
        match kind {
            "clients" => Selector::Clients(names),
            "uids" => Selector::Uids(names),
            "groups" => Selector::Groups(names),
            "all-of" => Selector::AllOfGroups(names),
            _ => Selector::Everyone,
        }
    };
    text.split('+').map(one).collect()
}
