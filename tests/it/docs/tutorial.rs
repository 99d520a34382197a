//! The tutorial in README.md: `sh` blocks are commands, `text` blocks what is said over one
//! connection: `>` is typed, `<` comes back. What cargo builds is kept between runs.

use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tidegate_tests::{Api, Client, Outcome, Process, Transport, eventually, ports, tools};

use super::{Block, blocks, run, shell};

/// Where the tutorial begins; it ends with the next heading of its own rank.
const BEGIN: &str = "### 1. Write it";

/// The port of `nc`, which the harness does not take as it stands.
const TEXT: &str = "127.0.0.1:7273";
const WEB_SOCKET: &str = "127.0.0.1:7272";
const API: &str = "127.0.0.1:7280";

/// The blocks of the tutorial.
fn steps(page: &str) -> Result<Vec<Block<'_>>> {
    let (_, rest) = page.split_once(BEGIN).context("README.md: no tutorial")?;
    blocks(rest.split("\n## ").next().unwrap_or_default(), "README.md")
}

/// Who follows the tutorial, in a folder of their own.
struct Reader {
    folder: PathBuf,
    text: String,
    web_socket: String,
    api: SocketAddrV4,
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
        let mut command = shell(&self.with_ports(script))?;
        command
            .current_dir(if plugin.is_dir() {
                &plugin
            } else {
                &self.folder
            })
            .env("TIDEGATE_API", format!("http://{}", self.api))
            .env("TIDEGATE_TOKEN_FILE", "token")
            .env("TIDEGATE", tools::root())
            .env_remove("CARGO_TARGET_DIR");
        if let Some(rustc) = std::env::var_os("GUEST_RUSTC")
            && script.contains("wasm32")
        {
            command.env("RUSTC", rustc);
        }
        Ok(command)
    }

    fn with_ports(&self, script: &str) -> String {
        script
            .replace(TEXT, &self.text)
            .replace(WEB_SOCKET, &self.web_socket)
            .replace(API, &self.api.to_string())
    }

    async fn run(&self, script: &str) -> Outcome {
        let begins = !self.folder.join("hello").is_dir();
        run(self.shell(script)?).await?;
        if begins {
            keep_builds(&self.folder.join("hello"))?;
        }
        Ok(())
    }

    fn serve(&mut self, script: &str) -> Outcome {
        for port in [TEXT, WEB_SOCKET, API] {
            ensure!(script.contains(port), "it does not listen on {port}");
        }
        let command = self.shell(&format!("exec {script}"))?;
        self.server = Some(Process::spawn("tutorial", command, &self.folder, false)?);
        Ok(())
    }

    async fn talk(&mut self, said: &str) -> Outcome {
        if said.contains('>') && self.client.is_some() {
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
        api: ports::free()?,
        server: None,
        client: None,
    };
    let mut conversations = 0;
    for block in steps(&page)? {
        conversations += usize::from(block.kind == "text");
        reader
            .follow(&block)
            .await
            .with_context(|| format!("README.md: the block\n{}", block.text))?;
    }
    ensure!(
        conversations == 3,
        "{conversations} conversations instead of three"
    );
    let document = Api::new(reader.api, None).get("/v1/openapi.json").await?;
    ensure!(document.status == 200, "{document:?}");
    Ok(())
}
