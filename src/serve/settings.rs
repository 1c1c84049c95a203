//! The settings of a request: what it says itself, over what the server was started with.

use std::time::Duration;

use axum::http::StatusCode;
use tts_strategies::{Overrides, Preset, Register};

use super::error::ApiError;
use super::fields::{UnreadFields, kind};
use super::model_name::by_name;
use super::request::Endpoint;
use super::state::AppState;
use crate::solver::Settings;
use tts_model::overrides::SamplingOverrides;

/// The token limit of a trace that the request names.
pub(super) fn max_tokens(
    f: &mut UnreadFields,
    endpoint: Endpoint,
    app: &AppState,
) -> Result<Option<usize>, ApiError> {
    let wanted = match endpoint {
        Endpoint::Chat => {
            let newer = f.count("max_completion_tokens", 1..=usize::MAX)?;
            f.count("max_tokens", 1..=usize::MAX)?
                .filter(|_| newer.is_none())
                .or(newer)
        }
        Endpoint::Completion => f.count("max_tokens", 1..=usize::MAX)?,
    };
    if let (Some(wanted), Some(most)) = (wanted, app.settings.max_tokens)
        && wanted > most
    {
        return Err(ApiError::invalid(
            Some("max_tokens"),
            format!("a trace may generate at most {most} tokens here, not {wanted}"),
        ));
    }
    Ok(wanted)
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
    let mut strategy = named.strategy.unwrap_or_else(|| base.strategy.clone());
    if let Some(name) = f.text("strategy")? {
        // it is compared with every known name, and shown
        let short: String = name.chars().take(40).collect();
        strategy = Preset::named(&short).map_err(|e| ApiError::invalid(Some("strategy"), e.to_string()))?;
    }
    let given = overrides(f, Register::shipped())?;
    if !given.is_empty() {
        strategy
            .apply(&given)
            .map_err(|e| ApiError::invalid(None, e.to_string()))?;
    }
    let most = app.limits.traces;
    let traces = match (f.count("traces", 1..=most)?, named.traces) {
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
        Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|limit| !limit.is_zero())
            .ok_or_else(|| {
                ApiError::invalid(
                    Some("time_limit"),
                    "`time_limit` must be a number of seconds above 0",
                )
            })
    });
    let max_total_tokens = f.whole("max_total_tokens", 1..=u64::MAX)?;
    let sampling = SamplingOverrides::read(|setting| f.sampling(setting))?;
    Ok(Settings {
        strategy,
        traces,
        slots: f.count("slots", 1..=most)?.or(base.slots),
        max_tokens: max_tokens.or(base.max_tokens),
        sampling: sampling.or(base.sampling),
        seed: seed(f)?.unwrap_or(base.seed),
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
    // a negative seed is one more number
    let seed = value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned));
    seed.map(Some).ok_or_else(|| {
        ApiError::invalid(
            Some("seed"),
            format!(
                "`seed` must be a whole number of 64 bits; {} was given",
                kind(&value)
            ),
        )
    })
}
