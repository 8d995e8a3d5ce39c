//! Where the batch API of a remote is, and the login for it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::batch::{LfsAction, headers};
use quire_git::{RemoteAccess, RemoteLogin};
use quire_types::http_url::HttpUrl;
use quire_types::secret::{Redactor, Secret};
use quire_types::url_host::host_in_url;

/// The batch API of a remote.
pub(super) struct LfsEndpoint {
    pub(super) url: HttpUrl,
    /// What proves who quire is, on this server alone.
    login: HeaderMap,
}

/// What `git-lfs-authenticate` prints.
#[derive(Deserialize)]
struct AuthenticateJson {
    #[serde(default)]
    href: Option<String>,
    #[serde(default)]
    header: Option<BTreeMap<String, String>>,
}

impl LfsEndpoint {
    /// That of a remote over HTTPS.
    pub(super) fn of_https(remote: &RemoteAccess) -> Result<Self, String> {
        let url = api_url(remote.url.as_str())?;
        let mut login = HeaderMap::new();
        if let RemoteLogin::Token { user, token } = &remote.login {
            let pair = Zeroizing::new(format!("{user}:{}", token.expose()));
            let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
            let value = HeaderValue::from_str(&text);
            let mut value = value.map_err(|_| "the token cannot be sent".to_owned())?;
            value.set_sensitive(true);
            login.insert(AUTHORIZATION, value);
        }
        Ok(Self { url, login })
    }

    /// That which a remote over SSH names.
    pub(super) fn of_authenticate(remote: &RemoteAccess, printed: &[u8]) -> Result<Self, String> {
        // The words of the error may quote a secret.
        let json: AuthenticateJson = serde_json::from_slice(printed).map_err(|_| {
            "git-lfs-authenticate printed something else than an address".to_owned()
        })?;
        let url = match json.href.filter(|href| !href.is_empty()) {
            Some(href) => href.parse().map_err(|error| {
                format!("git-lfs-authenticate names an address that is {error}")
            })?,
            None => {
                let path = remote.url.path().trim_start_matches('/');
                api_url(&format!(
                    "https://{}/{path}",
                    host_in_url(remote.url.host())
                ))?
            }
        };
        let login = headers(json.header.unwrap_or_default())?;
        Ok(Self { url, login })
    }

    /// The headers of a request to the batch API.
    pub(super) fn headers(&self) -> HeaderMap {
        self.login.clone()
    }

    /// The headers of a request that an answer of the batch API asks for. The login is added for the server of the batch API alone, and if
    /// the answer has none.
    pub(super) fn headers_of(&self, action: &LfsAction) -> HeaderMap {
        let mut headers = action.headers.clone();
        let needs_login = !action.is_authenticated && !headers.contains_key(AUTHORIZATION);
        if needs_login && action.url.has_same_server(&self.url) {
            headers.extend(self.login.clone());
        }
        headers
    }
}

/// A redactor of the secrets that the headers of a request have.
pub(super) fn secrets_in(headers: &HeaderMap) -> Redactor {
    let values = headers.values().filter(|value| value.is_sensitive());
    let mut secrets = Vec::new();
    for value in values.filter_map(|value| value.to_str().ok()) {
        secrets.push(Secret::new(value.to_owned()));
        // The second word is the secret of a login, and of the kind `Basic` it has a password.
        let Some((_, word)) = value.split_once(' ') else {
            continue;
        };
        secrets.push(Secret::new(word.to_owned()));
        let pair = STANDARD.decode(word).map(Zeroizing::new).ok();
        let pair = pair
            .as_ref()
            .and_then(|pair| std::str::from_utf8(pair).ok());
        if let Some((_, password)) = pair.and_then(|pair| pair.split_once(':')) {
            secrets.push(Secret::new(password.to_owned()));
        }
    }
    Redactor::new(secrets.iter().map(|secret| ("login", secret)))
}

/// `ADDRESS.git/info/lfs`
fn api_url(address: &str) -> Result<HttpUrl, String> {
    let address = address.trim_end_matches('/');
    let suffix = if address.ends_with(".git") {
        ""
    } else {
        ".git"
    };
    let url = format!("{address}{suffix}/info/lfs");
    url.parse().map_err(|error| format!("{address} is {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(url: &str) -> RemoteAccess {
        RemoteAccess {
            url: url.parse().unwrap(),
            addresses: Vec::new(),
            login: RemoteLogin::Token {
                user: "me".to_owned(),
                token: Secret::new("hunter2".to_owned()),
            },
            redactor: Redactor::default(),
        }
    }

    fn shown(endpoint: Result<LfsEndpoint, String>) -> String {
        match endpoint {
            Ok(endpoint) => format!(
                "{}{} {}",
                endpoint.url.origin(),
                endpoint.url.path_and_query(),
                endpoint.login.len()
            ),
            Err(problem) => problem,
        }
    }

    #[test]
    fn the_address_of_the_api_follows_from_that_of_the_remote() {
        let https = [
            "https://h/app.git",
            "https://h:8443/g/app",
            "https://h/app/",
        ];
        let https = https.map(|url| shown(LfsEndpoint::of_https(&remote(url))));
        assert_eq!(
            https,
            [
                "https://h/app.git/info/lfs 1",
                "https://h:8443/g/app.git/info/lfs 1",
                "https://h/app.git/info/lfs 1"
            ]
        );
        let ssh = remote("ssh://git@nas:22/g/app.git");
        let named = |printed: &str| shown(LfsEndpoint::of_authenticate(&ssh, printed.as_bytes()));
        assert_eq!(
            named(
                r#"{"href": "https://lfs.h/x", "header": {"Authorization": "a"}, "expires_in": 9}"#
            ),
            "https://lfs.h/x 1"
        );
        assert_eq!(named("{}"), "https://nas/g/app.git/info/lfs 0");
        assert!(named("{\"href\": \"h\"}").contains("an address that is not a URL"));
        assert!(named("quire: no").contains("printed something else"));
    }

    #[test]
    fn what_is_said_of_a_request_has_no_login() {
        let printed = r#"{"header": {"Authorization": "Basic bWU6bmFtZWQtc2VjcmV0", "X-Key": "another-secret"}}"#;
        let ssh = remote("ssh://git@nas:22/app.git");
        let endpoint = LfsEndpoint::of_authenticate(&ssh, printed.as_bytes()).unwrap();
        let said = "Basic bWU6bmFtZWQtc2VjcmV0, bWU6bmFtZWQtc2VjcmV0, named-secret, another-secret";
        assert_eq!(
            secrets_in(&endpoint.headers()).redact_text(said),
            ["{{ login }}"; 4].join(", ")
        );
    }

    #[test]
    fn a_login_is_for_one_server_alone() {
        let endpoint = LfsEndpoint::of_https(&remote("https://h/app.git")).unwrap();
        let has_login = |href: &str, own: Option<&str>, is_authenticated| {
            let mut headers = HeaderMap::new();
            if let Some(own) = own {
                headers.insert(AUTHORIZATION, HeaderValue::from_str(own).unwrap());
            }
            let url = href.parse().unwrap();
            let action = LfsAction {
                url,
                headers,
                is_authenticated,
            };
            let headers = endpoint.headers_of(&action);
            headers
                .get(AUTHORIZATION)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let ours = Some("Basic bWU6aHVudGVyMg==".to_owned());
        assert_eq!(has_login("https://h:443/x", None, false), ours);
        assert_eq!(has_login("https://H/x", None, false), ours);
        assert_eq!(has_login("https://h/x", None, true), None);
        assert_eq!(
            has_login("https://h/x", Some("Bearer y"), false).as_deref(),
            Some("Bearer y")
        );
        for other in [
            "https://h:444/x",
            "http://h:443/x",
            "https://h.evil/x",
            "https://evil/h",
        ] {
            assert_eq!(has_login(other, None, false), None, "{other}");
        }
    }
}
