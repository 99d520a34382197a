//! What the clients of one shard make it keep: unfinished input, events that wait or are under way,
//! and what waits to be written. All three count towards one limit.
//!
//! An HTTP request that is not complete counts with the most that it may take.
//! A frame that goes to many clients counts once, for as long as anybody has to write it. At the
//! limit nobody reads on who has something unfinished; whoever begins a message reads little at a
//! time, so that short messages still come through. What is closed then decides the shard.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidegate_hub::outbound::Account;
use tokio::sync::{Notify, Semaphore};

/// How much a client may read at a time at the limit, if nothing of it is unfinished.
pub(in crate::gateway) const SIP_BYTES: usize = 4096;

/// How long the shard may be at its limit before clients are closed.
pub(in crate::gateway) const PATIENCE: Duration = Duration::from_millis(500);

/// How much less than before must be kept until freed memory goes back to the system.
const GIVE_BACK_BYTES: usize = 32 << 20;

/// Bytes that frames hold which wait to be written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Book>);

#[derive(Debug, Default)]
struct Book {
    bytes: AtomicUsize,
    /// Below so many bytes somebody need not wait any more; zero while nobody waits.
    awaited: AtomicUsize,
    freed: Notify,
}

impl Ledger {
    fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::SeqCst)
    }
}

impl Account for Ledger {
    fn hold<B: AsRef<[u8]> + Send + 'static>(&self, bytes: B) -> Bytes {
        let length = bytes.as_ref().len();
        self.0.bytes.fetch_add(length, Ordering::Relaxed);
        Bytes::from_owner(Held {
            bytes,
            ledger: self.clone(),
        })
    }
}

struct Held<B: AsRef<[u8]>> {
    bytes: B,
    ledger: Ledger,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Held<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

impl<B: AsRef<[u8]>> Drop for Held<B> {
    fn drop(&mut self) {
        let length = self.bytes.as_ref().len();
        let book = &*self.ledger.0;
        // Whoever begins to wait stores `awaited` before it looks at `bytes`: in one order of all
        // four steps, one of the two sees the other.
        let before = book.bytes.fetch_sub(length, Ordering::SeqCst);
        if before - length < book.awaited.load(Ordering::SeqCst) {
            book.freed.notify_one();
        }
    }
}

/// The account of one shard, shared by the tasks of its thread.
#[derive(Debug)]
pub(in crate::gateway) struct Memory {
    max: usize,
    outbound: Ledger,
    unfinished: Cell<usize>,
    /// As the shard said last.
    events: Cell<usize>,
    /// Counts the shard's looks; ages are told in it.
    looks: Cell<u32>,
    /// Clients that are not read because of the limit.
    starved: RefCell<Vec<u32>>,
    /// The most that was kept since memory went back to the system.
    peak: Cell<usize>,
    /// Whoever waits for room does so in the order in which they came.
    turn: Semaphore,
}

impl Memory {
    pub(in crate::gateway) fn new(max: usize) -> Self {
        Self {
            max,
            outbound: Ledger::default(),
            unfinished: Cell::new(0),
            events: Cell::new(0),
            looks: Cell::new(0),
            starved: RefCell::default(),
            peak: Cell::new(0),
            turn: Semaphore::new(1),
        }
    }

    /// Where frames are counted.
    pub(in crate::gateway) const fn outbound(&self) -> &Ledger {
        &self.outbound
    }

    pub(in crate::gateway) fn set_events(&self, bytes: usize) {
        if self.events.replace(bytes) > bytes {
            self.freed();
        }
    }

    /// The unfinished input of one client was so much and is now so much.
    pub(in crate::gateway) fn unfinished(&self, before: usize, now: usize) {
        let all = self.unfinished.get() + now;
        self.unfinished.set(all.saturating_sub(before));
        if before > now {
            self.freed();
        }
    }

    /// Wakes whoever waits for room, if there is some.
    fn freed(&self) {
        let book = &*self.outbound.0;
        if book.awaited.load(Ordering::Relaxed) > 0 && !self.is_full() {
            book.freed.notify_one();
        }
    }

    /// Waits until there is room. One at a time: see `turn`.
    async fn room(&self) {
        let book = &*self.outbound.0;
        let _awaited = Awaited(book);
        loop {
            let others = self.unfinished.get() + self.events.get();
            let below = self.max.saturating_sub(others);
            book.awaited.store(below.max(1), Ordering::SeqCst);
            if !self.is_full() {
                return;
            }
            book.freed.notified().await;
        }
    }

    pub(in crate::gateway) fn bytes(&self) -> usize {
        self.outbound.bytes() + self.unfinished.get() + self.events.get()
    }

    pub(in crate::gateway) fn is_full(&self) -> bool {
        self.bytes() >= self.max
    }

    /// How much must go until there is room again.
    pub(in crate::gateway) fn excess(&self) -> usize {
        self.bytes().saturating_sub(self.max / 4 * 3)
    }

    pub(in crate::gateway) fn starve(&self, number: u32) {
        self.starved.borrow_mut().push(number);
    }

    /// Those who may read on.
    pub(in crate::gateway) fn fed(&self) -> Vec<u32> {
        std::mem::take(&mut self.starved.borrow_mut())
    }

    pub(in crate::gateway) fn looks(&self) -> u32 {
        self.looks.get()
    }

    /// One look. True if much was freed since the last time that it was.
    pub(in crate::gateway) fn look(&self) -> bool {
        self.looks.set(self.looks.get().wrapping_add(1));
        let now = self.bytes();
        let peak = self.peak.get().max(now);
        let freed = peak - now >= GIVE_BACK_BYTES && now <= peak / 2;
        self.peak.set(if freed { now } else { peak });
        freed
    }
}

/// Somebody waits for room.
struct Awaited<'a>(&'a Book);

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.0.awaited.store(0, Ordering::Relaxed);
    }
}

/// A part of the account that is held for as long as this lives.
#[derive(Debug)]
pub(in crate::gateway) struct Reserve {
    memory: Rc<Memory>,
    bytes: usize,
}

impl Reserve {
    /// Counts `bytes` once there is room and whoever waited before has had its turn.
    pub(in crate::gateway) async fn take(memory: Rc<Memory>, bytes: usize) -> Self {
        // The semaphore is never closed.
        let turn = memory.turn.acquire().await;
        if memory.is_full() {
            memory.room().await;
        }
        memory.unfinished(0, bytes);
        drop(turn);
        Self { memory, bytes }
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        self.memory.unfinished(self.bytes, 0);
    }
}

/// A buffer of so much or more is large: it takes memory only where it has been filled.
pub(in crate::gateway) const LARGE_BYTES: usize = 128 << 10;

/// Has the allocator map large buffers by themselves, whatever was freed before. By itself glibc soon
/// takes them from the heap, where memory that others have filled is used again: a buffer that is
/// reserved and hardly filled would then take all of it, and nobody would count that.
#[cfg(target_env = "gnu")]
pub(in crate::gateway) fn map_large_buffers() {
    #[allow(
        unsafe_code,
        reason = "mallopt takes numbers, and sets what later allocations look at"
    )]
    // SAFETY: it changes no memory but the allocator's own settings, under its lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES as libc::c_int);
        // Setting one ends the adjustment of both; this is what it comes to with large buffers.
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_BYTES);
    }
}

/// Other allocators do so by themselves.
#[cfg(not(target_env = "gnu"))]
pub(in crate::gateway) const fn map_large_buffers() {}

/// How much at the end of a heap may be free before it goes back to the system.
#[cfg(target_env = "gnu")]
const TRIM_BYTES: libc::c_int = 2 << 20;

/// Gives freed memory back to the system, which glibc's allocator keeps for itself otherwise: what
/// thousands of strangers have filled would stay.
#[cfg(target_env = "gnu")]
pub(in crate::gateway) fn give_back() {
    #[allow(
        unsafe_code,
        reason = "malloc_trim takes a number, may be called from any thread and touches free memory only"
    )]
    // SAFETY: the allocator locks its arenas; no memory that is in use changes.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators do so by themselves.
#[cfg(not(target_env = "gnu"))]
pub(in crate::gateway) const fn give_back() {}

#[cfg(test)]
mod tests {
    use tokio::task::{JoinHandle, LocalSet};
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn a_frame_counts_once_until_its_last_copy_is_gone() {
        let memory = Memory::new(100);
        let frame = memory.outbound().hold(&b"hello"[..]);
        let copies = vec![frame.clone(); 10];
        assert_eq!((memory.bytes(), &frame[..]), (5, &b"hello"[..]));
        drop(frame);
        assert_eq!(memory.bytes(), 5);
        drop(copies);
        assert_eq!(memory.bytes(), 0);
    }

    #[test]
    fn all_that_clients_make_a_shard_keep_is_one_sum() {
        let memory = Memory::new(100);
        let _frame = memory.outbound().hold([0; 30]);
        memory.unfinished(0, 50);
        memory.set_events(20);
        assert!(memory.is_full());
        assert_eq!(memory.excess(), 25);
        memory.unfinished(50, 10);
        assert!(!memory.is_full());
    }

    /// Runs `take` on this thread beside the test.
    fn taking(memory: &Rc<Memory>, order: &Rc<RefCell<Vec<u8>>>, name: u8) -> JoinHandle<Reserve> {
        let (memory, order) = (memory.clone(), order.clone());
        tokio::task::spawn_local(async move {
            let reserve = Reserve::take(memory, 10).await;
            order.borrow_mut().push(name);
            reserve
        })
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_room_is_woken_at_once_and_in_order() {
        LocalSet::new().run_until(wake_in_order()).await;
    }

    async fn wake_in_order() {
        let (memory, order) = (Rc::new(Memory::new(100)), Rc::default());
        // Each of the three parts of the account may be what makes room.
        let frame = memory.outbound().hold([0; 100]);
        let first = taking(&memory, &order, 1);
        let gives_up = tokio::time::timeout(Duration::ZERO, Reserve::take(memory.clone(), 10));
        assert!(gives_up.await.is_err());
        let begun = Instant::now();
        let second = taking(&memory, &order, 2);
        tokio::task::yield_now().await;
        assert!(order.borrow().is_empty() && memory.bytes() == 100);
        std::thread::spawn(move || drop(frame)).join().unwrap();
        let (first, second) = (first.await.unwrap(), second.await.unwrap());
        assert_eq!((memory.bytes(), &**order.borrow()), (20, &[1, 2][..]));
        memory.unfinished(0, 80);
        let (third, fourth) = (taking(&memory, &order, 3), taking(&memory, &order, 4));
        tokio::task::yield_now().await;
        memory.unfinished(10, 0);
        let third = third.await.unwrap();
        tokio::task::yield_now().await;
        assert!(!fourth.is_finished(), "it is full again");
        memory.set_events(50);
        drop((first, second, third));
        tokio::task::yield_now().await;
        assert!(!fourth.is_finished(), "events take the room");
        memory.set_events(0);
        drop(fourth.await.unwrap());
        assert_eq!((memory.bytes(), order.borrow().len()), (70, 4));
        assert!(begun.elapsed() < Duration::from_millis(1), "nobody slept");
    }

    #[test]
    fn memory_goes_back_once_when_much_was_freed() {
        let memory = Memory::new(usize::MAX);
        memory.unfinished(0, 100 << 20);
        assert!(!memory.look());
        memory.unfinished(100 << 20, 60 << 20);
        assert!(!memory.look(), "less than half is freed");
        memory.unfinished(60 << 20, 0);
        assert!(memory.look());
        assert!(!memory.look());
    }
}
