//! Decode steps. Kernels are private, so each is measured through forward passes of one-layer models in which
//! it is most of the work, and the whole step on random weights of the bundled and of published shapes.
//! Numbers are for one and two threads.

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use std::sync::Arc;
use std::time::Duration;
use tts_model::kernels::Tier;
use tts_model::sampler::{Sampling, Stream};
use tts_model::session::{Lane, Manner, Session, Turn};
use tts_model::{Config, Model};

/// A published shape with fewer layers, and a vocabulary that does not matter.
fn part(shape: &str, layers: usize, change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::named(shape).expect("a published shape");
    (config.layers, config.vocab) = (layers, 256);
    change(&mut config);
    config
}

struct Batch {
    session: Session,
    lanes: Vec<Lane>,
}

impl Batch {
    /// `rows` lanes after a shared prompt of `prompt` tokens.
    fn new(model: &Arc<Model>, threads: usize, rows: usize, prompt: usize) -> Self {
        let mut session = Session::new(model.clone(), threads, Tier::detect());
        let ids: Vec<u32> = (0..prompt).map(|i| (i * 31 % 250) as u32).collect();
        let prefix = session.prefill(&ids).expect("random weights give numbers");
        let sampling = Arc::new(Sampling::default());
        let lanes = (0..rows)
            .map(|i| {
                let manner = Manner {
                    sampling: sampling.clone(),
                    held: Arc::new([]),
                    stream: Stream::new(1, "bench", i as u32),
                };
                session.lane(&prefix, &[1], manner)
            })
            .collect();
        Self { session, lanes }
    }

    /// One token for every lane.
    fn step(&mut self) {
        let mut turns: Vec<_> = self.lanes.iter_mut().map(|lane| Turn::new(lane, None)).collect();
        self.session.step(&mut turns);
    }
}

fn measure(c: &mut Criterion, name: &str, model: &Arc<Model>, prompt: usize, batches: &[usize]) {
    let mut group = c.benchmark_group(name);
    group
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(1200));
    for threads in [1, 2] {
        for rows in batches {
            let mut batch = Batch::new(model, threads, *rows, prompt);
            group.throughput(Throughput::Elements(*rows as u64));
            group.bench_function(
                BenchmarkId::new(format!("{threads} threads"), format!("{rows} traces")),
                |b| b.iter(|| batch.step()),
            );
        }
    }
    group.finish();
}

/// The state update of the 0.5B shape: 24 heads of 64 with 128 states, beside products that are as small as
/// they can be.
fn state_update(c: &mut Criterion) {
    let config = part("falcon-h1-0.5b", 4, |c| {
        (c.hidden, c.intermediate, c.heads, c.kv_heads, c.head_dim) = (32, 32, 1, 1, 2)
    });
    let model = Arc::new(Model::random(&config, "f32", 1).expect("a shape that can be"));
    measure(
        c,
        "state update (0.5B, 4 layers, hardly any product)",
        &model,
        8,
        &[1, 64],
    );
}

/// Decode attention of the 0.5B shape after 1,024 shared tokens, beside a Mamba branch that is as small as it
/// can be.
fn attention(c: &mut Criterion) {
    let config = part("falcon-h1-0.5b", 4, |c| {
        (c.hidden, c.intermediate) = (32, 32);
        (c.ssm_heads, c.ssm_head_dim, c.d_ssm, c.d_state) = (1, 2, 2, 2);
    });
    let model = Arc::new(Model::random(&config, "f32", 1).expect("a shape that can be"));
    measure(
        c,
        "decode attention (0.5B, 4 layers, 1024 shared tokens)",
        &model,
        1024,
        &[1, 64],
    );
}

/// The products of the 0.5B shape, with a small state and a short context.
fn products(c: &mut Criterion) {
    for dtype in ["f32", "bf16", "q8_0"] {
        let config = part("falcon-h1-0.5b", 2, |c| c.d_state = 2);
        let model = Arc::new(Model::random(&config, dtype, 1).expect("a shape that can be"));
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
    let bundled = part("tiny-90m", 4, |c| {
        (c.hidden, c.intermediate, c.d_ssm, c.ssm_heads, c.d_state) = (128, 256, 256, 8, 32)
    });
    let model = Arc::new(Model::random(&bundled, "f32", 1).expect("a shape that can be"));
    measure(c, "whole step, 1M parameters, f32", &model, 128, &[1, 64, 512]);
    let config = Config::named("tiny-90m").expect("a published shape");
    let model = Arc::new(Model::random(&config, "bf16", 1).expect("a shape that can be"));
    measure(c, "whole step, 90M, bf16", &model, 128, &[1, 64]);
}

/// A sixth of the layers of 0.5B, with its whole vocabulary: a step of the whole model takes about six times
/// as long less five output layers.
fn part_of_half_a_billion(c: &mut Criterion) {
    let mut config = Config::named("falcon-h1-0.5b").expect("a published shape");
    config.layers = 6;
    let model = Arc::new(Model::random(&config, "bf16", 1).expect("a shape that can be"));
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
    products,
    whole_step,
    part_of_half_a_billion
);
criterion_main!(benches);
