//! Any frame of deploys.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use tidegate_wire::deploy::{
    CanaryPlan, Deploy, DeployError, DeployOrder, Deployed, Desired, Fate, Order, Overview,
    Progress, Release, Running, Step, WorkerState,
};
use tidegate_wire::frame::Frame;
use tidegate_wire::id::Incarnation;

use super::{clients, name, names, node, payload};

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,20}"
}

fn plan() -> impl Strategy<Value = CanaryPlan> {
    (any::<u8>(), clients(), any::<u64>()).prop_map(|(percent, clients, seconds)| CanaryPlan {
        percent,
        clients,
        seconds,
    })
}

fn release() -> impl Strategy<Value = Release> {
    let fate = prop_oneof![
        Just(Fate::Active),
        plan().prop_map(Fate::Canary),
        Just(Fate::Replaced),
        text().prop_map(Fate::RolledBack),
        text().prop_map(Fate::Failed),
        Just(Fate::Withdrawn),
    ];
    (
        any::<(u64, u64, u64, u64, bool)>(),
        name(),
        name(),
        name(),
        fate,
    )
        .prop_map(
            |((generation, bytes, at_ms, instead_of, unproven), version, source, by, fate)| {
                Release {
                    generation,
                    version,
                    source,
                    bytes,
                    at_ms,
                    by,
                    fate,
                    instead_of,
                    unproven,
                }
            },
        )
}

fn desired() -> impl Strategy<Value = Desired> {
    let deployed = (vec(release(), 0..3), any::<u64>());
    let deployed = deployed.prop_map(|(releases, withdrawn_in)| Deployed {
        releases,
        withdrawn_in,
    });
    let tenants = btree_map(name(), deployed, 0..3);
    (any::<u64>(), any::<u64>(), tenants).prop_map(|(generation, writer, tenants)| Desired {
        generation,
        writer: Incarnation(writer),
        tenants,
    })
}

fn running() -> impl Strategy<Value = Vec<Running>> {
    let one = (
        name(),
        option::of(name()),
        option::of(name()),
        any::<bool>(),
        option::of(text()),
        option::of(text()),
    );
    let one = one.prop_map(
        |(tenant, serving, canary, trial, trouble, failing)| Running {
            tenant,
            serving,
            canary,
            trial,
            trouble,
            failing,
        },
    );
    vec(one, 0..3)
}

fn order() -> impl Strategy<Value = Order> {
    let deploy =
        (name(), name(), name(), option::of(plan())).prop_map(|(tenant, source, by, canary)| {
            DeployOrder {
                tenant,
                source,
                by,
                canary,
            }
        });
    prop_oneof![
        (deploy, name(), any::<u64>()).prop_map(|(order, version, bytes)| Order::Deploy {
            order,
            version,
            bytes,
        }),
        (name(), option::of(text()), name()).prop_map(|(tenant, to, by)| Order::Rollback {
            tenant,
            to,
            by,
        }),
        (name(), name()).prop_map(|(tenant, by)| Order::Promote { tenant, by }),
        (name(), name()).prop_map(|(tenant, by)| Order::Withdraw { tenant, by }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Fetched),
        Just(Step::Compiled),
        Just(Step::Started),
        Just(Step::Switched),
        text().prop_map(Step::Failed),
    ]
}

fn error() -> impl Strategy<Value = DeployError> {
    prop_oneof![
        text().prop_map(|register| DeployError::NoRegister { register }),
        Just(DeployError::NoWorker),
        (name(), text()).prop_map(|(worker, reason)| DeployError::Refused { worker, reason }),
        (text(), names())
            .prop_map(|(prefix, versions)| DeployError::Ambiguous { prefix, versions }),
        (any::<u64>(), any::<u64>())
            .prop_map(|(bytes, limit)| DeployError::TooLarge { bytes, limit }),
    ]
}

fn progress() -> impl Strategy<Value = Progress> {
    prop_oneof![
        any::<u64>().prop_map(|bytes| Progress::Uploaded { bytes }),
        (name(), step()).prop_map(|(worker, step)| Progress::Worker { worker, step }),
        any::<u64>().prop_map(|generation| Progress::Decided { generation }),
        (any::<u64>(), name(), any::<u32>(), any::<bool>()).prop_map(
            |(generation, version, workers, trial)| Progress::Done {
                generation,
                version,
                workers,
                trial,
            },
        ),
        error().prop_map(|reason| Progress::Failed { reason }),
        any::<u64>().prop_map(|at_most_ms| Progress::Waiting { at_most_ms }),
    ]
}

fn overview() -> impl Strategy<Value = Overview> {
    let worker = (name(), any::<(u64, u64)>(), running());
    let worker = worker.prop_map(|(worker, (incarnation, generation), running)| WorkerState {
        worker,
        incarnation: Incarnation(incarnation),
        generation,
        running,
    });
    let workers = vec(worker, 0..3);
    (desired(), workers, option::of(name()), any::<u64>()).prop_map(
        |(desired, workers, under_way, settles_in_ms)| Overview {
            desired,
            workers,
            under_way,
            settles_in_ms,
        },
    )
}

fn nodes_and_orders() -> impl Strategy<Value = Deploy> {
    prop_oneof![
        (node(), any::<bool>(), desired()).prop_map(|(node, first, desired)| Deploy::Enrol {
            node,
            first,
            desired,
        }),
        desired().prop_map(Deploy::State),
        (any::<u64>(), running()).prop_map(|(generation, running)| Deploy::Status {
            generation,
            running,
        }),
        (name(), name(), text()).prop_map(|(tenant, version, reason)| Deploy::TakenBack {
            tenant,
            version,
            reason,
        }),
        (any::<u64>(), order()).prop_map(|(number, order)| Deploy::Order { number, order }),
        (any::<u64>(), progress())
            .prop_map(|(number, progress)| Deploy::Progress { number, progress }),
        any::<u64>().prop_map(|number| Deploy::Ask { number }),
        (any::<u64>(), overview()).prop_map(|(number, overview)| Deploy::Answer {
            number,
            overview: Box::new(overview),
        }),
    ]
}

fn preparations() -> impl Strategy<Value = Deploy> {
    let prepare = (
        any::<(u64, u64)>(),
        name(),
        name(),
        name(),
        option::of(plan()),
    );
    let outcome = prop_oneof![Just(Ok(())), text().prop_map(Err)];
    prop_oneof![
        prepare.prop_map(
            |((order, bytes), tenant, version, source, canary)| Deploy::Prepare {
                order,
                tenant,
                version,
                source,
                bytes,
                canary,
            }
        ),
        any::<u64>().prop_map(|order| Deploy::Hold { order }),
        any::<u64>().prop_map(|order| Deploy::Discard { order }),
        (any::<u64>(), step()).prop_map(|(order, step)| Deploy::Step { order, step }),
        (any::<u64>(), outcome).prop_map(|(order, outcome)| Deploy::Prepared { order, outcome }),
        (name(), any::<u64>()).prop_map(|(version, offset)| Deploy::Fetch { version, offset }),
        (name(), any::<u64>(), payload()).prop_map(|(version, offset, bytes)| Deploy::Chunk {
            version,
            offset,
            bytes,
        }),
        name().prop_map(|version| Deploy::Missing { version }),
    ]
}

/// Any of them.
pub(crate) fn frame() -> impl Strategy<Value = Frame> {
    let any = prop_oneof![nodes_and_orders(), preparations()];
    any.prop_map(|it| Frame::Deploy(Box::new(it)))
}
