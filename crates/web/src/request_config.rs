//! The configuration as the client of one request sees it: where no host is configured, addresses have the host by which the client
//! reached the appliance.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use quire_types::url_host::host_of_authority;

use super::state::{App, WebConfig};

/// Extracted from a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestConfig(pub(super) WebConfig);

impl RequestConfig {
    pub(super) fn new(config: &WebConfig, uri: &Uri, headers: &HeaderMap) -> Self {
        let mut config = config.clone();
        if !config.host_is_configured {
            let by_address = uri.authority().map(axum::http::uri::Authority::as_str);
            let by_header = || headers.get(header::HOST)?.to_str().ok();
            if let Some(host) = by_address.or_else(by_header).and_then(host_of_authority) {
                host.clone_into(&mut config.ssh_host);
            }
        }
        Self(config)
    }
}

impl FromRequestParts<Arc<App>> for RequestConfig {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        app: &Arc<App>,
    ) -> Result<Self, Self::Rejection> {
        Ok(Self::new(&app.web.config, &parts.uri, &parts.headers))
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::SignInMethod;
    use super::super::strangers::StrangerSettings;
    use super::*;

    #[test]
    fn addresses_have_the_host_of_the_request_unless_one_is_configured() {
        let login = |host_is_configured, uri: &str, host: &str| {
            let config = WebConfig {
                url: "http://localhost:3000".to_owned(),
                auth: SignInMethod::Ssh,
                ssh_user: "git".to_owned(),
                ssh_host: "localhost".to_owned(),
                ssh_port: 2222,
                host_is_configured,
                strangers: StrangerSettings::default(),
            };
            let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
            let RequestConfig(config) =
                RequestConfig::new(&config, &uri.parse().unwrap(), &headers);
            (
                config.login_command(),
                config.clone_url(&"app".parse().unwrap()),
            )
        };
        let of = |host: &str, url: &str| {
            (
                format!("ssh -p 2222 git@{host} login"),
                format!("ssh://git@{url}:2222/app.git"),
            )
        };
        assert_eq!(
            login(false, "/", "nas.local:3000"),
            of("nas.local", "nas.local")
        );
        assert_eq!(
            login(false, "/", "[fd00::7]:3000"),
            of("fd00::7", "[fd00::7]")
        );
        assert_eq!(login(false, "http://nas/", "other"), of("nas", "nas"));
        assert_eq!(
            login(true, "/", "nas.local:3000"),
            of("localhost", "localhost")
        );
        for unreadable in ["", "a b", "nas:x", "\"><script>", "user@nas"] {
            assert_eq!(login(false, "/", unreadable), of("localhost", "localhost"));
        }
    }
}
