//! `tidegate:plugin/timers`: what sets and cancels collects one effect; `waiting` asks. The id of a
//! timer is made here, of the event that sets it.

use tidegate_wire::effect::Effect;
use tidegate_wire::effect_id::EffectIdError;
use tidegate_wire::payload::Payload;
use tidegate_wire::query::{Answer, Query, TimerInfo};
use tidegate_wire::timer::{SettingRefused, TimerId, check};

use super::directory::convert;
use super::{HostState, invalid, offered, quota};
use offered::timers as wit;
use offered::types::Error;

/// What a timer costs beside its payload, for the limit of bytes: about its size on a link.
const TIMER_BYTES: usize = 48;

impl wit::Host for HostState {
    fn after(&mut self, delay_ms: u64, payload: Vec<u8>) -> Result<String, Error> {
        self.set_timer(delay_ms, false, payload)
    }

    fn every(&mut self, period_ms: u64, payload: Vec<u8>) -> Result<String, Error> {
        self.set_timer(period_ms, true, payload)
    }

    fn cancel(&mut self, timer: String) -> Result<(), Error> {
        let timer: Result<TimerId, EffectIdError> = timer.parse();
        let timer = Box::new(timer.map_err(|error| invalid(error.to_string()))?);
        self.push(Effect::CancelTimer { timer }, TIMER_BYTES)
    }

    async fn waiting(
        &mut self,
        after: Option<String>,
        limit: u32,
    ) -> Result<wit::TimerPage, Error> {
        let after: Option<Result<TimerId, EffectIdError>> = after.map(|after| after.parse());
        let after = after
            .transpose()
            .map_err(|error| invalid(error.to_string()))?;
        let query = Query::Timers {
            of: self.current()?.client.as_ref().map(|own| own.id),
            after: after.map(Box::new),
            limit: convert::limit(limit)?,
        };
        let answered = self.ask(query, self.patience()).await?;
        let Answer::Timers { page, more } = answered.answer else {
            return Err(convert::unexpected(&answered.answer));
        };
        let last = page.last().map(|it| it.timer.to_string());
        Ok(wit::TimerPage {
            next: last.filter(|_| more),
            timers: page.into_iter().map(info).collect(),
            coverage: convert::coverage(&answered.missing),
        })
    }
}

fn info(info: TimerInfo) -> wit::TimerInfo {
    wit::TimerInfo {
        timer: info.timer.to_string(),
        due_in_ms: info.due_in_ms,
        period_ms: info.period_ms,
        payload: info.payload.into_bytes().into(),
    }
}

impl HostState {
    fn set_timer(
        &mut self,
        delay_ms: u64,
        repeats: bool,
        payload: Vec<u8>,
    ) -> Result<String, Error> {
        check(delay_ms, repeats, &payload).map_err(|refused| match refused {
            SettingRefused::Time(text) => invalid(text),
            SettingRefused::Payload(text) => quota(text),
        })?;
        let timer = self.current()?.next_id()?;
        let bytes = TIMER_BYTES + payload.len();
        let effect = Effect::SetTimer {
            timer: Box::new(timer),
            delay_ms,
            repeats,
            payload: Payload::from(payload),
        };
        self.push(effect, bytes)?;
        Ok(timer.to_string())
    }
}
