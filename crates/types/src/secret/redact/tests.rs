use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

fn redactor(secrets: &[(&str, &str)]) -> Redactor {
    let secrets: Vec<(&str, Secret)> = secrets
        .iter()
        .map(|(name, value)| (*name, Secret::new((*value).to_owned())))
        .collect();
    Redactor::new(secrets.iter().map(|(name, secret)| (*name, secret)))
}

fn through(stream: &mut RedactStream, chunks: &[&[u8]]) -> String {
    let mut shown = Vec::new();
    for chunk in chunks {
        shown.extend_from_slice(&stream.push(chunk));
    }
    shown.extend_from_slice(&stream.finish());
    String::from_utf8(shown).unwrap()
}

#[test]
fn one_secret_inside_another() {
    let redactor = redactor(&[
        ("inner", "abcdefgh"),
        ("outer", "xxabcdefghyy"),
        ("longer", "abcdefghij"),
    ]);
    assert_eq!(
        redactor.redact_text("1 xxabcdefghyy 2 abcdefgh 3 abcdefghij"),
        "1 {{ outer }} 2 {{ inner }} 3 {{ longer }}"
    );
}

#[test]
fn the_longer_one_wins_across_chunks_too() {
    let redactor = redactor(&[("short", "abcdefgh"), ("long", "abcdefghijklmnop")]);
    assert_eq!(
        through(
            &mut redactor.stream(),
            &[b"abcdefgh", b"ijklmnop", b"-abcdefghijkl", b"x"]
        ),
        "{{ long }}-{{ short }}ijklx"
    );
}

#[test]
fn only_a_possible_beginning_is_held_back() {
    let redactor = redactor(&[("token", "s3cret-t0ken")]);
    let mut stream = redactor.stream();
    assert_eq!(&*stream.push(b"Password: "), b"Password: ");
    assert!(!stream.is_holding());
    assert_eq!(&*stream.push(b"x s3cr"), b"x ");
    assert!(stream.is_holding());
    assert_eq!(&*stream.push(b"ypt s"), b"s3crypt ");
    assert_eq!(stream.finish(), b"s");
    assert!(!stream.is_holding());
}

#[test]
fn a_secret_added_later_is_seen_by_open_streams() {
    let redactor = redactor(&[]);
    let mut stream = redactor.stream();
    assert_eq!(&*stream.push(b"late-secret "), b"late-secret ");
    redactor.add("late", &Secret::new("late-secret".to_owned()));
    redactor.add("late", &Secret::new("late-secret".to_owned()));
    assert_eq!(&*stream.push(b"late-secret "), b"{{ late }} ");
    assert_eq!(redactor.0.known.lock().unwrap().len(), 1);
    assert_eq!(format!("{redactor:?}"), r#"["late"]"#);
}

#[test]
fn short_ones_are_reported() {
    let redactor = redactor(&[("pin", "1234"), ("token", "12345678")]);
    assert_eq!(redactor.too_short(), ["pin"]);
    assert_eq!(redactor.redact_text("1234 12345678"), "1234 {{ token }}");
}

#[test]
fn what_is_left_of_a_secret_that_was_cut() {
    let redactor = redactor(&[
        ("token", "s3cret-t0ken-of-some-length"),
        ("ü", "äöüäöüäöüäöü"),
    ]);
    let shown = |text: &str| redactor.redact_text(text);
    assert_eq!(
        shown("`echo s3cret-t0ken-of-s…` failed, `x s3cret-t0ke…`"),
        "`echo {{ token }}…` failed, `x {{ token }}…`"
    );
    assert_eq!(shown("äöüäö… s3cret-… …"), "{{ ü }}… s3cret-… …");
    assert_eq!(
        shown("s3cret-t0ken-of"),
        "s3cret-t0ken-of",
        "nothing says that this was cut"
    );
    assert_eq!(shown("s3cret-t0ken-of-some-length…"), "{{ token }}…");
    assert_eq!(shown("…"), "…");
}

#[test]
fn json_values() {
    let redactor = redactor(&[("n", "12345678")]);
    let value =
        serde_json::json!({"a": ["x12345678", 12345678, 1, null, true], "12345678": {"b": "ok"}});
    let expected =
        serde_json::json!({"a": ["x{{ n }}", "{{ n }}", 1, null, true], "{{ n }}": {"b": "ok"}});
    assert_eq!(redactor.redact_json(value), expected);
}

#[test]
fn multi_line_secrets() {
    let redactor = redactor(&[("key", "-----BEGIN-----\nQUJDREVGR0g\n-----END-----\n")]);
    assert_eq!(redactor.redact_text("a QUJDREVGR0g b"), "a {{ key }} b");
    assert_eq!(
        redactor.redact_text("a\n-----BEGIN-----\nQUJDREVGR0g\n-----END-----\nb"),
        "a\n{{ key }}b"
    );
    assert_eq!(
        redactor.redact_text("-----BEGIN-----\r\nQUJDREVGR0g\r\n"),
        "{{ key }}\r\n{{ key }}\r\n"
    );
}

#[test]
fn a_large_secret_is_found() {
    let value: String = (0..20_000_u32)
        .map(|n| char::from(b'!' + u8::try_from(n.wrapping_mul(2_654_435_761) >> 16 & 63).unwrap()))
        .collect();
    let redactor = redactor(&[("large", &value)]);
    let text = format!("a {value} b");
    let chunks: Vec<&[u8]> = text.as_bytes().chunks(1000).collect();
    assert_eq!(through(&mut redactor.stream(), &chunks), "a {{ large }} b");
}

#[test]
fn a_value_that_escape_sequences_take_apart_is_found() {
    let redactor = redactor(&[("token", "secret-value-1")]);
    for (text, expected) in [
        (
            "a \x1b[01;31m\x1b[Ksecret-\x1b[m\x1b[Kvalue-1 b",
            "a \x1b[01;31m\x1b[K{{ token }}\x1b[m b",
        ),
        ("s\0ecr\x1b]0;title\x07et-value-1", "{{ token }}"),
        ("secret\u{200b}-va\u{85}lue-1", "{{ token }}"),
        ("\x1b]0;secret-value-1\x07", "\x1b]0;{{ token }}\x07"),
        ("secret-value\r-1", "{{ token }}"),
        (
            "\x1b[32mc2VjcmV0LXZh\x1b[0mbHVlLTE=",
            "\x1b[32m{{ token }}\x1b[0m",
        ),
    ] {
        assert_eq!(redactor.redact_text(text), expected);
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(through(&mut redactor.stream(), &bytes), expected);
    }
}

#[test]
fn a_line_begins_behind_characters_that_are_invisible() {
    let redactor = redactor(&[("token", "abcdefgh")]);
    // The second line of base64 that was wrapped within the value.
    for before in ["", "\x01\x12", "x\n\x1b[1m", "\r\u{200b}"] {
        let text = format!("{before}Y2RlZmdoeQ==\n");
        let shown = redactor.redact_text(&text);
        assert_eq!(shown, format!("{before}{{{{ token }}}}eQ==\n"));
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(through(&mut redactor.stream(), &bytes), shown, "{text:?}");
    }
}

#[test]
fn each_text_of_a_json_secret_is_one() {
    let redactor = Redactor::default();
    let text = r#"{"user": "deployment", "key": "line-one\nline-two", "ids": [1234567890, true], "short": "x"}"#;
    redactor.add_json("account", &Secret::new(text.to_owned()));
    assert_eq!(
        redactor.redact_text("deployment: line-one\nline-two, line-two 1234567890 x true"),
        "{{ account }}: {{ account }}, {{ account }} {{ account }} x true"
    );
    assert_eq!(redactor.redact_text(text), "{{ account }}");
}

#[test]
fn nothing_is_held_when_a_line_has_ended() {
    let redactor = redactor(&[("token", "secret-value-1")]);
    for line in [
        "Building...\n",
        "secret\n",
        "\x1b[32mok\x1b[0m\n",
        "/usr/lib/x86_64\n",
    ] {
        let mut stream = redactor.stream();
        assert_eq!(stream.push(line.as_bytes()), line.as_bytes());
        assert!(!stream.is_holding(), "{line}");
    }
}

/// Cuts `text` at the given places.
fn cut<'a>(text: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
    at.sort_unstable();
    let mut chunks = Vec::new();
    let mut from = 0;
    for to in at {
        chunks.push(&text[from..to]);
        from = to;
    }
    chunks.push(&text[from..]);
    chunks
}

// Few letters, so that secrets overlap, repeat and begin alike.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[ab/\n\"' ]{8,14}", 1 => "[a-zA-Z0-9+/=äß<%$-]{8,30}"]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn no_value_gets_out_however_it_is_cut(
        values in prop::collection::vec(value(), 1..4),
        parts in prop::collection::vec(prop_oneof!["[ab/\n\"' ]{0,6}".prop_map(Err), any::<prop::sample::Index>().prop_map(Ok)], 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let secrets: Vec<Secret> = values.iter().cloned().map(Secret::new).collect();
        let redactor = Redactor::new(secrets.iter().map(|secret| ("N", secret)));
        let text: String = parts.iter().map(|part| match part {
            Ok(index) => values[index.index(values.len())].as_str(),
            Err(text) => text.as_str(),
        }).collect();
        let shown = through(&mut redactor.stream(), &cut(text.as_bytes(), &cuts));
        for value in &values {
            prop_assert!(!shown.contains(value.as_str()), "{value:?} in {shown:?} of {text:?}");
        }
        // However it is cut, it is as if it came whole.
        prop_assert_eq!(shown, redactor.redact_text(&text));
    }

    #[test]
    fn no_value_gets_out_through_escape_sequences(
        value in "[a-zA-Z0-9+/=-]{8,20}",
        noise in prop::collection::vec(prop::sample::select(vec![
            "\x1b[31m", "\x1b[0m", "\x1b[K", "\x1b]0;t\x07", "\x1b]8;;x\x1b\\", "\0", "\x08", "\u{9b}", "\u{200d}", "\x1b(B", "\r", "",
        ]), 21),
        encode in any::<bool>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let secret = Secret::new(value.clone());
        let redactor = Redactor::new([("N", &secret)]);
        let written = if encode { STANDARD.encode(format!("x{value}y")) } else { value.clone() };
        let mut text = String::from("before ");
        for (index, c) in written.chars().enumerate() {
            text.push(c);
            text.push_str(noise[index % noise.len()]);
        }
        let shown = through(&mut redactor.stream(), &cut(text.as_bytes(), &cuts));
        prop_assert!(shown.contains("{{ N }}"), "{shown:?}");
        let visible = crate::ansi::strip(shown.replace('\r', "").as_bytes());
        prop_assert!(!visible.contains(&written), "{visible:?}");
        prop_assert_eq!(shown, redactor.redact_text(&text));
    }

    #[test]
    fn no_text_of_a_json_secret_gets_out(
        texts in prop::collection::vec("[a-zA-Z][a-zA-Z0-9é\"\\\\ +/=-]{8,20}[a-z]", 1..5),
        depth in 0_usize..4,
        which in any::<prop::sample::Index>(),
        escaped in any::<bool>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut secret = serde_json::json!({ "first": texts[0], "rest": texts[1..] });
        for _ in 0..depth {
            secret = serde_json::json!([{ "inner": secret }]);
        }
        let redactor = Redactor::default();
        redactor.add_json("N", &Secret::new(secret.to_string()));
        let text = which.get(&texts);
        let json = serde_json::to_string(text).unwrap();
        let printed = if escaped { json[1..json.len() - 1].to_owned() } else { text.clone() };
        let output = format!("before {printed} after");
        let shown = through(&mut redactor.stream(), &cut(output.as_bytes(), &cuts));
        prop_assert!(!shown.contains(&printed), "{shown:?}");
    }

    #[test]
    fn no_line_gets_out_in_base64(
        lines in prop::collection::vec("[a-zA-Z0-9+/=:-]{8,70}", 1..6),
        line_end in prop::sample::select(vec!["\n", "\r\n"]),
        shown_line_end in prop::sample::select(vec!["\n", "\r\n"]),
        which in any::<prop::sample::Index>(),
        count in 1_usize..3,
        before in "[ -~]{0,5}",
        after in "[ -~]{0,5}",
        width in prop::sample::select(vec![64_usize, 76, 100_000]),
        indent in prop::sample::select(vec!["\n", "\r\n", "\n  "]),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let secret = Secret::new(lines.join(line_end) + line_end);
        let redactor = Redactor::new([("N", &secret)]);
        let first = which.index(lines.len());
        let printed = &lines[first..lines.len().min(first + count)];
        let encoded = STANDARD.encode([&before, &printed.join(shown_line_end), &after].map(String::as_str).concat());
        let wrapped: Vec<String> = encoded
            .as_bytes()
            .chunks(width)
            .map(|line| String::from_utf8(line.to_vec()).unwrap())
            .collect();
        let text = format!("key: {}\nend", wrapped.join(indent));
        let shown = through(&mut redactor.stream(), &cut(text.as_bytes(), &cuts));
        let kept: String = shown.replace("{{ N }}", "!").split_whitespace().collect();
        let longest = kept.split(['!', ':', '=']).map(str::len).max().unwrap_or(0);
        // What is left are characters that share bits with something that is no secret.
        prop_assert!(longest < 12, "{shown:?} of {text:?}");
        prop_assert_eq!(shown, redactor.redact_text(&text));
    }

    #[test]
    fn however_a_text_is_cut_it_is_as_if_it_came_whole(
        value in "[ab\r\n/]{8,12}",
        text in r"[ab\x1b\[m\]\x07\r\n\u{200b}/YWJh]{0,80}",
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let secret = Secret::new(value);
        let redactor = Redactor::new([("N", &secret)]);
        let shown = through(&mut redactor.stream(), &cut(text.as_bytes(), &cuts));
        prop_assert_eq!(shown, redactor.redact_text(&text));
    }

    #[test]
    fn what_real_encoders_make_of_a_value_does_not_get_out(value in "[a-z /\"'$`\\\\\n\t<>&%+=äß€😀-]{8,24}", around in "[a-z]{0,5}") {
        let secret = Secret::new(value.clone());
        let redactor = Redactor::new([("N", &secret)]);
        let json = serde_json::to_string(&value).unwrap();
        let inner = &json[1..json.len() - 1];
        let url = percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC).to_string();
        let shell = shell_words::quote(&value).into_owned();
        for encoded in [inner, &url, &url.to_lowercase(), &shell] {
            let shown = redactor.redact_text(&format!("{around} {encoded} {around}"));
            prop_assert!(!shown.contains(encoded), "{shown:?}");
            prop_assert!(shown.contains("{{ N }}"), "{shown:?}");
        }
    }

    #[test]
    fn text_without_secrets_is_unchanged(
        values in prop::collection::vec("[A-Z0-9]{8,20}", 0..4),
        text in prop::collection::vec(prop_oneof![97_u8..123, Just(b'\n'), 128..=255_u8, Just(0)], 0..300),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let secrets: Vec<Secret> = values.into_iter().map(Secret::new).collect();
        // Not even by chance: base64 of a value could be lower-case letters only.
        let redactor = Redactor::new(secrets.iter().map(|secret| ("N", secret)));
        let mut stream = redactor.stream();
        let mut shown = Vec::new();
        for chunk in cut(&text, &cuts) {
            shown.extend_from_slice(&stream.push(chunk));
        }
        shown.extend_from_slice(&stream.finish());
        prop_assert_eq!(shown, text);
    }
}
