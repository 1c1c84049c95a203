//! Statistics against recorded values of other implementations.

use serde_json::Value;
use tts_evals::stats::{
    Discordant, Resamples, auroc, avg_at_n, clopper_pearson, expectation, mcnemar_exact, mean_pass_at_k, paired_bootstrap, pass_at_k,
    quantile, wilson, within_problem_auroc,
};

fn golden() -> Value {
    serde_json::from_str(include_str!("stats_golden.json")).expect("the golden file is JSON")
}

/// The numbers in a key such as "n=10,c=3,k=1".
fn numbers(key: &str) -> Vec<u64> {
    key.split(|c: char| !c.is_ascii_digit())
        .filter(|s| !s.is_empty())
        .map(|s| s.parse().expect("digits"))
        .collect()
}

fn close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance, "{a} is not {b}");
}

#[test]
fn intervals() {
    for (share, ends) in golden()["interval95"].as_object().expect("an object") {
        let n = numbers(share);
        let end = |name: &str, i: usize| ends[name][i].as_f64().expect("a number");
        let w = wilson(n[0], n[1], 0.95).expect("a share");
        let c = clopper_pearson(n[0], n[1], 0.95).expect("a share");
        close(w.low, end("wilson", 0), 1e-6);
        close(w.high, end("wilson", 1), 1e-6);
        close(c.low, end("clopper_pearson", 0), 1e-6);
        close(c.high, end("clopper_pearson", 1), 1e-6);
    }
    assert!(wilson(3, 2, 0.95).is_err());
    assert!(wilson(0, 0, 0.95).is_err());
    assert!(clopper_pearson(1, 2, 1.0).is_err());
}

#[test]
fn pass_at_k_is_the_golden_and_undefined_when_too_few() {
    for (key, value) in golden()["pass@k"].as_object().expect("an object") {
        let n = numbers(key);
        close(
            pass_at_k(n[0], n[1], n[2]).expect("defined"),
            value.as_f64().expect("a number"),
            1e-9,
        );
    }
    assert_eq!(pass_at_k(4, 4, 8), None);
    assert_eq!(mean_pass_at_k(&[(8, 8), (4, 4)], 8), None);
    close(mean_pass_at_k(&[(10, 3), (10, 10)], 1).expect("defined"), 0.65, 1e-12);
}

#[test]
fn mcnemar() {
    for (key, value) in golden()["mcnemar_exact_two_sided"].as_object().expect("an object") {
        let n = numbers(key);
        let d = Discordant {
            only_a: n[0],
            only_b: n[1],
        };
        close(mcnemar_exact(d), value.as_f64().expect("a number"), 1e-8);
    }
    let d = Discordant::count(&[true, true, false], &[false, true, true]).expect("paired");
    assert_eq!((d.only_a, d.only_b), (1, 1));
    assert!(Discordant::count(&[true], &[]).is_err());
}

#[test]
fn clustered_standard_error() {
    let golden = golden();
    let expected = &golden["clustered_se [[1,0,1,0],[1,1,0,0],[0,1,1,1]]"];
    let groups = [vec![1.0, 0.0, 1.0, 0.0], vec![1.0, 1.0, 0.0, 0.0], vec![0.0, 1.0, 1.0, 1.0]];
    let avg = avg_at_n(&groups).expect("traces");
    let number = |key: &str| expected[key].as_f64().expect("a number");
    close(avg.mean, number("mean"), 1e-12);
    close(avg.se, number("se_cluster_inspect"), 1e-12);
    close(avg.se_large_sample, number("se_cluster_miller"), 1e-12);
    close(avg.se_naive, number("se_naive"), 1e-12);
}

#[test]
fn auroc_equals_counting_pairs() {
    let scored = [(1.0, true), (0.5, false), (0.5, true), (0.2, false), (0.9, false), (0.1, true)];
    let mut wins = 0.0;
    let mut pairs = 0.0;
    for (a, _) in scored.iter().filter(|s| s.1) {
        for (b, _) in scored.iter().filter(|s| !s.1) {
            pairs += 1.0;
            wins += if a > b {
                1.0
            } else if a == b {
                0.5
            } else {
                0.0
            };
        }
    }
    close(auroc(&scored).expect("both kinds"), wins / pairs, 1e-12);
    assert_eq!(auroc(&[(1.0, true)]), None);
    let problems = vec![scored.to_vec(), vec![(1.0, true)], vec![(2.0, true), (1.0, false)]];
    let within = within_problem_auroc(&problems, 200, 0.95, 1).expect("defined");
    assert_eq!(within.problems, 2);
    assert!(within.interval.low <= within.mean && within.mean <= within.interval.high);
}

#[test]
fn quantiles_are_of_type_seven() {
    // numpy.quantile([1, 2, 4, 8], q)
    let values = [1.0, 2.0, 4.0, 8.0];
    for (p, expected) in [(0.0, 1.0), (0.1, 1.3), (0.5, 3.0), (0.9, 6.8), (1.0, 8.0)] {
        close(quantile(&values, p).expect("values"), expected, 1e-12);
    }
    assert_eq!(quantile(&[], 0.5), None);
}

#[test]
fn resampling_is_seeded_and_fair() {
    let resamples = Resamples {
        n: 10,
        k: 4,
        count: 2000,
        seed: 3,
        stream: 7,
    };
    let first: Vec<_> = resamples.subsets().take(5).collect();
    assert_eq!(first, resamples.subsets().take(5).collect::<Vec<_>>());
    assert_ne!(first, Resamples { stream: 8, ..resamples }.subsets().take(5).collect::<Vec<_>>());
    assert_eq!(Resamples { k: 11, ..resamples }.subsets().count(), 0);
    // Every trace is drawn equally often.
    let (share, _) = expectation(resamples, 0.95, |s| f64::from(u8::from(s.contains(&0)))).expect("subsets");
    close(share, 0.4, 0.04);
    let a = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0];
    let b = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0];
    let d = paired_bootstrap(&a, &b, 500, 0.95, 9).expect("paired");
    close(d.difference, 1.0 / 3.0, 1e-12);
    assert_eq!(d, paired_bootstrap(&a, &b, 500, 0.95, 9).expect("paired"));
    assert!(d.interval.low >= 0.0 && d.interval.high <= 1.0);
    assert!(paired_bootstrap(&a, &b[..2], 500, 0.95, 9).is_err());
}
