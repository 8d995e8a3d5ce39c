//! What git prints about a remote: refs, the result of a push, and why it failed.
//!
//! The other side writes parts of it, so all of it is made printable and short. It may quote a token; the caller redacts it.

use super::error::GitError;
use quire_runtime::process::ProcError;
use quire_types::mirror::MirrorFailureKind;
use quire_types::names::RefName;
use quire_types::text::{excerpt, format_bytes, single_line};

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

/// By what a remote knows this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginKind {
    Anonymous,
    Token,
    Key,
}

impl LoginKind {
    /// To whom the other side shows nothing.
    fn phrase(self) -> &'static str {
        match self {
            Self::Anonymous => "without a token",
            Self::Token => "to this token",
            Self::Key => "to this key",
        }
    }
}

/// Why a remote could not be read, or nothing was pushed to it or fetched from it.
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
    #[error("the other side has no such repository, or does not show it {} ({words})", login.phrase())]
    NoRepository { login: LoginKind, words: String },
    /// What is fetched is larger than permitted.
    #[error(
        "the repository is larger than {}, which `git.max-push` permits; `config set git.max-push SIZE` permits more",
        format_bytes(*limit)
    )]
    TooLarge { limit: u64 },
    /// The disk is nearly full.
    #[error("the disk is nearly full: {} are free, and {} have to be", format_bytes(*free), format_bytes(*needed))]
    NoSpace { free: u64, needed: u64 },
    #[error("the disk is full: nearly no inode is free")]
    NoInodes,
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
    pub(super) fn of_output(stderr: &[u8], login: LoginKind) -> Self {
        let text = String::from_utf8_lossy(stderr);
        let has = |words: &[&str]| words.iter().any(|words| text.contains(words));
        if login == LoginKind::Key && has(&["Host key verification failed"]) {
            return Self::HostKeyChanged {
                found: fingerprint(&text),
            };
        }
        let is_refused = match login {
            LoginKind::Key => has(&["Permission denied ("]),
            LoginKind::Anonymous | LoginKind::Token => has(&[
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
                login,
                words: last_words(&text),
            };
        }
        if login != LoginKind::Key && has(&["returned error: 30"]) {
            return Self::Failed {
                kind: MirrorFailureKind::Settings,
                words: format!(
                    "{}; redirects are not followed: use the address that it redirects to, which often ends with .git",
                    last_words(&text)
                ),
            };
        }
        Self::Failed {
            kind: match is_refused {
                true => MirrorFailureKind::Access,
                // What the other side sent does not pass the checks of a push.
                false if has(&["fsck error in pack"]) => MirrorFailureKind::Rejected,
                false => MirrorFailureKind::Connection,
            },
            words: match login {
                LoginKind::Anonymous if has(&["could not read Username"]) => {
                    "the other side asks for a login".to_owned()
                }
                _ => last_words(&text),
            },
        }
    }

    #[must_use]
    pub fn kind(&self) -> MirrorFailureKind {
        match self {
            Self::Failed { kind, .. } => *kind,
            Self::NoRepository { .. } => MirrorFailureKind::Access,
            Self::HostKeyChanged { .. } => MirrorFailureKind::HostKey,
            Self::Process(_) => MirrorFailureKind::Connection,
            Self::TooLarge { .. } => MirrorFailureKind::Settings,
            Self::NoSpace { .. } | Self::NoInodes | Self::Git(_) => MirrorFailureKind::Repository,
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
pub(super) fn last_words(text: &str) -> String {
    const NOISE: [&str; 6] = [
        "fatal: Could not read from remote repository.",
        "Please make sure you have the correct access rights",
        "and the repository exists.",
        "error: failed to push some refs to",
        "fatal: fetch-pack: invalid index-pack output",
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

    fn failed(stderr: &str, login: LoginKind) -> String {
        let error = RemoteError::of_output(stderr.as_bytes(), login);
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
            "fatal: unable to access 'https://h/app/': The requested URL returned error: 301\n",
            "fatal: unable to access 'https://h/app/': server certificate verification failed. \u{1b}[1mCAfile: none\n",
        ];
        let anonymous = [
            "fatal: could not read Username for 'https://h': terminal prompts disabled\n",
            "fatal: repository 'https://h/app/' not found\n",
            "error: object 1111: missingEmail: invalid author/committer line - missing email\nfatal: fsck error in packed object\n\
             fatal: fetch-pack: invalid index-pack output\n",
        ];
        let of = |texts: &[&str], login| {
            let failed = texts.iter().map(|text| failed(text, login));
            failed.collect::<Vec<_>>().join("\n")
        };
        let ssh: Vec<&str> = ssh.iter().map(String::as_str).collect();
        insta::assert_snapshot!(
            [
                of(&ssh, LoginKind::Key),
                of(&https, LoginKind::Token),
                of(&anonymous, LoginKind::Anonymous)
            ]
            .join("\n")
        );
    }

    #[test]
    fn results_of_a_push_are_read() {
        let output = "To https://h/app\n \t1111:refs/heads/a\t1111..2222\n+\t1111:refs/heads/b\t1111...2222 (forced update)\n\
             -\t:refs/heads/c\t[deleted]\n*\t1111:refs/heads/d\t[new branch]\n=\t1111:refs/heads/e\t[up to date]\n\
             !\t1111:refs/heads/f\t[remote rejected] (pre-receive hook declined)\n!\t1111:refs/heads/g\t[rejected] (fetch first)\nDone\n";
        let stderr = "remote: \nremote: no pushes today\u{1b}[2J\nerror: failed to push some refs to 'https://h/app'\n";
        insta::assert_debug_snapshot!(parse_push(output.as_bytes(), stderr.as_bytes()));
    }
}
