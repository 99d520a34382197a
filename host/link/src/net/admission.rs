//! Which connections a port keeps when they are too many.
//!
//! A connection is a stranger until its first whole request, or its proof, has come, and idle between
//! two requests. Guarantees: neither keeps others out. Each address has so many of both, and when
//! there is one more, of that address or of all, the one that has waited longest is told to go, among
//! strangers one that has not said a byte before one that has. A quarter of the port's places is the
//! strangers', so that many idle connections leave newcomers time to speak. A connection whose
//! request is under way is never told to go, unless its answer waits to be taken by a caller that
//! has not shown who it is: among those the one that has taken nothing for longest goes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// How many connections a port keeps.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionLimits {
    /// All of them.
    pub connections_max: usize,
    /// Strangers of one address.
    pub strangers_per_address_max: usize,
    /// Connections of one address that wait for their next request.
    pub idle_per_address_max: usize,
}

/// What a connection waits for. Those that are told to go first come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Its first byte.
    Silent,
    /// The rest of its request, or its proof.
    Unfinished,
    /// Its next request.
    Idle,
    /// That the other side takes more of its answer. It may be anybody.
    Untaken,
    /// Nothing: its request is under way.
    Busy,
    /// It was told to go.
    Leaving,
}

/// The part of all places that strangers have before idle connections.
const STRANGERS_PART: usize = 4;

/// Waiting connections in the order in which they go: by stage, then by age.
type ByStage = BTreeMap<(Stage, u64), u64>;

/// One address, with the whole network that an IPv6 host has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Origin(IpAddr);

impl Origin {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let network = v6.to_bits() >> 64 << 64;
                Ipv6Addr::from_bits(network).into()
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

struct Member {
    origin: Origin,
    stage: Stage,
    /// When its stage began, in steps of the table.
    since: u64,
    told: Arc<Notify>,
}

/// The waiting connections of one address.
#[derive(Default)]
struct WaitingStranger {
    strangers: BTreeSet<(Stage, u64)>,
    idle: BTreeSet<(Stage, u64)>,
}

impl WaitingStranger {
    /// Those that a stage counts with; none if they are not counted.
    fn of(&mut self, stage: Stage) -> Option<&mut BTreeSet<(Stage, u64)>> {
        match stage {
            Stage::Silent | Stage::Unfinished => Some(&mut self.strangers),
            Stage::Idle => Some(&mut self.idle),
            Stage::Untaken | Stage::Busy | Stage::Leaving => None,
        }
    }
}

/// The connections of one port.
struct AdmissionTable {
    limits: AdmissionLimits,
    clock: u64,
    members: HashMap<u64, Member>,
    leaving: usize,
    strangers: usize,
    waiting: ByStage,
    origins: HashMap<Origin, WaitingStranger>,
}

impl AdmissionTable {
    fn new(limits: AdmissionLimits) -> Self {
        Self {
            limits,
            clock: 0,
            members: HashMap::new(),
            leaving: 0,
            strangers: 0,
            waiting: ByStage::new(),
            origins: HashMap::new(),
        }
    }

    fn enter(&mut self, address: IpAddr) -> (u64, Arc<Notify>) {
        if self.staying() >= self.limits.connections_max {
            self.tell_oldest();
        }
        let number = self.clock;
        let told = Arc::new(Notify::new());
        let member = Member {
            origin: Origin::of(address),
            stage: Stage::Busy,
            since: number,
            told: told.clone(),
        };
        self.members.insert(number, member);
        self.put(number, Stage::Silent);
        (number, told)
    }

    /// Connections that were not told to go.
    fn staying(&self) -> usize {
        self.members.len() - self.leaving
    }

    /// Moves a connection to another stage, and tells the oldest of its address to go if there are
    /// too many in it.
    fn put(&mut self, number: u64, stage: Stage) {
        self.take(number);
        self.clock += 1;
        let Some(member) = self.members.get_mut(&number) else {
            return;
        };
        (member.stage, member.since) = (stage, self.clock);
        if stage == Stage::Leaving {
            self.leaving += 1;
        }
        let origin = member.origin;
        let key = (stage, self.clock);
        let max = match stage {
            Stage::Silent | Stage::Unfinished => self.limits.strangers_per_address_max,
            Stage::Idle => self.limits.idle_per_address_max,
            // A proxy's address may stand for many slow readers: they go when the port is full.
            Stage::Untaken => {
                self.waiting.insert(key, number);
                return;
            }
            Stage::Busy | Stage::Leaving => return,
        };
        self.waiting.insert(key, number);
        let Some(of_address) = self.origins.entry(origin).or_default().of(stage) else {
            return;
        };
        of_address.insert(key);
        self.strangers += usize::from(stage < Stage::Idle);
        let oldest = of_address.first().copied();
        if of_address.len() > max {
            let oldest = oldest.and_then(|key| self.waiting.get(&key).copied());
            oldest.into_iter().for_each(|number| self.tell(number));
        }
    }

    /// Takes a connection out of its stage.
    fn take(&mut self, number: u64) {
        let Some(member) = self.members.get(&number) else {
            return;
        };
        let key = (member.stage, member.since);
        if member.stage == Stage::Leaving {
            self.leaving -= 1;
        }
        if self.waiting.remove(&key).is_none() {
            return;
        }
        self.strangers -= usize::from(member.stage < Stage::Idle);
        if let Some(waiting) = self.origins.get_mut(&member.origin) {
            if let Some(of_address) = waiting.of(member.stage) {
                of_address.remove(&key);
            }
            if waiting.strangers.is_empty() && waiting.idle.is_empty() {
                self.origins.remove(&member.origin);
            }
        }
    }

    /// Tells the connection to go that others need the place of most. False if all are busy.
    fn tell_oldest(&mut self) -> bool {
        let mut idle = self.waiting.range((Stage::Idle, 0)..);
        let few = self.strangers <= self.limits.connections_max / STRANGERS_PART;
        let oldest = idle.next().filter(|_| few);
        let oldest = oldest.or_else(|| self.waiting.first_key_value());
        let oldest = oldest.map(|(_, number)| *number);
        oldest.into_iter().for_each(|number| self.tell(number));
        oldest.is_some()
    }

    /// Whoever was told to go does not stay by taking some of its answer.
    fn untaken(&mut self, number: u64) {
        let stage = self.members.get(&number).map(|member| member.stage);
        if stage.is_some_and(|stage| stage != Stage::Leaving) {
            self.put(number, Stage::Untaken);
        }
    }

    fn tell(&mut self, number: u64) {
        self.put(number, Stage::Leaving);
        if let Some(member) = self.members.get(&number) {
            member.told.notify_one();
        }
    }

    fn leave(&mut self, number: u64) {
        self.take(number);
        self.members.remove(&number);
    }
}

/// The connections of one port, shared by those who accept and those who serve.
#[derive(Clone)]
pub struct Admissions(Arc<AdmittedInner>);

struct AdmittedInner {
    table: Mutex<AdmissionTable>,
    left: Notify,
}

impl Admissions {
    /// Of a port without connections.
    #[must_use]
    pub fn new(limits: AdmissionLimits) -> Self {
        Self(Arc::new(AdmittedInner {
            table: Mutex::new(AdmissionTable::new(limits)),
            left: Notify::new(),
        }))
    }

    fn table(&self) -> MutexGuard<'_, AdmissionTable> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection in as a stranger. If that is one too many, another one is told to go.
    #[must_use]
    pub fn admit(&self, address: IpAddr) -> Admitted {
        let (number, told) = self.table().enter(address);
        Admitted {
            admissions: self.clone(),
            number,
            told,
        }
    }

    /// Waits until there is room for one more: until not every connection is busy.
    pub async fn room(&self) {
        loop {
            let left = self.0.left.notified();
            {
                let table = self.table();
                if table.staying() < table.limits.connections_max || !table.waiting.is_empty() {
                    return;
                }
            }
            left.await;
        }
    }

    /// Tells the connection to go that has waited longest, for the sake of one elsewhere. False if
    /// none waits.
    #[must_use]
    pub fn make_room(&self) -> bool {
        self.table().tell_oldest()
    }

    /// Connections that wait: one of them is told to go when another one needs its place.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.table().waiting.len()
    }

    /// Connections that were admitted and have not gone.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table().members.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One connection's place. Dropping it gives the place back.
pub struct Admitted {
    admissions: Admissions,
    number: u64,
    told: Arc<Notify>,
}

impl Admitted {
    /// Its first byte has come.
    pub fn heard(&self) {
        self.admissions.table().put(self.number, Stage::Unfinished);
    }

    /// It is no stranger any more, and what it wants is under way.
    pub fn busy(&self) {
        self.admissions.table().put(self.number, Stage::Busy);
    }

    /// What it wanted is done.
    pub fn idle(&self) {
        self.admissions.table().put(self.number, Stage::Idle);
        self.admissions.0.left.notify_one();
    }

    /// The other side, which may be anybody, takes no more of its answer at present.
    pub fn untaken(&self) {
        self.admissions.table().untaken(self.number);
        self.admissions.0.left.notify_one();
    }

    /// Waits until this connection is told to go. It may stay if it turns out that its request
    /// came meanwhile; it says so by [`Self::heard`] or [`Self::busy`].
    pub(crate) async fn told_to_go(&self) {
        self.told.notified().await;
    }
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Admitted").field(&self.number).finish()
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admissions.table().leave(self.number);
        self.admissions.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests;
