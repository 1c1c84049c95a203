//! Decode steps. Kernels are private, so each is measured through forward passes of one-layer models in which
//! it is most of the work, and the whole step on random weights of the bundled and of published shapes.
//! Numbers are for one and two threads.

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use std::sync::Arc;
use std::time::Duration;
use tts_model::cpu::CpuExecutor;
use tts_model::cpu::kernels::Tier;
use tts_model::executor::{BrokenLogits, Drawn, Executor, Sampling, SeqId, StepRow, Stream};
use tts_model::spec::{
    DecaySpec, GatedDeltaSpec, KeySharing, LinearSpec, Mixer, MlpInput, MlpSpec, MoeSpec, NormSpec, Residual,
    Routing, ShortConvSpec,
};
use tts_model::weights::Checkpoint;
use tts_model::{Formats, KvFormat, Model, ModelSpec, WeightFormat, arch};

/// A published shape with fewer layers, and a vocabulary that does not matter.
fn part(shape: &str, layers: usize) -> ModelSpec {
    let mut spec = arch::shape(shape).expect("a published shape");
    spec.layers.truncate(layers);
    spec.vocab = 256;
    spec
}

struct Batch {
    executor: CpuExecutor,
    traces: Vec<SeqId>,
    sampling: Sampling,
    /// tokens that each trace has
    tokens: usize,
    drawn: Vec<Result<Drawn, BrokenLogits>>,
}

impl Batch {
    /// `rows` traces after a shared prompt of `prompt` tokens.
    fn new(model: &Arc<Model>, threads: usize, rows: usize, prompt: usize) -> Self {
        let mut executor = CpuExecutor::new(model.clone(), threads, Tier::detect());
        let ids: Vec<u32> = (0..prompt).map(|i| (i * 31 % 250) as u32).collect();
        let read = executor.begin();
        executor
            .read(read, &ids, usize::MAX)
            .expect("random weights give numbers");
        let traces = executor.fork(read, rows);
        executor.resume(&traces.iter().map(|trace| (*trace, &[1][..])).collect::<Vec<_>>());
        Self {
            executor,
            traces,
            sampling: Sampling::default(),
            tokens: 1,
            drawn: Vec::new(),
        }
    }

    /// A private context for every trace.
    fn stretch(&mut self, tokens: usize) {
        for trace in &self.traces {
            self.executor.stretch(*trace, tokens);
        }
    }

    /// One token for every trace.
    fn step(&mut self) {
        let row = |(i, seq): (usize, &SeqId)| StepRow {
            seq: *seq,
            sampling: &self.sampling,
            stream: Stream::new(1, "bench", i as u32),
            index: self.tokens,
            forced: None,
            banned_ids: &[],
            top_logprobs: 0,
            lookahead: 0,
            stop_ids: &[],
        };
        let rows: Vec<_> = self.traces.iter().enumerate().map(row).collect();
        self.executor.step(&rows, &mut self.drawn);
        self.tokens += 1;
    }
}

fn group_of<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(1200));
    group
}

fn measure(c: &mut Criterion, name: &str, model: &Arc<Model>, prompt: usize, batches: &[usize]) {
    measure_after(c, name, model, (prompt, 0), batches);
}

/// Steps after a shared prompt and so many tokens of each trace's own.
fn measure_after(
    c: &mut Criterion,
    name: &str,
    model: &Arc<Model>,
    (prompt, own): (usize, usize),
    batches: &[usize],
) {
    let mut group = group_of(c, name);
    for threads in [1, 2] {
        for rows in batches {
            let mut batch = Batch::new(model, threads, *rows, prompt);
            if own > 0 {
                batch.stretch(own);
            }
            group.throughput(Throughput::Elements(*rows as u64));
            group.bench_function(
                BenchmarkId::new(format!("{threads} threads"), format!("{rows} traces")),
                |b| b.iter(|| batch.step()),
            );
        }
    }
    group.finish();
}

/// The reading of one prompt of `tokens` tokens.
fn measure_reading(c: &mut Criterion, name: &str, model: &Arc<Model>, tokens: usize) {
    let ids: Vec<u32> = (0..tokens).map(|i| (i * 31 % 250) as u32).collect();
    let mut group = group_of(c, name);
    for threads in [1, 2] {
        let mut executor = CpuExecutor::new(model.clone(), threads, Tier::detect());
        group.throughput(Throughput::Elements(tokens as u64));
        group.bench_function(
            BenchmarkId::new(format!("{threads} threads"), format!("{tokens} tokens")),
            |b| {
                b.iter(|| {
                    let prompt = executor.begin();
                    let read = executor.read(prompt, &ids, usize::MAX);
                    executor.free(prompt);
                    read.expect("random weights give numbers")
                });
            },
        );
    }
    group.finish();
}

/// A model of `layers` layers that have this part alone, with random weights held as `dtype`.
fn of_parts(hidden: usize, layers: usize, dtype: &str, part_of: impl Fn(&str) -> Mixer) -> Arc<Model> {
    let mut spec = part("falcon-h1-0.5b", layers);
    spec.hidden = hidden;
    for (i, layer) in spec.layers.iter_mut().enumerate() {
        let norm = layer[0].norm.clone();
        *layer = vec![Residual::of(norm, part_of(&format!("layers.{i}.part")))];
    }
    Arc::new(Model::random(&spec, dtype, 1).expect("a shape that can be"))
}

/// Only these parts of a model, on a residual stream so narrow that their products hardly count.
fn only(mut spec: ModelSpec, wanted: fn(&Mixer) -> bool) -> ModelSpec {
    spec.hidden = 32;
    for branch in spec.layers.iter_mut().flatten() {
        branch.mixers.retain(wanted);
        for mixer in &mut branch.mixers {
            let (into, out) = match mixer {
                Mixer::Attention(a) => (vec![&mut a.q, &mut a.k, &mut a.v], &mut a.o),
                Mixer::Mamba2(m) => (vec![&mut m.in_proj], &mut m.out_proj),
                _ => unreachable!("mixers of positions alone are wanted"),
            };
            into.into_iter().for_each(|linear| linear.columns = spec.hidden);
            (out.rows, out.output_scales) = (spec.hidden, Vec::new());
        }
    }
    spec.layers
        .iter_mut()
        .for_each(|layer| layer.retain(|branch| !branch.mixers.is_empty()));
    spec
}

/// The state update of the 0.5B shape: 24 heads of 64 with 128 states, beside products that are as small as
/// they can be.
fn state_update(c: &mut Criterion) {
    let spec = only(part("falcon-h1-0.5b", 4), |m| matches!(m, Mixer::Mamba2(_)));
    let model = Arc::new(Model::random(&spec, "f32", 1).expect("a shape that can be"));
    measure(
        c,
        "state update (0.5B, 4 layers, hardly any product)",
        &model,
        8,
        &[1, 64],
    );
}

/// Decode attention of the 0.5B shape after 1,024 shared tokens, and after as many of each trace's own, for each
/// way to hold keys and values; without a Mamba branch.
fn attention(c: &mut Criterion) {
    let spec = only(part("falcon-h1-0.5b", 4), |m| matches!(m, Mixer::Attention(_)));
    let weights = Checkpoint::random(&spec, "f32", 1).expect("a shape that can be");
    for kv in KvFormat::ALL {
        let formats = Formats {
            kv: Some(kv),
            ..Formats::default()
        };
        let model = Arc::new(Model::load(&weights, formats).expect("a shape that can be"));
        for (shared, own) in [(1024, 0), (64, 1024)] {
            let whose = if own > 0 { "private" } else { "shared" };
            let name = format!(
                "decode attention (0.5B, 4 layers, 1024 {whose} tokens, {})",
                kv.name()
            );
            measure_after(c, &name, &model, (shared, own), &[1, 64]);
        }
    }
}

/// The gated delta rule of the Qwen3-Next shape: 32 heads of 128 with keys of 128, beside products that are as
/// small as they can be.
fn gated_delta(c: &mut Criterion) {
    let model = of_parts(32, 2, "f32", |name| {
        let linear = |what: &str, rows| LinearSpec::new(format!("{name}.{what}.weight"), rows, 32);
        let (key_heads, heads, dim) = (16, 32, 128);
        Mixer::GatedDelta(GatedDeltaSpec {
            key_heads,
            key_dim: dim,
            heads,
            head_dim: dim,
            sharing: KeySharing::Consecutive,
            taps: 4,
            qkv: linear("qkv", (2 * key_heads + heads) * dim),
            z: linear("z", heads * dim),
            b: linear("b", heads),
            a: linear("a", heads),
            out_proj: LinearSpec::new(format!("{name}.out.weight"), 32, heads * dim),
            conv: format!("{name}.conv.weight"),
            decay: DecaySpec::Log(format!("{name}.decay")),
            dt_bias: format!("{name}.dt_bias"),
            norm: NormSpec {
                tensor: format!("{name}.norm.weight"),
                eps: 1e-6,
                zero_centered: false,
            },
        })
    });
    let name = "gated delta rule (Qwen3-Next, 2 layers, hardly any product)";
    measure(c, name, &model, 8, &[1, 64]);
    measure_reading(c, &format!("{name}, reading"), &model, 128);
}

/// The short convolution of the LFM2-1.2B shape, beside products that are as small as they can be.
fn short_convolution(c: &mut Criterion) {
    let model = of_parts(32, 4, "f32", |name| {
        Mixer::ShortConv(ShortConvSpec {
            channels: 2048,
            taps: 3,
            in_proj: LinearSpec::new(format!("{name}.in.weight"), 3 * 2048, 32),
            out_proj: LinearSpec::new(format!("{name}.out.weight"), 32, 2048),
            conv: format!("{name}.conv.weight"),
            conv_bias: None,
        })
    });
    let name = "short convolution (2048 channels, 4 layers, hardly any product)";
    measure(c, name, &model, 8, &[1, 64]);
    measure_reading(c, &format!("{name}, reading"), &model, 128);
}

/// Router and experts: 8 of 32, 768 wide, on a residual stream of 1,024.
fn experts(c: &mut Criterion) {
    let model = of_parts(1024, 1, "q8_0", |name| {
        let expert = |i: usize| {
            let linear = |what: &str, rows, columns| {
                LinearSpec::new(format!("{name}.{i}.{what}.weight"), rows, columns)
            };
            MlpSpec {
                width: 768,
                input: MlpInput::SwiGlu {
                    gate: linear("gate", 768, 1024),
                    up: linear("up", 768, 1024),
                },
                down: linear("down", 1024, 768),
            }
        };
        Mixer::Moe(MoeSpec {
            router: LinearSpec::new(format!("{name}.router.weight"), 32, 1024),
            routing: Routing::Softmax { renormalise: true },
            active: 8,
            experts: (0..32).map(expert).collect(),
            shared: None,
        })
    });
    let name = "experts (8 of 32 of 768, 1 layer, q8_0)";
    measure(c, name, &model, 8, &[1, 64]);
    measure_reading(c, &format!("{name}, reading"), &model, 128);
}

/// The products of the 0.5B shape, with a small state and a short context.
fn products(c: &mut Criterion) {
    for dtype in ["f32", "bf16", "q8_0"] {
        let mut spec = part("falcon-h1-0.5b", 2);
        for mixer in spec.layers.iter_mut().flatten().flat_map(|b| &mut b.mixers) {
            if let Mixer::Mamba2(m) = mixer {
                m.d_state = 2;
                m.in_proj.rows = m.width() + m.channels() + m.heads;
                m.in_proj.output_scales.clear();
            }
        }
        let model = Arc::new(Model::random(&spec, dtype, 1).expect("a shape that can be"));
        measure(
            c,
            &format!("matrix products (0.5B, 2 layers, {dtype})"),
            &model,
            8,
            &[1, 64],
        );
    }
}

fn whole_step(c: &mut Criterion) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/data/bundled");
    let bundled = Checkpoint::open(folder.as_ref()).expect("the bundled model");
    let model = Arc::new(Model::load(&bundled, WeightFormat::Auto).expect("the bundled model"));
    measure(c, "whole step, the bundled model", &model, 128, &[1, 64, 512]);
    let spec = arch::shape("tiny-90m").expect("a published shape");
    let model = Arc::new(Model::random(&spec, "bf16", 1).expect("a shape that can be"));
    measure(c, "whole step, 90M, bf16", &model, 128, &[1, 64]);
}

/// A sixth of the layers of 0.5B, with its whole vocabulary: a step of the whole model takes about six times
/// as long less five output layers.
fn part_of_half_a_billion(c: &mut Criterion) {
    let mut spec = arch::shape("falcon-h1-0.5b").expect("a published shape");
    spec.layers.truncate(6);
    let model = Arc::new(Model::random(&spec, "bf16", 1).expect("a shape that can be"));
    measure(
        c,
        "6 of 36 layers and the output, 0.5B, bf16",
        &model,
        128,
        &[1, 64],
    );
}

criterion_group!(
    benches,
    state_update,
    attention,
    gated_delta,
    short_convolution,
    experts,
    products,
    whole_step,
    part_of_half_a_billion
);
criterion_main!(benches);
