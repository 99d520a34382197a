//! The figures: what Tidegate costs beside the plainest server, measured in the same run. Each
//! repetition takes every subject in turn, so that a disturbance of the machine falls on all of
//! them; a figure is the median of the repetitions.

mod pairs;
mod subject;
mod table;

pub use subject::Subject;
pub use table::Table;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::load;
use crate::plugins::{Plugin, another_build, replace};
use crate::{Client, wait};
use subject::Running;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Repetitions.
    pub repetitions: usize,
    /// Length of each measurement.
    pub window: Duration,
    /// Connections of the memory figure.
    pub idle: usize,
    /// The core of the servers, if processes can be pinned.
    pub pin: Option<usize>,
    /// Only the baseline.
    pub plain_only: bool,
    /// The `tidegate` of another build, beside which this one is measured too.
    pub base: Option<&'static Path>,
}

/// Repetitions of a whole run.
const REPETITIONS: usize = 3;

impl Plan {
    /// A whole run, or a look within a minute.
    #[must_use]
    pub const fn new(quick: bool, pin: Option<usize>, plain_only: bool) -> Self {
        Self {
            repetitions: if quick { 1 } else { REPETITIONS },
            window: Duration::from_millis(if quick { 1500 } else { 5000 }),
            idle: if quick { 2000 } else { 10_000 },
            pin,
            plain_only,
            base: None,
        }
    }

    fn subjects(self) -> &'static [Subject] {
        if self.plain_only {
            &[Subject::Plain]
        } else {
            &Subject::ALL
        }
    }

    const fn is_quick(self) -> bool {
        self.repetitions < REPETITIONS
    }

    /// How long one of two builds is loaded at a time.
    fn turn(self) -> Duration {
        self.window / 20
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Figure {
    /// Round trips per second with this many connections.
    RoundTrips(usize),
    /// Deliveries per second to a group with this many members.
    Deliveries(usize),
    /// Resident bytes per idle connection.
    IdleBytes,
    /// Seconds from the end of the write of a new version to its first answer.
    ReloadSeconds,
}

impl Figure {
    /// All, in the order of the table.
    pub const ALL: [Self; 5] = [
        Self::RoundTrips(50),
        Self::RoundTrips(500),
        Self::Deliveries(1000),
        Self::IdleBytes,
        Self::ReloadSeconds,
    ];
}

/// The size of every payload.
const PAYLOAD_BYTES: usize = 64;

/// How often a plugin is replaced in one repetition.
const RELOADS: usize = 3;

/// Measures everything. `tell` gets a line of progress at a time.
///
/// # Errors
/// When a server does not start, breaks or answers wrongly.
pub async fn measure(plan: Plan, tell: &mut dyn FnMut(&str)) -> Result<Table> {
    let mut table = Table::default();
    for repetition in 1..=plan.repetitions {
        for &subject in plan.subjects() {
            tell(&format!(
                "repetition {repetition} of {}: {}",
                plan.repetitions,
                subject.name()
            ));
            speed(plan, subject, &mut table, tell).await?;
            memory(plan, subject, &mut table, tell).await?;
            if subject != Subject::Plain {
                reloads(plan, subject, &mut table, tell).await?;
            }
        }
    }
    if plan.base.is_some() {
        table.compared = pairs::compare(plan, tell).await?;
    }
    Ok(table)
}

async fn speed(
    plan: Plan,
    subject: Subject,
    table: &mut Table,
    tell: &mut dyn FnMut(&str),
) -> Result<()> {
    let running = subject.start(None, plan).await?;
    for figure in Figure::ALL.into_iter().filter(|it| it.is_speed()) {
        let value = speed_of(&running, figure, plan.window).await;
        let value = value.with_context(|| format!("{figure:?} of {}", subject.name()))?;
        tell(&table.add(figure, subject, value));
    }
    Ok(())
}

async fn speed_of(server: &Running, figure: Figure, window: Duration) -> Result<f64> {
    let (address, payload) = (server.address()?, [b'x'; PAYLOAD_BYTES]);
    match figure {
        Figure::RoundTrips(connections) => {
            load::round_trips(address, connections, &payload, window).await
        }
        Figure::Deliveries(members) => load::deliveries(address, members, &payload, window).await,
        Figure::IdleBytes | Figure::ReloadSeconds => bail!("{figure:?} is no speed"),
    }
}

async fn memory(
    plan: Plan,
    subject: Subject,
    table: &mut Table,
    tell: &mut dyn FnMut(&str),
) -> Result<()> {
    let value = grown(plan, &subject.start(None, plan).await?).await?;
    tell(&table.add(Figure::IdleBytes, subject, value));
    Ok(())
}

/// Bytes by which a server has grown for each of many idle connections.
async fn grown(plan: Plan, running: &Running) -> Result<f64> {
    let empty = running.resident_bytes()?;
    let mut idle = load::open(running.address()?, plan.idle).await?;
    // An answer to the last one says that the others have been taken in.
    let last = idle.last_mut().context("no connections")?;
    last.write(&load::encode(b"E:there")).await?;
    last.next().await?;
    let grown = running.resident_bytes()?.saturating_sub(empty);
    Ok(grown as f64 / plan.idle as f64)
}

async fn reloads(
    plan: Plan,
    subject: Subject,
    table: &mut Table,
    tell: &mut dyn FnMut(&str),
) -> Result<()> {
    let mut reloading = Reloading::start(plan, subject).await?;
    for _ in 0..RELOADS {
        let seconds = reloading.reload().await?;
        tell(&table.add(Figure::ReloadSeconds, subject, seconds));
    }
    Ok(())
}

/// A server whose plugin is replaced again and again.
struct Reloading {
    client: Client,
    file: PathBuf,
    component: Vec<u8>,
    // In this order: the server goes before its folder.
    _running: Running,
    _folder: tempfile::TempDir,
}

impl Reloading {
    async fn start(plan: Plan, subject: Subject) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = Plugin::Bench.copy_to(folder.path())?;
        let component = std::fs::read(&file)?;
        let running = subject.start(Some(&file), plan).await?;
        Ok(Self {
            client: Client::web_socket(running.address()?, "/").await?,
            file,
            component,
            _running: running,
            _folder: folder,
        })
    }

    /// Seconds from the end of the write to the first answer of the new version.
    async fn reload(&mut self) -> Result<f64> {
        // New to the compile cache.
        let label = format!("{:032x}", rand::random::<u128>());
        let build = another_build(&self.component, &label)?;
        let old = version(&mut self.client).await?;
        replace(&self.file, &build)?;
        let start = Instant::now();
        wait::within("the new version answers", async {
            while version(&mut self.client).await? == old {}
            Ok(())
        })
        .await?;
        Ok(start.elapsed().as_secs_f64())
    }
}

async fn version(client: &mut Client) -> Result<String> {
    Ok(client.who().await?.version)
}
