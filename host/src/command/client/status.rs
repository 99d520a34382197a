//! `tidegate status`

use tidegate_client::Client;

use super::output::Output;
use crate::cli::client as cli;

pub(super) async fn run(client: &Client, _: &cli::Status, out: &mut Output) -> anyhow::Result<()> {
    let status = client.status().await?;
    match out.is_json() {
        true => out.json(&status)?,
        false => {
            let row = |name: &str, value: String| vec![name.to_owned(), value];
            let rows = vec![
                row("answered by", status.gateway),
                row("version", status.version),
                row("gateways", status.gateways.join(", ")),
                row("clients", status.clients.to_string()),
            ];
            out.table(&["tenant", &status.tenant], rows)?;
        }
    }
    out.without(&status.missing);
    Ok(())
}
