use std::path::Path;

use super::*;
use crate::clock::Millis;
use crate::paths::Paths;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGq1N0L0J9vq4S8n3lF2bJtY1o6x7mYV0b2Qy7zq8kXw";
const BLOB: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIGVzdGVzdGVzdGVzdGVzdGVzdGVzdGVzdGVzdGVzdGVzdGVz";

fn parsed(line: &str) -> AuthorizedKey<'_> {
    AuthorizedKey::parse(line).unwrap().unwrap()
}

#[test]
fn ordinary_lines_and_what_a_compose_file_makes_of_them() {
    let with_comment = format!("{KEY} me@home");
    for line in [
        with_comment.clone(),
        format!("\"{with_comment}\""),
        format!(" '{with_comment}' \r"),
        format!("\u{feff}{with_comment}\r"),
        format!("\"{with_comment}"),
    ] {
        assert_eq!(parsed(&line).line, with_comment);
        assert_eq!(parsed(&line).identity(), parsed(KEY).identity());
    }
    for line in ["", "   ", "# ssh-ed25519", "\t# x", "\"\""] {
        assert_eq!(AuthorizedKey::parse(line), Ok(None), "{line:?}");
    }
}

#[test]
fn options_are_part_of_the_identity_of_a_key() {
    let line = format!(
        "restrict,principals=\"echo \\\"a b\\\", c\",FROM=\"10.0.0.0/8\",No-Pty {KEY} name with blanks"
    );
    assert_ne!(parsed(&line).identity(), parsed(KEY).identity());
}

#[test]
fn every_rejected_line_says_why() {
    let lines = [
        // Options.
        format!("from=\"x {KEY}"),
        format!("command=\"git-shell\" {KEY}"),
        format!("restrict,COMMAND=\"x\" {KEY}"),
        format!("restrict,pty {KEY}"),
        format!("environment=\"A=b\" {KEY}"),
        format!("no-such-option {KEY}"),
        format!("restrict,, {KEY}"),
        format!("from=10.0.0.1 {KEY}"),
        format!("from=\"10.0.0.1/8\" {KEY}"),
        format!("from=\"*\",from=\"*\" {KEY}"),
        format!("expiry-time=\"tomorrow\" {KEY}"),
        format!("expiry-time=\"20261332\" {KEY}"),
        format!("expiry-time=20261231 {KEY}"),
        format!("cert-authority,principals=\"a\",principals=\"b\" {KEY}"),
        "restrict".to_owned(),
        "restrict ssh-ed25519".to_owned(),
        "ü".to_owned(),
        // Key types.
        KEY.replace("ssh-ed25519", "ssh-ed25518"),
        format!("restrict {}", KEY.replace("ssh-ed25519", "ssh-dss")),
        "ssh-dss AAAA".to_owned(),
        KEY.replace("ssh-ed25519 ", "ssh-rsa "),
        // The key itself.
        "ssh-ed25519".to_owned(),
        "ssh-ed25519 ====".to_owned(),
        KEY.replace("IGq", "I!q"),
        KEY[..KEY.len() - 1].to_owned(),
        KEY[..KEY.len() - 4].to_owned(),
        format!("{KEY}AAAA"),
        // The line as a whole.
        "-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(),
        format!("{KEY}\u{1b}[2J"),
        format!("{KEY} {}", "x".repeat(9000)),
    ];
    let text: String = lines
        .iter()
        .map(|line| {
            let error = AuthorizedKey::parse(line).unwrap_err();
            let line: String = line.chars().take(60).collect();
            format!("{}\n    {error}\n", line.escape_debug())
        })
        .collect();
    insta::assert_snapshot!(text);
}

#[test]
fn every_key_type_of_the_installed_ssh_keygen_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    for (key_type, bits) in [
        ("ed25519", "256"),
        ("rsa", "2048"),
        ("ecdsa", "256"),
        ("ecdsa", "384"),
        ("ecdsa", "521"),
    ] {
        let path = folder.path().join(format!("{key_type}{bits}"));
        #[expect(clippy::disallowed_methods, reason = "a test drives the real program")]
        let status = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", key_type, "-b", bits, "-N", "", "-f"])
            .arg(&path)
            .status();
        assert!(status.unwrap().success());
        let text = std::fs::read_to_string(path.with_extension("pub")).unwrap();
        assert!(matches!(AuthorizedKey::parse(&text), Ok(Some(_))), "{text}");
    }
}

#[test]
fn keys_with_and_without_options_and_comments() {
    let text = format!(
        "# a comment\n\nssh-ed25519 {BLOB} me@laptop, the new one\nrestrict,command=\"a b \\\" c\" ssh-ed25519 {BLOB} two\n ssh-ed25519 {BLOB}\nssh-ed25519 ???? x\nnonsense\nssh-ed25519\n"
    );
    let keys = parse_all(&text);
    let names: Vec<_> = keys.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names[..2], ["me@laptop, the new one", "two"]);
    assert!(
        names[2].starts_with("SHA256:") && names[2].len() == 50,
        "{}",
        names[2]
    );
    assert_eq!(keys.len(), 3);
}

proptest::proptest! {
    #[test]
    fn any_text_in_the_file_is_survived(text in ".{0,300}") {
        let _ = AuthorizedKey::parse(&text);
        let _ = AuthorizedKey::parse(&format!("from=\"{text}\",expiry-time=\"{text}\" {KEY}"));
        for key in parse_all(&format!("{text}\nssh-ed25519 {BLOB} {text}")) {
            proptest::prop_assert!(!key.name.is_empty() && !key.name.contains(char::is_control));
        }
    }
}

#[test]
fn the_key_of_a_session_is_found_by_its_blob() {
    let keys =
        format!("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ== other\nssh-ed25519 {BLOB} laptop\r\n");
    let info = format!("publickey ssh-ed25519 {BLOB}\n");
    let found = session_key(&info, &keys).unwrap();
    let key = found.key;
    assert_eq!((key.name.as_str(), &key), ("laptop", &parse_all(&keys)[1]));
    assert_eq!(found.certificate, None);
    let removed = session_key(&info, "").unwrap().key;
    assert_eq!(
        (removed.name.as_str(), removed.fingerprint.as_str()),
        (key.fingerprint.as_str(), key.fingerprint.as_str())
    );
    assert_eq!(session_key("password\n", &keys), None);
    assert_eq!(session_key("", &keys), None);
    assert_eq!(
        session_key("publickey x ???\n", &keys).unwrap().key.name,
        "unknown key"
    );
}

#[expect(clippy::disallowed_methods, reason = "a test drives the real program")]
fn ssh_keygen(folder: &Path, arguments: &[&str]) {
    let mut command = std::process::Command::new("ssh-keygen");
    let done = command
        .current_dir(folder)
        .env("TZ", "UTC")
        .arg("-q")
        .args(arguments)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
}

/// A line of an authority, and a certificate that it signed with these options, in base64.
fn certificate(key_type: &str, options: &[&str]) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    ssh_keygen(folder, &["-t", "ed25519", "-N", "", "-f", "authority"]);
    ssh_keygen(folder, &["-t", key_type, "-N", "", "-f", "user"]);
    let sign = ["-s", "authority", "-I", "laptop"];
    ssh_keygen(folder, &[&sign, options, &["user.pub"]].concat());
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let signed = read("user-cert.pub");
    let blob = signed.split(' ').nth(1).unwrap().to_owned();
    (read("authority.pub"), blob)
}

#[test]
fn a_certificate_has_the_fingerprint_of_its_authority() {
    for key_type in ["ed25519", "rsa", "ecdsa"] {
        let (authority, blob) = certificate(key_type, &["-n", "git"]);
        let info = format!("publickey ssh-{key_type}-cert-v01@openssh.com {blob}\n");
        let keys = format!("cert-authority {authority}");
        let found = session_key(&info, &keys).unwrap();
        assert_eq!(found.key.fingerprint, parse_all(&keys)[0].fingerprint);
        assert!(found.key.name.starts_with("SHA256:") && found.key.name != found.key.fingerprint);
        assert_eq!(found.certificate, Some(blob));
    }
}

const NOW: Millis = Millis(1_785_000_000_000); // 2026-07-25T17:20:00Z

fn admit(keys: &str, certificate: Option<&str>, address: &str) -> Result<(), KeyDenied> {
    let fingerprint = &parse_all(keys)[0].fingerprint;
    AuthorizedKeys::parse(keys).admit_fully(fingerprint, certificate, address.parse().unwrap(), NOW)
}

#[test]
fn a_key_is_admitted_while_its_line_admits_it() {
    for (options, expected) in [
        ("", Ok(())),
        ("restrict,no-pty ", Ok(())),
        ("expiry-time=\"20260725172000Z\" ", Ok(())),
        ("expiry-time=\"20260725171959Z\" ", Err(KeyDenied::Expired)),
        (
            "expiry-time=\"20270101Z\",expiry-time=\"20260101Z\" ",
            Err(KeyDenied::Expired),
        ),
        ("from=\"192.0.2.0/24\" ", Ok(())),
        ("FROM=\"192.0.2.0/24\" ", Ok(())),
        ("from=\"192.0.2.0/24,!192.0.2.7\" ", Err(KeyDenied::Address)),
        (
            "from=\"10.0.0.0/8\",expiry-time=\"20270101Z\" ",
            Err(KeyDenied::Address),
        ),
        ("command=\"quire exec --read\" ", Err(KeyDenied::Limited)),
        // A key that signs certificates cannot connect itself, and sshd ignores a line that it cannot read.
        ("cert-authority ", Err(KeyDenied::NotAuthorized)),
        ("expiry-time=\"tomorrow\" ", Err(KeyDenied::NotAuthorized)),
        ("no-such-option ", Err(KeyDenied::NotAuthorized)),
    ] {
        assert_eq!(
            admit(&format!("{options}{KEY}"), None, "192.0.2.7"),
            expected,
            "{options}"
        );
        // A line that admits the key is enough, and the first one counts.
        let limited = expected == Err(KeyDenied::Limited);
        assert_eq!(
            admit(&format!("{options}{KEY}\n{KEY}\n"), None, "192.0.2.7"),
            if limited { expected } else { Ok(()) },
            "{options}"
        );
    }
    let other = KEY.replace("IGq1", "IHq1");
    let keys = AuthorizedKeys::parse(&other);
    let fingerprint = &parse_all(KEY)[0].fingerprint;
    let address = "192.0.2.7".parse().unwrap();
    assert_eq!(
        keys.admit_fully(fingerprint, None, address, NOW),
        Err(KeyDenied::NotAuthorized)
    );
}

#[test]
fn a_certificate_is_admitted_while_it_is_valid() {
    let valid = ["-n", "git,admin", "-V", "20260101:20270101"];
    let expired = ["-n", "git", "-V", "20260101:20260201"];
    let early = ["-n", "git", "-V", "20270101:20280101"];
    let from = ["-n", "git", "-O", "source-address=10.0.0.0/8,192.0.2.1/32"];
    for (line, options, expected) in [
        ("cert-authority ", valid.as_slice(), Ok(())),
        ("cert-authority ", &expired, Err(KeyDenied::Expired)),
        ("cert-authority ", &early, Err(KeyDenied::Expired)),
        ("cert-authority ", &from, Err(KeyDenied::Address)),
        (
            "cert-authority,from=\"10.0.0.0/8\" ",
            &valid,
            Err(KeyDenied::Address),
        ),
        (
            "cert-authority,expiry-time=\"20260201Z\" ",
            &valid,
            Err(KeyDenied::Expired),
        ),
        ("cert-authority,principals=\"admin\" ", &valid, Ok(())),
        (
            "cert-authority,command=\"quire exec --repo app\" ",
            &valid,
            Err(KeyDenied::Limited),
        ),
        (
            "cert-authority,principals=\"other\" ",
            &valid,
            Err(KeyDenied::NotAuthorized),
        ),
        ("", &valid, Err(KeyDenied::NotAuthorized)),
    ] {
        let (authority, blob) = certificate("ed25519", options);
        let keys = format!("{line}{authority}");
        assert_eq!(
            admit(&keys, Some(&blob), "192.0.2.7"),
            expected,
            "{line}{options:?}"
        );
    }
    let (authority, _) = certificate("ed25519", &valid);
    let keys = format!("cert-authority {authority}");
    assert_eq!(
        admit(&keys, Some("AAAA"), "192.0.2.7"),
        Err(KeyDenied::NotAuthorized)
    );
}

#[test]
fn the_merged_file_takes_precedence() {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::new(folder.path().join("data"), folder.path().join("run"));
    assert_eq!(read(&paths).unwrap(), "");
    for path in [paths.authorized_keys(), paths.merged_authorized_keys()] {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, path.display().to_string()).unwrap();
        assert_eq!(read(&paths).unwrap(), path.display().to_string());
    }
    std::fs::remove_file(paths.merged_authorized_keys()).unwrap();
    std::fs::create_dir(paths.merged_authorized_keys()).unwrap();
    assert!(read(&paths).is_err());
}
