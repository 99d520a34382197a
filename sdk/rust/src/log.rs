//! Logging (`wasi:logging`): one macro a level, with the arguments of `format!`. The module of
//! the caller is the context, so that an operator can tell the parts of a plugin apart.
//!
//! ```
//! use tidegate_sdk::log;
//!
//! log::info!("{} users", 3);
//! ```
//! Natively the lines go to standard error.

use std::fmt;

use crate::backend;

/// How severe a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Values of variables and the flow of control.
    Trace,
    /// Of interest to someone who debugs.
    Debug,
    /// Of interest to someone who watches.
    Info,
    /// A hazardous situation.
    Warn,
    /// A serious error.
    Error,
    /// A fatal error.
    Critical,
}

/// Emits one message under a context of your own.
pub fn log(level: Level, context: &str, message: fmt::Arguments<'_>) {
    match message.as_str() {
        Some(message) => backend::log(level, context, message),
        None => backend::log(level, context, &message.to_string()),
    }
}

#[doc(hidden)]
#[macro_export]
macro_rules! __trace {
    ($($text:tt)+) => {
        $crate::log::log($crate::log::Level::Trace, ::core::module_path!(), ::core::format_args!($($text)+))
    };
}
/// Logs values of variables and the flow of control.
pub use __trace as trace;

#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($text:tt)+) => {
        $crate::log::log($crate::log::Level::Debug, ::core::module_path!(), ::core::format_args!($($text)+))
    };
}
/// Logs what someone who debugs wants to know.
pub use __debug as debug;

#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($text:tt)+) => {
        $crate::log::log($crate::log::Level::Info, ::core::module_path!(), ::core::format_args!($($text)+))
    };
}
/// Logs what someone who watches wants to know.
pub use __info as info;

#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($text:tt)+) => {
        $crate::log::log($crate::log::Level::Warn, ::core::module_path!(), ::core::format_args!($($text)+))
    };
}
/// Logs a hazardous situation.
pub use __warn as warn;

#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($text:tt)+) => {
        $crate::log::log($crate::log::Level::Error, ::core::module_path!(), ::core::format_args!($($text)+))
    };
}
/// Logs a serious error.
pub use __error as error;

#[doc(hidden)]
#[macro_export]
macro_rules! __critical {
    ($($text:tt)+) => {
        $crate::log::log($crate::log::Level::Critical, ::core::module_path!(), ::core::format_args!($($text)+))
    };
}
/// Logs a fatal error.
pub use __critical as critical;
