//! Rules of the source tree that neither the compiler nor clippy checks: no cycles between the files
//! of a crate, the order of the crates, sizes, unique type names, and documents that name real things.

#![expect(
    clippy::unwrap_used,
    reason = "a check that cannot read the sources has to fail"
)]

#[path = "rules/documents.rs"]
mod documents;
#[path = "rules/source_tree.rs"]
mod source_tree;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use source_tree::{Crate, file_cycles};

/// The longest file, in lines as rustfmt's defaults write it; items under `#[cfg(test)]` are not counted.
const MAX_FILE_LINES: usize = 500;

/// The longest function, in lines from its signature to its closing brace.
const MAX_FUNCTION_LINES: usize = 80;

/// The crates, each before those that may depend on it. `quire` is the root package.
const CRATE_ORDER: [&str; 16] = [
    "step",
    "step-helper",
    "step-program",
    "types",
    "runtime",
    "run-files",
    "pipeline",
    "config",
    "git",
    "highlight",
    "store",
    "executor",
    "init",
    "server",
    "web",
    "quire",
];

/// Libraries that only one crate may use, so that what they are for has one place.
const ONLY_IN: [(&str, &str); 12] = [
    ("askama", "web"),
    ("axum", "web"),
    ("bollard", "executor"),
    ("chacha20poly1305", "step"),
    ("clap", "quire"),
    ("gix", "git"),
    ("mlua", "pipeline"),
    ("rusqlite", "store"),
    ("signal-hook", "init"),
    ("snow", "step"),
    ("syntect", "highlight"),
    ("x25519-dalek", "step"),
];

/// Crates that must not depend on an async runtime.
const WITHOUT_TOKIO: [&str; 2] = ["types", "init"];

/// Crates that may hold `unsafe` blocks, each with a comment that says why it is sound.
const MAY_BE_UNSAFE: [&str; 4] = ["highlight", "init", "runtime", "step-helper"];

/// Type names that several modules may declare: each is private to a command or a test double.
const REPEATED_TYPE_NAMES: [&str; 0] = [];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` with this extension, sorted.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Fails with all findings at once.
fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// The source of a workspace crate; `quire` is the root package.
fn source_of(name: &str) -> Crate {
    let folder = if name == "quire" {
        root().to_owned()
    } else {
        root().join("crates").join(name)
    };
    Crate::read(&folder)
}

fn all_crates() -> Vec<Crate> {
    CRATE_ORDER.iter().map(|name| source_of(name)).collect()
}

#[test]
fn files_of_a_crate_form_no_cycle() {
    let mut findings = Vec::new();
    for source in all_crates() {
        for cycle in file_cycles(&source) {
            findings.push(format!("{}: cycle between {}", source.name, cycle));
        }
    }
    assert_none(&findings);
}

/// The names under `[dependencies]` of a crate.
fn dependencies(name: &str) -> Vec<String> {
    let folder = if name == "quire" {
        PathBuf::new()
    } else {
        Path::new("crates").join(name)
    };
    let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
    let section = text.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    section
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|dependency| !dependency.is_empty() && !dependency.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn crates_depend_downward_only() {
    let mut findings = Vec::new();
    for (position, name) in CRATE_ORDER.iter().enumerate() {
        for dependency in dependencies(name) {
            if let Some(other) = dependency.strip_prefix("quire-")
                && !CRATE_ORDER[..position].contains(&other)
            {
                findings.push(format!("`{name}` must not depend on `{other}`"));
            }
            if let Some((_, only)) = ONLY_IN.iter().find(|(library, _)| *library == dependency)
                && only != name
            {
                findings.push(format!(
                    "`{name}` must not use `{dependency}`; only `{only}` does"
                ));
            }
            if dependency == "tokio" && WITHOUT_TOKIO.contains(name) {
                findings.push(format!("`{name}` must not depend on tokio"));
            }
        }
    }
    let listed = fs::read_dir(root().join("crates")).unwrap();
    for folder in listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        if folder != "testkit" && !CRATE_ORDER.contains(&folder.as_str()) {
            findings.push(format!("crates/{folder} is missing in CRATE_ORDER"));
        }
    }
    assert_none(&findings);
}

#[test]
fn files_and_functions_are_small() {
    let mut findings = Vec::new();
    for source in all_crates() {
        for file in &source.files {
            if file.lines > MAX_FILE_LINES {
                findings.push(format!("{}: {} lines", file.shown(), file.lines));
            }
            for function in &file.functions {
                if function.lines > MAX_FUNCTION_LINES {
                    findings.push(format!(
                        "{}:{}: `{}` has {} lines",
                        file.shown(),
                        function.first_line,
                        function.name,
                        function.lines
                    ));
                }
            }
        }
    }
    assert_none(&findings);
}

#[test]
fn a_type_name_is_declared_once() {
    let mut declared: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in all_crates() {
        for file in &source.files {
            for (name, line) in &file.types {
                let place = format!("{}:{line}", file.shown());
                declared.entry(name.clone()).or_default().push(place);
            }
        }
    }
    let repeated = declared
        .iter()
        .filter(|(name, places)| places.len() > 1 && !REPEATED_TYPE_NAMES.contains(&name.as_str()));
    let findings: Vec<String> = repeated
        .map(|(name, places)| format!("`{name}` is declared in {}", places.join(", ")))
        .collect();
    assert_none(&findings);
}

#[test]
fn unsafe_code_stays_where_it_is_allowed() {
    let mut findings = Vec::new();
    for source in all_crates() {
        for file in source.files.iter().filter(|file| file.allows_unsafe) {
            if !MAY_BE_UNSAFE.contains(&source.name.as_str()) {
                findings.push(format!("{} allows unsafe code", file.shown()));
            }
        }
    }
    assert_none(&findings);
}

#[test]
fn files_are_named_after_what_they_hold() {
    let vague = ["util", "utils", "common", "helpers", "misc"];
    let is_vague = |path: &PathBuf| {
        path.iter()
            .any(|part| vague.contains(&part.to_str().unwrap().trim_end_matches(".rs")))
    };
    let findings: Vec<String> = ["src", "crates", "tests"]
        .iter()
        .flat_map(|folder| files(&root().join(folder), "rs"))
        .map(|path| path.strip_prefix(root()).unwrap().to_owned())
        .filter(is_vague)
        .map(|path| format!("{}: name it after what it holds", path.display()))
        .collect();
    assert_none(&findings);
}

#[test]
fn every_test_file_is_part_of_a_test_binary() {
    let mut findings = Vec::new();
    for entry in fs::read_dir(root().join("tests")).unwrap() {
        let folder = entry.unwrap().path();
        let main = folder.join("main.rs");
        if !main.is_file() {
            continue;
        }
        let declared: Vec<String> = files(&folder, "rs")
            .iter()
            .flat_map(|path| {
                let text = fs::read_to_string(path).unwrap();
                text.lines()
                    .map(|line| line.trim().to_owned())
                    .collect::<Vec<_>>()
            })
            .collect();
        for path in files(&folder, "rs") {
            // A folder's `mod.rs` is declared by the folder's name.
            let module = if path.ends_with("mod.rs") {
                path.parent().unwrap()
            } else {
                &path
            };
            let stem = module.file_stem().unwrap().to_str().unwrap();
            let declaration = format!("mod {stem};");
            if path != main && !declared.iter().any(|line| line.ends_with(&declaration)) {
                findings.push(format!(
                    "{} is declared by no `{declaration}`",
                    path.display()
                ));
            }
        }
    }
    assert_none(&findings);
}

#[test]
fn every_fault_point_is_named_by_a_test() {
    let tests: String = files(&root().join("tests/faults"), "rs")
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let mut points = 0;
    let mut findings = Vec::new();
    let sources = ["src", "crates"];
    for path in sources
        .iter()
        .flat_map(|folder| files(&root().join(folder), "rs"))
    {
        let text = fs::read_to_string(&path).unwrap();
        for call in ["fault::point(", "failpoint::hit("] {
            for part in text.split(call).skip(1) {
                let name = part
                    .strip_prefix('"')
                    .and_then(|rest| rest.split('"').next());
                let name = name.unwrap_or_default();
                points += 1;
                if name.is_empty() || !tests.contains(&format!("\"{name}\"")) {
                    findings.push(format!("{}: no test names `{name}`", path.display()));
                }
            }
        }
    }
    assert!(points > 20, "the fault points are gone");
    assert_none(&findings);
}

#[test]
fn documents_name_files_that_exist() {
    let readme = root().join("README.md");
    let contributing = root().join("CONTRIBUTING.md");
    let documents = files(&root().join("docs"), "md");
    let mut findings = Vec::new();
    for path in documents.into_iter().chain([readme, contributing]) {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        for (name, line) in documents::named_files(&text) {
            if !root().join(&name).exists() {
                findings.push(format!(
                    "{}:{line}: `{name}` does not exist",
                    path.display()
                ));
            }
        }
    }
    assert_none(&findings);
}

#[test]
fn the_state_tables_name_code_and_tests() {
    let text = fs::read_to_string(root().join("docs/state.md")).unwrap();
    let mut findings: Vec<String> = documents::incomplete_rows(&text)
        .into_iter()
        .map(|(line, problem)| format!("docs/state.md:{line}: {problem}"))
        .collect();
    let functions = documents::named_functions(&text);
    assert!(functions.len() > 100, "the table of transitions is gone");
    for (line, file, function) in functions {
        let code = fs::read_to_string(root().join(&file)).unwrap_or_default();
        if !documents::declares_function(&code, &function) {
            findings.push(format!(
                "docs/state.md:{line}: `{file}` has no function `{function}`"
            ));
        }
    }
    assert_none(&findings);
}
