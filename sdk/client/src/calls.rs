//! One method for each call, a file for each subject.

mod act;
mod ask;
mod deploy;
mod run;

pub use deploy::Deploy;
