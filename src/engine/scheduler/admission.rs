//! Lets problems begin: which of those that wait fit, and how their prompts are read.

use std::time::Instant;

use tts_model::executor::{BrokenLogits, SeqId};

use super::{EngineRequest, Scheduler, WaitingProblem};
use crate::engine::running::RunningProblem;
use crate::run::RunError;

/// Tokens of prompts that are read between two steps, or twice as many as there are rows: a long prompt holds
/// nobody up, and many short ones come in as fast as short traces end.
const PREFILL_TOKENS: usize = 256;

impl Scheduler {
    /// Reads the prompts of those that fit, a part at a time, and lets them begin. Short ones go between the
    /// parts of a long one, which has half of each part.
    pub(super) fn admit(&mut self) {
        let fitting = self.fitting();
        if fitting.is_empty() {
            return;
        }
        let alone = !self.running.iter().any(RunningProblem::is_active);
        let tokens = PREFILL_TOKENS.max(2 * self.rows());
        let longest = self.pace.part(tokens, alone);
        let mut parts = self.parts(fitting.len(), tokens, longest);
        if self.pace.rests() {
            // what is short holds nobody up
            parts.retain(|(at, part)| *part >= self.unread(*at));
        }
        if parts.is_empty() {
            return;
        }
        let began = Instant::now();
        let mut ended = Vec::new();
        for (at, part) in parts {
            let WaitingProblem { request, prompt } = &mut self.waiting[at];
            let (ids, executor) = (&request.run.prompt.ids, self.executor.as_mut());
            let prompt = prompt.get_or_insert_with(|| self.prefixes.begin(ids, executor));
            match self.prefixes.read(prompt, ids, part, executor) {
                Ok(read) if read < ids.len() => {}
                Ok(_) => ended.push((at, true)),
                // says nothing about the prompt; everything ends then
                Err(BrokenLogits) if executor.failure().is_some() => return,
                Err(BrokenLogits) => ended.push((at, false)),
            }
        }
        if !alone {
            self.pace.read(longest, began.elapsed());
        }
        // the places of those behind change with each that leaves
        ended.sort_unstable_by_key(|(at, _)| *at);
        for (gone, (at, is_sound)) in ended.into_iter().enumerate() {
            let WaitingProblem { request, prompt } = self.waiting.remove(at - gone).expect("it waits");
            let (prompt, executor) = (prompt.expect("it was read"), self.executor.as_mut());
            if is_sound {
                let (prompt, cached) = self.prefixes.keep(prompt, &request.run.prompt.ids, executor);
                self.start(request, prompt, cached, fitting[at]);
            } else {
                prompt.free(executor);
                let EngineRequest { run, reply, .. } = request;
                reply(Err(RunError::BrokenPrompt(run.setup.id)));
            }
        }
    }

    /// Tokens of a prompt that waits which are still to be read.
    fn unread(&self, at: usize) -> usize {
        let WaitingProblem { request, prompt } = &self.waiting[at];
        let read = prompt
            .as_ref()
            .map_or(0, |prompt| self.executor.length(prompt.seq));
        request.run.prompt.ids.len() - read
    }

    /// Whether one that waits before it reads the same prompt, which is kept: then there is no need to read it
    /// twice.
    fn is_read_for_another(&self, at: usize) -> bool {
        let own = &self.waiting[at];
        let same = |before: &WaitingProblem| before.request.run.prompt.ids == own.request.run.prompt.ids;
        self.prefixes.is_on() && own.prompt.is_none() && self.waiting.range(..at).any(same)
    }

    /// How `tokens` are shared among the first `n` that wait: the first has at least half of them, and the
    /// others what is left, the shortest first. A part that does not end its prompt has at most `longest`.
    fn parts(&self, n: usize, tokens: usize, longest: usize) -> Vec<(usize, usize)> {
        let unread = self.unread(0);
        let first = unread.min(tokens.div_ceil(2));
        let part_of = |part: usize, unread: usize| if part < unread { part.min(longest) } else { part };
        let mut left = tokens - first;
        let others = (1..n).filter(|at| !self.is_read_for_another(*at));
        let mut others: Vec<(usize, usize)> = others.map(|at| (self.unread(at), at)).collect();
        others.sort_unstable();
        let mut parts = Vec::new();
        for (unread, at) in others {
            let part = unread.min(left);
            if part == 0 && unread > 0 {
                break;
            }
            left -= part;
            parts.push((at, part_of(part, unread)));
        }
        parts.push((0, part_of(first + left, unread)));
        parts
    }

    /// The slots that those would have which begin together now: the ones that wait longest, up to the first
    /// that has to wait on.
    fn fitting(&self) -> Vec<usize> {
        let mut all = Vec::new();
        // what was preempted goes on first, or it might wait for ever
        if self.waiting.is_empty() || self.running.iter().any(|r| r.preempted) {
            return all;
        }
        let mut reserved: usize = self.running.iter().map(|r| r.problem.open_slots()).sum();
        let (mut rows, mut bytes) = (self.rows(), self.reserved_bytes());
        for next in self.waiting.iter().map(|w| &w.request.run) {
            let bounds = &next.setup.bounds;
            let most = bounds.slots.max(1).min(self.plan.max_batch);
            let slots = bounds.growth.map_or(most, |slots| slots.first().clamp(1, most));
            let (prompt, each) = self.expected_bytes(next.prompt.ids.len(), next.setup.rules.max_tokens);
            let free = self.plan.budget.saturating_sub(bytes).saturating_sub(prompt);
            let fits = (free / each.max(1)).min(slots as u64) as usize;
            let busy = rows > self.plan.most_before(slots);
            let waits = busy || reserved + slots > self.plan.max_batch || fits < slots;
            // alone it runs with what there is
            let alone = self.running.is_empty() && all.is_empty();
            if waits && !alone {
                break;
            }
            let granted = if fits < slots { fits.max(1) } else { most };
            let slots = slots.min(granted);
            all.push(granted);
            (reserved, rows) = (reserved + slots, rows + slots);
            bytes = bytes.saturating_add(prompt + slots as u64 * each);
        }
        all
    }

    fn start(&mut self, request: EngineRequest, prompt: SeqId, cached: usize, slots: usize) {
        let mut running = RunningProblem::new(request, prompt, cached, slots);
        let each = self
            .limits
            .sequence_bytes(self.plan.expected_tokens, running.prompt_tokens);
        running.notice_slots(self.plan.max_batch, each);
        self.running.push(running);
    }
}
