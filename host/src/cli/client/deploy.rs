//! The commands that change what the cluster runs for a tenant: what is typed.

use std::path::PathBuf;

use clap::Args;

use super::Connect;

/// Which gateway, as whom, and for which tenant.
#[derive(Args, Clone, Debug)]
pub struct For {
    /// Which gateway, and as whom.
    #[command(flatten)]
    pub connect: Connect,
    /// Does nothing unless the token is this tenant's; the token alone decides whose handler it is
    #[arg(long)]
    pub tenant: Option<String>,
}

/// `tidegate deploy`
#[derive(Args, Clone, Debug)]
pub struct DeployArgs {
    /// Which gateway, as whom, and for which tenant.
    #[command(flatten)]
    pub to: For,
    /// Lets so many of a hundred clients try it first; without any --canary it serves all at once
    #[arg(long, value_name = "N", default_value_t = 0,
        value_parser = clap::value_parser!(u8).range(0..=100))]
    pub canary_percent: u8,
    /// Lets a client try it first; may be repeated
    #[arg(long, value_name = "ID")]
    pub canary_client: Vec<String>,
    /// Lets the clients that a uid has now try it first; may be repeated
    #[arg(long, value_name = "UID")]
    pub canary_uid: Vec<String>,
    /// How long they try it before all others follow; 0: until `tidegate promote`
    #[arg(long, value_name = "S", default_value_t = 0,
        value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub canary_seconds: u64,
    /// Waits until its trial is over, and ends with what came of it: 0 if it stays, 1 if it was taken
    /// back or another one took its place
    #[arg(long)]
    pub wait: bool,
    /// The component file
    #[arg(value_name = "PLUGIN")]
    pub plugin: PathBuf,
}

/// `tidegate rollback`
#[derive(Args, Clone, Debug)]
pub struct RollbackArgs {
    /// Which gateway, as whom, and for which tenant.
    #[command(flatten)]
    pub of: For,
    /// To which version: the beginning of its hash, as `tidegate history` shows it
    #[arg(long, value_name = "HASH")]
    pub to: Option<String>,
}

/// `tidegate promote`
#[derive(Args, Clone, Debug)]
pub struct PromoteArgs {
    /// Which gateway, as whom, and for which tenant.
    #[command(flatten)]
    pub of: For,
}

/// `tidegate withdraw`
#[derive(Args, Clone, Debug)]
pub struct WithdrawArgs {
    /// Which gateway, as whom, and for which tenant.
    #[command(flatten)]
    pub of: For,
}

/// `tidegate history`
#[derive(Args, Clone, Debug)]
pub struct HistoryArgs {
    /// Which gateway, as whom, and for which tenant.
    #[command(flatten)]
    pub of: For,
}
