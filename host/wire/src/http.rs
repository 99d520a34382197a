//! HTTP of a tenant's own: a request that its handler answers, and the answer.
//!
//! Both are whole: what belongs to one connection only (RFC 9110, section 7.6.1) is not in them, nor is
//! how their bodies were framed.

use serde::{Deserialize, Serialize};

use crate::Name;
use crate::payload::{Carry, Payload};

/// Lines of a head: names in lower case, and values, which are bytes.
pub type Fields = Vec<(String, Vec<u8>)>;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpCall {
    /// `GET` and its like.
    pub method: Name,
    /// Path and query, percent-encoded as they came.
    pub target: String,
    /// Which host was meant, with its port if that was said.
    pub authority: String,
    /// Its header lines, in order, without `host`.
    pub headers: Fields,
    /// Its body.
    pub body: Payload,
}

impl Carry for HttpCall {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        visit(&self.body);
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        visit(&mut self.body);
    }
}

/// What the handler answers to one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpAnswer {
    /// 200 to 599.
    pub status: u16,
    /// Its header lines, in order.
    pub headers: Fields,
    /// Its body.
    pub body: Payload,
}

impl Carry for HttpAnswer {
    fn carry<'a>(&'a self, visit: &mut dyn FnMut(&'a Payload)) {
        visit(&self.body);
    }

    fn carry_mut(&mut self, visit: &mut dyn FnMut(&mut Payload)) {
        visit(&mut self.body);
    }
}
