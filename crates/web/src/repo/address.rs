//! Addresses of a repository's pages: read and written.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

use super::super::html::REPO_PREFIX;
use quire_git::read::{ArchiveFormat, RefNames, RevPath, TreePath};

/// What of a path is written as it is. Names hold any bytes, so nothing else is.
const PATH_SET: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');

/// What stands between the repository and the page.
const SEPARATOR: &str = "/-/";

/// The name of the picture of a repository's state.
const BADGE: &str = "badge.svg";

/// The part of an address that stands before the name of an archive.
const ARCHIVE: &str = "archive";

/// The page that compares two revisions.
const COMPARE: &str = "compare";

/// The pages of changes.
const CHANGE: &str = "change";

/// The longest id of a change.
const MAX_CHANGE_ID: usize = 64;

/// The page that searches.
const SEARCH: &str = "search";

/// Pages of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Tree,
    File,
    Raw,
    Blame,
    Log,
    Commit,
}

impl View {
    const ALL: [Self; 6] = [
        Self::Tree,
        Self::File,
        Self::Raw,
        Self::Blame,
        Self::Log,
        Self::Commit,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::File => "file",
            Self::Raw => "raw",
            Self::Blame => "blame",
            Self::Log => "log",
            Self::Commit => "commit",
        }
    }
}

/// What a feed is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feed {
    Commits,
    Runs,
}

/// What an address stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Page {
    Overview,
    Runs,
    Refs(RefNames),
    Feed(Feed),
    Badge,
    Archive(ArchiveFormat, RevPath),
    Search,
    /// A change, by its id or the beginning of it.
    Change(String),
    /// The form that asks which revisions are compared.
    CompareForm,
    /// Two revisions, and whether the difference is from their common ancestor.
    Compare(RevPath, RevPath, Range),
    OfRevision(View, RevPath),
}

/// What a comparison begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    /// `a...b`: their best common ancestor.
    FromBase,
    /// `a..b`: the first revision.
    FromFirst,
}

impl Range {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::FromBase => "...",
            Self::FromFirst => "..",
        }
    }
}

/// The path of an address in its two parts, as they were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RepoAddress<'a> {
    /// The repository, not yet checked.
    pub(super) name: &'a str,
    /// What follows the separator.
    rest: Option<&'a str>,
}

impl<'a> RepoAddress<'a> {
    pub(super) fn parse(path: &'a str) -> Option<Self> {
        let path = match path.strip_prefix(REPO_PREFIX) {
            Some(rest) if rest.starts_with('/') => rest,
            _ => path,
        };
        let (name, rest) = match path.split_once(SEPARATOR) {
            Some((name, rest)) => (name, Some(rest)),
            None => (path, None),
        };
        Some(Self {
            name: name.strip_prefix('/')?,
            rest,
        })
    }

    /// The number of a run, if it stands for one.
    pub(super) fn run_number(self) -> Option<&'a str> {
        self.rest?.strip_prefix("runs/")
    }

    pub(super) fn page(self) -> Option<Page> {
        let Some(rest) = self.rest else {
            return Some(Page::Overview);
        };
        match rest {
            "commits.atom" => return Some(Page::Feed(Feed::Commits)),
            "runs.atom" => return Some(Page::Feed(Feed::Runs)),
            BADGE => return Some(Page::Badge),
            "runs" => return Some(Page::Runs),
            "branches" => return Some(Page::Refs(RefNames::Branches)),
            COMPARE => return Some(Page::CompareForm),
            SEARCH => return Some(Page::Search),
            "tags" => return Some(Page::Refs(RefNames::Tags)),
            _ => {}
        }
        let (view, rest) = rest.split_once('/')?;
        if view == ARCHIVE {
            return archive(rest);
        }
        if view == COMPARE {
            return compare(rest);
        }
        if view == CHANGE {
            let is_id =
                rest.len() <= MAX_CHANGE_ID && rest.bytes().all(|b| b.is_ascii_alphanumeric());
            return (is_id && !rest.is_empty()).then(|| Page::Change(rest.to_owned()));
        }
        let view = View::ALL.into_iter().find(|known| known.as_str() == view)?;
        let bytes: Vec<u8> = percent_decode(rest.as_bytes()).collect();
        Some(Page::OfRevision(view, RevPath::parse(&bytes)?))
    }

    /// The badge of a repository, if the whole address may be that of one: `/{repo}/badge.svg`.
    pub(super) fn of_badge(self) -> Option<Self> {
        let name = self.name.strip_suffix(BADGE)?.strip_suffix('/')?;
        self.rest.is_none().then_some(Self {
            name,
            rest: Some(BADGE),
        })
    }

    /// The same page below the path of another repository.
    pub(super) fn on(self, base: &str) -> String {
        match self.rest {
            Some(rest) => format!("{base}{SEPARATOR}{rest}"),
            None => base.to_owned(),
        }
    }
}

/// Two revisions with dots between them. No name of a ref has two dots.
fn compare(rest: &str) -> Option<Page> {
    let bytes: Vec<u8> = percent_decode(rest.as_bytes()).collect();
    let at = bytes.windows(2).position(|pair| pair == b"..")?;
    let (first, second) = (&bytes[..at], &bytes[at + 2..]);
    let (second, range) = match second.strip_prefix(b".") {
        Some(second) => (second, Range::FromBase),
        None => (second, Range::FromFirst),
    };
    let (first, second) = (RevPath::parse(first)?, RevPath::parse(second)?);
    Some(Page::Compare(first, second, range))
}

/// The path of a change.
pub(super) fn change_link(base: &str, id: &str) -> String {
    format!("{base}{SEPARATOR}{CHANGE}/{id}")
}

/// Where the form that compares two revisions is sent.
pub(super) fn compare_form_link(base: &str) -> String {
    format!("{base}{SEPARATOR}{COMPARE}")
}

/// The path of a comparison.
pub(super) fn compare_link(base: &str, first: &[u8], second: &[u8], range: Range) -> String {
    let (first, second) = (encoded_bytes(first), encoded_bytes(second));
    let range = range.as_str();
    format!("{base}{SEPARATOR}{COMPARE}/{first}{range}{second}")
}

/// The path of the page that searches.
pub(super) fn search_link(base: &str) -> String {
    format!("{base}{SEPARATOR}{SEARCH}")
}

/// Bytes as part of a path, or as the value of a query.
pub(super) fn encoded_bytes(bytes: &[u8]) -> String {
    percent_encode(bytes, PATH_SET).to_string()
}

/// The path of a page: `base` is the path of the repository.
pub(super) fn link(base: &str, view: View, rev: &[u8], path: &TreePath) -> String {
    let (view, rev) = (view.as_str(), encoded_bytes(rev));
    if path.is_root() {
        format!("{base}{SEPARATOR}{view}/{rev}")
    } else {
        let path = encoded_bytes(path.as_bytes());
        format!("{base}{SEPARATOR}{view}/{rev}/{path}")
    }
}

/// The path of an archive of a revision.
pub(super) fn archive_link(base: &str, rev: &[u8], format: ArchiveFormat) -> String {
    let (rev, extension) = (encoded_bytes(rev), format.extension());
    format!("{base}{SEPARATOR}{ARCHIVE}/{rev}{extension}")
}

/// What the name of an archive stands for.
fn archive(name: &str) -> Option<Page> {
    let bytes: Vec<u8> = percent_decode(name.as_bytes()).collect();
    [ArchiveFormat::TarGz, ArchiveFormat::Zip]
        .into_iter()
        .find_map(|format| {
            let rev = bytes.strip_suffix(format.extension().as_bytes())?;
            Some(Page::Archive(format, RevPath::parse(rev)?))
        })
}

/// A value of a query, as bytes. A form sends spaces as plus signs.
pub(super) fn query_value(query: &str, name: &str) -> Option<Vec<u8>> {
    query.split('&').find_map(|pair| {
        let value = pair.strip_prefix(name)?.strip_prefix('=')?;
        let value = value.replace('+', " ");
        Some(percent_decode(value.as_bytes()).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_repository_and_a_page() {
        let page = |path: &str| RepoAddress::parse(path).and_then(RepoAddress::page);
        let name = |path: &'static str| RepoAddress::parse(path).unwrap().name;
        assert_eq!(name("/work/app"), "work/app");
        assert_eq!(name("/-/repo/runs/x/-/runs"), "runs/x");
        assert_eq!(page("/work/app"), Some(Page::Overview));
        assert_eq!(page("/-/repo/runs/x/-/runs"), Some(Page::Runs));
        assert_eq!(page(&search_link("/app")), Some(Page::Search));
        let rest = RevPath::parse(b"main/a b/-/c").unwrap();
        assert_eq!(
            page("/app/-/tree/main/a%20b/-/c"),
            Some(Page::OfRevision(View::Tree, rest))
        );
        let slash = RevPath::parse(b"topic/x").unwrap();
        assert_eq!(
            page("/app/-/log/topic%2Fx"),
            Some(Page::OfRevision(View::Log, slash))
        );
        for format in [ArchiveFormat::TarGz, ArchiveFormat::Zip] {
            let rev = RevPath::parse(b"topic/1.0.zip").unwrap();
            let href = archive_link("/app", b"topic/1.0.zip", format);
            assert_eq!(page(&href), Some(Page::Archive(format, rev)), "{href}");
        }
        let compared = |range| {
            let rev = |name: &[u8]| RevPath::parse(name).unwrap();
            Some(Page::Compare(rev(b"topic/x"), rev(b"v1.0"), range))
        };
        let link = |range| compare_link("/app", b"topic/x", b"v1.0", range);
        for range in [Range::FromBase, Range::FromFirst] {
            assert_eq!(page(&link(range)), compared(range));
        }
        let change = Page::Change("kkmpptxz".to_owned());
        assert_eq!(page(&change_link("/app", "kkmpptxz")), Some(change));
        for bad in [
            "/app/-/change/",
            "/app/-/change/a/b",
            "/app/-/change/%2e",
            "/app/-/compare/main",
            "/app/-/compare/main...",
            "/app/-/compare/..main",
            "/app/-/",
            "/app/-/tree",
            "/app/-/tree/",
            "/app/-/tree//x",
            "/app/-/nothing/main",
            "/app/-/raw/main/%00",
            "/app/-/archive/main",
            "/app/-/archive/main.tar",
            "/app/-/archive/.zip",
        ] {
            assert_eq!(page(bad), None, "{bad}");
        }
        assert_eq!(
            RepoAddress::parse("/a/-/runs/7").unwrap().run_number(),
            Some("7")
        );
        assert_eq!(
            RepoAddress::parse("/a/-/log/x").unwrap().on("/b"),
            "/b/-/log/x"
        );
    }

    #[test]
    fn links_carry_any_name_there_and_back() {
        for name in [
            &b"-x"[..],
            b"a b",
            b"#%?&+",
            b"new\nline",
            b"\xff\xfe",
            b"\\",
            b"\"<'>",
        ] {
            let path = TreePath::parse(name).unwrap();
            let href = link("/app", View::File, b"refs/heads/#1", &path);
            assert!(
                href.bytes()
                    .all(|b| b.is_ascii_graphic() && !b"\"<>'&?#+\\".contains(&b)),
                "{href}"
            );
            let wanted = [b"refs/heads/#1/", name].concat();
            assert_eq!(
                RepoAddress::parse(&href).unwrap().page(),
                Some(Page::OfRevision(
                    View::File,
                    RevPath::parse(&wanted).unwrap()
                ))
            );
            let query = format!("from=1&after={}", encoded_bytes(name));
            assert_eq!(query_value(&query, "after").as_deref(), Some(name));
        }
        assert_eq!(query_value("afterwards=1", "after"), None);
        let plus = query_value("q=a+b%2Bc", "q");
        assert_eq!(plus.as_deref(), Some(&b"a b+c"[..]));
    }
}
