//! The sampler at the vocabulary of the 7B model: the scan that confidence comes from, and a whole draw.

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tts_model::cpu::kernels::Tier;
use tts_model::cpu::kernels::sample::scan;
use tts_model::cpu::{Draw, Scratch, draw};
use tts_model::sampling::{Sampling, Stream};

const VOCAB: usize = 130_048;

/// Logits as peaked as a trained model's: nearly normal, a few far above the rest.
fn logits() -> Vec<f32> {
    let mut random = ChaCha12Rng::seed_from_u64(1);
    let mut unit = || random.next_u32() as f32 / u32::MAX as f32 - 0.5;
    let mut z: Vec<f32> = (0..VOCAB)
        .map(|_| (unit() + unit() + unit() + unit()) * 3.0)
        .collect();
    (0..40).for_each(|i| z[i * 3001] += 8.0 - 0.1 * i as f32);
    z
}

fn sampler(c: &mut Criterion) {
    let z = logits();
    let mut group = c.benchmark_group("sampler, 130048 columns");
    group.throughput(Throughput::Bytes(4 * VOCAB as u64));
    for tier in Tier::available() {
        group.bench_function(format!("scan, {tier}"), |b| b.iter(|| scan(tier, black_box(&z))));
    }
    let tier = Tier::detect();
    let plain = Sampling::default();
    for (name, sampling) in [
        (
            "greedy",
            Sampling {
                temperature: 0.0,
                ..plain.clone()
            },
        ),
        ("temperature 1", plain.clone()),
        (
            "temperature 0.6, top-p 0.95",
            Sampling {
                temperature: 0.6,
                top_p: 0.95,
                ..plain.clone()
            },
        ),
        (
            "top-k 20",
            Sampling {
                top_k: 20,
                ..plain.clone()
            },
        ),
        (
            "top-p 0.95, repetition penalty 1.1",
            Sampling {
                top_p: 0.95,
                repetition_penalty: 1.1,
                ..plain
            },
        ),
    ] {
        let (mut scratch, stream, seen) = (Scratch::default(), Stream::new(1, "bench", 0), BTreeMap::new());
        let mut i = 0;
        group.bench_function(format!("scan and draw, {name}, {tier}"), |b| {
            b.iter(|| {
                i += 1;
                let how = Draw {
                    sampling: &sampling,
                    uniform: stream.uniform(i),
                    forced: None,
                    banned_ids: &[],
                    seen: &seen,
                };
                draw(tier, black_box(&z), &how, &mut scratch)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, sampler);
criterion_main!(benches);
