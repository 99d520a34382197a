//! What each metric is, for whoever scrapes: `# HELP`. Those whose labels are known beforehand are
//! there from the start, at zero, so that a rate over the first one that counts is seen.

use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::config::Purpose;

/// What a metric measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MetricKind {
    Counter,
    Gauge,
    /// Of durations: see `tidegate_histogram`.
    Histogram,
}

/// Which values a metric has before anything has happened.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// None: its owner makes it, with its tenants.
    Later,
    /// One without labels.
    Plain,
    /// One for each of these values of a label.
    Each(&'static str, &'static [&'static str]),
}

use MetricKind::{Counter, Gauge, Histogram};
use Start::{Each, Later, Plain};

type Metric = (&'static str, MetricKind, Start, &'static str);

const CUTS: Start = Each("reason", &["time", "slow", "memory"]);

#[rustfmt::skip]
const METRICS: &[Metric] = &[
    ("tidegate_build_info", Gauge, Later, "Always 1; the label has the version."),
    ("tidegate_log_lines_left_out_total", Counter, Plain, "Lines of the log beyond what one source may put into it."),
    ("tidegate_log_lines_lost_total", Counter, Each("reason", &["unwritable", "full", "long"]), "Lines of the log that could not be written."),
    ("tidegate_panics_total", Counter, Plain, "Panics in the work of one client or caller, which ended it alone."),
    ("tidegate_deploy_generation", Gauge, Plain, "The generation of the desired state that this node has heard of."),

    ("tidegate_gateway_clients", Gauge, Plain, "Clients connected now."),
    ("tidegate_gateway_kept_bytes", Gauge, Plain, "What clients make the gateway keep."),
    ("tidegate_gateway_connections_total", Counter, Plain, "Clients that connected."),
    ("tidegate_gateway_refused_connections_total", Counter, Plain, "Connections refused by connections-max."),
    ("tidegate_gateway_closes_total", Counter, Each("reason", &["client", "server", "idle", "slow", "protocol", "going-away", "gateway-lost"]), "Clients that closed."),
    ("tidegate_gateway_messages_in_total", Counter, Plain, "Messages from clients."),
    ("tidegate_gateway_bytes_in_total", Counter, Plain, "Bytes of messages from clients."),
    ("tidegate_gateway_messages_out_total", Counter, Plain, "Messages queued to clients."),
    (
        "tidegate_gateway_replaced_messages_total",
        Counter,
        Plain,
        "Messages that took the place of one that still waited for a client under the same key.",
    ),
    ("tidegate_gateway_commits_total", Counter, Each("outcome", &["done", "failed", "dead-lettered"]), "Events that ended."),
    ("tidegate_gateway_stale_commits_total", Counter, Plain, "Commits of an attempt that is no longer current: they change nothing."),
    ("tidegate_gateway_refused_effects_total", Counter, Plain, "Effects that a limit of the gateway refused."),
    ("tidegate_gateway_tenant_waits_total", Counter, Later, "How often a tenant had used its share of a worker's window or of the bytes that may wait."),
    ("tidegate_gateway_cut_clients_total", Counter, CUTS, "Clients that were closed before they had taken or been read everything."),
    ("tidegate_gateway_cut_bytes_total", Counter, CUTS, "What those clients did not get."),
    ("tidegate_gateway_dropped_total", Counter, Each("reason", &["slow-client", "newline", "no-worker", "forward-full", "peer-message", "unknown-gateway", "request-timeout"]), "What was not delivered."),
    ("tidegate_gateway_requests_total", Counter, Plain, "Calls from outside that became events."),
    ("tidegate_gateway_http_requests_total", Counter, Each("outcome", &["answered", "failed", "timeout", "overloaded", "refused"]), "HTTP requests for handlers that have ended."),
    ("tidegate_gateway_schedule_ticks_total", Counter, Each("outcome", &["begun", "done", "failed", "missed"]), "Times of schedules: tasks that began, that ended well or in an error, and times that were left out."),
    ("tidegate_gateway_routed_total", Counter, Each("outcome", &["chosen", "bind", "failed", "overloaded", "paused"]), "Events for which a router that is a component was asked."),
    ("tidegate_gateway_commands_total", Counter, Each("outcome", &["done", "absent", "failed", "broken", "overloaded", "timeout"]), "Custom commands that ended."),
    ("tidegate_gateway_command_traps_total", Counter, Later, "Broken instances of command components."),
    ("tidegate_gateway_command_reloads_total", Counter, Later, "New versions of command components that were taken, or loaded but not started."),
    ("tidegate_gateway_codec_jobs_total", Counter, Later, "Times that a connection gave its codec something to do."),
    ("tidegate_gateway_codec_faults_total", Counter, Later, "Broken instances of codecs, and connections that were closed because theirs returned what cannot be."),
    ("tidegate_gateway_codec_refusals_total", Counter, Later, "What codecs refused: bytes of clients, which are closed, and messages, which are not sent."),
    ("tidegate_gateway_codec_reloads_total", Counter, Later, "New versions of codecs that were taken, or loaded but not started."),
    ("tidegate_gateway_watchers", Gauge, Plain, "Watchers that are told what happens here."),
    ("tidegate_gateway_custody_bytes_total", Counter, Plain, "What custodians were told of clients."),
    ("tidegate_gateway_unguarded_clients", Gauge, Plain, "Clients of whom a custodian is not known to know them yet."),
    ("tidegate_gateway_single_custodian_clients", Gauge, Plain, "Clients of whom one custodian alone is known to know them."),
    ("tidegate_gateway_pending_events", Gauge, Later, "Events that wait or are under way."),
    ("tidegate_gateway_pending_bytes", Gauge, Later, "Bytes of events that wait or are under way."),
    ("tidegate_gateway_window_fill_ratio", Gauge, Later, "How much of its share of its fullest window a tenant uses; at 1 its events wait."),
    ("tidegate_gateway_oldest_event_age_seconds", Gauge, Later, "Age of the oldest event that is not committed."),
    ("tidegate_gateway_event_wait_seconds", Histogram, Later, "From an event's arrival until it is sent to a worker."),
    ("tidegate_gateway_event_seconds", Histogram, Later, "From an event's arrival until its commit."),
    ("tidegate_gateway_delivery_seconds", Histogram, Later, "From the arrival of effects until what they send a client is in its socket."),
    ("tidegate_gateway_timers", Gauge, Plain, "Timers of handlers that wait."),
    ("tidegate_gateway_timer_lateness_seconds", Histogram, Later, "From the time for which a timer was set until it is an event."),
    ("tidegate_gateway_tasks", Gauge, Later, "Tasks of handlers that wait or are under way."),
    ("tidegate_gateway_tasks_total", Counter, Each("outcome", &["done", "failed", "cancelled", "lost"]), "Tasks of handlers that ended."),
    ("tidegate_gateway_question_seconds", Histogram, Later, "From a question of a handler or caller until its answer."),

    ("tidegate_worker_links", Gauge, Plain, "Linked gateways."),
    ("tidegate_worker_clients", Gauge, Plain, "Clients whose events are handled here."),
    ("tidegate_worker_lanes", Gauge, Plain, "Those, and clients kept here for their close alone."),
    ("tidegate_worker_commits_total", Counter, Plain, "Commits sent home."),
    ("tidegate_worker_events_total", Counter, Later, "Events that were run, or given back to the gateway."),
    ("tidegate_worker_event_wait_seconds", Histogram, Later, "From an event's arrival at the worker until its handler runs."),
    ("tidegate_worker_event_seconds", Histogram, Later, "How long handlers run for an event."),
    ("tidegate_worker_traps_total", Counter, Later, "Broken instances."),
    ("tidegate_worker_dead_letters_total", Counter, Later, "Events set aside."),
    ("tidegate_worker_peer_messages_total", Counter, Later, "What instances were told by others."),
    ("tidegate_worker_rescued_total", Counter, Later, "Events that a version on trial could not run and the version before did."),
    ("tidegate_worker_reloads_total", Counter, Later, "New versions that were taken, or loaded but not started."),
    ("tidegate_worker_rollbacks_total", Counter, Later, "Versions that gave their place back to an older one."),
    ("tidegate_worker_canary", Gauge, Later, "1 while some clients try a new version."),
    ("tidegate_worker_state_handovers_total", Counter, Later, "Memory handed to an instance of a new version, or lost on that way."),
    ("tidegate_worker_deploy_troubles", Gauge, Plain, "Tenants that the worker cannot serve as the cluster wants it."),

    ("tidegate_register_nodes", Gauge, Each("role", &["gateway", "worker"]), "Nodes with a lease."),
    ("tidegate_register_joins_total", Counter, Each("result", &["joined", "refused"]), "Joins."),
    ("tidegate_register_deploy_decisions_total", Counter, Each("change", &["serve", "return", "failed", "promote", "give-up", "take-back", "condemn", "withdraw"]), "Decisions about what the cluster runs."),
];

/// Describes all metrics, and makes those of this process that are there from the start.
pub(super) fn start(purpose: Purpose) {
    for (name, kind, start, help) in METRICS {
        match kind {
            Counter => describe_counter!(*name, *help),
            Gauge => describe_gauge!(*name, *help),
            Histogram => continue,
        }
        if !is_of(name, purpose) {
            continue;
        }
        let labels: Vec<(&'static str, &'static str)> = match start {
            Later => continue,
            Plain => {
                match kind {
                    Counter => counter!(*name).increment(0),
                    Gauge | Histogram => gauge!(*name).increment(0),
                }
                continue;
            }
            Each(label, values) => values.iter().map(|value| (*label, *value)).collect(),
        };
        for label in labels {
            match kind {
                Counter => counter!(*name, &[label]).increment(0),
                Gauge | Histogram => gauge!(*name, &[label]).increment(0),
            }
        }
    }
}

/// What a metric is.
pub(super) fn help(name: &str) -> &'static str {
    let metric = METRICS.iter().find(|(own, ..)| *own == name);
    metric.map_or("", |(.., help)| help)
}

/// Whether a process that does this has that metric.
fn is_of(name: &str, purpose: Purpose) -> bool {
    let service = name.split('_').nth(1);
    match purpose {
        Purpose::Serve | Purpose::Check => true,
        Purpose::Gateway => !matches!(service, Some("worker" | "register")),
        Purpose::Worker => !matches!(service, Some("gateway" | "register")),
        Purpose::Register => !matches!(service, Some("gateway" | "worker")),
    }
}
