//! Reads one mirror: of `:mirrors {:repos …}`, or of the settings of a repository.

use serde_json::Value;

use super::entry_fields::{EntryFields, ReadEntry, SECRET, is_entry_name};
use super::mirrors::{MirrorRemote, RefPatterns};
use super::secrets::SecretSource;
use quire_types::git_remote_url::{GitRemoteUrl, RemoteTransport};

/// The user for HTTPS if none is named. Servers that take a token as the password accept any.
const DEFAULT_USER: &str = "git";
pub(super) const MIRROR_NAME: &str =
    "the name of a mirror consists of letters, digits, `-` and `_`, 64 at most";
/// The longest name of a user, in bytes.
const MAX_USER: usize = 255;

const URL: &str = "an address such as \"https://host.example/app.git\" or \"git@host.example:app.git\", without a password";
pub(super) const REFS: &str =
    "a list of patterns of whole refs such as [\"refs/heads/main\" \"refs/tags/*\"]";

/// How the remote and the token of a mirror are named.
struct TokenReader<T> {
    url: &'static str,
    expected: &'static str,
    read: fn(&Value) -> Option<T>,
    /// Why no mirror is reached over SSH, if so.
    no_ssh: Option<&'static str>,
    /// A name that means something else, and why.
    reserved: Option<(&'static str, &'static str)>,
}

/// Reads a mirror of the owner's configuration.
pub(super) fn read_mirror(name: &str, value: &Value) -> ReadEntry<MirrorRemote> {
    let token = TokenReader {
        url: URL,
        expected: SECRET,
        read: SecretSource::from_data,
        no_ssh: None,
        reserved: None,
    };
    read(name, value, &token)
}

/// Reads a mirror of the settings of a repository: its token is the name of a secret, and no key of the owner is used for it.
pub(super) fn read_repo_mirror(name: &str, value: &Value) -> ReadEntry<MirrorRemote<String>> {
    let token = TokenReader {
        url: "an address such as \"https://host.example/app.git\", without a password",
        expected: "the name of a secret that runs of the repository may use, such as \"github-token\"",
        read: |value| {
            let name = value.as_str().filter(|name| !name.is_empty())?;
            Some(name.to_owned())
        },
        no_ssh: Some(
            "`url` must be an address for HTTPS: the key of mirrors is the owner's, so a mirror over SSH has to be in the configuration of quire",
        ),
        reserved: Some((
            "origin",
            "the name `origin` is that of the remote that a repository follows; choose another name",
        )),
    };
    read(name, value, &token)
}

fn read<T>(name: &str, value: &Value, token: &TokenReader<T>) -> ReadEntry<MirrorRemote<T>> {
    let mut fields = EntryFields::of(value);
    if !is_entry_name(name) {
        fields.fail(None, MIRROR_NAME.to_owned());
    } else if let Some((_, message)) = token.reserved.filter(|(reserved, _)| *reserved == name) {
        fields.fail(None, message.to_owned());
    } else if !value.is_object() {
        let message = "a mirror must be a table such as {:url \"git@host.example:app.git\"}";
        fields.fail(None, message.to_owned());
    }
    let settings = settings(&mut fields, token);
    fields.finish(settings, "the mirror is not complete")
}

fn settings<T>(fields: &mut EntryFields, kind: &TokenReader<T>) -> Option<MirrorRemote<T>> {
    let url: Option<GitRemoteUrl> =
        fields.required("url", kind.url, |value| value.as_str()?.parse().ok());
    let user = fields.optional("user", "the name of a user", read_user);
    let token = fields.optional("token", kind.expected, kind.read);
    let refs = fields.optional("refs", REFS, ref_patterns);
    let delete = fields.optional("delete", "true or false", Value::as_bool);
    let force = fields.optional("force", "true or false", Value::as_bool);
    let url = url?;
    if let (RemoteTransport::Ssh, Some(message)) = (url.transport(), kind.no_ssh) {
        fields.fail(Some("url"), message.to_owned());
    }
    match (url.transport(), &token) {
        (RemoteTransport::Https, None) => {
            let expected = kind.expected;
            let message = format!("`token` is missing; for HTTPS it must be {expected}");
            fields.fail(None, message);
        }
        (RemoteTransport::Ssh, Some(_)) => {
            let message = "`token` is for HTTPS; for SSH the key of `mirror key` is used";
            fields.fail(Some("token"), message.to_owned());
        }
        (RemoteTransport::Ssh, None) if user.is_some() => {
            let message = "`user` is for HTTPS; for SSH the address names the user";
            fields.fail(Some("user"), message.to_owned());
        }
        _ => {}
    }
    Some(MirrorRemote {
        url,
        login: token.map(|token| (user.unwrap_or_else(|| DEFAULT_USER.to_owned()), token)),
        refs: refs.unwrap_or_default(),
        delete: delete.unwrap_or(true),
        force: force.unwrap_or(true),
    })
}

pub(super) fn read_user(value: &Value) -> Option<String> {
    let is_user = |text: &&str| {
        (1..=MAX_USER).contains(&text.len()) && !text.contains(|c: char| c.is_control() || c == ':')
    };
    value.as_str().filter(is_user).map(str::to_owned)
}

pub(super) fn ref_patterns(value: &Value) -> Option<RefPatterns> {
    let patterns = value.as_array()?.iter();
    RefPatterns::new(
        patterns
            .map(|pattern| pattern.as_str().map(str::to_owned))
            .collect::<Option<_>>()?,
    )
}
