//! The folder that a build reads its files from: the entries of a tar archive that can be opened more than once.
//!
//! Entries are listed once and kept; contents are read again from a new archive when they are wanted, so that neither memory nor
//! disk has to hold them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::Arc;

use tokio::sync::{OnceCell, mpsc};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::messages::files::Stat;
use super::patterns::{PathPattern, Patterns, ancestors};
use crate::tar_stream::{OpenArchive, TarStream};

/// How many symbolic links are followed from one path.
const MAX_LINKS: usize = 100;

/// The size of the pieces in which contents are sent.
const PIECE: usize = 32 << 10;

/// Bits of Go's `os.FileMode`.
const GO_FOLDER: u32 = 1 << 31;
const GO_LINK: u32 = 1 << 27;

/// A piece of a file: its id and the bytes; none at its end.
pub(super) type Piece = (u32, Vec<u8>);

/// The folder. Cheap to clone.
#[derive(Clone)]
pub(super) struct BuildFolder {
    open: OpenArchive,
    entries: Arc<OnceCell<ContextEntries>>,
}

/// Which entries of a folder are wanted.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// If there are any, only what they match.
    pub(super) include: Vec<String>,
    /// Paths of which symbolic links are followed. If there are any, only what they lead to.
    pub(super) follow: Vec<String>,
    pub(super) exclude: Vec<String>,
}

impl BuildFolder {
    pub(super) fn new(open: OpenArchive) -> Self {
        Self {
            open,
            entries: Arc::default(),
        }
    }

    /// Lists the wanted entries, each folder before what is in it.
    pub(super) async fn list(&self, selection: &Selection) -> io::Result<Vec<Stat>> {
        let read = || {
            let archive = (self.open)();
            async move { blocking(move || ContextEntries::read(archive)).await }
        };
        self.entries.get_or_try_init(read).await?.select(selection)
    }

    /// Reads the contents of files in the order in which the archive has them, and sends them in pieces.
    pub(super) async fn read(
        &self,
        wanted: BTreeMap<String, u32>,
        pieces: mpsc::Sender<Piece>,
    ) -> io::Result<()> {
        let archive = (self.open)();
        blocking(move || read_contents(archive, wanted, &pieces)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)?
}

/// The entries by their paths, in which `\0` stands for the slash: so they are in the order in which a walk finds them.
#[derive(Default)]
struct ContextEntries(BTreeMap<String, ContextEntry>);

struct ContextEntry {
    stat: Stat,
    /// A message can hold no other name.
    is_utf8: bool,
}

fn key(path: &str) -> String {
    path.replace('/', "\0")
}

impl ContextEntries {
    fn read(archive: TarStream) -> io::Result<Self> {
        let mut entries = Self::default();
        let mut archive = tar::Archive::new(SyncIoBridge::new(StreamReader::new(archive)));
        for entry in archive.entries()? {
            let entry = entry?;
            let Some((path, is_utf8)) = path_of(&entry)? else {
                continue;
            };
            let header = entry.header();
            let kind = header.entry_type();
            let link = entry.link_name_bytes().unwrap_or_default();
            // An archive may leave out the mode of a link, which has none.
            let mode = header.mode().unwrap_or(0o644) & 0o777;
            let stat = Stat {
                mode: match kind {
                    tar::EntryType::Directory => mode | GO_FOLDER,
                    tar::EntryType::Symlink => 0o777 | GO_LINK,
                    tar::EntryType::Regular | tar::EntryType::Continuous => mode,
                    _ => continue,
                },
                size: i64::try_from(entry.size()).unwrap_or(i64::MAX),
                modified: i64::try_from(header.mtime().unwrap_or(0))
                    .unwrap_or(0)
                    .saturating_mul(1_000_000_000),
                link: String::from_utf8_lossy(&link).into_owned(),
                path,
            };
            entries.insert(stat, is_utf8);
        }
        Ok(entries)
    }

    /// Adds an entry, and the folders that it is in.
    fn insert(&mut self, stat: Stat, is_utf8: bool) {
        for folder in ancestors(&stat.path) {
            let made = || ContextEntry {
                stat: Stat {
                    path: folder.to_owned(),
                    mode: 0o755 | GO_FOLDER,
                    modified: stat.modified,
                    ..Stat::default()
                },
                is_utf8,
            };
            self.0.entry(key(folder)).or_insert_with(made);
        }
        self.0
            .insert(key(&stat.path), ContextEntry { stat, is_utf8 });
    }

    fn select(&self, selection: &Selection) -> io::Result<Vec<Stat>> {
        let patterns = |texts: &[String]| {
            Patterns::parse(texts.iter().map(String::as_str)).map_err(io::Error::other)
        };
        let include = patterns(&selection.include)?;
        let exclude = patterns(&selection.exclude)?;
        let mut followed = BTreeSet::new();
        for path in &selection.follow {
            self.follow(path, &mut followed, 0);
        }
        let is_limited = !selection.include.is_empty() || !selection.follow.is_empty();
        let is_wanted = |path: &str| {
            let is_followed = || {
                let mut paths = std::iter::once(path).chain(ancestors(path)).chain([""]);
                paths.any(|path| followed.contains(path))
            };
            (!is_limited || is_followed() || include.matches(path)) && !exclude.matches(path)
        };
        let mut wanted = BTreeSet::new();
        for (key, entry) in &self.0 {
            if !is_wanted(&entry.stat.path) {
                continue;
            }
            if !entry.is_utf8 {
                let path = &entry.stat.path;
                let message = format!("the name of `{path}` is not UTF-8; rename or ignore it");
                return Err(io::Error::other(message));
            }
            wanted.insert(key.clone());
            let folders = ancestors(&entry.stat.path).map(self::key);
            wanted.extend(folders);
        }
        let stats = wanted.iter().filter_map(|key| self.0.get(key));
        Ok(stats.map(|entry| entry.stat.clone()).collect())
    }

    fn get(&self, path: &str) -> Option<&Stat> {
        self.0.get(&key(path)).map(|entry| &entry.stat)
    }

    /// The names in a folder.
    fn names<'a>(&'a self, folder: &str) -> impl Iterator<Item = &'a str> {
        let prefix = match folder {
            "" => String::new(),
            folder => format!("{folder}/"),
        };
        let paths = self.0.values().map(|entry| entry.stat.path.as_str());
        paths.filter_map(move |path| {
            let name = path.strip_prefix(prefix.as_str())?;
            (!name.contains('/')).then_some(name)
        })
    }

    /// Adds the file or folder that a path refers to, with the symbolic links on its way; a part may be a pattern.
    fn follow(&self, path: &str, found: &mut BTreeSet<String>, links: usize) {
        if links > MAX_LINKS {
            return;
        }
        let mut place = String::new();
        let mut parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
        while let Some(part) = parts.next() {
            if part == ".." {
                let parent = place.rfind('/').unwrap_or(0);
                place.truncate(parent);
                continue;
            }
            let rest = || parts.clone().collect::<Vec<_>>().join("/");
            if part.contains(['*', '?', '[', '\\'])
                && let Ok(pattern) = PathPattern::parse(part)
            {
                let matching = self.names(&place).filter(|name| pattern.matches(name));
                for name in matching.collect::<Vec<_>>() {
                    let next = format!("{place}/{name}/{}", rest());
                    self.follow(&next, found, links + 1);
                }
                return;
            }
            let next = match place.as_str() {
                "" => part.to_owned(),
                place => format!("{place}/{part}"),
            };
            if let Some(stat) = self.get(&next)
                && stat.mode & GO_LINK != 0
            {
                found.insert(next);
                let from = match stat.link.starts_with('/') {
                    true => "",
                    false => place.as_str(),
                };
                let target = format!("{from}/{}/{}", stat.link, rest());
                return self.follow(&target, found, links + 1);
            }
            place = next;
        }
        found.insert(place);
    }
}

/// Returns the path of an entry and whether it is UTF-8; `None` for the top folder itself and for what is no entry of it.
fn path_of<R: Read>(entry: &tar::Entry<'_, R>) -> io::Result<Option<(String, bool)>> {
    let kind = entry.header().entry_type();
    if kind.is_pax_global_extensions() {
        return Ok(None);
    }
    let bytes = entry.path_bytes();
    let text = String::from_utf8_lossy(&bytes);
    let parts: Vec<&str> = text
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    if parts.contains(&"..") {
        return Err(io::Error::other(format!("`{text}` leads out of the tree")));
    }
    let path = parts.join("/");
    let is_utf8 = matches!(text, std::borrow::Cow::Borrowed(_));
    Ok((!path.is_empty()).then_some((path, is_utf8)))
}

fn read_contents(
    archive: TarStream,
    mut wanted: BTreeMap<String, u32>,
    pieces: &mpsc::Sender<Piece>,
) -> io::Result<()> {
    // Fails if the receiver is gone; then nothing is wanted any more.
    let send = |piece| pieces.blocking_send(piece).map_err(io::Error::other);
    let mut archive = tar::Archive::new(SyncIoBridge::new(StreamReader::new(archive)));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let Some((path, _)) = path_of(&entry)? else {
            continue;
        };
        let Some(id) = wanted.remove(&path) else {
            continue;
        };
        loop {
            let mut piece = Vec::new();
            let length = (&mut entry).take(PIECE as u64).read_to_end(&mut piece)?;
            send((id, piece))?;
            if length == 0 {
                break;
            }
        }
        if wanted.is_empty() {
            break;
        }
    }
    match wanted.keys().next() {
        Some(path) => Err(io::Error::other(format!(
            "`{path}` is not in the tree any more"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt as _;

    fn folder() -> BuildFolder {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |path: &str, link: Option<&str>, text: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o640);
            header.set_mtime(1);
            header.set_size(text.len() as u64);
            match link {
                Some(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    tar.append_link(&mut header, path, target).unwrap();
                }
                None => tar.append_data(&mut header, path, text.as_bytes()).unwrap(),
            }
        };
        add("a-b", None, "1");
        add("a/b/c", None, "12");
        add("a/d", Some("../e/f"), "");
        add("e/f", Some("/a/b"), "");
        add("g.md", None, "123");
        let bytes = tar.into_inner().unwrap();
        BuildFolder::new(Arc::new(move || {
            futures_util::stream::iter([Ok(bytes::Bytes::from(bytes.clone()))]).boxed()
        }))
    }

    async fn paths(selection: Selection) -> Vec<String> {
        let listed = folder().list(&selection).await.unwrap();
        listed.into_iter().map(|stat| stat.path).collect()
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn entries_are_in_the_order_of_a_walk() {
        let all = paths(Selection::default()).await;
        // A byte below the slash does not come before it.
        let expected = ["a", "a/b", "a/b/c", "a/d", "a-b", "e", "e/f", "g.md"];
        assert_eq!(all, expected);
        let listed = folder().list(&Selection::default()).await.unwrap();
        let file = listed.iter().find(|stat| stat.path == "a/b/c").unwrap();
        assert_eq!((file.mode, file.size), (0o640, 2));
        assert_eq!(file.modified, 1_000_000_000);
        let link = listed.iter().find(|stat| stat.path == "a/d").unwrap();
        assert_eq!(link.mode, 0o777 | GO_LINK);
        assert_eq!(listed[0].mode, 0o755 | GO_FOLDER);
    }

    #[tokio::test]
    async fn paths_are_followed_through_links() {
        let follow = |list: &[&str]| Selection {
            follow: texts(list),
            ..Selection::default()
        };
        let through = paths(follow(&["a/d/c"])).await;
        assert_eq!(through, ["a", "a/b", "a/b/c", "a/d", "e", "e/f"]);
        assert_eq!(paths(follow(&["*.md", "none"])).await, ["g.md"]);
        assert_eq!(paths(follow(&["."])).await.len(), 8);
    }

    #[tokio::test]
    async fn what_is_excluded_is_not_listed_but_its_exceptions_are() {
        let exclude = |list: &[&str]| Selection {
            exclude: texts(list),
            ..Selection::default()
        };
        assert_eq!(paths(exclude(&["*", "!a/b"])).await, ["a", "a/b", "a/b/c"]);
        let include = Selection {
            include: texts(&["*.md", "e"]),
            ..Selection::default()
        };
        assert_eq!(paths(include).await, ["e", "e/f", "g.md"]);
    }

    #[tokio::test]
    async fn contents_are_sent_in_pieces_with_an_end() {
        let (sender, mut receiver) = mpsc::channel(8);
        let wanted = BTreeMap::from([("g.md".to_owned(), 7), ("a-b".to_owned(), 3)]);
        folder().read(wanted, sender).await.unwrap();
        let mut pieces = Vec::new();
        while let Some(piece) = receiver.recv().await {
            pieces.push(piece);
        }
        let piece = |id, text: &str| (id, text.as_bytes().to_vec());
        assert_eq!(
            pieces,
            [piece(3, "1"), piece(3, ""), piece(7, "123"), piece(7, "")]
        );
    }
}
