//! The certificates of the authorities that the system trusts.

use rustls::RootCertStore;

/// Reads them, at each call, so a change of them needs no restart. Blocks.
pub(crate) fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a certificate of the system cannot be read");
    }
    roots.add_parsable_certificates(found.certs);
    roots
}
