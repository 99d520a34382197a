//! Numbers that no machine's number holds keep every digit, from the caller through the gateways and
//! back, also where their neighbours change.

use anyhow::ensure;
use serde_json::json;
use tidegate_tests::Outcome;

use super::Place;

/// More digits than 64 bits, more than a double tells apart, and more than it reaches.
const LONG: &str = "123456789012345678901234567890";
const FINE: &str = "0.1234567890123456789012345";
const HUGE: &str = "-1e400";

#[tokio::test]
async fn numbers_of_any_size_keep_their_digits() -> Outcome {
    for place in Place::both("numbers")? {
        let client = place.client(1, "").await?;
        let id = client.id().to_owned();
        let node = |gateway: usize| {
            let gateways = place.fixture.gateways();
            place.fixture.cluster.gateway(gateway % gateways)
        };
        let entries = format!(r#"{{"a":{{"n":{LONG}}},"f":{FINE},"h":{HUGE}}}"#);
        let set = ["session", "set", &id, &entries];
        node(0)?.run(place.tenant, &set).await?.ok()?;
        // A neighbour is merged in, over HTTP and by another gateway.
        let json_body = [("Content-Type", "application/json")];
        let target = format!("/v1/clients/{id}/session?deep=true");
        let more = r#"{"a":{"m":18446744073709551616}}"#;
        let api = place.api(2)?;
        api.call("PATCH", &target, &json_body, Some(more))
            .await?
            .ok()?;
        // Compared as numbers: every digit counts, how it is written does not.
        let swap = format!("/v1/clients/{id}/session/compare-and-set");
        for (expected, status) in [
            ("0.1234567890123456789012346", 409),
            ("1.234567890123456789012345E-1", 200),
        ] {
            let body = format!(r#"{{"key":"f","expected":{expected},"new":{FINE}}}"#);
            let got = api.call("POST", &swap, &json_body, Some(&body)).await?;
            ensure!(got.status == status, "{expected}: {}", got.body);
        }
        let wanted =
            format!(r#"{{"a":{{"m":18446744073709551616,"n":{LONG}}},"f":{FINE},"h":{HUGE}}}"#);
        for gateway in 0..3 {
            let get = ["session", "get", "--json", &id];
            let got = node(gateway)?.run(place.tenant, &get).await?.ok()?;
            ensure!(got.out.trim() == wanted, "{}", got.out);
        }
        let clear = format!("/v1/clients/{id}/session");
        place
            .api(0)?
            .send("DELETE", &clear, &json!(null))
            .await?
            .ok()?;
        // Asked where it was said: the question goes behind it.
        let got = place.api(0)?.get(&clear).await?.ok()?;
        ensure!(got == json!({}), "{got}");
    }
    Ok(())
}
