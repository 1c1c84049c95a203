//! Where the numbers come from: every digest and setting, how to read the numbers, and what is missing.

use serde_json::{Value, json};

use super::escape::one_line;
use super::evidence::Evidence;
use super::figures::plural;
use super::results::{Arm, Basis, DataCounts, FactGroup};
use super::summary::{COUNTED, LEVEL};
use crate::run::{StrategyRecord, TraceSettings, value_of};

/// What every published number should name, and whether it is recorded.
fn expected(traces: &TraceSettings) -> [(&'static str, bool); 6] {
    [
        ("model digest", traces.model.is_some()),
        ("prompt template digest", traces.prompter.is_some()),
        ("sampling settings", traces.sampling.is_some()),
        ("seed", traces.seed.is_some()),
        ("token limit of a trace", traces.max_tokens.is_some()),
        ("number format of the weights", traces.dtype.is_some()),
    ]
}

/// Every digest and setting that is known, in groups.
pub(crate) fn about(evidence: &Evidence) -> Vec<FactGroup> {
    let mut groups = Vec::new();
    let mut group = |title: &str, facts: Vec<(String, String)>| {
        if !facts.is_empty() {
            groups.push(FactGroup {
                title: title.to_owned(),
                facts,
            });
        }
    };
    let fact = |name: &str, value: &str| (name.to_owned(), one_line(value));
    let unknown = "not recorded";
    group(
        "Report",
        vec![
            fact("tool version", env!("CARGO_PKG_VERSION")),
            fact(evidence.kind, &evidence.path.display().to_string()),
        ],
    );
    let manifest = evidence.recorded.as_ref().and_then(|r| r.pool().manifest());
    let header = evidence.header.as_ref();
    let data = header
        .and_then(|h| h.data.as_deref())
        .or_else(|| manifest.and_then(|m| m.data.as_deref()));
    let mut set = vec![
        fact("digest", data.unwrap_or(unknown)),
        fact("problems", &evidence.pools.len().to_string()),
    ];
    set.push(fact(
        "with a gold answer",
        &evidence
            .pools
            .iter()
            .filter(|p| p.gold.is_some())
            .count()
            .to_string(),
    ));
    group("Problems", set);
    let traces = header
        .and_then(|h| h.traces.as_ref())
        .or_else(|| manifest.map(|m| &m.traces));
    let traces = traces.cloned().unwrap_or_default();
    let mut generated = Vec::new();
    flatten("", &value_of(&traces), &mut generated);
    for (name, _) in expected(&traces).into_iter().filter(|(_, known)| !known) {
        generated.push(fact(name, unknown));
    }
    if let Some(manifest) = manifest {
        generated.push(fact("recorded by version", &manifest.tool_version));
    }
    group("Traces", generated);
    let mut grader = Vec::new();
    flatten("", &value_of(&evidence.answers), &mut grader);
    if grader.is_empty() {
        grader.push(fact("kind", "not recorded; compared as mathematics"));
    }
    group("Grader", grader);
    if let Some(header) = header {
        let list = |items: Vec<String>| items.join(", ");
        group(
            "Sweep",
            vec![
                fact(
                    "recording",
                    header.recording.path.as_deref().unwrap_or("this folder"),
                ),
                fact("digest of the recorded traces", &header.recording.digest),
                fact(
                    "budgets",
                    &list(header.budgets.iter().map(ToString::to_string).collect()),
                ),
                fact(
                    "slots",
                    &list(
                        header
                            .slots
                            .iter()
                            .map(|s| {
                                s.map_or_else(|| "what suits each strategy".to_owned(), |s| s.to_string())
                            })
                            .collect(),
                    ),
                ),
                fact(
                    "resamples",
                    &header
                        .resamples
                        .map_or_else(|| "none: recorded order".to_owned(), |r| r.to_string()),
                ),
                fact("seed of the resampling", &header.seed.to_string()),
                fact("made by version", &header.tool_version),
            ],
        );
        for strategy in &header.strategies {
            group(
                &format!("Strategy {}", one_line(strategy.name.as_deref().unwrap_or("?"))),
                settings(strategy),
            );
        }
    }
    for (name, decisions) in &evidence.decisions {
        let mut facts = decisions.strategy.as_ref().map(settings).unwrap_or_default();
        for (name, value) in [
            ("traces", json!(decisions.traces)),
            ("slots", json!(decisions.slots)),
            ("max_total_tokens", json!(decisions.max_total_tokens)),
            ("time_limit_seconds", json!(decisions.time_limit_seconds)),
        ] {
            flatten(name, &value, &mut facts);
        }
        group(&format!("Strategy {}", one_line(name)), facts);
    }
    if let Some(manifest) = manifest {
        let mut machine = Vec::new();
        flatten("", &value_of(&manifest.machine), &mut machine);
        group("Machine", machine);
    }
    groups
}

/// A preset's kind and settings.
fn settings(strategy: &StrategyRecord) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    flatten("kind", &json!(strategy.kind), &mut facts);
    flatten("", &json!(strategy.settings), &mut facts);
    facts
}

/// The leaves of an object by their paths; what is not set is left out.
fn flatten(path: &str, value: &Value, out: &mut Vec<(String, String)>) {
    match value {
        Value::Null => {}
        Value::Object(object) => {
            for (key, value) in object {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                flatten(&path, value, out);
            }
        }
        Value::String(text) => out.push((one_line(path), one_line(text))),
        Value::Array(items) if items.iter().all(|i| !i.is_object() && !i.is_array()) => {
            let items: Vec<String> = items
                .iter()
                .map(|i| i.as_str().map_or_else(|| i.to_string(), one_line))
                .collect();
            out.push((one_line(path), items.join(", ")));
        }
        other => out.push((one_line(path), one_line(&other.to_string()))),
    }
}

/// How to read the numbers.
pub(crate) fn notes(counts: &DataCounts, arms: &[Arm]) -> Vec<String> {
    let mut notes = Vec::new();
    let level = LEVEL * 100.0;
    if arms.iter().any(|a| a.accuracy.is_some()) {
        notes.push(format!(
            "Two sources of spread are kept apart. \u{201c}Other problems\u{201d} is the {level:.0}% \
             interval over problems of the same kind: it speaks about the benchmark{}. \u{201c}Other \
             traces\u{201d} is where the middle {level:.0}% of the draws of traces lie: it speaks about \
             these problems and says nothing about others.",
            if arms.iter().any(|a| a.resamples > 1) {
                " (a bootstrap over problems; Wilson\u{2019}s interval where each problem was decided once)"
            } else {
                " (Wilson\u{2019}s interval)"
            }
        ));
    }
    if arms.iter().any(|a| a.resamples > 1 && a.basis == Basis::Replayed) {
        notes.push(
            "Every strategy saw the same resampled traces of the same problems, so differences are paired. \
             Draws of a whole pool differ in their order alone."
                .to_owned(),
        );
    }
    if arms.iter().any(|a| a.accuracy.is_some() && a.resamples == 1) {
        notes.push(
            "Where each problem was decided once, how much other traces would have changed is not known from \
             that one draw.".to_owned(),
        );
    }
    if arms.iter().any(|a| a.basis == Basis::Counted) {
        notes.push(format!(
            "\u{201c}{COUNTED}\u{201d} is plain majority over k of the recorded traces, counted by this \
             report over 64 draws; all others were decided by the strategy itself."
        ));
    }
    notes.push(
        "Groups and tails are of the strategy\u{2019}s fixed window; else of an eighth of the \
         problem\u{2019}s median trace as a power of two, at least 16 and at most 2048 tokens."
            .to_owned(),
    );
    notes.push(
        "Tokens are generated tokens, each counted once by the fate of its trace; prompts are not in them. \
         Steps are tokens one after the other."
            .to_owned(),
    );
    if counts.right > 0 {
        notes.push(
            "A trace without an answer casts no vote and is not right; a trace that was cut off counts as \
             wrong."
                .to_owned(),
        );
    }
    notes
}

/// What is missing, counted.
pub(crate) fn warn(
    evidence: &Evidence,
    counts: &DataCounts,
    whole: bool,
    arms: &[Arm],
    warnings: &mut Vec<String>,
) {
    let without = counts.problems - counts.graded;
    if counts.problems == 0 {
        warnings.push("there is no problem here yet".to_owned());
    } else if counts.graded == 0 {
        warnings.push(
            "no gold answer is known: there is no accuracy, no calibration and no comparison".to_owned(),
        );
    } else if without > 0 {
        warnings.push(format!(
            "{} without a gold answer: in the tokens, not in the accuracy",
            plural(without as u64, "problem")
        ));
    }
    if counts.empty > 0 {
        warnings.push(format!(
            "{} without a complete trace",
            plural(counts.empty as u64, "problem")
        ));
    }
    if !whole {
        warnings.push(format!(
            "{} stopped, cancelled or failed here: what they would have said is not known, so pass@k, the \
             mean over traces and fewer traces of plain majority are left out",
            plural(counts.incomplete, "trace")
        ));
    }
    let problems = evidence.pools.len();
    for arm in arms {
        if arm.problems < problems && arm.basis != Basis::Counted {
            warnings.push(format!(
                "{} with {}: {} of {problems} problems are decided",
                one_line(&arm.series),
                plural(arm.budget as u64, "trace"),
                arm.problems
            ));
        }
        if arm.short > 0 {
            warnings.push(format!(
                "{} with {}: {} ended in the recording before the strategy was through with them, and count \
                 as failed",
                one_line(&arm.series),
                plural(arm.budget as u64, "trace"),
                plural(arm.short, "trace")
            ));
        }
    }
    let capped = arms.iter().map(|a| a.capped).max().unwrap_or(0);
    if capped > 0 {
        warnings.push(format!(
            "{} fewer traces than the largest budget: they were decided with all they have",
            if capped == 1 {
                "1 problem has".to_owned()
            } else {
                format!("{capped} problems have")
            }
        ));
    }
    if let Some(traces) = &evidence.traces {
        let complete = traces.iter().flat_map(|t| &t.complete);
        let unscored = complete
            .filter(|t| t.scores == tts_strategies::TraceScores::default())
            .count();
        if unscored > 0 {
            warnings.push(format!(
                "no confidence is on record for {unscored} of {}: they are in the votes, not in the plots of \
                 scores",
                plural(counts.traces, "complete trace")
            ));
        }
    }
}
