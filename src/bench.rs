//! Speed and memory of a model by batch size, measured as a run uses it: one prompt is read once, its state
//! forked for every trace, and all traces take a sampled token a step.

pub mod limits;

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::engine::memory;
use crate::error::Error;
use tts_model::sampler::{BrokenLogits, Sampling, Stream};
use tts_model::session::{Lane, Manner, PREFILL_CHUNK, Session, Turn};
use tts_model::{BLOCK, Model};

/// What is run.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Traces.
    pub batch: usize,
    /// Tokens of the prompt that they share; at least 1.
    pub prompt: usize,
    /// Tokens that each trace has behind it, for itself alone, before decoding is timed. They are made up,
    /// not read: the time of a step depends on how much is there and not on what it is.
    pub context: usize,
    /// Tokens that each trace generates; at least 2.
    pub tokens: usize,
    /// How often everything is done; medians are reported.
    pub repeat: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Traces.
    pub batch: usize,
    /// Tokens of the shared prompt.
    pub prompt_tokens: usize,
    /// Private tokens of each trace before decoding was timed.
    pub context_tokens: usize,
    /// Tokens that each trace generated.
    pub new_tokens: usize,
    /// Tokens of the prompt read in a second.
    pub prefill_tokens_per_second: f64,
    /// Milliseconds from nothing to the first token of every trace: one prefill, the forks, one draw each.
    pub first_token_ms: f64,
    /// Tokens of all traces together in a second, after their first.
    pub decode_tokens_per_second: f64,
    /// Milliseconds of a step in which every trace takes one token.
    pub step_ms: f64,
    /// Most memory that the process held while this was measured, weights included; absent where the system
    /// does not tell.
    pub peak_rss_bytes: Option<u64>,
    /// What [`bytes_needed`] says of it.
    pub predicted_bytes: u64,
    /// Bytes of one trace's state, keys and values at the end, beside what it shares.
    pub bytes_per_trace: u64,
}

/// Bytes that a workload takes on `threads` threads: weights, scratch memory, the prompt and its traces.
pub fn bytes_needed(model: &Model, work: &Workload, threads: usize) -> u64 {
    let prompt = model.layout().sequence_bytes(work.prompt, 0);
    let rows = work.batch.max(work.prompt.min(PREFILL_CHUNK));
    let scratch = model.workspace_bytes(rows, work.batch, threads);
    (model.bytes() + scratch + prompt) as u64 + work.batch as u64 * bytes_per_trace(model, work)
}

fn bytes_per_trace(model: &Model, work: &Workload) -> u64 {
    let tokens = work.prompt + work.context + work.tokens;
    model.layout().sequence_bytes(tokens, work.prompt) as u64
}

/// Says why a workload cannot be run, before any of it is.
///
/// # Errors
/// A sentence that names the flag and what would be right.
pub fn check(model: &Model, work: &Workload, threads: usize) -> Result<(), Error> {
    let wrong = |text: String| Err(Error::Setting(text));
    for (flag, value, least) in [
        ("--batch", work.batch, 1),
        ("--prompt", work.prompt, 1),
        ("--tokens", work.tokens, 2),
        ("--repeat", work.repeat, 1),
    ] {
        if value < least {
            return wrong(format!(
                "{flag} {value} leaves nothing to measure: it must be at least {least}"
            ));
        }
    }
    work.sampling.check().map_err(Error::Setting)?;
    let (context, length) = (model.spec().context, work.prompt + work.context + work.tokens);
    if length > context {
        return wrong(format!(
            "--prompt {} + --context {} + --tokens {} is {length} tokens, and the model's context is {context}",
            work.prompt, work.context, work.tokens
        ));
    }
    // the weights that are packed are there already
    let free = memory::available() + (model.bytes() - model.unpacked_bytes()) as u64;
    let needed = bytes_needed(model, work, threads);
    if needed > free {
        let each = bytes_per_trace(model, work) + model.workspace_bytes(1, 1, 0) as u64;
        let most = work.batch as u64 - (needed - free).div_ceil(each.max(1)).min(work.batch as u64);
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        return wrong(format!(
            "--batch {} takes {:.1} GiB and {:.1} GiB are free: at most {most} would fit",
            work.batch,
            gib(needed),
            gib(free)
        ));
    }
    Ok(())
}

/// Runs a workload on a session and takes its figures. All weights are packed before anything is timed.
///
/// # Errors
/// When [`check`] refuses it, or the model gives logits that are not numbers.
pub fn measure(session: &mut Session, work: &Workload) -> Result<Figures, Error> {
    let model = session.model().clone();
    check(&model, work, session.threads())?;
    session.pack();
    peak::reset();
    let mut runs = Vec::with_capacity(work.repeat);
    let mut run = |work: &Workload| {
        once(session, work)
            .map_err(|BrokenLogits| Error::Setting("the model gives logits that are not numbers".to_owned()))
    };
    // states get their memory from the system before anything is timed, as they do in engines that take it
    // all at their start
    run(&Workload {
        prompt: 1,
        tokens: 2,
        context: 0,
        ..work.clone()
    })?;
    for _ in 0..work.repeat {
        runs.push(run(work)?);
    }
    let median = |of: fn(&Times) -> f64| {
        let mut all: Vec<f64> = runs.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        f64::midpoint(all[(all.len() - 1) / 2], all[all.len() / 2])
    };
    let step = median(|t| t.step);
    Ok(Figures {
        batch: work.batch,
        prompt_tokens: work.prompt,
        context_tokens: work.context,
        new_tokens: work.tokens,
        prefill_tokens_per_second: work.prompt as f64 / median(|t| t.prefill),
        first_token_ms: median(|t| t.first) * 1e3,
        decode_tokens_per_second: work.batch as f64 / step,
        step_ms: step * 1e3,
        peak_rss_bytes: peak::read(),
        predicted_bytes: bytes_needed(&model, work, session.threads()),
        bytes_per_trace: bytes_per_trace(&model, work),
    })
}

/// Seconds of one run.
struct Times {
    prefill: f64,
    first: f64,
    step: f64,
}

fn once(session: &mut Session, work: &Workload) -> Result<Times, BrokenLogits> {
    let vocab = session.model().spec().vocab;
    let ids: Vec<u32> = (0..work.prompt)
        .map(|i| ((i * 7919 + 13) % vocab) as u32)
        .collect();
    let sampling = Arc::new(work.sampling.clone());
    let start = Instant::now();
    let prefix = session.prefill(&ids)?;
    let prefill = start.elapsed().as_secs_f64();
    let wanted = (0..work.batch).map(|i| {
        let manner = Manner {
            sampling: sampling.clone(),
            held: Arc::new([]),
            stream: Stream::new(0, "bench", i as u32),
        };
        (&[][..], manner, None)
    });
    let mut lanes = session.lanes(&prefix, wanted);
    step(session, &mut lanes, 0)?;
    let first = start.elapsed().as_secs_f64();
    for lane in &mut lanes {
        lane.stretch(work.context);
    }
    let start = Instant::now();
    for left in (0..work.tokens - 1).rev() {
        step(session, &mut lanes, left)?;
    }
    Ok(Times {
        prefill,
        first,
        step: start.elapsed().as_secs_f64() / (work.tokens - 1) as f64,
    })
}

/// One token for every lane, of which `left` are to come.
fn step(session: &mut Session, lanes: &mut [Lane], left: usize) -> Result<(), BrokenLogits> {
    let mut turns: Vec<_> = lanes
        .iter_mut()
        .map(|lane| Turn::new(lane, None).then(left, &[]))
        .collect();
    session.step(&mut turns);
    turns.into_iter().try_for_each(|turn| turn.result.map(drop))
}

/// What one step asks of the machine, for the ceiling that [`limits::Limits`] set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// Multiplications and additions of all products.
    pub operations: f64,
    /// Bytes of weights, read once.
    pub weights: f64,
    /// Bytes of SSM and convolution state; each is read and written.
    pub state: f64,
    /// Bytes of keys and values, read once: the prompt's for all traces together, a trace's own for each.
    pub keys_values: f64,
}

/// The demand of a step of this workload, half way through its decoding.
pub fn demand(model: &Model, work: &Workload) -> Demand {
    let (spec, shape) = (model.spec(), model.layout());
    let embedding = if spec.head.tensor.is_none() {
        0
    } else {
        spec.vocab * spec.hidden
    };
    // what is not a matrix (norms, convolution) is under a thousandth of all parameters
    let products = spec.parameters() - embedding as u64;
    let own = work.batch * (work.context + work.tokens / 2);
    let looked_up = model.bytes() as f64 * embedding as f64 / spec.parameters() as f64;
    Demand {
        operations: 2.0 * products as f64 * work.batch as f64,
        weights: model.bytes() as f64 - looked_up,
        state: (work.batch * shape.state_bytes()) as f64,
        keys_values: (work.prompt + own) as f64 * shape.block_bytes() as f64 / BLOCK as f64,
    }
}

/// The process's peak memory, as Linux counts it.
mod peak {
    pub(super) fn reset() {
        // where it cannot be reset, the peak is that of the whole process so far
        let _ = std::fs::write("/proc/self/clear_refs", "5");
    }

    pub(super) fn read() -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
        line.split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
            .map(|kib| kib * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tts_model::arch;
    use tts_model::kernels::Tier;

    fn small() -> Arc<Model> {
        let mut spec = arch::shape("tiny-90m").unwrap();
        spec.layers.truncate(2);
        spec.vocab = 320;
        Arc::new(Model::random(&spec, "f32", 1).unwrap())
    }

    fn work(batch: usize, context: usize) -> Workload {
        Workload {
            batch,
            prompt: 70,
            context,
            tokens: 4,
            repeat: 2,
            sampling: Sampling::default(),
        }
    }

    #[test]
    fn figures_of_a_small_model_fit_together() {
        let model = small();
        let mut session = Session::new(model.clone(), 2, Tier::detect());
        let short = measure(&mut session, &work(3, 0)).unwrap();
        let long = measure(&mut session, &work(3, 700)).unwrap();
        for f in [short, long] {
            assert!((f.decode_tokens_per_second * f.step_ms / 3000.0 - 1.0).abs() < 1e-9);
            assert!(
                f.first_token_ms * f.prefill_tokens_per_second >= 70.0 * 1000.0 * 0.99,
                "the prefill is part of it"
            );
            assert!(f.peak_rss_bytes.is_none_or(|rss| rss > f.bytes_per_trace));
        }
        // 70 + 4 tokens are two blocks of which one is shared; 70 + 700 + 4 are thirteen
        let block = model.layout().block_bytes() as u64;
        assert_eq!(long.bytes_per_trace - short.bytes_per_trace, 11 * block);
        assert_eq!(long.predicted_bytes - short.predicted_bytes, 3 * 11 * block);
    }

    #[test]
    fn a_stretched_lane_has_private_memory_of_its_length() {
        let model = small();
        let mut session = Session::new(model.clone(), 1, Tier::detect());
        let ids: Vec<u32> = (0..70).collect();
        let prefix = session.prefill(&ids).unwrap();
        let manner = Manner {
            sampling: Arc::new(Sampling::default()),
            held: Arc::new([]),
            stream: Stream::new(0, "bench", 0),
        };
        let mut lane = session.lane(&prefix, &[5, 6], manner);
        lane.stretch(1000);
        assert_eq!(lane.sequence().len(), 71 + 1000);
        // 17 blocks, the first of which is the prompt's
        let expected = model.layout().state_bytes() + 16 * model.layout().block_bytes();
        assert_eq!(lane.sequence().private_bytes(model.layout()), expected);
        step(&mut session, std::slice::from_mut(&mut lane), 0).unwrap();
    }

    #[test]
    fn what_cannot_be_measured_is_named() {
        let model = small();
        let refused = |work: Workload| check(&model, &work, 1).unwrap_err().to_string();
        assert!(refused(work(0, 0)).contains("--batch 0"));
        assert!(
            refused(Workload {
                prompt: 0,
                ..work(1, 0)
            })
            .contains("--prompt 0")
        );
        assert!(
            refused(Workload {
                tokens: 1,
                ..work(1, 0)
            })
            .contains("--tokens 1")
        );
        assert!(
            refused(Workload {
                repeat: 0,
                ..work(1, 0)
            })
            .contains("--repeat 0")
        );
        assert!(refused(work(1, 300_000)).contains("262144"));
        let text = refused(work(1 << 40, 0));
        assert!(
            text.contains("GiB are free") && text.contains("at most"),
            "{text}"
        );
        check(&model, &work(1, 0), 1).unwrap();
    }

    #[test]
    fn demand_counts_state_for_every_trace_and_the_prompt_once() {
        let model = small();
        let (one, eight) = (demand(&model, &work(1, 64)), demand(&model, &work(8, 64)));
        assert_eq!(eight.operations, 8.0 * one.operations);
        assert_eq!(eight.weights, one.weights);
        assert_eq!(eight.state, 8.0 * one.state);
        let token = model.layout().block_bytes() as f64 / BLOCK as f64;
        assert!((eight.keys_values / token - (70.0 + 8.0 * 66.0)).abs() < 1e-6);
    }
}
