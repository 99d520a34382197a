//! The clients of a simulation: each sends numbered lines and checks what it gets, line by line.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};

use tidegate_cluster::gateway::{Gateway, LocalClient};
use tidegate_wire::effect::DEAD_LETTERS_MAX;
use tidegate_wire::id::ClientId;

use crate::holdings::Holdings;
use crate::network::Host;
use crate::record::Record;

/// A client.
pub(crate) struct Person {
    pub(crate) number: usize,
    pub(crate) host: Host,
    /// Which life of its gateway.
    pub(crate) life: u64,
    pub(crate) monitor: bool,
    pub(crate) id: Option<ClientId>,
    pipe: LocalClient,
    unread: RefCell<Vec<u8>>,
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// Lines that must be answered and are not yet.
    pub(crate) due: VecDeque<u64>,
    /// Lines that were to be answered.
    promised: u64,
    /// Lines over which the handler trapped.
    traps: u8,
    /// Compare-and-sets asked for.
    pub(crate) swaps: u64,
    /// The lines that set timers which have not run out yet.
    pub(crate) timers: BTreeSet<u64>,
    /// The lines that have asked for tasks which are not over: the step that is to come, and how many
    /// there are.
    pub(crate) tasks: BTreeMap<u64, [u64; 2]>,
    /// What it asked to be kept.
    pub(crate) holdings: Holdings,
    /// Keys that it set in the sessions of other clients.
    pub(crate) gifts: BTreeMap<usize, u64>,
    /// To each other client.
    sent_to: BTreeMap<usize, u64>,
    pub(crate) got_from: BTreeMap<usize, u64>,
    /// Closes that a monitor was told.
    pub(crate) closes: BTreeMap<ClientId, u32>,
    /// How many commits and swaps each of those sessions knew of, if the session was there.
    pub(crate) counts: BTreeMap<ClientId, (u64, u64)>,
    /// What those closes say that was kept.
    pub(crate) kept: BTreeMap<ClientId, Kept>,
    /// Those of them that were said to be lost with their gateway.
    pub(crate) lost: BTreeSet<ClientId>,
    /// It has begun to close.
    pub(crate) left: bool,
    /// The gateway has closed.
    pub(crate) over: bool,
}

/// What a close says that was kept for its client.
#[derive(Debug)]
pub(crate) struct Kept {
    /// After so many commits of the client.
    pub(crate) commits: u64,
    pub(crate) value: String,
    pub(crate) groups: String,
    pub(crate) volatile: String,
    pub(crate) gifts: String,
}

impl Person {
    pub(crate) fn connect(
        number: usize,
        host: Host,
        life: u64,
        monitor: bool,
        gateway: &Gateway,
    ) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, number as u16));
        Self {
            number,
            host,
            life,
            monitor,
            id: None,
            pipe: gateway.connect(0, address),
            unread: RefCell::default(),
            sent: 0,
            answered: 0,
            due: VecDeque::new(),
            promised: 0,
            traps: 0,
            swaps: 0,
            timers: BTreeSet::new(),
            tasks: BTreeMap::new(),
            holdings: Holdings::default(),
            gifts: BTreeMap::new(),
            sent_to: BTreeMap::new(),
            got_from: BTreeMap::new(),
            closes: BTreeMap::new(),
            counts: BTreeMap::new(),
            kept: BTreeMap::new(),
            lost: BTreeSet::new(),
            left: false,
            over: false,
        }
    }

    pub(crate) fn is_here(&self) -> bool {
        !self.left && !self.over
    }

    pub(crate) fn say(&mut self, what: &str, record: &Record, now_ms: u64) {
        self.sent += 1;
        self.traps += u8::from(what == "trap");
        // Nobody traps so often that its gateway closes it.
        let what = match what {
            "trap" if self.traps >= DEAD_LETTERS_MAX => "fail",
            what => what,
        };
        // Handlers that fail send nothing.
        if what != "fail" && what != "trap" {
            self.due.push_back(self.sent);
            self.promised += 1;
            self.holdings.note(self.sent, self.promised, what);
        }
        let line = format!("{} {what}\n", self.sent);
        record.log(now_ms, || {
            format!("client {} says {}", self.number, line.trim())
        });
        // A gateway that is gone takes nothing.
        let _ = self.pipe.try_send(line.as_bytes());
    }

    /// Sends something for another client.
    pub(crate) fn greet(&mut self, other: usize, id: ClientId, record: &Record, now_ms: u64) {
        let k = self.sent_to.entry(other).or_default();
        *k += 1;
        let what = format!("to {id} {} {k}", self.number);
        self.say(&what, record, now_ms);
    }

    /// Sets a key in the session of another client.
    pub(crate) fn give(&mut self, other: usize, id: ClientId, record: &Record, now_ms: u64) {
        let k = self.gifts.entry(other).or_default();
        *k += 1;
        let what = format!("gift {id} {} {k}", self.number);
        self.say(&what, record, now_ms);
    }

    /// Asks for a compare-and-set that must succeed, since nobody else changes this key.
    pub(crate) fn swap(&mut self, record: &Record, now_ms: u64) {
        self.swaps += 1;
        self.say(&format!("swap {}", self.swaps), record, now_ms);
    }

    /// Asks for a timer, which must run out once.
    pub(crate) fn set_timer(&mut self, ms: u64, record: &Record, now_ms: u64) {
        self.say(&format!("timer {ms}"), record, now_ms);
        self.timers.insert(self.sent);
    }

    /// Asks for a task, each of whose steps must come once and in order.
    pub(crate) fn submit(&mut self, steps: u64, record: &Record, now_ms: u64) {
        self.say(&format!("task {steps}"), record, now_ms);
        self.tasks.insert(self.sent, [0, steps]);
    }

    /// How many it has sent to another client.
    pub(crate) fn sent_to(&self, other: usize) -> u64 {
        self.sent_to.get(&other).copied().unwrap_or_default()
    }

    pub(crate) fn leave(&mut self, record: &Record, now_ms: u64) {
        record.log(now_ms, || format!("client {} leaves", self.number));
        self.left = true;
        self.pipe.close();
    }

    /// Reads what has come. An error says what must not be.
    pub(crate) fn read(&mut self, record: &Record, now_ms: u64) -> Result<(), String> {
        let mut buffer = [0; 4096];
        loop {
            match self.pipe.try_receive(&mut buffer) {
                Ok(0) => {
                    if !self.over {
                        record.log(now_ms, || format!("client {} is closed", self.number));
                    }
                    self.over = true;
                    break;
                }
                Ok(count) => self.unread.borrow_mut().extend(&buffer[..count]),
                Err(_) => break,
            }
        }
        let unread = std::mem::take(&mut *self.unread.borrow_mut());
        let mut lines = unread.split(|byte| *byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            if lines.peek().is_none() {
                self.unread.replace(line.to_vec());
                break;
            }
            let line = String::from_utf8_lossy(line).into_owned();
            record.log(now_ms, || format!("client {} gets {line}", self.number));
            let told = self.take(&line);
            told.map_err(|what| format!("client {}: {what} ({line:?})", self.number))?;
        }
        Ok(())
    }

    fn take(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |place: usize| words[place].parse::<u64>().unwrap();
        match words[0] {
            "hello" if self.id.is_none() => self.id = Some(words[1].parse().unwrap()),
            "hello" => return Err("welcomed twice".to_owned()),
            "r" => {
                self.answered += 1;
                let due = self.due.pop_front();
                if Some(number(1)) != due {
                    return Err(format!("the answer to {due:?} was to come"));
                }
                if number(2) != self.answered {
                    return Err("the session does not count the commits".to_owned());
                }
            }
            "t" => {
                if self.due.contains(&number(1)) {
                    return Err("a timer of an event that is not answered".to_owned());
                }
                if !self.timers.remove(&number(1)) {
                    return Err("a timer that nobody set, or told twice".to_owned());
                }
            }
            "s" => {
                let Some([next, _]) = self.tasks.get_mut(&number(1)) else {
                    return Err(
                        "a step of a task that nobody asked for, or that is over".to_owned()
                    );
                };
                if number(2) != *next {
                    return Err(format!("its step {next} was to come"));
                }
                *next += 1;
            }
            "d" => match self.tasks.remove(&number(1)) {
                Some([next, steps]) if next == steps + 1 => {}
                Some([next, _]) => return Err(format!("its step {next} was to come")),
                None => return Err("the end of a task that is over".to_owned()),
            },
            "x" => return Err("a task has failed".to_owned()),
            "f" => {
                // Of one sender, whose home passes its effects on in the order of its commits, to
                // its own shards and to other gateways.
                let got = self.got_from.entry(number(1) as usize).or_default();
                *got += 1;
                if number(2) != *got {
                    return Err(format!("its {got}th was to come"));
                }
            }
            "closed" => {
                let id: ClientId = words[1].parse().unwrap();
                let closes = self.closes.entry(id).or_default();
                *closes += 1;
                if *closes > 1 {
                    return Err("a close is told twice".to_owned());
                }
                if let (Ok(count), swaps) = (words[3].parse(), words[5].parse()) {
                    self.counts.insert(id, (count, swaps.unwrap_or_default()));
                }
                if let Ok(commits) = words[3].parse() {
                    let kept = Kept {
                        commits,
                        value: words[6].to_owned(),
                        groups: words[7].to_owned(),
                        volatile: words[8].to_owned(),
                        gifts: words[9].to_owned(),
                    };
                    self.kept.insert(id, kept);
                }
                if words[2] == "GatewayLost" {
                    self.lost.insert(id);
                }
                if words[4] != "-" && words[4] != format!("u{id}") {
                    return Err("a close with the uid of somebody else".to_owned());
                }
            }
            _ => return Err("an unknown line".to_owned()),
        }
        Ok(())
    }
}
