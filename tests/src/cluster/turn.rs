//! How many clusters run at a time: the machine is small, and a test that waits for its turn is
//! better than ten that wait for the processor.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

const CLUSTERS_MAX: usize = 4;

static BOOK: Mutex<Book> = Mutex::new(Book {
    running: 0,
    alone: 0,
});
static ENDED: Condvar = Condvar::new();

struct Book {
    /// Turns that are taken.
    running: usize,
    /// How many wait to be alone: they come first.
    alone: usize,
}

/// The right to run one cluster, or all turns for one that loads the machine.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: usize,
}

impl Turn {
    /// Waits for its turn. It blocks the thread: each test has a thread of its own and starts its
    /// cluster before anything else.
    pub(crate) fn take() -> Self {
        let mut book = wait_while(book(), |book| {
            book.running >= CLUSTERS_MAX || book.alone > 0
        });
        book.running += 1;
        Self { turns: 1 }
    }

    /// Waits until no other cluster runs, and keeps others waiting.
    pub(crate) fn take_all() -> Self {
        let mut book = book();
        book.alone += 1;
        let mut book = wait_while(book, |book| book.running > 0);
        book.alone -= 1;
        book.running = CLUSTERS_MAX;
        Self {
            turns: CLUSTERS_MAX,
        }
    }
}

fn book() -> MutexGuard<'static, Book> {
    BOOK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait_while(
    book: MutexGuard<'static, Book>,
    condition: impl Fn(&Book) -> bool,
) -> MutexGuard<'static, Book> {
    ENDED
        .wait_while(book, |book| condition(book))
        .unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Turn {
    fn drop(&mut self) {
        book().running -= self.turns;
        ENDED.notify_all();
    }
}
