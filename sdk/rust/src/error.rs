//! Errors of callbacks and of calls. Any standard error converts with `?`; a call that was
//! refused keeps its case, so that a handler can match on it.

use std::fmt;

/// What callbacks and calls return.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Why a callback failed. Made by `?` from any standard error, by [`bail!`](crate::bail) or by
/// [`Error::msg`]. A callback that returns one leaves no effect behind; the text goes to the log.
///
/// ```
/// use tidegate_sdk::{Error, Refused};
///
/// let error = Error::from(Refused::Offline);
/// assert!(matches!(error.refused(), Some(Refused::Offline)));
///
/// let error = Error::from("x".parse::<u32>().unwrap_err());
/// assert!(error.refused().is_none());
/// assert_eq!(error.to_string(), "invalid digit found in string");
/// ```
pub struct Error(Box<dyn std::error::Error + Send + Sync>);

impl Error {
    /// An error with this text.
    pub fn msg(text: impl fmt::Display) -> Self {
        Self(text.to_string().into())
    }

    /// The case, if a call of the gateway was refused.
    #[must_use]
    pub fn refused(&self) -> Option<&Refused> {
        self.0.downcast_ref()
    }

    /// The error behind this one, if it is a `T`.
    #[must_use]
    pub fn downcast_ref<T: std::error::Error + 'static>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

// `Error` itself is no standard error: otherwise this would be the reflexive conversion too.
impl<E: std::error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl From<Error> for Box<dyn std::error::Error + Send + Sync> {
    fn from(error: Error) -> Self {
        error.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// An argument breaks a documented rule; the text names it.
    InvalidArgument(String),
    /// No such client is connected.
    Offline,
    /// No answer within the deadline.
    Timeout,
    /// A limit of the tenant or of this event is reached; the text names it.
    QuotaExceeded(String),
    /// This call is not granted here; the text says why.
    NotPermitted(String),
    /// The value has changed since it was read.
    Conflict,
    /// Anything else.
    Other(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidArgument(text) => write!(f, "invalid argument: {text}"),
            Self::Offline => f.write_str("no such client is connected"),
            Self::Timeout => f.write_str("no answer within the deadline"),
            Self::QuotaExceeded(text) => write!(f, "quota exceeded: {text}"),
            Self::NotPermitted(text) => write!(f, "not permitted: {text}"),
            Self::Conflict => f.write_str("the value has changed since it was read"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Refused {}

/// Returns from a callback with an error of this text.
///
/// ```
/// use tidegate_sdk::{Result, bail};
///
/// fn check(age: u32) -> Result {
///     if age > 150 {
///         bail!("nobody is {age} years old");
///     }
///     Ok(())
/// }
/// assert_eq!(check(200).unwrap_err().to_string(), "nobody is 200 years old");
/// ```
#[macro_export]
macro_rules! bail {
    ($($text:tt)+) => {
        return ::core::result::Result::Err($crate::Error::msg(::core::format_args!($($text)+)))
    };
}
