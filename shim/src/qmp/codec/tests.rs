use proptest::prelude::*;
use serde_json::json;

use super::*;

fn decode(pieces: &[&[u8]]) -> Vec<Result<Message, CodecError>> {
    let mut decoder = Decoder::new();
    let mut messages = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        while let Some(message) = decoder.next_message() {
            messages.push(message);
        }
    }
    messages
}

fn encode(message: &Message) -> String {
    let value = match message {
        Message::Greeting { version } => {
            let numbers: Vec<u32> = version
                .split('.')
                .map(|n| n.parse().expect("number"))
                .collect();
            json!({"QMP": {"capabilities": ["oob"], "version": {"package": "", "qemu":
                {"major": numbers[0], "minor": numbers[1], "micro": numbers[2]}}}})
        }
        Message::Return { id, value } => json!({"id": id, "return": value}),
        Message::Error { id, description } => {
            json!({"id": id, "error": {"class": "GenericError", "desc": description}})
        }
        Message::Event { name, data } => {
            json!({"event": name, "data": data, "timestamp": {"seconds": 1, "microseconds": 2}})
        }
    };
    format!("{value}\r\n")
}

fn message() -> impl Strategy<Value = Message> {
    let text = "\\PC{0,40}";
    prop_oneof![
        (0..99u32, 0..99u32, 0..99u32).prop_map(|(a, b, c)| Message::Greeting {
            version: format!("{a}.{b}.{c}")
        }),
        (any::<u64>(), text).prop_map(|(id, t)| Message::Return {
            id,
            value: json!({ "k": t })
        }),
        any::<u64>().prop_map(|id| Message::Return {
            id,
            value: Value::Null
        }),
        (any::<Option<u64>>(), text)
            .prop_map(|(id, description)| Message::Error { id, description }),
        ("[A-Z_]{1,20}", text).prop_map(|(name, t)| Message::Event {
            name,
            data: json!([t])
        }),
    ]
}

proptest! {
    #[test]
    fn messages_survive_any_split(
        messages in prop::collection::vec(message(), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let bytes: String = messages.iter().map(encode).collect();
        let bytes = bytes.as_bytes();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
        let decoded: Vec<Message> =
            decode(&pieces).into_iter().map(|m| m.expect("a message")).collect();
        prop_assert_eq!(decoded, messages);
    }

    #[test]
    fn garbage_is_an_error_and_the_next_line_is_read(
        garbage in prop::collection::vec(any::<u8>().prop_filter("no line end", |b| *b != b'\n'), 0..200),
        message in message(),
    ) {
        let mut decoder = Decoder::new();
        decoder.feed(&garbage);
        decoder.feed(b"\n");
        decoder.feed(encode(&message).as_bytes());
        let mut last = None;
        while let Some(next) = decoder.next_message() {
            last = Some(next);
        }
        prop_assert_eq!(last.expect("a line").expect("a message"), message);
    }

    #[test]
    fn any_bytes_are_taken_without_panic(pieces in prop::collection::vec(
        prop::collection::vec(any::<u8>(), 0..300), 0..8)) {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        decode(&pieces);
    }
}

#[test]
fn a_line_without_end_is_refused_at_the_limit_and_its_rest_passed_over() {
    let mut decoder = Decoder::new();
    let piece = vec![b'x'; 1000];
    let mut errors = 0;
    for _ in 0..(3 * LINE_MAX / piece.len()) {
        decoder.feed(&piece);
        while let Some(next) = decoder.next_message() {
            assert!(matches!(next, Err(CodecError::TooLong)));
            errors += 1;
        }
        assert!(decoder.buffer.capacity() <= 4 * LINE_MAX);
    }
    assert_eq!(errors, 1, "one error for one line");
    decoder.feed(b"xx\n{\"return\": {}, \"id\": 7}\n");
    let next = decoder.next_message().expect("a line").expect("a message");
    assert_eq!(
        next,
        Message::Return {
            id: 7,
            value: json!({})
        }
    );
}

#[test]
fn a_whole_line_over_the_limit_is_refused_too() {
    let line = format!("{{\"return\": \"{}\", \"id\": 1}}\n", "x".repeat(LINE_MAX));
    assert!(matches!(
        decode(&[line.as_bytes()])[..],
        [Err(CodecError::TooLong)]
    ));
}

#[test]
fn json_that_is_no_message_is_told_from_what_is_no_json() {
    assert!(matches!(
        decode(&[b"{\"id\": 1}\n"])[..],
        [Err(CodecError::Shape { .. })]
    ));
    assert!(matches!(
        decode(&[b"[1, 2]\n"])[..],
        [Err(CodecError::Shape { .. })]
    ));
    assert!(matches!(
        decode(&[b"qemu: oops\n"])[..],
        [Err(CodecError::Syntax { .. })]
    ));
}
