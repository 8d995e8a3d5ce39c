//! What git and the other side say while something is fetched: lines for the user, and the last words if it fails.

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc::UnboundedSender;

use quire_types::secret::Redactor;
use quire_types::text::{excerpt, single_line};

/// A line that is replaced by the next one is passed on at most once in this time.
const MIN_INTERVAL: Duration = Duration::from_millis(500);
/// The longest line that is passed on, in characters, and read, in bytes.
const MAX_SHOWN: usize = 200;
const MAX_LINE: usize = 4096;
/// How much of what was said is kept for an error, in bytes.
const MAX_WORDS: usize = 32 << 10;

/// A line of progress. It holds no secret and no control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressLine {
    pub text: String,
    /// Whether it stays; the next line replaces any other one.
    pub is_final: bool,
}

/// Passes on progress, and keeps what else was said.
pub(super) struct ProgressReader<'a> {
    redactor: &'a Redactor,
    progress: &'a UnboundedSender<ProgressLine>,
    line: Vec<u8>,
    passed_on: Option<Instant>,
    words: String,
}

impl<'a> ProgressReader<'a> {
    pub(super) fn new(redactor: &'a Redactor, progress: &'a UnboundedSender<ProgressLine>) -> Self {
        Self {
            redactor,
            progress,
            line: Vec::new(),
            passed_on: None,
            words: String::new(),
        }
    }

    /// Reads to the end. Returns what was said and is no progress, with its last part if it is long.
    pub(super) async fn read(mut self, mut from: impl AsyncRead + Unpin) -> String {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            for byte in &buffer[..read] {
                match byte {
                    b'\n' => self.end_line(true),
                    b'\r' => self.end_line(false),
                    byte if self.line.len() < MAX_LINE => self.line.push(*byte),
                    _ => {}
                }
            }
        }
        self.end_line(true);
        self.words
    }

    fn end_line(&mut self, is_final: bool) {
        let line = std::mem::take(&mut self.line);
        let is_early = self.passed_on.is_some_and(|at| at.elapsed() < MIN_INTERVAL);
        if line.is_empty() || (!is_final && is_early) {
            return;
        }
        let text = self.redactor.redact_text(&String::from_utf8_lossy(&line));
        if !is_progress(text.trim_end()) {
            self.keep(&text);
        } else {
            if !is_final {
                self.passed_on = Some(Instant::now());
            }
            let text = excerpt(single_line(&text).trim_end(), MAX_SHOWN);
            // The client may have ended.
            let _ = self.progress.send(ProgressLine { text, is_final });
        }
    }

    fn keep(&mut self, text: &str) {
        self.words.push_str(text);
        self.words.push('\n');
        if self.words.len() > 2 * MAX_WORDS {
            let at = self.words.ceil_char_boundary(self.words.len() - MAX_WORDS);
            self.words.drain(..at);
        }
    }
}

/// Whether a line says how far the fetch is, and not that something is wrong.
fn is_progress(line: &str) -> bool {
    line.contains("% (") || line.ends_with(", done.") || line.starts_with("remote: Total ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_types::secret::Secret;

    #[tokio::test]
    async fn progress_is_told_from_errors_and_holds_no_secret() {
        let secret = Secret::new("hunter2-and-more".to_owned());
        let redactor = Redactor::new([("token", &secret)].into_iter());
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let said = b"remote: Enumerating objects: 9, done.        \nremote: Counting objects:  11% (1/9)   \r\
            remote: Counting objects:  22% (2/9)   \rremote: Counting objects: 100% (9/9), done.\n\
            remote: \x1b[1mhunter2-and-more 1% (x\nfatal: no hunter2-and-more\nfatal: the end";
        let words = ProgressReader::new(&redactor, &sender)
            .read(&said[..])
            .await;
        drop(sender);
        let mut lines = Vec::new();
        while let Some(line) = receiver.recv().await {
            lines.push(format!("{} {}", line.is_final, line.text));
        }
        lines.push(words);
        insta::assert_snapshot!(lines.join("\n"));
    }
}
