//! What landings work with.

use quire_git::Git;
use quire_runtime::changes::ChangeNotifier;
use quire_store::Store;
use quire_types::paths::Paths;

use crate::findings::Findings;
use crate::intake::Intake;

/// The parts of the server that landings use.
#[derive(Clone)]
pub struct LandingDeps {
    pub paths: Paths,
    pub store: Store,
    pub git: Git,
    pub intake: Intake,
    pub changes: ChangeNotifier,
    pub findings: Findings,
}
