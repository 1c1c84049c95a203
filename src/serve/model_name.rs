//! `NAME`, `NAME@STRATEGY` and `NAME@STRATEGY-TRACES`: settings by the name of a model, for clients that can
//! set nothing else.

use tts_strategies::Preset;

use super::error::ApiError;
use axum::http::StatusCode;

/// What a model's name says besides the model.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ByName {
    pub(super) strategy: Option<Preset>,
    pub(super) traces: Option<usize>,
}

/// Reads a model's name; `served` is the one that this server has.
pub(super) fn by_name(asked: &str, served: &str) -> Result<ByName, ApiError> {
    let shown: String = asked.chars().take(200).collect();
    let unknown = |why: String| {
        ApiError::refused(
            StatusCode::NOT_FOUND,
            format!("there is no model `{shown}`: {why}"),
        )
        .with_code("model_not_found")
    };
    let same = asked
        .get(..served.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(served));
    let rest = asked.get(served.len()..).filter(|_| same);
    match rest.map(|rest| (rest, rest.strip_prefix('@'))) {
        Some(("", _)) => Ok(ByName::default()),
        Some((_, Some(settings))) => {
            if let Ok(preset) = Preset::named(settings) {
                return Ok(ByName {
                    strategy: Some(preset),
                    traces: None,
                });
            }
            let (name, traces) = match settings
                .rsplit_once('-')
                .map(|(name, n)| (name, n.parse::<usize>()))
            {
                Some((name, Ok(n))) => (name, Some(n)),
                _ => (settings, None),
            };
            match Preset::named(name) {
                Ok(_) if traces == Some(0) => Err(unknown("0 traces leave nothing to run".to_owned())),
                Ok(preset) => Ok(ByName {
                    strategy: Some(preset),
                    traces,
                }),
                Err(_) => Err(unknown(format!(
                    "after the @ stands a strategy ({}) and, if wanted, -TRACES",
                    tts_strategies::names().collect::<Vec<_>>().join(", ")
                ))),
            }
        }
        _ => Err(unknown(format!(
            "this server has `{served}`, and `{served}@STRATEGY-TRACES`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::by_name;

    fn read(asked: &str) -> Option<(Option<String>, Option<usize>)> {
        let found = by_name(asked, "falcon-h1r").ok()?;
        Some((found.strategy.map(|s| s.name), found.traces))
    }

    #[test]
    fn a_name_may_carry_a_strategy_and_traces() {
        let of = |strategy: &str, traces| Some((Some(strategy.to_owned()), traces));
        assert_eq!(read("falcon-h1r"), Some((None, None)));
        assert_eq!(read("Falcon-H1R"), Some((None, None)));
        assert_eq!(read("falcon-h1r@deepconf-low"), of("deepconf-low", None));
        assert_eq!(read("falcon-h1r@deepconf-low-64"), of("deepconf-low", Some(64)));
        assert_eq!(read("falcon-h1r@short-m-at-k-8"), of("short-m-at-k", Some(8)));
        for wrong in [
            "",
            "gpt-4o",
            "falcon-h1r2",
            "falcon-h1r@",
            "falcon-h1r@deepconf",
            "falcon-h1r@majority-0",
            "falcon-h1r@majority--1",
            "falcon-h1r@majority-99999999999999999999999",
            "falcon-h1r@exec:sh",
            "falcon-h1r@../../etc/passwd",
            "falcon-h1r@majority-8-8",
            "f\u{e4}lcon-h1r",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
