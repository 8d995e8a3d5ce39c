//! The messages of `quire ci check` for invalid pipelines. Each file of tests/bad_pipelines has a
//! snapshot beside it.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::protocol::{Language, PipelineSource};
use super::register_in_process;
use crate::Pipeline;

/// All problems of a pipeline, each with its location, source line and hint.
fn problems(file: &str, text: String) -> String {
    let language = if file.ends_with(".lua") {
        Language::Lua
    } else {
        Language::Fennel
    };
    let source = PipelineSource {
        language,
        file: file.to_owned(),
        text,
        helpers: Vec::new(),
    };
    // Only the endless loop reaches its limit; the others get enough time on a busy machine.
    let limit = Duration::from_secs(if file.starts_with("endless_loop") {
        2
    } else {
        30
    });
    let problems = register_in_process(source.clone(), limit)
        .and_then(|registration| Pipeline::check_among(registration, &source.texts(), false))
        .err()
        .unwrap_or_default();
    let mut shown = String::new();
    for problem in problems {
        writeln!(shown, "{problem}").unwrap();
        if let Some(line) = &problem.source_line {
            writeln!(shown, "  | {line}").unwrap();
        }
        if let Some(hint) = &problem.hint {
            writeln!(shown, "  help: {hint}").unwrap();
        }
    }
    shown
}

#[test]
fn problems_of_bad_pipelines() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_pipelines");
    let mut files: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".fnl") || name.ends_with(".lua"))
        .collect();
    files.sort();
    assert!(files.len() > 15, "{files:?}");
    insta::with_settings!({
        snapshot_path => &folder,
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        for file in files {
            let text = std::fs::read_to_string(folder.join(&file)).unwrap();
            let shown = problems(&file, text);
            assert!(!shown.is_empty(), "{file} is valid");
            insta::assert_snapshot!(file, shown);
        }
    });
}
