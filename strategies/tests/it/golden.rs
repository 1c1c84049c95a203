//! Numbers of the DeepConf reference code (its `utils.py` under NumPy), `fixtures/deepconf_golden.json`.
//!
//! Where we differ on purpose:
//! - The reference rounds token confidences and the groups of its lowest group to three decimals; ours are
//!   not rounded. The rounded numbers are reproduced here from ours.
//! - A trace whose list of log-probabilities holds minus infinity has an infinite confidence there; ours
//!   leaves it out.
//! - The reference breaks a tied vote by what it met first; ours by weight, number of traces, lowest index.
//!   Its final answer is the unweighted majority whatever the vote was; ours is decided by the vote that the
//!   strategy names.

use serde_json::Value;
use tts_strategies::{
    ClassId, Tally, TokenSeries, TraceScores, VoteKind, Voter, confidence_of_logprobs, keep_top_bar,
    percentile, windows,
};

fn golden() -> Value {
    // Python's infinity is not JSON.
    serde_json::from_str(&include_str!("../fixtures/deepconf_golden.json").replace("Infinity", "\"inf\""))
        .unwrap()
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect()
}

/// The confidences that the golden traces were made of: a 32-bit congruential generator, 8.000 to 19.999.
fn trace(seed: u32, n: usize) -> Vec<f64> {
    let mut x = seed;
    let mut next = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(8000 + (x >> 8) % 12_000) / 1000.0
    };
    (0..n).map(|_| next()).collect()
}

/// The confidence that the reference code computes from a server's list: the mean runs over the list plus the
/// sampled token when that is outside the list (20 or 21 entries), infinities included, and is rounded to
/// three decimals. `None` for an empty position, which the reference skips.
fn reference_confidence(top: &[f64], sampled_outside: Option<f64>) -> Option<f64> {
    let n = top.len() + usize::from(sampled_outside.is_some());
    if n == 0 {
        return None;
    }
    let sum: f64 = top.iter().sum::<f64>() + sampled_outside.unwrap_or(0.0);
    Some(round3(-sum / n as f64))
}

/// Rounds to three decimals as NumPy does: scale, round half to even, scale back.
fn round3(x: f64) -> f64 {
    (x * 1000.0).round_ties_even() / 1000.0
}

#[test]
fn rounding_is_numpys() {
    for case in golden()["rounding"].as_array().unwrap() {
        assert_eq!(
            round3(case["x"].as_f64().unwrap()),
            case["np_round"].as_f64().unwrap(),
            "{case}"
        );
    }
}

#[test]
fn token_confidence() {
    let g = &golden()["token_conf"];
    let top = numbers(&g["top20"]);
    let exact = confidence_of_logprobs(top.iter().copied()).unwrap();
    assert!((exact - g["exact20"].as_f64().unwrap()).abs() < 1e-14);
    assert_eq!(reference_confidence(&top, None), g["conf20"][0].as_f64());
    assert_eq!(
        reference_confidence(&top, Some(-17.25)),
        g["with_sampled_-17.25"][0].as_f64()
    );
    assert_eq!(reference_confidence(&[], None), None);
    assert_eq!(
        reference_confidence(&[-0.1, f64::NEG_INFINITY], None),
        Some(f64::INFINITY)
    );
    let mut masked = top;
    masked[19] = f64::NEG_INFINITY;
    let without = confidence_of_logprobs(masked[..19].iter().copied());
    assert_eq!(confidence_of_logprobs(masked), without);
}

#[test]
fn the_generator_is_the_goldens() {
    for (seed, values) in golden()["lcg_first"].as_object().unwrap() {
        assert_eq!(trace(seed.parse().unwrap(), 6), numbers(values));
    }
}

#[test]
fn groups_and_their_lowest() {
    let g = &golden()["least_grouped"];
    let confs = numbers(&g["confs"]);
    let rounded = |w| {
        windows::groups(&confs, w)
            .into_iter()
            .map(round3)
            .collect::<Vec<_>>()
    };
    assert_eq!(rounded(4), numbers(&g["w4"]));
    assert_eq!(rounded(12), numbers(&g["w12"]));
    assert!(rounded(13).is_empty());
    let short = windows::lowest_group(&confs, 13);
    assert!((short - g["w13_short"][0].as_f64().unwrap()).abs() < 1e-12);
    assert_eq!(
        windows::lowest_group::<f64>(&[], 4),
        g["empty"][0].as_f64().unwrap()
    );
}

#[test]
fn trace_statistics() {
    for case in golden()["trace_metrics"].as_array().unwrap() {
        let c = trace(
            case["seed"].as_u64().unwrap() as u32,
            case["n"].as_u64().unwrap() as usize,
        );
        let close = |got: f64, field: &str| {
            let want = case[field].as_f64().unwrap();
            assert!((got - want).abs() < 1e-10, "{field} of {case}: {got}");
        };
        close(windows::mean(&c), "mean");
        close(windows::tail(&c, 2048), "tail");
        close(windows::bottom(&c, 2048, 0.1), "bottom10");
        let lowest = windows::lowest_group(&c, 2048);
        close(lowest, "min");
        if let Some(want) = case["min_conf_rounded"].as_f64() {
            let ours = if c.len() < 2048 { lowest } else { round3(lowest) };
            assert!((ours - want).abs() < 1e-12, "{case}: {ours}");
        }
        // What a run keeps is f32: the same to 1e-6.
        let kept: Vec<f32> = c.iter().map(|&c| c as f32).collect();
        let s = TraceScores::new(
            &TokenSeries {
                confidences: &kept,
                ..TokenSeries::default()
            },
            None,
            Some(2048),
        );
        for (got, want) in [
            (s.mean, "mean"),
            (s.tail, "tail"),
            (s.bottom, "bottom10"),
            (s.lowest_group, "min"),
        ] {
            assert!((got.unwrap() - case[want].as_f64().unwrap()).abs() < 1e-6);
        }
    }
}

#[test]
fn percentiles_to_the_last_bit() {
    for case in golden()["percentile"].as_array().unwrap() {
        let x = numbers(&case["x"]);
        let kept = |bar| x.iter().filter(|&&v| v >= bar).count() as u64;
        for (q, keep, p, n) in [(90.0, 0.10, "p90", "n_ge_p90"), (10.0, 0.90, "p10", "n_ge_p10")] {
            let bar = percentile(&x, q).unwrap();
            assert_eq!(bar, case[p].as_f64().unwrap(), "{case}");
            assert_eq!(keep_top_bar(&x, keep).unwrap(), bar);
            assert_eq!(kept(bar), case[n].as_u64().unwrap());
        }
    }
}

fn voter(trace: u32, class: u32, tail: f64) -> Voter {
    Voter {
        trace,
        class: ClassId(class),
        scores: TraceScores {
            tail: Some(tail),
            ..TraceScores::default()
        },
    }
}

#[test]
fn the_top_tenth_keeps_as_many() {
    let g = golden();
    for (n, kept) in g["top10_kept"].as_object().unwrap() {
        let n: u32 = n.parse().unwrap();
        let distinct: Vec<Voter> = (0..n).map(|i| voter(i, i, 10.0 + 0.37 * f64::from(i))).collect();
        let tally = Tally::hold(VoteKind::Top10Tail, &distinct).unwrap();
        assert_eq!(tally.voters() as u64, kept.as_u64().unwrap(), "of {n}");
        let formula = f64::from(n) - (0.9 * (f64::from(n) - 1.0) - 1e-9).ceil();
        assert_eq!(tally.voters() as f64, formula);
    }
    let equal: Vec<Voter> = (0..20).map(|i| voter(i, i, 12.5)).collect();
    let tally = Tally::hold(VoteKind::Top10Tail, &equal).unwrap();
    assert_eq!(tally.voters() as u64, g["top10_all_equal_20"].as_u64().unwrap());
}
