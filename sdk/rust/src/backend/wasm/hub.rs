//! `hub` of the host, for command components.

use super::directory::{info_page, selecting, wanted};
use super::{Result, lift};
use crate::bindings::tidegate::plugin::hub as host;
use crate::directory::{ClientInfo, Fields, Page, Selector};

pub(crate) use host::gateway_address;

pub(crate) fn infos(
    of: &[Selector],
    fields: Fields,
    after: Option<&str>,
    limit: u32,
) -> Result<Page<ClientInfo>> {
    let fields = wanted(fields);
    info_page(lift(selecting(of, |of| {
        host::infos(of, fields, after, limit)
    }))?)
}

pub(crate) fn client_count(of: &[Selector]) -> Result<u64> {
    lift(selecting(of, host::client_count))
}
