//! Suggests the name that a mistyped name was probably meant to be.

/// The candidate that is closest to a mistyped name. `None` if none is close enough.
#[must_use]
pub fn closest_match<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > 256 {
        return None;
    }
    let length = name.chars().count();
    // Up to a third of the letters may be wrong, but never all of them.
    let allowed = (length / 3).max(1).min(length.saturating_sub(1));
    candidates
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(name, candidate),
                strsim::jaro_winkler(name, candidate),
                candidate,
            )
        })
        .filter(|(distance, likeness, _)| *distance <= allowed || *likeness >= 0.85)
        .min_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)))
        .map(|(_, _, candidate)| candidate)
}
