//! Clients of others: Python `websockets`, Node `ws`, and the chat page in a real browser. They
//! are installed below the target folder at the first run. Without Python, Node or Chromium the
//! tests say `skipped` and pass, unless `TIDEGATE_NO_SKIP=1`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidegate_tests::{Cluster, Outcome, Plugin, Transport, tools};
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::examples::public_chat::{chat, token};

/// For an installation or a script, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(300);

const CHROMIUM: &str = "/usr/bin/chromium";

/// Runs a program and shows what it said if it fails.
pub(crate) async fn run(command: &mut Command) -> Outcome {
    let what = format!("{:?}", command.as_std());
    let output = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output())
        .await
        .with_context(|| format!("{what} does not end"))?
        .with_context(|| format!("cannot start {what}"))?;
    ensure!(
        output.status.success(),
        "{what}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    Ok(())
}

/// The folder of the sources of these scripts.
fn sources(language: &str) -> PathBuf {
    tools::root().join("tests").join(language)
}

/// Whether what was installed last is what is asked for now.
fn installed(folder: &Path, lock: &Path) -> Result<bool> {
    let stamp = std::fs::read(folder.join("installed")).unwrap_or_default();
    Ok(stamp == std::fs::read(lock)?)
}

/// The Python of a virtual environment with what `requirements.txt` pins.
pub(crate) async fn python() -> Result<PathBuf> {
    static PYTHON: OnceCell<PathBuf> = OnceCell::const_new();
    let python = PYTHON.get_or_try_init(install_python).await?;
    Ok(python.clone())
}

async fn install_python() -> Result<PathBuf> {
    let folder = tools::target_dir()?.join("tools/py");
    let lock = sources("python").join("requirements.txt");
    let python = folder.join("bin/python");
    if !installed(&folder, &lock)? {
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&folder))
        .await?;
        let mut pip = Command::new(&python);
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
        ]);
        run(pip.arg(&lock)).await?;
        std::fs::copy(&lock, folder.join("installed"))?;
    }
    Ok(python)
}

/// A folder with the scripts and with what `package-lock.json` pins.
async fn node() -> Result<PathBuf> {
    static FOLDER: OnceCell<PathBuf> = OnceCell::const_new();
    let folder = FOLDER.get_or_try_init(install_node).await?;
    Ok(folder.clone())
}

async fn install_node() -> Result<PathBuf> {
    let folder = tools::target_dir()?.join("tools/node");
    let lock = sources("node").join("package-lock.json");
    std::fs::create_dir_all(&folder)?;
    for file in [
        "package.json",
        "package-lock.json",
        "echo.mjs",
        "chat.mjs",
        "docs.mjs",
        "game.mjs",
        "public-chat.mjs",
    ] {
        std::fs::copy(sources("node").join(file), folder.join(file))?;
    }
    if !installed(&folder, &lock)? {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]);
        run(npm.current_dir(&folder)).await?;
        std::fs::copy(&lock, folder.join("installed"))?;
    }
    Ok(folder)
}

#[tokio::test]
async fn python_websockets_speaks_with_a_handler() -> Outcome {
    if !tools::has("python3") {
        return tools::skip("python_websockets", "python3");
    }
    let python = python().await?;
    let cluster = Cluster::apart(1, 1).start().await?;
    let address = cluster.gateway(0)?.listener(Transport::Ws)?;
    let script = sources("python").join("echo.py");
    run(Command::new(python)
        .arg(script)
        .arg(format!("ws://{address}/")))
    .await
}

#[tokio::test]
async fn node_ws_speaks_with_a_handler() -> Outcome {
    if !tools::has("node") || !tools::has("npm") {
        return tools::skip("node_ws", "node and npm");
    }
    let folder = node().await?;
    let cluster = Cluster::apart(1, 1).start().await?;
    let address = cluster.gateway(0)?.listener(Transport::Ws)?;
    let url = format!("ws://{address}/");
    run(Command::new("node")
        .arg("echo.mjs")
        .arg(url)
        .current_dir(folder))
    .await
}

/// Whether there is what a test in a browser needs.
fn can_browse() -> bool {
    tools::has("node") && tools::has("npm") && Path::new(CHROMIUM).is_file()
}

#[tokio::test]
async fn a_browser_tries_the_client_api_on_its_page() -> Outcome {
    if !can_browse() {
        return tools::skip("a_browser_tries", "node, npm and chromium");
    }
    let folder = node().await?;
    let cluster = Cluster::serve()
        .other_plugin_file(&Plugin::Chat.path()?)
        .tenant("page", &[Transport::Ws])
        .start()
        .await?;
    let api = cluster.gateway(0)?.api("page")?;
    let mut script = Command::new("node");
    script
        .arg("docs.mjs")
        .arg(format!("http://{}/docs", api.address()))
        .arg(api.token())
        .env("CHROMIUM", CHROMIUM)
        .current_dir(folder);
    run(&mut script).await
}

#[tokio::test]
async fn two_browsers_chat() -> Outcome {
    if !can_browse() {
        return tools::skip("two_browsers_chat", "node, npm and chromium");
    }
    let folder = node().await?;
    let page = tools::root().join("plugins-example/chat/web");
    let cluster = Cluster::serve()
        .other_plugin_file(&Plugin::Chat.path()?)
        .gateway_flags(&["--static", &page.to_string_lossy()])
        .start()
        .await?;
    let address = cluster.gateway(0)?.listener(Transport::Ws)?;
    let mut script = Command::new("node");
    script
        .args(["chat.mjs", &format!("http://{address}/")])
        .env("CHROMIUM", CHROMIUM)
        .current_dir(folder);
    run(&mut script).await
}

/// A page of an example, and what its script is told behind its address.
async fn browse(cluster: &Cluster, script: &str, more: &[String]) -> Outcome {
    let folder = node().await?;
    let address = cluster.gateway(0)?.listener(Transport::Ws)?;
    let mut node = Command::new("node");
    node.arg(script)
        .arg(format!("http://{address}/"))
        .args(more)
        .env("CHROMIUM", CHROMIUM)
        .current_dir(folder);
    run(&mut node).await
}

/// The line of a listener that serves a page of an example.
fn page(example: &str) -> String {
    let folder = tools::root().join("plugins-example").join(example);
    format!("static = {:?}", folder.join("web"))
}

#[tokio::test]
async fn browsers_play_the_game_and_watch_it() -> Outcome {
    if !can_browse() {
        return tools::skip("browsers_play_the_game", "node, npm and chromium");
    }
    let cluster = Cluster::serve()
        .other_plugin_file(&Plugin::Game.path()?)
        .web_socket_listener(&page("game"))
        .start()
        .await?;
    browse(&cluster, "game.mjs", &[]).await
}

#[tokio::test]
async fn browsers_with_tokens_chat_and_ask_the_bot() -> Outcome {
    if !can_browse() {
        return tools::skip("browsers_with_tokens_chat", "node, npm and chromium");
    }
    let cluster = chat(Cluster::serve(), "bot-pace-ms = 20")
        .other_plugin_file(&Plugin::PublicChat.path()?)
        .web_socket_listener(&page("public-chat"))
        .start()
        .await?;
    let lasts = Duration::from_secs(600);
    let tokens = [token("ann", lasts)?, token("ben", lasts)?];
    browse(&cluster, "public-chat.mjs", &tokens).await
}
