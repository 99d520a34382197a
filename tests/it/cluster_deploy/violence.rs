//! Workers and the register are killed at any moment of a deploy.

use super::*;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Kills in one run.
const ROUNDS: u32 = 8;

fn seed() -> Result<u64> {
    let seed = match std::env::var("TIDEGATE_SEED") {
        Ok(seed) => seed.parse().context("TIDEGATE_SEED is not a number")?,
        Err(_) => rand::random(),
    };
    eprintln!("seed {seed}: TIDEGATE_SEED={seed} kills at the same moments");
    Ok(seed)
}

fn ending(ran: &Ran) -> &str {
    let last = if ran.code == 0 { &ran.out } else { &ran.error };
    last.lines().last().unwrap_or_default()
}

/// Each version is compiled anew, so that there is something to fall into.
fn fresh(workers: usize) -> Result<Builder> {
    Ok(recorder(1, workers)?.worker_flags(&["--set", "worker.cache-dir=off"]))
}

#[tokio::test]
async fn a_worker_killed_at_any_moment_of_a_deploy_leaves_all_at_one_version() -> Outcome {
    let mut random = StdRng::seed_from_u64(seed()?);
    let mut cluster = fresh(3)?.start().await?;
    let talkers = Talkers::start(&doors(&cluster)?, 20, Duration::from_millis(50)).await?;
    let first = Build::new(cluster.folder(), "before")?;
    first.deploy(cluster.gateway(0)?).await?.ok()?;
    let mut serves = first.version;
    for round in 0..ROUNDS {
        let build = Build::new(cluster.folder(), &format!("round-{round}"))?;
        let (lines, moment) = (random.random_range(1..15), random.random_range(0..20));
        let victim = random.random_range(0..3_usize);
        let mut victims = std::mem::take(&mut cluster.workers);
        let killing = async {
            tokio::time::sleep(Duration::from_millis(moment)).await;
            let worker = victims.get_mut(victim).context("no such worker")?;
            worker.kill().await.map(drop)
        };
        let gateway = cluster.gateway(0)?;
        let args = build.args()?;
        let ran = gateway.run_and("default", &args, lines, killing).await?;
        cluster.workers = victims;
        eprintln!("worker-{victim} killed at line {lines}: {}", ending(&ran));
        let context = format!("round {round}, worker-{victim} killed at line {lines}: {ran:?}");
        let node = cluster.worker_named(&format!("worker-{victim}"))?;
        node.start()?;
        node.ready().await?;
        if ran.code == 0 {
            serves = build.version;
        }
        all_run(&cluster, &serves)
            .await
            .with_context(|| context.clone())?;
        all_meet(&cluster, 0, 8, &serves)
            .await
            .with_context(|| context)?;
    }
    talkers.end().await?;
    Ok(())
}

#[tokio::test]
async fn the_register_killed_at_any_moment_of_a_deploy_leaves_all_at_one_version() -> Outcome {
    let mut random = StdRng::seed_from_u64(seed()?);
    let mut cluster = fresh(2)?.start().await?;
    let talkers = Talkers::start(&doors(&cluster)?, 20, Duration::from_millis(50)).await?;
    for round in 0..ROUNDS {
        let build = Build::new(cluster.folder(), &format!("round-{round}"))?;
        let (lines, moment) = (random.random_range(1..11), random.random_range(0..20));
        let mut register = cluster.register.take().context("no register")?;
        let killing = async {
            tokio::time::sleep(Duration::from_millis(moment)).await;
            register.kill().await.map(drop)
        };
        let gateway = cluster.gateway(0)?;
        let args = build.args()?;
        let ran = gateway.run_and("default", &args, lines, killing).await?;
        eprintln!("register killed at line {lines}: {}", ending(&ran));
        let context = format!("round {round}, register killed at line {lines}: {ran:?}");
        register.start()?;
        register.ready().await?;
        cluster.register = Some(register);
        // Whatever was decided is what all run in the end.
        eventually(&context, async || {
            let state = state(cluster.gateway(0)?).await?;
            let wanted = at(&state, "/version");
            let found = state
                .pointer("/workers")
                .and_then(Value::as_array)
                .context("no workers")?;
            let behind = found.iter().any(is_behind);
            ensure!(found.len() == 2 && !behind, "{state}");
            ensure!(
                ran.code != 0 || wanted == build.version,
                "a deploy that was done is gone: {state}"
            );
            Ok(Some(()))
        })
        .await?;
        ensure!(met(&cluster, 0, 8).await?.len() == 1, "{context}");
    }
    talkers.end().await?;
    Ok(())
}
