//! HTTP routes.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::StreamExt;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::auth::Auth;
use super::error::ApiError;
use super::fields::UnreadFields;
use super::jobs::{Jobs, Key, Live};
use super::metrics::Metrics;
use super::model_name::by_name;
use super::request::{self, Endpoint, Progress, RESPONSE_FIELDS};
use super::request_log::{Entry, RequestLog, Spent};
use super::state::AppState;
use super::{Options, page, reply, responses, stream};
use crate::fmt::shown;
use crate::openai::{Model, ModelList};

/// Bytes of a body that every connection may hold; only so many requests at a time may hold more.
const SMALL: usize = 64 << 10;
const LARGE: usize = 16;
/// Longest name of a request.
const KEY: usize = 256;

/// Everything that routes use.
pub(super) struct ServerState {
    pub(super) app: Arc<AppState>,
    pub(super) jobs: Arc<Jobs>,
    pub(super) metrics: Arc<Metrics>,
    auth: Auth,
    log: Option<RequestLog>,
    large: Arc<Semaphore>,
    fingerprint: Arc<str>,
    started: u64,
}

impl ServerState {
    pub(super) fn new(app: AppState, options: &Options, address: SocketAddr) -> Self {
        let fingerprint = app.fingerprint();
        let app = Arc::new(app);
        let metrics = Arc::new(Metrics::new());
        Self {
            jobs: Arc::new(Jobs::new(app.clone(), metrics.clone())),
            app,
            metrics,
            auth: Auth {
                keys: options.keys.clone(),
                address,
                origins: options.origins.clone(),
            },
            log: options.request_log.clone(),
            large: Arc::new(Semaphore::new(LARGE)),
            fingerprint: fingerprint.into(),
            started: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |d| d.as_secs()),
        }
    }
}

type Shared = State<Arc<ServerState>>;

/// All routes, behind the auth.
pub(super) fn router(state: Arc<ServerState>) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/v1/models", get(models))
        .route("/v1/models/{*name}", get(model))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completion))
        .route("/v1/responses", post(responses))
        .fallback(nowhere)
        .method_not_allowed_fallback(not_so)
        .layer(middleware::from_fn_with_state(state.clone(), auth))
        .with_state(state)
}

/// The name that a route is counted under.
fn label(path: &str) -> &'static str {
    match path {
        "/" => "/",
        "/health" => "/health",
        "/metrics" => "/metrics",
        "/v1/chat/completions" => "/v1/chat/completions",
        "/v1/completions" => "/v1/completions",
        "/v1/responses" => "/v1/responses",
        path if path.starts_with("/v1/models") => "/v1/models",
        _ => "other",
    }
}

async fn auth(State(state): Shared, request: Request, next: Next) -> Response {
    let (method, uri) = (request.method(), request.uri());
    let route = label(uri.path());
    let open = matches!(route, "/" | "/health");
    let entry = state
        .log
        .clone()
        .map(|log| Entry::new(log, method.clone(), uri.path()));
    let origin = request.headers().get(header::ORIGIN).cloned();
    let auth = &state.auth;
    let preflight = auth.origins.preflight(method, request.headers());
    // a browser asks this without a key
    let checked = auth.check(method, uri, request.headers(), open || preflight.is_some());
    let mut response = match (checked, preflight) {
        (Ok(()), None) => next.run(request).await,
        (Ok(()), Some(told)) => told,
        (Err(refused), _) => refused.into_response(),
    };
    auth.origins.tell(origin.as_ref(), response.headers_mut());
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    state.metrics.answered(route, response.status().as_u16());
    match entry {
        Some(entry) => entry.watch(response),
        None => response,
    }
}

async fn nowhere() -> ApiError {
    ApiError::refused(
        StatusCode::NOT_FOUND,
        "there is nothing here; /v1/chat/completions answers questions",
    )
    .with_code("not_found")
}

async fn not_so() -> ApiError {
    ApiError::refused(
        StatusCode::METHOD_NOT_ALLOWED,
        "this is not asked with that method",
    )
    .with_code("method_not_allowed")
}

/// The reply to `GET /health`.
#[derive(Serialize)]
struct Health {
    status: &'static str,
    /// Choices that run or wait.
    running: i64,
}

async fn health(State(state): Shared) -> Response {
    let draining = state.jobs.is_draining();
    let status = if draining {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    let word = if draining { "draining" } else { "ok" };
    let health = Health {
        status: word,
        running: state.metrics.running(),
    };
    (status, Json(health)).into_response()
}

async fn metrics(State(state): Shared) -> Response {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        state.metrics.text(),
    )
        .into_response()
}

fn entry(state: &ServerState, id: &str) -> Model {
    Model {
        id: Some(id.to_owned()),
        object: "model",
        created: state.started,
        owned_by: Some("tts".to_owned()),
        ..Model::default()
    }
}

async fn models(State(state): Shared) -> Response {
    let name = &state.app.name;
    let with_strategy = tts_strategies::names().map(|strategy| format!("{name}@{strategy}"));
    let data = std::iter::once(name.clone())
        .chain(with_strategy)
        .map(|id| entry(&state, &id))
        .collect();
    let list = ModelList {
        object: "list",
        data: Some(data),
    };
    Json(list).into_response()
}

async fn model(State(state): Shared, path: Result<Path<String>, PathRejection>) -> Response {
    let Ok(Path(name)) = path else {
        return ApiError::invalid(None, "the path is not UTF-8").into_response();
    };
    match by_name(&name, &state.app.name) {
        Ok(_) => Json(entry(&state, &name)).into_response(),
        Err(unknown) => unknown.into_response(),
    }
}

async fn chat(State(state): Shared, request: Request) -> Result<Response, ApiError> {
    answer(&state, request, Endpoint::Chat, Shape::Completion).await
}

async fn completion(State(state): Shared, request: Request) -> Result<Response, ApiError> {
    answer(&state, request, Endpoint::Completion, Shape::Completion).await
}

async fn responses(State(state): Shared, request: Request) -> Result<Response, ApiError> {
    answer(&state, request, Endpoint::Chat, Shape::Response).await
}

/// The shape in which a request is made and answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Completion,
    /// Of `/v1/responses`, which is read as a chat completion.
    Response,
}

async fn answer(
    state: &Arc<ServerState>,
    request: Request,
    endpoint: Endpoint,
    shape: Shape,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    check_encoding(&parts.headers)?;
    check_charset(&parts.headers)?;
    let key = key(&parts.headers)?;
    // what runs already has its place
    if key.is_none() {
        state.jobs.check_room()?;
    }
    let (body, _large) = read(state, &parts.headers, body).await?;
    let mut fields = UnreadFields::read(&body)?;
    drop(body);
    let key = key.map(|name| Key {
        name,
        digest: *blake3::keyed_hash(&fields.digest(&RESPONSE_FIELDS), &[endpoint as u8, shape as u8])
            .as_bytes(),
    });
    let asked = match shape {
        Shape::Completion => None,
        Shape::Response => Some(responses::to_chat(&mut fields)?),
    };
    let options = request::response_options(&mut fields, endpoint)?;
    let joined = key
        .as_ref()
        .map(|key| state.jobs.join(key))
        .transpose()?
        .flatten();
    let watch = |live: &Live| {
        if options.stream && shape == Shape::Completion {
            live.watch(&state.app, options.progress == Progress::Traces)
        } else {
            Vec::new()
        }
    };
    let (live, watched) = match joined {
        Some(live) => {
            let watched = watch(&live);
            (live, watched)
        }
        None => {
            // a long prompt takes a while to encode
            let app = state.app.clone();
            let request = tokio::task::spawn_blocking(move || request::read_request(fields, endpoint, &app))
                .await
                .map_err(|_| ApiError::internal("the request could not be read"))??;
            if shape == Shape::Response {
                responses::check_choices(request.n)?;
            }
            state.jobs.start(request, endpoint, key, watch)?
        }
    };
    let spent = Arc::new(Spent::default());
    let mut response = if let Some(asked) = asked {
        if options.stream {
            responses::stream(live, asked, spent.clone())
        } else {
            let choices = live.finished().await?;
            spent.set(&reply::usage(&live, &choices));
            Json(responses::whole(&live, &asked, &choices)).into_response()
        }
    } else if options.stream {
        stream::stream(
            state.app.clone(),
            live,
            watched,
            options,
            &state.fingerprint,
            spent.clone(),
        )
    } else {
        let choices = live.finished().await?;
        spent.set(&reply::usage(&live, &choices));
        Json(reply::whole(&live, &state.fingerprint, &choices)).into_response()
    };
    response.extensions_mut().insert(spent);
    Ok(response)
}

/// Refuses a body in other letters than UTF-8.
fn check_charset(headers: &HeaderMap) -> Result<(), ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let kind = String::from_utf8_lossy(kind.unwrap_or_default());
    let charset = kind.split(';').skip(1).find_map(|part| {
        let (name, value) = part.split_once('=')?;
        let value = value.trim().trim_matches('"').to_ascii_lowercase();
        name.trim().eq_ignore_ascii_case("charset").then_some(value)
    });
    match charset.as_deref() {
        None | Some("utf-8" | "utf8" | "us-ascii" | "ascii") => Ok(()),
        Some(other) => Err(ApiError::refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!(
                "the body is said to be in {}; this server reads UTF-8",
                shown(other)
            ),
        )
        .with_code("unsupported_charset")),
    }
}

/// Refuses a body that is packed.
fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    let chunked = |coding: &HeaderValue| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    if let Some(coding) = headers
        .get_all(header::TRANSFER_ENCODING)
        .iter()
        .find(|c| !chunked(c))
    {
        let coding = shown(&String::from_utf8_lossy(coding.as_bytes()));
        let why = format!("the Transfer-Encoding `{coding}` is not known here; bodies may come `chunked`");
        return Err(
            ApiError::refused(StatusCode::NOT_IMPLEMENTED, why).with_code("unsupported_transfer_encoding")
        );
    }
    let packed = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .find(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity") && !encoding.is_empty());
    match packed {
        None => Ok(()),
        Some(encoding) => Err(ApiError::refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!(
                "the body has the Content-Encoding `{}`; this server reads bodies as they are",
                shown(&String::from_utf8_lossy(encoding.as_bytes()))
            ),
        )
        .with_code("unsupported_content_encoding")),
    }
}

/// The name of a request, of the client that has this key.
fn key(headers: &HeaderMap) -> Result<Option<[u8; 32]>, ApiError> {
    let Some(name) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    if name.is_empty() || name.len() > KEY {
        return Err(ApiError::invalid(
            None,
            format!("Idempotency-Key must have 1 to {KEY} characters"),
        ));
    }
    let mut hasher = blake3::Hasher::new();
    for part in [Some(name), headers.get(header::AUTHORIZATION)]
        .into_iter()
        .flatten()
    {
        hasher
            .update(&(part.len() as u64).to_le_bytes())
            .update(part.as_bytes());
    }
    Ok(Some(*hasher.finalize().as_bytes()))
}

/// Reads a body. What is large is read by few requests at a time, so that many of them take no more memory
/// than that.
async fn read(
    state: &ServerState,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), ApiError> {
    let limits = &state.app.limits;
    let too_large = || {
        ApiError::refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "the body is more than {} bytes, which is as much as this server takes",
                limits.body
            ),
        )
        .with_code("body_too_large")
    };
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|n| n.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|n| n > limits.body) {
        return Err(too_large());
    }
    let mut large = None;
    let mut read = Vec::new();
    let mut parts = body.into_data_stream();
    let all = async {
        while let Some(part) = parts.next().await {
            let part = part.map_err(|_| ApiError::invalid(None, "the body ended before it was whole"))?;
            if read.len() + part.len() > limits.body {
                return Err(too_large());
            }
            if large.is_none() && read.len() + part.len() > SMALL {
                let busy = |_| ApiError::busy("too many large requests at once", 1);
                large = Some(state.large.clone().try_acquire_owned().map_err(busy)?);
            }
            read.extend_from_slice(&part);
        }
        Ok(())
    };
    timeout(limits.patience, all)
        .await
        .map_err(|_| ApiError::refused(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"))??;
    Ok((read.into(), large))
}
