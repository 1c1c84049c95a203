//! Rules that stop when the data are clear: Best-of-infinity and CGES; and weighted votes.

use tts_strategies::{ClassId, Finish, Limits, Needs, Next, Overrides, Strategy, TraceOutcome, VoteKind};

use crate::sim::build;

/// Ends traces of (class, mean log-probability) one after the other; how many it took.
fn feed(s: &mut dyn Strategy, traces: &[(u32, f32)]) -> Option<usize> {
    s.begin(&Limits {
        traces: traces.len(),
        slots: 1,
        max_tokens: 9,
    });
    for (i, &(class, logprob)) in traces.iter().enumerate() {
        let next = s.finished(&TraceOutcome {
            trace: i as u32,
            finish: Finish::Stop,
            tokens: 3,
            class: Some(ClassId(class)),
            confidences: &[],
            logprobs: &[logprob; 3],
            entropies: &[],
            self_certainty: Some(f64::from(i as u32)),
            measured: None,
        });
        if next == Next::Done {
            return Some(i + 1);
        }
    }
    None
}

fn with(name: &str, o: Overrides) -> Box<dyn Strategy> {
    build(name, o)
}

#[test]
fn best_of_infinity_stops_at_the_bayes_factor() {
    // K P/(1-P) for these counts and 0.3 traces of an unseen answer, by adaptive quadrature over the gamma
    // densities in SciPy.
    let golden: [(&[usize], f64); 9] = [
        (&[1], 4.062594352612074),
        (&[2], 9.229513451639498),
        (&[3], 19.137674043319777),
        (&[4], 38.20507026721208),
        (&[3, 1], 9.460403719114327),
        (&[5, 2, 1], 16.628745911694146),
        (&[6, 1], 61.95924390880094),
        (&[9, 3, 3, 1], 52.024218061206334),
        (&[40, 30, 2, 1, 1], 45.04263896340873),
    ];
    for (counts, factor) in golden {
        // The other answers first, so that the leader's last trace is the one that may end the run.
        let mut traces = Vec::new();
        for (class, &n) in counts.iter().enumerate().rev() {
            traces.extend(vec![(class as u32, -0.5); n]);
        }
        for (bar, stops) in [(factor * (1.0 - 1e-6), true), (factor * (1.0 + 1e-6), false)] {
            let o = Overrides::default().with("bayes_factor", bar);
            let end = feed(&mut *with("best-of-infinity", o), &traces);
            if stops {
                assert!(end.is_some(), "{counts:?} at {bar}");
            } else if counts.len() == 1 {
                assert_eq!(end, None, "{counts:?} at {bar}");
            } else {
                // It may have ended early, while one of the others was alone; never at the very end.
                assert_ne!(end, Some(traces.len()), "{counts:?} at {bar}");
            }
        }
    }
    let mut s = with("best-of-infinity", Overrides::default());
    assert_eq!(
        (s.needs(), feed(&mut *s, &[(7, 0.0); 9])),
        (Needs::default(), Some(3)),
        "19.1 at three of three"
    );
    assert_eq!(s.decide().answer, Some(ClassId(7)));
    let all = [(0, 0.0), (1, 0.0), (2, 0.0), (3, 0.0), (4, 0.0), (5, 0.0)];
    assert_eq!(feed(&mut *s, &all), None, "six answers, six traces");
    let wide = Overrides::default().with("unknown", 5.0);
    assert!(feed(&mut *with("best-of-infinity", wide), &[(7, 0.0); 40]) > Some(3));
}

#[test]
fn cges_stops_at_the_posterior() {
    let c = |p: f64| p.ln() as f32;
    let of = |certainty, min_votes| {
        with(
            "cges",
            Overrides::default()
                .with("certainty", certainty)
                .with("min_votes", min_votes),
        )
    };
    let mut s = of(0.95, 1);
    assert!(s.needs().logprob && !s.needs().confidence);
    assert_eq!(
        feed(&mut *s, &[(0, c(0.96)); 3]),
        Some(1),
        "the paper's rule: one sure trace"
    );
    assert_eq!(feed(&mut *s, &[(0, c(0.9)); 3]), Some(2), "0.81 against 0.01");
    assert_eq!(feed(&mut *of(0.95, 4), &[(0, c(0.96)); 9]), Some(4), "guarded");
    assert_eq!(
        feed(&mut *of(0.95, 1), &[(0, c(0.3)); 30]),
        None,
        "unlikely traces speak against their own answer"
    );

    // 0.8 for A and 0.6 for B: 2/3, 1/4, and 1/12 for an answer that nobody gave.
    let mut s = of(0.95, 1);
    assert_eq!(feed(&mut *s, &[(4, c(0.8)), (9, c(0.6))]), None);
    let d = s.decide();
    assert_eq!(
        (d.answer, d.winner_trace, d.ballots.len()),
        (Some(ClassId(4)), Some(0), 2)
    );
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
    close(d.ballots[0].weight, 2.0 / 3.0);
    close(d.ballots[1].weight, 1.0 / 4.0);
    close(d.consensus.unwrap(), 2.0 / 3.0);
    close(d.votes[0].1.unwrap().share, 0.5);
    // One sure trace outweighs two doubtful ones; the surest trace of the winner is named.
    assert_eq!(
        feed(&mut *s, &[(1, c(0.55)), (1, c(0.55)), (2, c(0.9)), (2, c(0.7))]),
        None
    );
    assert_eq!(
        (s.decide().answer, s.decide().winner_trace),
        (Some(ClassId(2)), Some(2))
    );
    // A probability of 1 is held at 0.99: it can be outvoted.
    let mut s = of(0.999, 1);
    feed(&mut *s, &[(1, 0.0), (2, c(0.98)), (2, c(0.98))]);
    assert_eq!(s.decide().answer, Some(ClassId(2)));
}

#[test]
fn weighted_votes_take_any_score() {
    // Two for 5 with little weight, one for 6 with much.
    let traces = [(5, -2.0), (5, -2.0), (6, -0.1)];
    for (vote, winner) in [
        (VoteKind::LogprobWeighted, 6),
        (VoteKind::CertaintyWeighted, 6),
        (VoteKind::Majority, 5),
    ] {
        let o = Overrides::default().with("vote", vote);
        let mut s = with("weighted", o);
        assert_eq!(s.needs().logprob, vote == VoteKind::LogprobWeighted);
        assert_eq!(s.needs().self_certainty, vote == VoteKind::CertaintyWeighted);
        assert_eq!(feed(&mut *s, &traces), None, "all run to their end");
        let d = s.decide();
        assert_eq!(d.answer, Some(ClassId(winner)), "{vote}");
        if vote == VoteKind::LogprobWeighted {
            let (a, b) = ((-0.1f32 as f64).exp(), 2.0 * (-2.0f64).exp());
            assert!((d.margin - (a - b) / (a + b)).abs() < 1e-9);
        }
    }
    let mut s = with("weighted", Overrides::default());
    assert!(s.needs().confidence);
    feed(&mut *s, &traces);
    assert!(
        s.decide()
            .warnings
            .iter()
            .any(|w| w.contains("decided by majority"))
    );
}
