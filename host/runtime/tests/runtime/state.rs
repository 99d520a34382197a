//! Memory is handed from one version to the next, or it is told why not; no event is lost by it.

use tidegate_runtime::{Deployment, DeploymentSettings};

use crate::harness::{Home, client, deploy, guest_version, logged, plugin, said, settings};

fn with(tenant: &str, config: &str) -> DeploymentSettings {
    let mut settings = settings(tenant);
    settings.config = serde_json::from_str(config).unwrap();
    settings
}

async fn count(home: &std::sync::Arc<Home>, deployment: &Deployment, number: u32) -> String {
    said(&home.run(deployment, client(number), "count").await).remove(0)
}

#[tokio::test]
async fn each_instance_hands_its_memory_to_its_successor_and_back() {
    let mut settings = settings("heirs");
    settings.instances = 2;
    let deployment = deploy(settings).await;
    let home = Home::new();
    for number in 0..20 {
        home.run(&deployment, client(number), "count").await;
    }
    // Numbers are counted per instance, so these two are on different ones if they differ.
    let (one, other) = (
        count(&home, &deployment, 0).await,
        count(&home, &deployment, 0).await,
    );
    assert_eq!(
        one.parse::<u32>().unwrap() + 1,
        other.parse::<u32>().unwrap()
    );
    deployment
        .swap(plugin(guest_version(60)).await)
        .await
        .unwrap();
    let after = count(&home, &deployment, 0).await;
    assert_eq!(
        after.parse::<u32>().unwrap(),
        other.parse::<u32>().unwrap() + 1
    );
    deployment.rollback(None).await.unwrap();
    let back = count(&home, &deployment, 0).await;
    assert_eq!(
        back.parse::<u32>().unwrap(),
        other.parse::<u32>().unwrap() + 2
    );
    assert_eq!(logged(&["heirs", "restored"]).len(), 4);
    assert!(logged(&["WARN", "heirs", "starts empty"]).is_empty());
}

#[tokio::test]
async fn memory_that_cannot_be_handed_on_costs_neither_events_nor_order() {
    for (tenant, config, words) in [
        ("save-traps", r#"{"at-save":"trap"}"#, "unreachable"),
        (
            "save-spins",
            r#"{"at-save":"spin"}"#,
            "not done within 100 ms",
        ),
        (
            "save-sleeps",
            r#"{"at-save":"sleep"}"#,
            "not done within 100 ms",
        ),
        (
            "save-large",
            r#"{"save-bytes":"1001"}"#,
            "1001 bytes, at most 1000",
        ),
        ("save-huge", r#"{"save-bytes":"20000000"}"#, "too much data"),
        (
            "restore-refuses",
            r#"{"at-restore":"refuse"}"#,
            "refused: told to refuse the memory",
        ),
        ("restore-traps", r#"{"at-restore":"trap"}"#, "unreachable"),
        (
            "restore-sleeps",
            r#"{"at-restore":"sleep"}"#,
            "not done within 100 ms",
        ),
    ] {
        let mut settings = with(tenant, config);
        settings.rollout.state_ms = 100;
        settings.rollout.state_bytes_max = 1000;
        let deployment = deploy(settings).await;
        let home = Home::new();
        let mut events = vec![home.script(&deployment, client(1), "sleep 30\ncount")];
        events.extend((0..50).map(|_| home.script(&deployment, client(1), "count")));
        deployment
            .swap(plugin(guest_version(61)).await)
            .await
            .unwrap();
        events.extend((0..50).map(|_| home.script(&deployment, client(1), "count")));
        let mut counts = Vec::new();
        for event in &events {
            counts.push(said(&home.commit_of(*event).await).remove(0));
        }
        let order = home.commits();
        let order: Vec<u64> = order.iter().map(|commit| commit.event.sequence).collect();
        assert_eq!(order, events, "{tenant}");
        let starts = counts.iter().filter(|count| *count == "0").count();
        assert_eq!(
            starts, 2,
            "{tenant}: the old one started once, the new one empty: {counts:?}"
        );
        let told = logged(&["WARN", tenant, "starts empty", words]);
        assert_eq!(told.len(), 1, "{tenant}: {:?}", logged(&["WARN", tenant]));
    }
}
