//! The promises of the design as tests against real processes. Each module is one subject, each
//! test's name is a claim.

mod admin;
mod bad_plugins;
mod behaviour;
mod bulk;
mod chaos;
mod check;
mod client_api;
mod closing;
mod cluster_deploy;
mod conformance;
mod contract;
mod deploy;
mod descriptors;
mod docs;
mod ending;
mod failures;
mod files;
mod handshake;
mod heartbeats;
mod links;
mod listeners;
mod logging;
mod loss;
mod membership;
mod memory;
mod metrics;
mod numbered;
mod openapi;
mod order;
mod rfc;
mod scale;
mod sessions;
mod sign_in;
mod signals;
mod slow;
mod strangers;
mod tasks;
mod tenants;
mod third_party;
mod tidy;
mod timers;
#[cfg(debug_assertions)]
mod watchdog;
mod watcher;
mod who;
