//! How a running choice stands, for those who watch: lines of text, or objects for those who draw them.

use serde::Serialize;
use serde_json::Value;
use tts_strategies::{Finish, TraceId};

use super::settings::for_clients;
use crate::run::{Event, FateCounts, ProblemProgress, TraceDetails};
use crate::solver::Settings;

/// What a choice's watcher was told last: a line comes when there is something new.
#[derive(Default)]
pub(super) struct ProgressLines {
    ended: u64,
    leading: Option<String>,
    has_threshold: bool,
}

impl ProgressLines {
    /// The first line: what is about to run.
    pub(super) fn first(settings: &Settings) -> String {
        format!(
            "[{}: {} traces at most]\n",
            for_clients(&settings.strategy.name),
            settings.traces
        )
    }

    /// A line, if the event says anything new.
    pub(super) fn next(&mut self, event: &Event) -> Option<String> {
        let Event::Progress(now) = event else { return None };
        let ended = now.traces.total();
        let leading = now.leading.as_ref().map(|l| l.0.clone());
        let has_threshold = now.threshold.is_some();
        if (ended, &leading, has_threshold) == (self.ended, &self.leading, self.has_threshold) {
            return None;
        }
        (self.ended, self.leading, self.has_threshold) = (ended, leading, has_threshold);
        let tokens = now.tokens.total() + now.live_tokens;
        let mut line = format!("[{ended} of {} traces ended, {tokens} tokens", now.budget);
        if let Some(bar) = now.threshold {
            line.push_str(&format!("; bar {bar:.2}"));
        }
        if let Some((answer, share)) = &now.leading {
            let answer: String = answer.chars().take(80).collect();
            line.push_str(&format!("; leading: {answer} ({:.0} %)", share * 100.0));
        }
        Some(line + "]\n")
    }
}

/// An event of a choice as it stands under `tts`.
#[derive(Serialize)]
struct ProgressEvent<'a> {
    choice: usize,
    #[serde(flatten)]
    kind: Kind<'a>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Kind<'a> {
    Started {
        strategy: &'a str,
        budget: usize,
        slots: usize,
        prompt_tokens: usize,
    },
    Progress {
        live: usize,
        budget: usize,
        traces: FateCounts,
        tokens: FateCounts,
        live_tokens: u64,
        generated: u64,
        ticks: u64,
        leading: Option<Leading<'a>>,
        threshold: Option<f64>,
        window: Option<usize>,
    },
    Traces {
        window: usize,
        traces: Vec<TracePoints<'a>>,
        ballots: Option<Vec<Ballot<'a>>>,
    },
    Ended {
        trace: TraceId,
        finish: Finish,
        tokens: usize,
        answer: Option<&'a str>,
    },
    Notice {
        text: &'a str,
    },
    Decided {
        answer: Option<&'a str>,
    },
}

#[derive(Serialize)]
struct Leading<'a> {
    answer: &'a str,
    share: f64,
}

#[derive(Serialize)]
struct TracePoints<'a> {
    trace: TraceId,
    warmup: bool,
    points: &'a [(usize, f32)],
}

#[derive(Serialize)]
struct Ballot<'a> {
    answer: &'a str,
    weight: f64,
    traces: usize,
}

/// An event of the choice `choice` as an object for those who draw it.
pub(super) fn object(choice: usize, event: &Event, settings: &Settings) -> Value {
    let kind = match event {
        Event::Started {
            slots, prompt_tokens, ..
        } => Kind::Started {
            strategy: for_clients(&settings.strategy.name),
            budget: settings.traces,
            slots: *slots,
            prompt_tokens: *prompt_tokens,
        },
        Event::Progress(now) => progress(now),
        Event::Details(details) => Kind::Traces {
            window: details.window,
            traces: details.traces.iter().map(points).collect(),
            ballots: details
                .ballots
                .as_ref()
                .map(|all| all.iter().map(ballot).collect()),
        },
        Event::TraceEnded {
            trace,
            finish,
            tokens,
            answer,
            ..
        } => Kind::Ended {
            trace: *trace,
            finish: *finish,
            tokens: *tokens,
            answer: answer.as_deref(),
        },
        Event::Notice { text, .. } => Kind::Notice { text },
        Event::Decided { answer, .. } => Kind::Decided {
            answer: answer.as_deref(),
        },
    };
    serde_json::to_value(ProgressEvent { choice, kind }).unwrap_or_default()
}

fn progress(now: &ProblemProgress) -> Kind<'_> {
    Kind::Progress {
        live: now.live,
        budget: now.budget,
        traces: now.traces,
        tokens: now.tokens,
        live_tokens: now.live_tokens,
        generated: now.tokens.total() + now.live_tokens,
        ticks: now.ticks,
        leading: now.leading.as_ref().map(|(answer, share)| Leading {
            answer,
            share: *share,
        }),
        threshold: now.threshold,
        window: now.window,
    }
}

fn points(of: &TraceDetails) -> TracePoints<'_> {
    TracePoints {
        trace: of.trace,
        warmup: of.warmup,
        points: &of.points,
    }
}

fn ballot((answer, weight, traces): &(String, f64, usize)) -> Ballot<'_> {
    Ballot {
        answer,
        weight: *weight,
        traces: *traces,
    }
}
