//! Tidegate's Client API for outside applications: its types and an async client.
//!
//! A call goes to one gateway and concerns the whole cluster, always within the token's tenant.
//! Each call has a deadline, within which it is repeated if that is safe: questions always,
//! actions because each carries an idempotency key. What could not be asked of every gateway says
//! so in `missing`.
//!
//! ```no_run
//! use tidegate_client::{Client, ClientsQuery, Field, Selector, Send};
//!
//! # async fn example() -> Result<(), tidegate_client::Error> {
//! let tidegate = Client::new("http://127.0.0.1:7280", "a-token-of-sixteen-or-more")?;
//! tidegate.send(&Send::new(Selector::groups(["lobby"]), "hello")).await?;
//!
//! let query = ClientsQuery::new([Selector::groups(["lobby"])], [Field::Uid]);
//! let page = tidegate.clients(&query).await?;
//! for client in page.items {
//!     println!("{} is {:?}", client.client, client.uid);
//! }
//! if !page.missing.is_empty() {
//!     println!("without {:?}", page.missing);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! It reaches `https://` with the feature `tls`.

mod call;
mod calls;
mod client;
mod error;
mod feed;
mod pages;
mod sse;
mod types;

pub use calls::Deploy;
pub use client::{Builder, Client};
pub use error::Error;
pub use feed::{FeedFilter, Told};
pub use types::*;

/// The guide's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/client-api.md")]
struct Guide;
