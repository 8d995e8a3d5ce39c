//! The error messages of this crate that users read, in one snapshot.

use crate::names::{JobName, ObjectId, RefName, RepoName, RunId};
use crate::run::RunState;
use crate::token::RandomError;

#[test]
fn error_messages() {
    let messages = [
        "a b".parse::<RepoName>().unwrap_err().to_string(),
        "main".parse::<RefName>().unwrap_err().to_string(),
        "xyz".parse::<ObjectId>().unwrap_err().to_string(),
        "run".parse::<RunId>().unwrap_err().to_string(),
        "a b".parse::<JobName>().unwrap_err().to_string(),
        "done".parse::<RunState>().unwrap_err().to_string(),
        RandomError::sample().to_string(),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}
