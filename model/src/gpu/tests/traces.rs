//! Traces through the executor: alone and in a batch, ahead and not, forked, saved and taken up.

use super::{F32, GpuExecutor, Order, checkpoint, open};
use crate::executor::{Executor, SeqId, StepRow};
use crate::sampling::{Drawn, Sampling, Stream};
use crate::{Formats, KvFormat, StateFormat, WeightFormat};

const PROMPT: [u32; 9] = [3, 9, 30, 41, 2, 17, 5, 8, 13];

fn row(seq: SeqId, sampling: &Sampling, trace: u32, index: usize, lookahead: usize) -> StepRow<'_> {
    StepRow {
        seq,
        sampling,
        stream: Stream::new(5, "gpu", trace),
        index,
        forced: None,
        banned_ids: &[],
        top_logprobs: 0,
        lookahead,
        stop_ids: &[],
    }
}

fn begin(gpu: &mut GpuExecutor) -> SeqId {
    let prompt = gpu.begin();
    assert_eq!(gpu.read(prompt, &PROMPT, usize::MAX), Ok(PROMPT.len()));
    prompt
}

/// What `count` traces draw in `steps` steps together.
fn together(gpu: &mut GpuExecutor, traces: &[u32], steps: usize, lookahead: bool) -> Vec<Vec<Drawn>> {
    let sampling = Sampling::default();
    let prompt = begin(gpu);
    let seqs = gpu.fork(prompt, traces.len());
    let (mut all, mut out) = (vec![Vec::new(); traces.len()], Vec::new());
    for step in 0..steps {
        let more = if lookahead { steps - 1 - step } else { 0 };
        let rows: Vec<_> = seqs
            .iter()
            .zip(traces)
            .map(|(seq, t)| row(*seq, &sampling, *t, step, more))
            .collect();
        gpu.step(&rows, &mut out);
        assert_eq!(gpu.failure(), None);
        for (drawn, out) in all.iter_mut().zip(&out) {
            drawn.push(out.unwrap());
        }
    }
    for seq in seqs.into_iter().chain([prompt]) {
        gpu.free(seq);
    }
    all
}

#[test]
fn a_trace_does_not_see_its_batch_nor_the_order_of_threads() {
    let as_held = Formats {
        weights: WeightFormat::Auto,
        kv: Some(KvFormat::Bf16),
        state: StateFormat::Bf16,
    };
    for (name, formats) in [
        ("golden/gguf-h1r-like-q4k/h1r-like-Q4_K_M.gguf", as_held),
        ("golden/family-qwen3_moe.gguf", as_held),
        ("golden/case-gqa", F32),
    ] {
        rows_are_alone(name, formats, &[2, 7, 33, 64]);
    }
    // as many as are forked of one prompt
    rows_are_alone("golden/case-gqa", F32, &[256]);
}

pub(super) fn rows_are_alone(name: &str, formats: Formats, counts: &[u32]) {
    let weights = checkpoint(name);
    let mut gpu = open(&weights, formats, Order::Ascending);
    let alone: Vec<_> = (0..3)
        .map(|t| together(&mut gpu, &[t], 5, false).remove(0))
        .collect();
    for &count in counts {
        // others come before and after
        let traces: Vec<u32> = (0..count).map(|i| (i + 1) % count).collect();
        let all = together(&mut gpu, &traces, 5, count % 2 == 1);
        for (trace, drawn) in traces.iter().zip(all).filter(|(trace, _)| **trace < 3) {
            assert_eq!(
                drawn, alone[*trace as usize],
                "{name}: trace {trace} among {count}"
            );
        }
    }
    for order in [Order::Descending, Order::Shuffled] {
        let mut gpu = open(&weights, formats, order);
        assert_eq!(
            together(&mut gpu, &[0, 1, 2], 5, true),
            alone,
            "{name}: {order:?}"
        );
    }
}

#[test]
fn traces_are_forked_saved_and_taken_up_where_they_were() {
    let weights = checkpoint("golden/case-gqa");
    let mut gpu = open(&weights, F32, Order::Ascending);
    let sampling = Sampling::default();
    let want = together(&mut gpu, &[4], 12, false).remove(0);
    let prompt = begin(&mut gpu);
    let parent = gpu.fork(prompt, 1)[0];
    let mut out = Vec::new();
    let mut take = |gpu: &mut GpuExecutor, seq, at: usize, lookahead| {
        gpu.step(&[row(seq, &sampling, 4, at, lookahead)], &mut out);
        out[0].unwrap()
    };
    for (at, want) in want[..5].iter().enumerate() {
        assert_eq!(take(&mut gpu, parent, at, 9), *want);
    }
    assert!(gpu.is_ahead(parent), "the next token is being drawn");
    assert!(gpu.save(parent, &mut Vec::new()).is_err());
    let child = gpu.fork(parent, 1)[0];
    for (at, want) in want.iter().enumerate().skip(5) {
        assert_eq!(
            take(&mut gpu, child, at, 0),
            *want,
            "a fork of a trace that is ahead"
        );
        assert_eq!(take(&mut gpu, parent, at, 0), *want);
    }
    let ids: Vec<u32> = want.iter().map(|drawn| drawn.id).collect();
    let mut saved = Vec::new();
    let trace = gpu.fork(prompt, 1)[0];
    gpu.resume(&[(trace, &ids[..7])]);
    gpu.save(trace, &mut saved).unwrap();
    for (at, want) in want.iter().enumerate().skip(7) {
        assert_eq!(take(&mut gpu, trace, at, 0), *want, "taken up by reading");
    }
    let again = gpu.fork(prompt, 1)[0];
    gpu.load(again, &ids[..9], &mut &saved[..]).unwrap();
    gpu.resume(&[(again, &ids[..9])]);
    for (at, want) in want.iter().enumerate().skip(9) {
        assert_eq!(take(&mut gpu, again, at, 0), *want, "taken up from its state");
    }
    let other = gpu.fork(prompt, 1)[0];
    assert!(
        gpu.load(other, &[1, 2, 3, 4, 5, 6, 7, 8], &mut &saved[..])
            .is_err()
    );
    saved.truncate(saved.len() - 1);
    assert!(gpu.load(other, &ids[..9], &mut &saved[..]).is_err());
}

#[test]
fn a_device_that_is_full_says_so_and_nothing_panics() {
    let weights = checkpoint("golden/case-gqa");
    let limits = open(&weights, F32, Order::Ascending).limits();
    let memory =
        usize::try_from(limits.weight_bytes + 4 * limits.read_bytes + 64 * limits.state_bytes).unwrap();
    let on = super::GpuDevice::Emulated {
        memory,
        order: Order::Ascending,
        lost_after: None,
    };
    let mut gpu = GpuExecutor::new(&weights, F32, on).unwrap();
    let many = memory / usize::try_from(limits.state_bytes).unwrap() + 1;
    let prompt = begin(&mut gpu);
    let sampling = Sampling::default();
    let seqs = gpu.fork(prompt, many);
    let rows: Vec<_> = seqs.iter().map(|seq| row(*seq, &sampling, seq.0, 0, 0)).collect();
    let mut out = Vec::new();
    gpu.step(&rows, &mut out);
    let again: Vec<_> = seqs.iter().map(|seq| row(*seq, &sampling, seq.0, 1, 0)).collect();
    gpu.step(&again, &mut out);
    assert_eq!(out.len(), many);
    let why = gpu.failure().expect("more states than there is memory for");
    assert!(why.contains("bytes"), "{why}");
    assert!(out.iter().all(Result::is_err));
    seqs.into_iter().for_each(|seq| gpu.free(seq));
}
