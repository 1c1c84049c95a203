//! How fast a model would be here, before it is: a few of its layers, with random weights, are measured on this machine, and the others are
//! taken to be like them.

use std::collections::BTreeMap;

use super::{Figures, Workload, measure};
use crate::error::Error;
use tts_model::cpu::CpuExecutor;
use tts_model::cpu::kernels::Tier;
use tts_model::executor::Executor;
use tts_model::sampling::Sampling;
use tts_model::spec::{Mixer, Residual};
use tts_model::weights::Checkpoint;
use tts_model::{Formats, Model, ModelSpec, WeightFormat};

/// Traces above which a step's time is taken to grow in proportion: products are then bound by arithmetic.
const MEASURED: usize = 32;
/// Layers of a kind that are measured beside the first.
const MORE: usize = 2;

/// What a step of so many traces takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Speed {
    /// Traces that take a token each.
    pub traces: usize,
    /// Seconds of a step.
    pub step: f64,
    /// Seconds that a token of a prompt takes.
    pub prompt_token: f64,
}

impl Speed {
    /// Tokens of all traces in a second.
    pub(crate) fn tokens_per_second(&self) -> f64 {
        self.traces as f64 / self.step
    }

    fn of(figures: &Figures, traces: usize) -> Self {
        let grown = traces as f64 / figures.batch as f64;
        Self {
            traces,
            step: figures.step_ms / 1e3 * grown,
            prompt_token: 1.0 / figures.prefill_tokens_per_second,
        }
    }

    /// Both, weighed.
    fn plus(self, other: Self, weight: f64) -> Self {
        Self {
            step: self.step + weight * other.step,
            prompt_token: self.prompt_token + weight * other.prompt_token,
            ..self
        }
    }
}

/// Measures a model that is open: steps of `traces` traces that have `context` tokens behind them.
///
/// # Errors
/// Those of [`measure`].
pub(crate) fn of_executor(
    executor: &mut dyn Executor,
    traces: usize,
    context: usize,
) -> Result<Speed, Error> {
    let limits = executor.limits();
    let prompt = 32.min(limits.context / 4).max(1);
    let work = Workload {
        batch: traces.clamp(1, MEASURED),
        prompt,
        context: context.min(limits.context.saturating_sub(prompt + 3)),
        tokens: 3,
        repeat: 2,
        sampling: Sampling::default(),
    };
    Ok(Speed::of(&measure(executor, &work)?, traces.max(1)))
}

/// Reckons the speed of a shape with weights in `dtype` (`f32`, `f16`, `bf16`, `q8_0` or `q4_0`) from one layer of each kind, and from
/// some more of each kind, on so many threads.
///
/// # Errors
/// Rows that cannot be stored in the type, too little memory for the layers, and those of [`measure`].
pub(crate) fn of_shape(
    spec: &ModelSpec,
    dtype: &str,
    formats: Formats,
    (traces, context): (usize, usize),
    (threads, tier): (usize, Tier),
) -> Result<Speed, Error> {
    let mut kinds: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, layer) in spec.layers.iter().enumerate() {
        kinds.entry(kind(layer)).or_default().push(i);
    }
    let speed = |layers: &[usize]| {
        let mut part = spec.clone();
        part.layers = layers.iter().map(|i| spec.layers[*i].clone()).collect();
        let weights = Checkpoint::random(&part, dtype, 0)?;
        let held = Formats {
            weights: WeightFormat::Auto,
            ..formats
        };
        let model = Model::load(&weights, held)?;
        let mut executor = CpuExecutor::new(model.into(), threads, tier);
        of_executor(&mut executor, traces, context)
    };
    let mut first: Vec<usize> = kinds.values().map(|layers| layers[0]).collect();
    first.sort_unstable();
    let base = speed(&first)?;
    let mut whole = base;
    for layers in kinds.values().filter(|layers| layers.len() > 1) {
        let more = &layers[1..layers.len().min(1 + MORE)];
        let mut measured: Vec<usize> = first.iter().chain(more).copied().collect();
        measured.sort_unstable();
        let beside = speed(&measured)?.plus(base, -1.0);
        // a machine that was busy for a moment must not make layers that take no time
        let least = Speed {
            step: base.step / 1e3,
            prompt_token: base.prompt_token / 1e3,
            traces,
        };
        let each = Speed {
            step: (beside.step / more.len() as f64).max(least.step),
            prompt_token: (beside.prompt_token / more.len() as f64).max(least.prompt_token),
            traces,
        };
        whole = whole.plus(each, (layers.len() - 1) as f64);
    }
    Ok(whole)
}

/// What layers that take the same time have in common.
fn kind(layer: &[Residual]) -> String {
    let of = |mixer: &Mixer| {
        let matrices = mixer.linears().into_iter().map(|m| (m.rows, m.columns));
        let window = match mixer {
            Mixer::Attention(attention) => attention.window,
            _ => None,
        };
        format!("{:?} {window:?}", matrices.collect::<Vec<_>>())
    };
    layer
        .iter()
        .flat_map(|residual| &residual.mixers)
        .map(of)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tts_model::arch;

    #[test]
    fn layers_of_a_kind_are_told_from_others() {
        let count = |shape: &str| {
            let spec = arch::shape(shape).unwrap();
            let mut kinds: Vec<_> = spec.layers.iter().map(|layer| kind(layer)).collect();
            kinds.sort();
            kinds.dedup();
            kinds.len()
        };
        assert_eq!(count("falcon-h1-7b"), 1);
        assert_eq!(count("qwen3-8b"), 1);
        assert_eq!(count("gpt-oss-20b"), 2, "windows and none");
    }

    /// A whole model is a step of each of its layers.
    #[test]
    fn a_shape_takes_longer_with_more_layers_and_more_traces() {
        let mut spec = arch::shape("tiny-90m").unwrap();
        let speed = |spec: &ModelSpec, traces| {
            let machine = (2, Tier::detect());
            of_shape(spec, "q8_0", Formats::default(), (traces, 16), machine).unwrap()
        };
        spec.layers.truncate(4);
        let few = speed(&spec, 64);
        assert_eq!(few.traces, 64);
        assert!(few.step > 0.0 && few.prompt_token > 0.0 && few.tokens_per_second() > 0.0);
        let one = speed(&spec, 1);
        assert!(one.step < few.step, "{one:?} {few:?}");
    }
}
