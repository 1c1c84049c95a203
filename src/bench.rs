//! Speed and memory of a model by batch size, measured as a run uses it: one prompt is read once, its state
//! forked for every trace, and all traces take a sampled token a step.

pub(crate) mod estimate;
pub(crate) mod limits;

use std::time::Instant;

use serde::Serialize;

use crate::error::Error;
use tts_model::executor::{BrokenLogits, Drawn, Executor, Sampling, SeqId, StepRow, Stream};
use tts_model::{BLOCK, Model};

/// A workload of `tts bench`: how many traces decode together, from which prompt, for how long.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    /// Traces that decode together, at least 1.
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

/// Measured speed and memory of a workload: medians over its repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// Traces that decode together, at least 1.
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

/// Bytes that a workload takes: weights, scratch memory, the prompt and its traces.
pub(crate) fn bytes_needed(executor: &dyn Executor, work: &Workload) -> u64 {
    let limits = executor.limits();
    let prompt = limits.sequence_bytes(work.prompt, 0);
    let scratch = executor.scratch_bytes(work.prompt, work.batch);
    limits.weight_bytes + scratch + prompt + work.batch as u64 * bytes_per_trace(executor, work)
}

fn bytes_per_trace(executor: &dyn Executor, work: &Workload) -> u64 {
    let tokens = work.prompt + work.context + work.tokens;
    executor.limits().sequence_bytes(tokens, work.prompt)
}

/// Says why a workload cannot be run, before any of it is.
///
/// # Errors
/// A sentence that names the flag and what would be right.
pub(crate) fn check(executor: &dyn Executor, work: &Workload) -> Result<(), Error> {
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
    let limits = executor.limits();
    let (context, length) = (limits.context, work.prompt + work.context + work.tokens);
    if length > context {
        return wrong(format!(
            "--prompt {} + --context {} + --tokens {} is {length} tokens, and the model's context is \
             {context}",
            work.prompt, work.context, work.tokens
        ));
    }
    Ok(())
}

/// Says why there is no memory for a workload.
///
/// # Errors
/// A sentence that says how many traces there would be memory for.
pub(crate) fn fits(executor: &dyn Executor, work: &Workload) -> Result<(), Error> {
    let limits = executor.limits();
    // the weights are there already, or reckoned with
    let free = limits.free_bytes + limits.weight_bytes;
    let needed = bytes_needed(executor, work);
    if needed > free {
        let each = bytes_per_trace(executor, work) + limits.row_bytes;
        let most = work.batch as u64 - (needed - free).div_ceil(each.max(1)).min(work.batch as u64);
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        return Err(Error::Setting(format!(
            "--batch {} takes {:.1} GiB and {:.1} GiB are free: at most {most} would fit",
            work.batch,
            gib(needed),
            gib(free)
        )));
    }
    Ok(())
}

/// Runs a workload on an executor and takes its figures. All weights are packed before anything is timed.
///
/// # Errors
/// When [`check`] or [`fits`] refuses it, the device fails, or the model gives logits that are not numbers.
pub(crate) fn measure(executor: &mut dyn Executor, work: &Workload) -> Result<Figures, Error> {
    check(executor, work)?;
    fits(executor, work)?;
    while executor.idle() {}
    peak::reset();
    let mut runs = Vec::with_capacity(work.repeat);
    let mut run = |work: &Workload| {
        once(executor, work).map_err(|BrokenLogits| {
            let why = executor.failure();
            Error::Setting(why.unwrap_or_else(|| "the model gives logits that are not numbers".to_owned()))
        })
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
        predicted_bytes: bytes_needed(executor, work),
        bytes_per_trace: bytes_per_trace(executor, work),
    })
}

/// Seconds of one run.
struct Times {
    prefill: f64,
    first: f64,
    step: f64,
}

fn once(executor: &mut dyn Executor, work: &Workload) -> Result<Times, BrokenLogits> {
    let vocab = executor.limits().vocab;
    let ids: Vec<u32> = (0..work.prompt)
        .map(|i| ((i * 7919 + 13) % vocab) as u32)
        .collect();
    let start = Instant::now();
    let prompt = executor.begin();
    let read = executor.read(prompt, &ids, usize::MAX);
    let prefill = start.elapsed().as_secs_f64();
    let traces = match read {
        Ok(_) => executor.fork(prompt, work.batch),
        Err(BrokenLogits) => Vec::new(),
    };
    let times = read.and_then(|_| {
        let mut steps = Steps::new(&traces, work);
        steps.take(executor, 0)?;
        let first = start.elapsed().as_secs_f64();
        for trace in &traces {
            executor.stretch(*trace, work.context);
        }
        let start = Instant::now();
        for left in (0..work.tokens - 1).rev() {
            steps.take(executor, left)?;
        }
        Ok(Times {
            prefill,
            first,
            step: start.elapsed().as_secs_f64() / (work.tokens - 1) as f64,
        })
    });
    for seq in traces.into_iter().chain([prompt]) {
        executor.free(seq);
    }
    times
}

/// The steps of a workload.
struct Steps<'a> {
    rows: Vec<StepRow<'a>>,
    drawn: Vec<Result<Drawn, BrokenLogits>>,
}

impl<'a> Steps<'a> {
    fn new(traces: &[SeqId], work: &'a Workload) -> Self {
        let row = |(i, seq): (usize, &SeqId)| StepRow {
            seq: *seq,
            sampling: &work.sampling,
            stream: Stream::new(0, "bench", i as u32),
            index: 0,
            forced: None,
            banned_ids: &[],
            top_logprobs: 0,
            lookahead: 0,
            stop_ids: &[],
        };
        Self {
            rows: traces.iter().enumerate().map(row).collect(),
            drawn: Vec::new(),
        }
    }

    /// One token for every trace, of which `left` are to come.
    fn take(&mut self, executor: &mut dyn Executor, left: usize) -> Result<(), BrokenLogits> {
        self.rows.iter_mut().for_each(|row| row.lookahead = left);
        executor.step(&self.rows, &mut self.drawn);
        self.rows.iter_mut().for_each(|row| row.index += 1);
        self.drawn.iter().try_for_each(|drawn| drawn.map(drop))
    }
}

/// What one step asks of the machine, for the ceiling that [`limits::Limits`] set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Demand {
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
pub(crate) fn demand(model: &Model, work: &Workload) -> Demand {
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
    use std::sync::Arc;

    use super::*;
    use tts_model::arch;
    use tts_model::cpu::CpuExecutor;
    use tts_model::cpu::kernels::Tier;

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
        let mut executor = CpuExecutor::new(model.clone(), 2, Tier::detect());
        let short = measure(&mut executor, &work(3, 0)).unwrap();
        let long = measure(&mut executor, &work(3, 700)).unwrap();
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
    fn a_stretched_trace_has_private_memory_of_its_length() {
        let model = small();
        let mut executor = CpuExecutor::new(model.clone(), 1, Tier::detect());
        let ids: Vec<u32> = (0..70).collect();
        let prompt = executor.begin();
        executor.read(prompt, &ids, usize::MAX).unwrap();
        let traces = executor.fork(prompt, 1);
        executor.resume(&[(traces[0], &[5, 6][..])]);
        executor.stretch(traces[0], 1000);
        assert_eq!(executor.length(traces[0]), 71 + 1000);
        // 17 blocks, the first of which is the prompt's
        let expected = model.layout().state_bytes() + 16 * model.layout().block_bytes();
        assert_eq!(executor.state(traces[0]).private_bytes(model.layout()), expected);
        Steps::new(&traces, &work(1, 1000))
            .take(&mut executor, 0)
            .unwrap();
    }

    #[test]
    fn what_cannot_be_measured_is_named() {
        let executor = CpuExecutor::new(small(), 1, Tier::detect());
        let refused = |work: Workload| {
            let checked = check(&executor, &work).and_then(|()| fits(&executor, &work));
            checked.unwrap_err().to_string()
        };
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
        check(&executor, &work(1, 0)).unwrap();
        fits(&executor, &work(1, 0)).unwrap();
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
