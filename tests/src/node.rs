//! One node of a cluster: a `tidegate` process that can be started again as it was.

use std::ffi::OsString;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, anyhow, ensure};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::api::Api;
use crate::client::{Client, Transport};
use crate::cluster::token_of;
use crate::http;
use crate::process::{Process, Signal};
use crate::tools;
use crate::wait::eventually;

/// Where the clients of one tenant connect.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) tenant: String,
    pub(crate) transport: Transport,
    pub(crate) address: SocketAddrV4,
}

/// A command that has ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub error: String,
}

impl Ran {
    fn of(output: std::process::Output) -> Result<Self> {
        Ok(Self {
            code: output.status.code().context("it was killed")?,
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            error: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Itself, if it went well.
    ///
    /// # Errors
    /// With what it said, if not.
    pub fn ok(self) -> Result<Self> {
        ensure!(
            self.code == 0,
            "exit code {}: {}{}",
            self.code,
            self.out,
            self.error
        );
        Ok(self)
    }
}

/// A register, gateway, worker, or all in one.
#[derive(Debug)]
pub struct Node {
    pub(crate) name: String,
    pub(crate) args: Vec<OsString>,
    pub(crate) secret: String,
    pub(crate) pin: Option<usize>,
    /// What a shell is told before it becomes the process, like `ulimit -n 256`.
    pub(crate) limits: Option<String>,
    /// Another build than the one under test.
    pub(crate) binary: Option<PathBuf>,
    pub(crate) logs: PathBuf,
    pub(crate) admin: Option<SocketAddrV4>,
    /// Where nodes reach it: a register's or a gateway's address.
    pub(crate) lan: Option<SocketAddrV4>,
    pub(crate) listeners: Vec<(Transport, SocketAddrV4)>,
    /// The listeners of tenants that the test named.
    pub(crate) doors: Vec<Door>,
    /// Where it serves the Client API.
    pub(crate) api: Option<SocketAddrV4>,
    /// Whether a worker serves it from the start; otherwise it is ready but for that.
    pub(crate) is_served: bool,
    pub(crate) process: Option<Process>,
}

/// Whether nothing is missing but a version for the gateway's tenants.
fn is_only_unserved(missing: &str) -> bool {
    let mut lines = missing.lines();
    lines
        .next()
        .is_some_and(|it| it.contains("none serves a tenant"))
        && lines.next().is_none()
}

impl Node {
    /// One that listens nowhere and is not started.
    pub(crate) fn new(name: &str, secret: &str, logs: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            args: Vec::new(),
            secret: secret.to_owned(),
            pin: None,
            limits: None,
            binary: None,
            logs,
            admin: None,
            lan: None,
            listeners: Vec::new(),
            doors: Vec::new(),
            api: None,
            is_served: true,
            process: None,
        }
    }

    /// Its name, for a worker the one that `W:` answers.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster secret that it was given.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Starts the process, for the first time or again, with the same arguments.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self) -> Result<()> {
        let binary = match &self.binary {
            Some(binary) => binary.clone(),
            None => tools::tidegate()?,
        };
        let mut command = match (&self.limits, self.pin) {
            (Some(limits), _) => tools::limited(limits, &binary),
            (None, Some(core)) => {
                let mut pinned = Command::new("taskset");
                pinned.arg("-c").arg(core.to_string()).arg(binary);
                pinned
            }
            (None, None) => Command::new(binary),
        };
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("TIDEGATE_") {
                command.env_remove(key);
            }
        }
        command
            .args(&self.args)
            .env("TIDEGATE_SECRET", &self.secret)
            // Compiled components are kept between runs, but not among the user's own.
            .env("XDG_CACHE_HOME", tools::target_dir()?.join("harness-cache"));
        let again = self.process.is_some();
        self.process = Some(Process::spawn(&self.name, command, &self.logs, again)?);
        Ok(())
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// When it has ended, or is not ready at the deadline; the error says what is missing.
    pub async fn ready(&mut self) -> Result<()> {
        let what = format!("{} is ready", self.name);
        let (admin, lan, is_served) = (self.admin, self.lan, self.is_served);
        let process = self.process_mut()?;
        eventually(&what, async || {
            let ended = process.status();
            if let Some(status) = ended {
                // It will not become ready any more: no use in waiting.
                return Ok(Some(Err(anyhow!("it has ended: {status}"))));
            }
            match (admin, lan) {
                (Some(admin), _) => {
                    let response = http::get(admin, "/readyz").await?;
                    let unserved = !is_served && is_only_unserved(&response.body);
                    let ready = response.status == 200 || unserved;
                    ensure!(ready, "readyz: {}", response.body);
                }
                (None, Some(lan)) => drop(tokio::net::TcpStream::connect(lan).await?),
                (None, None) => {}
            }
            Ok(Some(Ok(())))
        })
        .await?
        .context(what)
    }

    /// The process.
    ///
    /// # Errors
    /// When it was never started.
    pub fn process_mut(&mut self) -> Result<&mut Process> {
        self.process
            .as_mut()
            .with_context(|| format!("{} was not started", self.name))
    }

    /// The process.
    ///
    /// # Errors
    /// When it was never started.
    pub fn process(&self) -> Result<&Process> {
        self.process
            .as_ref()
            .with_context(|| format!("{} was not started", self.name))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process_mut()?.signal(signal)
    }

    /// `kill -9`, and waits until the process is gone.
    ///
    /// # Errors
    /// When it is gone already.
    pub async fn kill(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::Kill)?;
        self.process_mut()?.ended().await
    }

    /// SIGTERM, and waits until the process has ended by itself.
    ///
    /// # Errors
    /// When it is still there at the deadline.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::Terminate)?;
        self.process_mut()?.ended().await
    }

    /// The address of a listener.
    ///
    /// # Errors
    /// When the node has none of this kind.
    pub fn listener(&self, transport: Transport) -> Result<SocketAddrV4> {
        self.listeners
            .iter()
            .find(|(kind, _)| *kind == transport)
            .map(|(_, address)| *address)
            .with_context(|| format!("{} has no {} listener", self.name, transport.scheme()))
    }

    /// The address of a listener of a tenant.
    ///
    /// # Errors
    /// When the tenant has none of this kind here.
    pub fn door(&self, tenant: &str, transport: Transport) -> Result<SocketAddrV4> {
        self.doors
            .iter()
            .find(|door| door.tenant == tenant && door.transport == transport)
            .map(|door| door.address)
            .with_context(|| {
                let scheme = transport.scheme();
                format!("{} has no {scheme} listener for {tenant}", self.name)
            })
    }

    /// The Client API of this gateway, with the token of a tenant.
    ///
    /// # Errors
    /// When it serves none.
    pub fn api(&self, tenant: &str) -> Result<Api> {
        Ok(Api::new(self.api_address()?, Some(&token_of(tenant))))
    }

    /// Where this gateway serves the Client API.
    ///
    /// # Errors
    /// When it serves none.
    pub fn api_address(&self) -> Result<SocketAddrV4> {
        self.api
            .with_context(|| format!("{} serves no Client API", self.name))
    }

    /// Runs `tidegate` with these arguments against this gateway's Client API, as a tenant.
    ///
    /// # Errors
    /// When it cannot be run.
    pub async fn run(&self, tenant: &str, args: &[&str]) -> Result<Ran> {
        Ran::of(self.command(tenant, args)?.output().await?)
    }

    /// The same, and does something when it has said so many lines.
    ///
    /// # Errors
    /// When it cannot be run, or the other thing fails.
    pub async fn run_and(
        &self,
        tenant: &str,
        args: &[&str],
        lines: usize,
        then: impl Future<Output = Result<()>>,
    ) -> Result<Ran> {
        let mut command = self.command(tenant, args)?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut said = BufReader::new(stdout).lines();
        let mut out = String::new();
        for _ in 0..lines {
            if let Some(line) = said.next_line().await? {
                out.push_str(&line);
                out.push('\n');
            }
        }
        then.await?;
        while let Some(line) = said.next_line().await? {
            out.push_str(&line);
            out.push('\n');
        }
        let ran = Ran::of(child.wait_with_output().await?)?;
        Ok(Ran { out, ..ran })
    }

    fn command(&self, tenant: &str, args: &[&str]) -> Result<tokio::process::Command> {
        let mut command = tokio::process::Command::new(tools::tidegate()?);
        command
            .args(args)
            .env("TIDEGATE_API", format!("http://{}", self.api_address()?))
            .env("TIDEGATE_TOKEN", token_of(tenant))
            .kill_on_drop(true);
        Ok(command)
    }

    /// The address of the links: a register's or a gateway's.
    ///
    /// # Errors
    /// When the node has none.
    pub fn lan(&self) -> Result<SocketAddrV4> {
        self.lan
            .with_context(|| format!("{} has no address for nodes", self.name))
    }

    /// The address of the admin port.
    ///
    /// # Errors
    /// When the node has none.
    pub fn admin(&self) -> Result<SocketAddrV4> {
        self.admin
            .with_context(|| format!("{} has no admin port", self.name))
    }

    /// A new client of this node.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn connect(&self, transport: Transport) -> Result<Client> {
        Client::connect(transport, self.listener(transport)?).await
    }

    /// A new WebSocket client of this node.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn ws(&self) -> Result<Client> {
        self.connect(Transport::Ws).await
    }

    /// All metrics as text.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn metrics(&self) -> Result<String> {
        let response = http::get(self.admin()?, "/metrics").await?;
        ensure!(response.status == 200, "/metrics: {}", response.head);
        Ok(response.body)
    }

    /// The sum of all series of one metric whose labels contain `labels`.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn metric(&self, name: &str, labels: &str) -> Result<f64> {
        let metrics = self.metrics().await?;
        Ok(metrics
            .lines()
            .filter(|line| {
                let series = line.split([' ', '{']).next();
                series == Some(name) && line.contains(labels)
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }
}
