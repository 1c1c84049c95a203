//! Prompts of a problem that show what its traces came to: a run reads one prompt at a time.
//!
//! Where a strategy asks for traces of another prompt, the run ends once those in flight have ended and says which
//! ([`Decided::wanted_prompt`](super::Decided::wanted_prompt)). Another run goes on with that prompt and with all records
//! up to there, through which it comes to the same place; a replay has the records of both.

use tts_strategies::TraceId;

use super::ProblemRun;

/// Which prompts' traces a run can have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Looks {
    /// Those of the problem's own prompt.
    #[default]
    None,
    /// Recorded ones of any other prompt, and of the one that shows the solutions of these traces new ones too.
    Shown(Vec<TraceId>),
    /// Recorded ones of any prompt.
    Recorded,
}

/// The prompt that the traces in flight were asked, and the one that waits for them.
#[derive(Default)]
pub(super) struct Prompts {
    looks: Looks,
    /// traces whose solutions the prompt shows
    pub(super) shows: Vec<TraceId>,
    /// those of the prompt that is asked for and that this run does not read
    pub(super) wanted: Option<Vec<TraceId>>,
}

impl Prompts {
    pub(super) fn new(looks: Looks) -> Self {
        Self {
            looks,
            ..Self::default()
        }
    }
}

impl ProblemRun {
    /// Whether a trace that is about to begin has its prompt. Those in flight end before another prompt's begin.
    pub(super) fn is_prompted(&mut self, id: TraceId) -> bool {
        let shown = self.strategy.shown(id);
        if shown == self.prompts.shows {
            return true;
        }
        if !self.in_flight.is_empty() {
            return false;
        }
        let has = match &self.prompts.looks {
            Looks::None => false,
            Looks::Shown(these) => these == shown,
            Looks::Recorded => true,
        };
        if has {
            self.prompts.shows = shown.to_vec();
        } else {
            self.prompts.wanted = Some(shown.to_vec());
        }
        has
    }
}
