//! The host keys. They are stored in the volume, generated once, and never replaced: a client that
//! knows one takes a new one for an attack.
//!
//! sshd reads a copy in the runtime folder, so the modes and owners of the files in the volume do
//! not matter.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::accounts::Account;
use super::error::InitError;
use super::files;
use super::privileges::as_user;
use super::report::PreflightReport;
use super::settings::InitSettings;
use super::tool::{ToolRunner, find_program};
use quire_types::fsutil;

const KEY_TYPES: [&str; 2] = ["ed25519", "ecdsa"];
/// Far more than any private key needs.
const MAX_KEY_BYTES: u64 = 64 * 1024;

/// Generates or checks the host keys, and returns the paths of the copies that sshd reads.
pub(super) fn prepare(
    settings: &InitSettings,
    account: &Account,
    tools: ToolRunner<'_>,
    report: &mut PreflightReport,
) -> Result<Vec<PathBuf>, InitError> {
    let keygen = find_program("ssh-keygen", "Debian package openssh-client")?;
    let copies = settings.paths.runtime().join("host_keys");
    files::create_private_dir(&copies)?;
    let mut copied = Vec::new();
    let mut public_keys = String::new();
    let first_boot = KEY_TYPES
        .iter()
        .all(|key_type| !stored_file(settings, key_type, "").exists());
    for key_type in KEY_TYPES {
        let copy = copies.join(format!("ssh_host_{key_type}_key"));
        let stored = stored_file(settings, key_type, "");
        match read(&stored, account)? {
            Some(private) => fsutil::replace_file(&copy, &private, 0o600)
                .map_err(InitError::io("write", &copy))?,
            None => {
                if stored_file(settings, key_type, ".pub").exists() {
                    return Err(InitError::HostKey {
                        path: stored,
                        problem: "is missing, although its .pub file exists".into(),
                    });
                }
                generate(key_type, &copy, &keygen, tools)?;
                let private = fs::read(&copy).map_err(InitError::io("read", &copy))?;
                as_user(account, || {
                    fsutil::replace_file_durably(&stored, &private, 0o600)
                })?
                .map_err(InitError::io("store the host key", &stored))?;
                let reason = if first_boot {
                    ""
                } else {
                    ", because it was missing"
                };
                report.info(format_args!(
                    "host key: generated {}{reason}",
                    stored.display()
                ));
            }
        }
        let public = derive_public_key(&copy, &stored, &keygen, tools)?;
        let public_file = stored_file(settings, key_type, ".pub");
        if !public_file.exists() {
            as_user(account, || {
                fsutil::replace_file_durably(&public_file, public.as_bytes(), 0o644)
            })?
            .map_err(InitError::io("store", &public_file))?;
        }
        public_keys.push_str(&public);
        copied.push(copy);
    }
    report_fingerprints(&public_keys, &copies, &keygen, tools, report)?;
    Ok(copied)
}

fn stored_file(settings: &InitSettings, key_type: &str, suffix: &str) -> PathBuf {
    settings
        .paths
        .host_keys()
        .join(format!("ssh_host_{key_type}_key{suffix}"))
}

/// The stored private key; `None` if there is none.
fn read(path: &Path, account: &Account) -> Result<Option<Vec<u8>>, InitError> {
    let damaged = |problem: String| InitError::HostKey {
        path: path.to_owned(),
        problem,
    };
    let read = || {
        let found = fs::metadata(path)?;
        if found.is_file() && found.len() <= MAX_KEY_BYTES {
            fs::read(path)
        } else {
            Err(io::Error::from(ErrorKind::InvalidData))
        }
    };
    let bytes = match read() {
        // On a volume that maps root to an unprivileged user, only the owner can read the file.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => as_user(account, read)?,
        other => other,
    };
    match bytes {
        Ok(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => Err(damaged("is empty".into())),
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            Err(damaged("is not a private key".into()))
        }
        Err(error) => Err(damaged(format!("cannot be read ({error})"))),
    }
}

fn generate(
    key_type: &str,
    path: &Path,
    keygen: &Path,
    tools: ToolRunner<'_>,
) -> Result<(), InitError> {
    let _ = fs::remove_file(path);
    let arguments = ["-q", "-t", key_type, "-N", "", "-C", "quire", "-f"].map(OsStr::new);
    let output = tools.run(
        "ssh-keygen",
        keygen,
        &[arguments.as_slice(), &[path.as_os_str()]].concat(),
    )?;
    if output.success() {
        Ok(())
    } else {
        Err(InitError::Tool {
            program: "ssh-keygen",
            message: output.message(),
        })
    }
}

/// Derives the public key from the private one, which also checks that the private key is complete.
fn derive_public_key(
    copy: &Path,
    stored: &Path,
    keygen: &Path,
    tools: ToolRunner<'_>,
) -> Result<String, InitError> {
    let output = tools.run(
        "ssh-keygen",
        keygen,
        &["-y", "-P", "", "-f"]
            .map(OsStr::new)
            .into_iter()
            .chain([copy.as_os_str()])
            .collect::<Vec<_>>(),
    )?;
    if output.success() {
        return Ok(output.text);
    }
    let message = output
        .message()
        .replace(&format!("Load key \"{}\": ", copy.display()), "");
    Err(InitError::HostKey {
        path: stored.to_owned(),
        problem: format!("is damaged ({message})"),
    })
}

fn report_fingerprints(
    public_keys: &str,
    folder: &Path,
    keygen: &Path,
    tools: ToolRunner<'_>,
    report: &mut PreflightReport,
) -> Result<(), InitError> {
    let path = folder.join("public");
    fsutil::replace_file(&path, public_keys.as_bytes(), 0o644)
        .map_err(InitError::io("write", &path))?;
    let output = tools.run(
        "ssh-keygen",
        keygen,
        &[OsStr::new("-l"), OsStr::new("-f"), path.as_os_str()],
    )?;
    if !output.success() {
        return Err(InitError::Tool {
            program: "ssh-keygen",
            message: output.message(),
        });
    }
    for line in output.text.lines() {
        report.info(format_args!("host key: {line}"));
    }
    Ok(())
}
