//! What is wrong with a configuration or a plugin is said before anything starts, in one clear
//! sentence that names the place.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidegate_tests::plugins::from_text;
use tidegate_tests::{Outcome, Plugin, tools};

struct Said {
    code: Option<i32>,
    text: String,
}

/// Runs `tidegate` to its end.
async fn tidegate(args: &[&str]) -> Result<Said> {
    tidegate_with(args, &[]).await
}

/// The same with further variables.
async fn tidegate_with(args: &[&str], variables: &[(&str, &str)]) -> Result<Said> {
    let mut command = tokio::process::Command::from(Command::new(tools::tidegate()?));
    command
        .args(args)
        .envs(variables.iter().copied())
        .env("TIDEGATE_SECRET", "the secret of a test, long enough")
        .env("XDG_CACHE_HOME", tools::target_dir()?.join("harness-cache"))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(30), command.output())
        .await
        .with_context(|| format!("tidegate {args:?} does not end"))??;
    let text = [output.stdout, output.stderr].concat();
    Ok(Said {
        code: output.status.code(),
        text: String::from_utf8_lossy(&text).into_owned(),
    })
}

/// Expects a refusal that contains all of these words and is not a crash.
fn refuses(said: &Said, words: &[&str]) -> Outcome {
    let text = &said.text;
    ensure!(
        matches!(said.code, Some(1 | 2)),
        "code {:?}: {text}",
        said.code
    );
    ensure!(
        !text.contains("panicked") && !text.contains("RUST_BACKTRACE"),
        "{text}"
    );
    for word in words {
        ensure!(text.contains(word), "no {word:?} in: {text}");
    }
    Ok(())
}

async fn plugin_is_refused(file: &Path, words: &[&str]) -> Outcome {
    let file = file.to_string_lossy();
    let name = file.rsplit('/').next().unwrap_or_default();
    let said = tidegate(&["check", &file]).await?;
    refuses(&said, words)?;
    ensure!(said.text.contains(name), "no {name:?} in: {}", said.text);
    let said = tidegate(&["serve", "--listen", "ws://127.0.0.1:0", &file]).await?;
    refuses(&said, words).context("serve")
}

#[tokio::test]
async fn a_good_plugin_passes() -> Outcome {
    let file = Plugin::Bench.path()?;
    let said = tidegate(&["check", &file.to_string_lossy()]).await?;
    ensure!(said.code == Some(0), "code {:?}: {}", said.code, said.text);
    Ok(())
}

#[tokio::test]
async fn a_core_module_is_named_as_such() -> Outcome {
    let file = from_text("core-module", "(module)")?;
    plugin_is_refused(&file, &["component"]).await
}

#[tokio::test]
async fn a_component_without_client_events_is_told_what_it_lacks() -> Outcome {
    let file = from_text("no-client-events", "(component)")?;
    plugin_is_refused(&file, &["client-events"]).await
}

#[tokio::test]
async fn an_import_that_nobody_provides_is_named() -> Outcome {
    let text = r#"(component (import "acme:unknown/thing@1.0.0" (instance (export "f" (func)))))"#;
    let file = from_text("unknown-import", text)?;
    plugin_is_refused(&file, &["acme:unknown/thing"]).await
}

#[tokio::test]
async fn a_truncated_file_is_refused() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = Plugin::Bench.copy_to(folder.path())?;
    let bytes = std::fs::read(&file)?;
    for part in [bytes.len() / 2, 100, 4, 0] {
        std::fs::write(&file, bytes.get(..part).unwrap_or_default())?;
        plugin_is_refused(&file, &[])
            .await
            .with_context(|| format!("the first {part} bytes"))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() -> Outcome {
    plugin_is_refused(Path::new("/nowhere/none.wasm"), &[]).await
}

async fn config_is_refused(text: &str, words: &[&str]) -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, text)?;
    let said = tidegate(&["check", "--config", &file.to_string_lossy()]).await?;
    refuses(&said, words).with_context(|| text.to_owned())?;
    ensure!(
        said.text.contains("tidegate.toml"),
        "no place in: {}",
        said.text
    );
    Ok(())
}

#[tokio::test]
async fn an_unknown_key_is_named_with_its_line_and_its_neighbour() -> Outcome {
    let text = "[[gateway.listener]]\nlisten = \"ws://127.0.0.1:0\"\npin-interval-ms = 3\n";
    config_is_refused(text, &["pin-interval-ms", "ping-interval-ms", ":3"]).await?;
    config_is_refused("[gatewy]\n", &["gatewy", "gateway", ":1"]).await
}

#[tokio::test]
async fn a_wrong_value_is_named_with_its_line_and_what_would_be_right() -> Outcome {
    config_is_refused(
        "\n[gateway]\nrouter = \"round\"\n",
        &["round", "bind", ":3"],
    )
    .await?;
    config_is_refused("[link]\nheartbeat-ms = \"soon\"\n", &["heartbeat-ms", ":2"]).await?;
    let text = "[[gateway.listener]]\nlisten = \"http://127.0.0.1:0\"\n";
    config_is_refused(text, &["`http`", "`ws`", ":2"]).await?;
    config_is_refused("[gateway\n", &[":1"]).await
}

#[tokio::test]
async fn a_plugin_that_the_configuration_names_must_be_there() -> Outcome {
    config_is_refused("[[plugin]]\nfile = \"none.wasm\"\n", &["none.wasm"]).await
}

#[tokio::test]
async fn the_command_line_is_checked() -> Outcome {
    let bench = Plugin::Bench.path()?;
    let bench = bench.to_string_lossy();
    let said = tidegate(&["serve", "--listen", "ws://nowhere", &bench]).await?;
    refuses(&said, &["ws://nowhere"])?;
    refuses(&tidegate(&["serve", "--lisen", "x"]).await?, &["--listen"])?;
    refuses(
        &tidegate(&["gateway", "--set", "gateway.rooter=rand"]).await?,
        &["rooter"],
    )
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() -> Outcome {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let url = format!("ws://{}", taken.local_addr()?);
    let bench = Plugin::Bench.path()?;
    let said = tidegate(&["serve", "--listen", &url, &bench.to_string_lossy()]).await?;
    refuses(&said, &[&taken.local_addr()?.to_string()])
}

/// Starts a service on addresses that are all taken: whatever it is refused for was found before
/// it tried to bind any of them.
async fn refused_before_any_port_is_bound(args: &[&str], words: &[&str]) -> Outcome {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let args: Vec<String> = args
        .iter()
        .map(|it| it.replace("TAKEN", &address))
        .collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let said = tidegate(&args).await?;
    refuses(&said, words).with_context(|| format!("{args:?}"))?;
    ensure!(
        !said.text.contains("cannot listen"),
        "{args:?}: {}",
        said.text
    );
    let lines: Vec<&str> = said.text.lines().collect();
    let last = lines.last().copied().unwrap_or_default();
    ensure!(last.starts_with("error: "), "{args:?}: {}", said.text);
    Ok(())
}

#[tokio::test]
async fn what_is_refused_is_refused_before_any_port_is_bound() -> Outcome {
    let http = r#"(component
        (import "wasi:http/outgoing-handler@0.2.10" (instance))
        (instance $none)
        (export "tidegate:plugin/client-events@0.1.0" (instance $none)))"#;
    let http = from_text("imports-http", http)?;
    let http = &*http.to_string_lossy();
    let bench = Plugin::Bench.path()?;
    let bench = &*bench.to_string_lossy();
    let admin = "--admin=TAKEN";
    let everywhere = [
        "serve",
        "--listen=ws://TAKEN",
        "--api=TAKEN",
        "--set=register.listen=TAKEN",
        "--set=gateway.lan=TAKEN",
    ];
    let with = |more: &[&'static str], file| {
        let words = everywhere.iter().chain(more).copied();
        words.chain([file]).collect::<Vec<&str>>()
    };
    refused_before_any_port_is_bound(
        &with(&[admin], http),
        &["wasi:http/outgoing-handler", "--disable"],
    )
    .await?;
    let command = format!("--command={bench}");
    let lan = ["gateway", "--lan=TAKEN", "--listen=ws://TAKEN", &command];
    refused_before_any_port_is_bound(&[&lan[..], &[admin]].concat(), &["is a handler"]).await?;
    let worker = ["worker", admin, http];
    refused_before_any_port_is_bound(&worker, &["wasi:http/outgoing-handler"]).await?;
    // Not even the plugin's own word in `on-start` comes after them; health is told meanwhile.
    let refuses_itself = Plugin::Scripted.path()?;
    let refuses_itself = &*refuses_itself.to_string_lossy();
    let args = with(&["--set=plugin.0.config.at-start=refuse"], refuses_itself);
    refused_before_any_port_is_bound(&args, &["refused to start"]).await?;
    for args in [
        &["serve", "--listen=ws://TAKEN", admin, "/nowhere.wasm"][..],
        &["serve", "--listen=TAKEN", admin, bench],
        &[
            "register",
            "--listen=TAKEN",
            "--set=deploy.state-dir=/dev/null/x",
        ],
    ] {
        refused_before_any_port_is_bound(args, &[]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_address_without_a_scheme_is_refused_with_the_likely_one() -> Outcome {
    let said = tidegate(&["serve", "--listen", "127.0.0.1:7272", "x.wasm"]).await?;
    refuses(&said, &["error: --listen: ", "`ws://127.0.0.1:7272`"])
}

#[tokio::test]
async fn no_proxy_of_the_environment_is_given_a_token() -> Outcome {
    let proxy = std::net::TcpListener::bind("127.0.0.1:0")?;
    proxy.set_nonblocking(true)?;
    let url = format!("http://{}", proxy.local_addr()?);
    let variables: Vec<_> = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
        .into_iter()
        .chain(["https_proxy", "HTTPS_PROXY"])
        .map(|name| (name, url.as_str()))
        .chain([("TIDEGATE_TOKEN", "0123456789abcdef")])
        .collect();
    for api in [
        "http://127.0.0.1:9",
        "http://localhost:9",
        "http://[::1]:9",
        "http://gateway.invalid:7280",
    ] {
        let args = ["status", "--api", api, "--timeout-ms", "5000"];
        let said = tidegate_with(&args, &variables).await?;
        refuses(&said, &["error: ", api])?;
        let asked = proxy.accept();
        ensure!(asked.is_err(), "{api}: the proxy was asked: {asked:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_limit_of_open_files_without_room_for_clients_is_refused() -> Outcome {
    for service in ["gateway", "register"] {
        let mut command = tokio::process::Command::new("sh");
        let script = "ulimit -n 60 && exec \"$0\" \"$@\"";
        command
            .args(["-c", script])
            .arg(tools::tidegate()?)
            .arg(service)
            .env("TIDEGATE_SECRET", "the secret of a test, long enough")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(30), command.output());
        let output = output
            .await
            .with_context(|| format!("{service} does not end"))??;
        let said = Said {
            code: output.status.code(),
            text: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        refuses(
            &said,
            &["the limit of open files (ulimit -n) is 60", "raise it to"],
        )?;
    }
    Ok(())
}

#[tokio::test]
async fn a_token_file_on_the_line_wins_over_a_token_of_the_environment() -> Outcome {
    let variables = [("TIDEGATE_TOKEN", "0123456789abcdef")];
    let args = ["status", "--token-file", "/nowhere/token"];
    let said = tidegate_with(&args, &variables).await?;
    refuses(&said, &["error: the token file `/nowhere/token`"])
}
