//! What must hold: while a run settles, and at its end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_wire::id::ClientId;
use tidegate_wire::query::{Answer, Query, Selector};

use super::{Kind, SETTLE_MS, Violation, World};
use crate::handlers::tenant;
use crate::holdings::NOTHING;
use crate::network::Host;
use crate::people::{Kept, Person};

impl World {
    /// Nobody was closed without reason, and no gateway that lives was told to be lost.
    pub(super) fn judge(&self) -> Result<(), Violation> {
        for it in self.people.iter().filter(|it| self.lives_on(it)) {
            if it.over && !it.left && !(self.plan.more.fails && it.id.is_none()) {
                return Err(format!(
                    "client {} was closed although its gateway lives",
                    it.number
                ));
            }
            let lost = |monitor: &&Person| it.id.is_some_and(|id| monitor.lost.contains(&id));
            let told = self.people.iter();
            let told = told.filter(|monitor| !(self.witnesses_gone() && lost(monitor)));
            let counts = told.filter_map(|monitor| monitor.counts.get(&it.id?));
            for (count, swaps) in counts {
                if *count < it.answered || *swaps > it.swaps {
                    return Err(format!(
                        "client {}: its close knows of {count} commits and {swaps} swaps",
                        it.number
                    ));
                }
            }
            if !self.witnesses_gone() && self.people.iter().any(|monitor| lost(&monitor)) {
                let number = it.number;
                return Err(format!(
                    "client {number} was told as lost with its gateway, which lives"
                ));
            }
        }
        Ok(())
    }

    /// Every close says what was kept after as many commits as it knows of; and those at the end say
    /// what others have set and dissolved.
    pub(super) fn judge_kept(&self) -> Result<(), Violation> {
        for (place, it) in self.people.iter().enumerate() {
            for monitor in &self.people {
                let Some((id, kept)) = it.id.and_then(|id| Some((id, monitor.kept.get(&id)?)))
                else {
                    continue;
                };
                let (value, groups) = it.holdings.after(kept.commits);
                if kept.value != value || kept.groups != groups {
                    return Err(format!(
                        "client {}: its close has {kept:?}, right would be value {value}, groups {groups}",
                        it.number
                    ));
                }
                // One whose gateway was taken for lost and lives on was told long before the end.
                let early = self.witnesses_gone() && monitor.lost.contains(&id);
                if !self.stayed.contains(&place) || it.monitor || early {
                    continue;
                }
                if self.dissolved && kept.volatile != NOTHING {
                    return Err(format!(
                        "client {}: its close names groups that were dissolved: {kept:?}",
                        it.number
                    ));
                }
                self.judge_gifts(it, kept)?;
            }
        }
        Ok(())
    }

    /// What an instance said was heard once at the most; and where much was said, some of it.
    pub(super) fn judge_heard(&self) -> Result<(), Violation> {
        let heard = self.record.judge_heard()?;
        let answered: u64 = self.people.iter().map(|it| it.answered).sum();
        if heard == 0 && answered > 20 {
            return Err(format!("of {answered} answers no instance has heard"));
        }
        Ok(())
    }

    /// A client that stayed until the end has what others that stayed have set in its session.
    fn judge_gifts(&self, it: &Person, kept: &Kept) -> Result<(), Violation> {
        for giver in self.stayed.iter().map(|place| &self.people[*place]) {
            let Some(k) = giver.gifts.get(&it.number) else {
                continue;
            };
            let due = format!("{}={k}", giver.number);
            if !kept.gifts.split(',').any(|gift| gift == due) {
                return Err(format!(
                    "client {}: its close has {kept:?}, right would be {due} among the gifts",
                    it.number
                ));
            }
        }
        Ok(())
    }

    /// A register that was parted from the others may have declared a gateway lost and died, and all
    /// who heard of it too, before anybody could tell the gateway: then it lives on. No memory of it
    /// is left that could be asked. Where links pause, a register that is alone may be parted so too.
    fn witnesses_gone(&self) -> bool {
        let plan = &self.plan;
        (plan.registers > 1 || plan.bulk.pauses)
            && plan.kills_registers
            && (plan.partitions || plan.more.parts_registers || plan.bulk.pauses)
            && (plan.kills_workers || plan.more.drains || plan.bulk.kills_machines)
    }

    pub(super) fn explain(&self) -> String {
        let mut text = String::new();
        for it in &self.people {
            text += &format!(
                "\n  client {} {:?} at host {} life {} ({}): sent {}, answered {}, due {:?}, timers {:?}, tasks {:?}, got {:?}, left {}, over {}",
                it.number,
                it.id,
                it.host,
                it.life,
                self.machines[it.host].life,
                it.sent,
                it.answered,
                it.due,
                it.timers,
                it.tasks,
                it.got_from,
                it.left,
                it.over
            );
        }
        text
    }

    pub(crate) fn is_whole(&self) -> bool {
        let workers = self.plan.workers;
        let nodes = workers + self.plan.gateways;
        self.machines.iter().all(|machine| {
            let Some(process) = machine.process.as_ref().filter(|_| !machine.is_stopping()) else {
                return false;
            };
            match machine.kind {
                Kind::Register => true,
                Kind::Worker => process.nodes() == nodes,
                Kind::Gateway => {
                    let gateway = machine.shown.as_ref().map(|it| it.gateway.borrow());
                    let gateway = gateway.as_ref().and_then(|it| it.as_ref());
                    process.nodes() == nodes
                        && gateway.is_some_and(|it| *it.workers().borrow() == workers)
                }
            }
        })
    }

    pub(super) fn is_answered(&self) -> bool {
        let has_all =
            |it: &Person| it.due.is_empty() && it.timers.is_empty() && it.tasks.is_empty();
        let waits = |it: &&Person| it.is_here() && self.lives_on(it) && !has_all(it);
        !self.people.iter().any(|it| waits(&it))
    }

    /// Whether lasting clients have everything that lasting clients sent them.
    pub(super) fn has_arrived(&self) -> bool {
        let lasting: Vec<&Person> = (0..self.people.len())
            .filter(|place| self.is_lasting(*place))
            .map(|place| &self.people[place])
            .collect();
        lasting.iter().all(|to| {
            lasting.iter().all(|from| {
                let got = to.got_from.get(&from.number).copied().unwrap_or_default();
                got == from.sent_to(to.number)
            })
        })
    }

    /// Closes that monitors at gateways that lived from the start must know and do not.
    pub(super) fn untold(&self) -> Vec<(usize, ClientId)> {
        let lasting = (0..self.people.len()).filter(|place| self.is_lasting(*place));
        let monitors: Vec<&Person> = lasting
            .map(|place| &self.people[place])
            .filter(|it| it.monitor)
            .collect();
        let mut untold = Vec::new();
        for it in self.people.iter().filter(|it| !it.monitor) {
            let Some(id) = it.id else { continue };
            // A gateway that is lost while it forwards may have told only some.
            // So may one that adopted the close and was lost then: somebody there was told.
            let told = |it: &Person| !self.lives_on(it) && it.closes.contains_key(&id);
            let partly = self.people.iter().any(told);
            let must = self.lives_on(it) || (self.custodians_safe && !it.left && !partly);
            let must = must && self.record.has_seen(id) && self.is_first(it.life);
            let knows = |monitor: &&Person| monitor.closes.contains_key(&id);
            if must && !monitors.iter().all(knows) {
                untold.push((it.number, id));
            }
        }
        untold
    }

    /// At the end nobody but the monitors is online.
    pub(super) fn count_ghosts(&mut self) -> Result<(), Violation> {
        let here = |it: &&Person| it.is_here() && self.lives_on(it);
        let mut expected: Vec<ClientId> = self
            .people
            .iter()
            .filter(here)
            .filter_map(|it| it.id)
            .collect();
        expected.sort_unstable();
        for host in self.hosts(Kind::Gateway) {
            // Links between gateways may still be on their way.
            let end = self.now_ms + SETTLE_MS;
            let mut answered = self.ask(host)?;
            while answered.is_none() && self.now_ms < end {
                answered = self.ask(host)?;
            }
            let Some(answered) = answered else {
                return Err(format!("host {host} reaches no whole answer"));
            };
            if answered != expected {
                let what = "ghosts, or somebody is missing";
                return Err(format!(
                    "{what} at host {host}: {answered:?}, not {expected:?}"
                ));
            }
        }
        Ok(())
    }

    /// Who is online, as one gateway says; none if it could not reach all others.
    fn ask(&mut self, host: Host) -> Result<Option<Vec<ClientId>>, Violation> {
        let machine = &self.machines[host];
        let gateway = machine
            .shown
            .as_ref()
            .and_then(|it| it.gateway.borrow().clone());
        let (Some(gateway), Some(process)) = (gateway, &machine.process) else {
            return Ok(None);
        };
        let answer = Arc::new(Mutex::new(None));
        let told = answer.clone();
        process.spawn(async move {
            let query = Query::Clients {
                of: vec![Selector::Everyone],
                fields: tidegate_wire::query::ClientFields::default(),
                after: None,
                limit: 1000,
            };
            let within = Duration::from_secs(1);
            let answered = gateway.access().ask(&tenant(), query, within).await;
            told.lock().unwrap().replace(answered);
        });
        self.until(2_000, "a query to be answered", |_| {
            answer.lock().unwrap().is_some()
        })?;
        let answered = answer.lock().unwrap().take();
        match answered {
            Some(Ok(answered)) if answered.missing.is_empty() => match answered.answer {
                Answer::Clients { page, .. } => {
                    Ok(Some(page.into_iter().map(|it| it.client).collect()))
                }
                other => Err(format!("an answer to another question: {other:?}")),
            },
            Some(Ok(_)) => Ok(None),
            other => Err(format!("host {host} answers {other:?}")),
        }
    }
}
