//! The log of a build, made of what BuildKit reports of its steps.
//!
//! A step is announced by its name when it begins. Steps run side by side: where the output changes from one to another, the
//! name is repeated.

use std::collections::HashMap;

use super::messages::control::{StatusResponse, Vertex};

/// Steps of BuildKit itself that say nothing about the Dockerfile.
const HIDDEN: [&str; 4] = [
    "[internal] load build",
    "[internal] load remote build",
    "[internal] load .dockerignore",
    "[internal] settings",
];

/// How many steps are remembered. No Dockerfile has more.
const MAX_STEPS: usize = 10_000;

#[derive(Default)]
pub(super) struct BuildProgress {
    /// The names of the steps that were announced, by their digests.
    announced: HashMap<String, String>,
    /// The step whose output or announcement came last.
    last: String,
    /// Whether the last output did not end its line.
    within_line: bool,
}

impl BuildProgress {
    /// Passes on what an update says.
    pub(super) fn update(&mut self, update: StatusResponse, output: &mut dyn FnMut(&[u8])) {
        for step in update.vertexes {
            self.announce(step, output);
        }
        for log in update.logs {
            let Some(name) = self.announced.get(&log.vertex) else {
                continue;
            };
            if self.last != log.vertex {
                let name = name.clone();
                self.line(&name, output);
                self.last.clone_from(&log.vertex);
            }
            if let Some(last) = log.message.last() {
                output(&log.message);
                self.within_line = *last != b'\n';
            }
        }
    }

    fn announce(&mut self, step: Vertex, output: &mut dyn FnMut(&[u8])) {
        if step.started.is_none()
            || self.announced.contains_key(&step.digest)
            || self.announced.len() >= MAX_STEPS
        {
            return;
        }
        let name = step.name.split_whitespace().collect::<Vec<_>>().join(" ");
        if !HIDDEN.iter().any(|hidden| name.starts_with(hidden)) {
            match step.cached {
                true => self.line(&format!("{name} (cached)"), output),
                false => self.line(&name, output),
            }
            self.last.clone_from(&step.digest);
        }
        self.announced.insert(step.digest, name);
    }

    fn line(&mut self, text: &str, output: &mut dyn FnMut(&[u8])) {
        let end = if self.within_line { "\n" } else { "" };
        self.within_line = false;
        output(format!("{end}{text}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::Empty;
    use super::super::messages::control::VertexLog;
    use super::*;

    #[test]
    fn steps_are_announced_once_and_their_output_is_told_apart() {
        let step = |digest: &str, name: &str, started: bool, cached: bool| Vertex {
            digest: digest.to_owned(),
            name: name.to_owned(),
            cached,
            started: started.then_some(Empty {}),
            completed: None,
        };
        let log = |vertex: &str, text: &str| VertexLog {
            vertex: vertex.to_owned(),
            message: text.as_bytes().to_vec(),
        };
        let mut text = String::new();
        let mut progress = BuildProgress::default();
        for (vertexes, logs) in [
            (
                vec![
                    step("0", "[internal] load build definition", true, false),
                    step("1", "[1/3] FROM\n x", true, true),
                    step("2", "[2/3] RUN a", false, false),
                ],
                vec![],
            ),
            (
                vec![step("2", "[2/3] RUN a", true, false)],
                vec![log("2", "one\nun"), log("2", "finished")],
            ),
            (
                vec![
                    step("2", "[2/3] RUN a", true, false),
                    step("3", "[3/3] RUN b", true, false),
                ],
                vec![log("3", "two\n"), log("2", "three\n"), log("9", "unknown")],
            ),
        ] {
            let update = StatusResponse { vertexes, logs };
            progress.update(update, &mut |bytes| {
                text.push_str(&String::from_utf8_lossy(bytes));
            });
        }
        insta::assert_snapshot!(text, @r"
        [1/3] FROM x (cached)
        [2/3] RUN a
        one
        unfinished
        [3/3] RUN b
        two
        [2/3] RUN a
        three
        ");
    }
}
