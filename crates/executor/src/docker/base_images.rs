//! The names of images in the Dockerfile of a tree, for engines without rules for what a build fetches: those before 24, which read
//! what a registry says of a base image as soon as they read the Dockerfile.
//!
//! These engines differ in how they join lines. Every way of reading is tried, and a name counts if one of them has it.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::api::Tree;
use crate::command::normalize_relative;
use crate::error::{ExecutorError, ImageError};
use quire_types::image_reference::ImageReference;

/// The path of the Dockerfile in a tree.
pub(super) const DOCKERFILE: &str = ".quire/Dockerfile";

/// The longest Dockerfile that is read, in bytes; the engine takes no longer one.
const MAX_DOCKERFILE: u64 = 1 << 20;

/// How many symbolic links are followed.
const MAX_LINKS: usize = 10;

/// How many variables are replaced in a name.
const MAX_EXPANSIONS: usize = 64;

/// Returns the images that the tree's Dockerfile names, without the names of its own stages.
///
/// # Errors
/// [`ImageError::UnknownBaseImage`] if only the engine knows which image is meant.
pub(super) async fn names_in(tree: &dyn Tree) -> Result<Vec<ImageReference>, ExecutorError> {
    let text = dockerfile_of(tree)
        .await
        .map_err(|error| ImageError::UnreadableDockerfile {
            dockerfile: DOCKERFILE,
            message: error.to_string(),
        })?;
    let names = image_names(&text).map_err(|name| ImageError::UnknownBaseImage {
        dockerfile: DOCKERFILE,
        name: quire_pipeline::sanitize_message(&name),
    })?;
    // The engine refuses what is no reference.
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// Reads the Dockerfile of a tree, through symbolic links as the engine does.
async fn dockerfile_of(tree: &dyn Tree) -> std::io::Result<String> {
    let mut path = PathBuf::from(DOCKERFILE);
    for _ in 0..=MAX_LINKS {
        let archive = SyncIoBridge::new(StreamReader::new(tree.archive()));
        let wanted = path.clone();
        let read = tokio::task::spawn_blocking(move || read_file(archive, &wanted)).await;
        match read.map_err(std::io::Error::other)?? {
            DockerfileEntry::Text(text) => return Ok(text),
            DockerfileEntry::Link(target) => {
                let folder = path.parent().unwrap_or_else(|| Path::new(""));
                path = normalize_relative(&folder.join(target).to_string_lossy())
                    .map_err(std::io::Error::other)?;
            }
        }
    }
    Err(std::io::Error::other("it is a circle of symbolic links"))
}

/// What a tar stream has under a path.
#[derive(Debug, PartialEq)]
enum DockerfileEntry {
    Text(String),
    /// A symbolic link to this path.
    Link(PathBuf),
}

fn read_file(archive: impl std::io::Read, path: &Path) -> std::io::Result<DockerfileEntry> {
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let entry = entry?;
        if entry.path()?.as_ref() != path {
            continue;
        }
        if let Some(target) = entry.link_name()? {
            return Ok(DockerfileEntry::Link(target.into_owned()));
        }
        if !entry.header().entry_type().is_file() || entry.size() > MAX_DOCKERFILE {
            return Err(std::io::Error::other("it is not a file of at most 1 MiB"));
        }
        let mut bytes = Vec::new();
        entry.take(MAX_DOCKERFILE).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        return Ok(DockerfileEntry::Text(text));
    }
    let missing = format!("{} is missing in the build context", path.display());
    Err(std::io::Error::other(missing))
}

/// Returns the names of images from which stages begin and from which files are copied or mounted, with the values that the file's
/// own `ARG`s give to their variables. Fails with a name that has a variable of another form.
fn image_names(text: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for instructions in readings(text) {
        let mut values: Vec<(String, String)> = Vec::new();
        let mut stages: Vec<String> = Vec::new();
        let mut others: Vec<String> = Vec::new();
        for line in &instructions {
            let (verb, words) = verb_and_words(line);
            let plain = |word: &str| without_escapes(word).replace(['"', '\''], "");
            if verb.eq_ignore_ascii_case("arg") {
                let assigned = words.iter().filter_map(|word| word.split_once('='));
                values.extend(assigned.map(|(name, value)| (name.to_owned(), plain(value))));
            } else if verb.eq_ignore_ascii_case("from") {
                let mut words = words.iter().filter(|word| !word.starts_with("--"));
                if let Some(name) = words.next() {
                    let name = expand(&plain(name), &values)?;
                    // A stage of this name is meant only if it comes before.
                    if !is_stage(&name, &stages) {
                        names.push(name);
                    }
                }
                stages.push(words.nth(1).map(|name| plain(name)).unwrap_or_default());
            } else {
                let found = words.iter().filter_map(|word| named_source(verb, word));
                let found = found.map(|name| expand(&plain(name), &values));
                others.extend(found.collect::<Result<Vec<_>, _>>()?);
            }
        }
        others.retain(|name| !is_stage(name, &stages));
        names.append(&mut others);
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// Whether a name is that of a stage, by its name or its number, or of nothing.
fn is_stage(name: &str, stages: &[String]) -> bool {
    let is_number = name
        .parse::<usize>()
        .is_ok_and(|number| number < stages.len());
    is_number || name == "scratch" || stages.iter().any(|stage| stage.eq_ignore_ascii_case(name))
}

/// Returns the image or stage in `COPY --from=NAME` and `RUN --mount=from=NAME`.
fn named_source<'a>(verb: &str, word: &'a str) -> Option<&'a str> {
    if verb.eq_ignore_ascii_case("copy") {
        return word.strip_prefix("--from=");
    }
    let options = word.strip_prefix("--mount=")?;
    let mut options = options
        .split(',')
        .map(|option| option.trim_matches(['"', '\'']));
    options.find_map(|option| {
        let (key, value) = option.split_once('=')?;
        key.eq_ignore_ascii_case("from").then_some(value)
    })
}

/// Replaces `$NAME`, `${NAME}` and `${NAME:-value}` by the last values of their variables. Fails with the word if it has another
/// form of a variable.
fn expand(word: &str, values: &[(String, String)]) -> Result<String, String> {
    let mut expanded = word.to_owned();
    for _ in 0..MAX_EXPANSIONS {
        let Some(start) = expanded.find('$') else {
            return Ok(expanded);
        };
        let rest = &expanded[start + 1..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (variable, length) = match rest.strip_prefix('{').and_then(|rest| rest.split_once('}'))
        {
            Some((variable, _)) => (variable, variable.len() + 2),
            None => {
                let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                (&rest[..end], end)
            }
        };
        let (name, default) = variable.split_once(":-").unwrap_or((variable, ""));
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(word.to_owned());
        }
        let value = values.iter().rev().find(|(known, _)| known == name);
        let value = value.map_or(default, |(_, value)| value).to_owned();
        expanded.replace_range(start..start + 1 + length, &value);
    }
    Err(word.to_owned())
}

fn verb_and_words(line: &str) -> (&str, Vec<&str>) {
    let mut words = line.split_whitespace();
    let mut verb = words.next().unwrap_or_default();
    if verb.eq_ignore_ascii_case("onbuild") {
        verb = words.next().unwrap_or_default();
    }
    (verb, words.collect())
}

fn without_escapes(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '\\' | '`')).collect()
}

/// One way of joining the lines of a Dockerfile.
#[derive(Debug, Clone, Copy)]
struct Reading {
    /// What a `# escape=` directive sets, where the engine takes the line for one.
    escape: char,
    /// Whether a line that ends with two escape characters goes on.
    doubled_continues: bool,
    /// Whether an indented line with `#` within an instruction is a comment.
    indented_comments: bool,
}

/// Returns the instructions, each on one line, in every way in which an engine may read them.
fn readings(text: &str) -> Vec<Vec<String>> {
    let mut readings = Vec::new();
    let is_directive =
        |line: &str| line.contains('#') && line.to_ascii_lowercase().contains("escape");
    let escapes = match text.lines().any(is_directive) {
        true => &['\\', '`'][..],
        false => &['\\'],
    };
    for escape in escapes.iter().copied() {
        for doubled_continues in [true, false] {
            for indented_comments in [true, false] {
                readings.push(instructions(
                    text,
                    Reading {
                        escape,
                        doubled_continues,
                        indented_comments,
                    },
                ));
            }
        }
    }
    readings
}

fn instructions(text: &str, reading: Reading) -> Vec<String> {
    let mut instructions = vec![String::new()];
    for line in text.trim_start_matches('\u{feff}').lines() {
        let is_inside = instructions.last().is_some_and(|last| !last.is_empty());
        let is_indented = line.starts_with(char::is_whitespace);
        let may_be_comment = reading.indented_comments || !is_inside || !is_indented;
        if may_be_comment && line.trim_start().starts_with('#') {
            continue;
        }
        let continued = line
            .trim_end_matches([' ', '\t'])
            .strip_suffix(reading.escape)
            .filter(|rest| reading.doubled_continues || !rest.ends_with(reading.escape));
        if let Some(instruction) = instructions.last_mut() {
            instruction.push_str(continued.unwrap_or(line));
        }
        if continued.is_none() && !line.trim().is_empty() {
            instructions.push(String::new());
        }
    }
    instructions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        image_names(text).unwrap()
    }

    #[test]
    fn images_are_found_in_all_spellings() {
        let local = "127.0.0.1:5000/x";
        for text in [
            "FROM 127.0.0.1:5000/x",
            "from --platform=linux/amd64 127.0.0.1:5000/x AS a",
            "FROM x\nCOPY --from=127.0.0.1:5000/x / /",
            "FROM x\nRUN --mount=type=bind,from=127.0.0.1:5000/x true",
            "FROM \\\n\"127.0.0.\\1:5000/x\"",
            "ARG R=127.0\nARG S=.0.1\nFROM ${R}$S:5000/x",
            "FROM ${R:-127.0.0.1:5000/x}",
            "# a comment\n# escape=`\nFROM \\\n 127.0.0.1:5000/x",
            "# ESCAPE = `\nFROM `\n 127.0.0.1:5000/x",
        ] {
            let found = names(text);
            assert!(found.iter().any(|name| name == local), "{text} {found:?}");
        }
        let name = names("ARG V=22\nFROM node:${V}");
        assert_eq!(name, ["node:22"]);
        assert_eq!(names("RUN echo 'FROM y' \\\nfrom z"), Vec::<String>::new());
        for text in ["FROM ${R:+x}", "FROM ${R#x}", "FROM $"] {
            assert!(image_names(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_stage_is_no_image_once_it_is_there() {
        let text = "FROM a AS one\nFROM scratch\nFROM one AS two\nCOPY --from=three / /\nCOPY --from=0 / /\nFROM b AS three";
        assert_eq!(names(text), ["a", "b"]);
        assert_eq!(names("FROM one\nFROM a AS one"), ["a", "one"]);
    }

    #[test]
    fn the_dockerfile_is_found_in_the_tree() {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, text) in [("a", "x"), (DOCKERFILE, "FROM x\n"), ("b", "y")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        assert_eq!(
            read_file(tar.into_inner().unwrap().as_slice(), Path::new(DOCKERFILE)).unwrap(),
            DockerfileEntry::Text("FROM x\n".to_owned())
        );
    }
}
