//! The two clusters that all rows share: one process that is everything, and three gateways apart.
//! Each is started by the first row that needs it and ends with the table, or with the process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::TempDir;
use tidegate_tests::process::without_tails;
use tidegate_tests::{Cluster, Outcome, Plugin, Transport, eventually};

use super::ROWS;

/// How many gateways a cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    One,
    Three,
}

/// Tenants of tests beside the rows, one for each of them.
pub(crate) const OTHERS: [&str; 7] = [
    "stranger", "requests", "keys", "numbers", "batches", "feed", "commands",
];

/// A running cluster, and the command component of its tenants.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) cluster: Cluster,
    command: PathBuf,
    _folder: TempDir,
}

type Slot = Mutex<Option<Result<Arc<Fixture>, String>>>;

static FIXTURES: [Slot; 2] = [Mutex::new(None), Mutex::new(None)];

impl Fixture {
    /// The shared cluster of this size.
    pub(crate) fn get(size: Size) -> Result<Arc<Self>> {
        static AT_EXIT: Once = Once::new();
        AT_EXIT.call_once(end_with_the_process);
        let mut slot = slot(size).lock().unwrap_or_else(PoisonError::into_inner);
        // A cluster that does not start is not tried again for each row.
        slot.get_or_insert_with(|| start_apart(size).map(Arc::new))
            .clone()
            .map_err(|error| anyhow!(error))
    }

    /// The file of the command component, to be replaced.
    pub(crate) fn command(&self) -> &Path {
        &self.command
    }

    /// How many gateways it has.
    pub(crate) fn gateways(&self) -> usize {
        self.cluster.gateways.len()
    }

    async fn start(size: Size) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let command = Plugin::ProbeCommand.copy_to(folder.path())?;
        let mut builder = match size {
            Size::One => Cluster::serve(),
            Size::Three => Cluster::apart(3, 1),
        };
        builder = builder
            .other_plugin_file(&Plugin::Probe.path()?)
            .shared()
            .settings("[link]\nheartbeat-ms = 500\nlease-ms = 3000");
        let rows = ROWS.iter().map(|row| row.tenant());
        for name in rows.chain(OTHERS.map(str::to_owned)) {
            builder = match name.as_str() {
                "row-08" | "row-39" => builder.tenant(&name, &Transport::ALL),
                _ => builder.tenant(&name, &[Transport::Ws]),
            };
            if ["row-47", "row-48", "commands"].contains(&name.as_str()) {
                builder = builder.command(&command);
            }
        }
        let fixture = Self {
            cluster: builder.start().await?,
            command,
            _folder: folder,
        };
        fixture.is_whole().await?;
        Ok(fixture)
    }

    async fn is_whole(&self) -> Outcome {
        let count = self.gateways();
        for gateway in &self.cluster.gateways {
            let api = gateway.api("stranger")?;
            eventually(
                &format!("{} knows all gateways", gateway.name()),
                async || {
                    let status = api.get("/v1/status").await?.ok()?;
                    let known = status["gateways"].as_array().map_or(0, Vec::len);
                    ensure!(
                        known == count && status["missing"] == serde_json::json!([]),
                        "{status}"
                    );
                    Ok(Some(()))
                },
            )
            .await?;
        }
        Ok(())
    }
}

fn slot(size: Size) -> &'static Slot {
    let [one, three] = &FIXTURES;
    match size {
        Size::One => one,
        Size::Three => three,
    }
}

/// On a thread of its own, whose name becomes that of the folder of its logs.
fn start_apart(size: Size) -> Result<Fixture, String> {
    let name = match size {
        Size::One => "conformance-one",
        Size::Three => "conformance-three",
    };
    let started = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(Fixture::start(size)).context(name)
        })
        .map_err(|error| error.to_string())?
        .join();
    match started {
        Ok(Ok(fixture)) => Ok(fixture),
        Ok(Err(error)) => Err(format!("{error:#}, see the logs of {name}")),
        Err(_) => Err(format!("{name}: starting panicked")),
    }
}

/// Ends both clusters; a row that runs keeps its own until it is through.
pub(crate) fn end() {
    for slot in &FIXTURES {
        slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

extern "C" fn end_quietly() {
    without_tails();
    end();
}

fn end_with_the_process() {
    #[allow(
        unsafe_code,
        reason = "nobody drops statics, and the children must not outlive the tests; the function \
                  is `extern \"C\"`, takes nothing and lives as long as the program"
    )]
    let refused = unsafe { libc::atexit(end_quietly) };
    assert_eq!(refused, 0, "atexit takes no more functions");
}
