//! What a run kept: its part of the run's page, and downloads.

use askama::Template;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::{AsciiSet, utf8_percent_encode};
use tokio_util::io::ReaderStream;

use super::access::find_run;
use super::error::WebError;
use super::html::{VALUE_SET, attachment, run_path};
use super::state::SharedApp;
use super::viewer::Viewer;
use super::written_body::written_body;
use quire_run_files::artifacts::{self, Artifact, ArtifactName};
use quire_types::names::RunId;
use quire_types::run::RunArtifact;
use quire_types::text::format_bytes;

/// What of a path is written as it is.
const PATH_SET: &AsciiSet = &VALUE_SET.remove(b'/');
/// How much of a file waits for the client.
const PIPE_BYTES: usize = 64 << 10;

/// The list on a run's page; nothing where it kept nothing.
#[derive(Template)]
#[template(
    ext = "html",
    source = "{% if !rows.is_empty() %}<section class=\"artifacts\"><h2>Artifacts</h2><ul>
{%- for row in rows %}<li><a href=\"{{ href(row) }}\" download>{{ row.name }}</a> <span class=\"quiet\">{{ about(row) }}</span></li>
{%- endfor %}</ul></section>{% endif %}"
)]
pub(super) struct ArtifactLinks {
    pub(super) run: RunId,
    pub(super) rows: Vec<RunArtifact>,
}

impl ArtifactLinks {
    fn href(&self, row: &RunArtifact) -> String {
        format!(
            "{}/artifacts/{}",
            run_path(&self.run),
            utf8_percent_encode(&row.name, PATH_SET)
        )
    }

    fn about(&self, row: &RunArtifact) -> String {
        let size = format_bytes(row.bytes);
        if row.is_folder {
            format!("folder of {}, {size}, as tar", row.files)
        } else {
            size
        }
    }
}

/// `GET /runs/<id>/artifacts/<name>`: a file as it is, a folder as a tar archive. Always something to
/// save and never a page: what a run made must not act in the name of the user who opens it.
pub(super) async fn download(
    State(app): SharedApp,
    Extension(viewer): Extension<Viewer>,
    Path((id, name)): Path<(String, String)>,
) -> Result<Response, WebError> {
    let run = find_run(&app, &viewer, &id).await?;
    if let Some(at) = run.artifacts_removed_at_ms {
        return Ok((
            StatusCode::GONE,
            format!("The artifacts of this run were removed by retention on {at}.\n"),
        )
            .into_response());
    }
    let name: ArtifactName = name.parse().map_err(|_| WebError::NotFound)?;
    let rows = app
        .web
        .store
        .call(move |s| s.artifacts().list(run.id))
        .await?;
    if !rows.iter().any(|row| row.name == name.as_str()) {
        return Err(WebError::NotFound);
    }
    let folder = app.web.paths.run_artifacts(&run.repo, run.id);
    let opened = {
        let name = name.clone();
        tokio::task::spawn_blocking(move || artifacts::open(&folder, &name)).await?
    };
    let opened = opened.map_err(|source| WebError::Io {
        attempt: format!("read the artifact {name} of run {}", run.id),
        source,
    })?;
    Ok(match opened.ok_or(WebError::NotFound)? {
        Artifact::File(file, size) => {
            let body = Body::from_stream(ReaderStream::with_capacity(
                tokio::fs::File::from_std(file.into_std()),
                PIPE_BYTES,
            ));
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
                (header::CONTENT_LENGTH, size.to_string()),
            ];
            (
                headers,
                [(
                    header::CONTENT_DISPOSITION,
                    attachment(name.last().as_bytes()),
                )],
                body,
            )
                .into_response()
        }
        Artifact::Folder(folder) => {
            let headers = [(header::CONTENT_TYPE, "application/x-tar".to_owned())];
            let disposition = [(
                header::CONTENT_DISPOSITION,
                attachment(format!("{}.tar", name.last()).as_bytes()),
            )];
            let body = written_body(viewer.is_stranger, move |out| folder.write_tar(out));
            (headers, disposition, body).into_response()
        }
    })
}
