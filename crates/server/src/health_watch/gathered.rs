//! The bound on the findings of one part that are told by themselves: what happens to all repositories at once is not told once for each.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::observed::{ObservedFinding, ObservedPart};

/// How many findings of a part are told by themselves at the same time. What was told before counts.
const MAX_TOLD_OF_PART: usize = 5;
/// The subject of the finding that stands for the others. No name of a repository, mirror or target has its first character.
const OTHERS: &str = "+ others";

/// The findings of a part, where those beyond the bound are one. `told` are the subjects of the part that were told: they stay by
/// themselves, so none of them seems to be over.
pub(super) fn gathered(part: &ObservedPart, told: &BTreeSet<&str>) -> Vec<ObservedFinding> {
    let (mut single, mut new): (Vec<_>, Vec<_>) = part
        .findings
        .iter()
        .cloned()
        .partition(|finding| told.contains(finding.subject.as_str()));
    // The worst are told by themselves, and named first among the others.
    new.sort_by_key(|finding| Reverse(finding.level));
    // One more is better told than counted, unless the others were told as one.
    let most = MAX_TOLD_OF_PART + usize::from(!told.contains(OTHERS));
    if single.len() + new.len() <= most {
        single.append(&mut new);
        return single;
    }
    let free = MAX_TOLD_OF_PART.saturating_sub(single.len());
    let others = new.split_off(free);
    single.append(&mut new);
    let level = others.iter().map(|finding| finding.level).max();
    if let (Some(first), Some(level)) = (others.first(), level) {
        single.push(ObservedFinding {
            subject: OTHERS.to_owned(),
            level,
            text: format!(
                "{} more, such as {}; `status` lists all",
                others.len(),
                first.text
            ),
        });
    }
    single
}
