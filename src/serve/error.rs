//! Refusals, in the shape that clients of OpenAI's interface expect.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::error::Error;
use crate::openai::{ErrorBody, ErrorReply};
use crate::prompt::PromptError;
use crate::run::{EarlyEnd, RunError};
use tts_model::overrides::SAMPLING_SETTINGS;

/// Why a request has no answer.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
    retry_after: Option<u64>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code: None,
            param: None,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The request is wrong; `param` is the field that is.
    pub(super) fn invalid(param: Option<&str>, message: impl Into<String>) -> Self {
        Self {
            param: param.map(str::to_owned),
            ..Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
        }
    }

    /// [`Self::invalid`] with another status.
    pub(super) fn refused(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", message)
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "authentication_error",
            "this server needs an API key: send `Authorization: Bearer KEY`",
        )
        .with_code("invalid_api_key")
    }

    /// Too much is asked at once.
    pub(super) fn busy(message: impl Into<String>, retry_after: u64) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message).with_code("queue_full")
        }
    }

    /// The server cannot do it now.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message)
        }
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    pub(super) fn with_code(self, code: &'static str) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }

    /// The body, and the data of an event in a stream that has begun.
    pub(super) fn body(&self) -> ErrorReply<'_> {
        let error = ErrorBody {
            message: self.message.as_str().into(),
            kind: self.kind,
            param: self.param.as_deref().map(Into::into),
            code: self.code,
        };
        ErrorReply { error }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<RunError> for ApiError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::NotStarted(EarlyEnd::TimeLimit) => {
                Self::unavailable("the time of the request was over before its first token was generated")
            }
            RunError::NotStarted(_) => Self::unavailable("the server is shutting down"),
            RunError::Refused { reason, .. } => {
                Self::invalid(None, format!("the engine refuses the request: {reason}"))
            }
            RunError::Needs { .. } => Self::invalid(Some("strategy"), error.to_string()),
            // where engines are is no client's business
            RunError::Remote { .. } => {
                tracing::warn!(%error, "an engine elsewhere gave out");
                Self::new(
                    StatusCode::BAD_GATEWAY,
                    "server_error",
                    "the engine behind this server gave out; try again later",
                )
                .with_code("engine_unavailable")
            }
            other => Self::internal(other.to_string()),
        }
    }
}

/// A setting or a prompt that cannot be. Names of files stay here.
impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Prompt(PromptError::TemplateRefused { message, .. }) => Self::invalid(
                Some("messages"),
                format!("the model's chat template refuses these messages: {message}"),
            ),
            Error::Prompt(PromptError::CannotContinue { .. }) => Self::invalid(
                Some("messages"),
                "the last message is from the assistant, and the model's chat template does not write it so \
                 that the model could go on with it: end with a message of the user",
            ),
            Error::Prompt(PromptError::TemplateFailed { .. } | PromptError::EmptyPrompt { .. }) => {
                Self::invalid(
                    Some("messages"),
                    "the model's chat template cannot be filled with these messages",
                )
            }
            Error::Prompt(PromptError::TooLong { most }) => Self::invalid(
                None,
                format!("the prompt has more than {most} tokens, which is the most that this server takes"),
            )
            .with_code("context_length_exceeded"),
            Error::Prompt(PromptError::Encode { .. }) => {
                Self::invalid(None, "the prompt cannot be encoded by the model's tokenizer")
            }
            Error::Prompt(PromptError::EmptyProblem) => {
                Self::invalid(Some("messages"), "the last message is empty")
            }
            Error::Prompt(PromptError::NoTokenizer { .. } | PromptError::NoTemplate { .. }) => Self::invalid(
                None,
                "the model has no tokenizer or no chat template: ask /v1/completions, with token ids",
            ),
            Error::Setting(message) => {
                // ranges are checked further in, by a sentence that begins with the setting
                let mut settings = SAMPLING_SETTINGS.iter();
                let about = settings.find(|s| message.starts_with(s.label)).map(|s| s.name);
                let budget = message
                    .starts_with("--thinking-budget")
                    .then_some("thinking_budget");
                Self::invalid(
                    about.or(budget),
                    message.replacen("--thinking-budget", "`thinking_budget`", 1),
                )
            }
            Error::Preset(error) => Self::invalid(None, error.to_string()),
            Error::Run(error) => error.into(),
            other => {
                tracing::error!(%other, "a request failed");
                Self::internal("the server cannot answer; its log says why")
            }
        }
    }
}
