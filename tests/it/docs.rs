//! The tutorial in README.md works when it is pasted: its blocks are taken out of the page and run
//! in their order. `sh` blocks are commands, `text` blocks what is said over one connection: `>` is
//! typed, `<` comes back. Ports are changed, and what cargo builds is kept between runs.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tidegate_tests::{Client, Outcome, Process, Transport, eventually, ports, tools};
use tokio::process::Command;

/// For one block: cargo may have to build everything.
const PATIENCE: Duration = Duration::from_secs(600);

/// Where the tutorial begins; it ends with the next heading of its own rank.
const BEGIN: &str = "### 1. Write it";

/// The port of `nc`, which the harness does not take as it stands.
const TEXT: &str = "127.0.0.1:7273";
const WEB_SOCKET: &str = "127.0.0.1:7272";

/// A fenced block: what stands behind the fence, and its lines.
struct Block<'a> {
    kind: &'a str,
    text: String,
}

fn blocks(page: &str) -> Result<Vec<Block<'_>>> {
    let (_, rest) = page.split_once(BEGIN).context("README.md: no tutorial")?;
    let tutorial = rest.split("\n## ").next().unwrap_or_default();
    let mut blocks = Vec::new();
    let mut open: Option<Block<'_>> = None;
    for line in tutorial.lines() {
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
    ensure!(open.is_none(), "README.md: a block has no end");
    Ok(blocks)
}

/// Who follows the tutorial, in a folder of their own.
struct Reader {
    folder: PathBuf,
    text: String,
    web_socket: String,
    server: Option<Process>,
    client: Option<Client>,
}

impl Reader {
    async fn follow(&mut self, block: &Block<'_>) -> Outcome {
        match block.kind {
            "sh" if block.text.starts_with("tidegate serve") => self.serve(&block.text),
            "sh" => self.run(&block.text).await,
            "text" => self.talk(&block.text).await,
            _ => Ok(()),
        }
    }

    /// A shell where the reader is: in the plugin's folder as soon as there is one.
    fn shell(&self, script: &str) -> Result<std::process::Command> {
        let plugin = self.folder.join("hello");
        let mut command = std::process::Command::new("sh");
        let binary = tools::tidegate()?;
        let bin = binary.parent().context("tidegate lies nowhere")?;
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .args(["-eu", "-c", script])
            .current_dir(if plugin.is_dir() {
                &plugin
            } else {
                &self.folder
            })
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("TIDEGATE", tools::root())
            .env("XDG_CACHE_HOME", tools::target_dir()?.join("harness-cache"))
            .env_remove("TIDEGATE_CONFIG")
            .env_remove("CARGO_TARGET_DIR");
        if let Some(rustc) = std::env::var_os("GUEST_RUSTC")
            && script.contains("wasm32")
        {
            command.env("RUSTC", rustc);
        }
        Ok(command)
    }

    async fn run(&self, script: &str) -> Outcome {
        let begins = !self.folder.join("hello").is_dir();
        let mut command = Command::from(self.shell(script)?);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output())
            .await
            .context("it does not end")??;
        ensure!(
            output.status.success(),
            "{}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        if begins {
            keep_builds(&self.folder.join("hello"))?;
        }
        Ok(())
    }

    fn serve(&mut self, script: &str) -> Outcome {
        for port in [TEXT, WEB_SOCKET] {
            ensure!(script.contains(port), "it does not listen on {port}");
        }
        let script = script
            .replace(TEXT, &self.text)
            .replace(WEB_SOCKET, &self.web_socket);
        let command = self.shell(&format!("exec {script}"))?;
        self.server = Some(Process::spawn("tutorial", command, &self.folder, false)?);
        Ok(())
    }

    async fn talk(&mut self, said: &str) -> Outcome {
        if self.client.is_some() {
            self.reloaded().await?;
        }
        for line in said.lines() {
            if line.starts_with("$ nc ") {
                self.client = Some(self.connect().await?);
                continue;
            }
            let client = self.client.as_mut().context("nobody is connected")?;
            match line.split_once(' ') {
                Some((">", typed)) => client.send(typed).await?,
                Some(("<", expected)) => client.expect(expected).await?,
                _ => bail!("{line:?} is neither said nor heard"),
            }
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<Client> {
        let address = self.text.parse()?;
        let server = self.server.as_mut().context("nothing is served")?;
        eventually("the plugin is served", async || {
            if let Some(status) = server.status() {
                return Ok(Some(Err(anyhow::anyhow!("the server has ended: {status}"))));
            }
            Ok(Some(Ok(Client::connect(Transport::Text, address).await?)))
        })
        .await?
    }

    /// The log says what the page says that it says.
    async fn reloaded(&self) -> Outcome {
        let server = self.server.as_ref().context("nothing is served")?;
        eventually("the new version serves", async || {
            Ok(server.log().contains("a new version serves").then_some(()))
        })
        .await
    }
}

/// The same versions as everything else here, and no cold build in every run.
fn keep_builds(plugin: &Path) -> Outcome {
    let kept = tools::target_dir()?.join("tutorial");
    std::fs::create_dir_all(&kept)?;
    std::os::unix::fs::symlink(kept, plugin.join("target"))?;
    std::fs::copy(tools::root().join("Cargo.lock"), plugin.join("Cargo.lock"))?;
    Ok(())
}

#[tokio::test]
async fn the_tutorial_of_the_readme_works_when_it_is_pasted() -> Outcome {
    let page = std::fs::read_to_string(tools::root().join("README.md"))?;
    let folder = tempfile::tempdir()?;
    let mut reader = Reader {
        folder: folder.path().to_owned(),
        text: ports::free()?.to_string(),
        web_socket: ports::free()?.to_string(),
        server: None,
        client: None,
    };
    let mut conversations = 0;
    for block in blocks(&page)? {
        conversations += usize::from(block.kind == "text");
        reader
            .follow(&block)
            .await
            .with_context(|| format!("README.md: the block\n{}", block.text))?;
    }
    ensure!(
        conversations == 2,
        "{conversations} conversations instead of two"
    );
    Ok(())
}
