//! Answers that may be partial, and lists that come in pages.

use std::fmt;

use crate::error::{Refused, Result};

/// The most entries of one page, and the default.
const LIMIT_MAX: u32 = 1000;

/// An answer, with the gateways that had no part in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// What was found.
    pub value: T,
    /// Addresses of gateways that could matter and did not answer in time.
    pub missing: Vec<String>,
}

/// How many.
pub type Count = Answer<u64>;

impl<T> Answer<T> {
    /// Whether every gateway that could matter had its part in it.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.missing.is_empty()
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries, in order.
    pub items: Vec<T>,
    /// Where the list goes on, for [`List::after`]; none at its end. Valid also when what it
    /// points at is gone.
    pub next: Option<String>,
    /// Addresses of gateways that could matter and did not answer in time.
    pub missing: Vec<String>,
}

impl<T> Page<T> {
    /// Whether every gateway that could matter had its part in it.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.missing.is_empty()
    }
}

impl<T> IntoIterator for Page<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

type Ask<T> = Box<dyn Fn(Option<&str>, u32) -> Result<Page<T>, Refused>>;

/// A list that nobody has asked for yet: [`page`](Self::page) gives one page, a `for` loop goes
/// through all of them, [`all`](Self::all) collects them.
///
/// ```no_run
/// # use tidegate_sdk::prelude::*;
/// # fn example(client: Client, cursor: Option<String>) -> Result {
/// // One page, to be gone on with later.
/// let page = directory::groups().limit(50).after(cursor).page()?;
/// session::set("cursor", &page.next)?;
///
/// // All of it, page by page. An entry that is there all the while comes exactly once.
/// let mut uids = directory::in_group("lobby").uids().into_iter();
/// for uid in &mut uids {
///     client.send(uid?)?;
/// }
/// if !uids.is_whole() {
///     client.send(format!("without {:?}", uids.missing()))?;
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is asked before `page`, `all` or a loop"]
pub struct List<T> {
    ask: Ask<T>,
    after: Option<String>,
    limit: u32,
}

impl<T> List<T> {
    pub(crate) fn new(
        ask: impl Fn(Option<&str>, u32) -> Result<Page<T>, Refused> + 'static,
    ) -> Self {
        Self {
            ask: Box::new(ask),
            after: None,
            limit: LIMIT_MAX,
        }
    }

    /// Goes on behind this cursor; `None` begins at the beginning.
    pub fn after(mut self, cursor: impl Into<Option<String>>) -> Self {
        self.after = cursor.into();
        self
    }

    /// At most so many entries a page, 1 to 1000; 1000 if you leave it out.
    pub const fn limit(mut self, entries: u32) -> Self {
        self.limit = entries;
        self
    }

    /// One page.
    pub fn page(&self) -> Result<Page<T>> {
        Ok((self.ask)(self.after.as_deref(), self.limit)?)
    }

    /// Every page in one: for lists of which you know that they fit into your memory.
    pub fn all(self) -> Result<Page<T>> {
        let mut items = self.into_iter();
        let all = items.by_ref().collect::<Result<_>>()?;
        Ok(Page {
            items: all,
            next: None,
            missing: items.missing,
        })
    }
}

impl<T> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { after, limit, .. } = self;
        write!(f, "List(after {after:?}, limit {limit})")
    }
}

impl<T> IntoIterator for List<T> {
    type Item = Result<T>;
    type IntoIter = Items<T>;

    fn into_iter(self) -> Items<T> {
        Items {
            list: self,
            page: Vec::new().into_iter(),
            missing: Vec::new(),
            ended: false,
        }
    }
}

/// The entries of a list, asked for page by page. An error is the last one given.
#[derive(Debug)]
pub struct Items<T> {
    list: List<T>,
    page: std::vec::IntoIter<T>,
    missing: Vec<String>,
    ended: bool,
}

impl<T> Items<T> {
    /// Gateways that were missing in any page so far, in order.
    #[must_use]
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Whether no gateway was missing so far.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.missing.is_empty()
    }

    /// Whether there was another page.
    fn turn(&mut self) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        // Ended also if the question fails.
        self.ended = true;
        let page = self.list.page()?;
        self.ended = page.next.is_none();
        self.list.after = page.next;
        self.page = page.items.into_iter();
        self.missing.extend(page.missing);
        self.missing.sort_unstable();
        self.missing.dedup();
        Ok(true)
    }
}

impl<T> Iterator for Items<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        loop {
            if let Some(item) = self.page.next() {
                return Some(Ok(item));
            }
            match self.turn() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
