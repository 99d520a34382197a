//! Framing, the queue's policies, and the newest under a key against a simple list.

use proptest::prelude::*;

use super::*;

fn text(payload: &str) -> Message {
    Message::Text(Bytes::copy_from_slice(payload.as_bytes()).into())
}

fn encoded(outgoing: &Outgoing<'_>, transport: Transport) -> Bytes {
    let encoded = outgoing.encoded(transport, Newlines::default(), &());
    encoded.expect("a message without a newline")
}

#[test]
fn each_transport_frames_in_its_own_way() {
    let message = text("hi");
    let outgoing = Outgoing::message(&message);
    for (transport, expected) in [
        (Transport::WebSocket, &b"\x81\x02hi"[..]),
        (Transport::TextLines, b"hi\n"),
        (Transport::LengthPrefixed, b"\0\0\0\x06hi"),
        (Transport::Tcp, b"hi"),
    ] {
        assert_eq!(&encoded(&outgoing, transport)[..], expected);
    }
}

#[test]
fn a_newline_is_treated_as_the_listener_says() {
    let lines = |content: &str, newlines| {
        let message = text(content);
        let outgoing = Outgoing::message(&message);
        outgoing.encoded(Transport::TextLines, newlines, &())
    };
    assert_eq!(lines("a\nb", Newlines::Refuse), None);
    assert_eq!(lines("a\nb", Newlines::Split), Some("a\nb\n".into()));
    assert_eq!(
        lines("a\r\nb\\", Newlines::Escape),
        Some("a\\r\\nb\\\\\n".into())
    );
    for newlines in [Newlines::Refuse, Newlines::Split, Newlines::Escape] {
        assert_eq!(lines("plain", newlines), Some("plain\n".into()));
    }
    let message = text("a\nb");
    assert_eq!(
        &encoded(&Outgoing::message(&message), Transport::WebSocket)[..],
        b"\x81\x03a\nb"
    );
    let raw = Bytes::from_static(b"a\nb\n");
    assert_eq!(encoded(&Outgoing::raw(&raw), Transport::TextLines), raw);
}

#[test]
fn the_newest_under_a_key_takes_the_place_of_what_waits_but_not_of_what_is_half_written() {
    let (key, other): (Name, Name) = ("a".into(), "b".into());
    let mut queue = Outbound::default();
    let push = |queue: &mut Outbound, key: &Name, part: &'static [u8]| {
        queue.push_latest(key, Bytes::from_static(part), 100, QueuePolicy::Close)
    };
    assert_eq!(push(&mut queue, &key, b"a1"), Queued::Waits);
    queue.push(Bytes::from_static(b"x"), 100, QueuePolicy::Close);
    assert_eq!(push(&mut queue, &other, b"b1"), Queued::Waits);
    assert_eq!(push(&mut queue, &key, b"a22"), Queued::Replaced);
    assert_eq!(queue.next_write(&mut Vec::new(), 100), b"a22xb1");
    assert_eq!(queue.bytes(), 6);
    queue.wrote(1);
    assert_eq!(push(&mut queue, &key, b"a3"), Queued::Waits);
    assert_eq!(push(&mut queue, &key, b"a4"), Queued::Replaced);
    assert_eq!(queue.next_write(&mut Vec::new(), 100), b"22xb1a4");
    queue.wrote(3);
    assert_eq!(push(&mut queue, &other, b"b2"), Queued::Replaced);
    assert_eq!(queue.next_write(&mut Vec::new(), 100), b"b2a4");
    queue.wrote(4);
    assert_eq!(push(&mut queue, &other, b"b3"), Queued::Waits);
    assert_eq!((queue.bytes(), queue.parts.len()), (2, 1));
}

#[test]
fn a_message_that_replaces_a_smaller_one_obeys_the_bound() {
    let key: Name = "a".into();
    for policy in [QueuePolicy::Close, QueuePolicy::DropNew] {
        let mut queue = Outbound::default();
        let mut push =
            |part: &'static [u8]| queue.push_latest(&key, Bytes::from_static(part), 4, policy);
        assert_eq!(push(b"aaaa"), Queued::Waits);
        assert_eq!(push(b"bbbb"), Queued::Replaced);
        assert_ne!(push(b"ccccc"), Queued::Replaced, "{policy:?}");
        assert_eq!(push(b"d"), Queued::Replaced);
    }
}

proptest! {
    /// A queue with keys is what a list of (key, part) would be, whatever is written in between.
    #[test]
    fn keys_always_find_their_own_part(
        steps in proptest::collection::vec((0..4u8, 0..6usize, 0..8usize), 1..80),
        drop_old in any::<bool>(),
    ) {
        let policy = if drop_old { QueuePolicy::DropOld } else { QueuePolicy::DropNew };
        let mut queue = Outbound::default();
        let mut model: VecDeque<(u8, Bytes)> = VecDeque::new();
        let mut half = 0;
        for (nth, (key, length, write)) in steps.into_iter().enumerate() {
            let part = Bytes::from(vec![nth as u8; length]);
            let waits = model.iter().map(|(_, it)| it.len()).sum::<usize>() - half;
            let keep = usize::from(half > 0);
            let at = model.iter().rposition(|(it, _)| *it == key && key > 0);
            let at = at.filter(|at| *at >= keep);
            let smaller = |at: usize| part.len() <= model[at].1.len();
            let name: Name = key.to_string().into();
            let queued = match key {
                0 => queue.push(part.clone(), 12, policy),
                _ => queue.push_latest(&name, part.clone(), 12, policy),
            };
            match at.filter(|at| waits < 12 || smaller(*at)) {
                Some(at) => {
                    prop_assert_eq!(queued, Queued::Replaced);
                    model[at].1 = part;
                }
                None => {
                    let mut left = waits;
                    if !part.is_empty() && waits >= 12 && drop_old {
                        while model.len() > keep && left + part.len() > 12 {
                            left -= model.remove(keep).unwrap().1.len();
                        }
                    }
                    if !part.is_empty() && (waits < 12 || drop_old) {
                        model.push_back((key, part));
                    }
                }
            }
            let all = model.iter().flat_map(|(_, it)| it.iter().copied()).skip(half);
            let all: Vec<u8> = all.collect();
            let mut scratch = Vec::new();
            prop_assert_eq!(queue.next_write(&mut scratch, usize::MAX), &all[..]);
            prop_assert_eq!(queue.bytes(), all.len());
            let written = write.min(all.len());
            queue.wrote(written);
            half += written;
            while model.front().is_some_and(|(_, it)| it.len() <= half) {
                half -= model.pop_front().unwrap().1.len();
            }
        }
    }
}

#[test]
fn what_comes_last_is_dropped_by_no_policy() {
    for policy in [
        QueuePolicy::Close,
        QueuePolicy::DropNew,
        QueuePolicy::DropOld,
    ] {
        let mut queue = Outbound::default();
        queue.push(Bytes::from_static(b"aaaa"), 4, policy);
        queue.push_last(Bytes::from_static(b"bye"));
        queue.push_last(close_frame(1000, "x"));
        assert_eq!(
            queue.next_write(&mut Vec::new(), 100),
            b"aaaabye\x88\x03\x03\xe8x",
            "{policy:?}"
        );
    }
}

#[test]
fn shedding_keeps_the_rest_of_a_frame_that_is_half_written() {
    let mut queue = Outbound::default();
    for part in ["aaaa", "bbbb"] {
        queue.push(
            Bytes::from_static(part.as_bytes()),
            12,
            QueuePolicy::DropOld,
        );
    }
    queue.wrote(1);
    assert_eq!(queue.shed(), 4);
    assert_eq!(queue.bytes(), 3);
    assert_eq!(queue.next_write(&mut Vec::new(), 100), b"aaa");
}

#[test]
fn frame_lengths_follow_the_standard() {
    for (length, header) in [(125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
        let message = Message::Binary(vec![0; length].into());
        let frame = encoded(&Outgoing::message(&message), Transport::WebSocket);
        assert_eq!(frame.len(), length + header, "payload of {length}");
    }
}

#[test]
fn a_broadcast_is_encoded_once() {
    let message = text("hello");
    let outgoing = Outgoing::message(&message);
    let first = encoded(&outgoing, Transport::WebSocket);
    let again = encoded(&outgoing, Transport::WebSocket);
    assert_eq!(first.as_ptr(), again.as_ptr());
}

#[test]
fn drop_old_never_breaks_a_frame_that_is_half_written() {
    let mut queue = Outbound::default();
    for part in ["aaaa", "bbbb", "cccc"] {
        queue.push(
            Bytes::from_static(part.as_bytes()),
            12,
            QueuePolicy::DropOld,
        );
    }
    queue.wrote(2);
    queue.push(Bytes::from_static(b"dd"), 10, QueuePolicy::DropOld);
    assert_eq!(queue.next_write(&mut Vec::new(), 100), b"aaccccdd");
}

#[test]
fn what_waits_for_a_client_keeps_nothing_of_what_came_with_it_over_a_link() {
    let read = Bytes::from(vec![b'x'; 1 << 20]);
    let payload = read.slice(10..15);
    let message = Message::Text(payload.clone().into());
    let sent = [
        encoded(&Outgoing::raw(&payload), Transport::Tcp),
        encoded(&Outgoing::message(&message), Transport::Tcp),
        encoded(&Outgoing::message(&message), Transport::WebSocket),
    ];
    drop((message, payload));
    assert!(read.is_unique(), "{sent:?} hold what was read");
}

#[test]
fn what_waits_for_a_codec_keeps_its_kind_and_is_replaced_until_it_is_taken() {
    let mut queue = Outbound::default();
    let raw = Bytes::from_static(b"raw");
    let (key, other): (Name, Name) = ("k".into(), "o".into());
    let messages = [text("one"), Message::Binary(b"two".to_vec().into())];
    let [one, two] = &messages;
    // Each is encoded once, and by reference: two equal values that are moved into calls are taken
    // for one by rustc 1.95 with optimisation, interior mutability or not.
    let (of_raw, of_one, of_two) = (
        Outgoing::raw(&raw),
        Outgoing::message(one),
        Outgoing::message(two),
    );
    let [first, second, replaced] = [&of_raw, &of_one, &of_two].map(|it| it.for_codec(&()));
    queue.push(first, 100, QueuePolicy::Close);
    queue.push_latest(&key, second.clone(), 100, QueuePolicy::Close);
    queue.push_latest(&other, second, 100, QueuePolicy::Close);
    let queued = queue.push_latest(&key, replaced.clone(), 100, QueuePolicy::Close);
    assert_eq!((queued, queue.bytes()), (Queued::Replaced, 12));
    assert_eq!(queue.take_plain(), Some(Plain::Raw(raw.clone())));
    assert_eq!(queue.take_plain(), Some(Plain::Message(two.clone())));
    // It is gone: nothing stands in its place.
    let queued = queue.push_latest(&key, replaced, 100, QueuePolicy::Close);
    assert_eq!(queued, Queued::Waits);
    assert_eq!(queue.take_plain(), Some(Plain::Message(one.clone())));
    assert_eq!(queue.take_plain(), Some(Plain::Message(two.clone())));
    assert_eq!((queue.take_plain(), queue.bytes()), (None, 0));
}

proptest! {
    #[test]
    fn what_is_pushed_comes_out_in_order(
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..40),
        steps in proptest::collection::vec(1..30usize, 1..200),
    ) {
        let mut queue = Outbound::default();
        let expected: Vec<u8> = parts.concat();
        for part in parts {
            queue.push(part.into(), usize::MAX, QueuePolicy::Close);
        }
        let (mut seen, mut scratch) = (Vec::new(), Vec::new());
        for step in steps {
            let next = queue.next_write(&mut scratch, 16);
            let count = step.min(next.len());
            seen.extend_from_slice(&next[..count]);
            queue.wrote(count);
            prop_assert_eq!(queue.bytes(), expected.len() - seen.len());
        }
        prop_assert_eq!(&expected[..seen.len()], &seen[..]);
    }
}
