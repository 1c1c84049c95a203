//! Strategies whose traces are made from others: where they fork, what they show, and when they stop.

use tts_strategies::{
    ClassId, Finish, Fork, Limits, Next, Overrides, PoolKind, Preset, Step, Strategy, TokenScalars,
    TraceOutcome,
};

const LIMITS: Limits = Limits {
    traces: 64,
    slots: 64,
    max_tokens: 1 << 20,
};

fn strategy(name: &str, overrides: &Overrides) -> Box<dyn Strategy> {
    let mut preset = Preset::named(name).unwrap();
    preset.apply(overrides).unwrap();
    preset.build()
}

fn end(s: &mut dyn Strategy, trace: u32, class: Option<u32>, confidences: &[f32], logprob: f32) -> Next {
    s.finished(&TraceOutcome {
        trace,
        finish: Finish::Stop,
        tokens: confidences.len(),
        class: class.map(ClassId),
        confidences,
        logprobs: &vec![logprob; confidences.len()],
        entropies: &[],
        self_certainty: None,
        measured: None,
    })
}

/// A trace of 100 tokens that dips in the ten from here on.
fn dips_at(at: usize) -> Vec<f32> {
    let dip = at..at + 10;
    (0..100)
        .map(|i| if dip.contains(&i) { 1.0 } else { 9.0 })
        .collect()
}

#[test]
fn the_better_traces_are_forked_in_turn_where_they_dip_late() {
    let overrides = Overrides::default().with("spacing", 10).with("most", 10);
    let mut s = strategy("continuation", &overrides);
    assert_eq!(s.begin(&LIMITS), 4);
    assert_eq!(
        (s.fork_point(0, 0), s.fork_point(0, 9), s.fork_point(3, 10)),
        (Some(10), Some(10), Some(20))
    );
    // four answers; 3 and 1 are the most probable, and 3 dips at 70, 1 at 20, which is early
    for (trace, logprob, dip) in [(0, -2.0, 60), (1, -1.0, 20), (2, -3.0, 80)] {
        assert_eq!(
            end(s.as_mut(), trace, Some(trace), &dips_at(dip), logprob),
            Next::Wait
        );
    }
    assert_eq!(s.fork_of(4), None);
    let next = end(s.as_mut(), 3, Some(3), &dips_at(70), -0.5);
    assert_eq!(next, Next::Launch(6), "up to the number of voters");
    let of = |s: &dyn Strategy| -> Vec<_> { (4..10).map(|t| s.fork_of(t).unwrap()).collect() };
    let fork = |trace, tokens| Fork { trace, tokens };
    let forks = [
        fork(3, 70),
        fork(1, 50),
        fork(3, 50),
        fork(1, 60),
        fork(3, 60),
        fork(1, 70),
    ];
    assert_eq!(
        of(s.as_ref()),
        forks,
        "the dip first, then the rest of the later half in order"
    );
    assert_eq!(s.fork_point(5, 55), None, "forks are not forked");
    // one that says nothing is drawn again from the same point
    assert_eq!(end(s.as_mut(), 5, None, &dips_at(0), -1.0), Next::Launch(1));
    assert_eq!(s.fork_of(10), Some(fork(1, 50)));
}

#[test]
fn traces_too_short_for_a_point_begin_after_the_prompt() {
    let mut s = strategy("continuation", &Overrides::default().with("most", 6));
    assert_eq!(s.begin(&Limits { traces: 5, ..LIMITS }), 4);
    for trace in 0..3 {
        end(s.as_mut(), trace, Some(trace), &[5.0; 20], -1.0);
    }
    assert_eq!(
        end(s.as_mut(), 3, Some(3), &[5.0; 20], -1.0),
        Next::Launch(1),
        "there is one trace left"
    );
    assert_eq!(s.fork_of(4), None);
    assert_eq!(end(s.as_mut(), 4, Some(3), &[5.0; 20], -1.0), Next::Wait);
    assert_eq!(s.decide().answer, Some(ClassId(3)));
}

/// Kin that agree say less than strangers that do.
#[test]
fn votes_of_kin_are_worth_less() {
    // P(Beta(n + 1, 1) > 1/2) = 1 - 2^-(n + 1)
    let independent = |n: u32| 1.0 - 0.5f64.powi(n as i32 + 1);
    let ends_at = |name: &str, certainty: f64| {
        let mut overrides = Overrides::default()
            .with("sharpness", 0.0)
            .with("certainty", certainty);
        match name {
            "continuation" => overrides.set("spacing", 10),
            _ => overrides.set("certainty_last", certainty),
        };
        let mut s = strategy(name, &overrides);
        s.begin(&LIMITS);
        (0..16).find(|trace| end(s.as_mut(), *trace, Some(7), &dips_at(90), -1.0) == Next::Done)
    };
    // strangers: the seventh that agrees makes six certain enough
    let certainty = independent(6) - 1e-6;
    assert_eq!(ends_at("adaptive", certainty), Some(5));
    let kin = ends_at("continuation", certainty);
    assert!(kin.is_none_or(|n| n > 8), "{kin:?}");
    // four whole traces are strangers there too
    assert_eq!(ends_at("continuation", independent(4) - 1e-6), Some(3));
}

fn token(s: &mut dyn Strategy, trace: u32, logprob: f32) -> Step {
    s.observe(
        trace,
        &TokenScalars {
            confidence: 5.0,
            logprob,
        },
    )
}

#[test]
fn an_improbable_particle_makes_room_for_a_copy_of_a_probable_one() {
    let overrides = Overrides::default()
        .with("spacing", 4)
        .with("most", 4)
        .with("alpha", 2.0);
    let mut s = strategy("particles", &overrides);
    assert_eq!(s.begin(&Limits { slots: 9, ..LIMITS }), 4);
    assert_eq!(
        strategy("particles", &overrides).begin(&Limits { slots: 3, ..LIMITS }),
        3,
        "all run at once"
    );
    assert_eq!(s.fork_point(2, 4), Some(8));
    let logprobs = [-3.0, -0.1, -3.0, -3.0];
    for _ in 0..4 {
        for trace in 0..4 {
            assert_eq!(token(s.as_mut(), trace, logprobs[trace as usize]), Step::Continue);
        }
    }
    // trace 1 weighs all but everything, and the three others leave with their next token
    assert_eq!(token(s.as_mut(), 0, -3.0), Step::Stop);
    assert_eq!(token(s.as_mut(), 1, -0.1), Step::Continue);
    assert_eq!(token(s.as_mut(), 2, -3.0), Step::Stop);
    let stopped = |s: &mut dyn Strategy, trace| {
        s.finished(&TraceOutcome {
            trace,
            finish: Finish::LowConfidence,
            tokens: 5,
            class: None,
            confidences: &[5.0; 5],
            logprobs: &[-1.0; 5],
            entropies: &[],
            self_certainty: None,
            measured: None,
        })
    };
    assert_eq!(stopped(s.as_mut(), 0), Next::Launch(1));
    assert_eq!(s.fork_of(4), Some(Fork { trace: 1, tokens: 4 }));
    assert_eq!(
        (stopped(s.as_mut(), 2), s.fork_of(5).unwrap().trace),
        (Next::Launch(1), 1)
    );
    // one that ends by itself before it has left makes room too
    assert_eq!(token(s.as_mut(), 3, -3.0), Step::Stop);
    assert_eq!(end(s.as_mut(), 3, Some(9), &[5.0; 5], -3.0), Next::Launch(1));
    // and has no vote: what came of the copies decides
    for (trace, class) in [(4, 1), (5, 1), (6, 2)] {
        token(s.as_mut(), trace, -0.2);
        assert_eq!(end(s.as_mut(), trace, Some(class), &[5.0; 5], -0.2), Next::Wait);
    }
    let decision = s.decide();
    assert_eq!((decision.answer, decision.ballots.len()), (Some(ClassId(1)), 2));
    assert!((decision.ballots[0].weight / decision.ballots[1].weight - 2.0).abs() < 1e-9);
}

/// One that ends with the very token after which it was to be copied cannot be gone on from: it stands for its copies.
#[test]
fn a_particle_that_ended_stands_for_its_copies() {
    let overrides = Overrides::default()
        .with("spacing", 4)
        .with("most", 3)
        .with("alpha", 2.0);
    let mut s = strategy("particles", &overrides);
    s.begin(&LIMITS);
    let logprobs = [-3.0, -3.0, -0.1];
    for _ in 0..4 {
        for trace in 0..3 {
            token(s.as_mut(), trace, logprobs[trace as usize]);
        }
    }
    assert_eq!(end(s.as_mut(), 2, Some(7), &[5.0; 4], -0.1), Next::Wait);
    for trace in 0..2 {
        assert_eq!(token(s.as_mut(), trace, -3.0), Step::Stop);
        assert_eq!(
            end(s.as_mut(), trace, None, &[5.0; 5], -3.0),
            Next::Wait,
            "no copies are left to launch"
        );
    }
    let decision = s.decide();
    assert_eq!((decision.answer, decision.ballots.len()), (Some(ClassId(7)), 1));
}

#[test]
fn alike_particles_are_left_alone_and_so_are_those_beyond_the_budget() {
    let overrides = Overrides::default()
        .with("spacing", 2)
        .with("most", 3)
        .with("alpha", 2.0);
    for (logprobs, traces) in [([-1.0, -1.0, -1.0], 64), ([-9.0, -0.1, -9.0], 3)] {
        let mut s = strategy("particles", &overrides);
        s.begin(&Limits { traces, ..LIMITS });
        for _ in 0..9 {
            for trace in 0..3 {
                assert_eq!(token(s.as_mut(), trace, logprobs[trace as usize]), Step::Continue);
            }
        }
    }
}

#[test]
fn an_open_vote_shows_the_heaviest_of_each_answer() {
    let overrides = Overrides::default()
        .with("most", 6)
        .with("looks", 3)
        .with("show", 4);
    let mut s = strategy("second-look", &overrides);
    assert_eq!(s.begin(&LIMITS), 6);
    // answers 1, 1, 1, 2, 2, 3; the most probable of them 2, 3 and 5, then 0
    let first = [(1, -1.5), (1, -4.0), (1, -1.0), (2, -1.2), (2, -2.0), (3, -3.0)];
    let mut next = Next::Wait;
    for (trace, (class, logprob)) in first.into_iter().enumerate() {
        next = end(s.as_mut(), trace as u32, Some(class), &[5.0; 40], logprob);
    }
    assert_eq!(next, Next::Launch(3));
    assert_eq!(
        (s.shown(5), s.shown(6), s.shown(8)),
        (&[][..], &[0, 2, 3, 5][..], &[0, 2, 3, 5][..])
    );
    // until one has answered the first vote stands; then those that looked again vote alone
    assert_eq!(s.decide().answer, Some(ClassId(1)));
    assert_eq!(end(s.as_mut(), 6, Some(3), &[5.0; 30], -1.0), Next::Wait);
    let decision = s.decide();
    assert_eq!(
        (decision.answer, decision.pool),
        (Some(ClassId(3)), PoolKind::Filtered)
    );
    assert_eq!(decision.ballots.len(), 1);
    let joined = Overrides::default()
        .with("most", 6)
        .with("looks", 3)
        .with("join", true);
    let mut s = strategy("second-look", &joined);
    s.begin(&LIMITS);
    for (trace, (class, logprob)) in first.into_iter().enumerate() {
        end(s.as_mut(), trace as u32, Some(class), &[5.0; 40], logprob);
    }
    end(s.as_mut(), 6, Some(3), &[5.0; 30], -1.0);
    assert_eq!(s.decide().ballots.len(), 3);
}

#[test]
fn a_vote_that_is_settled_needs_no_second_look() {
    let mut s = strategy(
        "second-look",
        &Overrides::default().with("most", 6).with("sharpness", 0.0),
    );
    s.begin(&LIMITS);
    let last = (0..4)
        .map(|trace| end(s.as_mut(), trace, Some(1), &[5.0; 40], -1.0))
        .last();
    assert_eq!((last, s.shown(6)), (Some(Next::Done), &[][..]));
    // where the budget has no trace for it, that is said
    let mut s = strategy("second-look", &Overrides::default().with("most", 4));
    s.begin(&Limits { traces: 4, ..LIMITS });
    let last = (0..4)
        .map(|trace| end(s.as_mut(), trace, Some(trace % 2), &[5.0; 40], -1.0))
        .last();
    assert_eq!(last, Some(Next::Done));
    assert!(
        s.decide()
            .warnings
            .iter()
            .any(|w| w.contains("no trace left for a second look"))
    );
}
