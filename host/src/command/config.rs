//! `tidegate config`: prints the configuration in force, or the default one with comments.

use std::io::Write;

use crate::config::{Config, default_file, effective_file};

/// Prints every key with its default and its meaning.
///
/// # Errors
/// When standard output cannot be written.
pub fn print_default() -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(default_file().as_bytes())?)
}

/// Prints what is in force, without secrets.
///
/// # Errors
/// When standard output cannot be written.
pub fn print_effective(config: &Config) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(effective_file(config).as_bytes())?)
}
