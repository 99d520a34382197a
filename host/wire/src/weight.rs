//! What a frame counts against the bound of a queue: about the memory that it holds.

use crate::deploy::{CANARY_CLIENTS_MAX, Deploy, Desired, REASON_BYTES_MAX};
use crate::effect::{Effect, Recipients, Reply, SessionChange};
use crate::event::{Arrival, ClientSnapshot, EventKind, HttpRequest, SessionEntries};
use crate::feed::{Change, Happening};
use crate::frame::{Custody, CustodyChange, Frame, GroupsChange};
use crate::handshake::SignIn;
use crate::http::{Fields, HttpCall};
use crate::membership::Node;
use crate::payload::Carry;
use crate::query::{Answer, Query, RequestError, Selector};

/// What any frame counts, and each part of one that comes in a list.
pub(crate) const FRAME_BYTES: usize = 128;
pub(crate) const PART_BYTES: usize = 32;

/// Payloads, names and texts are counted by length, lists by their parts.
pub fn weight(frame: &Frame) -> usize {
    let mut bytes = FRAME_BYTES;
    frame.carry(&mut |payload| bytes = bytes.saturating_add(payload.len()));
    bytes.saturating_add(texts(frame))
}

fn texts(frame: &Frame) -> usize {
    match frame {
        Frame::Heartbeat | Frame::Goodbye(_) => 0,
        Frame::FromWorker(frame) => frame.texts(),
        Frame::ToWorker(frame) => frame.texts(),
        Frame::Peer(frame) => frame.texts(),
        Frame::FromNode(frame) => frame.texts(),
        Frame::View(view) => {
            let left = std::mem::size_of_val(view.left.as_slice());
            view.nodes.iter().map(node).sum::<usize>() + left
        }
        Frame::Deploy(deploy) => deployed(deploy),
    }
}

fn deployed(deploy: &Deploy) -> usize {
    match deploy {
        Deploy::Enrol {
            node: enrolled,
            desired,
            ..
        } => node(enrolled) + wanted(desired),
        Deploy::State(desired) => wanted(desired),
        Deploy::Answer { overview, .. } => {
            let running = overview
                .workers
                .iter()
                .map(|it| it.running.len() * FRAME_BYTES);
            wanted(&overview.desired) + running.sum::<usize>()
        }
        Deploy::Status { running, .. } => running.len() * FRAME_BYTES,
        Deploy::Order { .. } | Deploy::Prepare { .. } => PART_BYTES * CANARY_CLIENTS_MAX / 10,
        Deploy::Progress { .. } | Deploy::TakenBack { .. } | Deploy::Step { .. } => {
            REASON_BYTES_MAX
        }
        Deploy::Ask { .. }
        | Deploy::Hold { .. }
        | Deploy::Discard { .. }
        | Deploy::Prepared { .. }
        | Deploy::Fetch { .. }
        | Deploy::Chunk { .. }
        | Deploy::Missing { .. } => 0,
    }
}

fn wanted(desired: &Desired) -> usize {
    let releases = desired.tenants.values().map(|it| it.releases.len());
    releases.sum::<usize>() * FRAME_BYTES * 4
}

pub(crate) fn asked(effects: &[Effect], query: &Query) -> usize {
    let effects: usize = effects.iter().map(effect).sum();
    effects
        + match query {
            Query::Clients { of, .. }
            | Query::ClientCount { of }
            | Query::Uids { of, .. }
            | Query::UidCount { of } => of.iter().map(selector).sum(),
            Query::UidCounts(list) | Query::GroupCounts(list) => names(list),
            Query::CompareAndSet { expected, new, .. } => {
                let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
                length(expected) + length(new)
            }
            Query::Once { effects, .. } => effects.iter().map(effect).sum(),
            Query::Command { gateways, .. } => gateways.as_ref().map_or(0, Vec::len) * PART_BYTES,
            Query::UidEstimate
            | Query::Timers { .. }
            | Query::Tasks { .. }
            | Query::Groups { .. }
            | Query::GroupInfos { .. }
            | Query::GroupClients { .. }
            | Query::GroupUids { .. }
            | Query::Request { .. }
            | Query::Gateways => 0,
        }
}

fn selector(selector: &Selector) -> usize {
    match selector {
        Selector::Everyone => 0,
        Selector::Clients(clients) => clients.len() * PART_BYTES,
        Selector::Uids(list) | Selector::Groups(list) | Selector::AllOfGroups(list) => names(list),
    }
}

pub(crate) fn found(answer: &Answer) -> usize {
    match answer {
        Answer::Clients { page, .. } => page
            .iter()
            .map(|info| FRAME_BYTES + names(&info.groups) + entries(&info.session))
            .sum(),
        Answer::Counts(counts) => std::mem::size_of_val(counts.as_slice()),
        Answer::Names { page, .. } => names(page),
        Answer::Groups { page, .. } => page.iter().map(|it| PART_BYTES * 2 + it.group.len()).sum(),
        Answer::GroupClients { page, .. } => page
            .iter()
            .map(|(group, _)| PART_BYTES * 2 + group.len())
            .sum(),
        Answer::GroupUids { page, .. } => page
            .iter()
            .map(|(group, uid)| PART_BYTES * 2 + group.len() + uid.len())
            .sum(),
        Answer::Timers { page, .. } => page.len() * FRAME_BYTES,
        Answer::Tasks { page, .. } => page.len() * FRAME_BYTES,
        Answer::Sketch(bytes) => bytes.len(),
        Answer::Gateways(list) => list.len() * PART_BYTES,
        Answer::Commands(list) => list.len() * FRAME_BYTES,
        Answer::Replied(Err(RequestError::Failed(text))) => text.len(),
        Answer::Count(_) | Answer::Swapped(_) | Answer::Applied(_) | Answer::Replied(_) => 0,
    }
}

pub(crate) fn happening(happening: &Happening) -> usize {
    FRAME_BYTES
        + match &happening.what {
            Change::Closed(_, groups) => names(groups),
            Change::Connected(_)
            | Change::Joined(_)
            | Change::Left(_)
            | Change::Bound(_)
            | Change::Unbound(_) => 0,
        }
}

pub(crate) fn names<T: AsRef<str>>(names: &[T]) -> usize {
    names
        .iter()
        .map(|name| PART_BYTES + name.as_ref().len())
        .sum()
}

fn entries(entries: &SessionEntries) -> usize {
    let entry = |(key, value): &(crate::Name, String)| PART_BYTES + key.len() + value.len();
    entries.iter().map(entry).sum()
}

fn pairs(pairs: &[(String, String)]) -> usize {
    let pair = |(key, value): &(String, String)| PART_BYTES + key.len() + value.len();
    pairs.iter().map(pair).sum()
}

fn fields(fields: &Fields) -> usize {
    let line = |(name, value): &(String, Vec<u8>)| PART_BYTES + name.len() + value.len();
    fields.iter().map(line).sum()
}

/// What a reply counts besides its payload.
pub fn reply(reply: &Reply) -> usize {
    match reply {
        Reply::Ok(_) | Reply::Unhandled => 0,
        Reply::Failed(text) => text.len(),
        Reply::Accepted(it) => entries(&it.session) + names(&it.groups) + pairs(&it.headers),
        Reply::Rejected(it) => pairs(&it.headers),
        Reply::Http(it) => fields(&it.headers),
    }
}

fn http(request: &HttpRequest) -> usize {
    request.path.len() + pairs(&request.query) + pairs(&request.headers) + pairs(&request.cookies)
}

fn called(call: &HttpCall) -> usize {
    call.target.len() + call.authority.len() + fields(&call.headers)
}

/// What a client's custody counts.
pub fn custody(custody: &Custody) -> usize {
    FRAME_BYTES + names(&custody.groups) + session(&custody.session)
}

/// What a change of it counts.
pub fn custody_change(change: &CustodyChange) -> usize {
    let groups = match &change.groups {
        GroupsChange::All(groups) => names(groups),
        GroupsChange::Some(groups) => groups.iter().map(|(it, _)| PART_BYTES + it.len()).sum(),
    };
    let entry = |(key, value): &(crate::Name, Option<String>)| {
        PART_BYTES + key.len() + value.as_ref().map_or(0, String::len)
    };
    FRAME_BYTES + groups + change.entries.iter().map(entry).sum::<usize>()
}

/// What a snapshot of a client counts.
pub fn session(snapshot: &ClientSnapshot) -> usize {
    entries(&snapshot.entries) + snapshot.arrival.as_deref().map_or(0, arrival)
}

fn arrival(arrival: &Arrival) -> usize {
    let subprotocol = arrival.subprotocol.as_ref().map_or(0, |it| it.len());
    PART_BYTES + arrival.peer.listener.len() + subprotocol
}

/// What effects count, with their payloads.
pub fn effects(effects: &[Effect]) -> usize {
    let mut bytes: usize = effects.iter().map(effect).sum();
    for effect in effects {
        effect.carry(&mut |payload| bytes = bytes.saturating_add(payload.len()));
    }
    bytes
}

/// What an event counts besides its payloads.
pub fn event(kind: &EventKind) -> usize {
    match kind {
        EventKind::Connect {
            arrival: of,
            request,
        } => arrival(of) + request.as_deref().map_or(0, http),
        EventKind::Close(closed) => {
            names(&closed.groups) + closed.frame.as_ref().map_or(0, |it| it.reason.len())
        }
        EventKind::Timer { .. } | EventKind::Task { .. } => PART_BYTES,
        EventKind::TaskFinished { outcome, .. } => {
            PART_BYTES + outcome.as_ref().err().map_or(0, String::len)
        }
        EventKind::Handshake { arrival: of, said } => {
            arrival(of)
                + match said {
                    SignIn::Request(request) => http(request),
                    SignIn::Message(_) => 0,
                }
        }
        EventKind::Http { arrival: of, call } => arrival(of) + called(call),
        EventKind::Message(_)
        | EventKind::Request { .. }
        | EventKind::BufferFull { .. }
        | EventKind::BufferDrain => 0,
    }
}

pub(crate) fn node(node: &Node) -> usize {
    PART_BYTES + node.name.len() + names(&node.tags)
}

pub(crate) fn effect(effect: &Effect) -> usize {
    FRAME_BYTES
        + match effect {
            Effect::Send { to, except, .. } | Effect::SendRaw { to, except, .. } => {
                except.len() * PART_BYTES + recipients(to)
            }
            Effect::SendLatest {
                to, key, except, ..
            } => except.len() * PART_BYTES + recipients(to) + key.len(),
            Effect::Session { change, .. } => match change {
                SessionChange::Set { value, .. } | SessionChange::Merge { value, .. } => {
                    value.len()
                }
                SessionChange::Replace(session) => entries(session),
                SessionChange::Remove { .. } | SessionChange::Clear => 0,
            },
            Effect::Close { frame, .. } | Effect::CloseUid { frame, .. } => {
                frame.as_deref().map_or(0, |it| it.reason.len())
            }
            Effect::PeerMessage(message) => message.topic.len(),
            Effect::SetTimer { .. }
            | Effect::CancelTimer { .. }
            | Effect::SubmitTask { .. }
            | Effect::CancelTask { .. } => PART_BYTES,
            Effect::Destroy { .. }
            | Effect::BindUid { .. }
            | Effect::UnbindUid { .. }
            | Effect::JoinGroup { .. }
            | Effect::LeaveGroup { .. }
            | Effect::Ungroup { .. }
            | Effect::Command { .. } => 0,
        }
}

fn recipients(to: &Recipients) -> usize {
    match to {
        Recipients::Clients(clients) => clients.len() * PART_BYTES,
        Recipients::Uids(list) | Recipients::Groups(list) => names(list),
        Recipients::AnyOf {
            clients,
            uids,
            groups,
        } => clients.len() * PART_BYTES + names(uids) + names(groups),
        Recipients::Client(_) | Recipients::Everyone => 0,
    }
}

#[cfg(test)]
mod tests {
    use crate::effect::{Commit, Outcome};
    use crate::frame::WorkerFrame;
    use crate::id::{ClientId, EventId, Incarnation};

    use super::*;

    #[test]
    fn texts_and_lists_weigh_as_payloads_do() {
        let client = ClientId {
            ip: 1,
            port: 2,
            connection: 3,
        };
        let value = "v".repeat(10_000);
        let set = SessionChange::Set {
            key: "k".into(),
            value: value.clone(),
        };
        let replace = SessionChange::Replace(vec![("k".into(), value)]);
        let many = Effect::SendRaw {
            to: Recipients::Clients(vec![client; 1000]),
            bytes: vec![0; 100].into(),
            except: Vec::new(),
        };
        let changes = [set, replace].map(|change| Effect::Session { client, change });
        for effect in changes.into_iter().chain([many]) {
            let commit = Commit {
                event: EventId {
                    gateway: Incarnation(1),
                    shard: 0,
                    sequence: 1,
                },
                attempt: 0,
                client,
                outcome: Outcome::Done,
                effects: vec![effect],
                reply: None,
            };
            assert!(weight(&WorkerFrame::Commit(commit).into()) >= 10_000);
        }
        assert_eq!(weight(&WorkerFrame::Drain.into()), FRAME_BYTES);
    }
}
