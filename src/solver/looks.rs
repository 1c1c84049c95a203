//! Second looks: where a strategy asks for traces of a prompt that shows what the first ones came to, that prompt is
//! made here and the run goes on with it.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use tts_evals::answer::ReadAnswer;
use tts_model::overrides::SamplingOverrides;
use tts_model::sampling::Sampling;
use tts_strategies::{TraceId, Value};

use super::{Prepared, Solver};
use crate::error::Error;
use crate::fmt::count;
use crate::grammar::Grammar;
use crate::prompt::{Message, Rendered};
use crate::run::{
    Bounds, Decode, Event, Looks, Observer, Outcome, RecordSink, Request, RunError, Setup, StoppingRules,
    TraceRecord,
};

/// Characters of a solution below which it says nothing.
const FEWEST: usize = 200;

/// What follows the problem's own turn: the solutions, and what is asked now.
fn question(solutions: &[String]) -> String {
    let mut text = match solutions {
        [_] => "Here is an attempt at this problem, which may be wrong.\n".to_owned(),
        several => format!(
            "Here are {} attempts at this problem. They may disagree, and any of them may be wrong.\n",
            several.len()
        ),
    };
    for (i, solution) in solutions.iter().enumerate() {
        let _ = write!(text, "\n[Attempt {}]\n{}\n", i + 1, solution.trim());
    }
    text.push_str(
        "\nCheck what is attempted against the problem, and attempts against each other, find the mistakes, and then \
         solve the problem yourself. Give the answer in the form that was asked for.",
    );
    text
}

/// The end of a text, at most so many characters of it: that is where its answer stands.
fn end_of(text: &str, most: usize) -> String {
    let text = text.trim();
    let from = text.char_indices().rev().nth(most.saturating_sub(1));
    match from {
        Some((at, _)) if at > 0 => format!("[...] {}", text[at..].trim_start()),
        _ => text.to_owned(),
    }
}

/// A prompt that shows solutions, and what was left out of it.
struct LookPrompt {
    messages: Vec<Message>,
    prompt: Rendered,
    max_tokens: usize,
    notice: Option<String>,
}

impl Solver {
    /// The conversation with these solutions in the place of what the user asked last.
    fn messages_with(problem: &Prepared, solutions: &[String]) -> Option<Vec<Message>> {
        let mut messages = problem.messages.clone();
        let last = messages.last_mut().filter(|m| m.role == "user")?;
        last.content = format!("{}\n\n{}", last.content.trim_end(), question(solutions));
        Some(messages)
    }

    /// The prompt of a second look where the strategy takes any, with a word in the place of each solution.
    ///
    /// # Errors
    /// As [`Self::look_prompt`].
    pub(crate) fn look_to_be(&self, problem: &Prepared) -> Result<Option<Rendered>, Error> {
        let strategy = &self.settings.strategy;
        if !strategy.build().needs().looks {
            return Ok(None);
        }
        let Some(Value::Count(shown)) = strategy.value("show") else {
            return Ok(None);
        };
        let words: Vec<String> = (0..shown).map(|_| "(a solution)".to_owned()).collect();
        Ok(Some(self.look_prompt(problem, &words)?.1))
    }

    /// The prompt of a second look at these solutions, as far as it can be known here.
    ///
    /// # Errors
    /// A prompt that is no conversation, a template that fails.
    fn look_prompt(
        &self,
        problem: &Prepared,
        solutions: &[String],
    ) -> Result<(Vec<Message>, Rendered), Error> {
        let messages = Self::messages_with(problem, solutions).ok_or_else(|| {
            let why = if problem.messages.is_empty() {
                "a raw prompt has no turn in which solutions could be shown"
            } else {
                "the conversation does not end with a turn of the user's, in which solutions could be shown"
            };
            Error::Setting(why.to_owned())
        })?;
        let prompt = self.render(&messages)?;
        Ok((messages, prompt))
    }

    /// The prompt that shows the solutions of `shown`, cut to the ends of these where the context does not hold them
    /// whole; `Err` says why there is none.
    fn look(
        &self,
        problem: &Prepared,
        shown: &[TraceId],
        records: &[TraceRecord],
        max_tokens: usize,
    ) -> Result<LookPrompt, String> {
        let solution = |trace: &TraceId| records.iter().find(|r| r.trace == *trace)?.solution();
        let whole: Vec<String> = shown.iter().filter_map(solution).collect();
        if whole.len() < shown.len() || whole.iter().all(|text| text.trim().is_empty()) {
            return Err("the traces have no texts to show".to_owned());
        }
        // no trace that has ended may be cut off now
        let longest = records.iter().map(|r| r.tokens).max().unwrap_or(0);
        let mut most = whole.iter().map(|text| text.chars().count()).max().unwrap_or(0);
        let first_most = most;
        loop {
            let solutions: Vec<String> = whole.iter().map(|text| end_of(text, most)).collect();
            let (messages, prompt) = self
                .look_prompt(problem, &solutions)
                .map_err(|error| error.to_string())?;
            let room = match self.source.capabilities().context {
                Some(context) => context.saturating_sub(prompt.ids.len()),
                None => usize::MAX,
            };
            if room >= longest.max(1) {
                let cut = (most < first_most).then(|| {
                    format!(
                        "the second prompt shows at most the last {} characters of a solution: the context holds \
                         no more",
                        count(most as u64)
                    )
                });
                return Ok(LookPrompt {
                    messages,
                    prompt,
                    max_tokens: max_tokens.min(room),
                    notice: cut,
                });
            }
            most = most * 3 / 4;
            if most < FEWEST {
                return Err("the model's context does not hold a prompt that shows them".to_owned());
            }
        }
    }

    /// Runs a problem to its decision, with every prompt that its strategy asks for one after the other.
    ///
    /// # Errors
    /// As [`TraceSource::run`](crate::source::TraceSource::run).
    pub(crate) async fn run(
        &self,
        problem: &Prepared,
        request: Request,
        observer: Observer,
    ) -> Result<Outcome, RunError> {
        if !request.setup.strategy.needs().looks {
            return self.source.run(request, observer).await;
        }
        let again = Again::of(&request, observer);
        let mut outcome = self.source.run(request, again.observer()).await?;
        while let Some(shown) = outcome.decided.wanted_prompt.take() {
            let look = match self.look(problem, &shown, &outcome.records, again.rules.max_tokens) {
                Ok(look) => look,
                Err(why) => {
                    outcome.notices.push(format!("no second look: {why}"));
                    again.tell(Event::Decided {
                        problem: outcome.problem_id.clone(),
                        answer: outcome.decided.answer.clone(),
                    });
                    return Ok(outcome);
                }
            };
            again.tell(Event::Notice {
                problem: outcome.problem_id.clone(),
                text: format!(
                    "the vote is open: the model reads {} of its solutions and answers again",
                    shown.len()
                ),
            });
            let request = again.request(self, shown, &outcome, &look);
            let mut next = self.source.run(request, again.observer()).await?;
            next.notices.extend(look.notice);
            next.notices.append(&mut outcome.notices);
            next.notices.sort();
            next.notices.dedup();
            next.prompt_tokens += outcome.prompt_tokens;
            next.cached_tokens += outcome.cached_tokens;
            next.peak_rows = next.peak_rows.max(outcome.peak_rows);
            next.decided.seconds += outcome.decided.seconds;
            outcome = next;
        }
        Ok(outcome)
    }
}

/// What every run of a problem has in common.
struct Again {
    id: String,
    reader: Arc<dyn ReadAnswer>,
    decode: Arc<dyn Decode>,
    rules: Arc<StoppingRules>,
    bounds: Bounds,
    recorded: Vec<Arc<TraceRecord>>,
    sampling: Sampling,
    overrides: SamplingOverrides,
    max_tokens: Option<usize>,
    seed: u64,
    banned_ids: Vec<u32>,
    grammar: Option<Arc<Grammar>>,
    watched: Observer,
    sink: Option<Arc<Mutex<RecordSink>>>,
}

impl Again {
    fn of(request: &Request, mut observer: Observer) -> Self {
        let setup = &request.setup;
        Self {
            id: setup.id.clone(),
            reader: setup.reader.clone(),
            decode: setup.decode.clone(),
            rules: setup.rules.clone(),
            bounds: setup.bounds.clone(),
            recorded: setup.recorded.clone(),
            sampling: request.sampling.clone(),
            overrides: request.overrides,
            max_tokens: request.max_tokens,
            seed: request.seed,
            banned_ids: request.banned_ids.clone(),
            grammar: request.grammar.clone(),
            sink: observer.records.take().map(|sink| Arc::new(Mutex::new(sink))),
            watched: observer,
        }
    }

    fn tell(&self, event: Event) {
        if let Some(events) = &self.watched.events {
            // nobody may listen
            let _ = events.send(event);
        }
    }

    /// One run's observer; all of them write to the same journal.
    fn observer(&self) -> Observer {
        let records = self.sink.clone().map(|sink| -> RecordSink {
            Box::new(move |record| sink.lock().unwrap_or_else(PoisonError::into_inner)(record))
        });
        Observer {
            events: self.watched.events.clone(),
            records,
            checkpoint: self.watched.checkpoint.clone(),
            deadline: self.watched.deadline,
            interrupt: self.watched.interrupt.clone(),
            control: self.watched.control.clone(),
        }
    }

    /// The run that goes on from `outcome` with the prompt that shows the solutions of `shown`.
    fn request(&self, solver: &Solver, shown: Vec<TraceId>, outcome: &Outcome, look: &LookPrompt) -> Request {
        let ended = |trace: TraceId| outcome.records.iter().any(|r| r.trace == trace);
        let begun = self.recorded.iter().filter(|r| !ended(r.trace)).cloned();
        let before = outcome.records.iter().map(|record| {
            // it is in the journal
            Arc::new(TraceRecord {
                fresh: false,
                ..record.clone()
            })
        });
        let setup = Setup {
            id: self.id.clone(),
            strategy: solver.settings.strategy.build(),
            reader: self.reader.clone(),
            decode: self.decode.clone(),
            rules: Arc::new(StoppingRules {
                max_tokens: look.max_tokens,
                ..StoppingRules::clone(&self.rules)
            }),
            bounds: self.bounds.clone(),
            recorded: before.chain(begun).collect(),
            scripted: outcome.decided.external_events.clone(),
            looks: Looks::Shown(shown),
        };
        Request {
            messages: look.messages.clone(),
            sampling: self.sampling.clone(),
            overrides: self.overrides,
            max_tokens: self.max_tokens,
            seed: self.seed,
            banned_ids: self.banned_ids.clone(),
            grammar: self.grammar.clone(),
            ..Request::new(setup, look.prompt.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{end_of, question};

    #[test]
    fn a_solution_is_cut_to_its_end() {
        assert_eq!(end_of(" so it is 7 \n", 20), "so it is 7");
        assert_eq!(end_of("so it is 7", 10), "so it is 7");
        assert_eq!(end_of("so it is 7", 4), "[...] is 7");
        assert_eq!(end_of("äöü ✓✓", 3), "[...] ✓✓", "characters, not bytes");
        assert_eq!(end_of("", 5), "");
    }

    #[test]
    fn the_question_numbers_what_it_shows() {
        let text = question(&["first\n".to_owned(), "second".to_owned()]);
        assert!(text.starts_with("Here are 2 attempts"));
        assert!(
            text.contains("[Attempt 1]\nfirst\n\n[Attempt 2]\nsecond\n\n"),
            "{text}"
        );
    }
}
