//! The Client API against its own description, by the tools of others: the OpenAPI document is
//! valid, and schemathesis, which makes calls from it, finds no server error and no answer that it
//! does not describe.

use anyhow::{Context, Result};
use tidegate_tests::cluster::token_of;
use tidegate_tests::{Cluster, Outcome, Plugin, Probe, Transport, tools};
use tokio::process::Command;

use crate::third_party::{python, run};

const TENANT: &str = "described";

/// Calls that are made for each operation and each kind of data.
const EXAMPLES: u32 = 8;

/// What an answer is compared with.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance";

/// A caller chooses how long a command or request may take; what a busy machine does not do in that
/// time is a 504, as described. Any other 5xx is an error.
const EXPECTED: &str =
    "[checks.not_a_server_error]\nexpected-statuses = [\"2xx\", \"3xx\", \"4xx\", 504]\n";

/// The seed of the calls: `TIDEGATE_SEED`, or a new one.
fn seed() -> Result<u32> {
    match std::env::var("TIDEGATE_SEED") {
        Ok(seed) => seed.parse().context("TIDEGATE_SEED is not a number"),
        Err(_) => Ok(rand::random()),
    }
}

#[tokio::test]
async fn schemathesis_finds_no_server_error_and_no_undocumented_answer() -> Outcome {
    if !tools::has("python3") {
        return tools::skip("schemathesis", "python3");
    }
    let python = python().await?;
    let cluster = Cluster::apart(2, 1)
        .other_plugin_file(&Plugin::Probe.path()?)
        .tenant(TENANT, &[Transport::Ws])
        .command(&Plugin::ProbeCommand.path()?)
        .start()
        .await?;
    // Lists and counts have something to say.
    let mut clients = Vec::new();
    for gateway in &cluster.gateways {
        let door = gateway.door(TENANT, Transport::Ws)?;
        clients.push(Probe::connect(door, "/?uid=u&group=g&group=h").await?);
    }
    let document = format!(
        "http://{}/v1/openapi.json",
        cluster.gateway(0)?.api_address()?
    );
    let served = cluster
        .gateway(0)?
        .api(TENANT)?
        .get("/v1/openapi.json")
        .await?;
    let file = cluster.folder().join("openapi.json");
    std::fs::write(&file, served.ok()?.to_string())?;
    let valid = Command::new(&python)
        .args(["-m", "openapi_spec_validator"])
        .arg(&file)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&valid.stdout);
    anyhow::ensure!(valid.status.success(), "the document is not valid: {said}");

    std::fs::write(cluster.folder().join("schemathesis.toml"), EXPECTED)?;
    let seed = seed()?.to_string();
    eprintln!("seed {seed}: TIDEGATE_SEED={seed} makes the same calls");
    let folder = python.parent().context("the folder of python")?;
    run(Command::new(folder.join("schemathesis"))
        .args(["run", &document, "--no-color", "--seed", &seed])
        .args([
            "--header",
            &format!("Authorization: Bearer {}", token_of(TENANT)),
        ])
        // Its answer does not end.
        .args(["--exclude-path", "/v1/feed"])
        .args(["--phases", "examples,coverage,fuzzing"])
        .args(["--checks", CHECKS, "--max-examples", &EXAMPLES.to_string()])
        .current_dir(cluster.folder()))
    .await
}
