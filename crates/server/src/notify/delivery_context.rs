//! What an attempt to deliver a message works with.

use crate::addresses::ReachableAddresses;
use quire_git::Git;
use quire_runtime::changes::ChangeNotifier;
use quire_types::secret::Redactor;

#[derive(Clone, Copy)]
pub(super) struct DeliveryContext<'a> {
    pub(super) git: &'a Git,
    pub(super) changes: &'a ChangeNotifier,
    /// Of all secrets that the configuration names.
    pub(super) redactor: &'a Redactor,
    /// Where receivers may be.
    pub(super) allowed: ReachableAddresses<'a>,
}
