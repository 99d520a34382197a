//! `tidegate`: reads the command line and the configuration, starts telemetry, the control thread and
//! the watchdog, runs one command until it ends or is stopped. It orders these steps and does nothing else.

use std::future::Future;
use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tidegate::cli::{Arguments, Command};
use tidegate::command::{check, client, config as print, gateway, register, serve, worker};
use tidegate::config::{Config, ConfigErrors};
use tidegate::ending::{self, FAILED};
use tidegate::telemetry::{self, Logging};
use tidegate::{control, descriptors};
use tidegate_watchdog::{self as watchdog, watched};
use tokio_util::sync::CancellationToken;

/// Wrong usage or configuration; clap exits with the same.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    if let Command::Config(it) = &command
        && it.default
    {
        return ended(print::print_default());
    }
    if let Command::Client(it) = &command {
        return ExitCode::from(client::run(it));
    }
    let file = command.common();
    let file = file.and_then(|common| common.config_file(std::env::var_os("TIDEGATE_CONFIG")));
    let overrides = command.overrides();
    let load = move || Config::load(file.as_deref(), environment(), &overrides);
    let config = match load() {
        Ok(config) => config,
        Err(errors) => return refused(&errors),
    };
    match command {
        Command::Serve(_) => run(config, Box::new(load), serve::run),
        Command::Register(_) => run(config, Box::new(load), register::run),
        Command::Gateway(_) => run(config, Box::new(load), gateway::run),
        Command::Worker(_) => run(config, Box::new(load), worker::run),
        Command::Check(it) => {
            let checked = check::by_loading(&config)
                .and_then(|load| check::run(&config, &it.plugins, &*load, &mut std::io::stdout()));
            ended(checked)
        }
        Command::Config(_) | Command::Client(_) => ended(print::print_effective(&config)),
    }
}

/// Unlike `std::env::vars` this does not panic at a variable that is not UTF-8.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        Some((name, value.to_string_lossy().into_owned()))
    })
}

/// Runs a service until it ends or is told to stop.
fn run<F>(
    config: Config,
    reread: control::Reread,
    service: impl FnOnce(Config, CancellationToken) -> F,
) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    let in_file = config.log.file.is_some();
    if let Err(errors) = config.check_files() {
        return refused(&errors);
    }
    let logging = match telemetry::start_logging(&config.log) {
        Ok(logging) => logging,
        Err(error) => return ended(Err(error)),
    };
    match start(config, logging, reread, service) {
        Ok(()) => ending::code(0),
        Err(error) => {
            let text = format!("{error:#}");
            if in_file {
                // Standard error has it anyhow.
                tracing::error!(error = text, "the process ends");
            }
            ending::say(&format!("error: {text}"));
            ending::code(FAILED)
        }
    }
}

fn start<F>(
    mut config: Config,
    logging: Logging,
    reread: control::Reread,
    service: impl FnOnce(Config, CancellationToken) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    // What SIGHUP reads is compared with what was given, not with what fits.
    let given = config.clone();
    descriptors::fit(&mut config)?;
    let stop = CancellationToken::new();
    if config.admin.listen.is_some() {
        // Before anything counts.
        telemetry::metrics(config.purpose)?;
    }
    ending::prepare(&config, stop.clone(), logging.clone());
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    control::start(&given, logging, reread)?;
    let end = Duration::from_millis(config.watchdog.end_ms);
    let end = Some(end).filter(|end| !end.is_zero());
    let stuck = Duration::from_millis(config.watchdog.stuck_ms);
    watchdog::start(stuck, end).context("the watchdog's thread cannot be started")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("tidegate")
        // Guests that spin yield every few milliseconds: sockets must not wait for 61 of them.
        .event_interval(11)
        .build()
        .context("the runtime's threads cannot be started")?;
    runtime.spawn(control::beat("the runtime"));
    let main = || runtime.block_on(async { watched("the main task", service(config, stop)).await });
    // Its panic was told, and has begun the end.
    let result = std::panic::catch_unwind(AssertUnwindSafe(main)).unwrap_or(Ok(()));
    // A plugin that is being compiled must not keep the process alive.
    runtime.shutdown_timeout(ending::for_threads());
    result
}

fn refused(errors: &ConfigErrors) -> ExitCode {
    for error in errors.iter() {
        let _ = writeln!(std::io::stderr(), "error: {error}");
    }
    ExitCode::from(WRONG)
}

fn ended(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has had enough, like `head`.
        Err(error) if client::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}
