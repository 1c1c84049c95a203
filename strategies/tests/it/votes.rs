//! Votes and the majority strategy.

use proptest::prelude::*;
use tts_strategies::{
    ClassId, Finish, Limits, Overrides, Statistic, Tally, TraceId, TraceOutcome, TraceScores, VoteKind,
    Voter, Window,
};

use crate::sim::{Script, build, run};

fn ballots(list: &[(u32, f64)]) -> Tally {
    Tally::count(
        list.iter()
            .enumerate()
            .map(|(i, &(class, weight))| (i as TraceId, ClassId(class), weight)),
    )
    .unwrap()
}

#[test]
fn ties_go_by_weight_then_number_then_lowest_index() {
    assert_eq!(
        ballots(&[(3, 1.0), (1, 2.0), (3, 1.5)]).winner().class,
        ClassId(3),
        "weight"
    );
    assert_eq!(
        ballots(&[(1, 2.0), (3, 1.0), (3, 1.0)]).winner().class,
        ClassId(3),
        "as heavy, more traces"
    );
    assert_eq!(
        ballots(&[(9, 1.0), (1, 1.0), (1, 1.0), (9, 1.0)]).winner().class,
        ClassId(9),
        "lowest index, not lowest class"
    );
    let t = ballots(&[(9, 1.0), (1, 3.0), (9, 2.0), (9, 2.0), (1, 1.0)]);
    assert_eq!((t.winner_trace, t.winner().share), (2, 5.0 / 9.0));
    assert!((t.margin() - 1.0 / 9.0).abs() < 1e-15);
    let zero = ballots(&[(4, 0.0), (4, 0.0), (5, 0.0)]);
    assert_eq!(
        (zero.winner().class, zero.winner().share),
        (ClassId(4), 2.0 / 3.0)
    );
    assert_eq!(ballots(&[(4, 0.3)]).margin(), 1.0);
    assert!(Tally::count([]).is_none());
}

#[test]
fn equal_weights_in_another_order_are_equal_sums() {
    // 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in the last bit when they are added as they come.
    let t = ballots(&[(1, 0.1), (1, 0.2), (1, 0.3), (2, 0.3), (2, 0.2), (2, 0.1)]);
    assert_eq!((t.winner().class, t.margin()), (ClassId(1), 0.0));
}

#[test]
fn majority_launches_everything_and_takes_the_lowest_index_of_a_tie() {
    let mut strategy = build("majority", Overrides::default());
    assert_eq!(
        strategy.begin(&Limits {
            traces: 512,
            slots: 64,
            max_tokens: 10
        }),
        512
    );
    // Class 8 finishes first, class 6 has the lowest trace.
    let scripts = [
        Script::new(6, 5.0, 9),
        Script::new(8, 9.0, 2),
        Script::new(8, 9.0, 2),
        Script::new(6, 5.0, 9),
    ];
    let r = run(&mut *strategy, &scripts, 4);
    assert_eq!(
        (r.answer(), r.decision.winner_trace, r.decision.margin),
        (Some(6), Some(0), 0.0)
    );
    let by_name = |name| {
        r.decision
            .votes
            .iter()
            .find(|v| v.0.name() == name)
            .unwrap()
            .1
            .unwrap()
            .class
    };
    assert_eq!(
        (by_name("majority"), by_name("mean-weighted")),
        (ClassId(6), ClassId(8)),
        "side by side"
    );
}

#[test]
fn no_answer_is_not_a_class_and_cut_traces_do_not_vote() {
    let mut scripts = vec![Script::new(1, 5.0, 9).silent(); 5];
    scripts.extend(vec![Script::new(2, 5.0, 9).ends(Finish::Length); 3]);
    scripts.push(Script::new(2, 5.0, 9).ends(Finish::Loop));
    scripts.push(Script::new(4, 5.0, 9).ends(Finish::Failed));
    scripts.push(Script::new(3, 5.0, 9));
    let r = run(&mut *build("majority", Overrides::default()), &scripts, 4);
    assert_eq!((r.answer(), r.decision.votes[0].1.unwrap().share), (Some(3), 1.0));
    let counted = Overrides::default().with("count_truncated", true);
    assert_eq!(
        run(&mut *build("majority", counted), &scripts, 4).answer(),
        Some(2)
    );
}

#[test]
fn a_recording_without_confidences_is_enough_for_majority() {
    let mut strategy = build("majority", Overrides::default());
    assert_eq!(strategy.needs(), tts_strategies::Needs::default());
    strategy.begin(&Limits {
        traces: 2,
        slots: 1,
        max_tokens: 10,
    });
    let outcome = TraceOutcome {
        trace: 1,
        finish: Finish::Stop,
        tokens: 77,
        class: Some(ClassId(0)),
        confidences: &[],
        logprobs: &[],
        entropies: &[],
        self_certainty: None,
        measured: None,
    };
    strategy.finished(&outcome);
    strategy.finished(&outcome);
    let d = strategy.decide();
    assert_eq!(
        (d.ballots[0].traces, d.votes[1].1, d.warnings.len()),
        (1, None, 0),
        "entered once, no weights, no complaint"
    );
    assert_eq!(strategy.leading(), Some((ClassId(0), 1.0)));
}

fn voters() -> impl Strategy<Value = Vec<Voter>> {
    prop::collection::vec((0u32..4, 3.0f64..30.0), 1..40).prop_map(|v| {
        let voter = |(i, (class, s)): (usize, (u32, f64))| Voter {
            trace: i as TraceId,
            class: ClassId(class),
            scores: TraceScores {
                mean: Some(s),
                tail: Some(33.0 - s),
                bottom: Some(s / 2.0),
                lowest_group: Some(s / 3.0),
                ..TraceScores::default()
            },
        };
        v.into_iter().enumerate().map(voter).collect()
    })
}

proptest! {
    #[test]
    fn votes_equal_the_slow_way(voters in voters()) {
        for &kind in VoteKind::REPORTED {
            let tally = Tally::hold(kind, &voters).unwrap();
            let weigh = |v: &Voter| kind.statistic().map_or(1.0, |s: Statistic| v.scores.get(s).unwrap());
            let mut sorted: Vec<f64> = voters.iter().map(weigh).collect();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let n = sorted.len();
            let keep = if kind.top_tenth() { n - (9 * (n - 1)).div_ceil(10) } else { n };
            let kept: Vec<&Voter> = voters.iter().filter(|v| weigh(v) >= sorted[keep - 1]).collect();
            prop_assert_eq!(tally.voters(), kept.len());
            let total: f64 = kept.iter().map(|v| weigh(v)).sum();
            for b in &tally.ballots {
                let mine: f64 = kept.iter().filter(|v| v.class == b.class).map(|v| weigh(v)).sum();
                prop_assert!((mine - b.weight).abs() < 1e-9);
                prop_assert!(b.weight <= tally.ballots[0].weight);
            }
            let winner = tally.winner();
            prop_assert!((winner.share - tally.ballots[0].weight / total).abs() < 1e-12);
            let of_winner = kept.iter().filter(|v| v.class == winner.class);
            let heaviest = of_winner.map(|v| weigh(v)).fold(0.0, f64::max);
            prop_assert_eq!(weigh(&voters[tally.winner_trace as usize]), heaviest);
        }
    }

    #[test]
    fn decisions_do_not_depend_on_the_order_of_arrival(
        answers in prop::collection::vec((0u32..4, 3u32..30), 1..40), seed in any::<u64>(),
        name in prop::sample::select(vec!["majority", "deepconf-offline"]),
    ) {
        let mut order: Vec<usize> = (0..answers.len()).collect();
        let mut x = seed;
        for i in (1..order.len()).rev() {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            order.swap(i, (x >> 33) as usize % (i + 1));
        }
        let decide = |order: &[usize]| {
            let mut s = build(name, Overrides::default().with("window", Window::Fixed(4)));
            s.begin(&Limits { traces: answers.len(), slots: 8, max_tokens: 100 });
            for &i in order {
                let (class, c) = answers[i];
                let confidences = vec![c as f32 / 7.0; 5 + i % 3];
                s.finished(&TraceOutcome {
                    trace: i as TraceId,
                    finish: Finish::Stop,
                    tokens: confidences.len(),
                    class: Some(ClassId(class)),
                    confidences: &confidences,
                    logprobs: &[],
                    entropies: &[],
                    self_certainty: None,
                    measured: None,
                });
            }
            s.decide()
        };
        let straight: Vec<usize> = (0..answers.len()).collect();
        prop_assert_eq!(decide(&straight), decide(&order));
    }
}
