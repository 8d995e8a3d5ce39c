//! The house's rules, as checks: which module may use which, how large files get, what may not
//! stand in code, and that documents name files that exist.

#![expect(
    clippy::unwrap_used,
    reason = "a check that cannot read the sources has to fail"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A file longer than this, tests left out, is to be split.
const MAX_LINES: usize = 600;

/// A module's level, and the modules that it may use beside those of levels 0 and 1 below it.
/// `a::b` allows that part of `a` only.
struct Module(&'static str, u8, &'static [&'static str]);

/// The order of modules. docs/architecture.md has it in words.
const MODULES: &[Module] = &[
    Module("causes", 0, &[]),
    Module("clock", 0, &["fault"]),
    Module("escapes", 0, &[]),
    Module("fault", 0, &[]),
    Module("live", 0, &["names"]),
    Module("meter", 0, &[]),
    Module("names", 0, &["clock"]),
    Module("paths", 0, &["names"]),
    Module("proc", 0, &[]),
    Module("public_keys", 0, &["paths"]),
    Module("secret", 0, &[]),
    Module("space", 0, &["paths"]),
    Module("token", 0, &[]),
    Module("pipeline", 1, &["run"]),
    Module("policy", 1, &["run"]),
    Module("run", 1, &[]),
    Module("artifacts", 2, &[]),
    Module("docker", 2, &[]),
    Module("fennel", 2, &[]),
    Module("git", 2, &[]),
    Module("logs", 2, &[]),
    Module("store", 2, &[]),
    Module("config", 3, &["fennel"]),
    Module("driver", 3, &["fennel"]),
    Module("executor", 3, &["docker", "logs"]),
    Module("housekeeping", 3, &["executor", "git", "store"]),
    Module(
        "intake",
        3,
        &["executor", "housekeeping", "queue", "store", "git"],
    ),
    Module("queue", 3, &["store"]),
    Module("renaming", 3, &["queue", "git", "store"]),
    Module(
        "runner",
        3,
        &[
            "queue",
            "executor",
            "driver",
            "git",
            "store",
            "logs",
            "artifacts",
        ],
    ),
    Module("hook", 4, &[]),
    Module("init", 4, &[]),
    Module(
        "serve",
        4,
        &[
            "config",
            "docker",
            "driver",
            "executor",
            "git",
            "housekeeping",
            "intake",
            "logs",
            "queue",
            "renaming",
            "runner",
            "store",
            "web",
        ],
    ),
    Module("ssh", 4, &["git"]),
    Module("web", 4, &["artifacts", "git", "store", "logs", "queue"]),
    Module("cli", 5, ALL),
    Module("main", 5, &["cli"]),
];

/// Everything below.
const ALL: &[&str] = &["*"];

/// Modules that may use level 0 only, and what is named here: what keeps the appliance alive stays small.
const SMALL: &[(&str, &[&str])] = &[("init", &[]), ("hook", &["run::event"]), ("main", &[])];

/// Modules that may hold `unsafe`.
const MAY_BE_UNSAFE: &[&str] = &["init", "proc"];

/// Folders of tests/ that are no test of their own.
const NO_TESTS: &[&str] = &["support", "fuzz"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` with this extension, in order.
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

/// A source file of the crate: its module path, and its code without comments, strings and tests.
struct Source {
    path: PathBuf,
    module: Vec<String>,
    tokens: Vec<Token>,
    /// Lines that are not test code.
    lines: usize,
}

fn sources() -> Vec<Source> {
    let folder = root().join("src");
    let is_test = |path: &Path| {
        path.iter()
            .any(|part| part == "tests" || part == "tests.rs")
    };
    let source = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let all = tokens(&text);
        let test_lines: usize = test_parts(&all)
            .iter()
            .map(|(from, to)| all[*to].line - all[*from].line + 1)
            .sum();
        let relative = path.strip_prefix(&folder).unwrap().with_extension("");
        let module = relative
            .iter()
            .map(|part| part.to_str().unwrap().to_owned())
            .filter(|part| part != "mod" && part != "lib")
            .collect();
        Source {
            module,
            tokens: without_tests(all),
            lines: text.lines().count() - test_lines,
            path,
        }
    };
    files(&folder, "rs")
        .into_iter()
        .filter(|path| !is_test(path.strip_prefix(&folder).unwrap()))
        .map(source)
        .collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    /// A word, or one other character.
    text: String,
    line: usize,
}

/// Words and other characters of Rust code; comments, strings, characters and white space left out.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut tokens, mut index, mut line) = (Vec::new(), 0, 1);
    while index < chars.len() {
        let start = index;
        match at(index) {
            '/' if at(index + 1) == '/' => {
                index = (index..chars.len())
                    .find(|i| chars[*i] == '\n')
                    .unwrap_or(chars.len())
            }
            '/' if at(index + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(index), at(index + 1)) {
                        ('/', '*') => (depth, index) = (depth + 1, index + 2),
                        ('*', '/') => (depth, index) = (depth - 1, index + 2),
                        _ => index += 1,
                    }
                    if depth == 0 || index >= chars.len() {
                        break;
                    }
                }
            }
            '"' => index = end_of_string(&chars, index),
            // 'x' and '\n' are characters, 'x is a lifetime.
            '\'' if at(index + 1) == '\\' => {
                index = (index + 3..chars.len())
                    .find(|i| chars[*i] == '\'')
                    .unwrap_or(chars.len())
                    + 1
            }
            '\'' if at(index + 2) == '\'' => index += 3,
            c if is_word(c) => {
                index = (index..chars.len())
                    .find(|i| !is_word(chars[*i]))
                    .unwrap_or(chars.len());
                let word: String = chars[start..index].iter().collect();
                let hashes = (index..chars.len())
                    .take_while(|i| chars[*i] == '#')
                    .count();
                if matches!(word.as_str(), "r" | "br" | "cr") && at(index + hashes) == '"' {
                    index = end_of_raw_string(&chars, index + hashes + 1, hashes);
                } else if matches!(word.as_str(), "b" | "c") && at(index) == '"' {
                    index = end_of_string(&chars, index);
                } else {
                    tokens.push(Token { text: word, line });
                }
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(Token {
                        text: c.to_string(),
                        line,
                    });
                }
                index += 1;
            }
        }
        index = index.min(chars.len());
        line += chars[start..index].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

fn end_of_string(chars: &[char], open: usize) -> usize {
    let mut index = open + 1;
    while index < chars.len() && chars[index] != '"' {
        index += if chars[index] == '\\' { 2 } else { 1 };
    }
    index + 1
}

fn end_of_raw_string(chars: &[char], from: usize, hashes: usize) -> usize {
    let closes = |i: &usize| {
        chars[*i] == '"' && chars[*i + 1..].iter().take_while(|c| **c == '#').count() >= hashes
    };
    (from..chars.len())
        .find(closes)
        .map_or(chars.len(), |i| i + 1 + hashes)
}

fn is(tokens: &[Token], at: usize, expected: &[&str]) -> bool {
    expected
        .iter()
        .enumerate()
        .all(|(n, text)| tokens.get(at + n).is_some_and(|token| token.text == *text))
}

/// First and last token of each item that stands behind `#[cfg(test)]`.
fn test_parts(tokens: &[Token]) -> Vec<(usize, usize)> {
    let mut parts = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !is(tokens, at, &["#", "[", "cfg", "(", "test", ")", "]"]) {
            at += 1;
            continue;
        }
        // To the `;` or the end of the first block outside of brackets.
        let (mut depth, mut end) = (0_usize, at + 7);
        while end < tokens.len() {
            match tokens[end].text.as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && matches!(tokens[end].text.as_str(), ";" | "}") {
                break;
            }
            end += 1;
        }
        parts.push((at, end.min(tokens.len() - 1)));
        at = end + 1;
    }
    parts
}

fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let parts = test_parts(&tokens);
    let in_test = |at: usize| parts.iter().any(|(from, to)| (*from..=*to).contains(&at));
    tokens
        .into_iter()
        .enumerate()
        .filter(|(at, _)| !in_test(*at))
        .map(|(_, token)| token)
        .collect()
}

/// Every path of the code that begins with `crate` or `super` (or `quire`, in main), from the root of the crate, with its line.
fn used_paths(module: &[String], tokens: &[Token]) -> Vec<(Vec<String>, usize)> {
    let mut paths = Vec::new();
    // Modules written inside the file that are open here, and the depth of braces they are closed at.
    let (mut inner, mut depth): (Vec<(String, usize)>, usize) = (Vec::new(), 0);
    let mut at = 0;
    while at < tokens.len() {
        let word = tokens[at].text.as_str();
        match word {
            "mod" if is(tokens, at + 2, &["{"]) => inner.push((tokens[at + 1].text.clone(), depth)),
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                inner.retain(|(_, at)| *at < depth);
            }
            "crate" | "super" | "quire"
                if is(tokens, at + 1, &[":", ":"]) && (word != "quire" || module == ["main"]) =>
            {
                let mut base: Vec<String> = Vec::new();
                if word == "super" {
                    base = module
                        .iter()
                        .cloned()
                        .chain(inner.iter().map(|(name, _)| name.clone()))
                        .collect();
                    base.pop();
                }
                at = tree(tokens, at + 3, base, &mut paths);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    paths
}

/// Reads what follows `crate::`: a path, or a tree of them in braces. Gives where it ends.
fn tree(
    tokens: &[Token],
    mut at: usize,
    mut base: Vec<String>,
    paths: &mut Vec<(Vec<String>, usize)>,
) -> usize {
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "{" => {
                at += 1;
                while at < tokens.len() && tokens[at].text != "}" {
                    if is(tokens, at, &[","]) {
                        at += 1;
                    } else if is(tokens, at, &["as"]) {
                        at += 2;
                    } else {
                        at = tree(tokens, at, base.clone(), paths).max(at + 1);
                    }
                }
                return at + 1;
            }
            "super" => {
                base.pop();
            }
            "self" => {}
            word => base.push(word.to_owned()),
        }
        at += 1;
        if !is(tokens, at, &[":", ":"]) {
            paths.push((base, token.line));
            return at;
        }
        at += 2;
    }
    at
}

/// Why a module may not use a path; none where it may.
fn objection(module: &str, path: &[String]) -> Option<String> {
    let find = |name: &str| MODULES.iter().find(|Module(known, ..)| *known == name);
    let Some(Module(_, level, named)) = find(module) else {
        return Some(format!("`{module}` is in no level: add it to MODULES"));
    };
    // An item of lib.rs itself, a macro, or the module itself.
    let used = path.first().and_then(|first| find(first))?;
    let Module(name, used_level, _) = used;
    let matches = |allowed: &&str| {
        allowed.split("::").eq(path
            .iter()
            .take(allowed.split("::").count())
            .map(String::as_str))
    };
    if *name == module || named.iter().any(matches) {
        return None;
    }
    if let Some((_, small)) = SMALL.iter().find(|(small, _)| *small == module) {
        let fine = *used_level == 0 || small.iter().any(matches);
        return if fine {
            None
        } else {
            Some(format!(
                "`{module}` may use level 0 only, not `{}`",
                path.join("::")
            ))
        };
    }
    if used_level > level {
        return Some(format!(
            "`{module}` (level {level}) uses `{}` (level {used_level}): upward",
            path.join("::")
        ));
    }
    if used_level < level && (*used_level <= 1 || named == &ALL) {
        return None;
    }
    Some(format!(
        "`{module}` (level {level}) uses `{}` (level {used_level}), which MODULES does not allow it",
        path.join("::")
    ))
}

/// Fails with all findings at once.
fn none(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

fn place(source: &Source, line: usize) -> String {
    format!(
        "{}:{line}",
        source.path.strip_prefix(root()).unwrap().display()
    )
}

#[test]
fn modules_use_what_lies_below_them() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| !source.module.is_empty()) {
        for (path, line) in used_paths(&source.module, &source.tokens) {
            findings.extend(
                objection(&source.module[0], &path)
                    .map(|why| format!("{}: {why}", place(source, line))),
            );
        }
    }
    none(findings);
}

#[test]
fn every_module_has_a_level_and_lib_lists_them_in_that_order() {
    let lib = tokens(&fs::read_to_string(root().join("src/lib.rs")).unwrap());
    let listed: Vec<&str> = lib
        .windows(2)
        .filter(|pair| pair[0].text == "mod")
        .map(|pair| pair[1].text.as_str())
        .collect();
    let levels: BTreeMap<&str, u8> = MODULES
        .iter()
        .map(|Module(name, level, _)| (*name, *level))
        .collect();
    let unknown = listed
        .iter()
        .filter(|name| !levels.contains_key(*name))
        .map(|name| format!("`{name}` is not in MODULES"));
    none(unknown.collect());
    assert!(
        listed.iter().map(|name| levels[name]).is_sorted(),
        "src/lib.rs does not list modules by level: {listed:?}"
    );
}

#[test]
fn the_document_on_architecture_has_the_same_levels() {
    let Ok(text) = fs::read_to_string(root().join("docs/architecture.md")) else {
        return;
    };
    let mut findings = Vec::new();
    for Module(name, level, _) in MODULES.iter().filter(|Module(name, ..)| *name != "main") {
        let rows = text
            .lines()
            .filter(|line| line.starts_with("| ") && line.contains(&format!("`{name}`")));
        if !rows
            .clone()
            .any(|row| row.starts_with(&format!("| {level} ")))
        {
            findings.push(format!(
                "docs/architecture.md does not list `{name}` at level {level}"
            ));
        }
    }
    none(findings);
}

#[test]
fn files_are_small() {
    let mut sizes: Vec<(usize, String)> = sources()
        .iter()
        .map(|source| (source.lines, place(source, 1)))
        .collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    println!("largest files, tests left out:");
    sizes
        .iter()
        .take(5)
        .for_each(|(lines, path)| println!("{lines:5} {path}"));
    none(
        sizes
            .iter()
            .filter(|(lines, _)| *lines > MAX_LINES)
            .map(|(lines, path)| format!("{path}: {lines} lines, split it"))
            .collect(),
    );
}

#[test]
fn files_are_named_after_what_they_hold() {
    let vague = ["util", "utils", "common", "types", "helpers", "misc"];
    let is_vague = |path: &PathBuf| {
        path.iter()
            .any(|part| vague.contains(&part.to_str().unwrap().trim_end_matches(".rs")))
    };
    let all = files(&root().join("src"), "rs")
        .into_iter()
        .chain(files(&root().join("tests"), "rs"));
    let relative = all.map(|path| path.strip_prefix(root()).unwrap().to_owned());
    none(
        relative
            .filter(is_vague)
            .map(|path| format!("{}: name it after what it holds", path.display()))
            .collect(),
    );
}

#[test]
fn code_holds_nothing_that_is_forbidden() {
    let mut findings = Vec::new();
    for source in sources() {
        let module = source.module.first().map_or("", String::as_str);
        findings.extend(
            forbidden(&source.tokens, MAY_BE_UNSAFE.contains(&module))
                .into_iter()
                .map(|(what, line)| format!("{}: {what}", place(&source, line))),
        );
    }
    none(findings);
}

fn forbidden(tokens: &[Token], may_be_unsafe: bool) -> Vec<(&'static str, usize)> {
    let found = |at: usize| match tokens[at].text.as_str() {
        "unsafe" if !may_be_unsafe && !is(tokens, at, &["unsafe", "_", "code"]) => {
            Some("`unsafe` outside of init and proc")
        }
        "unwrap" | "expect"
            if at > 0 && tokens[at - 1].text == "." && is(tokens, at + 1, &["("]) =>
        {
            Some("unwrap or expect outside of tests")
        }
        "todo" | "unimplemented" | "dbg" if is(tokens, at + 1, &["!"]) => Some("unfinished code"),
        _ => None,
    };
    (0..tokens.len())
        .filter_map(|at| found(at).map(|what| (what, tokens[at].line)))
        .collect()
}

#[test]
fn no_test_is_forgotten() {
    let mut findings = Vec::new();
    for entry in fs::read_dir(root().join("tests")).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() || NO_TESTS.iter().any(|name| folder.ends_with(name)) {
            continue;
        }
        let main = folder.join("main.rs");
        if !main.is_file() {
            findings.push(format!(
                "{} has no main.rs, so cargo does not run it",
                folder.display()
            ));
            continue;
        }
        let declared: Vec<Token> = files(&folder, "rs")
            .iter()
            .flat_map(|path| tokens(&fs::read_to_string(path).unwrap()))
            .collect();
        for path in files(&folder, "rs")
            .into_iter()
            .filter(|path| *path != main && !path.ends_with("mod.rs"))
        {
            let name = path.file_stem().unwrap().to_str().unwrap();
            if !(0..declared.len()).any(|at| is(&declared, at, &["mod", name, ";"])) {
                findings.push(format!(
                    "{} is declared by no `mod {name};`",
                    path.display()
                ));
            }
        }
    }
    none(findings);
}

#[test]
fn documents_name_files_that_exist() {
    let mut findings = Vec::new();
    for path in files(&root().join("docs"), "md")
        .into_iter()
        .chain([root().join("README.md")])
        .filter(|path| path.is_file())
    {
        let text = fs::read_to_string(&path).unwrap();
        let missing = named_files(&text)
            .into_iter()
            .filter(|(name, _)| !root().join(name).exists());
        findings.extend(
            missing
                .map(|(name, line)| format!("{}:{line}: `{name}` does not exist", path.display())),
        );
    }
    none(findings);
}

#[test]
fn the_document_on_states_names_code_and_tests_that_exist() {
    let text = fs::read_to_string(root().join("docs/state.md")).unwrap();
    let mut findings: Vec<String> = transitions(&text)
        .into_iter()
        .map(|(line, why)| format!("docs/state.md:{line}: {why}"))
        .collect();
    let named = named_functions(&text);
    assert!(named.len() > 100, "the table of transitions is gone");
    for (line, file, function) in named {
        let code = fs::read_to_string(root().join(&file)).unwrap_or_default();
        if !code
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .collect::<Vec<_>>()
            .windows(2)
            .any(|pair| pair == ["fn", &function])
        {
            findings.push(format!(
                "docs/state.md:{line}: `{file}` has no function `{function}`"
            ));
        }
    }
    none(findings);
}

#[test]
fn every_fault_point_is_used_by_a_test() {
    let tests: String = files(&root().join("tests/faults"), "rs")
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let (mut points, mut findings) = (0, Vec::new());
    for path in files(&root().join("src"), "rs") {
        for part in fs::read_to_string(&path)
            .unwrap()
            .split("fault::point(")
            .skip(1)
        {
            let name = part
                .strip_prefix('"')
                .and_then(|rest| rest.split('"').next())
                .unwrap_or_default();
            points += 1;
            if name.is_empty() || !tests.contains(&format!("\"{name}\"")) {
                findings.push(format!(
                    "{}: no test in tests/faults names the fault point `{name}`",
                    path.display()
                ));
            }
        }
    }
    assert!(points > 20, "the fault points are gone");
    none(findings);
}

/// Functions that a text names as `path.rs::function`, with their lines.
fn named_functions(text: &str) -> Vec<(usize, String, String)> {
    let words = |line: &str| {
        line.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let function = |word: String| {
        word.split_once(".rs::")
            .map(|(file, function)| (format!("{file}.rs"), function.to_owned()))
    };
    let numbered = text
        .lines()
        .zip(1..)
        .flat_map(|(line, number)| words(line).into_iter().map(move |word| (number, word)));
    numbered
        .filter_map(|(number, word)| {
            function(word).map(|(file, function)| (number, file, function))
        })
        .collect()
}

/// What is missing in tables that say by what something is made and shown: each row has to name code and a test.
fn transitions(text: &str) -> Vec<(usize, &'static str)> {
    let cells = |line: &str| {
        line.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect::<Vec<_>>()
    };
    let (mut findings, mut head) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        if !line.starts_with('|') {
            head.clear();
        } else if head.is_empty() {
            head = cells(line);
        } else if !line.starts_with("| ---") {
            for (name, cell) in head.iter().zip(cells(line)) {
                match name.as_str() {
                    "made by" if !cell.contains(".rs::") => {
                        findings.push((number + 1, "no code is named"))
                    }
                    "shown by" if !cell.contains(".rs::") => {
                        findings.push((number + 1, "no test is named"))
                    }
                    _ => {}
                }
            }
        }
    }
    findings
}

/// What stands in backticks and looks like a path of this repository, with its line.
fn named_files(text: &str) -> Vec<(String, usize)> {
    let folders = [
        "src/",
        "tests/",
        "docs/",
        "image/",
        "scripts/",
        "migrations/",
        "benches/",
        ".ci/",
    ];
    let mut fenced = false;
    let mut names = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let words = line
                .split('`')
                .skip(1)
                .step_by(2)
                .filter_map(|code| code.split_whitespace().next());
            let paths = words.filter(|word| {
                folders.iter().any(|folder| word.starts_with(folder))
                    && !word.contains(['*', '<', '…', '{', '$'])
            });
            names.extend(paths.map(|word| {
                (
                    word.split([':', '#']).next().unwrap_or(word).to_owned(),
                    number + 1,
                )
            }));
        }
    }
    names
}

/// The checks, on small texts: each has to be able to fail.
mod scanner {
    use super::*;

    fn words(text: &str) -> String {
        tokens(text)
            .into_iter()
            .map(|token| token.text)
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn paths(module: &str, text: &str) -> Vec<String> {
        let module: Vec<String> = module.split("::").map(str::to_owned).collect();
        used_paths(&module, &without_tests(tokens(text)))
            .into_iter()
            .map(|(path, _)| path.join("::"))
            .collect()
    }

    fn objects(module: &str, path: &str) -> bool {
        objection(
            module,
            &path.split("::").map(str::to_owned).collect::<Vec<_>>(),
        )
        .is_some()
    }

    #[test]
    fn comments_and_strings_are_left_out() {
        assert_eq!(words("a // b\nc /* d /* e */ f */ g"), "a c g");
        assert_eq!(
            words(r####"a "b \" c" d r#"e " f"# g b"h" br##"i"# "## j"####),
            "a d g j"
        );
        assert_eq!(
            words("'a' '\\'' '\\u{1f}' &'static str b'x'"),
            "& ' static str b"
        );
        assert_eq!(words("\"never closed"), "");
        assert_eq!(words("/* never closed"), "");
        assert_eq!(tokens("a\n\"b\nc\"\nd").last().unwrap().line, 4);
    }

    #[test]
    fn tests_are_left_out() {
        let text = "use a; #[cfg(test)] mod tests { fn f() { g(\"}\") } } fn h() {} #[cfg(test)] mod tests; #[cfg(test)] #[x(y)] fn z(a: [u8; 2]) {} b";
        let left: Vec<String> = without_tests(tokens(text))
            .into_iter()
            .map(|token| token.text)
            .collect();
        assert_eq!(left.join(" "), "use a ; fn h ( ) { } b");
    }

    #[test]
    fn paths_are_found_wherever_they_stand() {
        assert_eq!(
            paths(
                "a",
                "use crate::b::C; fn f() -> crate::d::E { crate::g!() }"
            ),
            ["b::C", "d::E", "g"]
        );
        assert_eq!(
            paths("a", "use crate::{b, c::{D, self, e::F as G}, h::*};"),
            ["b", "c::D", "c", "c::e::F", "h::*"]
        );
        assert_eq!(
            paths(
                "a::b::c",
                "use super::d; use super::super::e; use super::super::super::f;"
            ),
            ["a::b::d", "a::e", "f"]
        );
        assert_eq!(
            paths("a", "mod inner { use super::x; } use super::y;"),
            ["a::x", "y"]
        );
        assert_eq!(
            paths("a", "pub(crate) fn f() { pub(super) }"),
            Vec::<String>::new()
        );
        assert_eq!(
            paths(
                "a",
                "#[cfg(test)] mod tests { use crate::b; } // crate::c\n\"crate::d\""
            ),
            Vec::<String>::new()
        );
        assert_eq!(paths("main", "quire::cli::main()"), ["cli::main"]);
    }

    #[test]
    fn the_order_of_modules_holds() {
        for (module, path) in [
            ("store", "names::RepoName"),
            ("store", "run::Run"),
            ("runner", "driver::protocol::ToDriver"),
            ("config", "fennel::eval_data"),
            ("hook", "run::event::PushEvent"),
            ("cli", "serve"),
            ("serve", "web"),
            ("logs", "logs::line"),
            ("main", "cli::main"),
            ("logs", "no_module"),
        ] {
            assert!(!objects(module, path), "{module} may use {path}");
        }
        for (module, path) in [
            ("names", "run::Run"),
            ("names", "paths::Paths"),
            ("pipeline", "policy"),
            ("store", "git"),
            ("git", "runner"),
            ("runner", "docker"),
            ("config", "driver::dsl"),
            ("hook", "run::Run"),
            ("hook", "git"),
            ("init", "pipeline"),
            ("web", "docker"),
            ("web", "runner"),
            ("main", "serve"),
            ("new_one", "names"),
        ] {
            assert!(objects(module, path), "{module} may not use {path}");
        }
    }

    #[test]
    fn forbidden_code_is_found() {
        let found = |text: &str| forbidden(&without_tests(tokens(text)), false).len();
        assert_eq!(found("a.unwrap(); b\n.expect(\"c\"); unsafe {} todo!()"), 4);
        assert_eq!(
            found(
                "#[expect(unused)] fn expect() { x.unwrap_or(1); \"unsafe\" } #[cfg(test)] mod t { a.unwrap() } #![deny(unsafe_code)]"
            ),
            0
        );
        assert_eq!(forbidden(&tokens("unsafe {}"), true).len(), 0);
    }

    #[test]
    fn rows_without_code_or_test_are_found() {
        let row = |made: &str, shown: &str| {
            format!(
                "| from → to | made by | shown by |\n| --- | --- | --- |\n| a → b | {made} | {shown} |\n"
            )
        };
        assert!(transitions(&row("`src/a.rs::b`", "`tests/c.rs::d`")).is_empty());
        assert_eq!(
            transitions(&row("somebody", "`tests/c.rs::d`")),
            [(3, "no code is named")]
        );
        assert_eq!(
            transitions(&row("`src/a.rs::b`", "")),
            [(3, "no test is named")]
        );
        assert_eq!(
            named_functions("x\n`a/b.rs::c`, `d.rs` `e::f`"),
            [(2, "a/b.rs".to_owned(), "c".to_owned())]
        );
    }

    #[test]
    fn named_files_are_found() {
        let text = "a `src/lib.rs:3` and `scripts/test --fast`\n```\n`src/no.rs`\n```\n`docs/*.md` `src/<x>.rs` src/plain.rs `runs/x` `tests/rules.rs`";
        assert_eq!(
            named_files(text),
            [
                ("src/lib.rs".to_owned(), 1),
                ("scripts/test".to_owned(), 1),
                ("tests/rules.rs".to_owned(), 5)
            ]
        );
    }
}
