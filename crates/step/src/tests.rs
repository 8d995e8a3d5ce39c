//! Frames of all kinds as bytes and back, and bytes that are no frames.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use crate::{
    ExitStatus, FailureReason, FileTask, FrameDecoder, FrameHeader, FromHelper, HEADER_LENGTH,
    HelperError, MAX_BODY, ProtocolError, StartTask, TaskIds, TerminalSize, ToHelper,
};

fn ids() -> TaskIds {
    TaskIds {
        uid: 1000,
        gid: 100,
        groups: vec![4, 27],
    }
}

fn file() -> FileTask<'static> {
    FileTask {
        ids: ids(),
        folder: b"/work",
        path: b"a/b",
    }
}

fn all_to_helper() -> Vec<ToHelper<'static>> {
    let size = TerminalSize {
        columns: 80,
        rows: 25,
    };
    let start = StartTask {
        ids: ids(),
        merge: true,
        input: false,
        terminal: Some(size),
        folder: b"/work",
        cwd: b"a",
        argv: vec![b"sh", b"-c", b"true"],
        env: vec![b"A=\xff", b"B="],
    };
    vec![
        ToHelper::Ping { nonce: 7, lease: 5 },
        ToHelper::Quit,
        ToHelper::Who {
            user: b"dev:docker",
        },
        ToHelper::Tree {
            uid: 1,
            gid: 2,
            folder: b"/work",
            caches: vec![b"/work/target", b"/cache"],
        },
        ToHelper::Start(start.clone()),
        ToHelper::Start(StartTask {
            merge: false,
            input: true,
            terminal: None,
            ..start
        }),
        ToHelper::Read {
            file: file(),
            limit: 4,
        },
        ToHelper::Write(file()),
        ToHelper::Export(file()),
        ToHelper::Stdin(b"bytes"),
        ToHelper::StdinEof,
        ToHelper::Credit(65536),
        ToHelper::Kill,
        ToHelper::Resize(size),
    ]
}

fn all_from_helper() -> Vec<FromHelper<'static>> {
    let mut frames = vec![
        FromHelper::Hello {
            version: 1,
            kernel: b"6.12.0",
            machine: b"x86_64",
        },
        FromHelper::Pong { nonce: 7 },
        FromHelper::Oom { kills: 3 },
        FromHelper::User {
            ids: ids(),
            home: b"/home/dev",
        },
        FromHelper::Stdout(b"out"),
        FromHelper::Stderr(b""),
        FromHelper::Data(b"data"),
        FromHelper::Credit(1),
        FromHelper::Exited(ExitStatus::Code(3)),
        FromHelper::Exited(ExitStatus::Signal(9)),
        FromHelper::Exited(ExitStatus::Lost),
        FromHelper::Done,
    ];
    frames.extend(
        (0..=u8::MAX)
            .map_while(FailureReason::from_number)
            .map(|reason| {
                FromHelper::Error(HelperError {
                    reason,
                    errno: 2,
                    detail: b"x",
                })
            }),
    );
    frames
}

#[test]
fn frames_of_every_kind_are_the_same_after_a_round_trip() {
    let mut decoder = FrameDecoder::new();
    for (id, frame) in all_to_helper().iter().enumerate() {
        let mut bytes = Vec::new();
        let tail = frame.encode(id as u32, &mut bytes);
        bytes.extend_from_slice(tail);
        decoder.add(&bytes);
        let (header, body) = decoder.next_frame().unwrap().unwrap();
        assert_eq!(header.id, id as u32);
        assert_eq!(ToHelper::decode(header.kind, body).as_ref(), Ok(frame));
    }
    for frame in all_from_helper() {
        let mut bytes = Vec::new();
        let tail = frame.encode(9, &mut bytes);
        bytes.extend_from_slice(tail);
        decoder.add(&bytes);
        let (header, body) = decoder.next_frame().unwrap().unwrap();
        assert_eq!(FromHelper::decode(header.kind, body), Ok(frame));
    }
    assert!(!decoder.is_within_frame());
}

#[test]
fn every_cut_of_a_body_is_an_error() {
    let mut bytes = Vec::new();
    for frame in all_to_helper() {
        bytes.clear();
        let tail = frame.encode(1, &mut bytes);
        let kind = bytes[4];
        if !tail.is_empty() || matches!(frame, ToHelper::Who { .. }) {
            continue;
        }
        let body = &bytes[HEADER_LENGTH..];
        for length in 0..body.len() {
            let cut = ToHelper::decode(kind, &body[..length]);
            assert_eq!(cut, Err(ProtocolError::Truncated { kind }), "{frame:?}");
        }
        let longer = [body, &[0]].concat();
        let decoded = ToHelper::decode(kind, &longer);
        assert_eq!(decoded, Err(ProtocolError::TrailingBytes { kind }));
    }
}

#[test]
fn headers_with_impossible_lengths_are_errors() {
    let header = |body| FrameHeader {
        kind: 1,
        id: 2,
        body,
    };
    let longest = header(MAX_BODY);
    assert_eq!(FrameHeader::decode(&longest.encode()), Ok(longest));
    let too_long = header(MAX_BODY + 1).encode();
    assert_eq!(
        FrameHeader::decode(&too_long),
        Err(ProtocolError::TooLong((1 << 20) + 1))
    );
    let mut decoder = FrameDecoder::new();
    decoder.add(&[0, 0, 0, 4, 1, 0, 0, 0, 0]);
    assert_eq!(decoder.next_frame(), Err(ProtocolError::TooShort(4)));
}

#[test]
fn a_command_without_a_program_or_with_nul_is_an_error() {
    let decoded = |argv: Vec<&'static [u8]>| {
        let mut bytes = Vec::new();
        let task = StartTask {
            ids: ids(),
            merge: false,
            input: false,
            terminal: None,
            folder: b"/",
            cwd: b"",
            argv,
            env: Vec::new(),
        };
        let _ = ToHelper::Start(task).encode(1, &mut bytes);
        ToHelper::decode(bytes[4], &bytes[HEADER_LENGTH..]).err()
    };
    let invalid = Some(ProtocolError::InvalidValue { kind: 0x12 });
    assert_eq!(decoded(vec![]), invalid);
    assert_eq!(decoded(vec![b"a\0b"]), invalid);
    assert_eq!(decoded(vec![b"a"]), None);
}

#[test]
fn messages_of_protocol_errors() {
    let kind = 0x12;
    let texts: Vec<_> = [
        ProtocolError::TooLong(2 << 20),
        ProtocolError::TooShort(1),
        ProtocolError::UnknownKind(0xff),
        ProtocolError::Truncated { kind },
        ProtocolError::TrailingBytes { kind },
        ProtocolError::InvalidValue { kind },
    ]
    .iter()
    .map(ToString::to_string)
    .collect();
    insta::assert_snapshot!(texts.join("\n"));
}

proptest! {
    #[test]
    fn frames_do_not_depend_on_where_the_bytes_are_cut(
        cuts in prop::collection::vec(1usize..40, 1..200),
    ) {
        let mut bytes = Vec::new();
        for frame in all_from_helper() {
            let tail = frame.encode(5, &mut bytes);
            bytes.extend_from_slice(tail);
        }
        let mut decoder = FrameDecoder::new();
        let mut found = 0;
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            decoder.add(piece);
            while let Some((header, body)) = decoder.next_frame().unwrap() {
                let frame = FromHelper::decode(header.kind, body).unwrap();
                prop_assert_eq!(&frame, &all_from_helper()[found]);
                found += 1;
            }
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(found, all_from_helper().len());
    }

    #[test]
    fn any_bytes_are_a_frame_or_an_error(kind: u8, body in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(frame) = ToHelper::decode(kind, &body) {
            let mut bytes = Vec::new();
            let tail = frame.encode(0, &mut bytes).to_vec();
            prop_assert_eq!([&bytes[HEADER_LENGTH..], &tail].concat(), body.clone());
        }
        if let Ok(frame) = FromHelper::decode(kind, &body) {
            let mut bytes = Vec::new();
            let tail = frame.encode(0, &mut bytes).to_vec();
            prop_assert_eq!([&bytes[HEADER_LENGTH..], &tail].concat(), body);
        }
    }
}
