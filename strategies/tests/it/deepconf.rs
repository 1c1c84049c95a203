//! Online and offline DeepConf, driven by scripts and compared with a slow way.

use proptest::prelude::*;
use tts_strategies::{Consensus, Fate, Finish, Overrides, PoolKind, Statistic, VoteKind, Window, percentile};

use crate::sim::{Script, build, run};

fn small(warmup: usize, window: usize, keep_top: f64) -> Overrides {
    Overrides::default()
        .with("warmup", warmup)
        .with("window", Window::Fixed(window))
        .with("keep_top", keep_top)
        .with("consensus", Consensus::Off)
}

/// Sixteen warm-ups with confidences 10.0, 10.1, ... 11.5, all of one class.
fn ladder(class: u32) -> Vec<Script> {
    (0..16)
        .map(|i| Script::new(class, 10.0 + 0.1 * i as f32, 40))
        .collect()
}

#[test]
fn nothing_beyond_the_warmup_launches_before_the_bar() {
    let scripts: Vec<Script> = (0..40)
        .map(|i| Script::new(i % 3, 10.0 + (i % 7) as f32, 20 + i as usize))
        .collect();
    for slots in [1, 3, 16, 64] {
        let r = run(
            &mut *build(
                "deepconf-high",
                Overrides::default().with("consensus", Consensus::Off),
            ),
            &scripts,
            slots,
        );
        for (&trace, &(ended, bar)) in &r.at_launch {
            assert_eq!(bar.is_some(), trace >= 16, "slots {slots}, trace {trace}");
            assert!(trace < 16 || ended >= 16);
        }
        assert_eq!(r.traces.len(), 40);
        assert_eq!(r.count(Fate::Warmup), 16);
    }
}

#[test]
fn a_trace_stops_when_its_window_is_full_and_strictly_below() {
    let mut scripts = vec![Script::new(1, 10.0, 50); 4];
    scripts.push(Script::new(2, 10.0, 50));
    scripts.push(Script::new(3, 9.75, 50));
    scripts.push(Script::new(4, 9.75, 7));
    let mut falling = Script::new(5, 12.0, 50);
    falling.confidences[20..].fill(4.0);
    scripts.push(falling);
    let r = run(&mut *build("deepconf-high", small(4, 8, 0.9)), &scripts, 3);
    assert_eq!(r.decision.threshold, Some(10.0));
    assert_eq!(
        r.traces[&4],
        (Fate::Finished, 50),
        "equal to the bar is not below it"
    );
    assert_eq!(
        r.traces[&5],
        (Fate::Stopped, 8),
        "at the first full window, that token counted"
    );
    assert_eq!(r.traces[&6], (Fate::Finished, 7), "its window never fills");
    // After k tokens of 4.0 the group is 12 - k: below 10 at the third.
    assert_eq!(r.traces[&7], (Fate::Stopped, 23));
    assert_eq!(r.decision.pool, PoolKind::Filtered);
    let classes: Vec<u32> = r.decision.ballots.iter().map(|b| b.class.0).collect();
    assert_eq!(
        classes,
        [1, 2],
        "the short trace is below the bar, the stopped ones never vote"
    );
    assert_eq!(r.decision.consensus, None);
}

#[test]
fn a_trace_that_ends_as_it_crosses_the_bar_is_finished_but_has_no_vote() {
    let mut scripts = vec![Script::new(1, 10.0, 30); 4];
    let mut last = Script::new(2, 10.0, 30);
    last.confidences[29] = 3.0;
    scripts.push(last);
    let r = run(&mut *build("deepconf-high", small(4, 8, 0.9)), &scripts, 5);
    assert_eq!(r.traces[&4], (Fate::Finished, 30));
    assert_eq!(r.decision.ballots.len(), 1);
}

#[test]
fn consensus_ends_the_problem_and_cancels_what_is_in_flight() {
    let mut scripts = ladder(7);
    scripts.extend(vec![Script::new(7, 20.0, 40); 48]);
    let r = run(&mut *build("deepconf-high", Overrides::default()), &scripts, 64);
    assert!(r.done);
    assert_eq!(
        (r.traces.len(), r.answer(), r.decision.consensus),
        (16, Some(7), Some(1.0))
    );
    let off = Overrides::default().with("consensus", Consensus::Off);
    let off = run(&mut *build("deepconf-high", off), &scripts, 64);
    assert_eq!(
        (off.done, off.traces.len(), off.decision.consensus),
        (false, 64, None)
    );

    // Low: 2 of 16 pass, 4 ballots are needed: the first two to end bring them, the seven in flight are
    // cancelled.
    for (i, s) in scripts[16..].iter_mut().enumerate() {
        s.confidences = vec![20.0; 30 + 10 * i];
    }
    let low = run(&mut *build("deepconf-low", Overrides::default()), &scripts, 8);
    assert!(low.done);
    assert_eq!((low.count(Fate::Finished), low.count(Fate::Cancelled)), (2, 7));
    assert_eq!(low.traces[&18], (Fate::Cancelled, 40), "the tick's token counts");
}

#[test]
fn two_agreeing_ballots_are_no_consensus() {
    let mut scripts = ladder(7);
    scripts[14].class = Some(9);
    scripts[15].class = Some(9);
    scripts.extend(vec![Script::new(7, 12.0, 40); 16]);
    let guarded = run(&mut *build("deepconf-low", Overrides::default()), &scripts, 16);
    assert_eq!(
        (guarded.done, guarded.traces.len(), guarded.answer()),
        (false, 32, Some(7))
    );
    let hasty = run(
        &mut *build("deepconf-low", Overrides::default().with("min_votes", 2)),
        &scripts,
        16,
    );
    assert_eq!(
        (hasty.done, hasty.traces.len(), hasty.answer()),
        (true, 16, Some(9))
    );
}

#[test]
fn the_ballot_floor_names_the_pool() {
    // Filtered would hold two ballots, both for 9; the finished traces say 7.
    let mut scripts = ladder(7);
    scripts[14].class = Some(9);
    scripts[15].class = Some(9);
    let r = run(&mut *build("deepconf-low", Overrides::default()), &scripts, 16);
    assert_eq!((r.decision.pool, r.answer()), (PoolKind::Finished, Some(7)));
    assert!(
        r.decision
            .warnings
            .iter()
            .any(|w| w.contains("all 16 traces are warm-up")),
        "{:?}",
        r.decision.warnings
    );
    assert!(r.decision.consensus.unwrap() < 0.95);

    let cut: Vec<Script> = ladder(7).into_iter().map(|s| s.ends(Finish::Length)).collect();
    let r = run(&mut *build("deepconf-low", Overrides::default()), &cut, 16);
    assert_eq!(
        (r.decision.pool, r.answer(), r.count(Fate::Truncated)),
        (PoolKind::Any, Some(7), 16)
    );
    let counted = Overrides::default()
        .with("count_truncated", true)
        .with("keep_top", 0.9);
    let r = run(&mut *build("deepconf-low", counted), &cut, 16);
    assert_eq!((r.decision.pool, r.answer()), (PoolKind::Filtered, Some(7)));

    let silent: Vec<Script> = ladder(7).into_iter().map(Script::silent).collect();
    let r = run(&mut *build("deepconf-low", Overrides::default()), &silent, 16);
    assert_eq!(
        (r.decision.pool, r.answer(), r.decision.consensus),
        (PoolKind::None, None, Some(0.0))
    );
    assert!(r.decision.votes.iter().all(|v| v.1.is_none()) && r.decision.votes.len() == 7);
}

#[test]
fn a_fixed_window_that_does_not_fit_is_reported() {
    let r = run(&mut *build("deepconf-low", small(16, 2048, 0.1)), &ladder(1), 16);
    assert!(
        r.decision
            .warnings
            .iter()
            .any(|w| w.contains("window 2048") && w.contains("0 of the first 16"))
    );
    let auto = run(&mut *build("deepconf-low", Overrides::default()), &ladder(1), 16);
    assert_eq!(auto.decision.window, Some(16));
    assert!(!auto.decision.warnings.iter().any(|w| w.contains("window")));
}

#[test]
fn the_automatic_window_is_that_of_the_warmup_alone() {
    let mut scripts: Vec<Script> = (0..5).map(|i| Script::new(1, 10.0 + i as f32, 1024)).collect();
    scripts.extend(vec![Script::new(1, 30.0, 60_000); 2]);
    let o = small(5, 1, 0.9).with("warmup", 5);
    let r = run(
        &mut *build("deepconf-high", o.with("window", Window::Auto)),
        &scripts,
        4,
    );
    assert_eq!(r.decision.window, Some(128));
}

#[test]
fn offline_filters_then_weighs() {
    let mut scripts: Vec<Script> = (0..40)
        .map(|i| Script::new(i % 2, 10.0 + i as f32 * 0.25, 64))
        .collect();
    for s in &mut scripts[36..] {
        s.class = Some(5);
    }
    let r = run(&mut *build("deepconf-offline", Overrides::default()), &scripts, 8);
    assert_eq!((r.decision.pool, r.answer()), (PoolKind::Filtered, Some(5)));
    assert_eq!(
        (r.decision.ballots[0].traces, r.decision.winner_trace),
        (4, Some(39))
    );
    assert_eq!(
        r.decision.threshold,
        percentile(&(0..40).map(|i| 10.0 + i as f64 * 0.25).collect::<Vec<_>>(), 90.0)
    );
    let all = Overrides::default()
        .with("keep_top", 1.0)
        .with("vote", VoteKind::Majority)
        .with("statistic", Statistic::Mean);
    let r = run(&mut *build("deepconf-offline", all), &scripts, 8);
    assert_eq!(
        (r.answer(), r.decision.ballots[0].traces),
        (Some(0), 18),
        "a tie at 18: the lowest trace index"
    );
}

/// Algorithm 2 for one slot, from whole traces and direct sums.
fn slow(
    scripts: &[Script],
    warmup: usize,
    w: usize,
    keep_top: f64,
    min_votes: usize,
    tau: f64,
) -> (usize, Vec<Option<usize>>, Option<u32>) {
    let groups = |c: &[f32]| -> Vec<f64> {
        c.windows(w)
            .map(|g| g.iter().map(|&x| f64::from(x)).sum::<f64>() / w as f64)
            .collect()
    };
    let lowest = |c: &[f32]| {
        let all = c.iter().map(|&x| f64::from(x)).sum::<f64>() / c.len() as f64;
        groups(c).into_iter().reduce(f64::min).unwrap_or(all)
    };
    let warm: Vec<f64> = scripts
        .iter()
        .take(warmup)
        .map(|s| lowest(&s.confidences))
        .collect();
    let bar = percentile(&warm, 100.0 - 100.0 * keep_top).unwrap();
    let mut ballots: Vec<(u32, f64)> = Vec::new();
    let mut stops = vec![None; warmup.min(scripts.len())];
    // Sums run upwards and the total over the ranked classes: the same roundings on both sides.
    let leader = |ballots: &[(u32, f64)]| {
        let mut classes: Vec<(u32, f64, usize)> = Vec::new();
        for &(class, _) in ballots {
            if classes.iter().all(|c| c.0 != class) {
                let mut mine: Vec<f64> = ballots.iter().filter(|b| b.0 == class).map(|b| b.1).collect();
                mine.sort_by(f64::total_cmp);
                classes.push((class, mine.iter().sum(), mine.len()));
            }
        }
        // Stable, from order of first appearance: weight, then votes, then the lowest index.
        classes.sort_by(|a, b| b.1.total_cmp(&a.1).then(b.2.cmp(&a.2)));
        let total: f64 = classes.iter().map(|c| c.1).sum();
        let share = |c: &(u32, f64, usize)| if classes.len() == 1 { 1.0 } else { c.1 / total };
        classes.first().map(|c| (c.0, share(c)))
    };
    for (i, s) in scripts.iter().enumerate() {
        if i >= warmup {
            let cut = groups(&s.confidences)
                .iter()
                .position(|&g| g < bar)
                .map(|g| g + w);
            stops.push(cut.filter(|&n| n < s.confidences.len()));
            if stops[i].is_some() {
                continue;
            }
        }
        if let Some(class) = s.class.filter(|_| lowest(&s.confidences) >= bar) {
            ballots.push((class, lowest(&s.confidences)));
        }
        let checked = i + 1 >= warmup.min(scripts.len());
        if checked && ballots.len() >= min_votes && leader(&ballots).is_some_and(|l| l.1 >= tau) {
            break;
        }
    }
    let answer = (ballots.len() >= min_votes).then(|| leader(&ballots).unwrap().0);
    (stops.len(), stops, answer)
}

fn any_scripts() -> impl Strategy<Value = Vec<Script>> {
    let token = prop::collection::vec(12u32..80, 1..60);
    // Quarters: sums are exact, so that the slow way and the stream agree on every comparison.
    let one = (token, prop::option::weighted(0.9, 0u32..3)).prop_map(|(c, class)| Script {
        confidences: c.into_iter().map(|q| q as f32 / 4.0).collect(),
        class,
        finish: Finish::Stop,
    });
    prop::collection::vec(one, 1..40)
}

proptest! {
    #[test]
    fn one_slot_equals_the_slow_way(
        scripts in any_scripts(), warmup in 1usize..10, log_w in 0u32..5, keep in 1u32..=10,
        min_votes in 1usize..6, tau in 51u32..=100,
    ) {
        let (w, keep_top, tau) = (1usize << log_w, f64::from(keep) / 10.0, f64::from(tau) / 100.0);
        let o = small(warmup, w, keep_top).with("consensus", tau).with("min_votes", min_votes);
        let r = run(&mut *build("deepconf-low", o), &scripts, 1);
        let (launched, stops, answer) = slow(&scripts, warmup, w, keep_top, min_votes, tau);
        prop_assert_eq!(r.traces.len(), launched);
        for (trace, (fate, tokens)) in &r.traces {
            let stop = stops[*trace as usize];
            prop_assert_eq!(*fate == Fate::Stopped, stop.is_some());
            prop_assert_eq!(*tokens, stop.unwrap_or(scripts[*trace as usize].confidences.len()));
        }
        if let Some(answer) = answer {
            prop_assert_eq!((r.decision.pool, r.answer()), (PoolKind::Filtered, Some(answer)));
        } else {
            prop_assert_ne!(r.decision.pool, PoolKind::Filtered);
        }
    }

    #[test]
    fn runs_repeat_and_pruning_does_not_depend_on_slots(scripts in any_scripts(), slots in 1usize..20) {
        let o = small(6, 4, 0.3);
        let mut strategy = build("deepconf-low", o);
        let first = run(&mut *strategy, &scripts, slots);
        prop_assert_eq!(&first, &run(&mut *strategy, &scripts, slots), "begin() starts afresh");
        // Without a consensus nothing depends on who ran beside whom.
        let alone = run(&mut *strategy, &scripts, 1);
        prop_assert_eq!(first.traces, alone.traces);
        prop_assert_eq!(first.decision, alone.decision);
    }
}
