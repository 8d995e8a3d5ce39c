//! The keys that the appliance shows to its clients. They live in the volume, are made once,
//! and are never replaced: a client that knows one would take a new one for an attack.
//!
//! sshd reads a copy in the runtime folder, so modes and owners in the volume do not matter.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::accounts::Account;
use super::boot::Report;
use super::error::BootError;
use super::settings::Settings;
use super::tool::{Tools, find};
use super::volume::as_user;

const KINDS: [&str; 2] = ["ed25519", "ecdsa"];
/// Far more than any private key.
const LONGEST: u64 = 64 * 1024;

/// Makes or checks the host keys and gives the copies that sshd is to read.
pub(super) fn prepare(
    settings: &Settings,
    account: &Account,
    tools: Tools<'_>,
    report: &mut Report,
) -> Result<Vec<PathBuf>, BootError> {
    let keygen = find("ssh-keygen", "Debian package openssh-client")?;
    let copies = settings.paths.runtime().join("host_keys");
    super::boot::make_private_folder(&copies)?;
    let mut ready = Vec::new();
    let mut publics = String::new();
    let first_boot = KINDS.iter().all(|kind| !file(settings, kind, "").exists());
    for kind in KINDS {
        let copy = copies.join(format!("ssh_host_{kind}_key"));
        let kept = file(settings, kind, "");
        match read(&kept, account)? {
            Some(private) => {
                write(&copy, &private, 0o600).map_err(BootError::io("write", &copy))?
            }
            None => {
                if file(settings, kind, ".pub").exists() {
                    return Err(BootError::HostKey {
                        path: kept,
                        problem: "is gone, only its public half is there".into(),
                    });
                }
                make(kind, &copy, &keygen, tools)?;
                let private = fs::read(&copy).map_err(BootError::io("read", &copy))?;
                as_user(account, || write(&kept, &private, 0o600))?
                    .map_err(BootError::io("keep the host key", &kept))?;
                let what = if first_boot {
                    "made"
                } else {
                    "one was missing: made a new one,"
                };
                report.say(format_args!("host key: {what} {}", kept.display()));
            }
        }
        let public = public_half(&copy, &kept, &keygen, tools)?;
        let beside = file(settings, kind, ".pub");
        if !beside.exists() {
            as_user(account, || write(&beside, public.as_bytes(), 0o644))?
                .map_err(BootError::io("keep", &beside))?;
        }
        publics.push_str(&public);
        ready.push(copy);
    }
    say_fingerprints(&publics, &copies, &keygen, tools, report)?;
    Ok(ready)
}

fn file(settings: &Settings, kind: &str, end: &str) -> PathBuf {
    settings
        .paths
        .host_keys()
        .join(format!("ssh_host_{kind}_key{end}"))
}

/// The private key as it is kept; nothing where there is none.
fn read(path: &Path, account: &Account) -> Result<Option<Vec<u8>>, BootError> {
    let damaged = |problem: String| BootError::HostKey {
        path: path.to_owned(),
        problem,
    };
    let read = || {
        let found = fs::metadata(path)?;
        if found.is_file() && found.len() <= LONGEST {
            fs::read(path)
        } else {
            Err(io::Error::from(ErrorKind::InvalidData))
        }
    };
    let bytes = match read() {
        // On a volume where root is nobody, its owner can.
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

fn make(kind: &str, path: &Path, keygen: &Path, tools: Tools<'_>) -> Result<(), BootError> {
    let _ = fs::remove_file(path);
    let arguments = ["-q", "-t", kind, "-N", "", "-C", "quire", "-f"].map(OsStr::new);
    let said = tools.run(
        "ssh-keygen",
        keygen,
        &[arguments.as_slice(), &[path.as_os_str()]].concat(),
    )?;
    if said.worked() {
        Ok(())
    } else {
        Err(BootError::Tool {
            program: "ssh-keygen",
            says: said.words(),
        })
    }
}

/// The public half, read out of the private one: this is also the check that it is whole.
fn public_half(
    copy: &Path,
    kept: &Path,
    keygen: &Path,
    tools: Tools<'_>,
) -> Result<String, BootError> {
    let said = tools.run(
        "ssh-keygen",
        keygen,
        &["-y", "-P", "", "-f"]
            .map(OsStr::new)
            .into_iter()
            .chain([copy.as_os_str()])
            .collect::<Vec<_>>(),
    )?;
    if said.worked() {
        return Ok(said.text);
    }
    let words = said
        .words()
        .replace(&format!("Load key \"{}\": ", copy.display()), "");
    Err(BootError::HostKey {
        path: kept.to_owned(),
        problem: format!("is damaged ({words})"),
    })
}

fn say_fingerprints(
    publics: &str,
    folder: &Path,
    keygen: &Path,
    tools: Tools<'_>,
    report: &mut Report,
) -> Result<(), BootError> {
    let path = folder.join("public");
    write(&path, publics.as_bytes(), 0o644).map_err(BootError::io("write", &path))?;
    let said = tools.run(
        "ssh-keygen",
        keygen,
        &[OsStr::new("-l"), OsStr::new("-f"), path.as_os_str()],
    )?;
    if !said.worked() {
        return Err(BootError::Tool {
            program: "ssh-keygen",
            says: said.words(),
        });
    }
    for line in said.text.lines() {
        report.say(format_args!("host key: {line}"));
    }
    Ok(())
}

/// Writes a whole file in one step: a key that is cut short by a crash would be a damaged one for ever.
fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let beside = path.with_extension("new");
    let _ = fs::remove_file(&beside);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}
