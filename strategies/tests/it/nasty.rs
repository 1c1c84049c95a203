//! Inputs that nobody wants: every run ends, with a sentence rather than a panic.

use proptest::prelude::*;
use tts_strategies::{
    ClassId, Fate, Finish, Limits, Next, Overrides, PoolKind, TokenScalars, TraceOutcome, Window, names,
};

use crate::sim::{Script, build, run};

fn each(scripts: &[Script], check: impl Fn(&str, crate::sim::Run)) {
    for name in names() {
        for slots in [1, 5, 64] {
            check(name, run(&mut *build(name, Overrides::default()), scripts, slots));
        }
    }
}

#[test]
fn no_answers_at_all() {
    each(&vec![Script::new(0, 9.0, 30).silent(); 30], |name, r| {
        assert_eq!((r.decision.pool, r.answer()), (PoolKind::None, None), "{name}");
        assert!(name == "short-m-at-k" || r.traces.len() == 30, "{name}");
        assert!(
            r.decision
                .warnings
                .iter()
                .any(|w| w.contains("no trace gave an answer"))
        );
    });
}

#[test]
fn all_failed() {
    each(
        &vec![Script::new(0, 9.0, 30).ends(Finish::Failed); 30],
        |name, r| {
            assert_eq!(
                (r.decision.pool, r.count(Fate::Failed), r.traces.len()),
                (PoolKind::None, 30, 30),
                "{name}"
            );
            assert_eq!(r.decision.threshold, None);
        },
    );
}

#[test]
fn confidences_that_are_not_numbers() {
    each(&vec![Script::new(3, f32::NAN, 30); 30], |name, r| {
        assert_eq!((r.answer(), r.count(Fate::Stopped)), (Some(3), 0), "{name}");
        assert_eq!(r.decision.threshold, None);
    });
    // One bad number does not make a trace unstoppable.
    let mut scripts: Vec<Script> = (0..16).map(|i| Script::new(i, 10.0, 100)).collect();
    let mut bad = Script::new(1, 5.0, 100);
    bad.confidences[3] = f32::NAN;
    bad.confidences[7] = f32::INFINITY;
    scripts.push(bad);
    let r = run(&mut *build("deepconf-high", Overrides::default()), &scripts, 4);
    assert_eq!(r.traces[&16], (Fate::Stopped, 16));
}

#[test]
fn failed_warmups_leave_the_bar_to_the_others() {
    let mut scripts: Vec<Script> = (0..16)
        .map(|i| Script::new(i, 10.0, 100).ends(Finish::Failed))
        .collect();
    scripts[5].finish = Finish::Stop;
    scripts[9].finish = Finish::Length;
    scripts.extend(vec![Script::new(1, 9.0, 100); 4]);
    let r = run(&mut *build("deepconf-high", Overrides::default()), &scripts, 64);
    assert_eq!(
        (
            r.decision.threshold,
            r.count(Fate::Stopped),
            r.count(Fate::Warmup)
        ),
        (Some(10.0), 4, 1)
    );

    // None left: no bar, nothing stopped, the others still vote.
    scripts[5].finish = Finish::Failed;
    scripts[9].finish = Finish::Failed;
    scripts[17].class = Some(2);
    let r = run(&mut *build("deepconf-high", Overrides::default()), &scripts, 64);
    assert_eq!(
        (r.decision.threshold, r.count(Fate::Finished), r.answer()),
        (None, 4, Some(1))
    );
    assert_eq!(r.decision.pool, PoolKind::Finished);
    assert!(
        r.decision
            .warnings
            .iter()
            .any(|w| w.contains("no warm-up trace has a confidence"))
    );
}

#[test]
fn budgets_below_the_warmup() {
    for k in [0, 1, 2, 15] {
        let scripts: Vec<Script> = (0..k).map(|i| Script::new(4, 9.0 + i as f32, 30)).collect();
        each(&scripts, |name, r| {
            // particles are no more than there are slots
            assert!(r.done || r.traces.len() == k || name == "particles", "{name}");
            assert_eq!(r.answer(), (k > 0).then_some(4), "{name} with {k}");
        });
    }
}

#[test]
fn a_window_beyond_all_memory() {
    let o = Overrides::default().with("window", Window::Fixed(usize::MAX));
    for name in names() {
        let r = run(
            &mut *build(name, o.clone()),
            &vec![Script::new(4, 9.0, 30); 40],
            8,
        );
        assert_eq!((r.answer(), r.count(Fate::Stopped)), (Some(4), 0), "{name}");
    }
}

#[test]
fn empty_traces() {
    each(&vec![Script::new(4, 9.0, 0); 20], |name, r| {
        assert_eq!((r.generated, r.answer()), (0, Some(4)), "{name}")
    });
}

#[test]
fn calls_nobody_should_make() {
    for name in names() {
        let mut s = build(name, Overrides::default().with("window", Window::Fixed(2)));
        assert_eq!(s.decide().pool, PoolKind::None, "{name}: before it began");
        assert_eq!(s.leading(), None);
        s.begin(&Limits {
            traces: 4,
            slots: 1,
            max_tokens: 5,
        });
        s.observe(1000, &TokenScalars::default());
        let outcome = |trace, finish| TraceOutcome {
            trace,
            finish,
            tokens: 3,
            class: Some(ClassId(1)),
            confidences: &[4.0, 5.0, 6.0],
            logprobs: &[-1.0, -1.0, -1.0],
            entropies: &[],
            self_certainty: Some(0.5),
            measured: None,
        };
        for finish in [Finish::Cancelled, Finish::Stop, Finish::LowConfidence] {
            s.finished(&outcome(0, finish));
        }
        assert_eq!(s.decide().answer, None, "{name}: the first word counts");
        s.finished(&outcome(70_000, Finish::LowConfidence));
        assert_eq!(s.decide().answer, None, "{name}: a stopped trace never votes");
    }
}

#[test]
fn after_done_it_stays_done() {
    let mut s = build("deepconf-high", Overrides::default().with("warmup", 4));
    s.begin(&Limits {
        traces: 9,
        slots: 9,
        max_tokens: 99,
    });
    let mut next = Next::Wait;
    for trace in 0..6 {
        next = s.finished(&TraceOutcome {
            trace,
            finish: Finish::Stop,
            tokens: 3,
            class: Some(ClassId(u32::from(trace > 3))),
            confidences: &[4.0, 5.0, 6.0],
            logprobs: &[],
            entropies: &[],
            self_certainty: None,
            measured: None,
        });
        assert_eq!(next == Next::Done, trace >= 3);
    }
    assert_eq!(next, Next::Done);
    assert_eq!(
        s.decide().ballots.len(),
        1,
        "what comes after the decision does not change it"
    );
}

proptest! {
    #[test]
    fn every_strategy_ends_on_anything(
        traces in prop::collection::vec(
            (0usize..30, prop::option::of(0u32..3), 0u8..6, prop::option::of(any::<f32>())),
            0..30,
        ),
        slots in 1usize..12, warmup in 1usize..20, window in prop::option::of(1usize..10),
    ) {
        let stop = Finish::Stop;
        let finishes = [stop, stop, stop, Finish::Length, Finish::Loop, Finish::Failed];
        let scripts: Vec<Script> = traces.iter().map(|&(n, class, f, c)| Script {
            confidences: (0..n).map(|i| c.unwrap_or(((i * 7 + n * 13) % 29) as f32)).collect(),
            class,
            finish: finishes[f as usize],
        }).collect();
        for name in names() {
            let window = window.map(Window::Fixed);
            let mut o = Overrides::default();
            if let Some(window) = window {
                o.set("window", window);
            }
            if name.starts_with("deepconf") && name != "deepconf-offline" {
                o.set("warmup", warmup);
            }
            let r = run(&mut *build(name, o), &scripts, slots);
            let mine = |t: &(u32, f64)| t.1.is_finite();
            prop_assert!(r.decision.ballots.iter().map(|b| (b.class.0, b.weight)).all(|b| mine(&b)));
            let shares: f64 = r.decision.votes[0].1.map_or(0.0, |v| v.share);
            prop_assert!((0.0..=1.0).contains(&shares));
            let can_vote = scripts.iter().enumerate().any(|(i, s)| {
                let fate = r.traces.get(&(i as u32)).map(|t| t.0);
                s.class.is_some() && matches!(fate, Some(Fate::Warmup | Fate::Finished))
            });
            prop_assert!(!can_vote || r.answer().is_some(), "{name}: a finished trace has an answer");
        }
    }
}
