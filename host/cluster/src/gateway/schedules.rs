//! The schedules of this gateway: it looks at the clock, talks with the other gateways, and hands the task of a
//! tick that it may begin to one of its shards. What is decided is decided by `tidegate_schedule::book`.
//!
//! Guarantees: nothing is begun once the gateway ends or its life is lost; the others take over then what has not ended.
//! What is over is written to a file, if there is one, at most once a second.

mod kept;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{Counter, counter};
use tidegate_link::LinkSender;
use tidegate_link::membership::Members;
use tidegate_schedule::book::{Act, Book, Now, ScheduleStatus};
use tidegate_schedule::rfc3339;
use tidegate_wire::Name;
use tidegate_wire::frame::PeerFrame;
use tidegate_wire::id::Incarnation;
use tidegate_wire::schedule::{ScheduleSaid, Tick};
use tidegate_wire::sketch::stable_hash;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};

use super::shared::Context;
use super::shared::tick::BeginTick;
use crate::gateway::shared::inbox::Parcel;
use kept::Kept;

/// The clock is looked at so often at least, and at most.
const LOOKS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// Without schedules there is nothing to look at.
const NOTHING: Duration = Duration::from_secs(3_600);
/// A clock that moved by more than the steady one was set.
const CLOCK_SET_MS: u64 = 2_000;

/// The schedules of a gateway.
pub(super) struct Schedules {
    context: Arc<Context>,
    begun: Instant,
    table: Mutex<ScheduleTable>,
    /// Something was heard.
    changed: Notify,
    ticks: Ticks,
}

struct ScheduleTable {
    book: Book,
    links: BTreeMap<Incarnation, LinkSender>,
    /// Schedules that wait for the clocks of others, which was told.
    ahead: BTreeSet<usize>,
    before: Option<Now>,
}

/// What became of ticks.
struct Ticks {
    begun: Counter,
    done: Counter,
    failed: Counter,
    missed: Counter,
}

impl Ticks {
    fn new() -> Self {
        let ticks =
            |outcome| counter!("tidegate_gateway_schedule_ticks_total", "outcome" => outcome);
        Self {
            begun: ticks("begun"),
            done: ticks("done"),
            failed: ticks("failed"),
            missed: ticks("missed"),
        }
    }
}

impl Schedules {
    pub(super) fn new(context: Arc<Context>) -> Self {
        let begun = Instant::now();
        let all = context.settings.schedules.iter();
        // Lanes belong to tenants that have listeners here.
        let own = all.filter(|it| context.tenants.number(&it.tenant).is_some());
        let (own, incarnation) = (own.cloned().collect(), context.incarnation());
        let now = now(begun);
        let book = Book::new(incarnation, context.settings.announced, own, now);
        Self {
            context,
            begun,
            table: Mutex::new(ScheduleTable {
                book,
                links: BTreeMap::new(),
                ahead: BTreeSet::new(),
                before: None,
            }),
            changed: Notify::new(),
            ticks: Ticks::new(),
        }
    }

    /// The table is plain data: whoever panicked while holding the lock left it usable.
    fn table(&self) -> MutexGuard<'_, ScheduleTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        now(self.begun)
    }

    /// How it stands with the schedules of a tenant.
    pub(super) fn status(&self, tenant: &Name) -> Vec<ScheduleStatus> {
        self.table().book.status(tenant, self.now())
    }

    /// The view has changed.
    pub(super) fn members(&self, members: &Members, own: Incarnation) {
        let others = members.gateways();
        let others = others.filter_map(|node| Some((node.incarnation, node.address?)));
        let joined = members.fixed || members.nodes.contains_key(&own);
        self.table().book.set_view(others, joined, self.now());
        self.changed.notify_one();
    }

    /// There is a link to another gateway, until what is returned is dropped.
    pub(super) fn linked(&self, gateway: Incarnation, sender: LinkSender) -> ScheduleLink<'_> {
        let mut table = self.table();
        table.links.insert(gateway, sender);
        table.book.linked(gateway, self.now());
        drop(table);
        self.changed.notify_one();
        ScheduleLink {
            schedules: self,
            gateway,
        }
    }

    /// Another gateway says something. Gives the answers, for the link that it has dialled.
    pub(super) fn hear(&self, from: Incarnation, said: ScheduleSaid) -> Vec<ScheduleSaid> {
        let answers = self.table().book.hear(from, said, self.now());
        self.changed.notify_one();
        answers
    }

    /// The gateway ends.
    pub(super) fn end(&self) {
        self.table().book.end();
        self.changed.notify_one();
    }

    /// Looks at the clock and does what is to be done. Gives how long nothing will be.
    fn turn(self: &Arc<Self>) -> Duration {
        let now = self.now();
        let mut table = self.table();
        table.tell_clock(now);
        if !self.context.lost.is_cancelled() {
            table.book.look(now);
        }
        for act in table.book.take_acts() {
            self.act(&mut table, act);
        }
        if table.book.is_empty() {
            // It speaks when it is spoken to.
            return NOTHING;
        }
        let next_ms = table.book.next_ms();
        drop(table);
        let wait_ms = next_ms.map_or(i64::MAX, |next_ms| next_ms.saturating_sub(now.wall_ms));
        let wait = Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0));
        wait.clamp(LOOKS.0, LOOKS.1)
    }

    fn act(self: &Arc<Self>, table: &mut ScheduleTable, act: Act) {
        let named = |place: usize| table.book.schedule(place).map(ToString::to_string);
        match act {
            Act::Say(to, said) => {
                if let Some(link) = table.links.get(&to) {
                    // A link that has ended is followed by another one, which begins with what is known.
                    let _ = link.send(PeerFrame::Schedule(Box::new(said)));
                }
            }
            Act::Begin {
                schedule,
                at_s,
                missed,
            } => {
                self.tell_missed(named(schedule), missed);
                table.ahead.remove(&schedule);
                self.begin(&table.book, schedule, at_s);
            }
            Act::Missed(place, missed) => self.tell_missed(named(place), missed),
            Act::ClockSetBack(place, at_s) => {
                tracing::warn!(
                    schedule = named(place),
                    over = rfc3339(at_s),
                    "a schedule is over for hours to come: a clock was far ahead, and it goes on from now"
                );
            }
            Act::ClockAhead(place, at_s) => {
                if table.ahead.insert(place) {
                    let schedule = table.book.schedule(place).map(ToString::to_string);
                    tracing::warn!(
                        schedule,
                        tick = rfc3339(at_s),
                        "the clock of this gateway is ahead of those of others: a schedule waits for them"
                    );
                }
            }
        }
    }

    fn tell_missed(&self, schedule: Option<String>, missed: u64) {
        if missed > 0 {
            self.ticks.missed.increment(missed);
            tracing::warn!(schedule, missed, "ticks of a schedule were left out");
        }
    }

    /// Hands the task of a tick to a shard, and waits for its end beside.
    fn begin(self: &Arc<Self>, book: &Book, place: usize, at_s: i64) {
        let Some(schedule) = book.schedule(place) else {
            return;
        };
        let Some(tenant) = self.context.tenants.number(&schedule.tenant) else {
            return;
        };
        self.ticks.begun.increment(1);
        tracing::debug!(%schedule, tick = rfc3339(at_s), "a schedule is due");
        let task = Tick {
            tenant: schedule.tenant.clone(),
            schedule: schedule.name.clone(),
            at_s,
        }
        .task();
        let shards = self.context.inboxes.len().max(1) as u64;
        let shard = stable_hash(&at_s.to_be_bytes()).wrapping_add(task.event.gateway.0) % shards;
        let (ended, end) = oneshot::channel();
        let tick = BeginTick {
            tenant,
            task,
            payload: schedule.payload_at(at_s).into_bytes().into(),
            ended,
        };
        if let Some(inbox) = self
            .context
            .inboxes
            .get(usize::try_from(shard).unwrap_or(0))
        {
            inbox.push(Parcel::Tick(Box::new(tick)));
        }
        let (schedules, name) = (self.clone(), schedule.to_string());
        self.context.runtime.spawn(async move {
            let ended = end.await;
            match &ended {
                Ok(Ok(())) => schedules.ticks.done.increment(1),
                Ok(Err(why)) => {
                    schedules.ticks.failed.increment(1);
                    tracing::warn!(
                        schedule = name,
                        tick = rfc3339(at_s),
                        why,
                        "the task of a schedule has failed"
                    );
                }
                Err(_) => tracing::warn!(
                    schedule = name,
                    tick = rfc3339(at_s),
                    "the task of a schedule did not end here: it is begun again, here or elsewhere"
                ),
            }
            let now = schedules.now();
            schedules
                .table()
                .book
                .ended(place, at_s, ended.is_ok(), now);
            schedules.changed.notify_one();
        });
    }
}

impl ScheduleTable {
    /// Says if the clock was set.
    fn tell_clock(&mut self, now: Now) {
        let Some(before) = self.before.replace(now) else {
            return;
        };
        let steady_ms = i64::try_from(now.steady_ms - before.steady_ms).unwrap_or(i64::MAX);
        let moved_ms = (now.wall_ms - before.wall_ms).saturating_sub(steady_ms);
        if moved_ms.unsigned_abs() > CLOCK_SET_MS && !self.book.is_empty() {
            tracing::warn!(
                moved_ms,
                "the clock of this machine was set: schedules go by it"
            );
        }
    }
}

/// What time it is.
fn now(begun: Instant) -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Now {
        wall_ms: wall.map_or(0, |wall| i64::try_from(ms(wall)).unwrap_or(i64::MAX)),
        steady_ms: ms(begun.elapsed()),
    }
}

/// A link that has not ended.
pub(super) struct ScheduleLink<'a> {
    schedules: &'a Schedules,
    gateway: Incarnation,
}

impl Drop for ScheduleLink<'_> {
    fn drop(&mut self) {
        let mut table = self.schedules.table();
        table.links.remove(&self.gateway);
        table.book.unlinked(self.gateway);
    }
}

/// Looks after the schedules until the gateway has ended.
pub(super) async fn run(schedules: Arc<Schedules>) {
    let context = schedules.context.clone();
    let file = context.settings.schedules_file.clone();
    let mut kept = Kept::open(file, &schedules).await;
    let mut is_ending = false;
    loop {
        if !is_ending && context.ending.load(Ordering::Acquire) {
            is_ending = true;
            schedules.end();
        }
        let wait = schedules.turn();
        kept.keep(&schedules).await;
        tokio::select! {
            biased;
            () = context.ended.cancelled() => break,
            () = schedules.changed.notified() => {}
            () = sleep(wait) => {}
        }
    }
    kept.keep_now(&schedules).await;
}
