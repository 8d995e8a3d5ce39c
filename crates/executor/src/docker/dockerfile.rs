//! What the Dockerfile of a tree makes the engine itself fetch, on the network of its machine: what an
//! `ADD` of a URL names, and base images. A pipeline must not reach through the engine what only that
//! machine reaches. So an `ADD` of a URL is refused, because any name may lead to any address, and an image of a
//! registry on that machine or its link is refused unless the owner lists the registry.
//!
//! Engines differ in how they join lines. Every way of reading is tried, and each must pass.

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

/// How many characters of an instruction are shown.
const MAX_SHOWN_INSTRUCTION: usize = 200;

/// How many variables are replaced in a name.
const MAX_EXPANSIONS: usize = 64;

/// Fails if the tree's Dockerfile makes the engine fetch what it must not.
pub(super) async fn check_fetches(
    tree: &dyn Tree,
    registries: &[String],
) -> Result<(), ExecutorError> {
    let text = dockerfile_of(tree)
        .await
        .map_err(|error| ImageError::UnreadableDockerfile {
            dockerfile: DOCKERFILE,
            message: error.to_string(),
        })?;
    if let Some(instruction) = first_remote_add(&text) {
        return Err(ImageError::RemoteAdd {
            dockerfile: DOCKERFILE,
            instruction,
        }
        .into());
    }
    for name in image_names(&text) {
        // What is no reference is refused by the engine, or names a stage.
        if let Ok(reference) = name.parse() {
            check_registry(&reference, registries)?;
        }
    }
    Ok(())
}

/// Fails if the engine would fetch an image from its own machine or its link, unless the owner
/// lists that registry.
pub(super) fn check_registry(
    reference: &ImageReference,
    registries: &[String],
) -> Result<(), ImageError> {
    let Some(registry) = reference
        .registry()
        .filter(|_| reference.has_local_registry())
    else {
        return Ok(());
    };
    if registries
        .iter()
        .any(|listed| is_of_registry(registry, listed))
    {
        return Ok(());
    }
    Err(ImageError::LocalRegistry {
        name: reference.to_string(),
        registry: registry.to_owned(),
    })
}

/// Whether a registry is the listed one; a listed host without a port stands for all of its ports.
fn is_of_registry(registry: &str, listed: &str) -> bool {
    let (host, port) = registry.rsplit_once(':').unwrap_or((registry, ""));
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
    registry.eq_ignore_ascii_case(listed) || (is_port && host.eq_ignore_ascii_case(listed))
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

/// Returns the first `ADD` of a URL, or of what may be one once its variables are replaced.
fn first_remote_add(text: &str) -> Option<String> {
    let mut lines = readings(text).into_iter().flatten();
    // A line that is a part of another instruction in every reading counts as well.
    let alone = text
        .lines()
        .map(str::to_owned)
        .find(|line| is_remote_add(line));
    let line = lines.find(|line| is_remote_add(line)).or(alone)?;
    Some(quire_pipeline::sanitize_message(
        &line.chars().take(MAX_SHOWN_INSTRUCTION).collect::<String>(),
    ))
}

fn is_remote_add(line: &str) -> bool {
    let (verb, words) = verb_and_words(line);
    // Only the engine knows what quotes, escapes and JSON make of the arguments, so everything
    // that could become a URL counts as one.
    let arguments: String = words
        .join(" ")
        .chars()
        .filter(|c| !matches!(c, '"' | '\''))
        .collect();
    let bare = without_escapes(&arguments);
    verb.eq_ignore_ascii_case("add")
        && (bare.contains("://") || bare.contains(['$', '@']) || arguments.contains("\\u"))
}

/// Returns the names of images from which stages begin and files are copied, once for each value that
/// the file's own `ARG`s give to their variables.
fn image_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for instructions in readings(text) {
        let mut values: Vec<(String, String)> = Vec::new();
        for line in &instructions {
            let (verb, words) = verb_and_words(line);
            let plain = |word: &str| without_escapes(word).replace(['"', '\''], "");
            if verb.eq_ignore_ascii_case("arg") {
                let assigned = words.iter().filter_map(|word| word.split_once('='));
                values.extend(assigned.map(|(name, value)| (name.to_owned(), plain(value))));
            } else if verb.eq_ignore_ascii_case("from") {
                let name = words.iter().find(|word| !word.starts_with("--"));
                names.extend(name.map(|name| expand(&plain(name), &values)));
            } else if verb.eq_ignore_ascii_case("copy") {
                let from = words.iter().filter_map(|word| word.strip_prefix("--from="));
                names.extend(from.map(|name| expand(&plain(name), &values)));
            }
        }
    }
    names.sort();
    names.dedup();
    names
}

/// Replaces `$NAME`, `${NAME}` and `${NAME:-value}` by the last values of their variables.
fn expand(word: &str, values: &[(String, String)]) -> String {
    let mut expanded = word.to_owned();
    for _ in 0..MAX_EXPANSIONS {
        let Some(start) = expanded.find('$') else {
            break;
        };
        let rest = &expanded[start + 1..];
        let (variable, length) = match rest.strip_prefix('{').and_then(|rest| rest.split_once('}'))
        {
            Some((variable, _)) => (variable, variable.len() + 2),
            None => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                (&rest[..end], end)
            }
        };
        let (name, default) = variable.split_once(":-").unwrap_or((variable, ""));
        let value = values.iter().rev().find(|(known, _)| known == name);
        let value = value.map_or(default, |(_, value)| value).to_owned();
        expanded.replace_range(start..start + 1 + length, &value);
    }
    expanded
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
    for escape in ['\\', '`'] {
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

    #[test]
    fn remote_adds_are_found_in_all_spellings() {
        for text in [
            "FROM x\nADD http://h/f /f",
            "add --chown=1:1 HTTPS://h/f /f",
            "ADD [\"http://h/f\", \"/f\"]",
            "ADD [\"http:\\u002f\\u002fh/f\", \"/f\"]",
            "ADD git@github.com:a/b.git /b",
            "ARG U=http://h\nADD ${U}/f /f",
            "ADD h\"ttp\":/\\/h/f /f",
            "AD\\\n# a comment\nD \\\n  local http://h/f /f",
            "# escape=`\nFROM x\nADD `\n ht`tp://h/f /f",
            "ONBUILD ADD http://h/f /f",
            "\u{feff}ADD http://h/f /f",
            "ADD \\\n\n http://h/f /f",
            // The line is a comment like others, because it is not the first.
            "# a comment\n# escape=`\nFROM x\nADD \\\n http://h/f /f",
            // No space, so the line does not go on.
            "FROM x\nRUN x \\\u{a0}\nADD http://h/f /f",
            "FROM x\nRUN x \\\\\nADD \\\n http://h/f /f",
            "FROM x\nRUN x \\\n  # a comment\nADD \\\n http://h/f /f",
            "RUN echo \\\n  ADD http://h/f /f",
        ] {
            assert!(first_remote_add(text).is_some(), "{text}");
        }
        for text in [
            "FROM http\nADD file /f\nCOPY . /x\n",
            "# ADD http://h/f /f\nRUN curl http://h/f # ADD http://h/f",
            "LABEL url=http://h\nENV A=$B",
            "",
        ] {
            assert_eq!(first_remote_add(text), None, "{text}");
        }
    }

    #[test]
    fn images_of_local_registries_are_found_in_all_spellings() {
        let check = |text: &str, registries: &[&str]| {
            let registries: Vec<String> = registries.iter().map(ToString::to_string).collect();
            image_names(text)
                .iter()
                .filter_map(|name| name.parse().ok())
                .try_for_each(|reference| check_registry(&reference, &registries))
        };
        for text in [
            "FROM 127.0.0.1:5000/x",
            "from --platform=linux/amd64 localhost/x AS a",
            "FROM x\nCOPY --from=[::1]:5000/x / /",
            "FROM \\\n\"127.0.0.\\1:5000/x\"",
            "ARG R=127.0\nARG S=.0.1\nFROM ${R}$S:5000/x",
            "FROM ${R:-127.0.0.1}:5000/x",
            "# a comment\n# escape=`\nFROM \\\n 169.254.169.254/x",
        ] {
            assert!(check(text, &[]).is_err(), "{text}");
        }
        for text in [
            "ARG V=22\nFROM node:${V}\nFROM node:$V AS one\nCOPY --from=one / /",
            "FROM registry.example.org:5000/x",
            "RUN echo 'FROM 127.0.0.1:5000/x'",
        ] {
            assert!(check(text, &[]).is_ok(), "{text}");
        }
        let text = "FROM 127.0.0.1:5000/x";
        assert!(check(text, &["127.0.0.1:5000"]).is_ok());
        assert!(check(text, &["127.0.0.1"]).is_ok());
        assert!(check(text, &["127.0.0.1:5001"]).is_err());
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
