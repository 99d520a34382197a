//! Fairness: how much of a limit each of many may have ([`Shares`]), and whose turn it is
//! ([`Turns`]). Plain data without I/O. [`Places`] is a limit in number that threads share.

mod places;
mod shares;
mod turns;

pub use places::{Place, Places};
pub use shares::Shares;
pub use turns::Turns;
