//! Why a program could not be started, in the words of both executors.

/// Why a program could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SpawnProblem {
    Missing,
    /// The interpreter of its `#!` line, or its dynamic linker, does not exist.
    InterpreterMissing(String),
    /// The name of its interpreter ends with a carriage return.
    InterpreterCarriageReturn(String),
    PermissionDenied,
    /// It is neither a binary nor a script.
    UnknownFormat,
    OtherArchitecture,
    ArgumentsTooLong,
    /// The limit of processes is reached.
    NoProcesses,
    /// Another error of the system.
    Other(String),
}

impl SpawnProblem {
    /// The exit code and the line on standard error, as a shell has them.
    pub(crate) fn exit(&self, program: &str) -> (i32, String) {
        let code = match self {
            Self::Missing | Self::InterpreterMissing(_) | Self::InterpreterCarriageReturn(_) => 127,
            _ => 126,
        };
        (code, format!("quire: cannot run `{program}`: {self}\n"))
    }
}

impl std::fmt::Display for SpawnProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no such program"),
            Self::InterpreterMissing(interpreter) => {
                write!(f, "its interpreter `{interpreter}` does not exist")
            }
            Self::InterpreterCarriageReturn(interpreter) => write!(
                f,
                "its first line ends with a carriage return, which is taken as part of the interpreter's name `{}`; \
                 give the file line endings of LF only",
                interpreter.trim_end_matches('\r')
            ),
            Self::PermissionDenied => f.write_str("permission to execute it was denied"),
            Self::UnknownFormat => {
                f.write_str("it is neither a binary nor a script that begins with `#!`")
            }
            Self::OtherArchitecture => f.write_str("it was built for another architecture"),
            Self::ArgumentsTooLong => f.write_str("its arguments and variables are too long"),
            Self::NoProcesses => f.write_str("the limit of processes is reached"),
            Self::Other(message) => f.write_str(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_cannot_start_are_explained() {
        let text = [
            SpawnProblem::Missing,
            SpawnProblem::InterpreterMissing("/bin/bash".into()),
            SpawnProblem::InterpreterCarriageReturn("/bin/sh\r".into()),
            SpawnProblem::PermissionDenied,
            SpawnProblem::UnknownFormat,
            SpawnProblem::OtherArchitecture,
            SpawnProblem::ArgumentsTooLong,
            SpawnProblem::NoProcesses,
            SpawnProblem::Other("Too many open files".into()),
        ]
        .map(|problem| {
            let (code, line) = problem.exit("tool");
            format!("{code} {line}")
        })
        .concat();
        insta::assert_snapshot!(text);
    }
}
