//! Questions of handlers: what travels home, what comes back, what becomes of those that are not
//! answered.

use std::time::Duration;

use tidegate_wire::effect::{Effect, Recipients};
use tidegate_wire::frame::{GatewayFrame, WorkerFrame};
use tidegate_wire::query::{Answer, Answered, AskError, Query, Question};
use tokio::task::JoinHandle;

use super::rig::{Rig, Running};
use super::script::{DEADLINE, Gateway, ScriptedLink, set, soon, text, with_session};

async fn linked() -> (Gateway, Rig, ScriptedLink) {
    let gateway = Gateway::bind(1).await;
    let rig = Rig::start(&[&gateway]);
    let link = gateway.accept().await;
    (gateway, rig, link)
}

impl Running {
    fn ask(
        &self,
        effects: Vec<Effect>,
        query: Query,
        within: Duration,
    ) -> JoinHandle<Result<Answered, AskError>> {
        let (event, attempt) = (self.delivery.event, self.delivery.attempt);
        let lane = self.lane.clone();
        tokio::spawn(lane.ask(event, attempt, effects, query, within))
    }
}

async fn question(link: &mut ScriptedLink) -> Question {
    match link.next().await {
        WorkerFrame::Question(question) => *question,
        other => panic!("not a question: {other:?}"),
    }
}

fn answered(answer: Answer) -> Result<Answered, AskError> {
    let missing = Vec::new();
    Ok(Answered { answer, missing })
}

fn answer(link: &ScriptedLink, question: &Question, answer: Answer) {
    let answer = Box::new(answered(answer));
    let number = question.number;
    link.send(GatewayFrame::Answered { number, answer });
}

#[tokio::test]
async fn a_question_takes_the_changes_home_without_sends_and_brings_the_answer() {
    let (gateway, rig, mut link) = linked().await;
    link.deliver(with_session(gateway.message(7, 1), &[]));
    let running = rig.script.next().await;
    let client = gateway.client(7);
    let send = Effect::Send {
        to: Recipients::Everyone,
        message: text("hello"),
        except: Vec::new(),
    };
    let change = set(client, "k", "1");
    let asking = running.ask(vec![send, change.clone()], Query::UidEstimate, DEADLINE);
    let question = question(&mut link).await;
    assert_eq!((question.event, question.attempt), (gateway.event(1), 0));
    assert_eq!(
        (question.client, &question.effects),
        (client, &vec![change])
    );
    assert!(u128::from(question.within_ms) < DEADLINE.as_millis());
    answer(&link, &question, Answer::Count(3));
    let found = soon("the answer", asking).await.unwrap();
    assert_eq!(found, answered(Answer::Count(3)));
}

#[tokio::test]
async fn a_compare_and_set_of_the_own_client_is_in_the_session_of_events_that_wait() {
    let (gateway, rig, mut link) = linked().await;
    link.deliver(with_session(gateway.message(7, 1), &[("k", "1")]));
    link.deliver(gateway.message(7, 2));
    let (first, second) = (rig.script.next().await, rig.script.next().await);
    let swap = |client| Query::CompareAndSet {
        client,
        key: "k".into(),
        expected: Some("1".to_owned()),
        new: Some("2".to_owned()),
        nth: 0,
    };
    for (client, result, expected) in [
        (gateway.client(8), Ok(()), "1"),
        (
            gateway.client(7),
            Err(tidegate_wire::query::SwapRefusal::Conflict),
            "1",
        ),
        (gateway.client(7), Ok(()), "2"),
    ] {
        let asking = first.ask(vec![], swap(client), DEADLINE);
        let asked = question(&mut link).await;
        answer(&link, &asked, Answer::Swapped(result));
        soon("the answer", asking).await.unwrap().unwrap();
        assert_eq!(second.session("k").as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn a_question_without_an_answer_ends_at_its_deadline_and_a_late_answer_is_ignored() {
    let (gateway, rig, mut link) = linked().await;
    link.deliver(with_session(gateway.message(7, 1), &[]));
    let running = rig.script.next().await;
    let asking = running.ask(vec![], Query::UidEstimate, Duration::from_millis(30));
    let late = question(&mut link).await;
    let found = soon("the deadline", asking).await.unwrap();
    assert_eq!(found, Err(AskError::Timeout));
    answer(&link, &late, Answer::Count(1));
    let asking = running.ask(vec![], Query::UidEstimate, DEADLINE);
    let asked = question(&mut link).await;
    answer(&link, &asked, Answer::Count(2));
    let found = soon("the answer", asking).await.unwrap();
    assert_eq!(found, answered(Answer::Count(2)));
}

#[tokio::test]
async fn nobody_asks_behind_the_commit_or_over_a_link_that_has_ended() {
    let (gateway, rig, mut link) = linked().await;
    link.deliver(with_session(gateway.message(7, 1), &[]));
    link.deliver(gateway.message(7, 2));
    let (first, second) = (rig.script.next().await, rig.script.next().await);
    first.done(vec![]);
    link.commit().await;
    let asking = first.ask(vec![], Query::UidEstimate, DEADLINE);
    let refused = soon("the refusal", asking).await.unwrap();
    assert_eq!(refused, Err(AskError::Gone));
    let asking = second.ask(vec![], Query::UidEstimate, DEADLINE);
    question(&mut link).await;
    drop(link);
    let refused = soon("the end of the link", asking).await.unwrap();
    assert_eq!(refused, Err(AskError::Gone));
}
