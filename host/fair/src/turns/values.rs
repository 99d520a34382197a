//! The values of one key, in order. Most keys have one at a time, which lies here and not in memory of
//! its own: who comes and goes touches no other.

use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Values<V> {
    /// Without it there are no others.
    first: Option<V>,
    rest: VecDeque<V>,
}

impl<V> Values<V> {
    pub(super) const fn new() -> Self {
        Self {
            first: None,
            rest: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) const fn front(&self) -> Option<&V> {
        self.first.as_ref()
    }

    pub(super) fn push_back(&mut self, value: V) {
        match &self.first {
            Some(_) => self.rest.push_back(value),
            None => self.first = Some(value),
        }
    }

    pub(super) fn push_front(&mut self, value: V) {
        if let Some(second) = self.first.replace(value) {
            self.rest.push_front(second);
        }
    }

    /// Takes the first one. Room for the others that grew beyond `kept` is given back with the last.
    pub(super) fn pop_front(&mut self, kept: usize) -> Option<V> {
        let value = self.first.take()?;
        if self.rest.capacity() > 0 {
            self.first = self.rest.pop_front();
            if self.first.is_none() {
                self.rest.shrink_to(kept);
            }
        }
        Some(value)
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&V) -> bool) {
        self.first = self.first.take().filter(&mut keep);
        self.rest.retain(keep);
        if self.first.is_none() {
            self.first = self.rest.pop_front();
        }
    }

    pub(super) fn into_all(self) -> VecDeque<V> {
        let mut all = self.rest;
        if let Some(first) = self.first {
            all.push_front(first);
        }
        all
    }
}
