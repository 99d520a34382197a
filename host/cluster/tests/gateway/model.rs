//! Any interleaving of effects and queries from two handlers, on one gateway and on two, agrees
//! with a model: plain maps of what is committed, and a handler's own changes on top.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidegate_wire::Name;
use tidegate_wire::query::{
    Answer, Answered, ClientFields, ClientInfo, GroupInfo, Query, Selector, SwapRefusal,
};

use super::cluster::{Cluster, Member};
use super::*;

const STEPS: usize = 400;
const CLIENTS: usize = 5;

#[derive(Clone, Default)]
struct Someone {
    uid: Option<Name>,
    groups: BTreeSet<Name>,
    session: BTreeMap<Name, String>,
}

/// What is committed, and what a handler sees on top of it.
#[derive(Clone, Default)]
struct Model {
    clients: BTreeMap<ClientId, Someone>,
}

impl Model {
    fn apply(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Destroy { client } => {
                    self.clients.remove(client);
                }
                Effect::BindUid { client, uid } => self.change(*client, |it| {
                    it.uid = Some(uid.clone());
                }),
                Effect::UnbindUid { client } => self.change(*client, |it| it.uid = None),
                Effect::JoinGroup { client, group } => self.change(*client, |it| {
                    it.groups.insert(group.clone());
                }),
                Effect::LeaveGroup { client, group } => self.change(*client, |it| {
                    it.groups.remove(group);
                }),
                Effect::Ungroup { group } => {
                    for it in self.clients.values_mut() {
                        it.groups.remove(group);
                    }
                }
                Effect::Session { client, change } => self.change(*client, |it| match change {
                    SessionChange::Set { key, value } => {
                        it.session.insert(key.clone(), value.clone());
                    }
                    SessionChange::Remove { key } => {
                        it.session.remove(key);
                    }
                    other => panic!("not made here: {other:?}"),
                }),
                other => panic!("not made here: {other:?}"),
            }
        }
    }

    fn change(&mut self, client: ClientId, change: impl FnOnce(&mut Someone)) {
        if let Some(someone) = self.clients.get_mut(&client) {
            change(someone);
        }
    }

    fn chosen(&self, of: &[Selector]) -> Vec<(&ClientId, &Someone)> {
        let named = |(id, it): &(&ClientId, &Someone)| {
            of.iter().any(|selector| match selector {
                Selector::Everyone => true,
                Selector::Clients(clients) => clients.contains(id),
                Selector::Uids(uids) => it.uid.as_ref().is_some_and(|uid| uids.contains(uid)),
                Selector::Groups(groups) => groups.iter().any(|name| it.groups.contains(name)),
                Selector::AllOfGroups(groups) => {
                    !groups.is_empty() && groups.iter().all(|name| it.groups.contains(name))
                }
            })
        };
        self.clients.iter().filter(named).collect()
    }

    fn uids(&self, of: &[Selector]) -> BTreeSet<Name> {
        let chosen = self.chosen(of).into_iter();
        chosen.filter_map(|(_, it)| it.uid.clone()).collect()
    }

    fn groups(&self) -> BTreeSet<Name> {
        let all = self.clients.values();
        all.flat_map(|it| it.groups.iter().cloned()).collect()
    }

    fn in_group(group: &Name) -> Vec<Selector> {
        vec![Selector::Groups(vec![group.clone()])]
    }

    /// What a query must give. `None` for those that act.
    fn answer(&self, query: &Query) -> Option<Answer> {
        let count = |names: &[Name], of: fn(Vec<Name>) -> Selector| {
            let one = |name: &Name| self.chosen(&[of(vec![name.clone()])]).len() as u64;
            Answer::Counts(names.iter().map(one).collect())
        };
        Some(match query {
            Query::Clients {
                of, after, limit, ..
            } => {
                let all = self.chosen(of).into_iter();
                let info = |(id, it): (&ClientId, &Someone)| ClientInfo {
                    uid: it.uid.clone(),
                    groups: it.groups.iter().cloned().collect(),
                    session: it.session.clone().into_iter().collect(),
                    ..ClientInfo::new(*id)
                };
                let (page, more) = cut(all.map(info), |it| it.client, after.as_ref(), *limit);
                Answer::Clients { page, more }
            }
            Query::ClientCount { of } => Answer::Count(self.chosen(of).len() as u64),
            Query::UidCounts(names) => count(names, Selector::Uids),
            Query::GroupCounts(names) => count(names, Selector::Groups),
            Query::Uids { of, after, limit } => {
                let all = self.uids(of).into_iter();
                let (page, more) = cut(all, Name::clone, after.as_ref(), *limit);
                Answer::Names { page, more }
            }
            Query::UidCount { of } => Answer::Count(self.uids(of).len() as u64),
            Query::UidEstimate => Answer::Count(self.uids(&[Selector::Everyone]).len() as u64),
            Query::Groups { after, limit } => {
                let all = self.groups().into_iter();
                let (page, more) = cut(all, Name::clone, after.as_ref(), *limit);
                Answer::Names { page, more }
            }
            Query::GroupInfos { after, limit } => {
                let info = |group: Name| GroupInfo {
                    clients: self.chosen(&Self::in_group(&group)).len() as u64,
                    uids: self.uids(&Self::in_group(&group)).len() as u64,
                    uids_may_repeat: false,
                    group,
                };
                let all = self.groups().into_iter().map(info);
                let (page, more) = cut(all, |it| it.group.clone(), after.as_ref(), *limit);
                Answer::Groups { page, more }
            }
            Query::GroupClients { after, limit } => {
                let pairs = self.groups().into_iter().flat_map(|group| {
                    let members = self.chosen(&Self::in_group(&group)).into_iter();
                    members.map(move |(id, _)| (group.clone(), *id))
                });
                let (page, more) = cut(pairs, Clone::clone, after.as_ref(), *limit);
                Answer::GroupClients { page, more }
            }
            Query::GroupUids { after, limit } => {
                let pairs = self.groups().into_iter().flat_map(|group| {
                    let uids = self.uids(&Self::in_group(&group)).into_iter();
                    uids.map(move |uid| (group.clone(), uid))
                });
                let (page, more) = cut(pairs, Clone::clone, after.as_ref(), *limit);
                Answer::GroupUids { page, more }
            }
            _ => return None,
        })
    }

    fn swap(&mut self, query: &Query) -> Answer {
        let Query::CompareAndSet {
            client,
            key,
            expected,
            new,
            nth: _,
        } = query
        else {
            panic!("not a compare-and-set: {query:?}")
        };
        let result = match self.clients.get_mut(client) {
            None => Err(SwapRefusal::Offline),
            Some(it) if it.session.get(key) != expected.as_ref() => Err(SwapRefusal::Conflict),
            Some(it) => {
                match new {
                    Some(new) => it.session.insert(key.clone(), new.clone()),
                    None => it.session.remove(key),
                };
                Ok(())
            }
        };
        Answer::Swapped(result)
    }
}

/// A page of an ordered list.
fn cut<T, K: PartialOrd>(
    all: impl Iterator<Item = T>,
    key: impl Fn(&T) -> K,
    after: Option<&K>,
    limit: u32,
) -> (Vec<T>, bool) {
    let behind = |entry: &T| after.is_none_or(|after| key(entry) > *after);
    let mut page: Vec<T> = all.filter(behind).collect();
    let more = page.len() > limit as usize;
    page.truncate(limit as usize);
    (page, more)
}

/// Draws what is asked and done.
struct Dice {
    rng: StdRng,
    clients: Vec<ClientId>,
    /// Those whose events run; nobody closes them.
    own: Vec<ClientId>,
}

impl Dice {
    fn under(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    fn client(&mut self) -> ClientId {
        let place = self.under(self.clients.len());
        self.clients[place]
    }

    fn name(&mut self, letter: char) -> Name {
        format!("{letter}{}", self.under(5)).into()
    }

    fn names(&mut self, letter: char) -> Vec<Name> {
        (0..self.under(4)).map(|_| self.name(letter)).collect()
    }

    fn value(&mut self) -> String {
        self.under(3).to_string()
    }

    fn effect(&mut self) -> Effect {
        let client = self.client();
        match self.under(12) {
            0 if !self.own.contains(&client) && self.under(4) == 0 => Effect::Destroy { client },
            0..3 => Effect::BindUid {
                client,
                uid: self.name('u'),
            },
            3 => Effect::UnbindUid { client },
            4..8 => Effect::JoinGroup {
                client,
                group: self.name('g'),
            },
            8 => Effect::LeaveGroup {
                client,
                group: self.name('g'),
            },
            9 => Effect::Ungroup {
                group: self.name('g'),
            },
            _ => {
                let (key, value) = (self.name('k'), self.value());
                let change = match self.under(3) {
                    0 => SessionChange::Remove { key },
                    _ => SessionChange::Set { key, value },
                };
                Effect::Session { client, change }
            }
        }
    }

    fn selectors(&mut self) -> Vec<Selector> {
        let count = 1 + self.under(2);
        let selector = |dice: &mut Self| match dice.under(5) {
            0 => Selector::Everyone,
            1 => Selector::Clients((0..dice.under(4)).map(|_| dice.client()).collect()),
            2 => Selector::Uids(dice.names('u')),
            3 => Selector::Groups(dice.names('g')),
            _ => Selector::AllOfGroups(dice.names('g')),
        };
        (0..count).map(|_| selector(self)).collect()
    }

    fn query(&mut self) -> Query {
        let limit = 1 + self.under(8) as u32;
        let after = |dice: &mut Self, letter| (dice.under(2) == 0).then(|| dice.name(letter));
        match self.under(13) {
            0 => {
                let fields = ClientFields {
                    uid: true,
                    groups: true,
                    session: true,
                    ..ClientFields::default()
                };
                Query::Clients {
                    of: self.selectors(),
                    fields,
                    after: (self.under(2) == 0).then(|| self.client()),
                    limit,
                }
            }
            1 => Query::ClientCount {
                of: self.selectors(),
            },
            2 => Query::UidCounts(self.names('u')),
            3 => Query::GroupCounts(self.names('g')),
            4 => Query::Uids {
                of: self.selectors(),
                after: after(self, 'u'),
                limit,
            },
            5 => Query::UidCount {
                of: self.selectors(),
            },
            6 => Query::UidEstimate,
            7 => Query::Groups {
                after: after(self, 'g'),
                limit,
            },
            8 => Query::GroupInfos {
                after: after(self, 'g'),
                limit,
            },
            9 => Query::GroupClients {
                after: after(self, 'g').map(|group| (group, self.client())),
                limit,
            },
            10 => Query::GroupUids {
                after: after(self, 'g').map(|group| (group, self.name('u'))),
                limit,
            },
            _ => Query::CompareAndSet {
                client: self.client(),
                key: self.name('k'),
                expected: (self.under(2) == 0).then(|| self.value()),
                new: (self.under(3) > 0).then(|| self.value()),
                nth: 0,
            },
        }
    }
}

/// A handler with its event and what it has asked for so far.
struct Handler {
    /// Which worker runs it.
    place: usize,
    client: Client,
    id: ClientId,
    event: Delivery,
    effects: Vec<Effect>,
}

impl Handler {
    /// The next event of its own client; closes of others are committed on the way.
    async fn next(&mut self, workers: &mut [Scripted]) {
        self.client.send("next").await;
        loop {
            let delivery = workers[self.place].event().await;
            if delivery.client == self.id {
                self.event = delivery;
                return;
            }
            workers[self.place].done(&delivery, vec![]);
        }
    }

    async fn ask(&mut self, workers: &mut [Scripted], query: Query) -> Answer {
        let effects = self.effects.clone();
        let worker = &mut workers[self.place];
        let answered = worker.ask(&self.event, effects, query).await;
        let Answered { answer, missing } = answered.unwrap();
        assert_eq!(missing, vec![]);
        answer
    }

    /// Ends the event. Once a question behind it is answered by all, all have its effects.
    async fn end(&mut self, workers: &mut [Scripted], outcome: Outcome) -> Vec<Effect> {
        let effects = std::mem::take(&mut self.effects);
        let sent = match outcome {
            Outcome::Done => effects.clone(),
            _ => vec![],
        };
        workers[self.place].end(&self.event, outcome, sent);
        self.next(workers).await;
        let everywhere = Query::GroupCounts(vec!["any".into()]);
        self.ask(workers, everywhere).await;
        effects
    }
}

/// Clients of the worker's gateway; the first is the handler's own.
async fn handler(
    member: &Member,
    place: usize,
    worker: &mut Scripted,
) -> (Handler, Vec<Client>, Vec<ClientId>) {
    let mut client = member.client().await;
    let id = worker.welcome().await;
    let (mut others, mut ids) = (vec![], vec![id]);
    for _ in 1..CLIENTS {
        others.push(member.client().await);
        ids.push(worker.welcome().await);
    }
    client.send("first").await;
    let event = worker.text("first").await;
    let handler = Handler {
        place,
        client,
        id,
        event,
        effects: vec![],
    };
    (handler, others, ids)
}

async fn agrees(gateways: u64, seed: u64) {
    eprintln!("seed {seed}, {gateways} gateways");
    let mut cluster = Cluster::start(gateways).await;
    let mut workers: Vec<Scripted> = cluster.members.iter_mut().map(Member::worker).collect();
    let (mut handlers, mut clients, mut ids) = (vec![], vec![], vec![]);
    for handler_number in 0..2 {
        let place = handler_number % workers.len();
        let member = &cluster.members[place];
        let (made, others, more) = handler(member, place, &mut workers[place]).await;
        handlers.push(made);
        clients.extend(others);
        ids.extend(more);
    }
    let mut model = Model::default();
    model
        .clients
        .extend(ids.iter().map(|id| (*id, Someone::default())));
    let mut dice = Dice {
        rng: StdRng::seed_from_u64(seed),
        clients: ids,
        own: handlers.iter().map(|it| it.id).collect(),
    };
    for step in 0..STEPS {
        let handler = &mut handlers[dice.under(2)];
        match dice.under(10) {
            0..4 => handler.effects.push(dice.effect()),
            4..8 => {
                let query = dice.query();
                let mut seen = model.clone();
                seen.apply(&handler.effects);
                let expected = match seen.answer(&query) {
                    Some(expected) => expected,
                    None => model.swap(&query),
                };
                let found = handler.ask(&mut workers, query.clone()).await;
                assert_eq!(found, expected, "seed {seed}, step {step}: {query:?}");
            }
            8 => {
                let done = handler.end(&mut workers, Outcome::Done).await;
                model.apply(&done);
            }
            _ => drop(handler.end(&mut workers, Outcome::Failed).await),
        }
    }
}

/// `TIDEGATE_SEED` repeats a run.
fn seed() -> u64 {
    let given = std::env::var("TIDEGATE_SEED").ok();
    given.map_or_else(rand::random, |text| text.parse().expect("a number"))
}

#[tokio::test]
async fn two_handlers_of_two_gateways_agree_with_a_model() {
    agrees(2, seed()).await;
}

#[tokio::test]
async fn two_handlers_of_one_gateway_agree_with_a_model() {
    agrees(1, seed()).await;
}
