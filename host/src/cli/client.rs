//! The commands that ask a running gateway through its Client API: what is typed.

pub mod deploy;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};

use deploy::{DeployArgs, HistoryArgs, PromoteArgs, RollbackArgs, WithdrawArgs};

/// What to ask or do.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Send a message to clients
    #[command(after_help = "\
Examples:
  tidegate send --group lobby --except 7f00000107d000000001 \"hello\"
  tidegate send --everyone --binary < picture.png
  tidegate send --uid alice --uid bob --key order-17 \"your order is on its way\"")]
    Send(SendArgs),
    /// List or count clients
    #[command(after_help = "\
Examples:
  tidegate clients --group lobby --fields uid,groups
  tidegate clients --count
  tidegate clients --all --json")]
    Clients(ClientsArgs),
    /// List groups with their counts
    #[command(after_help = "Examples:\n  tidegate groups\n  tidegate groups lobby kitchen")]
    Groups(GroupsArgs),
    /// List or count uids, or show whose clients are online
    #[command(
        after_help = "Examples:\n  tidegate uids --group lobby\n  tidegate uids alice bob\n  tidegate uids --count"
    )]
    Uids(UidsArgs),
    /// Read or change a client's session
    #[command(subcommand)]
    Session(SessionCommand),
    /// Close clients
    #[command(
        after_help = "Examples:\n  tidegate kick 7f00000107d000000001 --farewell bye\n  tidegate kick 7f00000107d000000001 --code 4003 --reason banned\n  tidegate kick --uid mallory --now"
    )]
    Kick(KickArgs),
    /// Call the tenant's handler and print its reply
    #[command(after_help = "Example: tidegate request echo \"hello\"")]
    Request(RequestArgs),
    /// Show the cluster as the token's tenant sees it
    #[command(after_help = "Example: tidegate status --json")]
    Status(StatusArgs),
    /// Follow connects, closes, joins, leaves and binds until interrupted
    #[command(after_help = "Example: tidegate feed --kind joined,left --group lobby")]
    Feed(FeedArgs),
    /// Have all workers run a new version of the tenant's handler
    #[command(after_help = "\
All workers prepare it, then all switch; if one cannot, none does. The token needs deploy = true in
its [[api-token]]. Once deployed, a tenant's own file at the workers is not followed any more.

Examples:
  tidegate deploy chat.wasm --tenant chat
  tidegate deploy chat.wasm --canary-percent 10 --canary-seconds 300
  tidegate deploy chat.wasm --canary-uid alice --canary-client 7f00000107d000000001")]
    Deploy(DeployArgs),
    /// Go back to an earlier version, or give up the one that some clients try
    #[command(after_help = "Examples:\n  tidegate rollback\n  tidegate rollback --to 3fa94c")]
    Rollback(RollbackArgs),
    /// Let all clients follow those that try a version
    #[command(after_help = "Example: tidegate promote --tenant chat")]
    Promote(PromoteArgs),
    /// Let the cluster forget what the tenant runs: workers start with their own file again
    #[command(after_help = "Example: tidegate withdraw --tenant chat")]
    Withdraw(WithdrawArgs),
    /// Show what the cluster ran for the tenant, and workers that lag behind
    #[command(after_help = "Example: tidegate history --json")]
    History(HistoryArgs),
}

/// Which gateway, as whom, and how answers are printed.
#[derive(Args, Clone, Debug)]
pub struct Connect {
    /// The Client API of any gateway; else TIDEGATE_API, else http://127.0.0.1:7280
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
    /// The token; other users of this machine see it here, so rather set TIDEGATE_TOKEN
    #[arg(long, conflicts_with = "token_file")]
    pub token: Option<String>,
    /// A file that holds the token; else TIDEGATE_TOKEN has it, else the file TIDEGATE_TOKEN_FILE
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// How long the answer may take with all repetitions, in milliseconds: each page of a list. A deploy
    /// is followed to its end
    #[arg(long, value_name = "MS", default_value_t = 10_000,
        value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub timeout_ms: u64,
    /// Prints JSON, for programs
    #[arg(long)]
    pub json: bool,
}

impl Connect {
    /// How long the answer may take.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// Which clients: the union of all that is given.
#[derive(Args, Clone, Debug)]
pub struct Which {
    /// A client; may be repeated
    #[arg(long, value_name = "ID")]
    pub client: Vec<String>,
    /// All clients of a uid; may be repeated
    #[arg(long)]
    pub uid: Vec<String>,
    /// All members of a group; may be repeated
    #[arg(long)]
    pub group: Vec<String>,
}

/// `tidegate send`
#[derive(Args, Clone, Debug)]
#[command(group(ArgGroup::new("to").required(true).multiple(true)
    .args(["client", "uid", "group", "everyone"])))]
pub struct SendArgs {
    /// Which gateway, and as whom.
    #[command(flatten)]
    pub connect: Connect,
    /// To whom.
    #[command(flatten)]
    pub which: Which,
    /// All clients of the tenant
    #[arg(long)]
    pub everyone: bool,
    /// A client that is left out; may be repeated
    #[arg(long, value_name = "ID")]
    pub except: Vec<String>,
    /// Sends standard input or the text's bytes as a binary message
    #[arg(long)]
    pub binary: bool,
    /// Writes the bytes as they are, without the listener's framing
    #[arg(long)]
    pub raw: bool,
    /// Takes the place of what still waits for a client under the same KEY: who reads slowly skips to
    /// the newest
    #[arg(long, value_name = "KEY", conflicts_with = "raw")]
    pub latest: Option<String>,
    /// An idempotency key: with the same key the message is sent once
    #[arg(long)]
    pub key: Option<String>,
    /// The message; standard input until its end (Ctrl-D) if it is not given
    pub text: Option<String>,
}

/// `tidegate clients`
#[derive(Args, Clone, Debug)]
pub struct ClientsArgs {
    /// Which gateway, and as whom.
    #[command(flatten)]
    pub connect: Connect,
    /// Which clients; everyone if nothing is given.
    #[command(flatten)]
    pub which: Which,
    /// Members of all of these groups; may be repeated
    #[arg(long, value_name = "GROUP")]
    pub in_all: Vec<String>,
    /// What is shown of each, with commas: peer, uid, groups, session, times, traffic
    #[arg(long, value_delimiter = ',', default_value = "uid,groups,peer")]
    pub fields: Vec<String>,
    /// Shows how many there are, and no list
    #[arg(long, conflicts_with_all = ["fields", "limit", "all"])]
    pub count: bool,
    /// How the list is bounded.
    #[command(flatten)]
    pub bound: Bound,
}

/// How long a list may be.
#[derive(Args, Clone, Debug)]
pub struct Bound {
    /// At most so many
    #[arg(long, value_name = "N", default_value = "100")]
    pub limit: NonZeroUsize,
    /// All of them, however many
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
}

/// `tidegate groups`
#[derive(Args, Clone, Debug)]
pub struct GroupsArgs {
    /// Which gateway, and as whom.
    #[command(flatten)]
    pub connect: Connect,
    /// How the list is bounded.
    #[command(flatten)]
    pub bound: Bound,
    /// Only these
    #[arg(value_name = "GROUP", conflicts_with_all = ["limit", "all"])]
    pub groups: Vec<String>,
}

/// `tidegate uids`
#[derive(Args, Clone, Debug)]
pub struct UidsArgs {
    /// Which gateway, and as whom.
    #[command(flatten)]
    pub connect: Connect,
    /// Only uids of a group's members; may be repeated
    #[arg(long)]
    pub group: Vec<String>,
    /// Shows how many there are, and no list
    #[arg(long, conflicts_with_all = ["limit", "all"])]
    pub count: bool,
    /// With --count: about how many, in one round trip
    #[arg(long, requires = "count", conflicts_with = "group")]
    pub estimate: bool,
    /// How the list is bounded.
    #[command(flatten)]
    pub bound: Bound,
    /// Shows the clients of these uids
    #[arg(value_name = "UID", conflicts_with_all = ["group", "count", "limit", "all"])]
    pub uids: Vec<String>,
}

/// `tidegate session`
#[derive(Clone, Debug, Subcommand)]
pub enum SessionCommand {
    /// Print a session, or one of its values
    #[command(after_help = "Example: tidegate session get 7f00000107d000000001 cart")]
    Get(SessionGet),
    /// Replace a session
    #[command(after_help = "Example: tidegate session set 7f00000107d000000001 '{\"cart\":[1,2]}'")]
    Set(SessionChange),
    /// Set some keys of a session; others stay
    #[command(
        after_help = "Example: tidegate session merge 7f00000107d000000001 '{\"seen\":true}'"
    )]
    Merge(SessionMerge),
    /// Remove every key of a session
    Delete(SessionDelete),
}

/// `tidegate session get`
#[derive(Args, Clone, Debug)]
pub struct SessionGet {
    /// Which gateway, and as whom.
    #[command(flatten)]
    pub connect: Connect,
    /// Whose
    #[arg(value_name = "CLIENT")]
    pub client: String,
    /// Only this key
    pub key: Option<String>,
}

/// `tidegate session set`
#[derive(Args, Clone, Debug)]
pub struct SessionChange {
    /// Which gateway, and as whom.
    #[command(flatten)]
    pub connect: Connect,
    /// Whose
    #[arg(value_name = "CLIENT")]
    pub client: String,
    /// A JSON object: key and value of each entry
    pub entries: String,
}

/// `tidegate session merge`
#[derive(Args, Clone, Debug)]
pub struct SessionMerge {
    /// What `set` takes as well.
    #[command(flatten)]
    pub change: SessionChange,
    /// Merges objects key by key instead of replacing them
    #[arg(long)]
    pub deep: bool,
}

/// `tidegate session delete`
#[derive(Args, Clone, Debug)]
pub struct SessionDelete {
    /// Which gateway, and as whom.
    #[command(flatten)]
    pub connect: Connect,
    /// Whose
    #[arg(value_name = "CLIENT")]
    pub client: String,
}

/// `tidegate kick`
#[derive(Args, Clone, Debug)]
#[command(group(ArgGroup::new("whom").required(true).multiple(true).args(["clients", "uid"])))]
pub struct KickArgs {
    /// Which gateway, and as whom.
    #[command(flatten)]
    pub connect: Connect,
    /// All clients of a uid; may be repeated
    #[arg(long)]
    pub uid: Vec<String>,
    /// A last message
    #[arg(long, conflicts_with = "now")]
    pub farewell: Option<String>,
    /// The code that closes a WebSocket: 1000, or one of 3000 to 4999; otherwise 1000
    #[arg(long, conflicts_with = "now")]
    pub code: Option<u16>,
    /// The reason beside it, at most 123 bytes
    #[arg(long, conflicts_with = "now")]
    pub reason: Option<String>,
    /// Drops what still waits to be sent; with --uid too
    #[arg(long)]
    pub now: bool,
    /// The clients' ids
    #[arg(value_name = "CLIENT")]
    pub clients: Vec<String>,
}

/// `tidegate request`
#[derive(Args, Clone, Debug)]
pub struct RequestArgs {
    /// Which gateway, and as whom.
    #[command(flatten)]
    pub connect: Connect,
    /// An idempotency key: with the same key the handler runs once, and its reply is given again
    #[arg(long)]
    pub key: Option<String>,
    /// What is called
    pub name: String,
    /// The argument; standard input if it is not given, and nothing if that is a terminal
    pub text: Option<String>,
}

/// `tidegate status`
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Which gateway, and as whom.
    #[command(flatten)]
    pub connect: Connect,
}

/// `tidegate feed`
#[derive(Args, Clone, Debug)]
pub struct FeedArgs {
    /// Which gateway, and as whom.
    #[command(flatten)]
    pub connect: Connect,
    /// Only these kinds, with commas: connected, closed, joined, left, bound, unbound
    #[arg(long, value_delimiter = ',')]
    pub kind: Vec<String>,
    /// Only joins and leaves of a group, and closes of its members; may be repeated
    #[arg(long)]
    pub group: Vec<String>,
    /// Only changes of a uid's clients; may be repeated
    #[arg(long)]
    pub uid: Vec<String>,
}

impl ClientCommand {
    /// Which gateway, and as whom.
    #[must_use]
    pub const fn connect(&self) -> &Connect {
        match self {
            Self::Send(it) => &it.connect,
            Self::Clients(it) => &it.connect,
            Self::Groups(it) => &it.connect,
            Self::Uids(it) => &it.connect,
            Self::Session(SessionCommand::Get(it)) => &it.connect,
            Self::Session(SessionCommand::Set(it)) => &it.connect,
            Self::Session(SessionCommand::Merge(it)) => &it.change.connect,
            Self::Session(SessionCommand::Delete(it)) => &it.connect,
            Self::Kick(it) => &it.connect,
            Self::Request(it) => &it.connect,
            Self::Status(it) => &it.connect,
            Self::Feed(it) => &it.connect,
            Self::Deploy(it) => &it.to.connect,
            Self::Rollback(it) => &it.of.connect,
            Self::Promote(it) => &it.of.connect,
            Self::Withdraw(it) => &it.of.connect,
            Self::History(it) => &it.of.connect,
        }
    }
}
