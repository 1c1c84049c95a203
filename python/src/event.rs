//! What a running question tells whoever watches it.

use pyo3::prelude::*;

use crate::strategy::finish_name;

/// What happens while a question is answered: `Started`, `Progress`, `TraceEnded`, `Notice` and at last
/// `Decided`. Each is a class of its own, for `isinstance` and `match`.
#[pyclass(frozen, module = "tts")]
#[derive(Clone)]
pub(crate) enum Event {
    /// The prompt was read and the first traces run: traces in flight at once, and tokens of the prompt.
    Started { slots: usize, prompt_tokens: usize },
    /// How far the question is, some ten times a second: traces in flight, traces that ended, tokens of all
    /// traces so far, the leading answer and its share of the vote.
    Progress {
        live: usize,
        ended: u64,
        tokens: u64,
        leading: Option<String>,
        share: Option<f64>,
        threshold: Option<f64>,
    },
    /// A trace ended, by itself (`stop`, `length`, `loop`) or not (`low_confidence`, `cancelled`, `failed`).
    TraceEnded {
        trace: u32,
        finish: String,
        tokens: usize,
        answer: Option<String>,
    },
    /// A sentence for the user.
    Notice { text: String },
    /// The question is decided; `answer` is None where no trace gave one.
    Decided { answer: Option<String> },
}

#[pymethods]
impl Event {
    fn __repr__(&self) -> String {
        match self {
            Self::Started { slots, prompt_tokens } => {
                format!("Event.Started(slots={slots}, prompt_tokens={prompt_tokens})")
            }
            Self::Progress {
                live,
                ended,
                tokens,
                leading,
                ..
            } => format!(
                "Event.Progress(live={live}, ended={ended}, tokens={tokens}, leading={})",
                quoted(leading.as_deref())
            ),
            Self::TraceEnded {
                trace,
                finish,
                tokens,
                answer,
            } => format!(
                "Event.TraceEnded(trace={trace}, finish='{finish}', tokens={tokens}, answer={})",
                quoted(answer.as_deref())
            ),
            Self::Notice { text } => format!("Event.Notice(text={})", quoted(Some(text))),
            Self::Decided { answer } => format!("Event.Decided(answer={})", quoted(answer.as_deref())),
        }
    }
}

fn quoted(text: Option<&str>) -> String {
    text.map_or_else(|| "None".to_owned(), |text| format!("{text:?}"))
}

impl Event {
    /// An event for Python; nothing for those that nobody asks for there.
    pub(crate) fn of(event: tts::Event) -> Option<Self> {
        Some(match event {
            tts::Event::Started {
                slots, prompt_tokens, ..
            } => Self::Started { slots, prompt_tokens },
            tts::Event::Progress(now) => {
                let (leading, share) = now.leading.unzip();
                Self::Progress {
                    live: now.live,
                    ended: now.traces.total(),
                    tokens: now.tokens.total() + now.live_tokens,
                    leading,
                    share,
                    threshold: now.threshold,
                }
            }
            tts::Event::TraceEnded {
                trace,
                finish,
                tokens,
                answer,
                ..
            } => Self::TraceEnded {
                trace,
                finish: finish_name(finish).to_owned(),
                tokens,
                answer,
            },
            tts::Event::Notice { text, .. } => Self::Notice { text },
            tts::Event::Decided { answer, .. } => Self::Decided { answer },
            _ => return None,
        })
    }
}
