//! What a connection with a codec has beside its queue of bytes: messages that are not bytes yet.

use std::cell::{Cell, RefCell};

use tidegate_hub::outbound::{Outbound, Plain};

/// How many messages one job of the codec takes, and how many bytes of them.
const JOB_MESSAGES_MAX: usize = 64;
const JOB_BYTES_MAX: usize = 64 << 10;

/// Filled by the shard, emptied by the connection's task.
#[derive(Default)]
pub(super) struct Unencoded {
    waits: RefCell<Outbound>,
    /// Bytes of messages that the codec has.
    under_way: Cell<usize>,
    /// The socket has no more. What came is still to be decoded.
    socket_ended: Cell<bool>,
}

impl Unencoded {
    /// Where messages wait.
    pub(super) const fn waits(&self) -> &RefCell<Outbound> {
        &self.waits
    }

    /// Bytes of messages that wait or that the codec has.
    pub(super) fn bytes(&self) -> usize {
        self.waits.borrow().bytes() + self.under_way.get()
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waits.borrow().is_empty()
    }

    /// Takes some for one job.
    pub(super) fn take(&self) -> Vec<Plain> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        let mut waits = self.waits.borrow_mut();
        while taken.len() < JOB_MESSAGES_MAX
            && bytes < JOB_BYTES_MAX
            && let Some(plain) = waits.take_plain()
        {
            // With the byte that says its kind.
            bytes += plain.bytes() + 1;
            taken.push(plain);
        }
        self.under_way.set(bytes);
        taken
    }

    /// What was taken is bytes now.
    pub(super) fn done(&self) {
        self.under_way.set(0);
    }

    pub(super) fn clear(&self) {
        self.waits.borrow_mut().clear();
    }

    pub(super) fn socket_ended(&self) -> bool {
        self.socket_ended.get()
    }

    pub(super) fn end_socket(&self) {
        self.socket_ended.set(true);
    }
}
