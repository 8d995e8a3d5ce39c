//! Paths on this host that a browser is sent back to.

use axum::http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands in such a path as it is.
const PATH_SET: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'.')
    .remove(b'_')
    .remove(b'-')
    .remove(b'?')
    .remove(b'=')
    .remove(b'&')
    .remove(b'%')
    .remove(b'+')
    .remove(b':')
    .remove(b'@')
    .remove(b'~')
    .remove(b'!')
    .remove(b'*');

/// The path and the query of a request, written so that [`is_local`] holds; `None` if it has none on this host.
pub(super) fn return_path(uri: &Uri) -> Option<String> {
    let path = uri.path_and_query()?.as_str();
    let path = utf8_percent_encode(path, PATH_SET).to_string();
    is_local(&path).then_some(path)
}

/// A path on this very host, of harmless characters.
pub(super) fn is_local(path: &str) -> bool {
    path.starts_with('/')
        && !path.starts_with("//")
        && path
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/._-?=&%+:@~!*".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_sent_to_this_host_only() {
        for path in [
            "/",
            "/work/app",
            "/runs/0197?x=1",
            "/app?ref=a+b%20c&at=12:00~1",
        ] {
            assert!(is_local(path));
            assert_eq!(return_path(&path.parse().unwrap()).unwrap(), path);
        }
        for path in [
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "/a\r\nSet-Cookie: x",
            "/a;b",
            "",
        ] {
            assert!(!is_local(path), "{path:?}");
        }
        let of = |uri: &str| return_path(&uri.parse().unwrap());
        assert_eq!(
            of("/a(b);c,d'?q=$[").as_deref(),
            Some("/a%28b%29%3Bc%2Cd%27?q=%24%5B")
        );
        assert_eq!(of("//evil.example/x"), None);
    }
}
