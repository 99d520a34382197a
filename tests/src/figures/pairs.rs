//! This build beside another one. Both run at the same time and are loaded in short turns, so that what
//! disturbs the machine falls on both: a ratio is the median of those of all turns.

use anyhow::{Context, Result};

use super::subject::Running;
use super::table::Compared;
use super::{Figure, Plan, Reloading, Subject, grown, speed_of};

/// How often both are loaded.
const TURNS: usize = 61;
const QUICK_TURNS: usize = 3;
/// How often a plugin is replaced at each of them.
const RELOADS: usize = 7;

/// Both builds in one form.
const PAIRS: [(Subject, Subject); 2] = [
    (Subject::BaseServe, Subject::Serve),
    (Subject::BaseApart, Subject::Apart),
];

pub(super) async fn compare(plan: Plan, tell: &mut dyn FnMut(&str)) -> Result<Vec<Compared>> {
    let mut all = Vec::new();
    for (base, now) in PAIRS {
        tell(&format!("beside the other build: {}", now.name()));
        for figure in Figure::ALL {
            let turns = match figure {
                Figure::RoundTrips(_) | Figure::Deliveries(_) => {
                    speeds(plan, figure, base, now).await
                }
                Figure::IdleBytes => memory(plan, base, now).await,
                Figure::ReloadSeconds => reloads(plan, base, now).await,
            };
            let turns = turns.with_context(|| format!("{figure:?} of {}", now.name()))?;
            let compared = Compared::new(figure, now, turns).context("no turns")?;
            tell(&compared.to_string());
            all.push(compared);
        }
    }
    Ok(all)
}

/// What both reached in each turn, the other build first.
type Turns = Vec<(f64, f64)>;

async fn speeds(plan: Plan, figure: Figure, base: Subject, now: Subject) -> Result<Turns> {
    let servers = (base.start(None, plan).await?, now.start(None, plan).await?);
    let mut turns = Turns::new();
    for turn in 0..if plan.is_quick() { QUICK_TURNS } else { TURNS } {
        let speed = async |server: &Running| speed_of(server, figure, plan.turn()).await;
        // Each is the first one as often as the other.
        turns.push(if turn % 2 == 0 {
            let before = speed(&servers.0).await?;
            (before, speed(&servers.1).await?)
        } else {
            let after = speed(&servers.1).await?;
            (speed(&servers.0).await?, after)
        });
    }
    Ok(turns)
}

async fn memory(plan: Plan, base: Subject, now: Subject) -> Result<Turns> {
    let before = grown(plan, &base.start(None, plan).await?).await?;
    Ok(vec![(
        before,
        grown(plan, &now.start(None, plan).await?).await?,
    )])
}

async fn reloads(plan: Plan, base: Subject, now: Subject) -> Result<Turns> {
    let mut before = Reloading::start(plan, base).await?;
    let mut after = Reloading::start(plan, now).await?;
    let mut turns = Turns::new();
    for _ in 0..RELOADS {
        let first = before.reload().await?;
        turns.push((first, after.reload().await?));
    }
    Ok(turns)
}
