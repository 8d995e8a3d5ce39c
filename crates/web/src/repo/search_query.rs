//! What a search page is asked for: the parts of its query, what they mean, and the address of another search.

use super::super::error::WebError;
use super::address::{encoded_bytes, query_value, search_link};
use quire_git::read::{
    CodeCursor, CodeQuery, HistoryCursor, PathCursor, PathGlobs, PathGlobsError, PathQuery,
    PatternError, RevPath, TextPattern,
};

/// Lines of one file that a page shows.
const MAX_FILE_LINES: usize = 20;

/// What is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum SearchKind {
    #[default]
    Code,
    Paths,
    Commits,
}

impl SearchKind {
    pub(super) const ALL: [Self; 3] = [Self::Code, Self::Paths, Self::Commits];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Paths => "paths",
            Self::Commits => "commits",
        }
    }
}

/// The query of a search page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SearchQuery {
    pub(super) text: String,
    pub(super) kind: SearchKind,
    pub(super) is_regex: bool,
    /// Globs of paths.
    pub(super) paths: Vec<u8>,
    /// The revision as the address spells it.
    pub(super) rev: Vec<u8>,
    /// Where to go on.
    pub(super) after: Option<Vec<u8>>,
}

impl Default for SearchQuery {
    fn default() -> Self {
        Self {
            text: String::new(),
            kind: SearchKind::Code,
            is_regex: false,
            paths: Vec::new(),
            rev: b"HEAD".to_vec(),
            after: None,
        }
    }
}

/// A search that can be made.
pub(super) enum SearchRequest {
    /// There is nothing to search for yet.
    Nothing,
    Code(CodeQuery),
    Paths(PathQuery),
    /// What commits must match, and where to go on.
    Commits(TextPattern, Option<HistoryCursor>),
}

/// Why a search cannot be made.
pub(super) enum SearchProblem {
    /// A sentence for the person who asked.
    Sentence(String),
    /// The address is none that a page has written.
    BadAddress,
}

impl SearchQuery {
    /// Reads the query of an address. Empty fields, as a form sends them, are none.
    pub(super) fn parse(query: &str) -> Result<Self, WebError> {
        let value = |name| query_value(query, name).filter(|value| !value.is_empty());
        let kind = value("type").unwrap_or_else(|| b"code".to_vec());
        let kind = SearchKind::ALL
            .into_iter()
            .find(|known| known.as_str().as_bytes() == kind)
            .ok_or(WebError::NotFound)?;
        let text = String::from_utf8(value("q").unwrap_or_default()).map_err(|_| {
            WebError::BadRequest("The text to search for is not valid UTF-8".to_owned())
        })?;
        Ok(Self {
            text,
            kind,
            is_regex: kind != SearchKind::Paths && value("regex").is_some(),
            paths: match kind {
                SearchKind::Commits => Vec::new(),
                _ => value("path").unwrap_or_default(),
            },
            rev: value("rev").unwrap_or_else(|| b"HEAD".to_vec()),
            after: value("after"),
        })
    }

    pub(super) fn rev(&self) -> Result<RevPath, WebError> {
        RevPath::parse(&self.rev).ok_or(WebError::NotFound)
    }

    /// The address of this search.
    pub(super) fn link(&self, base: &str) -> String {
        let kind = match self.kind {
            SearchKind::Code => &b""[..],
            kind => kind.as_str().as_bytes(),
        };
        let rev = match self.rev.as_slice() {
            b"HEAD" => &b""[..],
            rev => rev,
        };
        let regex = if self.is_regex { &b"1"[..] } else { b"" };
        let values = [
            ("q", self.text.as_bytes()),
            ("type", kind),
            ("path", &self.paths),
            ("regex", regex),
            ("rev", rev),
            ("after", self.after.as_deref().unwrap_or_default()),
        ];
        let values: Vec<String> = values
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name}={}", encoded_bytes(value)))
            .collect();
        let page = search_link(base);
        match values.is_empty() {
            true => page,
            false => format!("{page}?{}", values.join("&")),
        }
    }

    /// The search that it stands for.
    pub(super) fn search(&self) -> Result<SearchRequest, SearchProblem> {
        if self.text.trim().is_empty() {
            return Ok(SearchRequest::Nothing);
        }
        let after = self.after.as_deref();
        let paths = || {
            let globs = PathGlobs::parse(&self.paths);
            globs.map_err(|problem| SearchProblem::Sentence(globs_problem(problem)))
        };
        Ok(match self.kind {
            SearchKind::Code => SearchRequest::Code(CodeQuery {
                pattern: self.pattern()?,
                paths: paths()?,
                after: cursor(after, CodeCursor::parse)?.unwrap_or_default(),
                max_file_lines: MAX_FILE_LINES,
            }),
            SearchKind::Paths => SearchRequest::Paths(PathQuery {
                text: self.text.clone(),
                paths: paths()?,
                after: cursor(after, PathCursor::parse)?,
            }),
            SearchKind::Commits => {
                let parse = |bytes: &[u8]| HistoryCursor::parse(std::str::from_utf8(bytes).ok()?);
                SearchRequest::Commits(self.pattern()?, cursor(after, parse)?)
            }
        })
    }

    fn pattern(&self) -> Result<TextPattern, SearchProblem> {
        let pattern = match self.is_regex {
            true => TextPattern::regex(&self.text),
            false => TextPattern::literal(&self.text),
        };
        pattern.map_err(|problem| SearchProblem::Sentence(pattern_problem(&problem)))
    }
}

fn cursor<T>(
    after: Option<&[u8]>,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<Option<T>, SearchProblem> {
    after
        .map(|bytes| parse(bytes).ok_or(SearchProblem::BadAddress))
        .transpose()
}

/// Why something cannot be searched for, as a sentence.
pub(super) fn pattern_problem(problem: &PatternError) -> String {
    match problem {
        PatternError::TooLong { max } => format!("The text is longer than {max} bytes."),
        PatternError::LineBreak => {
            "A search looks at each line by itself, so the text must not contain a line break."
                .to_owned()
        }
        PatternError::Syntax { problem, at } => {
            format!("The regular expression is not valid at character {at}: {problem}.")
        }
        PatternError::TooLarge => {
            "The regular expression needs more memory than is allowed. Make it shorter, or its repetitions smaller."
                .to_owned()
        }
    }
}

fn globs_problem(problem: PathGlobsError) -> String {
    match problem {
        PathGlobsError::TooLong { max } => {
            format!("The globs of paths are longer than {max} bytes.")
        }
        PathGlobsError::TooMany { max } => format!("There are more than {max} globs of paths."),
        PathGlobsError::TooManyStars { max } => {
            format!("A glob of paths has `**` more than {max} times.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_it_is_written() {
        let parsed = |query: &str| SearchQuery::parse(query).unwrap();
        let full = SearchQuery {
            text: "a+b c&<\u{e9}>".to_owned(),
            kind: SearchKind::Code,
            is_regex: true,
            paths: b"*.rs !x\\ y \xff".to_vec(),
            rev: b"refs/heads/#1".to_vec(),
            after: Some(b"20:a b\n\xff".to_vec()),
        };
        for query in [
            full.clone(),
            SearchQuery::default(),
            SearchQuery {
                kind: SearchKind::Commits,
                paths: Vec::new(),
                ..full
            },
        ] {
            let link = query.link("/app");
            assert!(
                link.starts_with("/app/-/search") && link.is_ascii(),
                "{link}"
            );
            assert_eq!(
                parsed(link.split_once('?').map_or("", |(_, query)| query)),
                query
            );
        }
        // As forms send it.
        let sent = parsed("q=fn+main%28&type=paths&path=&regex=1&rev=");
        assert_eq!((sent.text.as_str(), sent.is_regex), ("fn main(", false));
        assert_eq!(
            (sent.rev.as_slice(), sent.paths.as_slice()),
            (&b"HEAD"[..], &b""[..])
        );
        for bad in ["type=x", "q=%ff"] {
            assert!(SearchQuery::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_search_that_cannot_be_made_says_why() {
        let shown = |query: &str| match SearchQuery::parse(query).unwrap().search() {
            Ok(SearchRequest::Nothing) => "nothing".to_owned(),
            Ok(_) => "a search".to_owned(),
            Err(SearchProblem::Sentence(sentence)) => sentence,
            Err(SearchProblem::BadAddress) => "not found".to_owned(),
        };
        let long = format!("q={}", "x".repeat(1001));
        let large = format!("regex=1&q={}", "%5Cw{100}".repeat(20));
        let globs = format!("q=x&path={}", "a+".repeat(33));
        let stars = format!("q=x&path={}", "**/a/".repeat(9));
        let queries = [
            "",
            "q=+",
            "q=(",
            "q=(&regex=1",
            "q=%5Cn&regex=1",
            "q=a%0Ab",
            &long,
            &large,
            &globs,
            &stars,
            "q=x&after=1:a",
            "q=x&after=a",
            "q=x&type=paths&after=-5:a",
            "q=x&type=paths&after=x",
            "q=x&type=commits&after=x",
            "q=(a%5C1)&regex=1&type=commits",
        ];
        insta::assert_snapshot!(queries.map(shown).join("\n"));
    }
}
