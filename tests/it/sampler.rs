//! The sampler against a slow twin in f64, against candle's, and against the definition of confidence.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Device, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling as Theirs};
use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tts_model::cpu::kernels::Tier;
use tts_model::cpu::{Draw, Scratch, Seen, draw};
use tts_model::sampling::{Drawn, Sampling, Stream};
use tts_strategies::confidence_of_logprobs;

/// The distribution that settings make of logits: everything sorted, in f64. `None` where rounding may move a
/// bound of the kept set.
fn twin(logits: &[f32], s: &Sampling, banned: &[u32], seen: &BTreeMap<u32, Seen>) -> Option<Vec<f64>> {
    let mut z: Vec<f64> = logits.iter().map(|z| f64::from(*z) + 0.0).collect();
    for (id, n) in seen {
        let z = &mut z[*id as usize];
        *z = if *z > 0.0 {
            *z / s.repetition_penalty
        } else {
            *z * s.repetition_penalty
        };
        if n.generated > 0 {
            *z -= s.presence_penalty + s.frequency_penalty * f64::from(n.generated);
        }
    }
    banned.iter().for_each(|id| z[*id as usize] = f64::NEG_INFINITY);
    let changed = !banned.is_empty() || !seen.is_empty();
    let mut order: Vec<usize> = (0..z.len()).filter(|i| z[*i] > f64::NEG_INFINITY).collect();
    order.sort_by(|a, b| z[*b].total_cmp(&z[*a]).then(a.cmp(b)));
    // penalties round in f32, which may turn two ids about
    let close =
        |a: usize, b: usize| changed && z[a] != z[b] && (z[a] - z[b]).abs() < 1e-5 * (1.0 + z[a].abs());
    let max = z[order[0]];
    let mut p = vec![0.0; z.len()];
    if s.temperature == 0.0 {
        p[order[0]] = 1.0;
        return (order.len() < 2 || !close(order[0], order[1])).then_some(p);
    }
    let w: Vec<f64> = z.iter().map(|z| ((z - max) / s.temperature).exp()).collect();
    let mut certain = true;
    if s.top_k > 0 && s.top_k < order.len() {
        certain &= !close(order[s.top_k - 1], order[s.top_k]);
        order.truncate(s.top_k);
    }
    if s.top_p < 1.0 {
        let pool: f64 = order.iter().map(|i| w[*i]).sum();
        let mut sum = 0.0;
        let mut keep = order.len();
        for (k, i) in order.iter().enumerate() {
            sum += w[*i];
            certain &= (sum / pool - s.top_p).abs() > 1e-5;
            if sum >= s.top_p * pool {
                keep = k + 1;
                break;
            }
        }
        order.truncate(keep);
    }
    if s.min_p > 0.0 {
        certain &= order
            .iter()
            .all(|i| (w[*i] / w[order[0]] - s.min_p).abs() > 1e-5 * s.min_p);
        let bar = s.min_p * w[order[0]];
        order.retain(|i| w[*i] >= bar);
    }
    let kept: f64 = order.iter().map(|i| w[*i]).sum();
    order.iter().for_each(|i| p[*i] = w[*i] / kept);
    certain.then_some(p)
}

/// Draws with `n` evenly spread numbers; every id has its share of them, to within the two ends of its
/// interval.
fn compare(
    tier: Tier,
    logits: &[f32],
    s: &Sampling,
    banned: &[u32],
    seen: &BTreeMap<u32, Seen>,
    n: usize,
) -> Result<(), TestCaseError> {
    let Some(p) = twin(logits, s, banned, seen) else {
        return Ok(());
    };
    let mut counts = BTreeMap::new();
    let mut scratch = Scratch::default();
    for i in 0..n {
        let how = Draw {
            sampling: s,
            uniform: (i as f64 + 0.5) / n as f64,
            forced: None,
            banned_ids: banned,
            seen,
        };
        *counts
            .entry(draw(tier, logits, &how, &mut scratch).unwrap().id)
            .or_insert(0) += 1;
    }
    for (id, count) in &counts {
        prop_assert!(
            p[*id as usize] > 0.0,
            "{tier}: id {id} (logit {}) is not to be drawn; {s:?}",
            logits[*id as usize]
        );
        let want = p[*id as usize] * n as f64;
        prop_assert!(
            (*count as f64 - want).abs() <= 1.01 + 1e-4 * n as f64,
            "{tier}: id {id} drawn {count} times instead of {want}; {s:?}"
        );
    }
    for (id, p) in p
        .iter()
        .enumerate()
        .filter(|(_, p)| **p * n as f64 > 1.05 + 1e-4 * n as f64)
    {
        prop_assert!(
            counts.contains_key(&(id as u32)),
            "{tier}: id {id} (p {p}) is never drawn; {s:?}"
        );
    }
    Ok(())
}

/// Logits with ties, masks and ranges from nearly flat to huge.
fn logits() -> impl Strategy<Value = Vec<f32>> {
    let kind = prop_oneof![
        Just((1e-3f32, false)),
        Just((3.0, false)),
        Just((3.0, true)),
        Just((20.0, true)),
        Just((1e4, false)),
        Just((1e30, false))
    ];
    (
        kind,
        prop::collection::vec((-1.0..1.0f32, prop::bool::weighted(0.1)), 1..600),
    )
        .prop_map(|((range, ties), values)| {
            let one = |(v, masked): &(f32, bool)| match (masked, ties) {
                (true, _) => f32::NEG_INFINITY,
                (_, true) => (v * range).round(),
                _ => v * range,
            };
            let mut z: Vec<f32> = values.iter().map(one).collect();
            if z.iter().all(|z| *z == f32::NEG_INFINITY) {
                z[0] = 1.0;
            }
            z
        })
}

fn settings() -> impl Strategy<Value = Sampling> {
    let temperature = prop_oneof![Just(0.0), Just(1.0), 0.05..3.0f64, Just(50.0)];
    let top_k = prop_oneof![3 => Just(0usize), 2 => 1..30usize, 1 => 30..900usize];
    let top_p = prop_oneof![Just(1.0), 0.01..1.0f64, Just(0.95), Just(0.999)];
    let min_p = prop_oneof![2 => Just(0.0), 1 => 0.001..1.0f64];
    (temperature, top_k, top_p, min_p).prop_map(|(temperature, top_k, top_p, min_p)| Sampling {
        temperature,
        top_k,
        top_p,
        min_p,
        ..Sampling::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn draws_have_the_exact_distribution(z in logits(), s in settings()) {
        for tier in Tier::available() {
            compare(tier, &z, &s, &[], &BTreeMap::new(), 120)?;
        }
    }

    #[test]
    fn penalties_and_held_ids_change_the_draw_and_not_the_confidence(
        z in logits(),
        s in settings(),
        (repetition_penalty, presence_penalty, frequency_penalty) in
            (0.5..2.0f64, -1.0..2.0f64, -0.5..1.0f64),
        marks in prop::collection::vec((0..600usize, 0..4u32, any::<bool>()), 0..40),
    ) {
        prop_assume!(z.iter().all(|z| *z < 1e20));
        let s = Sampling { repetition_penalty, presence_penalty, frequency_penalty, ..s };
        let of = |i: usize| (i % z.len()) as u32;
        let seen_once = |generated: &u32| Seen { generated: *generated, prompt: true };
        let seen: BTreeMap<u32, Seen> = marks.iter().map(|(i, n, _)| (of(*i), seen_once(n))).collect();
        let mut banned: Vec<u32> = marks.iter().filter(|m| m.2).map(|m| of(m.0 / 2)).collect();
        // something must be left to draw
        banned.retain(|id| *id != 0 || z.len() == 1);
        if z.len() == 1 || z[0] == f32::NEG_INFINITY {
            banned.clear();
        }
        for tier in Tier::available() {
            compare(tier, &z, &s, &banned, &seen, 60)?;
            let (plain, nothing) = (Sampling::default(), BTreeMap::new());
            let raw = Draw { sampling: &plain, uniform: 0.5, forced: None, banned_ids: &[], seen: &nothing };
            let how = Draw { sampling: &s, uniform: 0.5, forced: None, banned_ids: &banned, seen: &seen };
            let bits = |how: &Draw<'_>| {
                let drawn = draw(tier, &z, how, &mut Scratch::default()).unwrap();
                (drawn.confidence.to_bits(), drawn.entropy.to_bits())
            };
            prop_assert_eq!(bits(&raw), bits(&how));
        }
    }

    #[test]
    fn confidence_is_the_definition(z in logits(), u in 0.0..1.0f64) {
        for tier in Tier::available() {
            let (plain, nothing) = (Sampling::default(), BTreeMap::new());
            let how = Draw { sampling: &plain, uniform: u, forced: None, banned_ids: &[], seen: &nothing };
            same_confidence(tier, &z, &draw(tier, &z, &how, &mut Scratch::default()).unwrap())?;
        }
    }
}

/// Token confidence `logsumexp(z) - mean(20 largest z)` of raw logits `[vocab]` the slow way: sorted, in f64,
/// around the maximum. Minus infinity is a mask.
fn confidence_from_logits(logits: &[f32]) -> f64 {
    let mut z: Vec<f64> = logits
        .iter()
        .filter(|z| z.is_finite())
        .map(|&z| f64::from(z))
        .collect();
    z.sort_unstable_by(|a, b| b.total_cmp(a));
    let logsumexp = z[0] + z.iter().rev().map(|x| (x - z[0]).exp()).sum::<f64>().ln();
    let averaged = z.len().min(20);
    logsumexp - z[..averaged].iter().sum::<f64>() / averaged as f64
}

#[test]
fn the_slow_confidence_has_its_known_values() {
    assert!(
        (confidence_from_logits(&[3.5; 40]) - 40f64.ln()).abs() < 1e-12,
        "a flat row"
    );
    let mut masked = vec![f32::NEG_INFINITY; 100];
    masked[7] = 2.0;
    assert_eq!(confidence_from_logits(&masked), 0.0);
    masked[50] = 2.0;
    assert!((confidence_from_logits(&masked) - 2f64.ln()).abs() < 1e-12);
    let mut extreme = [-3.0e38f32; 64];
    extreme[0] = 3.0e38;
    assert!(confidence_from_logits(&extreme).is_finite());
    // the same from log-probabilities
    let z: Vec<f32> = (0..200).map(|i| ((i * 37) % 101) as f32 * 0.13).collect();
    let max = z.iter().fold(f64::MIN, |m, &z| m.max(f64::from(z)));
    let logsumexp = max + z.iter().map(|&z| (f64::from(z) - max).exp()).sum::<f64>().ln();
    let mut logprobs: Vec<f64> = z.iter().map(|&z| f64::from(z) - logsumexp).collect();
    logprobs.sort_by(|a, b| b.total_cmp(a));
    let listed = confidence_of_logprobs(logprobs[..20].iter().copied()).unwrap();
    assert!((listed - confidence_from_logits(&z)).abs() < 1e-9);
}

fn same_confidence(tier: Tier, z: &[f32], d: &Drawn) -> Result<(), TestCaseError> {
    let want = confidence_from_logits(z);
    prop_assert!(
        (f64::from(d.confidence) - want).abs() <= 1e-5 * want.abs().max(1.0),
        "{tier}: {} instead of {want}",
        d.confidence
    );
    let max = z.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = z.iter().map(|z| (f64::from(*z) - f64::from(max)).exp()).sum();
    let logprob = f64::from(z[d.id as usize]) - f64::from(max) - sum.ln();
    prop_assert!(
        (f64::from(d.logprob) - logprob).abs() <= 1e-5 * logprob.abs().max(1.0),
        "{tier}: {} instead of {logprob}",
        d.logprob
    );
    Ok(())
}

fn noise(n: usize, seed: u64, scale: f32) -> Vec<f32> {
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    (0..n)
        .map(|_| {
            (0..4)
                .map(|_| random.next_u32() as f32 / u32::MAX as f32 - 0.5)
                .sum::<f32>()
                * scale
        })
        .collect()
}

/// The vocabulary of the 7B model.
#[test]
fn a_large_vocabulary_is_drawn_from_exactly() {
    for (seed, scale) in [(1, 4.0), (2, 25.0)] {
        let mut z = noise(130_048, seed, scale);
        z[130_000..].fill(f32::NEG_INFINITY);
        for tier in Tier::available() {
            for s in [
                Sampling::default(),
                Sampling {
                    temperature: 0.6,
                    top_p: 0.95,
                    ..Sampling::default()
                },
                Sampling {
                    top_k: 20,
                    ..Sampling::default()
                },
                Sampling {
                    temperature: 1.7,
                    top_k: 5000,
                    top_p: 0.9,
                    min_p: 0.01,
                    ..Sampling::default()
                },
                Sampling {
                    temperature: 0.0,
                    ..Sampling::default()
                },
            ] {
                compare(tier, &z, &s, &[], &BTreeMap::new(), 25).unwrap();
            }
            let how = Draw {
                sampling: &Sampling::default(),
                uniform: 0.7,
                forced: None,
                banned_ids: &[],
                seen: &BTreeMap::new(),
            };
            same_confidence(tier, &z, &draw(tier, &z, &how, &mut Scratch::default()).unwrap()).unwrap();
        }
    }
}

/// Logits that differ are told apart, also where the temperature makes their weights equal in f32.
#[test]
fn the_largest_logits_are_kept_at_any_temperature() {
    let z: Vec<f32> = (0..700).map(|i| 1.0 + 1e-6 * ((i * 37) % 700) as f32).collect();
    for tier in Tier::available() {
        for temperature in [1e-6, 1.0, 100.0] {
            for (top_k, top_p) in [(10, 1.0), (0, 0.013)] {
                let s = Sampling {
                    temperature,
                    top_k,
                    top_p,
                    ..Sampling::default()
                };
                compare(tier, &z, &s, &[], &BTreeMap::new(), 300).unwrap();
            }
        }
    }
}

/// Chi-square of two samples, and the same ids among those that must have come up.
#[test]
fn candle_draws_from_the_same_distribution() {
    const N: usize = 8000;
    let z = noise(60, 3, 8.0);
    let tensor = Tensor::new(z.as_slice(), &Device::Cpu).unwrap();
    for (ours, theirs) in [
        (
            Sampling {
                temperature: 0.7,
                ..Sampling::default()
            },
            Theirs::All { temperature: 0.7 },
        ),
        (
            Sampling {
                temperature: 1.6,
                top_k: 7,
                ..Sampling::default()
            },
            Theirs::TopK {
                k: 7,
                temperature: 1.6,
            },
        ),
        (
            Sampling {
                temperature: 1.2,
                top_p: 0.8,
                ..Sampling::default()
            },
            Theirs::TopP {
                p: 0.8,
                temperature: 1.2,
            },
        ),
        (
            Sampling {
                temperature: 0.0,
                ..Sampling::default()
            },
            Theirs::ArgMax,
        ),
    ] {
        let mut processor = LogitsProcessor::from_sampling(5, theirs);
        let (stream, mut scratch, seen) = (Stream::new(8, "candle", 2), Scratch::default(), BTreeMap::new());
        let mut counts = vec![[0u32; 2]; z.len()];
        for i in 0..N {
            let how = Draw {
                sampling: &ours,
                uniform: stream.uniform(i),
                forced: None,
                banned_ids: &[],
                seen: &seen,
            };
            counts[draw(Tier::detect(), &z, &how, &mut scratch).unwrap().id as usize][0] += 1;
            counts[processor.sample(&tensor).unwrap() as usize][1] += 1;
        }
        let often = |side: usize| {
            counts
                .iter()
                .enumerate()
                .filter(|(_, c)| c[0] + c[1] > 30 && c[side] > 0)
                .map(|(i, _)| i)
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(often(0), often(1), "{ours:?}");
        let (chi, cells) =
            counts
                .iter()
                .filter(|c| c[0] + c[1] > 10)
                .fold((0.0, 0), |(chi, cells), [a, b]| {
                    (
                        chi + (f64::from(*a) - f64::from(*b)).powi(2) / f64::from(a + b),
                        cells + 1,
                    )
                });
        let freedom = f64::from(cells - 1);
        assert!(
            chi <= freedom + 4.0 * (2.0 * freedom).sqrt(),
            "{ours:?}: chi-square {chi} at {freedom} degrees of freedom"
        );
    }
}

#[test]
fn streams_are_counter_based() {
    let all: Vec<f64> = (0..500).map(|i| Stream::new(7, "p", 3).uniform(i)).collect();
    let backwards = Stream::new(7, "p", 3);
    (0..500).rev().for_each(|i| {
        assert_eq!(
            backwards.uniform(i),
            all[i],
            "token {i} does not depend on the draws before it"
        )
    });
    // the documented layout: 16 words a token, of which the first two are used
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(b"tts trace stream 1")
        .update(&7u64.to_le_bytes())
        .update(b"p");
    let mut plain = ChaCha12Rng::from_seed(*hasher.finalize().as_bytes());
    plain.set_stream(3);
    for want in &all {
        let words: Vec<u64> = (0..16).map(|_| u64::from(plain.next_u32())).collect();
        let bits = words[0] | words[1] << 32;
        assert_eq!((bits >> 11) as f64 * 0.5f64.powi(53), *want);
    }
    for (seed, problem, trace) in [(8, "p", 3), (7, "q", 3), (7, "p", 4)] {
        let other = Stream::new(seed, problem, trace);
        assert!((0..500).filter(|i| other.uniform(*i) == all[*i]).count() == 0);
    }
    let mean = all.iter().sum::<f64>() / 500.0;
    assert!(
        all.iter().all(|u| (0.0..1.0).contains(u)) && (mean - 0.5).abs() < 0.06,
        "{mean}"
    );
}

#[test]
fn broken_logits_are_refused_and_settings_out_of_range_are_named() {
    let seen = BTreeMap::new();
    fn how<'a>(sampling: &'a Sampling, seen: &'a BTreeMap<u32, Seen>) -> Draw<'a> {
        Draw {
            sampling,
            uniform: 0.3,
            forced: None,
            banned_ids: &[],
            seen,
        }
    }
    let (default, greedy) = (
        Sampling::default(),
        Sampling {
            temperature: 0.0,
            ..Sampling::default()
        },
    );
    for tier in Tier::available() {
        for bad in [f32::NAN, f32::INFINITY] {
            for sampling in [&default, &greedy] {
                let mut z = noise(700, 1, 5.0);
                z[650] = bad;
                assert!(draw(tier, &z, &how(sampling, &seen), &mut Scratch::default()).is_err());
            }
        }
        assert!(
            draw(
                tier,
                &[f32::NEG_INFINITY; 40],
                &how(&default, &seen),
                &mut Scratch::default()
            )
            .is_err()
        );
        // a forced id has its own log-probability, and nothing but banned ids leaves nothing
        let z = noise(300, 2, 5.0);
        let forced = Draw {
            forced: Some(17),
            ..how(&greedy, &seen)
        };
        let drawn = draw(tier, &z, &forced, &mut Scratch::default()).unwrap();
        assert_eq!(drawn.id, 17);
        same_confidence(tier, &z, &drawn).unwrap();
        let banned: Vec<u32> = (0..300).collect();
        assert!(
            draw(
                tier,
                &z,
                &Draw {
                    banned_ids: &banned,
                    ..how(&default, &seen)
                },
                &mut Scratch::default()
            )
            .is_err()
        );
    }
    let d = Sampling::default;
    for (s, name) in [
        (
            Sampling {
                temperature: -1.0,
                ..d()
            },
            "temperature",
        ),
        (
            Sampling {
                temperature: f64::NAN,
                ..d()
            },
            "temperature",
        ),
        (Sampling { top_p: 0.0, ..d() }, "top-p"),
        (Sampling { top_p: 1.1, ..d() }, "top-p"),
        (Sampling { min_p: -0.1, ..d() }, "min-p"),
        (
            Sampling {
                repetition_penalty: 0.0,
                ..d()
            },
            "repetition penalty",
        ),
        (
            Sampling {
                presence_penalty: f64::NAN,
                ..d()
            },
            "presence penalty",
        ),
        (
            Sampling {
                frequency_penalty: 101.0,
                ..d()
            },
            "frequency penalty",
        ),
    ] {
        assert!(s.check().unwrap_err().starts_with(name));
    }
    assert!(d().check().is_ok());
}
