//! Draws against the processor's for the same logits.

use std::collections::BTreeMap;

use super::super::device::bytes_of;
use super::super::draw::{Draw, Draws};
use super::{Order, bare};
use crate::cpu::draw::{self, Seen};
use crate::cpu::kernels::Tier;
use crate::sampling::{Sampling, Stream};

/// Logits that look like a model's: few large, many small, some equal, some masked.
fn logits(vocab: usize, seed: usize) -> Vec<f32> {
    let stream = Stream::new(7, "logits", seed as u32);
    let number = |i: usize| {
        let z = -3.0 * (1.0 - stream.uniform(i)).ln() as f32;
        match i % 97 {
            13 => f32::NEG_INFINITY,
            // ties
            14..20 => (z * 2.0).round() / 2.0,
            _ => z,
        }
    };
    (0..vocab).map(number).collect()
}

fn settings() -> Vec<Sampling> {
    let plain = Sampling::default();
    let with = |change: &dyn Fn(&mut Sampling)| {
        let mut sampling = plain.clone();
        change(&mut sampling);
        sampling
    };
    vec![
        plain.clone(),
        with(&|s| s.temperature = 0.0),
        with(&|s| (s.temperature, s.top_p) = (0.6, 0.95)),
        with(&|s| (s.temperature, s.top_p) = (1.5, 0.5)),
        with(&|s| s.top_k = 20),
        with(&|s| (s.top_k, s.top_p) = (40, 0.9)),
        with(&|s| s.min_p = 0.05),
        with(&|s| (s.top_k, s.top_p, s.min_p, s.temperature) = (50, 0.95, 0.02, 0.8)),
        with(&|s| (s.repetition_penalty, s.presence_penalty, s.frequency_penalty) = (1.3, 0.4, 0.1)),
        with(&|s| (s.repetition_penalty, s.top_p) = (1.2, 0.8)),
    ]
}

#[test]
fn the_device_draws_what_the_processor_draws() {
    draws_are_equal(Order::Ascending, &[37, 513, 3001]);
}

pub(super) fn draws_are_equal(order: Order, vocabularies: &[usize]) {
    let device = bare(order);
    let seen: BTreeMap<u32, Seen> = (0..40u32)
        .map(|i| {
            (
                i * 11,
                Seen {
                    generated: i % 3,
                    prompt: true,
                },
            )
        })
        .collect();
    let mut compared = 0;
    for &vocab in vocabularies {
        let mut draws = Draws::new();
        let rows: Vec<Vec<f32>> = (0..3).map(|seed| logits(vocab, seed)).collect();
        let memory = device.alloc(rows.len() * vocab * 4).unwrap();
        for (i, row) in rows.iter().enumerate() {
            device.write(memory.at.plus((i * vocab * 4) as u64), &bytes_of(row));
        }
        let seen: BTreeMap<u32, Seen> = seen
            .range(..vocab as u32)
            .map(|(id, seen)| (*id, *seen))
            .collect();
        let banned = [1, 5, 36];
        for sampling in settings() {
            let cases: Vec<(usize, f64, Option<u32>)> = (0..3)
                .flat_map(|row| [0.0, 0.1, 0.37, 0.62, 0.9, 0.999_999].map(|u| (row, u, None)))
                .chain([(1, 0.5, Some(9))])
                .collect();
            let list: Vec<Draw<'_>> = cases
                .iter()
                .map(|(row, uniform, forced)| Draw {
                    logits: memory.at.plus((row * vocab * 4) as u64),
                    sampling: &sampling,
                    uniform: *uniform,
                    forced: *forced,
                    banned: if *row == 2 { &banned } else { &[] },
                    seen: Some(&seen).filter(|_| sampling.has_penalties()),
                })
                .collect();
            draws.launch(&*device, vocab, &list).unwrap();
            assert_eq!(device.failure(), None);
            let came: Vec<_> = draws.collect(&*device, list.len()).collect();
            for ((case, like), came) in cases.iter().zip(&list).zip(came) {
                let (row, uniform, forced) = *case;
                let how = draw::Draw {
                    sampling: &sampling,
                    uniform,
                    forced,
                    banned_ids: like.banned,
                    seen: &seen,
                };
                let mut scratch = draw::Scratch::default();
                let want = draw::draw(Tier::Portable, &rows[row], &how, &mut scratch).unwrap();
                let got = came.unwrap().drawn;
                assert_eq!(got.id, want.id, "{vocab} ids, row {row}, {uniform}, {sampling:?}");
                for (got, want) in [
                    (got.logprob, want.logprob),
                    (got.confidence, want.confidence),
                    (got.entropy, want.entropy),
                    (got.self_certainty, want.self_certainty),
                ] {
                    // exponentials are rounded otherwise
                    assert!(
                        (got - want).abs() <= 1e-5 * want.abs().max(1.0),
                        "{got} instead of {want}"
                    );
                }
                assert!(
                    got.top
                        .iter()
                        .zip(want.top)
                        .all(|(a, b)| *a == b || (a - b).abs() <= 1e-5 * b.abs().max(1.0))
                );
                compared += 1;
            }
        }
    }
    assert_eq!(compared, vocabularies.len() * 10 * 19);
}

#[test]
fn logits_that_are_no_numbers_are_said_to_be() {
    let device = bare(Order::Shuffled);
    let (mut draws, sampling) = (Draws::new(), Sampling::default());
    for bad in [f32::NAN, f32::INFINITY] {
        let mut rows = [logits(300, 1), logits(300, 2), vec![f32::NEG_INFINITY; 300]];
        rows[1][7] = bad;
        let memory = device.alloc(3 * 300 * 4).unwrap();
        device.write(memory.at, &bytes_of(&rows.concat()));
        let list: Vec<Draw<'_>> = (0..3u64)
            .map(|row| Draw {
                logits: memory.at.plus(row * 1200),
                sampling: &sampling,
                uniform: 0.5,
                forced: None,
                banned: &[],
                seen: None,
            })
            .collect();
        draws.launch(&*device, 300, &list).unwrap();
        let sound: Vec<bool> = draws.collect(&*device, 3).map(|came| came.is_ok()).collect();
        assert_eq!(sound, [true, false, false]);
    }
}
