//! What git prints about a remote: refs, the result of a push, and why it failed.
//!
//! The other side writes parts of it, so all of it is made printable and short. It may quote a token; the caller redacts it.

use super::error::GitError;
use quire_runtime::process::ProcError;
use quire_types::git_remote_url::RemoteTransport;
use quire_types::mirror::MirrorFailureKind;
use quire_types::names::{ObjectId, RefName};
use quire_types::text::{excerpt, single_line};

/// How much of what the other side said is kept, in lines and in characters.
const MAX_LINES: usize = 3;
const MAX_WORDS: usize = 300;

/// What a remote said to one ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedRef {
    pub ref_name: RefName,
    /// Whether it is as it was pushed, or why not.
    pub result: Result<(), String>,
}

/// Why a remote could not be read, or nothing was pushed to it.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Git ended with an error.
    #[error("{words}")]
    Failed {
        kind: MirrorFailureKind,
        /// The last words of the other side, or of git or ssh.
        words: String,
    },
    /// The other side has no such repository, or does not show it.
    #[error(
        "the other side has no such repository, or does not show it to this {login} ({words}); create an empty one there, since a \
         mirror creates none, and then `mirror sync REPO` pushes to it"
    )]
    NoRepository {
        /// What the other side knows this machine by.
        login: &'static str,
        words: String,
    },
    /// The other side has another host key than the known one.
    #[error("the host key is another one than the known one")]
    HostKeyChanged {
        /// The fingerprint of the key that it has now, if ssh names it.
        found: Option<String>,
    },
    #[error("the other side did not answer in time")]
    Process(#[from] ProcError),
    #[error(transparent)]
    Git(#[from] GitError),
}

impl RemoteError {
    /// Reads the standard error of a git that failed.
    pub(super) fn of_output(stderr: &[u8], transport: RemoteTransport) -> Self {
        let text = String::from_utf8_lossy(stderr);
        let has = |words: &[&str]| words.iter().any(|words| text.contains(words));
        if transport == RemoteTransport::Ssh && has(&["Host key verification failed"]) {
            return Self::HostKeyChanged {
                found: fingerprint(&text),
            };
        }
        let is_refused = match transport {
            RemoteTransport::Ssh => has(&["Permission denied ("]),
            RemoteTransport::Https => has(&[
                "Authentication failed for",
                "could not read Username",
                "could not read Password",
                "returned error: 401",
                "returned error: 403",
            ]),
        };
        let is_missing = has(&[
            "epository not found",
            "not found\n",
            "returned error: 404",
            "does not appear to be a git",
            "there is no repository `",
        ]);
        if is_missing && !is_refused {
            return Self::NoRepository {
                login: match transport {
                    RemoteTransport::Ssh => "key",
                    RemoteTransport::Https => "token",
                },
                words: last_words(&text),
            };
        }
        Self::Failed {
            kind: match is_refused {
                true => MirrorFailureKind::Access,
                false => MirrorFailureKind::Connection,
            },
            words: last_words(&text),
        }
    }

    #[must_use]
    pub fn kind(&self) -> MirrorFailureKind {
        match self {
            Self::Failed { kind, .. } => *kind,
            Self::NoRepository { .. } => MirrorFailureKind::Access,
            Self::HostKeyChanged { .. } => MirrorFailureKind::HostKey,
            Self::Process(_) => MirrorFailureKind::Connection,
            Self::Git(_) => MirrorFailureKind::Repository,
        }
    }
}

/// The fingerprint in ssh's warning about a changed host key, which is on a line of its own.
fn fingerprint(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("SHA256:"))?;
    let fingerprint = line.trim().trim_end_matches('.');
    Some(excerpt(&single_line(fingerprint), 60))
}

/// The last lines that say something.
fn last_words(text: &str) -> String {
    const NOISE: [&str; 5] = [
        "fatal: Could not read from remote repository.",
        "Please make sure you have the correct access rights",
        "and the repository exists.",
        "error: failed to push some refs to",
        "Warning: Permanently added",
    ];
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .map(|line| line.strip_prefix("remote:").map_or(line, str::trim))
        .filter(|line| !line.is_empty() && !NOISE.iter().any(|noise| line.starts_with(noise)))
        .collect();
    let last = &lines[lines.len().saturating_sub(MAX_LINES)..];
    match last {
        [] => "the connection was closed without a word".to_owned(),
        lines => excerpt(&single_line(&lines.join("; ")), MAX_WORDS),
    }
}

/// The refs that `git ls-remote` prints. Names that are not supported are left out.
pub(super) fn parse_refs(output: &[u8]) -> Vec<(RefName, ObjectId)> {
    let text = String::from_utf8_lossy(output);
    let parse = |line: &str| {
        let (id, name) = line.split_once('\t')?;
        Some((name.parse().ok()?, id.parse().ok()?))
    };
    text.lines().filter_map(parse).collect()
}

/// The results that `git push --porcelain` prints, with what the other side said to those that it rejected.
pub(super) fn parse_push(output: &[u8], stderr: &[u8]) -> Vec<PushedRef> {
    let text = String::from_utf8_lossy(output);
    let said: Vec<String> = String::from_utf8_lossy(stderr)
        .lines()
        .filter_map(|line| Some(line.strip_prefix("remote:")?.trim().to_owned()))
        .filter(|line| !line.is_empty())
        .collect();
    let said = said[said.len().saturating_sub(MAX_LINES)..].join("; ");
    let parse = |line: &str| {
        let mut fields = line.splitn(3, '\t');
        let (flag, refs, summary) = (fields.next()?, fields.next()?, fields.next()?);
        let ref_name = refs.rsplit_once(':')?.1.parse().ok()?;
        let rejected = || {
            let words = match said.as_str() {
                "" => summary.to_owned(),
                said => format!("{summary}: {said}"),
            };
            excerpt(&single_line(&words), MAX_WORDS)
        };
        let result = match flag {
            " " | "+" | "-" | "*" | "=" => Ok(()),
            _ => Err(rejected()),
        };
        Some(PushedRef { ref_name, result })
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(stderr: &str, transport: RemoteTransport) -> String {
        let error = RemoteError::of_output(stderr.as_bytes(), transport);
        format!("{}: {error} {error:?}", error.kind().as_str())
    }

    #[test]
    fn failures_are_told_apart() {
        let no_access = "fatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights\nand the repository exists.\n";
        let ssh = [
            format!("git@nas: Permission denied (publickey).\r\n{no_access}"),
            format!("ERROR: Repository not found.\n{no_access}"),
            format!("fatal: '/srv/app' does not appear to be a git repository\n{no_access}"),
            format!(
                "@@@@@@\nThe fingerprint for the ED25519 key sent by the remote host is\nSHA256:abc.\nPlease contact\nHost key verification failed.\r\n{no_access}"
            ),
            format!("ssh: connect to host 192.0.2.1 port 22: Connection refused\r\n{no_access}"),
            no_access.to_owned(),
        ];
        let https = [
            "remote: Invalid username or password.\nfatal: Authentication failed for 'https://h/app/'\n",
            "fatal: unable to access 'https://h/app/': The requested URL returned error: 403\n",
            "fatal: repository 'https://h/app/' not found\n",
            "fatal: unable to access 'https://h/app/': The requested URL returned error: 500\n",
            "fatal: unable to access 'https://h/app/': server certificate verification failed. \u{1b}[1mCAfile: none\n",
        ];
        let ssh = ssh.iter().map(|text| failed(text, RemoteTransport::Ssh));
        let https = https
            .iter()
            .map(|text| failed(text, RemoteTransport::Https));
        insta::assert_snapshot!(ssh.chain(https).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn results_of_a_push_are_read() {
        let output = "To https://h/app\n \t1111:refs/heads/a\t1111..2222\n+\t1111:refs/heads/b\t1111...2222 (forced update)\n\
             -\t:refs/heads/c\t[deleted]\n*\t1111:refs/heads/d\t[new branch]\n=\t1111:refs/heads/e\t[up to date]\n\
             !\t1111:refs/heads/f\t[remote rejected] (pre-receive hook declined)\n!\t1111:refs/heads/g\t[rejected] (fetch first)\nDone\n";
        let stderr = "remote: \nremote: no pushes today\u{1b}[2J\nerror: failed to push some refs to 'https://h/app'\n";
        insta::assert_debug_snapshot!(parse_push(output.as_bytes(), stderr.as_bytes()));
    }

    #[test]
    fn refs_of_a_remote_are_read() {
        let id = "1".repeat(40);
        let output = format!("{id}\trefs/heads/main\nnonsense\n{id}\trefs/heads/../x\n");
        let refs = parse_refs(output.as_bytes());
        assert_eq!(refs.len(), 1);
        assert_eq!(refs[0].0.as_str(), "refs/heads/main");
    }
}
