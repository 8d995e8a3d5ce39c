//! How a text is run by a shell.
//!
//! A shell continues after a command that fails, and its exit code is that of the last one. So a
//! text of several lines would hide the failure of all lines but the last. Such a text is run with
//! `set -e`, and with `set -o pipefail` if the shell has it: POSIX has it since 2024, and a shell
//! that does not know it would exit.

/// Precedes the text on its first line, so that the shell's line numbers remain those of the text.
const STOP_AT_FAILURE: &str =
    "set -e; if (set -o pipefail) 2>/dev/null; then set -o pipefail; fi; ";

/// The command that runs a text by `sh -c`. With `errexit`, a text of several lines stops at the
/// first command that fails.
#[must_use]
pub fn shell_command(text: String, errexit: bool) -> Vec<String> {
    let script = if errexit && text.trim().contains('\n') {
        format!("{STOP_AT_FAILURE}{text}")
    } else {
        text
    };
    vec!["sh".to_owned(), "-c".to_owned(), script]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_text_of_several_lines_stops_at_a_failure() {
        let stops = |text: &str, errexit| {
            let command = shell_command(text.to_owned(), errexit);
            assert!(command[2].ends_with(text), "{command:?}");
            command[2] != text
        };
        for (text, several) in [("a; b", false), ("\n  a\n", false), ("a\nb", true)] {
            assert_eq!(stops(text, true), several, "{text:?}");
            assert!(!stops(text, false), "{text:?}");
        }
    }
}
