//! Suggests the name that a mistyped name in a configuration was probably meant to be.

use quire_pipeline::closest_match;

/// The known name that is closest to an unknown one. `None` if none is close enough.
pub(super) fn closest_name<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    // Environment variables are written with `_`, settings in files with `-`.
    closest_match(
        &unknown.replace('_', "-").to_lowercase(),
        known.iter().copied(),
    )
}
