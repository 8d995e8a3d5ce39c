//! All error messages of this crate that users read, in one snapshot.

use std::io;
use std::time::Duration;

use crate::driver::DriverError;
use crate::fennel::{ValueError, ValuePath};
use crate::{
    CronError, CronSchedule, Diagnostic, DurationError, JobSelectionError, Source, parse_duration,
};

#[test]
fn error_messages() {
    let invalid = Diagnostic {
        message: "job `a` waits for itself".to_owned(),
        location: None,
        source_line: None,
        hint: None,
    };
    let messages = [
        DriverError::Spawn(io::Error::other("no such file")).to_string(),
        DriverError::Rejected(vec![invalid]).to_string(),
        DriverError::TimedOut(Duration::from_secs(5)).to_string(),
        DriverError::Died("it was killed by SIGKILL".to_owned()).to_string(),
        DriverError::Protocol("a line is not text".to_owned()).to_string(),
        DriverError::Unsandboxed("the kernel does not accept a system call filter".to_owned())
            .to_string(),
        DriverError::Io(io::Error::other("broken pipe")).to_string(),
        JobSelectionError::Source("quire/nope".to_owned(), vec!["quire/push".to_owned()])
            .to_string(),
        JobSelectionError::UnknownJob("lnit".parse().unwrap(), Some("lint".to_owned())).to_string(),
        JobSelectionError::UnknownJob("lnit".parse().unwrap(), None).to_string(),
        JobSelectionError::Unreached("gate".parse().unwrap(), Source::Push).to_string(),
        CronSchedule::parse(" ").unwrap_err().to_string(),
        CronSchedule::parse("daily").unwrap_err().to_string(),
        CronSchedule::parse("0 25 * * *").unwrap_err().to_string(),
        CronError::Never("0 4 30 2 *".to_owned()).to_string(),
        parse_duration("ten").unwrap_err().to_string(),
        DurationError::OutOfRange("0s".to_owned()).to_string(),
        ValueError::NotData(ValuePath::of("a"), "function").to_string(),
        ValueError::Cycle(ValuePath::of("me[1]")).to_string(),
        ValueError::Key(ValuePath::of(""), "integer").to_string(),
        ValueError::Number(ValuePath::of("a")).to_string(),
        ValueError::Text(ValuePath::of("a")).to_string(),
        ValueError::Depth(ValuePath::of("a"), 64).to_string(),
        ValueError::Values(100_000).to_string(),
        ValueError::Bytes(4 << 20).to_string(),
        ValueError::Lua("not enough memory".to_owned()).to_string(),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}
