//! One `tidegate serve` with a standard error, an environment and limits of the test's choice.

use std::net::SocketAddrV4;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::client::{Client, Transport};
use crate::cluster::log_folder;
use crate::http;
use crate::plugins::Plugin;
use crate::ports;
use crate::process::Process;
use crate::tools;
use crate::wait::eventually;

/// What it shall be like.
#[derive(Debug)]
pub struct Builder {
    name: String,
    limits: Option<String>,
    stderr: Option<Stdio>,
    env: Vec<(String, String)>,
    args: Vec<String>,
}

/// The process, and where it listens.
#[derive(Debug)]
pub struct Alone {
    /// The process.
    pub process: Process,
    /// Where clients connect.
    pub ws: SocketAddrV4,
    /// Health and metrics.
    pub admin: SocketAddrV4,
    folder: TempDir,
}

impl Alone {
    /// One that is not started yet; its log is called `name`.
    #[must_use]
    pub fn named(name: &str) -> Builder {
        Builder {
            name: name.to_owned(),
            limits: None,
            stderr: None,
            env: Vec::new(),
            args: Vec::new(),
        }
    }

    /// A folder that lives as long as this.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A new WebSocket client.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn client(&self) -> Result<Client> {
        Client::connect(Transport::Ws, self.ws).await
    }

    /// The value of a metric, all its series together.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let metrics = http::get(self.admin, "/metrics").await?.body;
        let of_it = metrics
            .lines()
            .filter(|line| line.split([' ', '{']).next() == Some(name));
        Ok(of_it
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// When it has ended, or is not ready at the deadline.
    pub async fn ready(&mut self) -> Result<()> {
        let (process, admin) = (&mut self.process, self.admin);
        eventually("it is ready", async || {
            if let Some(status) = process.status() {
                return Ok(Some(Err(anyhow::anyhow!("it has ended: {status}"))));
            }
            let ready = http::get(admin, "/readyz").await?;
            ensure!(ready.status == 200, "{ready:?}");
            Ok(Some(Ok(())))
        })
        .await?
    }
}

impl Builder {
    /// What a shell is told before it becomes the process, like `ulimit -n 256`.
    #[must_use]
    pub fn limits(mut self, limits: &str) -> Self {
        self.limits = Some(limits.to_owned());
        self
    }

    /// Its standard error, instead of the log.
    #[must_use]
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A setting of its configuration, like `log.level=debug`.
    #[must_use]
    pub fn set(self, setting: &str) -> Self {
        self.args(&["--set", setting])
    }

    /// More of its command line.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(ToString::to_string));
        self
    }

    /// Starts it with the Rust bench and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(self) -> Result<Alone> {
        self.start_with(&Plugin::Bench.path()?).await
    }

    /// The same with another plugin.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_with(self, plugin: &Path) -> Result<Alone> {
        let (ws, admin) = (ports::free()?, ports::free()?);
        let binary = tools::tidegate()?;
        let mut command = match &self.limits {
            Some(limits) => tools::limited(limits, &binary),
            None => Command::new(binary),
        };
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("TIDEGATE_") {
                command.env_remove(key);
            }
        }
        command
            .args(["serve", "--listen", &format!("ws://{ws}")])
            .args(["--admin", &admin.to_string()])
            .args(&self.args)
            .arg(plugin)
            .env("XDG_CACHE_HOME", tools::target_dir()?.join("harness-cache"))
            .envs(self.env);
        let process = Process::spawn_to(&self.name, command, &log_folder()?, false, self.stderr)?;
        let mut alone = Alone {
            process,
            ws,
            admin,
            folder: tempfile::tempdir()?,
        };
        alone.ready().await?;
        Ok(alone)
    }
}
