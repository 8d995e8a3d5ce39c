//! One line of an `authorized_keys` file, checked as far as can be without sshd: a line that
//! sshd would skip in silence is a person who cannot get in and does not know why; and one that asks
//! for less than a whole key, where quire gives only whole ones, is no key.

use std::borrow::Cow;

/// Why a line is no key; the text goes on a sentence that names the place.
pub(super) type Problem = Cow<'static, str>;

/// Options that narrow who may come in, or take away what is not given anyway. One that sshd does not
/// know makes it ignore the whole line.
const OPTIONS: [&str; 14] = [
    "cert-authority",
    "expiry-time",
    "from",
    "no-agent-forwarding",
    "no-port-forwarding",
    "no-pty",
    "no-touch-required",
    "no-user-rc",
    "no-verify-required",
    "no-x11-forwarding",
    "principals",
    "restrict",
    "touch-required",
    "verify-required",
];

/// Options that sshd knows and quire's sshd passes over: there is no forwarding, terminal or environment to give.
const WITHOUT_EFFECT: [&str; 9] = [
    "agent-forwarding",
    "environment",
    "permitlisten",
    "permitopen",
    "port-forwarding",
    "pty",
    "tunnel",
    "user-rc",
    "x11-forwarding",
];

/// Why an option cannot stand in a line.
fn objection(option: &str) -> Option<Problem> {
    let option = option.to_ascii_lowercase();
    if OPTIONS.contains(&option.as_str()) {
        return None;
    }
    Some(if option == "command" {
        "its option `command` has no effect here, so the key would be good for everything: whoever has a key of quire's may do all \
         that quire does; take the option off, or the key out"
            .into()
    } else if WITHOUT_EFFECT.contains(&option.as_str()) {
        format!("its option `{option}` has no effect here: quire gives no terminal, forwarding or environment; take the option off").into()
    } else {
        "it starts neither with a kind of key, such as ssh-ed25519, nor with options that sshd knows".into()
    })
}

/// A key line that sshd will take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyLine<'a> {
    /// The line as it is to be written.
    pub(super) text: &'a str,
    /// What makes it the same key with the same rights: options, kind and key, without the comment.
    pub(super) identity: (&'a str, &'a str),
}

/// Takes off the white space and the quotes that a compose file left around a value.
pub(super) fn unquoted(text: &str) -> &str {
    let text = text.trim();
    for quote in ['"', '\''] {
        if text.starts_with(quote) || text.ends_with(quote) {
            let inner = text.strip_prefix(quote).unwrap_or(text);
            return inner.strip_suffix(quote).unwrap_or(inner).trim();
        }
    }
    text
}

/// Reads a line: a key, nothing (blank, comment), or what is wrong with it.
pub(super) fn parse(line: &str) -> Result<Option<KeyLine<'_>>, Problem> {
    let text = unquoted(line);
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    if text.contains(|c: char| c.is_control() && c != '\t') {
        return Err("it contains a control character".into());
    }
    if text.starts_with("-----BEGIN") || text.contains("PRIVATE KEY") {
        return Err(
            "it is part of a private key or certificate; give the line of the .pub file, and keep the private key to yourself".into()
        );
    }
    if text.len() > 8000 {
        return Err("it is longer than sshd reads".into());
    }
    let (options, rest) = if kind_of(first_word(text)).is_some() {
        ("", text)
    } else {
        split_options(text)?
    };
    let kind = first_word(rest);
    let Some(fields) = kind_of(kind) else {
        let problem = match kind {
            "ssh-dss" => "DSA keys are no longer accepted; make one with `ssh-keygen -t ed25519`",
            "" => "there is no key on it",
            _ => "it does not start with a kind of key that sshd knows, such as ssh-ed25519",
        };
        return Err(problem.into());
    };
    let after = rest[kind.len()..].trim_start();
    let blob = first_word(after);
    if blob.is_empty() {
        return Err("the key itself is missing after its kind".into());
    }
    let bytes = base64(blob)
        .ok_or("the key is not valid base64; it may have been cut or broken over lines")?;
    whole(&bytes, kind, fields)
        .ok_or("the key is cut short or damaged, or not of the kind that the line says")?;
    Ok(Some(KeyLine {
        text,
        identity: (options, blob),
    }))
}

fn first_word(text: &str) -> &str {
    text.split([' ', '\t']).next().unwrap_or_default()
}

/// How many fields follow the kind's name in a key of that kind.
fn kind_of(word: &str) -> Option<usize> {
    match word {
        "ssh-ed25519" => Some(1),
        "ssh-rsa"
        | "ecdsa-sha2-nistp256"
        | "ecdsa-sha2-nistp384"
        | "ecdsa-sha2-nistp521"
        | "sk-ssh-ed25519@openssh.com" => Some(2),
        "sk-ecdsa-sha2-nistp256@openssh.com" => Some(3),
        _ => None,
    }
}

/// Splits off the options, which end at the first blank outside double quotes.
fn split_options(text: &str) -> Result<(&str, &str), Problem> {
    let mut quoted = false;
    let mut escaped = false;
    let mut end = text.len();
    let mut starts = vec![0];
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => {
                end = index;
                break;
            }
            ',' if !quoted => starts.push(index + 1),
            _ => {}
        }
    }
    if quoted {
        return Err("a quote in its options is not closed".into());
    }
    for start in starts {
        let option = text[start..end]
            .split(['=', ','])
            .next()
            .unwrap_or_default();
        if let Some(problem) = objection(option) {
            return Err(problem);
        }
    }
    Ok((&text[..end], text[end..].trim_start()))
}

/// The key's own structure: the kind again, then fields with their lengths, and nothing else.
fn whole(bytes: &[u8], kind: &str, fields: usize) -> Option<()> {
    let mut rest = bytes;
    for index in 0..=fields {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (field, after) =
            after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        if field.is_empty()
            || (index == 0 && field != kind.as_bytes())
            || (index == 1 && kind == "ssh-ed25519" && field.len() != 32)
        {
            return None;
        }
        rest = after;
    }
    rest.is_empty().then_some(())
}

/// Decodes padded base64.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut held) = (0u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xFF) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGq1N0L0J9vq4S8n3lF2bJtY1o6x7mYV0b2Qy7zq8kXw";

    fn key(line: &str) -> KeyLine<'_> {
        parse(line).unwrap().unwrap()
    }

    #[test]
    fn ordinary_lines_and_what_a_compose_file_makes_of_them() {
        let with_comment = format!("{ED} me@home");
        for line in [
            with_comment.clone(),
            format!("\"{with_comment}\""),
            format!(" '{with_comment}' \r"),
            format!("\"{with_comment}"),
        ] {
            assert_eq!(key(&line).text, with_comment);
            assert_eq!(key(&line).identity, key(ED).identity);
        }
        for line in ["", "   ", "# ssh-ed25519", "\t# x", "\"\""] {
            assert_eq!(parse(line), Ok(None), "{line:?}");
        }
    }

    #[test]
    fn options_are_part_of_what_a_key_is() {
        let line = format!(
            "restrict,principals=\"echo \\\"a b\\\", c\",FROM=\"10.0.0.0/8\",No-Pty {ED} name with blanks"
        );
        assert_ne!(key(&line).identity, key(ED).identity);
        for (line, why) in [
            (format!("from=\"x {ED}"), "not closed"),
            (
                format!("command=\"git-shell\" {ED}"),
                "`command` has no effect here, so the key would be good for everything",
            ),
            (format!("restrict,COMMAND=\"x\" {ED}"), "`command`"),
            (format!("restrict,pty {ED}"), "`pty` has no effect here"),
            (format!("environment=\"A=b\" {ED}"), "`environment`"),
            (format!("no-such-option {ED}"), "neither"),
            (format!("restrict,, {ED}"), "neither"),
            ("restrict".to_owned(), "there is no key"),
            ("restrict ssh-ed25519".to_owned(), "missing"),
        ] {
            assert!(
                parse(&line).unwrap_err().contains(why),
                "{line}: {:?}",
                parse(&line)
            );
        }
    }

    #[test]
    fn a_typo_anywhere_is_found() {
        for (line, why) in [
            (ED.replace("ssh-ed25519", "ssh-ed25518"), "neither"),
            (ED.replace("IGq", "I!q"), "base64"),
            (ED[..ED.len() - 1].to_owned(), "base64"),
            (ED[..ED.len() - 4].to_owned(), "cut short"),
            (format!("{ED}AAAA"), "cut short"),
            (ED.replace("ssh-ed25519 ", "ssh-rsa "), "not of the kind"),
            ("ssh-dss AAAA".to_owned(), "neither"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(), "private"),
            (format!("{ED}\u{1b}[2J"), "control"),
            (format!("{ED} {}", "x".repeat(9000)), "longer"),
            ("ssh-ed25519".to_owned(), "missing"),
            ("ssh-ed25519 ====".to_owned(), "base64"),
            ("ü".to_owned(), "neither"),
        ] {
            assert!(
                parse(&line).unwrap_err().contains(why),
                "{line}: {:?}",
                parse(&line)
            );
        }
        assert!(
            parse(&format!(
                "restrict {}",
                ED.replace("ssh-ed25519", "ssh-dss")
            ))
            .unwrap_err()
            .contains("DSA")
        );
    }

    #[test]
    fn every_kind_that_the_installed_ssh_keygen_makes_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        for (kind, bits) in [
            ("ed25519", "256"),
            ("rsa", "2048"),
            ("ecdsa", "256"),
            ("ecdsa", "384"),
            ("ecdsa", "521"),
        ] {
            let path = folder.path().join(format!("{kind}{bits}"));
            #[expect(clippy::disallowed_methods, reason = "a test drives the real program")]
            let made = std::process::Command::new("ssh-keygen")
                .args(["-q", "-t", kind, "-b", bits, "-N", "", "-f"])
                .arg(&path)
                .status();
            assert!(made.unwrap().success());
            let text = std::fs::read_to_string(path.with_extension("pub")).unwrap();
            assert!(matches!(parse(&text), Ok(Some(_))), "{text}");
        }
    }
}
