//! Cookies of requests and responses.

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;

use super::state::WebConfig;

/// The value of a cookie.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok());
    values
        .flat_map(|v| v.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Sets a cookie that no script can read.
pub(super) fn set_cookie(response: &mut Response, cookie: &str, config: &WebConfig) {
    let secure = if config.is_https() { "; Secure" } else { "" };
    // Our own text, digits and letters: always a valid header.
    if let Ok(value) = HeaderValue::from_str(&format!("{cookie}; HttpOnly; SameSite=Lax{secure}")) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let text = "xquire_session=1; quire_session_=2;quire_session=3; a=b";
        let headers = HeaderMap::from_iter([(header::COOKIE, text.parse().unwrap())]);
        assert_eq!(cookie(&headers, "quire_session"), Some("3"));
        assert_eq!(cookie(&headers, "quire"), None);
    }
}
