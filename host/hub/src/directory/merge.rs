//! The parts of one answer become one.

use std::net::SocketAddrV4;

use tidegate_wire::Name;
use tidegate_wire::id::ClientId;
use tidegate_wire::query::{
    Answer, ClientInfo, CommandOutcome, GroupInfo, Query, TaskInfo, TimerInfo,
};
use tidegate_wire::sketch::Sketch;

/// Merges the parts of an answer to `query`. What does not belong to an answer to it is left out;
/// no parts give the answer of a cluster without clients. Nothing for a query whose one answer
/// cannot be made up.
#[must_use]
pub fn merge(query: &Query, parts: Vec<Answer>) -> Option<Answer> {
    Some(match query {
        Query::Clients { limit, .. } => {
            let (page, more) = page(parts, *limit, clients, |info: &ClientInfo| info.client);
            Answer::Clients { page, more }
        }
        Query::Uids { limit, .. } | Query::Groups { limit, .. } => {
            let (page, more) = page(parts, *limit, names, Name::clone);
            Answer::Names { page, more }
        }
        Query::GroupClients { limit, .. } => {
            let (page, more) = page(parts, *limit, group_clients, Clone::clone);
            Answer::GroupClients { page, more }
        }
        Query::GroupUids { limit, .. } => {
            let (page, more) = page(parts, *limit, group_uids, Clone::clone);
            Answer::GroupUids { page, more }
        }
        Query::Timers { limit, .. } => {
            let (page, more) = page(parts, *limit, timers, |info: &TimerInfo| info.timer);
            Answer::Timers { page, more }
        }
        Query::Tasks { limit, .. } => tasks(parts, *limit),
        Query::GroupInfos { limit, .. } => groups(parts, *limit),
        Query::ClientCount { .. } | Query::UidCount { .. } => {
            let counts = parts.into_iter().filter_map(count);
            Answer::Count(counts.fold(0, u64::saturating_add))
        }
        Query::UidCounts(list) | Query::GroupCounts(list) => {
            let mut sums = vec![0_u64; list.len()];
            for part in parts.into_iter().filter_map(counts) {
                for (sum, count) in sums.iter_mut().zip(part) {
                    *sum = sum.saturating_add(count);
                }
            }
            Answer::Counts(sums)
        }
        Query::UidEstimate => {
            let mut all = Sketch::default();
            for part in parts.into_iter().filter_map(sketch) {
                all.merge(&part);
            }
            Answer::Sketch(all.into_bytes())
        }
        Query::Command { .. } => {
            let mut all: Vec<_> = parts.into_iter().filter_map(commands).flatten().collect();
            all.sort_by_key(|(gateway, _)| *gateway);
            Answer::Commands(all)
        }
        // One answers for all.
        Query::Gateways
        | Query::CompareAndSet { .. }
        | Query::Once { .. }
        | Query::Request { .. } => return parts.into_iter().next(),
    })
}

/// Merges parts of a page: ordered, each key once, at most `limit` entries, and nothing behind the
/// last entry of a part that has more, for another entry of that part may come before it.
fn page<T, K: Ord>(
    parts: Vec<Answer>,
    limit: u32,
    read: impl Fn(Answer) -> Option<(Vec<T>, bool)>,
    key: impl Fn(&T) -> K,
) -> (Vec<T>, bool) {
    let limit = limit.max(1) as usize;
    let mut more = false;
    let mut bound: Option<K> = None;
    let mut all = Vec::new();
    for (entries, has_more) in parts.into_iter().filter_map(read) {
        if has_more {
            more = true;
            let last = entries.last().map(&key);
            bound = match (bound, last) {
                (Some(bound), Some(last)) => Some(bound.min(last)),
                (bound, last) => bound.or(last),
            };
        }
        all.extend(entries);
    }
    if let Some(bound) = bound {
        all.retain(|entry| key(entry) <= bound);
    }
    // Parts are ordered: runs that a stable sort only merges.
    all.sort_by_key(|entry| key(entry));
    all.dedup_by(|later, earlier| key(later) == key(earlier));
    if all.len() > limit {
        more = true;
        all.truncate(limit);
    }
    (all, more)
}

/// Each task lives in one shard: what they have counted adds up.
fn tasks(parts: Vec<Answer>, limit: u32) -> Answer {
    let mut sums = (0_u64, 0_u64, 0);
    for part in &parts {
        if let Answer::Tasks {
            waiting,
            under_way,
            oldest_ms,
            ..
        } = part
        {
            sums.0 = sums.0.saturating_add(*waiting);
            sums.1 = sums.1.saturating_add(*under_way);
            sums.2 = (*oldest_ms).max(sums.2);
        }
    }
    let (page, more) = page(parts, limit, task_page, |info: &TaskInfo| info.task);
    Answer::Tasks {
        waiting: sums.0,
        under_way: sums.1,
        oldest_ms: sums.2,
        page,
        more,
    }
}

/// Groups of several parts are one group: members add up, distinct uids may not.
fn groups(parts: Vec<Answer>, limit: u32) -> Answer {
    let mut sums = Vec::<GroupInfo>::new();
    for part in &parts {
        if let Answer::Groups { page, .. } = part {
            sums.extend(page.iter().cloned());
        }
    }
    sums.sort_by(|one, other| one.group.cmp(&other.group));
    sums.dedup_by(|later, first| {
        let same = later.group == first.group;
        if same {
            first.uids_may_repeat |= later.uids_may_repeat || (first.uids > 0 && later.uids > 0);
            first.clients = first.clients.saturating_add(later.clients);
            first.uids = first.uids.saturating_add(later.uids);
        }
        same
    });
    let (mut page, more) = page(parts, limit, group_page, |info: &GroupInfo| {
        info.group.clone()
    });
    for info in &mut page {
        if let Ok(place) = sums.binary_search_by(|sum| sum.group.cmp(&info.group))
            && let Some(sum) = sums.get(place)
        {
            *info = sum.clone();
        }
    }
    Answer::Groups { page, more }
}

macro_rules! readers {
    ($($name:ident: $pattern:pat => $value:expr, $type:ty;)*) => {
        $(
            /// None for an answer of another kind.
            fn $name(answer: Answer) -> Option<$type> {
                if let $pattern = answer { $value } else { None }
            }
        )*
    };
}

readers! {
    clients: Answer::Clients { page, more } => Some((page, more)), (Vec<ClientInfo>, bool);
    names: Answer::Names { page, more } => Some((page, more)), (Vec<Name>, bool);
    group_page: Answer::Groups { page, more } => Some((page, more)), (Vec<GroupInfo>, bool);
    group_clients: Answer::GroupClients { page, more } => Some((page, more)),
        (Vec<(Name, ClientId)>, bool);
    timers: Answer::Timers { page, more } => Some((page, more)), (Vec<TimerInfo>, bool);
    task_page: Answer::Tasks { page, more, .. } => Some((page, more)), (Vec<TaskInfo>, bool);
    group_uids: Answer::GroupUids { page, more } => Some((page, more)), (Vec<(Name, Name)>, bool);
    count: Answer::Count(count) => Some(count), u64;
    counts: Answer::Counts(counts) => Some(counts), Vec<u64>;
    sketch: Answer::Sketch(bytes) => Sketch::from_bytes(bytes), Sketch;
    commands: Answer::Commands(list) => Some(list), Vec<(SocketAddrV4, CommandOutcome)>;
}
