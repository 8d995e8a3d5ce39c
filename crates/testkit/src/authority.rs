//! A certificate authority of a test.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use tempfile::TempDir;

/// Authorities of one process differ in their names.
static COUNT: AtomicU32 = AtomicU32::new(1);

/// A certificate authority. Its files are removed with it.
pub struct CertificateAuthority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl CertificateAuthority {
    /// A new one, with a new key.
    #[expect(clippy::new_without_default, reason = "each is another authority")]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        let name = format!("Test authority {}", COUNT.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("authority.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    /// The file with its certificate, for `SSL_CERT_FILE`.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// The file of a new certificate for a name or an address, and its key.
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.issue(name, CertificateParams::new([name.to_owned()]).unwrap())
    }

    /// The same, of a certificate that has expired.
    pub fn expired_certificate(&self, name: &str) -> PathBuf {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
        self.issue(&format!("expired-{name}"), params)
    }

    fn issue(&self, name: &str, params: CertificateParams) -> PathBuf {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = self.folder.path().join(format!("{name}.pem"));
        fs::write(&file, certificate.pem() + &key.serialize_pem()).unwrap();
        file
    }
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CertificateAuthority")
            .field(&self.file())
            .finish()
    }
}
