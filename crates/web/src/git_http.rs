//! Git over HTTP, for clones and fetches: `/{repo}/info/refs?service=git-upload-pack` and `/{repo}/git-upload-pack`, also with `.git`.
//!
//! Each request is a `git upload-pack` of its own, a few at a time; it ends when the client disconnects. Pushes go
//! over SSH alone. Errors are plain text, since git shows that to its user and nothing else.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, BodyDataStream};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::write::GzDecoder;
use futures_util::stream::{BoxStream, StreamExt};

use super::access::RepoAccess;
use super::error::WebError;
use super::html::REPO_PREFIX;
use super::places::Place;
use super::request_config::RequestConfig;
use super::state::{App, SharedApp};
use super::viewer::Viewer;
use quire_git::{Git, ProtocolVersion};
use quire_types::names::RepoName;

/// How long a client waits for its turn.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// The largest request, uncompressed: the names of a million objects.
const MAX_REQUEST_BYTES: usize = 64 << 20;
/// How much of a compressed request is decompressed at once.
const MAX_COMPRESSED_PIECE: usize = 4 << 10;

const REQUEST_TYPE: &str = "application/x-git-upload-pack-request";
const RESULT_TYPE: &str = "application/x-git-upload-pack-result";
const ADVERTISEMENT_TYPE: &str = "application/x-git-upload-pack-advertisement";

/// What a git client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HttpService {
    /// The refs, or the capabilities of the server.
    Advertisement,
    UploadPack,
    /// A push, or the beginning of one.
    ReceivePack,
}

/// A request of a git client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GitRequest<'a> {
    /// The repository, not yet checked.
    repo: &'a str,
    service: HttpService,
}

impl<'a> GitRequest<'a> {
    /// `None` if this is a request for a page.
    pub(super) fn of(method: &Method, uri: &'a Uri) -> Option<Self> {
        let path = uri.path();
        let path = match path.strip_prefix(REPO_PREFIX) {
            Some(rest) if rest.starts_with('/') => rest,
            _ => path,
        };
        let path = path.strip_prefix('/')?;
        let (repo, service) = if let Some(repo) = path.strip_suffix("/info/refs") {
            let service = uri
                .query()?
                .split('&')
                .find_map(|pair| pair.strip_prefix("service="))?;
            match service {
                "git-upload-pack" => (repo, HttpService::Advertisement),
                "git-receive-pack" => (repo, HttpService::ReceivePack),
                _ => return None,
            }
        } else if *method == Method::POST {
            let (repo, program) = path.rsplit_once('/')?;
            match program {
                "git-upload-pack" => (repo, HttpService::UploadPack),
                "git-receive-pack" => (repo, HttpService::ReceivePack),
                _ => return None,
            }
        } else {
            return None;
        };
        (!repo.is_empty()).then_some(Self { repo, service })
    }

    /// Whether a request is of a git client.
    pub(super) fn is_one(method: &Method, uri: &Uri) -> bool {
        GitRequest::of(method, uri).is_some()
    }
}

/// A `POST` request that matches no other route.
pub(super) async fn post(
    State(app): SharedApp,
    Extension(viewer): Extension<Viewer>,
    config: RequestConfig,
    request: Request,
) -> Result<Response, WebError> {
    if !GitRequest::is_one(request.method(), request.uri()) {
        let allow = [(header::ALLOW, "GET,HEAD")];
        return Ok((StatusCode::METHOD_NOT_ALLOWED, allow).into_response());
    }
    serve(app, &viewer, config, request).await
}

/// Answers a request for which [`GitRequest::is_one`] holds.
pub(super) async fn serve(
    app: Arc<App>,
    viewer: &Viewer,
    RequestConfig(config): RequestConfig,
    request: Request,
) -> Result<Response, WebError> {
    let nothing = || match viewer.is_stranger {
        // Upon this, git asks for a token. What does not exist cannot be told from what is not shown.
        true => WebError::TokenRequired,
        false => WebError::NotFound,
    };
    let asked = GitRequest::of(request.method(), request.uri()).ok_or_else(nothing)?;
    let service = asked.service;
    let name: RepoName = asked.repo.parse().map_err(|_| nothing())?;
    let git = Git::new(&app.web.paths);
    let find = move |git: &Git| {
        let current = git.resolve(&name);
        Ok(git.exists(&current)?.then_some(current))
    };
    let repo = git.call(find).await?.ok_or_else(nothing)?;
    match RepoAccess::of(&app, viewer, &repo).await {
        Ok(_) => {}
        Err(WebError::SignIn) => return Err(nothing()),
        Err(error) => return Err(error),
    }
    let version = request
        .headers()
        .get("git-protocol")
        .and_then(|value| ProtocolVersion::parse(value.to_str().ok()?));
    match service {
        HttpService::ReceivePack => Err(WebError::PushOverHttp {
            url: config.clone_url(&repo),
        }),
        HttpService::Advertisement => {
            let _turn = turn(&app, viewer).await?;
            let refs = git.advertise_refs(&repo, version).await?;
            let line: &[u8] = match version {
                Some(version) if version.is_two() => b"",
                _ => b"001e# service=git-upload-pack\n0000",
            };
            Ok(response(
                ADVERTISEMENT_TYPE,
                Body::from([line, &refs].concat()),
            ))
        }
        HttpService::UploadPack => {
            let is_request = request
                .headers()
                .get(header::CONTENT_TYPE)
                .is_some_and(|kind| kind == REQUEST_TYPE);
            if !is_request {
                return Ok(StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response());
            }
            let turn = turn(&app, viewer).await?;
            let body = RequestBody::of(request)?.into_stream();
            let answer = git.upload_pack(&repo, version, body)?;
            let answer = answer.inspect(move |_| {
                // Held until the client has the answer.
                let _: &Place = &turn;
            });
            Ok(response(RESULT_TYPE, Body::from_stream(answer)))
        }
    }
}

async fn turn(app: &App, viewer: &Viewer) -> Result<Place, WebError> {
    app.place(&app.git_processes, viewer.is_stranger, MAX_WAIT)
        .await
}

fn response(content_type: &'static str, body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
    ];
    (headers, body).into_response()
}

/// The body of a request, which git compresses if it is long.
struct RequestBody {
    body: BodyDataStream,
    gzip: Option<GzDecoder<Vec<u8>>>,
    /// Compressed bytes that are not decompressed yet.
    waiting: Bytes,
    passed: usize,
}

impl RequestBody {
    fn of(request: Request) -> Result<Self, WebError> {
        let gzip = match encoding(request.headers()) {
            Some("gzip" | "x-gzip") => Some(GzDecoder::new(Vec::new())),
            None | Some("identity") => None,
            Some(_) => {
                let why = "the encoding of the body is not known; gzip is".to_owned();
                return Err(WebError::BadRequest(why));
            }
        };
        Ok(Self {
            body: request.into_body().into_data_stream(),
            gzip,
            waiting: Bytes::new(),
            passed: 0,
        })
    }

    /// The next piece, decompressed; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if self.waiting.is_empty() {
                match self.body.next().await {
                    Some(bytes) => self.waiting = bytes.map_err(io::Error::other)?,
                    None => {
                        let rest = match self.gzip.take() {
                            Some(decoder) => self.counted(Bytes::from(decoder.finish()?))?,
                            None => Bytes::new(),
                        };
                        return Ok((!rest.is_empty()).then_some(rest));
                    }
                }
            }
            let piece = match &mut self.gzip {
                Some(decoder) => {
                    let count = self.waiting.len().min(MAX_COMPRESSED_PIECE);
                    decoder.write_all(&self.waiting.split_to(count))?;
                    Bytes::from(std::mem::take(decoder.get_mut()))
                }
                None => std::mem::take(&mut self.waiting),
            };
            let piece = self.counted(piece)?;
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }

    /// A piece, if the request is within its limit.
    fn counted(&mut self, piece: Bytes) -> io::Result<Bytes> {
        self.passed += piece.len();
        if self.passed > MAX_REQUEST_BYTES {
            return Err(io::Error::other("the request is too large"));
        }
        Ok(piece)
    }

    fn into_stream(self) -> BoxStream<'static, io::Result<Bytes>> {
        futures_util::stream::unfold(Some(self), |state| async move {
            let mut state = state?;
            match state.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(state))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }
}

fn encoding(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::CONTENT_ENCODING)?;
    Some(value.to_str().unwrap_or("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_git_and_of_others() {
        let of = |method: Method, uri: &str| {
            let uri: Uri = uri.parse().unwrap();
            GitRequest::of(&method, &uri).map(|asked| (asked.repo.to_owned(), asked.service))
        };
        let known = |repo: &str, service| Some((repo.to_owned(), service));
        assert_eq!(
            of(
                Method::GET,
                "/work/app.git/info/refs?service=git-upload-pack"
            ),
            known("work/app.git", HttpService::Advertisement)
        );
        assert_eq!(
            of(
                Method::GET,
                "/-/repo/runs/x/info/refs?service=git-receive-pack"
            ),
            known("runs/x", HttpService::ReceivePack)
        );
        assert_eq!(
            of(Method::POST, "/app/git-upload-pack"),
            known("app", HttpService::UploadPack)
        );
        assert_eq!(
            of(Method::POST, "/app.git/git-receive-pack"),
            known("app.git", HttpService::ReceivePack)
        );
        for page in [
            "/app/info/refs",
            "/app/info/refs?service=git-upload-archive",
            "/info/refs?service=git-upload-pack",
            "/app/git-upload-pack",
            "/app/-/tree/main/info/refs",
        ] {
            assert_eq!(of(Method::GET, page), None, "{page}");
        }
        assert_eq!(of(Method::POST, "/runs/1/cancel"), None);
        assert_eq!(of(Method::POST, "/git-upload-pack"), None);
    }

    #[tokio::test]
    async fn a_compressed_request_is_decompressed_up_to_a_limit() {
        let compressed = |text: &[u8]| {
            let level = flate2::Compression::new(1);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        let passed = |body: Vec<u8>, encoding: &'static str| async move {
            let request = Request::builder()
                .header(header::CONTENT_ENCODING, encoding)
                .body(Body::from(body))
                .unwrap();
            let pieces: Vec<_> = RequestBody::of(request)
                .unwrap()
                .into_stream()
                .collect()
                .await;
            let pieces: io::Result<Vec<Bytes>> = pieces.into_iter().collect();
            pieces.map(|pieces| pieces.concat())
        };
        let text = b"0032want\n".repeat(10_000);
        assert_eq!(passed(compressed(&text), "gzip").await.unwrap(), text);
        assert_eq!(passed(text.clone(), "identity").await.unwrap(), text);
        let mut cut = compressed(&text);
        cut.truncate(cut.len() - 9);
        assert!(passed(cut, "gzip").await.is_err());
        let bomb = compressed(&vec![0; MAX_REQUEST_BYTES + 1]);
        assert!(passed(bomb, "gzip").await.is_err());
    }
}
