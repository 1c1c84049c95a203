//! Traces without their texts and tokens: what a replay decides over, as bytes.
//!
//! A block holds one problem's traces: first the strings (answers, class keys, how answers were found), each
//! once, since few traces differ in them; then for every trace its counts and statistics. All numbers are
//! little-endian; a statistic that was not measured is NaN.

use std::collections::BTreeMap;
use std::sync::Arc;

use tts_strategies::{Finish, Fork, TraceScores, TraceStatistics, WindowStatistics};

use super::{Arrays, Phase, TraceRecord};

const FINISHES: [Finish; 6] = [
    Finish::Stop,
    Finish::Length,
    Finish::Loop,
    Finish::LowConfidence,
    Finish::Cancelled,
    Finish::Failed,
];
/// Stands for a string or a trace that is not there.
const NOTHING: u32 = u32::MAX;

/// A trace with the statistics of its arrays, for these windows, in the place of text and arrays.
pub(super) fn lean(record: TraceRecord, windows: &[usize]) -> TraceRecord {
    let (a, s) = (&record.arrays, &record.scores);
    let mut measured = match &record.measured {
        Some(known) => TraceStatistics::clone(known),
        None => TraceStatistics::new(&a.series(&a.entropies()), s.self_certainty, windows),
    };
    // a recording made elsewhere may hold scores and no arrays
    measured.mean = measured.mean.or(s.mean);
    measured.sequence_logprob = measured.sequence_logprob.or(s.sequence_logprob);
    measured.mean_logprob = measured.mean_logprob.or(s.mean_logprob);
    TraceRecord {
        text: None,
        arrays: Arrays {
            len: record.tokens,
            ..Arrays::default()
        },
        scores: TraceScores {
            self_certainty: s.self_certainty,
            ..TraceScores::default()
        },
        measured: Some(Arc::new(measured)),
        ..record
    }
}

/// The bytes of a problem's traces, each as [`lean`] leaves it.
pub(super) fn encode(records: &[TraceRecord]) -> Vec<u8> {
    let strings = |r: &TraceRecord| [r.answer.clone(), r.answer_key.clone(), r.extraction.clone()];
    let mut table: BTreeMap<String, u32> = BTreeMap::new();
    let mut texts = Vec::new();
    for text in records.iter().flat_map(strings).flatten() {
        table.entry(text).or_insert_with_key(|text| {
            texts.push(text.clone());
            texts.len() as u32 - 1
        });
    }
    let mut out = BlockWriter(Vec::new());
    out.u32(texts.len() as u32);
    for text in &texts {
        out.u32(text.len() as u32);
        out.0.extend(text.as_bytes());
    }
    out.u32(records.len() as u32);
    for r in records {
        out.u32(r.trace);
        out.u32(r.tokens as u32);
        out.u32(r.fork.map_or(NOTHING, |fork| fork.trace));
        out.u32(r.fork.map_or(0, |fork| fork.tokens as u32));
        out.u32(r.shown.len() as u32);
        r.shown.iter().for_each(|trace| out.u32(*trace));
        out.0
            .push(FINISHES.iter().position(|f| *f == r.finish).unwrap_or_default() as u8);
        out.0.push(u8::from(r.phase == Phase::Warmup));
        for text in strings(r) {
            out.u32(text.map_or(NOTHING, |text| table[&text]));
        }
        let measured = r.measured.as_deref().cloned().unwrap_or_default();
        out.number(measured.mean);
        out.number(measured.sequence_logprob);
        out.number(measured.mean_logprob);
        out.number(measured.self_certainty);
        out.number(r.self_certainty_sum);
        out.number(Some(r.seconds));
        out.u32(measured.windows.len() as u32);
        for w in &measured.windows {
            out.u32(w.window as u32);
            [w.tail, w.bottom, w.lowest_group]
                .into_iter()
                .for_each(|x| out.number(Some(x)));
            out.number(w.tail_entropy);
            out.u32(w.minima.len() as u32);
            for (tokens, group) in &w.minima {
                out.u32(*tokens);
                out.number(Some(*group));
            }
        }
    }
    out.0
}

/// The traces of a block; `None` where it is not one.
pub(super) fn decode(bytes: &[u8], problem_id: &str) -> Option<Vec<Arc<TraceRecord>>> {
    let mut from = BlockReader(bytes);
    let texts = (0..from.u32()?)
        .map(|_| {
            let len = from.u32()? as usize;
            String::from_utf8(from.take(len)?.to_vec()).ok()
        })
        .collect::<Option<Vec<String>>>()?;
    let n = from.u32()?;
    let mut records = Vec::new();
    for _ in 0..n {
        let (trace, tokens) = (from.u32()?, from.u32()? as usize);
        let (parent, taken) = (from.u32()?, from.u32()? as usize);
        let fork = (parent != NOTHING).then_some(Fork {
            trace: parent,
            tokens: taken,
        });
        let shown = (0..from.u32()?).map(|_| from.u32()).collect::<Option<_>>()?;
        let finish = *FINISHES.get(from.take(1)?[0] as usize)?;
        let phase = if from.take(1)?[0] == 1 {
            Phase::Warmup
        } else {
            Phase::Main
        };
        let mut text = || match from.u32()? {
            NOTHING => Some(None),
            i => Some(Some(texts.get(i as usize)?.clone())),
        };
        let (answer, answer_key, extraction) = (text()?, text()?, text()?);
        let mut measured = TraceStatistics {
            mean: from.number()?,
            sequence_logprob: from.number()?,
            mean_logprob: from.number()?,
            self_certainty: from.number()?,
            windows: Vec::new(),
        };
        let (self_certainty_sum, seconds) = (from.number()?, from.number()?.unwrap_or_default());
        for _ in 0..from.u32()? {
            let window = from.u32()? as usize;
            let mut value = || from.number()?;
            let (tail, bottom, lowest_group) = (value()?, value()?, value()?);
            let tail_entropy = from.number()?;
            let count = from.u32()?;
            let minima = (0..count)
                .map(|_| Some((from.u32()?, from.number()??)))
                .collect::<Option<_>>()?;
            measured.windows.push(WindowStatistics {
                window,
                tail,
                bottom,
                lowest_group,
                tail_entropy,
                minima,
            });
        }
        records.push(Arc::new(TraceRecord {
            unseen: 0,
            problem_id: problem_id.to_owned(),
            trace,
            phase,
            finish,
            tokens,
            fork,
            shown,
            answer,
            answer_key,
            extraction,
            arrays: Arrays {
                len: tokens,
                ..Arrays::default()
            },
            scores: TraceScores {
                self_certainty: measured.self_certainty,
                ..TraceScores::default()
            },
            self_certainty_sum,
            seconds,
            measured: Some(Arc::new(measured)),
            fresh: false,
            is_solution: false,
            ids: None,
            text: None,
        }));
    }
    from.0.is_empty().then_some(records)
}

struct BlockWriter(Vec<u8>);

impl BlockWriter {
    fn u32(&mut self, n: u32) {
        self.0.extend(n.to_le_bytes());
    }
    fn number(&mut self, x: Option<f64>) {
        self.0.extend(x.unwrap_or(f64::NAN).to_le_bytes());
    }
}

struct BlockReader<'a>(&'a [u8]);

impl<'a> BlockReader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }
    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }
    /// The outer nothing is an end that came too early.
    fn number(&mut self) -> Option<Option<f64>> {
        let x = f64::from_le_bytes(self.take(8)?.try_into().ok()?);
        Some((!x.is_nan()).then_some(x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_gives_back_what_was_put_into_it() {
        let record = |trace: u32, n: usize, answer: Option<&str>| TraceRecord {
            problem_id: "p".into(),
            trace,
            tokens: n,
            finish: FINISHES[trace as usize % 6],
            answer: answer.map(Into::into),
            answer_key: answer.map(|a| format!("key of {a}")),
            arrays: Arrays {
                len: n,
                confidence: (0..n)
                    .map(|i| 5.0 + ((i * 7 + trace as usize) % 11) as f32)
                    .collect(),
                logprobs: vec![-0.25; n],
                ..Arrays::default()
            },
            seconds: 0.5,
            fresh: false,
            ..TraceRecord::default()
        };
        let whole = [
            record(0, 90, Some("42")),
            record(1, 3, None),
            record(7, 40, Some("42")),
            TraceRecord {
                arrays: Arrays {
                    len: 9,
                    ..Arrays::default()
                },
                ..record(9, 9, Some("x"))
            },
        ];
        let kept: Vec<_> = whole.iter().cloned().map(|r| lean(r, &[16, 32])).collect();
        assert_eq!(kept[0].measured.as_ref().map(|m| m.windows.len()), Some(2));
        assert_eq!(kept[3].measured.as_deref(), Some(&TraceStatistics::default()));
        let bytes = encode(&kept);
        let back: Vec<_> = decode(&bytes, "p")
            .expect("a block")
            .iter()
            .map(|r| TraceRecord::clone(r))
            .collect();
        assert_eq!(back, kept);
        assert!(bytes.len() < 1200, "{}", bytes.len());
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut], "p").is_none(), "cut at {cut}");
        }
    }
}
