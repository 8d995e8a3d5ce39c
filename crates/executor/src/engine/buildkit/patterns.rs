//! Patterns of `.dockerignore`, as BuildKit's frontend passes them on: cleaned, without a leading `/`, and with a leading `!`
//! for an exception. The rules are those of `moby/patternmatcher`.

/// A pattern cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a pattern of paths")]
pub(super) struct InvalidPattern(String);

/// A list of patterns of which the last that matches decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Patterns(Vec<(PathPattern, bool)>);

impl Patterns {
    pub(super) fn parse<'a>(
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidPattern> {
        let parse = |text: &str| {
            let bare = text.strip_prefix('!');
            Ok((PathPattern::parse(bare.unwrap_or(text))?, bare.is_none()))
        };
        let patterns = patterns.into_iter().filter(|text| !text.is_empty());
        patterns.map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the patterns match a path, by itself or by a folder that it is in.
    pub(super) fn matches(&self, path: &str) -> bool {
        let last = self.0.iter().rev().find(|(pattern, _)| {
            std::iter::once(path)
                .chain(ancestors(path))
                .any(|path| pattern.matches(path))
        });
        last.is_some_and(|(_, positive)| *positive)
    }
}

/// The folders that a path is in, from the innermost on, without the top.
pub(super) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| Some(path.rsplit_once('/')?.0)).skip(1)
}

/// One pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathPattern(Vec<PatternToken>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum PatternToken {
    Char(char),
    /// `?`: one character, but no slash.
    One,
    /// `*`: any characters, but no slash.
    Star,
    /// `**` at the end: anything.
    Rest,
    /// `**` elsewhere: nothing, or anything up to a slash.
    Folders,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl PathPattern {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let invalid = || InvalidPattern(text.to_owned());
        let mut tokens = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            tokens.push(match c {
                '*' if rest.next_if_eq(&'*').is_some() => {
                    rest.next_if_eq(&'/');
                    match rest.peek() {
                        Some(_) => PatternToken::Folders,
                        None => PatternToken::Rest,
                    }
                }
                '*' => PatternToken::Star,
                '?' => PatternToken::One,
                '\\' => PatternToken::Char(rest.next().ok_or_else(invalid)?),
                '[' => class(&mut rest).ok_or_else(invalid)?,
                c => PatternToken::Char(c),
            });
        }
        Ok(Self(tokens))
    }

    /// Whether the pattern matches the whole text. Takes time in proportion to the lengths of both.
    pub(super) fn matches(&self, text: &str) -> bool {
        // Each token has two states: `2n` before it, `2n + 1` within `Folders`.
        let mut states = vec![false; 2 * self.0.len() + 1];
        states[0] = true;
        self.skip_optional(&mut states);
        for c in text.chars() {
            let mut next = vec![false; states.len()];
            for (n, token) in self.0.iter().enumerate() {
                let (before, within, after) = (2 * n, 2 * n + 1, 2 * n + 2);
                if *token == PatternToken::Folders && (states[before] || states[within]) {
                    next[within] = true;
                    next[after] |= c == '/';
                } else if states[before] {
                    match token {
                        PatternToken::Star => next[before] |= c != '/',
                        PatternToken::Rest => next[before] = true,
                        token => next[after] |= token.matches(c),
                    }
                }
            }
            self.skip_optional(&mut next);
            states = next;
        }
        states.last().copied().unwrap_or(false)
    }

    /// Enters the states that are reached without a character.
    fn skip_optional(&self, states: &mut [bool]) {
        for (n, token) in self.0.iter().enumerate() {
            let optional = matches!(
                token,
                PatternToken::Star | PatternToken::Rest | PatternToken::Folders
            );
            states[2 * n + 2] |= optional && states[2 * n];
        }
    }
}

impl PatternToken {
    fn matches(&self, c: char) -> bool {
        match self {
            Self::Char(own) => *own == c,
            Self::One => c != '/',
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *negated
            }
            Self::Star | Self::Rest | Self::Folders => false,
        }
    }
}

/// Reads what follows `[`; `None` if it is not closed.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<PatternToken> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let from = match rest.next()? {
            ']' if !ranges.is_empty() => return Some(PatternToken::Class { negated, ranges }),
            '\\' => rest.next()?,
            c => c,
        };
        let mut ahead = rest.clone();
        let to = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(to)) if to != ']' => {
                *rest = ahead;
                to
            }
            _ => from,
        };
        ranges.push((from, to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_docker_says() {
        for (pattern, matching, other) in [
            ("*", &["a", ".a", ""][..], &["a/b"][..]),
            ("*.md", &["a.md", ".md"], &["a/b.md", "a.mdx"]),
            ("**/*.md", &["a.md", "a/b.md", "a/b/c.md"], &["a.m"]),
            ("a/**", &["a/b", "a/b/c"], &["b/a"]),
            ("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["a/xb", "ab"]),
            ("**/a", &["a", "x/a"], &["xa", "a/x"]),
            ("**a", &["a", "x/a"], &["xa"]),
            ("a?c", &["abc"], &["a/c", "ac"]),
            ("[a-cx]", &["a", "b", "x"], &["d", "-"]),
            ("[^a-c]", &["d"], &["b"]),
            ("\\*", &["*"], &["a"]),
            ("a.b", &["a.b"], &["axb"]),
            ("**", &["a", "a/b"], &[]),
        ] {
            let parsed = PathPattern::parse(pattern).unwrap();
            for text in matching {
                assert!(parsed.matches(text), "{pattern} {text}");
            }
            for text in other {
                assert!(!parsed.matches(text), "{pattern} {text}");
            }
        }
        for invalid in ["[a", "a\\", "["] {
            assert!(PathPattern::parse(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let patterns = Patterns::parse(["docs", "*.md", "!docs/keep", "!README.md", ""]).unwrap();
        for (path, excluded) in [
            ("docs", true),
            ("docs/a", true),
            ("docs/keep", false),
            ("docs/keep/b", false),
            ("a.md", true),
            ("README.md", false),
            ("src/a.md", false),
            ("src", false),
        ] {
            assert_eq!(patterns.matches(path), excluded, "{path}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        let pattern = PathPattern::parse(&"**a".repeat(50)).unwrap();
        assert!(!pattern.matches(&"a/".repeat(500)));
    }
}
