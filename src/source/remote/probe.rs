//! Asks an engine for one token, to see what it takes and what its log-probabilities are, before a trace is
//! spent on it.

use std::time::Instant;

use reqwest::Url;

use super::answer::{Answer, Delta, StreamError};
use super::caller::{Caller, RequestError};
use super::fleet::{Endpoint, below};
use super::request::{CompletionRequest, Engine, SupportedFields, beyond_protocol, body};
use crate::openai::{Events, Model, ModelList, RequestBody, shortened};
use tts_model::overrides::SAMPLING_SETTINGS;

/// A processed distribution's log-probabilities lie this many times as far apart at half the temperature; it
/// would be 2 for all of them, and 1 for raw ones.
const PROCESSED: f32 = 1.2;
/// The two temperatures at which an engine's log-probabilities are compared.
const TEMPERATURES: [f64; 2] = [1.0, 0.5];

/// What an address gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scalars {
    /// Raw log-probabilities of at least as many tokens as confidence is taken over.
    Raw,
    /// Raw ones of fewer.
    Few(usize),
    /// Those of the distribution that tokens are drawn from, after temperature and filters.
    Processed,
    /// The engine gives no log-probabilities.
    None,
}

/// What was found at an address.
pub(super) struct ProbedEngine {
    pub(super) endpoint: Endpoint,
    pub(super) model: String,
    pub(super) version: Option<String>,
    /// tokens of prompt and trace together, where the engine says
    pub(super) context: Option<usize>,
    pub(super) scalars: Scalars,
    /// tokens that the questions cost
    pub(super) tokens: u64,
    /// recommended settings that it does not take
    pub(super) left_out: bool,
}

/// Asks an address which model it has and what it takes.
///
/// # Errors
/// A sentence that begins with what is wrong; the caller names the address.
pub(super) async fn ask(
    caller: &Caller,
    name: &str,
    base: &Url,
    model: Option<&str>,
    request: &CompletionRequest,
    k: usize,
) -> Result<ProbedEngine, String> {
    let Listed {
        model,
        engine,
        context,
    } = listed(caller, base, model).await?;
    let mut request = request.clone();
    request.max_tokens = Some(1);
    let mut fields = SupportedFields {
        logprobs: Some(k + 1),
        token_ids: true,
        usage: true,
        seed: true,
        recommended: true,
    };
    let url = below(base, request.prompt.path());
    let mut tokens = 0;
    let mut tops = Vec::new();
    for temperature in TEMPERATURES {
        request.sampling.temperature = Some(temperature);
        let delta = loop {
            let body = body(&model, &request, 0, &fields, engine);
            match one_token(caller, &url, &body).await {
                Ok(delta) => break delta,
                Err(RequestError::Refused {
                    status: 400 | 422,
                    why,
                }) => {
                    fields = without(fields, &why, k).ok_or_else(|| {
                        format!(
                            "it refuses the request: {why}{}",
                            of_request(&request, engine, &why)
                        )
                    })?;
                }
                Err(RequestError::Refused {
                    status: 401 | 403,
                    why,
                }) => return Err(forbidden(&why)),
                Err(RequestError::Refused { why, .. } | RequestError::Again { why, .. }) => return Err(why),
            }
        };
        tokens += delta.reported.unwrap_or(1);
        tops.push((delta.top.unwrap_or(0), delta.tokens.first().map(|t| t.top)));
        // without log-probabilities there is nothing to compare
        if tops.iter().any(|(n, _)| *n == 0) {
            break;
        }
    }
    let scalars = scalars(&tops, k);
    if matches!(scalars, Scalars::None | Scalars::Processed) {
        fields.logprobs = None;
    }
    let wanted = beyond_protocol().any(|s| request.recommended.get(s).is_some());
    Ok(ProbedEngine {
        left_out: wanted && !fields.recommended,
        endpoint: Endpoint::new(name.to_owned(), base, engine, fields),
        version: version(caller, base, engine).await,
        model,
        context,
        scalars,
        tokens,
    })
}

struct Listed {
    model: String,
    engine: Engine,
    context: Option<usize>,
}

/// The model that is asked, and who serves it.
async fn listed(caller: &Caller, base: &Url, wanted: Option<&str>) -> Result<Listed, String> {
    let list = match caller.get(&below(base, "models")).await {
        Ok(list) => list,
        Err(RequestError::Refused {
            status: 401 | 403,
            why,
        }) => return Err(forbidden(&why)),
        // some engines have no list
        Err(RequestError::Refused {
            status: 404 | 405 | 501,
            why,
        }) => match wanted {
            Some(model) => {
                return Ok(Listed {
                    model: model.to_owned(),
                    engine: Engine::Unknown,
                    context: None,
                });
            }
            None => {
                return Err(format!(
                    "it has no list of models ({why}); name one with --backend-model, or end the address in \
                     /v1"
                ));
            }
        },
        Err(RequestError::Refused { why, .. } | RequestError::Again { why, .. }) => return Err(why),
    };
    let list: ModelList = serde_json::from_value(list).unwrap_or_default();
    let models = list.data.unwrap_or_default();
    let names = || {
        models
            .iter()
            .filter_map(|m| m.id.as_deref())
            .map(shortened)
            .take(20)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let unlisted = match wanted.filter(|wanted| !models.iter().any(|m| m.id.as_deref() == Some(wanted))) {
        Some(wanted) => by_name(caller, base, wanted).await,
        None => None,
    };
    let listed = || models.iter().chain(&unlisted);
    let found = match (wanted, &models[..]) {
        (Some(wanted), _) => listed()
            .find(|m| m.id.as_deref() == Some(wanted))
            .ok_or_else(|| format!("it has no model `{wanted}`; it has {}", names()))?,
        (None, [only]) => only,
        (None, []) => return Err("it lists no model; name one with --backend-model".to_owned()),
        (None, _) => {
            return Err(format!(
                "it has several models; name one with --backend-model: {}",
                names()
            ));
        }
    };
    let context = |m: &Model| m.max_model_len.or_else(|| m.meta.as_ref()?.n_ctx);
    Ok(Listed {
        model: found
            .id
            .clone()
            .ok_or("its list of models is none: a model without an id")?,
        engine: Engine::of_owner(found.owned_by.as_deref().unwrap_or_default()),
        context: context(found).map(|n| n as usize),
    })
}

/// A model that an engine takes without listing it: the names of some say how they answer.
async fn by_name(caller: &Caller, base: &Url, name: &str) -> Option<Model> {
    let found = caller.get(&below(base, &format!("models/{name}"))).await.ok()?;
    serde_json::from_value(found).ok()
}

fn forbidden(why: &str) -> String {
    format!(
        "it wants another API key ({why}); put it into the variable TTS_BACKEND_API_KEY or OPENAI_API_KEY"
    )
}

/// The version of an engine that tells it.
async fn version(caller: &Caller, base: &Url, engine: Engine) -> Option<String> {
    let (path, field) = match engine {
        Engine::Vllm => ("/version", "version"),
        Engine::LlamaCpp => ("/props", "build_info"),
        Engine::Ollama => ("/api/version", "version"),
        Engine::Sglang => ("/get_server_info", "version"),
        Engine::Unknown => return None,
    };
    let mut url = base.clone();
    url.set_path(path);
    let value = caller.get(&url).await.ok()?;
    value[field].as_str().map(shortened)
}

/// The fields without the one that was most likely meant by a refusal; nothing when all have gone.
fn without(mut fields: SupportedFields, why: &str, k: usize) -> Option<SupportedFields> {
    let names = |words: &[&str]| words.iter().any(|w| why.contains(w));
    if fields.token_ids && names(&["return_token"]) {
        fields.token_ids = false;
    } else if fields.usage && names(&["stream_options", "include_usage"]) {
        fields.usage = false;
    } else if fields.recommended && beyond_protocol().any(|s| why.contains(s.name)) {
        fields.recommended = false;
    } else if fields.seed && names(&["seed"]) {
        fields.seed = false;
    } else if fields.logprobs.is_some() && names(&["logprob"]) {
        fields.logprobs = fewer(fields.logprobs, k);
    } else if fields.token_ids {
        fields.token_ids = false;
    } else if fields.usage {
        fields.usage = false;
    } else if fields.logprobs.is_some() {
        fields.logprobs = fewer(fields.logprobs, k);
    } else if fields.recommended {
        fields.recommended = false;
    } else if fields.seed {
        fields.seed = false;
    } else {
        return None;
    }
    Some(fields)
}

/// The next smaller number of log-probabilities that an engine may give. One more than confidence is taken
/// over comes first: some put the sampled token into the list in the place of the least likely one.
fn fewer(asked: Option<usize>, k: usize) -> Option<usize> {
    let asked = asked?;
    [k, 20, 5, 1].into_iter().filter(|n| *n < asked).max()
}

/// Where the request was refused for what the user asked for.
fn of_request(request: &CompletionRequest, engine: Engine, why: &str) -> String {
    // temperature is the question's own
    let mut settings = SAMPLING_SETTINGS.iter().filter(|s| s.name != "temperature");
    let meant = settings.find(|s| {
        let named = why.contains(s.name) || why.contains(engine.name_of(s));
        named && request.sampling.get(s).is_some()
    });
    match meant {
        Some(setting) => format!("; leave --{} out", setting.flag),
        None if request.ignore_eos && why.contains("ignore_eos") => "; leave --ignore-eos out".to_owned(),
        None => String::new(),
    }
}

/// What two answers at two temperatures say of the log-probabilities in them.
fn scalars(tops: &[(usize, Option<[f32; tts_model::sampling::TOP]>)], k: usize) -> Scalars {
    let [(n, Some(one)), (m, Some(half))] = tops else {
        return Scalars::None;
    };
    let given = (*n).min(*m);
    let spread = |top: &[f32]| {
        let finite: Vec<_> = top.iter().filter(|p| p.is_finite()).collect();
        (
            finite.len(),
            finite.first().zip(finite.last()).map_or(0.0, |(a, b)| *a - *b),
        )
    };
    let n = given.min(k).min(one.len());
    let ((one_finite, one), (half_finite, half)) = (spread(&one[..n]), spread(&half[..n]));
    if half > PROCESSED * one + 1e-3 || half_finite < one_finite {
        Scalars::Processed
    } else if given < k {
        Scalars::Few(given)
    } else {
        Scalars::Raw
    }
}

/// Sends a request for one token and reads the whole answer.
async fn one_token(caller: &Caller, url: &Url, body: &RequestBody<'_>) -> Result<Delta, RequestError> {
    let again = |why: String| RequestError::Again {
        why: caller.redacted(why),
        after: None,
    };
    let due = Instant::now() + caller.timeouts.first_token;
    let mut response = caller.post(url, body).await?;
    let (mut events, mut all, mut done, mut wrong) = (Events::default(), Delta::default(), false, None);
    let mut answer = Answer::new(Some(1));
    let mut take = |data: &[u8]| {
        if data == b"[DONE]" {
            done = true;
        } else if !done {
            match answer.event(data) {
                Ok(next) => all.join(next),
                Err(why) => wrong = wrong.take().or(Some(why)),
            }
        }
    };
    loop {
        match tokio::time::timeout_at(due.into(), response.chunk()).await {
            Ok(Ok(Some(bytes))) => events
                .push(&bytes, &mut take)
                .map_err(|_| again("it sent an event without an end".to_owned()))?,
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Err(caller.again(&error)),
            Err(_) => return Err(again("it did not finish one token in time".to_owned())),
        }
    }
    if let Some(rest) = events.finish() {
        take(&rest);
    }
    match wrong {
        Some(StreamError {
            why,
            refused: Some(status),
        }) => Err(RequestError::Refused {
            status,
            why: caller.redacted(why),
        }),
        Some(StreamError { why, .. }) => Err(again(why)),
        None if all.is_empty() => Err(again("it answered with no token".to_owned())),
        None => Ok(all),
    }
}

impl Scalars {
    /// What is missing for confidence over `k` tokens, and what would change it.
    pub(super) fn lack(&self, engine: Engine, k: usize) -> Option<String> {
        let hint = |text: &str| format!("; {text}");
        let what = match self {
            Self::Raw => return None,
            Self::None => format!(
                "gives no log-probabilities{}",
                match engine {
                    Engine::Vllm => hint(&format!("start it with --max-logprobs {k}")),
                    Engine::Ollama => hint("they came with version 0.12.11"),
                    _ => String::new(),
                }
            ),
            Self::Few(n) => {
                let option = match engine {
                    Engine::Vllm => format!("start it with --max-logprobs {k}, or "),
                    _ => String::new(),
                };
                format!(
                    "gives {n} log-probabilities where confidence is taken over {k}; {option}take it over \
                     fewer with --confidence-k {n}"
                )
            }
            Self::Processed => format!(
                "gives log-probabilities after temperature and filters, from which confidence cannot be \
                 had{}",
                match engine {
                    Engine::Vllm => hint("start it with --logprobs-mode raw_logprobs"),
                    Engine::Sglang =>
                        hint("start it with SGLANG_RETURN_ORIGINAL_LOGPROB=1 in its environment"),
                    Engine::LlamaCpp => hint("it must not be asked for post_sampling_probs"),
                    _ => String::new(),
                }
            ),
        };
        Some(format!("{} {what}", engine.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tts_model::sampling::TOP;

    fn top(step: f32) -> Option<[f32; TOP]> {
        Some(std::array::from_fn(|i| -0.1 - step * i as f32))
    }

    #[test]
    fn two_temperatures_tell_raw_from_processed() {
        assert_eq!(scalars(&[(20, top(0.5)), (20, top(0.5))], 20), Scalars::Raw);
        assert_eq!(scalars(&[(20, top(0.5)), (20, top(0.502))], 20), Scalars::Raw);
        assert_eq!(scalars(&[(20, top(0.5)), (20, top(1.0))], 20), Scalars::Processed);
        assert_eq!(scalars(&[(5, top(0.5)), (5, top(0.5))], 20), Scalars::Few(5));
        assert_eq!(scalars(&[(5, top(0.5)), (5, top(0.5))], 5), Scalars::Raw);
        assert_eq!(scalars(&[(0, None)], 20), Scalars::None);
        // a filter that leaves fewer at the lower temperature
        let mut cut = top(0.5);
        cut.as_mut().unwrap()[10..].fill(f32::NEG_INFINITY);
        assert_eq!(scalars(&[(20, top(0.5)), (20, cut)], 20), Scalars::Processed);
    }

    #[test]
    fn a_refused_field_is_left_out_and_others_stay() {
        let all = SupportedFields {
            logprobs: Some(21),
            token_ids: true,
            usage: true,
            seed: true,
            recommended: true,
        };
        let named = without(all, "unknown field stream_options", 20).unwrap();
        assert_eq!(named, SupportedFields { usage: false, ..all });
        let fewer = without(
            all,
            "Requested sample logprobs of 21, which is greater than max allowed: 20",
            20,
        )
        .unwrap();
        assert_eq!(
            fewer,
            SupportedFields {
                logprobs: Some(20),
                ..all
            }
        );
        let (mut fields, mut steps) = (Some(all), 0);
        while let Some(f) = fields {
            fields = without(f, "bad request", 20);
            steps += 1;
        }
        assert_eq!(steps, 9, "each is left out once, and log-probabilities by steps");
    }
}
