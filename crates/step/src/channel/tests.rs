//! Both sides of a channel in one process, and an attacker between them.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use crate::channel::{
    ChannelError, ChannelReceiver, ChannelToken, FIRST_MESSAGE_LENGTH, HelperHandshake, MAX_RECORD,
    SecureChannel, TOKEN_HEX_LENGTH, answer_helper, first_message_id,
};

/// The largest content of a record.
const MAX_PLAIN: usize = MAX_RECORD - 16;

fn token(seed: u8) -> ChannelToken {
    let mut bytes = [seed; 48];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = byte.wrapping_add(at as u8);
    }
    ChannelToken::from_random(&bytes)
}

fn begin(token: &ChannelToken) -> (HelperHandshake, [u8; FIRST_MESSAGE_LENGTH]) {
    HelperHandshake::begin(token, [7; 32]).unwrap()
}

/// The channels of the helper and of the appliance.
fn channels() -> (SecureChannel, SecureChannel) {
    let (helper, message) = begin(&token(1));
    let (reply, appliance) = answer_helper(&token(1), &message, [8; 32]).unwrap();
    (helper.finish(&reply).unwrap(), appliance)
}

/// Texts as one record each.
fn records(channel: &mut SecureChannel, texts: &[&str]) -> Vec<Vec<u8>> {
    let seal = |text: &&str| {
        let mut record = Vec::new();
        channel.sender.seal(text.as_bytes(), &mut record).unwrap();
        record
    };
    texts.iter().map(seal).collect()
}

/// What a receiver returns for bytes, and how it ends.
fn open(receiver: &mut ChannelReceiver, bytes: &[u8]) -> (Vec<u8>, Result<(), ChannelError>) {
    let mut plain = Vec::new();
    let result = receiver.open(bytes, &mut plain);
    (plain, result)
}

#[test]
fn bytes_pass_in_both_directions() {
    let (mut helper, mut appliance) = channels();
    for (from, to) in [
        (&mut helper.sender, &mut appliance.receiver),
        (&mut appliance.sender, &mut helper.receiver),
    ] {
        for length in [1, 100, MAX_PLAIN, MAX_PLAIN + 1, 3 * MAX_PLAIN] {
            let content: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let mut sealed = Vec::new();
            from.seal(&content, &mut sealed).unwrap();
            assert_eq!(sealed.len(), length + 18 * length.div_ceil(MAX_PLAIN));
            assert!(open(to, &sealed) == (content, Ok(())));
            assert!(!to.is_within_record());
        }
    }
}

#[test]
fn a_token_is_text_without_its_key_in_debug_output() {
    let text = token(1).to_hex();
    assert_eq!(text.len(), TOKEN_HEX_LENGTH);
    let parsed = ChannelToken::from_hex(text.as_bytes()).unwrap();
    assert_eq!(
        (parsed.id(), parsed.to_hex()),
        (token(1).id(), text.clone())
    );
    let debug = format!("{parsed:?}");
    // The key begins with 17, 18.
    assert!(debug.contains("16]") && !debug.contains("17"), "{debug}");
    for wrong in [
        "",
        &text[1..],
        &text[2..],
        &format!("{text}00"),
        &text.to_uppercase(),
        &text.replace('2', "g"),
    ] {
        assert!(
            ChannelToken::from_hex(wrong.as_bytes()).is_none(),
            "{wrong}"
        );
    }
}

#[test]
fn the_first_message_names_its_token() {
    let (_, message) = begin(&token(1));
    assert_eq!(first_message_id(&message), token(1).id());
}

#[test]
fn a_handshake_with_another_token_fails_on_both_sides() {
    let (helper, message) = begin(&token(1));
    let mut bytes = [9; 48];
    bytes[..16].copy_from_slice(&token(1).id());
    let same_id = ChannelToken::from_random(&bytes);
    for other in [&token(2), &same_id] {
        let answer = answer_helper(other, &message, [8; 32]);
        assert_eq!(answer.unwrap_err(), ChannelError::Handshake);
    }
    let (_, message) = begin(&same_id);
    let (reply, _) = answer_helper(&same_id, &message, [8; 32]).unwrap();
    assert_eq!(helper.finish(&reply).unwrap_err(), ChannelError::Handshake);
}

#[test]
fn an_altered_handshake_fails_at_every_byte() {
    let (_, message) = begin(&token(1));
    for at in 0..message.len() {
        let mut altered = message;
        altered[at] ^= 1;
        let answer = answer_helper(&token(1), &altered, [8; 32]);
        assert_eq!(answer.unwrap_err(), ChannelError::Handshake, "byte {at}");
    }
    let (reply, _) = answer_helper(&token(1), &message, [8; 32]).unwrap();
    for at in 0..reply.len() {
        let (helper, _) = begin(&token(1));
        let mut altered = reply;
        altered[at] ^= 1;
        assert_eq!(
            helper.finish(&altered).unwrap_err(),
            ChannelError::Handshake,
            "byte {at}"
        );
    }
}

#[test]
fn a_replayed_handshake_opens_no_channel_to_the_replayer() {
    let (helper, message) = begin(&token(1));
    let (reply, _) = answer_helper(&token(1), &message, [8; 32]).unwrap();
    let mut helper = helper.finish(&reply).unwrap();
    let hello = records(&mut helper, &["hello"]).concat();
    // The appliance makes a new key each time, so the records of the first connection are worth nothing.
    let (again, mut second) = answer_helper(&token(1), &message, [9; 32]).unwrap();
    assert_ne!(again, reply);
    assert_eq!(
        open(&mut second.receiver, &hello),
        (vec![], Err(ChannelError::Forged))
    );
    // The reply of another connection is none to this one.
    let (other, _) = HelperHandshake::begin(&token(1), [10; 32]).unwrap();
    assert_eq!(other.finish(&reply).unwrap_err(), ChannelError::Handshake);
}

#[test]
fn altered_replayed_and_reordered_records_end_the_receiver() {
    type Attack = fn(Vec<Vec<u8>>) -> Vec<Vec<u8>>;
    let attacks: [(&str, Attack); 7] = [
        ("altered", |mut records| {
            records[1][2] ^= 1;
            records
        }),
        ("altered tag", |mut records| {
            *records[1].last_mut().unwrap() ^= 0x80;
            records
        }),
        ("altered length", |mut records| {
            records[1][1] += 1;
            records
        }),
        ("replayed", |mut records| {
            records.insert(1, records[0].clone());
            records
        }),
        ("left out", |mut records| {
            records.remove(1);
            records
        }),
        ("reordered", |mut records| {
            records.swap(1, 2);
            records
        }),
        ("truncated", |mut records| {
            records[1].pop();
            records
        }),
    ];
    for (name, attack) in attacks {
        let (mut helper, mut appliance) = channels();
        let stream = attack(records(&mut helper, &["one", "two", "three"])).concat();
        let receiver = &mut appliance.receiver;
        let expected = (b"one".to_vec(), Err(ChannelError::Forged));
        assert_eq!(open(receiver, &stream), expected, "{name}");
        // What would be right is not taken any more.
        let next = records(&mut helper, &["four"]).concat();
        let expected = (vec![], Err(ChannelError::Forged));
        assert_eq!(open(receiver, &next), expected, "{name}");
    }
}

#[test]
fn a_record_of_the_other_direction_is_forged() {
    let (mut helper, _) = channels();
    let own = records(&mut helper, &["mine"]).concat();
    assert_eq!(
        open(&mut helper.receiver, &own),
        (vec![], Err(ChannelError::Forged))
    );
}

#[test]
fn a_length_without_room_for_the_tag_is_an_error_at_once() {
    for length in [0, 15] {
        for cut in [0, 1, 2] {
            let (_, mut appliance) = channels();
            let bytes = [0, length];
            let (first, rest) = bytes.split_at(cut);
            let _ = open(&mut appliance.receiver, first);
            assert_eq!(
                open(&mut appliance.receiver, rest).1,
                Err(ChannelError::ShortRecord(u16::from(length)))
            );
        }
    }
    // A record without content is one.
    let (mut helper, mut appliance) = channels();
    assert_eq!(open(&mut appliance.receiver, &[0, 16]), (vec![], Ok(())));
    assert!(appliance.receiver.is_within_record());
    assert_eq!(records(&mut helper, &[""]), [[]]);
}

#[test]
fn errors_are_sentences() {
    let errors = [
        ChannelError::Handshake,
        ChannelError::ShortRecord(3),
        ChannelError::Forged,
        ChannelError::Exhausted,
    ];
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    the handshake does not match the token
    a record of 3 bytes is too short
    a record is not authentic
    the channel has no further records
    ");
}

proptest! {
    #[test]
    fn records_are_opened_wherever_the_stream_is_cut(
        lengths in proptest::collection::vec(0..3000_usize, 1..8),
        cuts in proptest::collection::vec(1..700_usize, 1..200),
    ) {
        let (mut helper, mut appliance) = channels();
        let (mut sealed, mut expected) = (Vec::new(), Vec::new());
        for (number, length) in lengths.iter().enumerate() {
            let content = vec![number as u8; *length];
            helper.sender.seal(&content, &mut sealed).unwrap();
            expected.extend_from_slice(&content);
        }
        let mut plain = Vec::new();
        let mut rest = sealed.as_slice();
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at(rest.len().min(*cut));
            appliance.receiver.open(piece, &mut plain).unwrap();
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(!appliance.receiver.is_within_record());
        prop_assert!(plain == expected);
    }

    #[test]
    fn foreign_bytes_never_become_plain_ones(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (_, mut appliance) = channels();
        let mut plain = Vec::new();
        let _ = appliance.receiver.open(&bytes, &mut plain);
        prop_assert!(plain.is_empty());
    }
}
