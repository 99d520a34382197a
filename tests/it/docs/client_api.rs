//! docs/client-api.md: its server is started, with the probe as its plugin, and its commands for the
//! shell and its Python are run against it. What would go on for ever is ended after a second.

use std::net::SocketAddrV4;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tidegate_tests::{Api, Outcome, Plugin, Process, eventually, ports, tools};

use super::{blocks, run, shell};

const WEB_SOCKET: &str = "127.0.0.1:7272";
const API: &str = "127.0.0.1:7280";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Who follows the page.
struct Reader {
    api: SocketAddrV4,
    web_socket: SocketAddrV4,
    plugin: String,
}

impl Reader {
    /// The script with what differs here.
    fn adapted(&self, script: &str) -> String {
        script
            .replace(API, &self.api.to_string())
            .replace(WEB_SOCKET, &self.web_socket.to_string())
            .replace("$(openssl rand -hex 32)", TOKEN)
            .replace("chat.wasm", &self.plugin)
    }

    fn shell(&self, script: &str) -> Result<std::process::Command> {
        let mut command = shell(&self.adapted(script))?;
        command
            .env("TIDEGATE_TOKEN", TOKEN)
            .env("TIDEGATE_API", format!("http://{}", self.api));
        Ok(command)
    }

    async fn serve(&self, script: &str, folder: &std::path::Path) -> Result<Process> {
        // The shell becomes the server, so that the server is what is ended.
        let script = script.replace("  tidegate serve", "  exec tidegate serve");
        let mut server = Process::spawn("guide", self.shell(&script)?, folder, false)?;
        let api = Api::new(self.api, Some(TOKEN));
        eventually("the Client API answers", async || {
            if let Some(status) = server.status() {
                return Ok(Some(Err(anyhow::anyhow!("the server has ended: {status}"))));
            }
            let reply = api.get("/v1/status").await?;
            Ok((reply.status == 200).then_some(Ok(())))
        })
        .await??;
        // The probe has started when it answers.
        let echo = json!({"name": "echo", "text": ""});
        eventually("the plugin answers", async || {
            let reply = api.post("/v1/requests", &echo).await?;
            Ok((reply.status == 200).then_some(()))
        })
        .await?;
        Ok(server)
    }

    /// Runs the lines in one shell; a refusal is not what the page promises.
    async fn paste(&self, script: &str) -> Outcome {
        let ends =
            |line: &str, endless: &str, ended: &str, code: &str| match line.strip_prefix(endless) {
                Some(rest) => format!("{ended}{rest} || test $? = {code}\n"),
                None => format!("{line}\n"),
            };
        let script: String = script
            .lines()
            .map(|line| ends(line, "api -N", "api -m 1 -N", "28"))
            .map(|line| {
                ends(
                    line.trim_end(),
                    "tidegate feed",
                    "timeout 1 tidegate feed",
                    "124",
                )
            })
            .collect();
        let printed = run(self.shell(&script)?).await?;
        ensure!(!printed.contains("about:blank"), "a refusal:\n{printed}");
        Ok(())
    }

    async fn python(&self, script: &str) -> Outcome {
        let mut command = std::process::Command::new("python3");
        command
            .args(["-c", &self.adapted(script)])
            .env("TIDEGATE_TOKEN", TOKEN);
        run(command).await.map(drop)
    }
}

#[tokio::test]
async fn the_guide_of_the_client_api_works_when_it_is_pasted() -> Outcome {
    let name = "docs/client-api.md";
    let page = std::fs::read_to_string(tools::root().join(name))?;
    let folder = tempfile::tempdir()?;
    let reader = Reader {
        api: ports::free()?,
        web_socket: ports::free()?,
        plugin: Plugin::Probe.path()?.display().to_string(),
    };
    let (mut server, mut pasted) = (None, 0);
    for block in blocks(&page, name)? {
        let done = match block.kind {
            "sh" if block.text.contains("tidegate serve") => {
                server = Some(reader.serve(&block.text, folder.path()).await?);
                Ok(())
            }
            "sh" => reader.paste(&block.text).await,
            "python" if tools::has("python3") => reader.python(&block.text).await,
            "python" => tools::skip("the_guide_of_the_client_api", "python3"),
            // The Rust example is compiled by the crate's tests.
            _ => continue,
        };
        done.with_context(|| format!("{name}: the block\n{}", block.text))?;
        pasted += 1;
    }
    ensure!(pasted == 4, "{pasted} blocks instead of four");
    ensure!(server.is_some(), "{name}: no server is started");
    Ok(())
}
