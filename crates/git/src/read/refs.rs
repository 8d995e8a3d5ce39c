//! The names of branches and tags.

use super::budget::{Budget, Portion};
use super::error::ReadError;
use super::reader::Reader;

/// Which refs are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefNames {
    /// `refs/heads/`.
    Branches,
    /// `refs/tags/`.
    Tags,
}

impl RefNames {
    /// What their full names begin with.
    pub(super) fn prefix(self) -> &'static [u8] {
        match self {
            Self::Branches => b"refs/heads/",
            Self::Tags => b"refs/tags/",
        }
    }
}

/// A branch or a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchOrTag {
    /// The name without `refs/heads/` or `refs/tags/`.
    pub short: Vec<u8>,
    /// What addresses call it.
    pub spelled: Vec<u8>,
}

impl Reader {
    /// The names of branches or tags in their order, after the full name `after`.
    pub fn ref_names(
        &self,
        wanted: RefNames,
        after: Option<&[u8]>,
        budget: &Budget,
    ) -> Result<Portion<BranchOrTag, Vec<u8>>, ReadError> {
        let attempt = "list the refs";
        let platform = self
            .repo
            .references()
            .map_err(ReadError::damaged(attempt))?;
        let refs = match wanted {
            RefNames::Branches => platform.local_branches(),
            RefNames::Tags => platform.tags(),
        };
        let prefix = wanted.prefix();
        let mut page = Portion {
            items: Vec::new(),
            next: None,
            out_of_time: false,
        };
        let mut last = None;
        for found in refs.map_err(ReadError::damaged(attempt))? {
            // A ref that cannot be read is left out of the list, as git does.
            let Ok(found) = found else { continue };
            let full = found.name().as_bstr().to_vec();
            if after.is_some_and(|after| full.as_slice() <= after) {
                continue;
            }
            page.out_of_time = budget.is_over();
            if page.out_of_time || page.items.len() == budget.lines {
                page.next = last;
                break;
            }
            page.items.push(BranchOrTag {
                short: full.strip_prefix(prefix).unwrap_or(&full).to_vec(),
                spelled: self.spelling(&full),
            });
            last = Some(full);
        }
        Ok(page)
    }
}
