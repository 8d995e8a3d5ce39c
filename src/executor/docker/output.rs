//! The engine's own words in a command's output, and sizes in words.

/// How the engine begins what it writes into the output of a command that it could not start.
const REFUSAL: &[u8] = b"OCI runtime exec failed: ";

/// What the engine's refusal to start a command means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The folder does not exist.
    Folder,
    /// The program could not be started.
    Program(std::io::ErrorKind),
}

/// Whether these may be the engine's words; they are then held back until the exit code is known.
pub(super) fn may_be_refusal(first: &[u8]) -> bool {
    first.starts_with(REFUSAL)
}

/// Reads the engine's words. There is no other sign that tells a command that could not be
/// started from one that ended with 126 or 127 by itself.
pub(super) fn refusal(words: &[u8], exit_code: i64) -> Option<Refusal> {
    use std::io::ErrorKind;
    if !matches!(exit_code, 126 | 127) || !may_be_refusal(words) {
        return None;
    }
    let words = String::from_utf8_lossy(words);
    Some(match () {
        () if words.contains("chdir to cwd") => Refusal::Folder,
        () if words.contains("no such file or directory")
            || words.contains("executable file not found") =>
        {
            Refusal::Program(ErrorKind::NotFound)
        }
        () if words.contains("permission denied") => Refusal::Program(ErrorKind::PermissionDenied),
        () if words.contains("argument list too long") => {
            Refusal::Program(ErrorKind::ArgumentListTooLong)
        }
        () => Refusal::Program(ErrorKind::Other),
    })
}

/// Bytes as people say them.
pub(super) fn size(bytes: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, unit)| bytes >= *unit) {
        None => format!("{bytes} bytes"),
        Some((name, unit)) if bytes.is_multiple_of(*unit) => format!("{} {name}", bytes / unit),
        Some((name, unit)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    #[test]
    fn refusals_are_told_from_a_commands_own_output() {
        let words = b"OCI runtime exec failed: exec failed: unable to start container process: exec: \"nope\": executable file not found in $PATH: unknown\r\n";
        assert_eq!(
            refusal(words, 127),
            Some(Refusal::Program(ErrorKind::NotFound))
        );
        assert_eq!(refusal(words, 1), None);
        assert_eq!(refusal(b"nope: not found", 127), None);
        let cwd = b"OCI runtime exec failed: exec failed: chdir to cwd (\"/work/x\") set in config.json failed: no such file or directory: unknown";
        assert_eq!(refusal(cwd, 126), Some(Refusal::Folder));
    }

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (2 << 30, "2 GiB"),
            (3 << 29, "1.5 GiB"),
            (64 << 20, "64 MiB"),
            (1500, "1.4 KiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
