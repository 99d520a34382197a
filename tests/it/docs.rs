//! What people read works when it is pasted: blocks are taken out of the pages and run in their
//! order. Ports are changed to free ones, and nothing else but what is said at the place.

mod client_api;
mod tutorial;

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidegate_tests::tools;
use tokio::process::Command;

/// For one block: cargo may have to build everything.
const PATIENCE: Duration = Duration::from_secs(600);

/// A fenced block: what stands behind the fence, and its lines.
struct Block<'a> {
    kind: &'a str,
    text: String,
}

/// The blocks of a page, or of a part of it.
fn blocks<'a>(page: &'a str, name: &str) -> Result<Vec<Block<'a>>> {
    let mut blocks = Vec::new();
    let mut open: Option<Block<'_>> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(kind), None) => {
                let text = String::new();
                open = Some(Block { kind, text });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    ensure!(open.is_none(), "{name}: a block has no end");
    Ok(blocks)
}

/// A shell that stops at the first error and finds the `tidegate` that is tested.
fn shell(script: &str) -> Result<std::process::Command> {
    let mut command = std::process::Command::new("sh");
    let binary = tools::tidegate()?;
    let bin = binary.parent().context("tidegate lies nowhere")?;
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .args(["-eu", "-c", script])
        .env("PATH", format!("{}:{path}", bin.display()))
        .env("XDG_CACHE_HOME", tools::target_dir()?.join("harness-cache"))
        .env_remove("TIDEGATE_CONFIG");
    Ok(command)
}

/// Runs it to its end and gives what it printed.
async fn run(command: std::process::Command) -> Result<String> {
    let mut command = Command::from(command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .context("it does not end")??;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{}\n{printed}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
    );
    Ok(printed)
}
