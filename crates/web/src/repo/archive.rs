//! `GET /{repo}/-/archive/{rev}.tar.gz` and `.zip`: the files of a commit as one file.
//!
//! It is written while the client reads it, in a thread of its own, and ends when the client disconnects.

use std::io;

use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::super::error::WebError;
use super::super::html::attachment;
use super::super::strangers::PacedWriter;
use super::super::written_body::written_body;
use super::address::archive_link;
use super::context::{FIXED_MAX_AGE, RepoContext};
use super::page_identity::{entity_tag, unchanged};
use quire_git::Git;
use quire_git::read::{ArchiveContent, ArchiveError, ArchiveFormat, Reader, ResolvedRev, RevPath};

/// The links to the archives of a revision, for a page.
pub(super) struct ArchiveLinks {
    pub(super) tar_gz: String,
    pub(super) zip: String,
}

impl ArchiveLinks {
    pub(super) fn new(context: &RepoContext, rev: &[u8]) -> Self {
        let link = |format| archive_link(&context.base, rev, format);
        Self {
            tar_gz: link(ArchiveFormat::TarGz),
            zip: link(ArchiveFormat::Zip),
        }
    }
}

pub(super) async fn page(
    context: &RepoContext,
    format: ArchiveFormat,
    wanted: RevPath,
) -> Result<Response, WebError> {
    let resolve = context.read(1, move |reader, _| reader.resolve(&wanted));
    let (rev, path) = resolve.await?;
    if !path.is_root() {
        return Err(WebError::NotFound);
    }
    if rev.is_abbreviated {
        let target = archive_link(&context.base, &rev.spelled, format);
        return Ok(Redirect::temporary(&target).into_response());
    }
    let content = ArchiveContent {
        folder: folder(context.repo.as_str(), &rev),
        commit: rev.commit.clone(),
    };
    let tag = entity_tag(&format!("archive {content:?} {format:?}"));
    if let Some(response) = unchanged(&context.known, &tag) {
        return Ok(response);
    }
    let turn = context.download_turn().await?;
    let file = [&content.folder, format.extension().as_bytes()].concat();
    let mut headers: Vec<(HeaderName, String)> = vec![
        (header::CONTENT_TYPE, media_type(format).to_owned()),
        (header::CONTENT_DISPOSITION, attachment(&file)),
        (header::ETAG, tag),
    ];
    if rev.is_fixed() {
        headers.push((header::CACHE_CONTROL, FIXED_MAX_AGE.to_owned()));
    }
    let folder = context.app.web.paths.repo(&context.repo);
    let mut blobs = Git::new(&context.app.web.paths).copy_blobs(folder.clone());
    let pace = context.pace();
    let body = written_body(context.access.is_stranger, move |out| {
        let _turn = turn;
        let out = PacedWriter::new(out, pace);
        let written = Reader::open(&folder)
            .map_err(ArchiveError::Read)
            .and_then(|reader| reader.write_archive(&content, format, &mut blobs, out));
        written.map_err(io::Error::other)
    });
    let mut response = body.into_response();
    for (name, value) in headers {
        let value = value.parse().map_err(|_| WebError::NotFound)?;
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

fn media_type(format: ArchiveFormat) -> &'static str {
    match format {
        ArchiveFormat::TarGz => "application/gzip",
        ArchiveFormat::Zip => "application/zip",
    }
}

/// `name-rev`: the last part of the repository's name, and the short name of the ref or the id.
fn folder(repo: &str, rev: &ResolvedRev) -> Vec<u8> {
    let name = repo.rsplit('/').next().unwrap_or(repo);
    let rev = match &rev.ref_name {
        Some(full) => [&b"refs/heads/"[..], b"refs/tags/"]
            .iter()
            .find_map(|kind| full.strip_prefix(*kind))
            .unwrap_or(full),
        None => rev.commit.as_str().as_bytes(),
    };
    let mut folder = [name.as_bytes(), b"-", rev].concat();
    for byte in &mut folder {
        if *byte == b'/' {
            *byte = b'-';
        }
    }
    folder
}
