//! Labels of containers, images, networks and volumes.

use std::collections::HashMap;

/// Labels as pairs of key and value.
pub type Labels = Vec<(String, String)>;

pub(super) fn label_map(labels: &Labels) -> HashMap<String, String> {
    labels.iter().cloned().collect()
}

/// The filter that selects the objects with all of these labels; an empty value stands for any.
pub(super) fn label_filter(labels: &Labels) -> HashMap<String, Vec<String>> {
    HashMap::from([(
        "label".to_owned(),
        labels
            .iter()
            .map(|(key, value)| match value.as_str() {
                "" => key.clone(),
                value => format!("{key}={value}"),
            })
            .collect(),
    )])
}
