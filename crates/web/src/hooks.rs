//! `POST /-/hook/{name}`: a request of another program that starts a run.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::credentials::RequestCredentials;
use super::error::WebError;
use super::page::WholePage;
use super::request_config::RequestConfig;
use super::state::SharedApp;
use quire_server::forge::ForgeError;
use quire_server::hooks::{AcceptedHook, HookCredentials, HookError, HookRequest};

/// The largest body of a request.
pub(super) const MAX_BODY_BYTES: usize = 64 << 10;

/// Headers that have the id of a delivery, in the order in which they count.
const DELIVERY_HEADERS: [&str; 6] = [
    "webhook-id",
    "idempotency-key",
    "x-github-delivery",
    "x-gitea-delivery",
    "x-forgejo-delivery",
    "x-gitlab-event-uuid",
];

/// There is no page at the address of a webhook.
pub(super) async fn nothing() -> WebError {
    WebError::NotFound
}

pub(super) async fn receive(
    State(app): SharedApp,
    Path(name): Path<String>,
    config: RequestConfig,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let sentence = format!("the body is larger than {} KiB", MAX_BODY_BYTES >> 10);
            return refused(error.status(), &sentence);
        }
        Err(error) => return refused(error.status(), "the body cannot be read"),
    };
    let request = HookRequest {
        name,
        credentials: credentials(&headers),
        delivery: DELIVERY_HEADERS
            .iter()
            .find_map(|name| text(&headers, name)),
        content_type: text(&headers, header::CONTENT_TYPE.as_str()),
        body: body.to_vec(),
    };
    match app.web.hooks.receive(request).await {
        Ok(accepted) => answer(&config, &accepted),
        Err(error) => refusal(&error),
    }
}

fn credentials(headers: &HeaderMap) -> HookCredentials {
    let standard = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let standard = standard.map(|name| text(headers, name));
    HookCredentials {
        bearer: match RequestCredentials::of(headers) {
            RequestCredentials::Bearer(token) => Some(token),
            _ => None,
        },
        hub_signature: text(headers, "x-hub-signature-256"),
        standard: match standard {
            [Some(id), Some(timestamp), Some(signatures)] => Some([id, timestamp, signatures]),
            _ => None,
        },
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn answer(RequestConfig(config): &RequestConfig, accepted: &AcceptedHook) -> Response {
    let run = &accepted.run;
    let url = format!("{}/runs/{}", config.url.trim_end_matches('/'), run.id);
    let document = json!({
        "run": run.name().to_string(), "id": run.id, "url": url, "repeated": accepted.is_repeated,
    });
    (StatusCode::ACCEPTED, Json(document)).into_response()
}

fn refusal(error: &HookError) -> Response {
    let status = match error {
        HookError::Denied => StatusCode::UNAUTHORIZED,
        HookError::Delivery | HookError::Body(_) => StatusCode::BAD_REQUEST,
        HookError::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
        HookError::Forge(
            ForgeError::NoRepository { .. }
            | ForgeError::NoRef { .. }
            | ForgeError::NoDefaultBranch(_)
            | ForgeError::NoPipeline { .. },
        ) => StatusCode::CONFLICT,
        HookError::Forge(error) => {
            tracing::error!("webhook: {}", quire_types::error_chain::chain(error));
            let sentence = "the request cannot be recorded now; send it again later";
            return refused(StatusCode::SERVICE_UNAVAILABLE, sentence);
        }
    };
    let mut response = refused(status, &error.to_string());
    if let HookError::TooMany { retry_after } = error {
        let seconds = retry_after.as_secs() + 1;
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// An answer for a program: always JSON.
fn refused(status: StatusCode, sentence: &str) -> Response {
    let mut response = (status, Json(json!({ "error": sentence }))).into_response();
    response.extensions_mut().insert(WholePage);
    response
}
