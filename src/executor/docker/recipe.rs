//! What a tree's Dockerfile has the engine itself fetch. A build's commands are on the run's network, or on
//! none; `ADD` of an address is carried out by the engine, on the host's network, whatever the build has.

use std::io::Read as _;

use tokio_util::io::{StreamReader, SyncIoBridge};

use super::image::DOCKERFILE;
use crate::executor::{ExecutorError, Tree};

/// More of a Dockerfile than this is not read; the engine takes no longer one.
const MAX_RECIPE: u64 = 1 << 20;

/// Refuses a tree whose Dockerfile has something fetched.
pub(super) async fn refuse_fetching(tree: &dyn Tree) -> Result<(), ExecutorError> {
    let archive = SyncIoBridge::new(StreamReader::new(tree.archive()));
    let read = tokio::task::spawn_blocking(move || recipe(archive)).await;
    let refuse = |why: String| {
        Err(ExecutorError::Image(format!(
            "the image cannot be built from {DOCKERFILE} without a network: {why}"
        )))
    };
    match read.map_err(std::io::Error::other).and_then(|read| read) {
        Err(error) => refuse(format!("it cannot be read ({error})")),
        Ok(text) => match fetching(&text) {
            Some(line) => refuse(format!(
                "`{line}` may have the engine fetch something; add the file to the repository, and use COPY"
            )),
            None => Ok(()),
        },
    }
}

/// The Dockerfile of a tar stream; empty where it is not there, and the engine will say so.
fn recipe(archive: impl std::io::Read) -> std::io::Result<String> {
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let entry = entry?;
        if entry.path_bytes().as_ref() != DOCKERFILE.as_bytes() {
            continue;
        }
        if !entry.header().entry_type().is_file() || entry.size() > MAX_RECIPE {
            return Err(std::io::Error::other("it is no file of at most 1 MiB"));
        }
        let mut bytes = Vec::new();
        entry.take(MAX_RECIPE).read_to_end(&mut bytes)?;
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    Ok(String::new())
}

/// The first `ADD` that names an address, or may do so once its variables are replaced.
fn fetching(text: &str) -> Option<String> {
    let line = instructions(text).into_iter().find(|line| {
        let mut words = line.split_whitespace();
        let mut verb = words.next().unwrap_or_default();
        if verb.eq_ignore_ascii_case("onbuild") {
            verb = words.next().unwrap_or_default();
        }
        // What quotes, escapes and JSON make of it is the engine's to say; what could become an address is refused.
        let arguments: String = words
            .collect::<Vec<_>>()
            .join(" ")
            .chars()
            .filter(|c| !matches!(c, '"' | '\''))
            .collect();
        let bare: String = arguments
            .chars()
            .filter(|c| !matches!(c, '\\' | '`'))
            .collect();
        verb.eq_ignore_ascii_case("add")
            && (bare.contains("://") || bare.contains(['$', '@']) || arguments.contains("\\u"))
    })?;
    Some(crate::pipeline::sentence(
        &line.chars().take(200).collect::<String>(),
    ))
}

/// The instructions, each on one line: comments out, lines that go on put together.
fn instructions(text: &str) -> Vec<String> {
    let escape = text
        .lines()
        .map_while(|line| line.trim().strip_prefix('#'))
        .filter_map(|directive| directive.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("escape"))
        .and_then(|(_, value)| value.trim().chars().next())
        .unwrap_or('\\');
    let mut instructions = vec![String::new()];
    for line in text.trim_start_matches('\u{feff}').lines() {
        if line.trim_start().starts_with('#') {
            continue;
        }
        let goes_on = line.trim_end().strip_suffix(escape);
        if let Some(instruction) = instructions.last_mut() {
            instruction.push_str(goes_on.unwrap_or(line));
        }
        if goes_on.is_none() && !line.trim().is_empty() {
            instructions.push(String::new());
        }
    }
    instructions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_would_fetch_is_found_however_it_is_written() {
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
        ] {
            assert!(fetching(text).is_some(), "{text}");
        }
        for text in [
            "FROM http\nADD file /f\nCOPY . /x\n",
            "# ADD http://h/f /f\nRUN curl http://h/f # ADD http://h/f",
            "RUN echo \\\n  ADD http://h/f /f",
            "LABEL url=http://h\nENV A=$B",
            "",
        ] {
            assert_eq!(fetching(text), None, "{text}");
        }
    }

    #[test]
    fn the_recipe_is_found_in_the_tree() {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, text) in [("a", "x"), (DOCKERFILE, "FROM x\n"), ("b", "y")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        assert_eq!(
            recipe(tar.into_inner().unwrap().as_slice()).unwrap(),
            "FROM x\n"
        );
    }
}
