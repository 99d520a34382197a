//! What of schedules is over, on the disk: so that what was missed while no gateway lived is known.
//!
//! Guarantees: the file is whole at any time; a file that cannot be read or written stops nothing and is told.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_schedule::book::KeptSchedule;
use tokio::fs;
use tokio::time::Instant;

use super::Schedules;

/// The file is written so often at most.
const PAUSE: Duration = Duration::from_secs(1);

/// The file of a gateway, if it has one.
pub(super) struct Kept {
    file: Option<PathBuf>,
    /// What is on the disk, see `Book::changes`.
    written: u64,
    /// When it was written, or could not be.
    tried: Option<Instant>,
    failed: bool,
}

impl Kept {
    /// Reads what was kept of the life before.
    pub(super) async fn open(file: Option<PathBuf>, schedules: &Schedules) -> Self {
        if let Some(file) = &file {
            match read(file).await {
                Ok(kept) => schedules.table().book.restore(&kept),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(file = %file.display(), %error,
                    "what was over of schedules cannot be read: what was missed before now is not known"),
            }
        }
        Self {
            file,
            written: schedules.table().book.changes(),
            tried: None,
            failed: false,
        }
    }

    /// Writes what is over, if it is news and the file was not written just now.
    pub(super) async fn keep(&mut self, schedules: &Schedules) {
        if self.tried.is_none_or(|tried| tried.elapsed() >= PAUSE) {
            self.keep_now(schedules).await;
        }
    }

    /// The same, whenever it was written last.
    pub(super) async fn keep_now(&mut self, schedules: &Schedules) {
        let Some(file) = &self.file else { return };
        let (changes, kept) = {
            let table = schedules.table();
            (table.book.changes(), table.book.kept())
        };
        if changes == self.written {
            return;
        }
        self.tried = Some(Instant::now());
        match write(file, &kept).await {
            Ok(()) => {
                self.written = changes;
                self.failed = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::warn!(file = %file.display(), %error,
                        "what is over of schedules cannot be written: it is tried again");
                }
            }
        }
    }
}

async fn read(file: &Path) -> io::Result<Vec<KeptSchedule>> {
    let text = fs::read_to_string(file).await?;
    let all: Value = serde_json::from_str(&text)?;
    let all = all.as_array().map(Vec::as_slice).unwrap_or_default();
    let kept = |it: &Value| {
        Some(KeptSchedule {
            tenant: it.get("tenant")?.as_str()?.into(),
            schedule: it.get("schedule")?.as_str()?.into(),
            over_s: it.get("over")?.as_i64()?,
            last_s: it.get("last").and_then(Value::as_i64),
        })
    };
    Ok(all.iter().filter_map(kept).collect())
}

/// Whole or not at all: beside the file first.
async fn write(file: &Path, kept: &[KeptSchedule]) -> io::Result<()> {
    let all = kept.iter().map(|it| {
        json!({"tenant": &*it.tenant, "schedule": &*it.schedule, "over": it.over_s, "last": it.last_s})
    });
    let text = Value::from(all.collect::<Vec<_>>()).to_string();
    let beside = file.with_extension("new");
    fs::write(&beside, text).await?;
    fs::rename(&beside, file).await
}
