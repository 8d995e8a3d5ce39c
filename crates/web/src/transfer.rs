//! Responses made smaller on the way: gzip, for clients that accept it.
//!
//! A text is compressed in parts that are joined without compressing any of them again, so that what a page has in common with its next
//! request is compressed once. Files that are compressed already, files that are sent in parts, and streams stay as they are.

use std::io::{self, Write};

use axum::body::{Body, HttpBody, to_bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

use super::error::WebError;

/// Half of the processor time of the default level.
const COMPRESSION: Compression = Compression::new(4);
/// What is smaller fits into one packet anyway.
const MIN_BYTES: usize = 860;
/// What is larger is not held in memory for it.
const MAX_BYTES: usize = 4 << 20;
/// What is larger is compressed on a thread that may be busy for longer.
const MAX_BYTES_AT_ONCE: usize = 64 << 10;
/// The beginning of a gzip file: deflate, no name, no time, an unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// An empty last block.
const LAST_BLOCK: [u8; 2] = [3, 0];
/// What an entity tag of a compressed response ends with.
const TAG_END: &str = "-gz\"";
/// What is worth it.
const MEDIA_TYPES: [&str; 6] = [
    "text/html",
    "text/css",
    "text/javascript",
    "application/json",
    "application/atom+xml",
    "image/svg+xml",
];

/// Part of a text, compressed so that any other part can follow.
pub(super) struct DeflatedPart {
    bytes: Vec<u8>,
    crc: Crc,
}

impl DeflatedPart {
    pub(super) fn new(text: &[u8]) -> io::Result<Self> {
        let mut crc = Crc::new();
        crc.update(text);
        let mut encoder = DeflateEncoder::new(Vec::new(), COMPRESSION);
        encoder.write_all(text)?;
        // Ends at the edge of a byte, without a last block.
        encoder.flush()?;
        let bytes = std::mem::take(encoder.get_mut());
        Ok(Self { bytes, crc })
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// The gzip file of a text in parts.
pub(super) fn gzip_of(parts: &[&DeflatedPart]) -> Vec<u8> {
    let mut crc = Crc::new();
    let mut file = HEADER.to_vec();
    for part in parts {
        file.extend_from_slice(&part.bytes);
        crc.combine(&part.crc);
    }
    file.extend(LAST_BLOCK);
    file.extend(crc.sum().to_le_bytes());
    file.extend(crc.amount().to_le_bytes());
    file
}

/// Runs `compress` where it holds up no other request.
pub(super) async fn compressing<T, F>(bytes: usize, compress: F) -> Result<T, WebError>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    let compressed = if bytes > MAX_BYTES_AT_ONCE {
        tokio::task::spawn_blocking(compress).await?
    } else {
        compress()
    };
    compressed.map_err(|source| WebError::Io {
        attempt: "compress a page".to_owned(),
        source,
    })
}

/// Whether a text of this size is worth it.
pub(super) fn is_worth_it(bytes: usize) -> bool {
    (MIN_BYTES..=MAX_BYTES).contains(&bytes)
}

/// Whether a client says that it reads gzip.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|coding| {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let quality = parameters.trim().strip_prefix("q=");
        let is_refused = quality.is_some_and(|q| q.trim_matches(['0', '.', ' ']).is_empty());
        matches!(name.trim(), "gzip" | "x-gzip") && !is_refused
    })
}

/// The entity tag of a response when it is compressed: another sequence of bytes needs another one.
pub(super) fn compressed_tag(tag: &str) -> String {
    format!("{}{TAG_END}", tag.trim_end_matches('"'))
}

/// Marks a response as compressed.
pub(super) fn mark_compressed(headers: &mut HeaderMap) {
    let gzip = HeaderValue::from_static("gzip");
    headers.insert(header::CONTENT_ENCODING, gzip);
    headers.remove(header::CONTENT_LENGTH);
    let tag = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
    let tag = tag.and_then(|tag| HeaderValue::from_str(&compressed_tag(tag)).ok());
    if let Some(tag) = tag {
        headers.insert(header::ETAG, tag);
    }
}

/// Compresses a response if that is worth it.
pub(super) async fn compressed(response: Response) -> Response {
    let headers = response.headers();
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next());
    let is_text = media_type.is_some_and(|name| MEDIA_TYPES.contains(&name));
    // The ranges of a file are those of its own bytes.
    let has_ranges = headers.contains_key(header::ACCEPT_RANGES);
    let is_done = headers.contains_key(header::CONTENT_ENCODING);
    // A stream has no size.
    let size = response.body().size_hint().exact();
    let size = size.and_then(|size| usize::try_from(size).ok());
    if !is_text || has_ranges || is_done || !size.is_some_and(is_worth_it) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(text) = to_bytes(body, MAX_BYTES).await else {
        return WebError::Slow.into_response();
    };
    let done = compressing(text.len(), move || {
        Ok(gzip_of(&[&DeflatedPart::new(&text)?]))
    });
    match done.await {
        Ok(file) => {
            mark_compressed(&mut parts.headers);
            Response::from_parts(parts, Body::from(file))
        }
        Err(error) => error.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn parts_are_one_file() {
        let texts = ["<head>", "", &"body ".repeat(10_000), "</foot>"];
        let parts = texts.map(|text| DeflatedPart::new(text.as_bytes()).unwrap());
        let file = gzip_of(&parts.each_ref());
        let mut text = String::new();
        let mut decoder = GzDecoder::new(file.as_slice());
        decoder.read_to_string(&mut text).unwrap();
        assert_eq!(text, texts.concat());
        assert_eq!(decoder.into_inner(), b"");
        assert!(file.len() < 2000, "{}", file.len());
    }

    #[test]
    fn clients_say_what_they_read() {
        let accepts = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
            accepts_gzip(&headers)
        };
        for yes in ["gzip", "deflate, gzip;q=0.5, br", "br,x-gzip;q=1.0"] {
            assert!(accepts(yes), "{yes}");
        }
        for no in ["", "br", "gzip;q=0", "gzip; q=0.000", "identity", "gzipped"] {
            assert!(!accepts(no), "{no}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
