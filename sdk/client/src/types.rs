//! What is asked and answered over the Client API: plain data, shared by the client and the
//! server, so that they cannot differ. With the feature `openapi` each type has its schema.

mod action;
mod command;
mod deployment;
mod feed;
mod info;
mod json;
mod message;
mod problem;
mod question;
mod selector;
mod task;

pub use action::{
    Action, Batch, Bind, Close, CloseUid, Done, DoneStatus, Farewell, Group, Member, OneClient,
    Send, SessionEntries, SetSession, Uid, UpdateSession,
};
pub use command::{Command, CommandAnswer, CommandAnswers, CommandRun, Request};
pub use deployment::{
    AnsweredBy, Canary, DeployProgress, DeployStep, DeployedAt, Deployment, Fate, Release, Rollback,
};
pub use feed::{Happening, Kind};
pub use info::{
    ClientInfo, ClientRef, CloseReason, Count, Field, Gateways, GroupClient, GroupInfo, GroupState,
    GroupUid, Page, Peer, Status, Transport, UidState,
};
pub use json::Json;
pub use message::Message;
pub use problem::{ErrorName, Problem};
pub use question::{
    ClientsOfUids, ClientsQuery, CompareAndSet, CountQuery, GroupCounts, Groups, Online, Uids,
};
pub use selector::{Recipients, Selector};
pub use task::{ScheduleInfo, Schedules, TaskInfo, Tasks};
