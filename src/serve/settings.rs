//! The settings of a request: what it says itself, over what the server was started with.

use std::time::Duration;

use axum::http::StatusCode;
use tts_strategies::{Overrides, Preset, Register};

use super::error::ApiError;
use super::fields::UnreadFields;
use super::json::{integer, kind};
use super::model_name::by_name;
use super::request::Endpoint;
use super::seeds;
use super::state::AppState;
use crate::solver::Settings;
use tts_model::overrides::SamplingOverrides;

/// The token limit of a trace that the request names. What exceeds the server's own is lowered to it, and the
/// reply says so.
pub(super) fn max_tokens(f: &mut UnreadFields, endpoint: Endpoint) -> Result<Option<usize>, ApiError> {
    let newer = match endpoint {
        Endpoint::Chat => token_limit(f, "max_completion_tokens", 1)?,
        Endpoint::Completion => None,
    };
    // a completion of no tokens is its prompt
    let least = usize::from(endpoint == Endpoint::Chat);
    let older = token_limit(f, "max_tokens", least)?;
    // one that sets no limit is one that was given
    Ok(newer.or(older).flatten())
}

/// A token limit; -1 is llama.cpp's and vLLM's word for none, and a number of any size is one.
fn token_limit(
    f: &mut UnreadFields,
    name: &'static str,
    least: usize,
) -> Result<Option<Option<usize>>, ApiError> {
    let Some(value) = f.take(name) else {
        return Ok(None);
    };
    let huge = value
        .as_f64()
        .is_some_and(|x| x >= 2f64.powi(63) && x.fract() == 0.0);
    match integer(&value) {
        Some(-1) => Ok(Some(None)),
        _ if huge => Ok(Some(Some(usize::MAX))),
        Some(whole) if whole >= least as i128 => Ok(Some(Some(usize::try_from(whole).unwrap_or(usize::MAX)))),
        found => {
            let given = found.map_or_else(|| kind(&value).to_owned(), |whole| whole.to_string());
            Err(ApiError::invalid(
                Some(name),
                format!(
                    "`{name}` must be a whole number of at least {least}, or -1 for no limit, not {given}"
                ),
            ))
        }
    }
}

/// The server's settings with the request's over them.
pub(super) fn settings(
    f: &mut UnreadFields,
    max_tokens: Option<usize>,
    model: &str,
    app: &AppState,
) -> Result<Settings, ApiError> {
    let base = &app.settings;
    let named = by_name(model, &app.name)?;
    let mut strategy = named.strategy.clone().unwrap_or_else(|| base.strategy.clone());
    if let Some(name) = f.text("strategy")? {
        // it is compared with every known name, and shown
        let short: String = name.chars().take(40).collect();
        let asked = Preset::named(&short).map_err(|e| ApiError::invalid(Some("strategy"), e.to_string()))?;
        if named
            .strategy
            .as_ref()
            .is_some_and(|named| named.name != asked.name)
        {
            return Err(contradicts_model("strategy", model));
        }
        strategy = asked;
    }
    let given = overrides(f, Register::shipped())?;
    if !given.is_empty() {
        strategy
            .apply(&given)
            .map_err(|e| ApiError::invalid(None, e.to_string()))?;
    }
    let most = app.limits.traces;
    let traces = match (f.count("traces", 1..=most)?, named.traces) {
        (Some(traces), Some(named)) if named != traces => return Err(contradicts_model("traces", model)),
        (Some(traces), _) => traces,
        (None, Some(traces)) if traces > most => {
            return Err(ApiError::refused(
                StatusCode::NOT_FOUND,
                format!("this server runs at most {most} traces, not {traces}"),
            )
            .with_code("model_not_found"));
        }
        (None, named) => named.unwrap_or(base.traces),
    };
    let time_limit = f.number("time_limit")?.map(|seconds| {
        let fits = seconds > 0.0 && seconds <= LONGEST;
        let limit = Duration::try_from_secs_f64(seconds).ok().filter(|_| fits);
        limit.ok_or_else(|| {
            let right = format!("a number of seconds above 0 and at most {LONGEST}");
            ApiError::invalid(
                Some("time_limit"),
                format!("`time_limit` must be {right}, not {seconds:?}"),
            )
        })
    });
    let max_total_tokens = f.whole("max_total_tokens", 1..=u64::MAX)?;
    let sampling = SamplingOverrides::read(|setting| f.sampling(setting))?;
    Ok(Settings {
        strategy,
        traces,
        slots: f.slots(most)?.or(base.slots.map(|slots| slots.within(traces))),
        max_tokens: least(max_tokens.map(|wanted| wanted.max(1)), base.max_tokens),
        sampling: sampling.or(base.sampling),
        seed: seed(f)?.or(app.seed).unwrap_or_else(seeds::fresh),
        ignore_eos: f.flag("ignore_eos")?.unwrap_or(base.ignore_eos),
        loop_stop: f.flag("loop_stop")?.unwrap_or(base.loop_stop),
        thinking_budget: f
            .count("thinking_budget", 0..=usize::MAX)?
            .or(base.thinking_budget),
        max_total_tokens: least(max_total_tokens, base.max_total_tokens),
        time_limit: least(time_limit.transpose()?, base.time_limit),
        ..base.clone()
    })
}

fn contradicts_model(field: &'static str, model: &str) -> ApiError {
    let model: String = model.chars().take(200).collect();
    let why = format!("`{field}` is another than the one in the model's name, `{model}`");
    ApiError::invalid(Some(field), why)
}

/// A strategy's name for clients: a command of this machine is none of their business.
pub(super) fn for_clients(strategy: &str) -> &str {
    strategy.split_once(':').map_or(strategy, |(kind, _)| kind)
}

/// Most seconds that a request may be given: some thirty years.
const LONGEST: f64 = 1e9;

/// A request may ask for less than the server allows, never for more.
fn least<T: Ord>(wanted: Option<T>, most: Option<T>) -> Option<T> {
    match (wanted, most) {
        (Some(a), Some(m)) => Some(a.min(m)),
        (a, m) => a.or(m),
    }
}

/// A field for each setting that a strategy of the register has.
pub(super) fn overrides(f: &mut UnreadFields, register: &Register) -> Result<Overrides, ApiError> {
    let mut given = Overrides::default();
    for setting in register.settings() {
        if let Some(value) = f.setting(setting)? {
            given.set(setting.name, value);
        }
    }
    Ok(given)
}

fn seed(f: &mut UnreadFields) -> Result<Option<u64>, ApiError> {
    let Some(value) = f.take("seed") else {
        return Ok(None);
    };
    let whole = integer(&value);
    // a negative seed is one more number
    let negative = |whole| i64::try_from(whole).map(i64::cast_unsigned);
    let seed = whole.and_then(|whole| u64::try_from(whole).or_else(|_| negative(whole)).ok());
    seed.map(Some).ok_or_else(|| {
        let given = match whole {
            Some(_) => "a number of more than 64 bits",
            None => kind(&value),
        };
        ApiError::invalid(
            Some("seed"),
            format!(
                "`seed` must be a whole number of 64 bits, from {} to {}; {given} was given",
                i64::MIN,
                u64::MAX
            ),
        )
    })
}
