//! Whether the container has the Linux capabilities that quire needs.

use std::fs;

use super::error::InitError;
use super::report::PreflightReport;

/// Capabilities without which sshd cannot become a user or be stopped, with their bit numbers.
const REQUIRED: [(u32, &str); 4] = [
    (5, "KILL"),
    (6, "SETGID"),
    (7, "SETUID"),
    (18, "SYS_CHROOT"),
];
/// Capabilities without which volumes and sockets of other users may not be accessible.
const OPTIONAL: [(u32, &str); 3] = [(0, "CHOWN"), (1, "DAC_OVERRIDE"), (3, "FOWNER")];

pub(super) fn check(report: &mut PreflightReport) -> Result<(), InitError> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let missing = missing(&status, &REQUIRED);
    if !missing.is_empty() {
        return Err(InitError::Capabilities { missing });
    }
    let missing = self::missing(&status, &OPTIONAL);
    if !missing.is_empty() {
        report.warn(format!(
            "the container lacks the capabilities {missing}; quire may not be able to use a volume that belongs to another user; add them under cap_add"
        ));
    }
    Ok(())
}

/// The names of the capabilities that are not effective. Empty if the kernel does not tell.
fn missing(status: &str, wanted: &[(u32, &str)]) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(effective) = line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
    else {
        return String::new();
    };
    wanted
        .iter()
        .filter(|(bit, _)| effective & (1 << bit) == 0)
        .map(|(_, name)| *name)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        assert_eq!(
            missing("Name:\tx\nCapEff:\t000001ffffffffff\n", &REQUIRED),
            ""
        );
        assert_eq!(
            missing("CapEff:\t00000000000000c0\n", &REQUIRED),
            "KILL, SYS_CHROOT"
        );
        assert_eq!(
            missing("", &REQUIRED),
            "",
            "a kernel that does not tell is no reason to fail"
        );
    }
}
