//! The refs that the head of a page offers.

use quire_git::read::{BranchOrTag, Budget, ReadError, Reader, RefNames};

/// How many branches, and how many tags, the list of revisions names.
const MAX_LISTED_REFS: usize = 50;

/// The names of the list of revisions.
#[derive(Debug)]
pub(super) struct RefChoices {
    pub(super) branches: Vec<BranchOrTag>,
    pub(super) tags: Vec<BranchOrTag>,
    pub(super) are_all: bool,
}

impl RefChoices {
    pub(super) fn read(reader: &Reader, budget: &Budget) -> Result<Self, ReadError> {
        let budget = budget.with_lines(MAX_LISTED_REFS);
        let branches = reader.ref_names(RefNames::Branches, None, &budget)?;
        let tags = reader.ref_names(RefNames::Tags, None, &budget)?;
        Ok(Self {
            are_all: branches.is_last() && tags.is_last(),
            branches: branches.items,
            tags: tags.items,
        })
    }
}
