//! ◆ Many registers are one view.
//!
//! Guarantees: whoever any register with a link lists is in the view; a node leaves the view only
//! when at least one register with a link is past its grace time and none that speaks lists the
//! node, or when one says that the node has left by its own word. A register that is lost or starts
//! again shrinks nothing by that. A gateway that left the view never comes back in the same life, since
//! its close may have been told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tidegate_wire::id::Incarnation;
use tidegate_wire::membership::{Node, Role, View};

use super::lost::Lost;

/// What the registers say, and what follows from it.
#[derive(Debug)]
pub(super) struct Merge {
    registers: Vec<Option<Said>>,
    hold: Duration,
    nodes: BTreeMap<Incarnation, Node>,
    lost: Lost,
    /// Those who have left by their own word, workers too.
    left: Lost,
}

/// The last view of one register.
#[derive(Debug)]
struct Said {
    view: View,
    /// None while there is a link. After that it still speaks for its nodes until then: a link
    /// that breaks for a moment must not leave the word to another register that has lost them.
    until: Option<Instant>,
}

impl Merge {
    /// For this many registers. `hold` is how long a register speaks after its link has ended.
    pub(super) fn new(registers: usize, hold: Duration) -> Self {
        Self {
            registers: std::iter::repeat_with(|| None).take(registers).collect(),
            hold,
            nodes: BTreeMap::new(),
            lost: Lost::default(),
            left: Lost::default(),
        }
    }

    /// A register has pushed its view.
    pub(super) fn heard(&mut self, register: usize, view: View) {
        if let Some(said) = self.registers.get_mut(register) {
            *said = Some(Said { view, until: None });
        }
    }

    /// The link to a register has ended.
    pub(super) fn ended(&mut self, register: usize, now: Instant) {
        if let Some(Some(said)) = self.registers.get_mut(register) {
            said.until.get_or_insert(now + self.hold);
        }
    }

    /// Draws the conclusions. Returns whether the nodes have changed.
    pub(super) fn conclude(&mut self, now: Instant) -> bool {
        for said in &mut self.registers {
            if said.as_ref().is_some_and(|said| said.is_over(now)) {
                *said = None;
            }
        }
        let mut changed = self.part_with_left();
        let mut listed = BTreeSet::new();
        for said in self.registers.iter().flatten() {
            for node in &said.view.nodes {
                if self.left.contains(node.incarnation) {
                    continue;
                }
                listed.insert(node.incarnation);
                if said.until.is_none() && !self.lost.contains(node.incarnation) {
                    let before = self.nodes.insert(node.incarnation, node.clone());
                    changed |= before.as_ref() != Some(node);
                }
            }
        }
        let linked = self
            .registers
            .iter()
            .flatten()
            .filter(|s| s.until.is_none());
        if !linked.into_iter().any(|said| said.view.settled) {
            return changed;
        }
        let lost = &mut self.lost;
        self.nodes.retain(|incarnation, node| {
            let keep = listed.contains(incarnation);
            if !keep && node.role == Role::Gateway {
                lost.insert(*incarnation);
            }
            changed |= !keep;
            keep
        });
        changed
    }

    /// Drops those who have left by their own word, which counts more than what a register that heard less
    /// lists. Says whether there were any.
    fn part_with_left(&mut self) -> bool {
        let mut any = false;
        for said in self.registers.iter_mut().flatten() {
            for incarnation in std::mem::take(&mut said.view.left) {
                self.left.insert(incarnation);
                if let Some(node) = self.nodes.remove(&incarnation) {
                    any = true;
                    if node.role == Role::Gateway {
                        self.lost.insert(incarnation);
                    }
                }
            }
        }
        any
    }

    /// When to conclude again although no register says anything.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.registers
            .iter()
            .flatten()
            .filter_map(|said| said.until)
            .min()
    }

    pub(super) fn nodes(&self) -> &BTreeMap<Incarnation, Node> {
        &self.nodes
    }

    pub(super) fn lost(&self) -> &Lost {
        &self.lost
    }

    /// The nodes that no register with a link lists, not counting those that do not drop anybody yet.
    pub(super) fn unlisted(&self) -> BTreeSet<Incarnation> {
        let linked = self.registers.iter().flatten();
        let linked = linked.filter(|said| said.until.is_none() && said.view.settled);
        let listed: BTreeSet<Incarnation> = linked
            .flat_map(|said| said.view.nodes.iter().map(|node| node.incarnation))
            .collect();
        let nodes = self.nodes.keys();
        nodes.filter(|it| !listed.contains(it)).copied().collect()
    }

    /// How many registers have a link and have answered.
    pub(super) fn connected(&self) -> usize {
        let linked = |said: &&Said| said.until.is_none();
        self.registers.iter().flatten().filter(linked).count()
    }
}

impl Said {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

#[cfg(test)]
mod tests;
