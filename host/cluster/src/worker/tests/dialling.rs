//! Who answers a worker that dialled a gateway which was declared lost in that moment.

use tidegate_link::{Link, LinkEnd};
use tidegate_wire::hello::Refusal;

use super::rig::Rig;
use super::script::{Gateway, soon};

/// How a link ends on which nothing is said.
async fn end(mut link: Link) -> LinkEnd {
    let mut frames = Vec::new();
    let end = soon("the end of the link", link.receiver.recv(&mut frames)).await;
    assert_eq!(frames, []);
    end.unwrap_err()
}

#[tokio::test]
async fn a_gateway_that_answers_after_it_was_declared_lost_is_told_so() {
    let gateway = Gateway::bind(1).await;
    let rig = Rig::start(&[&gateway]);
    let dialled = gateway.dialled().await;
    rig.see(&[], &[&gateway]);
    let link = gateway.answer(dialled).await;
    assert_eq!(end(link).await, LinkEnd::Goodbye(Refusal::Lost));
}

#[tokio::test]
async fn a_new_gateway_at_the_address_of_a_lost_one_is_not_told_that_it_is_lost() {
    let gateway = Gateway::bind(1).await;
    let rig = Rig::start(&[&gateway]);
    let dialled = gateway.dialled().await;
    rig.see(&[], &[&gateway]);
    let gateway = gateway.restarted(2);
    let link = gateway.answer(dialled).await;
    assert_eq!(end(link).await, LinkEnd::Closed);
    // And it gets a link once the view names it.
    rig.see(&[&gateway], &[]);
    gateway.accept().await;
}
