//! `tidegate`: reads the command line and the configuration, starts telemetry, runs one command
//! until it ends or a signal stops it. It orders these steps and does nothing else.

use std::future::Future;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tidegate::cli::{Arguments, Command};
use tidegate::command::{check, client, config as print, gateway, register, serve, worker};
use tidegate::config::{Config, ConfigErrors};
use tidegate::telemetry;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// It failed while it ran.
const FAILED: u8 = 1;
/// Wrong usage or configuration; clap exits with the same.
const WRONG: u8 = 2;
/// So long may threads take to end after the service has.
const THREADS_END: Duration = Duration::from_secs(1);

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
    let config = match Config::load(file.as_deref(), environment(), &command.overrides()) {
        Ok(config) => config,
        Err(errors) => return refused(&errors),
    };
    match command {
        Command::Serve(_) => run(config, serve::run),
        Command::Register(_) => run(config, register::run),
        Command::Gateway(_) => run(config, gateway::run),
        Command::Worker(_) => run(config, worker::run),
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
fn run<F>(config: Config, service: impl FnOnce(Config, CancellationToken) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    if let Err(errors) = config.check_files() {
        return refused(&errors);
    }
    ended(start(config, service))
}

fn start<F>(
    config: Config,
    service: impl FnOnce(Config, CancellationToken) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    telemetry::start_logging(&config.log)?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("tidegate")
        // Guests that spin yield every few milliseconds: sockets must not wait for 61 of them.
        .event_interval(11)
        .build()
        .context("the runtime's threads cannot be started")?;
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_on_signals(stop.clone())?;
        service(config, stop).await
    });
    // A plugin that is being compiled must not keep the process alive.
    runtime.shutdown_timeout(THREADS_END);
    result
}

/// The first signal stops in order, the second at once.
fn stop_on_signals(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                tracing::warn!("a second signal: ending at once");
                std::process::exit(i32::from(FAILED));
            }
            tracing::info!("stopping; a second signal ends at once");
            stop.cancel();
        }
    });
    Ok(())
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
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}
