//! The grammars, and which one a file has.

use std::collections::HashMap;
use std::sync::LazyLock;

use syntect::parsing::{SyntaxReference, SyntaxSet};

use super::regex_limits;

/// The longest first line that is looked at.
const MAX_FIRST_LINE: usize = 200;
/// Names and extensions that the grammars do not list, with one that they do.
const ALIASES: [(&str, &str); 8] = [
    ("cargo.lock", "toml"),
    ("cjs", "js"),
    ("cts", "ts"),
    ("fnl", "clj"),
    ("jsonl", "json"),
    ("mjs", "js"),
    ("mts", "ts"),
    ("poetry.lock", "toml"),
];

struct Grammars {
    set: SyntaxSet,
    /// Names of files and extensions, in small letters.
    by_name: HashMap<String, usize>,
}

static GRAMMARS: LazyLock<Grammars> = LazyLock::new(|| {
    regex_limits::set();
    let set = two_face::syntax::extra_newlines();
    let mut by_name = HashMap::new();
    for (at, syntax) in set.syntaxes().iter().enumerate() {
        if syntax.name != "Plain Text" {
            let names = syntax.file_extensions.iter();
            by_name.extend(names.map(|name| (name.to_ascii_lowercase(), at)));
        }
    }
    for (alias, name) in ALIASES {
        if let Some(at) = by_name.get(name).copied() {
            by_name.insert(alias.to_owned(), at);
        }
    }
    Grammars { set, by_name }
});

/// The grammar of a language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grammar(usize);

impl Grammar {
    /// The grammar of a file by its name, or by its first line; `None` if it has none.
    #[must_use]
    pub fn of(name: &[u8], first_line: &[u8]) -> Option<Self> {
        let name = str::from_utf8(name).ok()?.to_ascii_lowercase();
        let by_name = &GRAMMARS.by_name;
        let extension = || by_name.get(name.rsplit_once('.')?.1);
        if let Some(at) = by_name.get(&name).or_else(extension) {
            return Some(Self(*at));
        }
        let line = &first_line[..first_line.len().min(MAX_FIRST_LINE)];
        Self::of_first_line(str::from_utf8(line).ok()?)
    }

    /// The grammar that a first line such as `#!/bin/sh` names.
    fn of_first_line(line: &str) -> Option<Self> {
        // All expressions would be compiled for a line that says nothing.
        if !(line.starts_with("#!") || line.starts_with("<?") || line.contains("-*-")) {
            return None;
        }
        let found = GRAMMARS.set.find_syntax_by_first_line(line)?;
        let mut all = GRAMMARS.set.syntaxes().iter();
        all.position(|one| std::ptr::eq(one, found)).map(Self)
    }

    pub(crate) fn syntax(self) -> Option<&'static SyntaxReference> {
        GRAMMARS.set.syntaxes().get(self.0)
    }

    pub(crate) fn set() -> &'static SyntaxSet {
        &GRAMMARS.set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(file: &str, first_line: &str) -> Option<&'static str> {
        let grammar = Grammar::of(file.as_bytes(), first_line.as_bytes())?;
        Some(grammar.syntax().unwrap().name.as_str())
    }

    #[test]
    fn a_file_has_a_grammar_by_its_name_or_its_first_line() {
        for (file, first_line, name) in [
            ("main.rs", "", Some("Rust")),
            ("MAIN.RS", "", Some("Rust")),
            ("ci.fnl", "", Some("Clojure")),
            ("Dockerfile", "", Some("Dockerfile")),
            ("Makefile", "", Some("Makefile")),
            ("Cargo.lock", "", Some("TOML")),
            ("x.mjs", "", Some("JavaScript (Babel)")),
            ("run", "#!/bin/sh", Some("Bourne Again Shell (bash)")),
            ("run", "#!/usr/bin/env python3", Some("Python")),
            ("notes.txt", "", None),
            ("run", "echo", None),
            ("none", "", None),
        ] {
            assert_eq!(name_of(file, first_line), name, "{file} {first_line}");
        }
        assert_eq!(Grammar::of(b"\xff.rs", b""), None);
    }

    /// Of some grammars the licence must be shown where they are distributed.
    #[test]
    fn licences_of_grammars_are_in_the_image() {
        let mut text = String::new();
        for licence in two_face::acknowledgement::listing().for_syntaxes() {
            licence.write_md(&mut text);
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../image/grammar-licences");
        if std::env::var("INSTA_UPDATE").as_deref() == Ok("always") {
            std::fs::write(path, &text).unwrap();
        }
        let there = std::fs::read_to_string(path).unwrap();
        assert!(
            there == text,
            "image/grammar-licences is another; INSTA_UPDATE=always writes it"
        );
    }
}
