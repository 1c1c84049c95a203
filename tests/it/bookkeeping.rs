//! The scheduler's bookkeeping, on an executor without a model: who is admitted, what waits, what memory is
//! asked for, and that every sequence is given up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tts::engine::memory::MemoryPlan;
use tts::engine::scoring::ScoringRequest;
use tts::run::{Checkpoint, EarlyEnd, ExternalEvent, RunError, TokenStream};
use tts_strategies::Finish;

use crate::mock::{BREAKS, MockExecutor, SharedLog};
use crate::rig::{Engine, Task, all_but, check, prompt, recording, roomy, traces, verdict};

fn engine(plan: MemoryPlan) -> (Engine, SharedLog) {
    let (executor, log) = MockExecutor::with_log();
    (Engine::on(executor, plan), log)
}

/// A problem whose logits are always numbers.
fn task(id: &str, strategy: &str) -> Task {
    Task {
        banned_ids: vec![BREAKS],
        ..Task::new(id, strategy)
    }
}

/// A problem whose traces all reach `tokens`.
fn long(id: &str, strategy: &str, tokens: usize) -> Task {
    let mut task = task(id, strategy);
    task.rules.ignore_eos = true;
    task.rules.max_tokens = tokens;
    task
}

fn alone(task: &Task) -> tts::run::Outcome {
    let (mut engine, log) = engine(roomy(64));
    let outcome = engine.run(task);
    assert_eq!(log.lock().held, 0, "every sequence is given up");
    outcome
}

/// Steps until nothing is left; the executor holds what the scheduler says it holds, at most `budget`.
fn finish(engine: &mut Engine, log: &SharedLog, budget: u64) {
    engine.finish(|s| {
        assert_eq!(s.memory_used(), log.lock().bytes);
        assert!(s.memory_used() <= budget, "{} of {budget}", s.memory_used());
    });
    assert_eq!(log.lock().held, 0, "every sequence is given up");
}

/// Memory for prompts of these lengths, with `rows` traces of `tokens` tokens after the longest, and a plan
/// that expects no longer ones.
fn fits(prompts: &[usize], rows: usize, tokens: usize) -> MemoryPlan {
    let limits = MockExecutor::LIMITS;
    let longest = *prompts.iter().max().unwrap();
    let each = limits.sequence_bytes(longest + tokens, longest);
    let prompts: u64 = prompts.iter().map(|p| limits.sequence_bytes(*p, 0)).sum();
    MemoryPlan {
        max_batch: 64,
        budget: prompts + rows as u64 * each,
        bytes_per_trace: each,
        expected_tokens: longest + tokens,
        busy: None,
    }
}

#[test]
fn traces_and_decisions_do_not_depend_on_the_company() {
    for strategy in tts_strategies::names() {
        let mut wanted = task("p", strategy);
        wanted.bounds.traces = 30;
        let want = alone(&wanted);
        let (mut engine, log) = engine(roomy(64));
        let others: Vec<_> = (0..9)
            .map(|i| {
                let mut other = task(&format!("{i}"), ["majority", "deepconf-low", "esc"][i % 3]);
                other.prompt = prompt(1 + 97 * i, i);
                (other.bounds.traces, other.bounds.slots) = (3 + 2 * i, 1 + i);
                other.rules.max_tokens = 7 + 11 * i;
                other
            })
            .collect();
        for (i, other) in others.iter().enumerate() {
            engine.submit(other);
            if i == 4 {
                engine.submit(&wanted);
            }
            (0..5).for_each(|_| engine.scheduler.step());
        }
        finish(&mut engine, &log, u64::MAX);
        let got = engine.reply("p").unwrap().unwrap();
        assert_eq!(verdict(&got.decided), verdict(&want.decided), "{strategy}");
        assert!(traces(&got.records) == traces(&want.records), "{strategy}");
        for other in &others {
            check(other, &engine.reply(&other.id).unwrap().unwrap());
        }
    }
}

#[test]
fn slots_are_reserved_when_a_problem_is_admitted() {
    // 40 rows: two of 16 run, the third waits for a whole problem to end, however many rows are free
    let (mut engine, log) = engine(roomy(40));
    let tasks: Vec<_> = (0..3)
        .map(|i| {
            let mut task = long(&format!("{i}"), "majority", 30 + 10 * i);
            (task.bounds.traces, task.bounds.slots) = (16, 16);
            // one trace of each begins with what ends it, so that rows are free early
            task.rules.ignore_eos = false;
            task.rules.stop_ids = vec![4, 9];
            task
        })
        .collect();
    tasks.iter().for_each(|task| {
        engine.submit(task);
    });
    let mut most = 0;
    engine.finish(|s| most = most.max(s.rows()));
    assert!(most <= 32, "{most}");
    assert!(log.lock().steps.iter().all(|rows| *rows <= 32));
    assert_eq!(log.lock().steps[0], 32, "both that fit begin together");
    for task in &tasks {
        check(task, &engine.reply(&task.id).unwrap().unwrap());
    }
}

#[test]
fn what_does_not_fit_waits_in_line() {
    let tasks: Vec<_> = (0..4).map(|i| long(&format!("{i}"), "majority", 50)).collect();
    // memory for two problems of eight traces, but not for three
    let plan = fits(&[70, 70], 2 * 8 + 7, 50);
    let (mut engine, log) = engine(plan);
    tasks.iter().for_each(|task| {
        engine.submit(task);
    });
    finish(&mut engine, &log, plan.budget);
    assert_eq!(*engine.order.lock().unwrap(), ["0", "1", "2", "3"]);
    for task in &tasks {
        let outcome = engine.reply(&task.id).unwrap().unwrap();
        check(task, &outcome);
        assert!(outcome.notices.is_empty(), "{:?}", outcome.notices);
    }
    assert!(log.lock().steps.iter().all(|rows| *rows <= 16));
    assert_eq!(log.lock().resumed, 0, "nothing was set aside");
}

#[test]
fn the_youngest_is_set_aside_and_comes_back_as_it_was() {
    let tasks: Vec<_> = (0..3)
        .map(|i| {
            let mut task = long(&format!("{i}"), ["majority", "deepconf-low"][i % 2], 90 + 20 * i);
            task.prompt = prompt(70, i);
            if i == 2 {
                (task.rules.thinking_budget, task.rules.think_end) = (Some(58), vec![6, 9, 11]);
            }
            task
        })
        .collect();
    // as if traces ended after ten tokens
    let plan = fits(&[70; 3], 24 + 8, 10);
    let (mut engine, log) = engine(plan);
    tasks.iter().for_each(|task| {
        engine.submit(task);
    });
    finish(&mut engine, &log, plan.budget);
    let mut aside = 0;
    for task in &tasks {
        let (got, want) = (engine.reply(&task.id).unwrap().unwrap(), alone(task));
        check(task, &got);
        assert_eq!(
            verdict(&got.decided),
            verdict(&want.decided),
            "problem {}",
            task.id
        );
        assert!(
            traces(&got.records) == traces(&want.records),
            "problem {}",
            task.id
        );
        aside += usize::from(got.notices.iter().any(|n| n.contains("set aside")));
    }
    assert!(aside > 0 && log.lock().resumed > 0);
    assert_eq!(engine.order.lock().unwrap()[0], "0", "the oldest runs on");
}

#[test]
fn a_lone_problem_that_outgrows_the_memory_goes_on_with_fewer_slots() {
    let mut task = long("p", "majority", 200);
    task.bounds.slots = 12;
    let plan = fits(&[70], 12, 20);
    let (mut engine, log) = engine(plan);
    engine.submit(&task);
    finish(&mut engine, &log, plan.budget);
    let outcome = engine.reply("p").unwrap().unwrap();
    check(&task, &outcome);
    let slots: Vec<_> = outcome
        .decided
        .external_events
        .iter()
        .map(|o| match o {
            ExternalEvent::Slots { slots, .. } => *slots,
            ExternalEvent::Ended { .. } => 0,
        })
        .collect();
    assert!(
        slots.len() > 2 && slots[0] == 11 && slots.windows(2).all(|w| w[1] < w[0]),
        "{slots:?}"
    );
    assert!(outcome.notices.iter().any(|n| n.contains("outgrew")));
    assert!(traces(&outcome.records) == traces(&alone(&task).records));

    // not even one trace fits: it runs all the same, and says so
    let (mut engine, log) = self::engine(MemoryPlan { budget: 10, ..plan });
    let outcome = engine.run(&task);
    assert_eq!((outcome.peak_rows, log.lock().held), (1, 0));
    assert!(outcome.notices.iter().any(|n| n.contains("beyond the plan")));
}

#[test]
fn fewer_rows_than_slots_is_said() {
    let mut task = task("p", "majority");
    task.bounds.slots = 20;
    let (mut engine, log) = engine(roomy(5));
    let outcome = engine.run(&task);
    assert!(outcome.notices[0].starts_with("5 traces at a time instead of 20"));
    assert_eq!(log.lock().steps.iter().max(), Some(&5));
}

#[test]
fn prompts_are_read_in_parts_between_steps() {
    let (mut engine, log) = engine(roomy(64));
    let running = long("running", "majority", 100);
    let mut reading = long("reading", "majority", 10);
    reading.prompt = prompt(2000, 1);
    engine.submit(&running);
    engine.scheduler.step();
    engine.submit(&reading);
    log.lock().reads.clear();
    for step in 1..=8 {
        let before = log.lock().steps.len();
        engine.scheduler.step();
        assert_eq!(log.lock().reads.len(), step, "a part a step");
        assert_eq!(log.lock().steps.len(), before + 1, "the others go on");
        assert_eq!(engine.scheduler.memory_used(), log.lock().bytes);
    }
    assert_eq!(log.lock().reads, [256, 256, 256, 256, 256, 256, 256, 208]);
    finish(&mut engine, &log, u64::MAX);
    check(&reading, &engine.reply("reading").unwrap().unwrap());
}

#[test]
fn a_prompt_that_is_being_read_gives_way() {
    let mut running = long("running", "majority", 60);
    (running.bounds.traces, running.bounds.slots) = (40, 40);
    let mut reading = long("reading", "majority", 10);
    reading.prompt = prompt(3000, 2);
    (reading.bounds.traces, reading.bounds.slots) = (1, 1);
    let limits = MockExecutor::LIMITS;
    // traces of the first take more than the ten tokens that are expected of them
    let each = limits.sequence_bytes(80, 70);
    let second = limits.sequence_bytes(3000, 0) + limits.sequence_bytes(3000, 3000);
    let plan = MemoryPlan {
        max_batch: 64,
        budget: limits.sequence_bytes(70, 0) + 40 * each + second,
        bytes_per_trace: each,
        expected_tokens: 80,
        busy: None,
    };
    let (mut engine, log) = engine(plan);
    engine.submit(&running);
    (0..3).for_each(|_| engine.scheduler.step());
    engine.submit(&reading);
    finish(&mut engine, &log, plan.budget);
    assert!(
        log.lock().reads.iter().sum::<usize>() > 70 + 3000,
        "it was read twice"
    );
    for task in [&running, &reading] {
        let got = engine.reply(&task.id).unwrap().unwrap();
        assert!(got.notices.is_empty(), "{:?}", got.notices);
        assert!(traces(&got.records) == traces(&alone(task).records));
    }
}

/// Wherever a problem is when nobody waits for it any more, its sequences are given up and nobody else
/// notices.
#[test]
fn cancelling_gives_everything_back() {
    let other = long("other", "deepconf-low", 60);
    let want = alone(&other);
    for steps in [0, 1, 5, 40] {
        let (mut engine, log) = engine(roomy(64));
        engine.submit(&other);
        let mut long_prompt = long("long prompt", "majority", 50);
        long_prompt.prompt = prompt(3000, 4);
        let controls = [
            engine.submit(&long("running", "majority", 90)),
            engine.submit(&long_prompt),
            engine.submit(&long("waiting", "majority", 50)),
        ];
        (0..steps).for_each(|_| engine.scheduler.step());
        for control in controls {
            control.cancelled.store(true, Ordering::Relaxed);
        }
        finish(&mut engine, &log, u64::MAX);
        assert_eq!(*engine.order.lock().unwrap(), ["other"]);
        let got = engine.reply("other").unwrap().unwrap();
        assert_eq!(verdict(&got.decided), verdict(&want.decided));
    }
}

#[test]
fn interrupts_and_deadlines_decide_with_what_there_is() {
    for by_clock in [false, true] {
        let (mut engine, log) = engine(roomy(10));
        let mut request = engine.request(&long("running", "majority", 90));
        if by_clock {
            request.observer.deadline = Some(Instant::now() + Duration::from_millis(300));
        }
        let control = request.observer.control.clone();
        engine.scheduler.submit(request);
        let mut waits = engine.request(&task("waits", "majority"));
        waits.observer.deadline = by_clock.then(Instant::now);
        let waiting = waits.observer.control.clone();
        (0..5).for_each(|_| engine.scheduler.step());
        engine.scheduler.submit(waits);
        if by_clock {
            std::thread::sleep(Duration::from_millis(310));
        } else {
            control.interrupted.cancel();
            waiting.interrupted.cancel();
        }
        finish(&mut engine, &log, u64::MAX);
        let cut = if by_clock {
            EarlyEnd::TimeLimit
        } else {
            EarlyEnd::Interrupted
        };
        let outcome = engine.reply("running").unwrap().unwrap();
        assert_eq!(outcome.decided.early_end(), Some(cut));
        let (ticks, tokens) = (outcome.decided.ticks, outcome.decided.tokens.cancelled);
        assert!(
            tokens == 8 * ticks && (ticks == 5 || by_clock && ticks < 5),
            "{ticks}"
        );
        match engine.reply("waits").unwrap() {
            Err(RunError::NotStarted(found)) => assert_eq!(found, cut),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn broken_logits_fail_a_trace_or_a_problem_and_nobody_else() {
    // a third of the ids break what comes after them
    let mut some = task("some", "majority");
    some.banned_ids = all_but(&[1, 2, BREAKS]);
    (some.rules.stop_ids, some.rules.max_tokens) = (vec![1], 30);
    let mut all = task("all", "majority");
    all.banned_ids = all_but(&[BREAKS]);
    let mut prompt_breaks = task("prompt", "majority");
    prompt_breaks.prompt.push(BREAKS);
    let fine = task("fine", "majority");
    let (mut engine, log) = engine(roomy(64));
    for task in [&some, &all, &prompt_breaks, &fine] {
        engine.submit(task);
    }
    finish(&mut engine, &log, u64::MAX);
    let outcome = engine.reply("some").unwrap().unwrap();
    let failed = outcome.records.iter().filter(|r| r.finish == Finish::Failed);
    assert!((1..24).contains(&failed.count()));
    assert!(matches!(engine.reply("all").unwrap(), Err(RunError::AllFailed(id)) if id == "all"));
    assert!(matches!(engine.reply("prompt").unwrap(), Err(RunError::BrokenPrompt(id)) if id == "prompt"));
    let got = engine.reply("fine").unwrap().unwrap();
    assert_eq!(verdict(&got.decided), verdict(&alone(&fine).decided));
}

/// Forced and banned ids, settings and streams reach the row of the trace that they belong to; what is said
/// to be free is not forced later, which the executor asserts.
#[test]
fn rows_say_how_their_token_is_drawn() {
    let mut task = long("p", "majority", 40);
    (task.rules.thinking_budget, task.rules.think_end) = (Some(11), vec![6, 9]);
    task.banned_ids = all_but(&[20, 30, 40]);
    let outcome = alone(&task);
    check(&task, &outcome);
    for record in &outcome.records {
        let ids = &record.arrays.token_ids;
        assert_eq!(ids[11..13], [6, 9], "the end of thinking is forced");
        let mut drawn = ids[..11].iter().chain(&ids[13..]);
        assert!(drawn.all(|id| [20, 30, 40].contains(id)));
    }
    let (mut engine, _) = engine(roomy(64));
    let mut request = engine.request(&task);
    request.observer.control = Arc::new(tts::run::Control {
        token_stream: Some(TokenStream::new(3)),
        ..Default::default()
    });
    let stream = request.observer.control.token_stream.as_ref().unwrap().read();
    engine.scheduler.submit(request);
    engine.finish(|_| ());
    let streamed = stream.borrow();
    assert!(streamed.len() == 39 && streamed.iter().all(|written| written.top_logprobs.len() == 3));
}

#[test]
fn short_prompts_go_between_the_parts_of_long_ones() {
    let sized = |id: &str, tokens: usize| Task {
        prompt: prompt(tokens, 5),
        ..long(id, "majority", 20)
    };
    let [first, second] = ["long", "longer"].map(|id| sized(id, 20_000));
    let (mut engine, log) = engine(roomy(256));
    engine.submit(&first);
    engine.submit(&second);
    (0..4).for_each(|_| engine.scheduler.step());
    let shorts = [9, 200, 700].map(|tokens| sized(&format!("short {tokens}"), tokens));
    shorts.iter().for_each(|task| {
        engine.submit(task);
    });
    finish(&mut engine, &log, u64::MAX);
    let order = engine.order.lock().unwrap().clone();
    assert_eq!(order[..3], ["short 9", "short 200", "short 700"]);
    assert_eq!(order[3..], ["long", "longer"], "who waits longest begins first");
    // in company or alone, each is what it is
    for task in shorts.iter().chain([&first, &second]) {
        let (got, want) = (engine.reply(&task.id).unwrap().unwrap(), alone(task));
        assert!(traces(&got.records) == traces(&want.records), "{}", task.id);
    }
    // a long prompt has half of every part, however many short ones come
    let (mut engine, _) = crate::bookkeeping::engine(roomy(256));
    engine.submit(&first);
    let mut steps = 0;
    while engine.reply("long").is_none() {
        let mut more = sized(&format!("{steps}"), 256);
        more.bounds.slots = 1;
        more.bounds.traces = 1;
        engine.submit(&more);
        engine.scheduler.step();
        steps += 1;
        assert!(steps < 400, "it starves");
    }
}

#[test]
fn who_waits_for_room_is_not_overtaken() {
    // 8 rows: the second needs all of them, and the third would fit beside the first
    let (mut engine, log) = engine(roomy(8));
    let wide = |id: &str, slots: usize| {
        let mut task = long(id, "majority", 40);
        (task.bounds.traces, task.bounds.slots) = (slots, slots);
        task
    };
    for task in [wide("first", 4), wide("second", 8), wide("third", 2)] {
        engine.submit(&task);
    }
    finish(&mut engine, &log, u64::MAX);
    assert_eq!(*engine.order.lock().unwrap(), ["first", "second", "third"]);
}

#[test]
fn a_text_is_scored_a_chunk_a_step_beside_what_runs() {
    let (mut engine, log) = engine(roomy(64));
    engine.submit(&long("p", "majority", 30));
    let score = |engine: &mut Engine, ids: Vec<u32>, from| {
        let (reply, found) = oneshot::channel();
        let k = 2;
        engine.scheduler.score(ScoringRequest { ids, from, k, reply });
        found
    };
    let whole = score(&mut engine, prompt(40, 1), 1);
    let end = score(&mut engine, prompt(40, 1), 30);
    let one = score(&mut engine, prompt(1, 1), 1);
    let broken = score(&mut engine, vec![1, 2, BREAKS, 4, 5], 1);
    let passed_over = score(&mut engine, vec![1, 2, BREAKS, 4, 5], 4);
    drop(score(&mut engine, prompt(400, 1), 1));
    engine.finish(|_| ());
    assert_eq!(log.lock().held, 0);
    let whole = whole.blocking_recv().unwrap().unwrap();
    assert_eq!((whole.len(), whole[0].top.len()), (39, 2));
    assert_eq!(end.blocking_recv().unwrap().unwrap(), whole[29..]);
    assert_eq!(one.blocking_recv().unwrap().unwrap(), Vec::new());
    assert!(broken.blocking_recv().unwrap().is_err());
    assert_eq!(passed_over.blocking_recv().unwrap().unwrap().len(), 1);
}

#[test]
fn states_are_saved_and_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("states");
    let mut task = long("p", "majority", 60);
    task.bounds.traces = 12;
    let whole = alone(&task);
    let run = |recorded: Vec<Arc<tts::run::TraceRecord>>, steps: usize| {
        let (mut engine, log) = engine(roomy(64));
        let mut request = engine.request(&task);
        request.run.setup.recorded = recorded;
        request.observer.checkpoint = Some(Checkpoint {
            every: Duration::ZERO,
            dir: dir.clone(),
        });
        let kept = recording(&mut request);
        engine.scheduler.submit(request);
        (0..steps).for_each(|_| engine.scheduler.step());
        (engine, log, kept)
    };
    let (killed, _, kept) = run(Vec::new(), 25);
    drop(killed);
    let newest = kept.lock().unwrap().split_off(24 * 8);
    assert_eq!(newest.len(), 8);
    assert!(newest.iter().all(|r| r.tokens == 25));
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 8);
    let recorded: Vec<_> = newest.into_iter().map(Arc::new).collect();
    let (mut engine, log, _) = run(recorded.clone(), 0);
    engine.finish(|_| ());
    let outcome = engine.reply("p").unwrap().unwrap();
    assert_eq!(verdict(&outcome.decided), verdict(&whole.decided));
    assert_eq!(log.lock().resumed, 0, "no token is read again");
    assert_eq!(
        std::fs::read_dir(&dir).unwrap().count(),
        0,
        "ended traces are forgotten"
    );
    let (mut engine, log, _) = run(recorded, 0);
    engine.finish(|_| ());
    let outcome = engine.reply("p").unwrap().unwrap();
    assert_eq!(verdict(&outcome.decided), verdict(&whole.decided));
    assert_eq!(log.lock().resumed, 8 * 24, "without their states they are read");
}
