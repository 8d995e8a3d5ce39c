//! What a test needs and a machine may lack. A need that is missing fails the test, unless
//! `QUIRE_SKIP` names it: `docker`, `browser`, `toolchains`, `root`.

/// Whether `QUIRE_SKIP` leaves this need out.
pub fn skipped(need: &str) -> bool {
    std::env::var("QUIRE_SKIP").is_ok_and(|list| list.split([',', ' ']).any(|item| item == need))
}
