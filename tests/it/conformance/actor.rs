//! Who makes the calls: a handler during an event, or an application over HTTP. Both take the same
//! steps, `{"op": NAME, …}` as the probe does, and give the same answers, so that a row is written
//! once and holds on both sides.

mod asking;
mod doing;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tidegate_tests::{Answer, Api, Outcome, Probe, eventually};

/// Who makes the calls.
#[derive(Debug)]
pub(crate) enum Actor {
    /// A client of the probe, in whose events the calls are made.
    Inside(Box<Probe>),
    /// The Client API.
    Outside(Api),
}

impl Actor {
    /// Its own client id, if it is a client.
    pub(crate) fn id(&self) -> Option<&str> {
        match self {
            Self::Inside(probe) => Some(probe.id()),
            Self::Outside(_) => None,
        }
    }

    /// Makes one call.
    pub(crate) async fn ask(&mut self, step: Value) -> Result<Answer> {
        let answer = match self {
            Self::Inside(probe) => probe.ask(&step).await,
            Self::Outside(api) => match doing::ask(api, &step).await {
                Ok(Some(answer)) => Ok(answer),
                Ok(None) => asking::ask(api, &step).await,
                Err(error) => Err(error),
            },
        };
        answer.with_context(|| format!("the call {step}"))
    }

    /// Makes one call that must succeed.
    pub(crate) async fn get(&mut self, step: Value) -> Result<Value> {
        match self.ask(step.clone()).await? {
            Ok(value) => Ok(value),
            Err(error) => bail!("{step} is refused: {error}"),
        }
    }

    /// Makes calls together: in one event, or as one batch.
    pub(crate) async fn together(&mut self, steps: &[Value]) -> Outcome {
        let answer = match self {
            Self::Inside(probe) => probe.ask(&json!({"do": steps})).await?,
            Self::Outside(api) => doing::batch(api, steps).await?,
        };
        let Ok(results) = &answer else {
            bail!("{steps:?} are refused: {answer:?}");
        };
        let results = results.as_array().into_iter().flatten();
        let refused: Vec<_> = results.filter(|one| one.get("error").is_some()).collect();
        ensure!(refused.is_empty(), "{steps:?}: {refused:?}");
        Ok(())
    }

    /// Makes calls together that come to nothing: their event traps, or the last of the batch is
    /// malformed.
    pub(crate) async fn in_vain(&mut self, steps: &[Value]) -> Outcome {
        match self {
            Self::Inside(probe) => {
                probe.tell(&json!({"do": steps, "then": "trap"})).await?;
                probe.tell(&json!({"do": steps, "then": "fail"})).await?;
                // What it says next has been handled after both.
                let asked = probe.ask(&json!({"op": "event_id"})).await?;
                ensure!(asked.is_ok(), "event_id: {asked:?}");
            }
            Self::Outside(api) => {
                let mut steps = steps.to_vec();
                steps.push(json!({"op": "join_group", "client": "nobody", "group": "g"}));
                let answer = doing::batch(api, &steps).await?;
                ensure!(answer == Err("invalid-argument".into()), "{answer:?}");
            }
        }
        Ok(())
    }

    /// Pages through a list from its beginning to its end, with this many entries a page.
    pub(crate) async fn pages(&mut self, mut step: Value, limit: usize) -> Result<Vec<Value>> {
        let mut found = Vec::new();
        step["limit"] = json!(limit);
        for _ in 0..1000 {
            let mut page = self.get(step.clone()).await?;
            ensure!(page["missing"] == json!([]), "{step}: {page}");
            let Value::Array(items) = page["items"].take() else {
                bail!("{step}: no items in {page}");
            };
            ensure!(items.len() <= limit, "{step}: {} items", items.len());
            found.extend(items);
            match page["next"].take() {
                Value::Null => return Ok(found),
                next => step["after"] = next,
            }
        }
        bail!("{step} does not end")
    }

    /// All items of a list, in pages of two, which must be the same as in one page.
    pub(crate) async fn list(&mut self, step: Value) -> Result<Value> {
        let small = self.pages(step.clone(), 2).await?;
        let large = self.pages(step.clone(), 1000).await?;
        ensure!(
            small == large,
            "{step}: in pages of two {small:?}, in one {large:?}"
        );
        Ok(Value::Array(large))
    }

    /// Asks until the answer is this one.
    pub(crate) async fn until(&mut self, claim: &str, step: Value, wanted: Value) -> Outcome {
        eventually(claim, async || {
            let got = self.get(step.clone()).await?;
            ensure!(got == wanted, "{step}: expected {wanted}, found {got}");
            Ok(Some(()))
        })
        .await
    }
}

/// What is inside a client id.
pub(crate) fn address_in(id: &str) -> Result<Value> {
    let number = |range: std::ops::Range<usize>| {
        let digits = id.get(range).with_context(|| format!("{id:?} is no id"))?;
        Ok::<_, anyhow::Error>(u32::from_str_radix(digits, 16)?)
    };
    let ip = std::net::Ipv4Addr::from(number(0..8)?);
    let (port, connection) = (number(8..12)?, number(12..20)?);
    Ok(json!({"gateway": format!("{ip}:{port}"), "connection": connection}))
}
