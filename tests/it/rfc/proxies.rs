//! nginx and HAProxy as Debian has them, in front of a port.

use std::fs;
use std::net::SocketAddrV4;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tidegate_tests::{Outcome, eventually, http, ports};

/// A proxy that runs as long as this lives.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddrV4,
    process: Child,
    stats: Option<SocketAddrV4>,
    folder: TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Proxy {
    /// nginx as its manual says for WebSockets.
    pub(crate) async fn nginx(behind: SocketAddrV4) -> Result<Self> {
        let (address, folder) = (ports::free()?, tempfile::tempdir()?);
        let at = folder.path().display();
        let config = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/log; worker_processes 1;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p;\n\
             fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
             large_client_header_buffers 4 32k;\n\
             map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}\n\
             server {{ listen {address}; server_name a.example; location / {{ proxy_pass http://{behind};\n\
             proxy_http_version 1.1; proxy_set_header Host $host;\n\
             proxy_set_header Upgrade $http_upgrade;\n\
             proxy_set_header Connection $connection_upgrade; }} }} }}\n"
        );
        fs::write(folder.path().join("nginx.conf"), config)?;
        let mut command = Command::new("nginx");
        command.arg("-e").arg(folder.path().join("log"));
        command.arg("-c").arg(folder.path().join("nginx.conf"));
        Self::start(command, folder, address, None).await
    }

    /// HAProxy as its manual says; `check` are lines of its backend.
    pub(crate) async fn haproxy(behind: SocketAddrV4, check: &str) -> Result<Self> {
        let (address, stats) = (ports::free()?, ports::free()?);
        let folder = tempfile::tempdir()?;
        let checked = if check.is_empty() {
            ""
        } else {
            "check inter 100 rise 2 fall 1"
        };
        let config = format!(
            "global\n maxconn 256\n tune.bufsize 65536\ndefaults\n mode http\n timeout connect 5s\n timeout client 30s\n\
             timeout server 30s\n timeout tunnel 1h\nfrontend f\n bind {address}\n default_backend b\n\
             frontend s\n bind {stats}\n stats enable\n stats uri /\n\
             backend b\n {}\n server one {behind} {checked}\n",
            check.replace('\n', "\n ")
        );
        fs::write(folder.path().join("haproxy.cfg"), config)?;
        let mut command = Command::new("haproxy");
        command
            .arg("-db")
            .arg("-f")
            .arg(folder.path().join("haproxy.cfg"));
        Self::start(command, folder, address, Some(stats)).await
    }

    async fn start(
        mut command: Command,
        folder: TempDir,
        address: SocketAddrV4,
        stats: Option<SocketAddrV4>,
    ) -> Result<Self> {
        let log = fs::File::create(folder.path().join("said"))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = command.spawn().with_context(|| format!("{command:?}"))?;
        let mut proxy = Self {
            address,
            process,
            stats,
            folder,
        };
        let ready = eventually("the proxy listens", async || {
            if let Some(status) = proxy.process.try_wait()? {
                return Ok(Some(Err(anyhow::anyhow!("it has ended: {status}"))));
            }
            let connected = tokio::net::TcpStream::connect(address).await;
            Ok(connected.is_ok().then_some(Ok(())))
        });
        let ready = ready.await?;
        ready.with_context(|| {
            fs::read_to_string(proxy.folder.path().join("said")).unwrap_or_default()
        })?;
        Ok(proxy)
    }

    /// Waits until the checks have said what they think of the port behind: it must be up.
    pub(crate) async fn is_up(&self, check: &str) -> Outcome {
        let stats = self.stats.context("this proxy tells nothing")?;
        let line = eventually("the port was checked", async || {
            let page = http::get(stats, "/;csv").await?.body;
            let line = page.lines().find(|line| line.starts_with("b,one,"));
            let checked = line.filter(|line| {
                line.contains(",L7") || line.contains(",L4") || line.contains("DOWN")
            });
            Ok(checked.map(str::to_owned))
        })
        .await?;
        ensure!(
            line.contains(",UP,") && line.contains(",L7OK,"),
            "{check}: {line}"
        );
        Ok(())
    }
}
