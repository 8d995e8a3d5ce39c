//! The style sheet, the script and the icon: in the binary, served under the hash of their content.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::error::WebError;
use quire_types::token::hex;

struct Asset {
    /// Name with the hash in it.
    name: String,
    media_type: &'static str,
    text: &'static str,
}

fn asset(suffix: &str, media_type: &'static str, text: &'static str) -> Asset {
    Asset {
        name: format!("{}.{suffix}", &hex(&Sha256::digest(text))[..16]),
        media_type,
        text,
    }
}

static CSS: LazyLock<Asset> = LazyLock::new(|| {
    asset(
        "css",
        "text/css; charset=utf-8",
        include_str!("../assets/quire.css"),
    )
});
static JS: LazyLock<Asset> = LazyLock::new(|| {
    asset(
        "js",
        "text/javascript; charset=utf-8",
        include_str!("../assets/quire.js"),
    )
});
static ICON: LazyLock<Asset> =
    LazyLock::new(|| asset("svg", "image/svg+xml", include_str!("../assets/icon.svg")));

/// File name of the style sheet.
pub(crate) fn css() -> &'static str {
    &CSS.name
}

/// File name of the script.
pub(crate) fn js() -> &'static str {
    &JS.name
}

/// File name of the icon.
pub(crate) fn icon() -> &'static str {
    &ICON.name
}

/// `GET /assets/<hash>.<suffix>`: the content never changes under its name.
pub(super) async fn serve(Path(name): Path<String>) -> Result<Response, WebError> {
    let asset = [&*CSS, &*JS, &*ICON]
        .into_iter()
        .find(|a| a.name == name)
        .ok_or(WebError::NotFound)?;
    let headers = [
        (header::CONTENT_TYPE, asset.media_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    Ok((headers, asset.text).into_response())
}

#[cfg(test)]
mod tests {
    use super::super::transfer::{DeflatedPart, gzip_of};
    use super::*;

    #[test]
    fn style_and_script_stay_small_on_the_way() {
        let sent = [&*CSS, &*JS].map(|asset| {
            let part = DeflatedPart::new(asset.text.as_bytes()).unwrap();
            gzip_of(&[&part]).len()
        });
        assert!(sent.iter().sum::<usize>() < 12_000, "{sent:?} bytes");
    }

    #[test]
    fn style_and_script_stay_small() {
        assert!(
            CSS.text.len() + JS.text.len() < 40_000,
            "{} bytes",
            CSS.text.len() + JS.text.len()
        );
    }
}
