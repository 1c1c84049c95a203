//! An executor without a model, for tests of what stands above the seam. What it draws is a function of the
//! ids before it and of the row's uniform number, so a mistake in the bookkeeping of sequences changes
//! tokens; and it holds its caller to the seam's rules.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use tts_model::executor::{BrokenLogits, Drawn, Executor, Limits, ScoreRequest, Scored, SeqId, StepRow};

use crate::rig::VOCAB;

/// The logits after this id are not numbers.
pub(crate) const BREAKS: u32 = 335;

/// Tokens of a chunk of a text.
const CHUNK: usize = 16;

/// What was asked of a [`MockExecutor`].
#[derive(Default)]
pub(crate) struct Log {
    /// sequences that are held
    pub(crate) held: usize,
    /// bytes that they take
    pub(crate) bytes: u64,
    /// rows of every step that had any
    pub(crate) steps: Vec<usize>,
    /// tokens of every reading of a text
    pub(crate) reads: Vec<usize>,
    /// tokens that were read again to take traces up
    pub(crate) resumed: usize,
    /// why the device can do no more, once a test says so
    pub(crate) failure: Option<String>,
}

/// The log of an executor that somebody else holds.
#[derive(Clone, Default)]
pub(crate) struct SharedLog(Arc<Mutex<Log>>);

impl SharedLog {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap()
    }
}

/// A sequence: what it read and drew.
#[derive(Clone)]
struct Held {
    ids: Vec<u32>,
    /// tokens of its text; those after it were drawn, and the last of them is not read
    text: usize,
    /// whether the text is read to its end
    whole: bool,
    /// tokens that it shares with the sequence it was forked from
    shared: usize,
    /// index up to which it was said that nothing would be forced
    free_until: Option<usize>,
    top: Vec<(u32, f32)>,
}

pub(crate) struct MockExecutor {
    limits: Limits,
    sequences: BTreeMap<SeqId, Held>,
    next: u32,
    positions: u64,
    log: SharedLog,
}

impl MockExecutor {
    pub(crate) const LIMITS: Limits = Limits {
        vocab: VOCAB as usize,
        context: 100_000,
        state_bytes: 1000,
        recurrent: true,
        block_tokens: 16,
        block_bytes: 160,
        row_bytes: 0,
        read_bytes: 0,
        weight_bytes: 0,
        free_bytes: 1 << 50,
    };

    pub(crate) fn with_log() -> (Box<Self>, SharedLog) {
        let log = SharedLog::default();
        let executor = Self {
            limits: Self::LIMITS,
            sequences: BTreeMap::new(),
            next: 7,
            positions: 0,
            log: log.clone(),
        };
        (Box::new(executor), log)
    }

    fn put(&mut self, held: Held) -> SeqId {
        let seq = SeqId(self.next);
        self.next += 1;
        self.sequences.insert(seq, held);
        self.count();
        seq
    }
    fn get(&self, seq: SeqId) -> &Held {
        self.sequences.get(&seq).expect("a sequence that is held")
    }
    fn get_mut(&mut self, seq: SeqId) -> &mut Held {
        self.sequences.get_mut(&seq).expect("a sequence that is held")
    }
    fn count(&self) {
        let bytes = |held: &Held| self.limits.sequence_bytes(held.length(), held.shared);
        let mut log = self.log.lock();
        log.held = self.sequences.len();
        log.bytes = self.sequences.values().map(bytes).sum();
    }
}

impl Held {
    /// Tokens that its state has read.
    fn length(&self) -> usize {
        self.ids.len() - usize::from(self.ids.len() > self.text)
    }

    fn draw(&mut self, row: &StepRow<'_>) -> Result<Drawn, BrokenLogits> {
        assert!(self.whole, "a text is read to its end before tokens are drawn");
        assert_eq!(
            row.index,
            self.ids.len() - self.text,
            "tokens are numbered from 0"
        );
        if self.free_until.is_some_and(|free| row.index <= free) {
            assert!(row.forced.is_none(), "it was said that nothing would be forced");
        }
        self.free_until = Some(row.index + row.lookahead);
        let last = *self.ids.last().expect("no empty text");
        if last == BREAKS {
            return Err(BrokenLogits);
        }
        assert!(
            row.index == 0 || !row.stop_ids.contains(&last),
            "a trace that ended draws nothing"
        );
        let hash = hash(&self.ids);
        let allowed: Vec<u32> = (0..VOCAB).filter(|id| !row.banned_ids.contains(id)).collect();
        let place = (row.stream.uniform(row.index) * allowed.len() as f64) as usize;
        let id = match row.forced {
            Some(id) => id,
            None => allowed[(place + hash as usize) % allowed.len()],
        };
        self.ids.push(id);
        self.top = (0..row.top_logprobs as u32).map(|i| (i, -(i as f32))).collect();
        Ok(Drawn {
            id,
            logprob: -(VOCAB as f32).ln(),
            confidence: (hash % 977) as f32 / 50.0,
            entropy: (VOCAB as f32).ln(),
            self_certainty: 0.0,
            top: [-(VOCAB as f32).ln(); 20],
        })
    }
}

fn hash(ids: &[u32]) -> u32 {
    ids.iter()
        .fold(17, |h: u32, id| (h ^ id).wrapping_mul(0x0100_0193).rotate_left(7))
        >> 4
}

impl Executor for MockExecutor {
    fn id(&self) -> &str {
        "mock"
    }
    fn limits(&self) -> Limits {
        self.limits
    }
    fn scratch_bytes(&self, _prompt: usize, _rows: usize) -> u64 {
        0
    }
    fn begin(&mut self) -> SeqId {
        self.put(Held {
            ids: Vec::new(),
            text: 0,
            whole: false,
            shared: 0,
            free_until: None,
            top: Vec::new(),
        })
    }

    fn read(&mut self, seq: SeqId, ids: &[u32], most: usize) -> Result<usize, BrokenLogits> {
        if self.failure().is_some() {
            return Err(BrokenLogits);
        }
        let held = self.get_mut(seq);
        let at = held.length();
        assert_eq!(held.ids[..at], ids[..at], "the text goes on as it began");
        let end = ids.len().min(at + most.div_ceil(CHUNK).max(1) * CHUNK);
        held.ids = ids[..end].to_vec();
        (held.text, held.whole) = (end, end == ids.len());
        let broken = held.whole && ids.last() == Some(&BREAKS);
        self.positions += (end - at) as u64;
        self.log.lock().reads.push(end - at);
        self.count();
        if broken { Err(BrokenLogits) } else { Ok(end) }
    }

    fn fork(&mut self, from: SeqId, n: usize) -> Vec<SeqId> {
        let parent = self.get(from).clone();
        assert!(parent.whole);
        // blocks that a trace's forks share with it outlive it, and are then theirs
        let shared = if parent.ids.len() > parent.text {
            parent.text
        } else {
            parent.length()
        };
        let child = Held {
            shared,
            free_until: None,
            ..parent
        };
        (0..n).map(|_| self.put(child.clone())).collect()
    }

    fn prefix(&mut self, from: SeqId, tokens: usize) -> Option<SeqId> {
        let read = self.get(from).clone();
        if tokens != read.text || read.ids.len() > read.text {
            return None;
        }
        let copy = Held {
            whole: false,
            shared: tokens,
            ..read
        };
        Some(self.put(copy))
    }

    fn resume(&mut self, traces: &[(SeqId, &[u32])]) {
        for (seq, ids) in traces {
            let held = self.get_mut(*seq);
            assert!(held.whole && held.ids.len() <= held.text + ids.len());
            let before = held.length();
            held.ids.truncate(held.text);
            held.ids.extend_from_slice(ids);
            let read = held.length() - before;
            self.positions += read as u64;
            self.log.lock().resumed += read;
        }
        self.count();
    }

    fn free(&mut self, seq: SeqId) {
        assert!(self.sequences.remove(&seq).is_some(), "freed once");
        self.count();
    }

    fn length(&self, seq: SeqId) -> usize {
        self.get(seq).length()
    }

    fn step(&mut self, rows: &[StepRow<'_>], out: &mut Vec<Result<Drawn, BrokenLogits>>) {
        let seqs: BTreeSet<SeqId> = rows.iter().map(|row| row.seq).collect();
        assert_eq!(seqs.len(), rows.len(), "a sequence stands in one row");
        out.clear();
        for row in rows {
            if self.failure().is_some() {
                out.push(Err(BrokenLogits));
                continue;
            }
            let drawn = self.get_mut(row.seq).draw(row);
            self.positions += u64::from(row.index > 0);
            out.push(drawn);
        }
        if !rows.is_empty() {
            self.log.lock().steps.push(rows.len());
        }
        self.count();
    }

    fn top_logprobs(&self, seq: SeqId) -> &[(u32, f32)] {
        &self.get(seq).top
    }

    fn score(
        &mut self,
        seq: SeqId,
        request: &ScoreRequest<'_>,
        most: usize,
        each: &mut dyn FnMut(Scored<'_>),
    ) -> Result<usize, BrokenLogits> {
        let held = self.get_mut(seq);
        let at = held.ids.len();
        let end = (at + most.div_ceil(CHUNK).max(1) * CHUNK).min(request.positions.end);
        held.ids = request.ids[..end].to_vec();
        held.text = end;
        self.count();
        for i in (at..end).filter(|i| request.positions.contains(i)) {
            if request.ids[i] == BREAKS {
                return Err(BrokenLogits);
            }
            let top: Vec<_> = (0..request.top_logprobs as u32)
                .map(|k| (hash(&request.ids[..=i]) + k, -(k as f32)))
                .collect();
            each(Scored {
                logprob: None,
                confidence: 1.0,
                top: &top,
            });
        }
        Ok(end)
    }

    fn save(&mut self, seq: SeqId, out: &mut dyn io::Write) -> io::Result<()> {
        let held = self.get(seq);
        let read = &held.ids[held.text..held.length()];
        read.iter().try_for_each(|id| out.write_all(&id.to_le_bytes()))
    }

    fn load(&mut self, seq: SeqId, ids: &[u32], from: &mut dyn io::Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes)?;
        let read: Vec<u32> = bytes
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        if bytes.len() % 4 != 0 || read.len() >= ids.len() || !ids.starts_with(&read) {
            return Err(io::Error::other("not the state of these tokens"));
        }
        let held = self.get_mut(seq);
        held.ids.extend_from_slice(&ids[..=read.len()]);
        Ok(())
    }

    fn trim(&mut self, _bytes: u64) {}
    fn stretch(&mut self, _seq: SeqId, _tokens: usize) {}
    fn positions(&self) -> u64 {
        self.positions
    }
    fn failure(&self) -> Option<String> {
        self.log.lock().failure.clone()
    }
}
