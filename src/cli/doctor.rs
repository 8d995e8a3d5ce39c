//! `quire doctor`: lets the server check everything, and prints what to do about each fault.

use serde::Serialize;

use super::context::Context;
use super::error::{CommandError, FAILED};
use super::output::{Cell, Output};
use quire_server::doctor::{DoctorFinding, Grade};
use quire_server::forge;

#[derive(Serialize)]
struct FindingList<'a> {
    findings: &'a [DoctorFinding],
}

/// Prints what the checks found. The exit code is 1 if something does not work.
pub(super) fn doctor(context: &Context<'_>, out: &mut Output<'_>) -> Result<(), CommandError> {
    let findings = forge::doctor::examine(&context.forge())?;
    show(&findings, out)?;
    if findings.iter().any(|found| found.grade == Grade::Failed) {
        return Err(CommandError::exit_only(FAILED));
    }
    Ok(())
}

fn show(findings: &[DoctorFinding], out: &mut Output<'_>) -> Result<(), CommandError> {
    if out.json {
        return out.json(&FindingList { findings });
    }
    let rows: Vec<[Cell; 3]> = findings
        .iter()
        .map(|found| {
            [
                found.part.as_str().into(),
                found.grade.as_str().into(),
                found.text.as_str().into(),
            ]
        })
        .collect();
    out.table(["PART", "RESULT", ""], &rows)?;
    let advised = findings.iter().filter_map(|found| {
        let advice = found.advice.as_deref()?;
        Some(format!("{}: {advice}", found.part))
    });
    for (position, line) in advised.enumerate() {
        if position == 0 {
            out.line("\nWhat to do:")?;
        }
        out.line(&Cell::from(line).plain())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_types::clock::Millis;

    #[test]
    fn advice_follows_the_table() {
        let finding = |part: &str, grade, advice: Option<&str>| DoctorFinding {
            part: part.to_owned(),
            grade,
            text: format!("{part} was\nchecked"),
            advice: advice.map(str::to_owned),
        };
        let findings = [
            finding("database", Grade::Ok, None),
            finding("container", Grade::Failed, Some("start the engine")),
        ];
        let print = |findings: &[DoctorFinding], json| {
            let mut text = Vec::new();
            show(findings, &mut Output::test(&mut text, json, Millis(0))).unwrap();
            String::from_utf8(text).unwrap()
        };
        insta::assert_snapshot!(print(&findings, false), @r"
        PART       RESULT
        database   ok      database was checked
        container  failed  container was checked

        What to do:
        container: start the engine
        ");
        insta::assert_snapshot!(print(&findings, true), @r#"{"findings":[{"part":"database","grade":"ok","text":"database was\nchecked"},{"part":"container","grade":"failed","text":"container was\nchecked","advice":"start the engine"}]}"#);
        assert!(!print(&findings[..1], false).contains("What to do"));
    }
}
