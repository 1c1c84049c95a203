//! The text of a trace that runs alone, while it is written.

use std::collections::VecDeque;

use serde_json::Value;
use tokio::sync::watch;

use super::ask::{Asked, Endpoint};
use super::choice::{Choice, apart};
use super::house::House;
use super::logprobs::{self, Cutter, Piece};
use super::parts::Parts;
use crate::run::Written;

/// What a choice says beyond what was sent of it.
#[derive(Debug, Default)]
pub(super) struct Delta {
    pub(super) reasoning: String,
    pub(super) content: String,
    pub(super) logprobs: Option<Value>,
}

impl Delta {
    /// All of a choice.
    pub(super) fn whole(choice: &Choice) -> Self {
        Self {
            reasoning: choice.reasoning.clone().unwrap_or_default(),
            content: choice.content.clone(),
            logprobs: choice.logprobs.clone(),
        }
    }
}

/// A choice's text as far as it is written and sent. What is sent is the beginning of what the choice will
/// be, whatever comes.
pub(super) struct Writing {
    pages: watch::Receiver<Vec<Written>>,
    endpoint: Endpoint,
    /// alternatives of each token, where log-probabilities are wanted
    logprobs: Option<usize>,
    cutter: Option<Cutter>,
    parts: Parts,
    /// the prompt, where it is repeated before the text
    echo: String,
    /// tokens that were read
    read: usize,
    /// tokens whose log-probabilities wait for their text
    waiting: VecDeque<Piece>,
    /// bytes of the thinking and of the content that were sent, and tokens whose log-probabilities were
    thought: usize,
    content: usize,
    tokens: usize,
}

impl Writing {
    /// Of the choice `index` of a request.
    pub(super) fn new(
        house: &House,
        asked: &Asked,
        endpoint: Endpoint,
        index: usize,
        pages: watch::Receiver<Vec<Written>>,
    ) -> Self {
        let prompt = &asked.prompts[index / asked.n].prompt;
        Self {
            pages,
            endpoint,
            logprobs: asked.logprobs,
            cutter: Cutter::new(house),
            parts: Parts::new(apart(endpoint, prompt), asked.stops.clone()),
            echo: if asked.echo {
                prompt.text.clone()
            } else {
                String::new()
            },
            read: 0,
            waiting: VecDeque::new(),
            thought: 0,
            content: 0,
            tokens: 0,
        }
    }

    /// Says when there is more.
    pub(super) fn pages(&self) -> watch::Receiver<Vec<Written>> {
        self.pages.clone()
    }

    /// What became certain since the last time.
    pub(super) fn more(&mut self, house: &House) -> Delta {
        // the engine must not wait for what is done with it
        let new = self.pages.borrow_and_update().get(self.read..).map(<[_]>::to_vec);
        for token in new.unwrap_or_default() {
            self.read += 1;
            if let Some(text) = &token.text {
                self.parts.push(text);
            } else if let Some(cutter) = &mut self.cutter {
                let piece = cutter.cut(token.id, Some(token.logprob), token.likeliest);
                self.parts.push(piece.text());
                if self.logprobs.is_some() {
                    self.waiting.push_back(piece);
                }
            }
        }
        let content = [
            &self.echo[self.content.min(self.echo.len())..],
            &self.parts.said()[self.content.saturating_sub(self.echo.len())..],
        ]
        .concat();
        let delta = Delta {
            reasoning: self.parts.thought()[self.thought..].to_owned(),
            logprobs: self.logprobs_to_here(house),
            content,
        };
        self.thought += delta.reasoning.len();
        self.content += delta.content.len();
        delta
    }

    /// Log-probabilities of the tokens that the content has got to.
    fn logprobs_to_here(&mut self, house: &House) -> Option<Value> {
        let k = self.logprobs?;
        let to = self.parts.places().last()?.end;
        let reached = self.waiting.iter().take_while(|piece| piece.from < to).count();
        let mut pieces: Vec<Piece> = self.waiting.drain(..reached).collect();
        pieces.retain(|piece| piece.overlaps(self.parts.places()));
        self.tokens += pieces.len();
        (!pieces.is_empty()).then(|| logprobs::object(house, self.endpoint, &pieces, k > 0))
    }

    /// What is left of the choice that it came to.
    pub(super) fn rest(&self, choice: &Choice) -> Delta {
        let left = |all: &str, sent: usize| all.get(sent..).unwrap_or_default().to_owned();
        Delta {
            reasoning: left(choice.reasoning.as_deref().unwrap_or_default(), self.thought),
            content: left(&choice.content, self.content),
            logprobs: choice
                .logprobs
                .as_ref()
                .and_then(|all| logprobs::without(all, self.tokens)),
        }
    }
}
