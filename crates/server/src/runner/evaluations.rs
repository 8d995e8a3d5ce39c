//! What earlier evaluations of pipelines found, by the digest of their text: the same text is evaluated
//! once, on however many refs it is pushed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use quire_git::PipelineFiles;
use quire_pipeline::Pipeline;

/// How many results are remembered.
const MAX_REMEMBERED: usize = 64;
/// How long an error is remembered: a slow machine may have caused it.
const MAX_ERROR_AGE: Duration = Duration::from_secs(60);

/// A checked pipeline, or what its author did wrong.
pub(super) type Evaluated = Result<Arc<Pipeline>, String>;

/// The digest of everything that an evaluation depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EvaluationKey([u8; 32]);

impl EvaluationKey {
    pub(super) fn new(files: &PipelineFiles) -> Self {
        let mut digest = Sha256::new();
        let mut add = |part: &[u8]| {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        };
        add(&[u8::from(files.dockerfile)]);
        for file in &files.files {
            add(file.path.as_bytes());
            add(&[u8::from(file.text.is_some())]);
            add(file.text.as_deref().unwrap_or_default().as_bytes());
        }
        for problem in &files.problems {
            add(problem.to_string().as_bytes());
        }
        Self(digest.finalize().into())
    }
}

/// The results, the last used first.
#[derive(Debug, Default)]
pub(super) struct Evaluations(Mutex<VecDeque<Entry>>);

#[derive(Debug, Clone)]
struct Entry {
    key: EvaluationKey,
    result: Evaluated,
    at: Instant,
}

impl Evaluations {
    /// Returns the result of an earlier evaluation.
    pub(super) fn get(&self, key: EvaluationKey, now: Instant) -> Option<Evaluated> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let position = entries.iter().position(|entry| entry.key == key)?;
        let entry = entries.remove(position)?;
        if entry.result.is_err() && now.duration_since(entry.at) > MAX_ERROR_AGE {
            return None;
        }
        let result = entry.result.clone();
        entries.push_front(entry);
        Some(result)
    }

    pub(super) fn remember(&self, key: EvaluationKey, result: Evaluated, now: Instant) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| entry.key != key);
        entries.push_front(Entry {
            key,
            result,
            at: now,
        });
        entries.truncate(MAX_REMEMBERED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_git::PipelineFile;

    fn key(files: &[(&str, Option<&str>)], dockerfile: bool) -> EvaluationKey {
        let files = files.iter().map(|(path, text)| PipelineFile {
            path: (*path).to_owned(),
            text: text.map(str::to_owned),
        });
        EvaluationKey::new(&PipelineFiles {
            files: files.collect(),
            dockerfile,
            ..PipelineFiles::default()
        })
    }

    #[test]
    fn everything_that_an_evaluation_depends_on_is_in_its_key() {
        let keys = [
            key(&[("a", Some("x"))], false),
            key(&[("a", Some("x"))], true),
            key(&[("a", Some(""))], false),
            key(&[("a", None)], false),
            key(&[("ax", Some(""))], false),
            key(&[("a", Some("")), ("b", Some(""))], false),
        ];
        for (number, one) in keys.iter().enumerate() {
            assert_eq!(keys.iter().position(|other| other == one), Some(number));
        }
    }

    #[test]
    fn results_are_remembered_the_last_used_longest_and_errors_for_a_while() {
        let results = Evaluations::default();
        let now = Instant::now();
        let of = |number: usize| key(&[("a", Some(&number.to_string()))], false);
        let error = |text: &str| Err(text.to_owned());
        results.remember(of(0), error("zero"), now);
        for number in 1..=MAX_REMEMBERED {
            assert_eq!(results.get(of(0), now), Some(error("zero")));
            results.remember(of(number), error("other"), now);
        }
        assert_eq!(results.get(of(1), now), None);
        assert_eq!(results.get(of(2), now), Some(error("other")));
        let later = now + MAX_ERROR_AGE + Duration::from_millis(1);
        assert_eq!(results.get(of(0), later), None);
        assert_eq!(results.get(of(0), now), None);
    }
}
