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

    /// The variables of the style sheet, for light and for dark.
    fn variables() -> [std::collections::HashMap<&'static str, &'static str>; 2] {
        let blocks = CSS.text.split(":root {").skip(1).map(|block| {
            let block = block.split('}').next().unwrap();
            let pairs = block
                .split(';')
                .filter_map(|line| line.trim().split_once(": "));
            pairs.collect::<std::collections::HashMap<_, _>>()
        });
        let [light, dark] = <[_; 2]>::try_from(blocks.collect::<Vec<_>>()).unwrap();
        [light, dark]
    }

    /// The relative luminance of a colour, as WCAG defines it.
    fn luminance(colour: &str) -> f64 {
        let digits = colour.strip_prefix('#').unwrap();
        let wide: String = match digits.len() {
            3 => digits.chars().flat_map(|digit| [digit, digit]).collect(),
            _ => digits.to_owned(),
        };
        let weighted = [0.2126, 0.7152, 0.0722]
            .iter()
            .enumerate()
            .map(|(at, weight)| {
                let part = u8::from_str_radix(&wide[2 * at..2 * at + 2], 16).unwrap();
                let part = f64::from(part) / 255.0;
                let linear = match part <= 0.03928 {
                    true => part / 12.92,
                    false => ((part + 0.055) / 1.055).powf(2.4),
                };
                weight * linear
            });
        weighted.sum()
    }

    #[test]
    fn texts_have_contrast_on_every_ground_they_stand_on() {
        let grounds_of_code = [
            "lift", "wait-bg", "mark", "add-bg", "del-bg", "add-word", "del-word",
        ];
        let code = ["hc", "hs", "hk", "hf", "ht", "hn", "ha", "hi", "ink"];
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for text in code {
            pairs.extend(grounds_of_code.map(|ground| (text, ground)));
        }
        // Quiet text stands neither on words that changed nor on what a search or an address points to.
        for ground in ["paper", "lift", "panel", "wait-bg", "add-bg", "del-bg"] {
            pairs.extend([("ink", ground), ("soft", ground)]);
        }
        for state in ["good", "bad", "busy", "wait"] {
            pairs.extend(["paper", "lift", "panel"].map(|ground| (state, ground)));
        }
        pairs.extend([("good", "good-bg"), ("bad", "bad-bg"), ("busy", "busy-bg")]);
        pairs.extend([("wait", "wait-bg"), ("good", "add-bg"), ("bad", "del-bg")]);
        pairs.extend(["paper", "lift", "panel"].map(|ground| ("link", ground)));
        let mut poor = Vec::new();
        for (scheme, colours) in ["light", "dark"].into_iter().zip(variables()) {
            for (text, ground) in &pairs {
                let [one, other] = [text, ground]
                    .map(|name| luminance(colours[format!("--{name}").as_str()]) + 0.05);
                let contrast = one.max(other) / one.min(other);
                if contrast < 4.5 {
                    poor.push(format!("{scheme}: {text} on {ground}: {contrast:.2}"));
                }
            }
        }
        assert!(poor.is_empty(), "{poor:#?}");
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
