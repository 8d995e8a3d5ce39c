//! What documents say about the source tree.

/// Functions that a text names as `path.rs::function`, each with its line.
pub(crate) fn named_functions(text: &str) -> Vec<(usize, String, String)> {
    let mut functions = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        for code in line.split('`').skip(1).step_by(2) {
            if let Some((file, function)) = code.split_once(".rs::") {
                functions.push((number, format!("{file}.rs"), function.to_owned()));
            }
        }
    }
    functions
}

/// Whether Rust code holds `fn NAME`.
pub(crate) fn declares_function(code: &str, name: &str) -> bool {
    let words: Vec<&str> = code
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .collect();
    words.windows(2).any(|pair| pair == ["fn", name])
}

/// Rows of tables with the columns "made by" and "shown by" that name no code or no test.
pub(crate) fn incomplete_rows(text: &str) -> Vec<(usize, &'static str)> {
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim_matches('|');
        inner
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    let mut head = Vec::new();
    let mut findings = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        if !line.starts_with('|') {
            head.clear();
        } else if head.is_empty() {
            head = cells(line);
        } else if !line.starts_with("| ---") {
            for (name, cell) in head.iter().zip(cells(line)) {
                match name.as_str() {
                    "made by" if !cell.contains(".rs::") => {
                        findings.push((number, "the row names no code"));
                    }
                    "shown by" if !cell.contains(".rs::") => {
                        findings.push((number, "the row names no test"));
                    }
                    _ => {}
                }
            }
        }
    }
    findings
}

/// What stands in backticks and looks like a path of this repository, with its line.
pub(crate) fn named_files(text: &str) -> Vec<(String, usize)> {
    let folders = [
        "src/",
        "crates/",
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
    for (line, number) in text.lines().zip(1..) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced {
            continue;
        }
        for code in line.split('`').skip(1).step_by(2) {
            let word = code.split_whitespace().next().unwrap_or_default();
            let is_path = folders.iter().any(|folder| word.starts_with(folder));
            if is_path && !word.contains(['*', '<', '…', '{', '$']) {
                let path = word.split([':', '#']).next().unwrap_or(word);
                names.push((path.to_owned(), number));
            }
        }
    }
    names
}

#[test]
fn incomplete_rows_are_found() {
    let row = |made: &str, shown: &str| {
        format!(
            "| from → to | made by | shown by |\n| --- | --- | --- |\n| a → b | {made} | {shown} |\n"
        )
    };
    assert!(incomplete_rows(&row("`src/a.rs::b`", "`tests/c.rs::d`")).is_empty());
    let without_code = row("a person", "`tests/c.rs::d`");
    assert_eq!(
        incomplete_rows(&without_code),
        [(3, "the row names no code")]
    );
    let without_test = row("`src/a.rs::b`", "");
    assert_eq!(
        incomplete_rows(&without_test),
        [(3, "the row names no test")]
    );
    let named = named_functions("x\n`a/b.rs::c`, `d.rs` `e::f`");
    assert_eq!(named, [(2, "a/b.rs".to_owned(), "c".to_owned())]);
}

#[test]
fn named_files_are_found() {
    let text = "a `src/lib.rs:3` and `scripts/test --fast`\n```\n`src/no.rs`\n```\n\
                `docs/*.md` `src/<x>.rs` src/plain.rs `runs/x` `tests/rules.rs`";
    let expected = [
        ("src/lib.rs".to_owned(), 1),
        ("scripts/test".to_owned(), 1),
        ("tests/rules.rs".to_owned(), 5),
    ];
    assert_eq!(named_files(text), expected);
}
