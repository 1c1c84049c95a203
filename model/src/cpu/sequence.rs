//! What the CPU holds of a sequence: a state that reads a text, or a trace that goes on from one.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use super::draw::{self, Draw, Seen};
use super::state_pool::StatePool;
use super::top::{log_sum_exp, top_logprobs};
use crate::cpu::kernels::Tier;
use crate::executor::StepRow;
use crate::sampling::{BrokenLogits, Drawn};
use crate::saved;
use crate::{BLOCK, Feed, Sequence, StateLayout, Want};

/// First bytes of a saved state, with the number of its layout: the state lies there as in memory.
const MAGIC: &[u8; 8] = b"ttstate1";

/// What stands behind a handle.
pub(super) enum Entry {
    /// A text that is not read to its end.
    Reading(Sequence),
    /// A text that was read, with or without tokens after it.
    Trace(Box<Trace>),
}

/// A text that was read to its end, shared by all that goes on from it.
pub(super) struct Prompt {
    pub(super) ids: Vec<u32>,
    pub(super) state: Sequence,
    /// raw logits `[vocab]` after the text
    pub(super) logits: Vec<f32>,
}

/// A sequence that draws tokens after a prompt.
pub(super) struct Trace {
    prompt: Arc<Prompt>,
    /// its own state, once it has read a token of its own: the first token is drawn from the prompt's logits,
    /// and waits for no copy
    state: Option<Sequence>,
    /// ids after the prompt; the last one is not read yet
    drawn: Vec<u32>,
    /// drawn and not yet handed out, oldest first
    pub(super) ahead: VecDeque<Result<Drawn, BrokenLogits>>,
    /// how often each id came before, from the first draw on that asks
    seen: Option<BTreeMap<u32, Seen>>,
    /// the likeliest ids where the newest token was drawn
    top: Vec<(u32, f32)>,
}

impl Trace {
    pub(super) fn new(prompt: Arc<Prompt>) -> Self {
        Self {
            prompt,
            state: None,
            drawn: Vec::new(),
            ahead: VecDeque::new(),
            seen: None,
            top: Vec::new(),
        }
    }

    pub(super) fn prompt(&self) -> &Arc<Prompt> {
        &self.prompt
    }
    /// Its state; the prompt's before its first token was read.
    pub(super) fn state(&self) -> &Sequence {
        self.state.as_ref().unwrap_or(&self.prompt.state)
    }
    /// Its own state, copied from the prompt's if it has none.
    pub(super) fn own(&mut self, pool: &StatePool) -> &mut Sequence {
        self.state.get_or_insert_with(|| pool.fork(&self.prompt.state))
    }
    pub(super) fn into_own(self) -> Option<Sequence> {
        self.state
    }
    pub(super) fn take_own(&mut self) -> Option<Sequence> {
        self.state.take()
    }
    pub(super) fn set_own(&mut self, state: Sequence) {
        self.state = Some(state);
    }
    /// A trace that goes on from what this one handed out. Where this one is ahead of that, the fork's state
    /// is the prompt's, and has yet to read.
    pub(super) fn fork(&self, pool: &StatePool) -> Self {
        let state = self.state.as_ref().filter(|_| self.ahead.is_empty());
        Self {
            state: state.map(|own| pool.fork(own)),
            drawn: self.handed_out().to_vec(),
            top: self.top.clone(),
            ..Self::new(self.prompt.clone())
        }
    }
    pub(super) fn top(&self) -> &[(u32, f32)] {
        &self.top
    }
    /// The ids that were handed out.
    pub(super) fn handed_out(&self) -> &[u32] {
        let ahead = self.ahead.iter().filter(|drawn| drawn.is_ok()).count();
        &self.drawn[..self.drawn.len() - ahead]
    }
    /// Says that it drew `ids`, of which its state has read all but the last.
    pub(super) fn set_drawn(&mut self, ids: &[u32]) {
        self.drawn = ids.to_vec();
        self.seen = None;
    }

    /// Whether its next token depends on what its state reads first; before it has drawn anything it depends
    /// on the prompt's logits.
    pub(super) fn has_drawn(&self) -> bool {
        !self.drawn.is_empty()
    }
    /// Whether it reads its first token now, into a state that it has yet to copy.
    pub(super) fn begins(&self) -> bool {
        self.has_drawn() && self.state.is_none()
    }
    /// Whether its state reads on without more memory, which is asked for by the step.
    pub(super) fn has_room(&self) -> bool {
        self.state
            .as_ref()
            .is_some_and(|own| !own.len().is_multiple_of(BLOCK))
    }

    /// What its state reads next.
    pub(super) fn feed(&mut self, pool: &StatePool) -> Option<Feed<'_>> {
        let pending = self.drawn.last()?;
        let state = self.state.get_or_insert_with(|| pool.fork(&self.prompt.state));
        Some(Feed::new(state, std::slice::from_ref(pending), Want::Last))
    }

    /// Takes a token from the logits after what was read, or from the prompt's. Where tokens were drawn that
    /// are not handed out it is the one after those.
    pub(super) fn draw(
        &mut self,
        tier: Tier,
        logits: Option<&[f32]>,
        row: &StepRow<'_>,
        scratch: &mut draw::Scratch,
    ) -> Result<Drawn, BrokenLogits> {
        static NOTHING: BTreeMap<u32, Seen> = BTreeMap::new();
        if row.sampling.has_penalties() && self.seen.is_none() {
            self.seen = Some(count(&self.prompt.ids, &self.drawn));
        }
        let ahead = self.ahead.len();
        let logits = logits.unwrap_or(&self.prompt.logits);
        let how = Draw {
            sampling: row.sampling,
            uniform: row.stream.uniform(row.index + ahead),
            // what is forced is the token that is handed out now
            forced: row.forced.filter(|_| ahead == 0),
            banned_ids: row.banned_ids,
            seen: self.seen.as_ref().unwrap_or(&NOTHING),
        };
        let drawn = draw::draw(tier, logits, &how, scratch);
        self.top.clear();
        if row.top_logprobs > 0
            && let Some(sum) = log_sum_exp(logits)
        {
            top_logprobs(logits, sum, row.top_logprobs, &mut self.top);
        }
        if let Ok(Drawn { id, .. }) = drawn {
            self.drawn.push(id);
            if let Some(seen) = &mut self.seen {
                seen.entry(id).or_default().generated += 1;
            }
        }
        drawn
    }

    /// Writes the state beside the prompt's, for [`Self::load`].
    pub(super) fn save(&self, out: &mut dyn io::Write) -> io::Result<()> {
        if !self.ahead.is_empty() {
            return Err(io::Error::other("the state is ahead of its tokens"));
        }
        let read = &self.drawn[..self.state().len() - self.prompt.ids.len()];
        saved::write_head(out, MAGIC, &self.prompt.ids, read)?;
        let mut hasher = blake3::Hasher::new();
        for part in self.state().own(&self.prompt.state) {
            hasher.update(part);
            out.write_all(part)?;
        }
        out.write_all(hasher.finalize().as_bytes())
    }

    /// Takes up a state that has read the prompt and some of `ids`.
    pub(super) fn load(
        &mut self,
        layout: &StateLayout,
        ids: &[u32],
        from: &mut dyn io::Read,
    ) -> io::Result<()> {
        let read = saved::read_head(from, MAGIC, &self.prompt.ids, ids)?;
        let mut hasher = blake3::Hasher::new();
        let mut fill = |part: &mut [u8]| {
            from.read_exact(part)?;
            hasher.update(part);
            io::Result::Ok(())
        };
        let state = self.prompt.state.resumed(layout, read, &mut fill)?;
        saved::read_end(from, &hasher)?;
        self.state = Some(state);
        Ok(())
    }
}

pub(crate) fn count(prompt: &[u32], drawn: &[u32]) -> BTreeMap<u32, Seen> {
    let mut seen: BTreeMap<u32, Seen> = BTreeMap::new();
    for id in prompt {
        seen.entry(*id).or_default().prompt = true;
    }
    for id in drawn {
        seen.entry(*id).or_default().generated += 1;
    }
    seen
}
