//! The checks of how people reach the appliance: keys, warnings of `init`, and the address in links.

use quire_types::base_url::{BaseUrl, UrlHost};
use quire_types::error_chain::chain;
use quire_types::init_status::InitStatus;
use quire_types::paths::Paths;
use quire_types::url_host::host_of_url;

use super::finding::DoctorFinding;

pub(super) async fn examine(paths: &Paths, url: &BaseUrl) -> Vec<DoctorFinding> {
    let mut findings = keys(paths);
    findings.push(address(url).await);
    findings
}

/// What `init` found at its start, and how many keys may connect.
fn keys(paths: &Paths) -> Vec<DoctorFinding> {
    match InitStatus::read(&paths.init_status()) {
        Ok(Some(status)) => {
            let count = match status.keys {
                0 => DoctorFinding::failed(
                    "keys",
                    "no SSH key may connect",
                    "set QUIRE_AUTHORIZED_KEYS, or mount a file of public keys (docs/operations.md)",
                ),
                1 => DoctorFinding::ok("keys", "1 SSH key may connect"),
                count => DoctorFinding::ok("keys", format!("{count} SSH keys may connect")),
            };
            let warnings = status.warnings.into_iter().map(|text| {
                DoctorFinding::warning(
                    "start",
                    text,
                    "correct what the warning names, and restart quire",
                )
            });
            std::iter::once(count).chain(warnings).collect()
        }
        // `quire serve` alone has no sshd of quire.
        Ok(None) => Vec::new(),
        Err(error) => vec![DoctorFinding::failed(
            "keys",
            format!(
                "the status file of `quire init` cannot be read: {}",
                chain(&error)
            ),
            "restart quire",
        )],
    }
}

/// Whether the host that links begin with is known, and has an address.
async fn address(url: &BaseUrl) -> DoctorFinding {
    let part = "address";
    let change = "set QUIRE_HOST in compose.yaml, or `:http {:url \"https://…\"}` in the configuration, and restart the container";
    if url.host == UrlHost::Unknown {
        return DoctorFinding::warning(
            part,
            format!(
                "links begin with {}, which is right on this machine only",
                url.url
            ),
            change,
        );
    }
    let Some(host) = host_of_url(&url.url) else {
        return DoctorFinding::failed(part, format!("{} has no host", url.url), change);
    };
    match tokio::net::lookup_host((host.as_str(), 0)).await {
        Ok(_) => DoctorFinding::ok(part, format!("links begin with {}", url.url)),
        // The names of a home network are often known to its clients only.
        Err(error) => DoctorFinding::warning(
            part,
            format!(
                "links begin with {}, but {host} cannot be resolved here: {error}",
                url.url
            ),
            "check that the machines that open links can resolve it",
        ),
    }
}
