//! Condenses the hundreds of progress messages of a pull to a line now and then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bollard::models::CreateImageInfo;

/// The least time between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// The state of one pull.
#[derive(Debug, Default)]
pub(super) struct PullProgress {
    layers: BTreeMap<String, LayerProgress>,
    last_line: Option<Instant>,
}

#[derive(Debug, Default)]
struct LayerProgress {
    current: i64,
    total: i64,
    done: bool,
    /// Whether the engine waits before it retries the layer, which it says every second.
    retrying: bool,
}

impl PullProgress {
    /// Takes a message of the engine at the time `now`; calls `line` if there is something to show.
    pub(super) fn update(
        &mut self,
        info: &CreateImageInfo,
        now: Instant,
        line: &mut (dyn FnMut(&str) + Send),
    ) {
        let status = info.status.as_deref().unwrap_or_default();
        let layer = info
            .id
            .as_deref()
            .filter(|id| id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(id) = layer else {
            if !status.is_empty() {
                line(status);
            }
            return;
        };
        let layer = self.layers.entry(id.to_owned()).or_default();
        if let (Some(detail), "Downloading") = (&info.progress_detail, status) {
            layer.current = detail.current.unwrap_or(layer.current);
            layer.total = detail.total.unwrap_or(layer.total);
        }
        let retrying = status.starts_with("Retrying in ");
        if retrying && !layer.retrying {
            line(&format!(
                "layer {id} was not downloaded completely: {status}"
            ));
        }
        layer.retrying = retrying;
        layer.done |= matches!(status, "Pull complete" | "Already exists");
        let is_due = self
            .last_line
            .is_none_or(|last| now.duration_since(last) >= PROGRESS_INTERVAL);
        if is_due && !self.layers.values().all(|layer| layer.total == 0) {
            self.last_line = Some(now);
            line(&self.summary());
        }
    }

    fn summary(&self) -> String {
        let done = self.layers.values().filter(|layer| layer.done).count();
        let megabytes = |bytes: fn(&LayerProgress) -> i64| {
            self.layers.values().map(bytes).sum::<i64>() / 1_000_000
        };
        let current = megabytes(|layer| {
            if layer.done {
                layer.total
            } else {
                layer.current
            }
        });
        format!(
            "{done} of {} layers, {current} of {} MB downloaded",
            self.layers.len(),
            megabytes(|layer| layer.total)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ProgressDetail;

    #[test]
    fn a_thousand_messages_become_a_few_lines() {
        let start = Instant::now();
        let mut progress = PullProgress::default();
        let mut lines = Vec::new();
        let mut update = |id: &str, status: &str, current: i64, at: u64| {
            let info = CreateImageInfo {
                id: Some(id.into()),
                status: Some(status.into()),
                progress_detail: Some(ProgressDetail {
                    current: Some(current),
                    total: Some(100_000_000),
                }),
                ..Default::default()
            };
            progress.update(&info, start + Duration::from_millis(at), &mut |line| {
                lines.push(line.to_owned())
            });
        };
        let layer = "0123456789ab";
        update("trixie", "Pulling from library/debian", 0, 0);
        for step in 0..1000 {
            update(
                layer,
                "Downloading",
                step * 100_000,
                step.unsigned_abs() * 10,
            );
        }
        for step in 0..10 {
            let status = format!("Retrying in {} seconds", 10 - step);
            update(layer, &status, 0, 10_000);
        }
        update(layer, "Pull complete", 0, 20_000);
        insta::assert_snapshot!(lines.join("\n"), @r#"
        Pulling from library/debian
        0 of 1 layers, 0 of 100 MB downloaded
        0 of 1 layers, 50 of 100 MB downloaded
        layer 0123456789ab was not downloaded completely: Retrying in 10 seconds
        0 of 1 layers, 99 of 100 MB downloaded
        1 of 1 layers, 100 of 100 MB downloaded
        "#);
    }
}
