//! `hub` of the fake, for command components.

use super::Result;
use super::directory::{check, info_page};
use crate::directory::{ClientInfo, Fields, Page, Selector};
use crate::testing::event;
use crate::testing::hub::ADDRESS;

pub(crate) fn gateway_address() -> String {
    ADDRESS.to_owned()
}

pub(crate) fn infos(
    of: &[Selector],
    fields: Fields,
    after: Option<&str>,
    limit: u32,
) -> Result<Page<ClientInfo>> {
    check(of)?;
    event::ask_hub(|hub| info_page(hub, of, fields, (after, limit)))
}

pub(crate) fn client_count(of: &[Selector]) -> Result<u64> {
    check(of)?;
    event::ask_hub(|hub| Ok(hub.selected(of).len() as u64))
}
