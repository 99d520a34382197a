//! Frames of deploys, and every variant inside.

use tidegate_wire::Name;
use tidegate_wire::deploy::{
    CanaryPlan, Deploy, DeployError, DeployOrder, Deployed, Desired, Fate, Order, Overview,
    Progress, Release, Running, Step, WorkerState,
};
use tidegate_wire::frame::Frame;
use tidegate_wire::id::Incarnation;
use tidegate_wire::membership::Role;

use super::{CLIENT, node};

fn name() -> Name {
    "n".into()
}

fn tenant() -> Name {
    "t".into()
}

fn version() -> Name {
    "0123456789abcdef".repeat(4).into()
}

fn plan() -> CanaryPlan {
    CanaryPlan {
        percent: 5,
        clients: vec![CLIENT],
        seconds: 300,
    }
}

fn desired(fate: Fate) -> Desired {
    let release = Release {
        generation: 300,
        version: version(),
        source: "s".into(),
        bytes: 1000,
        at_ms: 400,
        by: "b".into(),
        fate,
        instead_of: 0,
        unproven: true,
    };
    let releases = vec![release];
    Desired {
        generation: 301,
        writer: Incarnation(7),
        tenants: [(
            tenant(),
            Deployed {
                releases,
                withdrawn_in: 300,
            },
        )]
        .into(),
    }
}

fn fates() -> [(&'static str, Fate); 6] {
    [
        ("active", Fate::Active),
        ("canary", Fate::Canary(plan())),
        ("replaced", Fate::Replaced),
        ("rolled back", Fate::RolledBack("why".to_owned())),
        ("failed", Fate::Failed("why".to_owned())),
        ("withdrawn", Fate::Withdrawn),
    ]
}

fn running() -> Vec<Running> {
    vec![
        Running {
            tenant: tenant(),
            serving: Some(version()),
            canary: Some(version()),
            trial: true,
            trouble: Some("why".to_owned()),
            failing: Some("bad".to_owned()),
        },
        Running {
            tenant: name(),
            serving: None,
            canary: None,
            trial: false,
            trouble: None,
            failing: None,
        },
    ]
}

fn overview() -> Box<Overview> {
    Box::new(Overview {
        desired: desired(Fate::Active),
        workers: vec![WorkerState {
            worker: name(),
            incarnation: Incarnation(7),
            generation: 300,
            running: running(),
        }],
        under_way: Some(tenant()),
        settles_in_ms: 300,
    })
}

fn orders() -> [(&'static str, Order); 4] {
    let deploy = Order::Deploy {
        order: DeployOrder {
            tenant: tenant(),
            source: "s".into(),
            by: "b".into(),
            canary: Some(plan()),
        },
        version: version(),
        bytes: 1000,
    };
    let (tenant, by) = (tenant(), Name::from("b"));
    [
        ("deploy", deploy),
        (
            "rollback",
            Order::Rollback {
                tenant: tenant.clone(),
                to: Some("01".to_owned()),
                by: by.clone(),
            },
        ),
        (
            "promote",
            Order::Promote {
                tenant: tenant.clone(),
                by: by.clone(),
            },
        ),
        ("withdraw", Order::Withdraw { tenant, by }),
    ]
}

fn steps() -> [(&'static str, Step); 5] {
    [
        ("fetched", Step::Fetched),
        ("compiled", Step::Compiled),
        ("started", Step::Started),
        ("switched", Step::Switched),
        ("failed", Step::Failed("why".to_owned())),
    ]
}

fn progress() -> [(&'static str, Progress); 6] {
    [
        ("uploaded", Progress::Uploaded { bytes: 1000 }),
        (
            "worker",
            Progress::Worker {
                worker: name(),
                step: Step::Started,
            },
        ),
        ("decided", Progress::Decided { generation: 300 }),
        (
            "done",
            Progress::Done {
                generation: 300,
                version: version(),
                workers: 3,
                trial: true,
            },
        ),
        (
            "failed",
            Progress::Failed {
                reason: DeployError::NoWorker,
            },
        ),
        ("waiting", Progress::Waiting { at_most_ms: 300 }),
    ]
}

fn errors() -> Vec<DeployError> {
    let (register, worker, why) = ("r".to_owned(), name(), "why".to_owned());
    let (tenant, version, prefix) = (tenant(), version(), "01".to_owned());
    let mut errors = vec![
        DeployError::NoRegister {
            register: register.clone(),
        },
        DeployError::RegisterLost { register },
        DeployError::Busy {
            tenant: tenant.clone(),
        },
        DeployError::NoWorker,
        DeployError::TenantUnknown {
            tenant: tenant.clone(),
            worker: worker.clone(),
        },
        DeployError::Refused {
            worker: worker.clone(),
            reason: why.clone(),
        },
        DeployError::WorkerLost {
            worker: worker.clone(),
        },
        DeployError::TooSlow {
            worker,
            seconds: 300,
        },
        DeployError::TooLarge {
            bytes: 300,
            limit: 200,
        },
        DeployError::Upload(why.clone()),
        DeployError::NotDeployed {
            tenant: tenant.clone(),
        },
        DeployError::NothingBefore {
            tenant: tenant.clone(),
        },
    ];
    errors.extend([
        DeployError::UnknownVersion {
            tenant: tenant.clone(),
            prefix: prefix.clone(),
        },
        DeployError::Ambiguous {
            prefix,
            versions: vec![version.clone()],
        },
        DeployError::NotKept {
            version: version.clone(),
        },
        DeployError::Already {
            tenant: tenant.clone(),
            version: version.clone(),
        },
        DeployError::NoCanary {
            tenant: tenant.clone(),
        },
        DeployError::CanaryUnderWay {
            tenant,
            version: version.clone(),
        },
        DeployError::TooManyTenants(300),
        DeployError::Invalid(why.clone()),
        DeployError::TakenBack {
            version,
            reason: why.clone(),
        },
        DeployError::Disk(why),
        DeployError::Stopping,
        DeployError::GatewayStopping,
    ]);
    errors
}

/// One of every kind.
fn kinds() -> Vec<(&'static str, Deploy)> {
    let (tenant, version) = (tenant(), version());
    let enrol = Deploy::Enrol {
        node: node(Role::Worker, None),
        first: true,
        desired: Desired::default(),
    };
    let status = Deploy::Status {
        generation: 300,
        running: running(),
    };
    let taken_back = Deploy::TakenBack {
        tenant: tenant.clone(),
        version: version.clone(),
        reason: "why".to_owned(),
    };
    let answer = Deploy::Answer {
        number: 300,
        overview: overview(),
    };
    let prepare = Deploy::Prepare {
        order: 300,
        tenant,
        version: version.clone(),
        source: "s".into(),
        bytes: 1000,
        canary: Some(plan()),
    };
    let fetch = Deploy::Fetch {
        version: version.clone(),
        offset: 300,
    };
    let chunk = Deploy::Chunk {
        version: version.clone(),
        offset: 300,
        bytes: vec![1, 2, 3].into(),
    };
    vec![
        ("enrol", enrol),
        ("status", status),
        ("taken back", taken_back),
        ("ask", Deploy::Ask { number: 300 }),
        ("answer", answer),
        ("prepare", prepare),
        ("hold", Deploy::Hold { order: 300 }),
        ("discard", Deploy::Discard { order: 300 }),
        ("fetch", fetch),
        ("chunk", chunk),
        ("missing", Deploy::Missing { version }),
    ]
}

pub(crate) fn variants() -> Vec<(String, Frame)> {
    let mut all: Vec<(String, Deploy)> = Vec::new();
    let mut add = |kind: &str, which: &str, it: Deploy| all.push((format!("{kind} {which}"), it));
    for (which, it) in kinds() {
        add("deploy", which, it);
    }
    for (which, fate) in fates() {
        add("deploy state", which, Deploy::State(desired(fate)));
    }
    for (which, order) in orders() {
        add("deploy order", which, Deploy::Order { number: 300, order });
    }
    for (which, progress) in progress() {
        let number = 300;
        add(
            "deploy progress",
            which,
            Deploy::Progress { number, progress },
        );
    }
    for (place, reason) in errors().into_iter().enumerate() {
        let progress = Progress::Failed { reason };
        let which = place.to_string();
        let it = Deploy::Progress {
            number: 300,
            progress,
        };
        add("deploy error", &which, it);
    }
    for (which, step) in steps() {
        add("deploy step", which, Deploy::Step { order: 300, step });
    }
    for (which, outcome) in [("ok", Ok(())), ("failed", Err("why".to_owned()))] {
        let order = 300;
        add(
            "deploy prepared",
            which,
            Deploy::Prepared { order, outcome },
        );
    }
    let frame = |(name, it)| (name, Frame::Deploy(Box::new(it)));
    all.into_iter().map(frame).collect()
}
