//! The conformance table: one test for each of the 53 rows of the Gateway API, `row_01` to
//! `row_53`. Each is checked from inside a handler and from outside over HTTP, with one gateway and
//! with three. A row runs once, whoever asks first; [`the_table_is_whole`] prints what ran.
//!
//! A row has a tenant of its own, so that it may ask about all clients.

#![allow(
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "an absent member of a JSON value is null, and whatever else comes fails a check"
)]

pub(crate) mod actor;
pub(crate) mod fixture;
mod table;
pub(crate) mod trial;

mod closing;
mod commands;
mod external;
mod groups;
mod info;
mod listing;
mod online;
mod selecting;
mod sending;
mod sessions;
mod uids;

use tidegate_tests::Outcome;

use table::Row;

/// The rows: where each is, its name, and its capability.
macro_rules! rows {
    ($($subject:ident::$name:ident $capability:literal)*) => {
        static ROWS: [Row; 53] = [$(Row::new(
            stringify!($name),
            $capability,
            |trial| Box::pin($subject::$name(trial)),
        )),*];

        $(
            #[test]
            fn $name() -> Outcome {
                table::outcome(stringify!($name))
            }
        )*
    };
}

rows! {
    sending::row_01 "send to one client"
    sending::row_02 "send to the current client"
    sending::row_03 "send to uids"
    sending::row_04 "send to groups"
    sending::row_05 "broadcast"
    sending::row_06 "broadcast except"
    sending::row_07 "send to an explicit list"
    sending::row_08 "raw send"
    closing::row_09 "close with a farewell"
    closing::row_10 "close the current client"
    closing::row_11 "destroy now"
    online::row_12 "is a client online"
    online::row_13 "is a uid online"
    online::row_14 "are uids online"
    uids::row_15 "bind a uid"
    uids::row_16 "unbind a uid"
    uids::row_17 "clients of a uid"
    uids::row_18 "clients of many uids"
    uids::row_19 "uid of a client"
    groups::row_20 "join a group"
    groups::row_21 "leave a group"
    groups::row_22 "dissolve a group"
    groups::row_23 "clients of groups"
    groups::row_24 "client count of a group"
    groups::row_25 "client counts of many groups"
    groups::row_26 "sessions of a group"
    groups::row_27 "uids of groups"
    groups::row_28 "uid count of a group"
    listing::row_29 "all groups"
    listing::row_30 "groups to uids"
    listing::row_31 "groups to uid counts"
    listing::row_32 "groups to clients"
    listing::row_33 "groups to client counts"
    listing::row_34 "all clients"
    listing::row_35 "count of all clients"
    listing::row_36 "all uids"
    listing::row_37 "uid count, exact and estimated"
    listing::row_38 "all sessions"
    info::row_39 "client info by fields"
    info::row_40 "groups of a client"
    sessions::row_41 "get a session"
    sessions::row_42 "replace a session"
    sessions::row_43 "merge into a session"
    sessions::row_44 "delete a session"
    sessions::row_45 "the current client's session"
    sessions::row_46 "the raw session"
    commands::row_47 "custom gateway command"
    commands::row_48 "request to one, some or all gateways"
    info::row_49 "client id and address"
    info::row_50 "list of gateways"
    selecting::row_51 "select fields by predicates"
    external::row_52 "external client"
    uids::row_53 "client count of a uid"
}

#[test]
fn the_table_is_whole() -> Outcome {
    table::print_and_judge()
}
