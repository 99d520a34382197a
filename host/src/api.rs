//! The Client API of this process's gateway: its listener, its tokens, its tasks. The tokens are
//! those of the configuration and of their files, as SIGHUP finds them.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tidegate_api::{Apart, Grant, Settings, Tokens};
use tidegate_cluster::gateway::access::Access;
use tidegate_deploy::DeployClient;
use tidegate_link::net;
use tidegate_watchdog::vital;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::Readiness;
use crate::config::{Config, ConfigErrors, read_tokens};
use crate::control::{self, Latest};
use crate::descriptors;

/// A listener that is bound, and who may call.
pub struct Api {
    listener: TcpListener,
    config: Config,
    tokens: Tokens,
    hang_ups: watch::Receiver<Latest>,
    query: Duration,
    connections_max: usize,
}

/// The gateway behind the API.
pub struct Behind {
    /// Questions and actions.
    pub access: Access,
    /// Deploys.
    pub deploys: DeployClient,
    /// Its announced address.
    pub announced: SocketAddrV4,
    /// Why it does not know the cluster yet.
    pub apart: Apart,
}

impl Api {
    /// Reads the tokens and binds the address, if one is configured.
    ///
    /// # Errors
    /// When a token cannot be read or the address cannot be bound.
    pub async fn bind(config: &Config, readiness: &Readiness) -> anyhow::Result<Option<Self>> {
        let Some(address) = config.api.listen else {
            return Ok(None);
        };
        let hang_ups = control::hang_ups();
        let tokens = tokens(config)?;
        let listener = net::bind(address).await.context("`api.listen`")?;
        tracing::info!(address = %listener.local_addr()?, tokens = tokens.count(), "client API listens");
        readiness.set("api", false, "the Client API is not served yet");
        Ok(Some(Self {
            listener,
            config: config.clone(),
            tokens,
            hang_ups,
            query: Duration::from_millis(config.api.query_ms),
            connections_max: descriptors::of_process(config).api,
        }))
    }

    /// Serves until `stop` on a task of its own.
    pub fn serve(
        self,
        behind: Behind,
        readiness: &Readiness,
        stop: CancellationToken,
    ) -> JoinHandle<()> {
        readiness.set("api", true, "served");
        let (tell, tokens) = watch::channel(self.tokens);
        let renew = renew(self.config, self.hang_ups, tell, stop.clone());
        tokio::spawn(vital("the tokens of the Client API", stop.clone(), renew));
        let settings = Settings {
            answering: behind.announced,
            query: self.query,
            tokens,
            connections_max: self.connections_max,
            apart: behind.apart,
        };
        let serve = {
            let stop = stop.clone();
            async move {
                let (access, deploys) = (Arc::new(behind.access), Arc::new(behind.deploys));
                let served = tidegate_api::serve(self.listener, settings, access, deploys, stop);
                if let Err(error) = served.await {
                    tracing::error!(%error, "the Client API ended");
                }
            }
        };
        tokio::spawn(vital("the Client API", stop, serve))
    }
}

/// Who may call, as the configuration and the files of its tokens say.
fn tokens(config: &Config) -> Result<Tokens, ConfigErrors> {
    let mut tokens = Tokens::new();
    for (token, it) in read_tokens(config)? {
        tokens.add(
            token.expose(),
            Grant {
                tenant: it.tenant.clone(),
                name: it.name.clone(),
                deploy: it.deploy,
            },
        );
    }
    Ok(tokens)
}

/// Takes the tokens anew at each SIGHUP, until `stop`. If one of them is wrong all the old ones stay.
async fn renew(
    config: Config,
    mut hang_ups: watch::Receiver<Latest>,
    in_force: watch::Sender<Tokens>,
    stop: CancellationToken,
) {
    let at_start = Arc::new(config);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            // Its sender is never dropped.
            _ = hang_ups.changed() => {}
        }
        let latest = hang_ups.borrow_and_update().clone();
        let config = latest.unwrap_or_else(|| Arc::clone(&at_start));
        match tokio::task::spawn_blocking(move || tokens(&config)).await {
            Ok(Ok(tokens)) => {
                tracing::info!(
                    tokens = tokens.count(),
                    "the tokens of the Client API in force were read again"
                );
                in_force.send_replace(tokens);
            }
            Ok(Err(errors)) => {
                for error in errors.iter() {
                    tracing::error!(%error, "the tokens of the Client API cannot be used: the old ones stay in force");
                }
            }
            Err(error) => tracing::error!(%error, "the tokens of the Client API were not read"),
        }
    }
}

/// Waits for the end of what was started, if anything was.
pub async fn ended(task: Option<JoinHandle<()>>) {
    if let Some(task) = task
        && let Err(error) = task.await
    {
        tracing::error!(%error, "the Client API's task");
    }
}
