//! The text of a choice: thinking, content and log-probabilities, while it is written and at its end.
//!
//! Both a whole reply and a stream take them from a [`ChoiceText`]. A stream pushes tokens as they come and
//! the rest of the trace's text at the end; a whole reply pushes the trace's text alone.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI8, Ordering};

use tokio::sync::watch;
use tts_evals::answer::{ThinkingSplitter, closes_unopened};

use super::choice::Choice;
use super::logprobs::{self, TextToken, Tokens};
use super::request::{ChatRequest, Endpoint};
use super::state::AppState;
use crate::openai::Logprobs;
use crate::run::StreamedToken;
use crate::solver::Prepared;

/// Where texts of an engine elsewhere begin, whose template is not known: by those that it has written.
#[derive(Default)]
pub(super) struct Beginnings {
    /// how many more of the last began inside the thinking than outside
    balance: AtomicI8,
}

impl Beginnings {
    /// Texts after which an engine that begins them elsewhere is believed.
    const MEMORY: i8 = 3;

    /// Takes in a text that ended by itself: whether it began inside the thinking.
    fn saw(&self, text: &str) -> bool {
        let inside = closes_unopened(text);
        let step = |balance: i8| {
            let next = balance + if inside { 1 } else { -1 };
            Some(next.clamp(-Self::MEMORY, Self::MEMORY))
        };
        let _ = self
            .balance
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
        inside
    }

    /// Whether a text of which nothing is known begins inside the thinking.
    fn in_thinking(&self) -> bool {
        self.balance.load(Ordering::Relaxed) > 0
    }
}

/// What a choice says beyond what was taken of it before.
#[derive(Clone, Debug, Default)]
pub(super) struct TextDelta {
    pub(super) reasoning: String,
    pub(super) content: String,
    pub(super) logprobs: Option<Logprobs>,
}

/// The text of a choice as far as it is certain. What is taken is the beginning of what the choice will be,
/// whatever comes.
pub(super) struct ChoiceText {
    endpoint: Endpoint,
    /// alternatives of each token, where log-probabilities are wanted
    logprobs: Option<usize>,
    split: ThinkingSplitter,
    /// the prompt, where it is repeated before the text
    echo: String,
    /// tokens whose log-probabilities wait for their text
    waiting: VecDeque<TextToken>,
    /// index of the first token that never waited or still does
    undecided: usize,
    /// whether this is all of the text
    over: bool,
    /// bytes of the thinking and of the content that were taken
    thought: usize,
    content: usize,
}

impl ChoiceText {
    /// The text that will follow a prompt. A raw completion is shown as it stands. Where an engine elsewhere
    /// fills the template, a `whole` text that ended by itself tells whether it begins inside the thinking;
    /// others are taken to begin where most of those before them did.
    pub(super) fn new(
        app: &AppState,
        request: &ChatRequest,
        endpoint: Endpoint,
        prompt: &Prepared,
        whole: Option<&str>,
    ) -> Self {
        let split = match endpoint {
            Endpoint::Completion => ThinkingSplitter::verbatim(),
            Endpoint::Chat
                if request
                    .solver
                    .source()
                    .capabilities()
                    .knows_template(&prompt.messages) =>
            {
                ThinkingSplitter::new(prompt.prompt.ends_in_think)
            }
            Endpoint::Chat => {
                let told = whole.map(|text| app.beginnings.saw(text));
                ThinkingSplitter::new(told.unwrap_or_else(|| app.beginnings.in_thinking()))
            }
        };
        Self {
            endpoint,
            logprobs: request.logprobs,
            split: split.holding_back(request.stops.clone()),
            echo: if request.echo {
                prompt.prompt.text.clone()
            } else {
                String::new()
            },
            waiting: VecDeque::new(),
            undecided: 0,
            over: false,
            thought: 0,
            content: 0,
        }
    }

    /// Ends the text: this is all of it.
    pub(super) fn finish(&mut self, text: &str) {
        // what was held back may have become a stop text
        self.split.truncate(text.len());
        let rest = text.get(self.split.len()..).unwrap_or_default();
        self.split.push(rest);
        self.split.finish();
        self.over = true;
    }

    /// Whether a token belongs to what is said: all of a raw completion does.
    pub(super) fn shows(&self, token: &TextToken) -> bool {
        match self.endpoint {
            Endpoint::Completion => token.is_in(&(0..self.split.said().len())),
            Endpoint::Chat => self.split.places().any(|place| token.is_in(&place)),
        }
    }

    /// Gives the tokens that the text is made of, once it is whole, for their log-probabilities.
    pub(super) fn set_tokens(&mut self, tokens: &[TextToken]) {
        let left = tokens.iter().filter(|token| token.index >= self.undecided);
        self.waiting = left.cloned().collect();
    }

    /// Takes what became certain since the last time.
    pub(super) fn take(&mut self, app: &AppState) -> TextDelta {
        let content = [
            &self.echo[self.content.min(self.echo.len())..],
            &self.split.said()[self.content.saturating_sub(self.echo.len())..],
        ]
        .concat();
        let delta = TextDelta {
            reasoning: self.split.thought()[self.thought..].to_owned(),
            logprobs: self.take_logprobs(app),
            content,
        };
        self.thought += delta.reasoning.len();
        self.content += delta.content.len();
        delta
    }

    /// Log-probabilities of the tokens that the content has got to.
    fn take_logprobs(&mut self, app: &AppState) -> Option<Logprobs> {
        let k = self.logprobs?;
        let to = match self.split.places().last() {
            Some(place) => place.end,
            None if self.over => 0,
            None => return None,
        };
        let is_reached = |token: &&TextToken| self.over || token.from < to;
        let reached = self.waiting.iter().take_while(is_reached).count();
        let mut tokens: Vec<TextToken> = self.waiting.drain(..reached).collect();
        if let Some(last) = tokens.last() {
            self.undecided = last.index + 1;
        }
        tokens.retain(|token| self.shows(token));
        (!tokens.is_empty()).then(|| logprobs::object(app, self.endpoint, &tokens, k > 0))
    }
}

/// The text of a trace that runs alone, read while it is written.
pub(super) struct StreamedText {
    tokens_so_far: watch::Receiver<Vec<StreamedToken>>,
    /// tokens that were read
    read: usize,
    tokens: Option<Tokens>,
    text: ChoiceText,
}

impl StreamedText {
    /// Of the choice `index` of a request.
    pub(super) fn new(
        app: &AppState,
        request: &ChatRequest,
        endpoint: Endpoint,
        index: usize,
        tokens_so_far: watch::Receiver<Vec<StreamedToken>>,
    ) -> Self {
        let prompt = &request.prompts[index / request.n];
        Self {
            tokens_so_far,
            read: 0,
            tokens: Tokens::new(app, true),
            text: ChoiceText::new(app, request, endpoint, prompt, None),
        }
    }

    /// All tokens so far, and a notice when there are more.
    pub(super) fn tokens_so_far(&self) -> watch::Receiver<Vec<StreamedToken>> {
        self.tokens_so_far.clone()
    }

    /// Reads what was written since the last time and takes what became certain.
    pub(super) fn take(&mut self, app: &AppState) -> TextDelta {
        // the engine must not wait for what is done with it
        let new = self
            .tokens_so_far
            .borrow_and_update()
            .get(self.read..)
            .map(<[_]>::to_vec);
        for token in new.unwrap_or_default() {
            self.read += 1;
            if let Some(text) = &token.text {
                self.text.split.push(text);
            } else if let Some(tokens) = &mut self.tokens {
                let (token, text) = tokens.next(token.id, Some(token.logprob), Some(token.top_logprobs));
                self.text.split.push(&text);
                if self.text.logprobs.is_some() {
                    self.text.waiting.push_back(token);
                }
            }
        }
        self.text.take(app)
    }

    /// Takes what is left, once the trace has become this choice.
    pub(super) fn finish(&mut self, app: &AppState, choice: &Choice) -> TextDelta {
        self.text.finish(&choice.text);
        self.text.set_tokens(&choice.tokens);
        self.text.take(app)
    }
}
