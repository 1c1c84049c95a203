//! Statistics against recorded values of other implementations.

use serde_json::Value;
use tts_evals::stats::{
    Curve, Discordant, Interval, Point, Resamples, auroc, avg_at_n, clopper_pearson, compare, expectation,
    histogram, mcnemar_exact, mean_pass_at_k, paired_bootstrap, pareto, pass_at_k, quantile, reliability,
    right_by_rank, spread, wilson, within_problem_auroc,
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
    close(
        mean_pass_at_k(&[(10, 3), (10, 10)], 1).expect("defined"),
        0.65,
        1e-12,
    );
}

#[test]
fn mcnemar() {
    for (key, value) in golden()["mcnemar_exact_two_sided"]
        .as_object()
        .expect("an object")
    {
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
    let groups = [
        vec![1.0, 0.0, 1.0, 0.0],
        vec![1.0, 1.0, 0.0, 0.0],
        vec![0.0, 1.0, 1.0, 1.0],
    ];
    let avg = avg_at_n(&groups).expect("traces");
    let number = |key: &str| expected[key].as_f64().expect("a number");
    close(avg.mean, number("mean"), 1e-12);
    close(avg.se, number("se_cluster_inspect"), 1e-12);
    close(avg.se_large_sample, number("se_cluster_miller"), 1e-12);
    close(avg.se_naive, number("se_naive"), 1e-12);
}

#[test]
fn auroc_equals_counting_pairs() {
    let scored = [
        (1.0, true),
        (0.5, false),
        (0.5, true),
        (0.2, false),
        (0.9, false),
        (0.1, true),
    ];
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
    let problems = vec![
        scored.to_vec(),
        vec![(1.0, true)],
        vec![(2.0, true), (1.0, false)],
    ];
    let within = within_problem_auroc(&problems, 200, 0.95, 1).expect("defined");
    assert_eq!(within.problems, 2);
    let first = wins / pairs;
    close(within.mean, f64::midpoint(first, 1.0), 1e-12);
    close(
        within.sd.expect("two problems"),
        (1.0 - first) / 2f64.sqrt(),
        1e-12,
    );
    // Of two problems a quarter of the draws hold only one of them, and a quarter only the other.
    assert_eq!(
        within.interval,
        Some(Interval {
            low: first,
            high: 1.0
        })
    );
    let one = within_problem_auroc(&problems[..1], 200, 0.95, 1).expect("defined");
    assert_eq!(
        (one.interval, one.sd, one.problems),
        (None, None, 1),
        "one problem tells nothing of others"
    );
    assert!(within_problem_auroc(&problems[1..2], 200, 0.95, 1).is_err());
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
    assert_ne!(
        first,
        Resamples {
            stream: 8,
            ..resamples
        }
        .subsets()
        .take(5)
        .collect::<Vec<_>>()
    );
    assert_eq!(Resamples { k: 11, ..resamples }.subsets().count(), 0);
    for (small, large) in resamples
        .subsets()
        .zip(Resamples { k: 10, ..resamples }.subsets())
    {
        assert_eq!(small, large[..4], "a smaller budget is the head of a larger one");
        let mut all = large.clone();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>(), "without replacement");
    }
    // The order is drawn too: the first of the subset is every trace equally often.
    let mut first = [0; 10];
    resamples.subsets().for_each(|s| first[s[0]] += 1);
    assert!(first.iter().all(|n| (150..=250).contains(n)), "{first:?}");
    // Every trace is drawn equally often.
    let (share, _) = expectation(resamples, 0.95, |s| f64::from(u8::from(s.contains(&0)))).expect("subsets");
    close(share, 0.4, 0.04);
    let a = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0];
    let b = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0];
    let d = paired_bootstrap(&a, &b, 500, 0.95, 9).expect("paired");
    close(d.difference, 1.0 / 3.0, 1e-12);
    assert_eq!(d, paired_bootstrap(&a, &b, 500, 0.95, 9).expect("paired"));
    let interval = d.interval.expect("six problems");
    assert!(
        interval.low >= 0.0
            && interval.low < d.difference
            && d.difference < interval.high
            && interval.high <= 1.0
    );
    assert_eq!(
        paired_bootstrap(&a[..1], &b[..1], 500, 0.95, 9)
            .expect("paired")
            .interval,
        None
    );
    assert!(paired_bootstrap(&a, &b[..2], 500, 0.95, 9).is_err());
}

#[test]
fn six_discordant_problems_all_one_way_are_the_fewest_that_tell() {
    let p = |only_a, only_b| mcnemar_exact(Discordant { only_a, only_b });
    assert!(p(5, 0) > 0.05 && p(6, 0) < 0.05 && p(6, 1) > 0.05);
    // Far beyond where 2^-n is 0 in floating point: 2 P(Z > 2.008) with the continuity correction, and
    // certainty.
    close(p(1050, 960), 0.0471, 2e-3);
    close(p(2000, 2000), 1.0, 1e-12);
    assert!(p(0, 3000) < 1e-300);
}

#[test]
fn reliability_by_hand() {
    let scored = [
        (0.05, false),
        (0.15, true),
        (0.95, true),
        (0.85, true),
        (0.9, false),
        (1.0, true),
    ];
    let r = reliability(&scored, 5, 0.95).expect("probabilities");
    let bins: Vec<(usize, f64, f64)> = r.bins.iter().map(|b| (b.count, b.low, b.right)).collect();
    assert_eq!(bins, [(2, 0.0, 0.5), (4, 0.8, 0.75)], "empty bins are left out");
    close(r.bins[1].score, 0.925, 1e-12);
    close(r.calibration_error, (2.0 * 0.4 + 4.0 * 0.175) / 6.0, 1e-12);
    let squares = [0.05f64, 0.85, 0.05, 0.15, 0.9, 0.0]
        .map(|d| d * d)
        .iter()
        .sum::<f64>();
    close(r.brier, squares / 6.0, 1e-12);
    assert_eq!(r.bins[1].interval, wilson(3, 4, 0.95).expect("a share"));
    assert!(
        reliability(&[(1.1, true)], 5, 0.95)
            .expect_err("no probability")
            .to_string()
            .contains("1.1")
    );
    assert!(reliability(&[(f64::NAN, true)], 5, 0.95).is_err());
    assert!(reliability(&[], 5, 0.95).is_err());
    assert!(reliability(&scored, 0, 0.95).is_err());
}

#[test]
fn bins_by_rank_hold_equal_scores_together() {
    let scored: Vec<(f64, bool)> = [9.0, 3.0, 3.0, 3.0, 1.0, 2.0, 7.0, 8.0]
        .map(|s| (s, s > 2.5))
        .to_vec();
    let bins = right_by_rank(&scored, 4, 0.95).expect("scores");
    let ends: Vec<(f64, f64, usize, f64)> = bins.iter().map(|b| (b.low, b.high, b.count, b.right)).collect();
    assert_eq!(
        ends,
        [
            (1.0, 2.0, 2, 0.0),
            (3.0, 3.0, 3, 1.0),
            (7.0, 7.0, 1, 1.0),
            (8.0, 9.0, 2, 1.0)
        ]
    );
    assert_eq!(
        right_by_rank(&[(4.0, true); 9], 3, 0.95).expect("scores").len(),
        1
    );
    assert!(right_by_rank(&[(f64::INFINITY, true)], 3, 0.95).is_err());
}

#[test]
fn histograms_count_everything_once() {
    let scored = [
        (1.0, true),
        (2.0, false),
        (2.999, true),
        (3.0, false),
        (5.0, true),
        (f64::NAN, true),
    ];
    let h = histogram(&scored, 4).expect("scores");
    assert_eq!(h.edges, [1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(
        (h.right, h.wrong, h.left_out),
        (vec![1, 1, 0, 1], vec![0, 1, 1, 0], 1)
    );
    let same = histogram(&[(7.0, true); 3], 3).expect("scores");
    assert_eq!((same.right, same.edges[0]), (vec![0, 3, 0], 6.5));
    assert!(histogram(&[(f64::NAN, true)], 3).is_err());
}

fn points(list: &[(f64, f64)]) -> Vec<Point> {
    list.iter()
        .map(|&(tokens, accuracy)| Point { tokens, accuracy })
        .collect()
}

#[test]
fn the_pareto_set_by_hand() {
    let all = points(&[
        (100.0, 0.5),
        (200.0, 0.6),
        (200.0, 0.55),
        (300.0, 0.6),
        (400.0, 0.7),
        (200.0, 0.6),
    ]);
    assert_eq!(pareto(&all), [true, true, false, false, true, true]);
}

#[test]
fn curves_are_linear_in_the_logarithm_of_tokens() {
    let majority = Curve::new(&points(&[(1600.0, 0.9), (100.0, 0.5), (400.0, 0.7)])).expect("a curve");
    let other = Curve::new(&points(&[(50.0, 0.6), (800.0, 1.0)])).expect("a curve");
    close(majority.accuracy_at(200.0).expect("inside"), 0.6, 1e-12);
    assert_eq!(
        (majority.accuracy_at(99.0), majority.accuracy_at(1601.0)),
        (None, None)
    );
    assert_eq!(
        (majority.accuracy_at(100.0), majority.accuracy_at(1600.0)),
        (Some(0.5), Some(0.9))
    );
    close(majority.tokens_at(0.6).expect("reached"), 200.0, 1e-9);
    assert_eq!(
        (majority.tokens_at(0.4), majority.tokens_at(0.95)),
        (Some(100.0), None)
    );
    let shared = Curve::shared(&[majority.clone(), other.clone()]).expect("they overlap");
    assert_eq!(
        shared,
        Interval {
            low: 100.0,
            high: 800.0
        }
    );
    // Straight lines in the logarithm: the mean is the middle of the ends (0.5 and 0.8; 0.7 and 1).
    close(majority.area(shared).expect("covered"), 0.65, 1e-12);
    close(other.area(shared).expect("covered"), 0.85, 1e-12);
    assert_eq!(
        other.area(Interval {
            low: 10.0,
            high: 60.0
        }),
        None
    );
    // 0.9 at 1600 tokens against 0.9 at 50 * 16^(3/4) = 400.
    close(other.saving_against(&majority).expect("as accurate"), 0.75, 1e-12);
    assert_eq!(majority.saving_against(&other), None);
    let apart = Curve::new(&points(&[(5000.0, 0.6)])).expect("a curve");
    assert_eq!(Curve::shared(&[majority, apart]), None);
    assert!(Curve::new(&points(&[(0.0, 0.6)])).is_err() && Curve::new(&[]).is_err());
    let double = Curve::new(&points(&[(10.0, 0.6), (10.0, 0.8)])).expect("a curve");
    assert_eq!(double.accuracy_at(10.0), Some(0.8));
}

#[test]
fn the_two_sources_of_spread_are_apart() {
    // Whole problems are right or wrong: which traces are drawn changes nothing.
    let hard_or_easy: Vec<Vec<f64>> = (0..10).map(|p| vec![f64::from(p % 2); 8]).collect();
    let s = spread(&hard_or_easy, 0.95, 5).expect("scores");
    assert_eq!((s.mean, s.traces), (0.5, Interval { low: 0.5, high: 0.5 }));
    let problems = s.problems.expect("ten problems");
    assert!(
        (0.1..=0.3).contains(&problems.low) && (0.7..=0.9).contains(&problems.high),
        "{problems:?}"
    );
    // Every problem alike, resamples not: which problems are drawn changes nothing.
    let lucky: Vec<Vec<f64>> = (0..10)
        .map(|_| (0..8).map(|r| f64::from(r % 2)).collect())
        .collect();
    let s = spread(&lucky, 0.95, 5).expect("scores");
    assert_eq!(
        (s.traces, s.problems),
        (
            Interval { low: 0.0, high: 1.0 },
            Some(Interval { low: 0.5, high: 0.5 })
        )
    );
    assert_eq!(spread(&lucky[..1], 0.95, 5).expect("scores").problems, None);
    assert!(spread(&[vec![1.0], vec![1.0, 0.0]], 0.95, 5).is_err());
    assert!(spread(&[vec![], vec![]], 0.95, 5).is_err() && spread(&[], 0.95, 5).is_err());
    assert!(spread(&lucky, 1.0, 5).is_err());
}

#[test]
fn comparisons_are_paired() {
    let column = |right: &[u8]| right.iter().map(|&x| vec![x == 1]).collect::<Vec<_>>();
    let a = column(&[1, 1, 1, 1, 1, 1, 1, 0]);
    let b = column(&[0, 0, 0, 0, 0, 0, 1, 1]);
    let c = compare(&a, &b, 0.95, 1).expect("paired");
    assert_eq!((c.only_a, c.only_b), (6.0, 1.0));
    close(c.p, 0.125, 1e-12);
    close(c.difference.mean, 5.0 / 8.0, 1e-12);
    assert_eq!(
        c.difference.traces.low, c.difference.traces.high,
        "one resample has no spread"
    );
    // p of the three resamples: 1, 0.03125 (six to none), 0.0703 (seven to one); twice the median.
    let a: Vec<Vec<bool>> = (0..8).map(|p| vec![p == 9, p < 6, p < 7]).collect();
    let b: Vec<Vec<bool>> = (0..8).map(|p| vec![false, false, p == 7]).collect();
    let c = compare(&a, &b, 0.95, 1).expect("paired");
    assert_eq!(c.p, 2.0 * mcnemar_exact(Discordant { only_a: 7, only_b: 1 }));
    assert_eq!((c.only_a, c.only_b), (13.0 / 3.0, 1.0 / 3.0));
    assert!(compare(&a, &b[..7], 0.95, 1).is_err());
    assert!(compare(&column(&[1]), &a[..1], 0.95, 1).is_err());
    assert!(compare(&[], &[], 0.95, 1).is_err());
}
