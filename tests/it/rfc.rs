//! The rules of RFC 9110, 9112 and 6455 (sections 4, 5 and 7) that bind a server, as a table: each
//! row is one rule, and what a client sees of it, by real bytes on a real socket.
//!
//! The same rows go through nginx and HAProxy. Where a proxy answers by itself, the row says what.

mod http;
mod opening;
pub(crate) mod proxies;
mod row;
mod socket;
mod webs;

use std::net::SocketAddrV4;

use anyhow::{Context, Result, ensure};
use tidegate_tests::{Cluster, Outcome, Transport, tools};

use proxies::Proxy;
use row::{Way, check};

/// A gateway with what the rows ask for, and its WebSocket port.
async fn served() -> Result<(Cluster, SocketAddrV4, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("index.html"), "<h1>there</h1>")?;
    std::fs::write(folder.path().join("digits.txt"), "0123456789")?;
    let cluster = Cluster::serve()
        .gateway_flags(&["--static", &folder.path().to_string_lossy()])
        .web_socket_listener(
            "subprotocols = [\"v2\", \"v1\"]\norigins = [\"https://example.org\"]\n\
             message-bytes-max = 70000\nhandshake-bytes-max = 16384",
        )
        .start()
        .await?;
    let address = cluster.gateway(0)?.listener(Transport::Ws)?;
    Ok((cluster, address, folder))
}

/// Runs every row and names all that do not hold.
async fn run(way: Way, address: SocketAddrV4) -> Outcome {
    let mut broken = Vec::new();
    let mut count = 0;
    for row in http::rows().into_iter().chain(opening::rows()) {
        count += 1;
        if let Err(error) = check(&row, way, address).await {
            broken.push(format!("RFC {}: {}: {error:#}", row.rule, row.claim));
        }
    }
    for row in webs::rows() {
        count += 1;
        if let Err(error) = webs::check(&row, address).await {
            broken.push(format!("RFC {}: {}: {error:#}", row.rule, row.claim));
        }
    }
    let failed = broken.len();
    ensure!(
        broken.is_empty(),
        "{failed} of {count} rows do not hold ({way:?}):\n{}",
        broken.join("\n")
    );
    Ok(())
}

#[tokio::test]
async fn every_rule_holds_at_the_port_itself() -> Outcome {
    let (cluster, address, _folder) = served().await?;
    run(Way::Direct, address).await?;
    cluster.ws(0).await?.nothing_else().await
}

/// What stands before a port must not read a request differently, whichever port it is.
#[tokio::test]
async fn a_length_that_can_be_read_in_two_ways_is_refused_at_every_port() -> Outcome {
    let cluster = Cluster::apart(1, 1)
        .tenant("default", &[Transport::Ws])
        .start()
        .await?;
    let gateway = cluster.gateway(0)?;
    let ports = [
        ("clients", gateway.door("default", Transport::Ws)?),
        ("admin", gateway.admin()?),
        ("Client API", gateway.api_address()?),
    ];
    for (port, address) in ports {
        for row in http::bad_lengths() {
            let checked = check(&row, Way::Direct, address).await;
            checked.with_context(|| format!("{port}: {}", row.claim))?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_rule_holds_behind_nginx() -> Outcome {
    if !tools::runs("nginx", "-v") {
        return tools::skip("every_rule_holds_behind_nginx", "nginx");
    }
    let (_cluster, address, _folder) = served().await?;
    let proxy = Proxy::nginx(address).await?;
    run(Way::Nginx, proxy.address).await
}

#[tokio::test]
async fn every_rule_holds_behind_haproxy() -> Outcome {
    if !tools::runs("haproxy", "-v") {
        return tools::skip("every_rule_holds_behind_haproxy", "haproxy");
    }
    let (_cluster, address, _folder) = served().await?;
    let proxy = Proxy::haproxy(address, "").await?;
    run(Way::HaProxy, proxy.address).await
}

/// The checks that HAProxy's manual shows, and the one that it does by itself.
#[tokio::test]
async fn every_health_check_of_haproxy_finds_the_port_up() -> Outcome {
    if !tools::runs("haproxy", "-v") {
        return tools::skip("every_health_check_of_haproxy", "haproxy");
    }
    let (cluster, address, _folder) = served().await?;
    for check in [
        "option httpchk",
        "option httpchk HEAD /healthz",
        "option httpchk GET /healthz",
        "option httpchk HEAD / HTTP/1.0",
        "option httpchk OPTIONS *",
        "option httpchk\nhttp-check send meth HEAD uri /healthz ver HTTP/1.1 hdr Host a.example",
        "option httpchk\nhttp-check send meth OPTIONS uri / ver HTTP/1.1 hdr Host a.example",
    ] {
        Proxy::haproxy(address, check).await?.is_up(check).await?;
    }
    let admin = cluster.gateway(0)?.admin()?;
    for check in [
        "option httpchk HEAD /readyz",
        "option httpchk OPTIONS /healthz",
    ] {
        Proxy::haproxy(admin, check).await?.is_up(check).await?;
    }
    Ok(())
}
