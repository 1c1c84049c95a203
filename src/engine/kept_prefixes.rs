//! Prompts that were read, kept for later ones that begin with the same tokens, as the turns of a conversation
//! do.
//!
//! They are a cache: what comes of a prompt does not depend on where the reading of it began, so any may go at any
//! time. Prompts are compared by their token ids alone.

use std::collections::BTreeMap;

use tts_model::executor::{BrokenLogits, Executor, Limits, SeqId};

/// Tokens between the places of a prompt at which a recurrent state is kept while it is read. Keys and values can
/// be cut anywhere, a recurrent state can only be taken up where it was kept.
const SPACING: usize = 128;
/// The last such place lies at least this many tokens before the end, and less than twice as many: the next turn
/// of a conversation often leaves out how the last one ended, as the opening of the answer.
const TAIL: usize = 32;

/// A prompt that is being read.
pub(super) struct PromptReading {
    pub(super) seq: SeqId,
    /// tokens at its beginning that were kept, and need not be read
    pub(super) cached: usize,
    /// the kept prompt that it goes on from
    from: Option<u64>,
    /// states on the way, by tokens
    points: BTreeMap<usize, SeqId>,
}

impl PromptReading {
    /// Bytes that it holds.
    pub(super) fn bytes(&self, limits: &Limits, executor: &dyn Executor) -> u64 {
        let points = self.points.keys().map(|at| limits.sequence_bytes(*at, *at));
        limits.sequence_bytes(executor.length(self.seq), 0) + points.sum::<u64>()
    }

    /// Gives it up.
    pub(super) fn free(self, executor: &mut dyn Executor) {
        executor.free(self.seq);
        for point in self.points.into_values() {
            executor.free(point);
        }
    }
}

/// A prompt that was read, and its states.
struct KeptPrompt {
    ids: Vec<u32>,
    /// its states by tokens; the last may be that of the whole prompt
    points: BTreeMap<usize, SeqId>,
    /// when it was last of use
    used: u64,
}

impl KeptPrompt {
    /// Bytes that it takes, as if it shared nothing with others.
    fn bytes(&self, limits: &Limits) -> u64 {
        let mut points = self.points.keys().rev();
        let longest = points.next().map_or(0, |at| limits.sequence_bytes(*at, 0));
        let others: u64 = points.map(|at| limits.sequence_bytes(*at, *at)).sum();
        longest + others + size_of_val(&self.ids[..]) as u64
    }
}

/// The kept prompts.
pub(super) struct KeptPrefixes {
    /// most bytes of all
    most: u64,
    limits: Limits,
    held: BTreeMap<u64, KeptPrompt>,
    /// what they take; asked for at every step
    bytes: u64,
    /// number of the next, and the time by which they are compared
    clock: u64,
}

/// The best that is kept for a prompt.
struct Found {
    prompt: u64,
    /// tokens that the two have in common and a state exists of
    tokens: usize,
    point: usize,
}

impl KeptPrefixes {
    /// Keeps up to `most` bytes of prompts; none where that is 0.
    pub(super) fn new(most: u64, limits: Limits) -> Self {
        Self {
            most,
            limits,
            held: BTreeMap::new(),
            bytes: 0,
            clock: 0,
        }
    }

    /// Whether it keeps anything at all.
    pub(super) fn is_on(&self) -> bool {
        self.most > 0
    }

    /// Bytes that they take, at most.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn count(&mut self) {
        self.bytes = self.held.values().map(|kept| kept.bytes(&self.limits)).sum();
    }

    /// Begins to read a prompt where the longest beginning of it that is kept ends.
    pub(super) fn begin(&mut self, ids: &[u32], executor: &mut dyn Executor) -> PromptReading {
        let found = self.find(ids).and_then(|found| {
            let point = self.held[&found.prompt].points[&found.point];
            let seq = if found.tokens == ids.len() {
                Some(executor.fork(point, 1)[0])
            } else {
                executor.prefix(point, found.tokens)
            };
            Some((seq?, found))
        });
        let (seq, from, cached) = match found {
            Some((seq, found)) => (seq, Some(found.prompt), found.tokens),
            None => (executor.begin(), None, 0),
        };
        self.clock += 1;
        if let Some(kept) = from.and_then(|from| self.held.get_mut(&from)) {
            kept.used = self.clock;
        }
        PromptReading {
            seq,
            cached,
            from,
            points: BTreeMap::new(),
        }
    }

    fn find(&self, ids: &[u32]) -> Option<Found> {
        let of = |(prompt, kept): (&u64, &KeptPrompt)| {
            let common = kept.ids.iter().zip(ids).take_while(|(a, b)| a == b).count();
            // the whole of it has its logits too
            let is_whole =
                common == ids.len() && common == kept.ids.len() && kept.points.contains_key(&common);
            let most = if is_whole {
                common
            } else {
                common.min(ids.len() - 1)
            };
            let (point, tokens) = if self.limits.recurrent {
                let at = *kept.points.range(..=most).next_back()?.0;
                (at, at)
            } else {
                let end = *kept.points.last_key_value()?.0;
                (end, most.min(end))
            };
            let prompt = *prompt;
            (tokens > 0).then_some(Found {
                prompt,
                tokens,
                point,
            })
        };
        if ids.is_empty() {
            return None;
        }
        self.held
            .iter()
            .filter_map(of)
            .max_by_key(|found| (found.tokens, found.prompt))
    }

    /// Reads about `most` tokens on in a prompt, and returns how many of it have been read.
    pub(super) fn read(
        &self,
        reading: &mut PromptReading,
        ids: &[u32],
        most: usize,
        executor: &mut dyn Executor,
    ) -> Result<usize, BrokenLogits> {
        let seq = reading.seq;
        let from = executor.length(seq);
        if from == ids.len() && reading.cached == from {
            return Ok(from);
        }
        if !self.is_on() || !self.limits.recurrent {
            return executor.read(seq, ids, most);
        }
        let end = from.saturating_add(most.max(1));
        let mut at = from;
        while at < end.min(ids.len()) {
            let tail = self.tail(reading, ids, at).filter(|tail| *tail < at + SPACING);
            let Some(tail) = tail else {
                at = executor.read(seq, ids, SPACING)?;
                if at < ids.len() {
                    self.keep_point(reading, at, executor);
                }
                continue;
            };
            // as if the text ended there; what its logits would be is of no matter
            let read = executor.read(seq, &ids[..tail], SPACING);
            at = executor.length(seq);
            if read.is_ok() && at == tail {
                reading.points.insert(at, executor.fork(seq, 1)[0]);
            } else if read.is_err() {
                return executor.read(seq, ids, most);
            }
        }
        Ok(at)
    }

    /// The last place of a prompt at which its state is kept, where that is still to come and the prompt is long
    /// enough for it.
    fn tail(&self, reading: &PromptReading, ids: &[u32], at: usize) -> Option<usize> {
        let tail = ids.len().checked_sub(TAIL)? / TAIL * TAIL;
        (tail > at && ids.len() - reading.cached > 2 * SPACING).then_some(tail)
    }

    fn keep_point(&self, reading: &mut PromptReading, at: usize, executor: &mut dyn Executor) {
        let bytes = self.limits.sequence_bytes(at, at);
        if bytes * (reading.points.len() as u64 + 1) <= self.most
            && let Some(point) = executor.prefix(reading.seq, at)
        {
            reading.points.insert(at, point);
        }
    }

    /// Keeps a prompt that was read to its end, and hands its sequence out.
    pub(super) fn keep(
        &mut self,
        reading: PromptReading,
        ids: &[u32],
        executor: &mut dyn Executor,
    ) -> (SeqId, usize) {
        let PromptReading {
            seq,
            cached,
            from,
            mut points,
        } = reading;
        let fits = self.limits.sequence_bytes(ids.len(), 0) <= self.most;
        if !fits || cached == ids.len() {
            for point in points.into_values() {
                executor.free(point);
            }
            return (seq, cached);
        }
        if let Some(from) = from
            && let Some(mut old) = self.held.remove(&from)
        {
            // those that the two have in common are the new one's: a conversation goes on
            let rest = old.points.split_off(&(cached + 1));
            points.extend(std::mem::replace(&mut old.points, rest));
            if !old.points.is_empty() {
                self.held.insert(from, old);
            }
        }
        if !self.limits.recurrent {
            // the longest serves for all
            for point in std::mem::take(&mut points).into_values() {
                executor.free(point);
            }
        }
        points.insert(ids.len(), executor.fork(seq, 1)[0]);
        self.clock += 1;
        let kept = KeptPrompt {
            ids: ids.to_vec(),
            points,
            used: self.clock,
        };
        self.held.insert(self.clock, kept);
        self.count();
        while self.bytes() > self.most && self.drop_oldest(executor) {}
        (seq, cached)
    }

    /// Gives up the state that has been of no use for the longest time; whether there was one. Of a prompt those
    /// at its beginning go first.
    pub(super) fn drop_oldest(&mut self, executor: &mut dyn Executor) -> bool {
        let oldest = self.held.iter().min_by_key(|(_, kept)| kept.used);
        let Some(oldest) = oldest.map(|(number, _)| *number) else {
            return false;
        };
        let kept = self.held.get_mut(&oldest).expect("it was found");
        if let Some((_, point)) = kept.points.pop_first() {
            executor.free(point);
        }
        if kept.points.is_empty() {
            self.held.remove(&oldest);
        }
        self.count();
        true
    }
}
