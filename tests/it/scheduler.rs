//! A decision is a function of the traces and the strategy's settings; every token is counted once; live
//! equals replay.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;
use tts::run::{
    self, Bounds, Checkpoint, Control, EarlyEnd, FateCounts, Setup, Slots, Token, TokenStream, TraceRecord,
};
use tts_model::cpu::kernels::Tier;
use tts_model::sampling::Sampling;
use tts_strategies::Finish;

use crate::mock::MockExecutor;
use crate::rig::{Engine, Task, VOCAB, check, gqa, preset, prompt, recording, roomy, stops, traces, verdict};

/// A problem that is in the way of others, different every time.
fn bystander(i: usize) -> Task {
    let mut task = Task::new(
        &format!("bystander {i}"),
        ["deepconf-low", "majority", "esc", "deepconf-high"][i % 4],
    );
    task.prompt = prompt(5 + 43 * i, i);
    task.bounds.traces = 3 + 5 * i;
    task.bounds.slots = 1 + 4 * i;
    task.rules.max_tokens = 12 + 9 * i;
    task.sampling = Sampling {
        temperature: 0.4 * i as f64,
        top_p: 0.9,
        presence_penalty: 0.5,
        ..Sampling::default()
    };
    task
}

#[test]
fn decisions_depend_on_slots_and_on_nothing_else_of_the_batch() {
    let model = gqa();
    for (strategy, consensus) in [
        ("majority", None),
        ("deepconf-low", None),
        ("deepconf-high", None),
        ("deepconf-low", Some(0.6)),
    ] {
        let mut task = Task::new("p", strategy);
        task.strategy = preset(strategy, consensus);
        task.bounds.traces = 40;
        task.bounds.slots = 7;
        let alone = Engine::new(&model, 1, Tier::detect(), roomy(7)).run(&task);
        let want = (verdict(&alone.decided), traces(&alone.records));
        for (max_batch, threads, crowd) in [(64, 1, 0), (7, 2, 0), (16, 1, 3), (33, 2, 4)] {
            let mut engine = Engine::new(&model, threads, Tier::detect(), roomy(max_batch));
            let controls: Vec<_> = (0..crowd).map(|i| engine.submit(&bystander(i))).collect();
            engine.submit(&task);
            let mut steps = 0;
            while !engine.scheduler.is_idle() {
                engine.scheduler.step();
                steps += 1;
                if crowd > 0 && steps == 9 {
                    controls[1].cancelled.store(true, Ordering::Relaxed);
                    controls[2].interrupted.cancel();
                    engine.submit(&bystander(crowd));
                }
            }
            let outcome = engine.reply("p").unwrap().unwrap();
            check(&task, &outcome);
            let got = (verdict(&outcome.decided), traces(&outcome.records));
            assert!(
                got == want,
                "{strategy} at {max_batch} rows, {threads} threads, beside {crowd} others:\n{}\ninstead \
                 of\n{}",
                got.0,
                want.0
            );
            if crowd > 0 {
                assert!(
                    engine.reply("bystander 1").is_none(),
                    "nobody waits for what was cancelled"
                );
                assert_eq!(
                    engine.reply("bystander 2").unwrap().unwrap().decided.early_end(),
                    Some(EarlyEnd::Interrupted)
                );
                for i in [0, 3].into_iter().filter(|i| *i < crowd).chain([crowd]) {
                    check(
                        &bystander(i),
                        &engine.reply(&format!("bystander {i}")).unwrap().unwrap(),
                    );
                }
            }
        }
        // other slots: the same traces, though not always the same decision
        task.bounds.slots = 13;
        let other = Engine::roomy(&model).run(&task);
        crate::rig::agree("13 slots", &traces(&other.records), &want.1);
    }
}

#[test]
fn a_long_prompt_is_read_beside_the_others() {
    let model = gqa();
    let mut running = Task::new("running", "majority");
    (
        running.rules.ignore_eos,
        running.rules.loop_stop,
        running.rules.max_tokens,
    ) = (true, false, 200);
    let mut long = Task::new("long", "deepconf-low");
    long.prompt = prompt(5000, 3);
    let alone = [&running, &long].map(|task| traces(&Engine::roomy(&model).run(task).records));
    for threads in [1, 2] {
        let mut engine = Engine::new(&model, threads, Tier::detect(), roomy(64));
        let mut request = engine.request(&running);
        request.observer.control = Arc::new(Control {
            token_stream: Some(TokenStream::new(3)),
            ..Control::default()
        });
        let stream = request.observer.control.token_stream.as_ref().unwrap().read();
        engine.scheduler.submit(request);
        engine.scheduler.step();
        let (events, mut told) = tokio::sync::broadcast::channel(8);
        let mut request = engine.request(&long);
        request.observer.events = Some(events);
        engine.scheduler.submit(request);
        let mut steps = 0;
        while told.try_recv().is_err() {
            let before = stream.borrow().len();
            engine.scheduler.step();
            steps += 1;
            // the last token is not for those who read along
            let more = stream.borrow().len() - before;
            assert!(more == 1 || before == 199, "one token in every step");
        }
        assert!(
            steps >= 5000_usize.div_ceil(256),
            "a part of the prompt at most in every step"
        );
        engine.finish(|_| ());
        for (task, alone) in [&running, &long].into_iter().zip(&alone) {
            let outcome = engine.reply(&task.id).unwrap().unwrap();
            check(task, &outcome);
            assert!(traces(&outcome.records) == *alone, "{}", task.id);
        }
        // what is read along is the first trace, its last token aside
        let streamed = stream.borrow();
        let (last, first) = alone[0][&0].split_last().unwrap();
        let read: Vec<_> = streamed.iter().map(|w| (w.id, w.logprob.to_bits())).collect();
        let written: Vec<_> = first.iter().map(|(id, logprob, _)| (*id, *logprob)).collect();
        assert_eq!(read, written);
        assert!(
            last.0 < VOCAB
                && streamed
                    .iter()
                    .all(|w| w.top_logprobs.len() == 3 && w.top_logprobs.is_sorted_by(|a, b| a.1 >= b.1))
        );
    }
}

/// Slots that grow come to more rows than the batch holds: problems then wait for each other, and none decides
/// otherwise for it.
#[test]
fn problems_whose_slots_grow_take_turns() {
    let task = |i: usize| {
        let strategy = ["majority", "deepconf-low", "adaptive-consistency"][i % 3];
        let mut task = Task::new(&format!("p{i}"), strategy);
        task.prompt = prompt(5 + 3 * i, i);
        task.bounds = Bounds::new(60, Slots::growing(2, 2), None);
        task
    };
    let tasks: Vec<Task> = (0..6).map(task).collect();
    let alone = |task: &Task| {
        let (executor, log) = MockExecutor::with_log();
        let outcome = Engine::on(executor, roomy(64)).run(task);
        let steps = log.lock().steps.clone();
        (verdict(&outcome.decided), traces(&outcome.records), steps)
    };
    let alone: Vec<_> = tasks.iter().map(alone).collect();
    let majority = &alone[0].2;
    assert!(
        majority[0] == 2 && majority.iter().max() == Some(&30),
        "two, four, eight, sixteen, and the thirty that are left: {majority:?}"
    );
    let (executor, log) = MockExecutor::with_log();
    let mut engine = Engine::on(executor, roomy(32));
    tasks.iter().for_each(|task| drop(engine.submit(task)));
    engine.finish(|_| ());
    for (task, alone) in tasks.iter().zip(&alone) {
        let outcome = engine.reply(&task.id).unwrap().unwrap();
        check(task, &outcome);
        let got = (verdict(&outcome.decided), traces(&outcome.records));
        assert_eq!((&got.0, &got.1), (&alone.0, &alone.1), "{}", task.id);
    }
    let log = log.lock();
    assert!(log.steps.iter().all(|rows| *rows <= 32), "{:?}", log.steps);
    let each: usize = alone.iter().map(|alone| alone.2.len()).sum();
    assert!(
        log.steps.len() * 2 < each,
        "they share steps: {} of {each}",
        log.steps.len()
    );
}

#[test]
fn fewer_rows_than_slots_is_said_and_recorded() {
    let model = gqa();
    let mut task = Task::new("p", "majority");
    task.bounds.slots = 20;
    let outcome = Engine::new(&model, 1, Tier::detect(), roomy(5)).run(&task);
    assert_eq!(
        (outcome.bounds.slots, outcome.slots_wanted, outcome.peak_rows),
        (5, 20, 5)
    );
    assert!(
        outcome.notices[0].starts_with("5 traces at a time instead of 20"),
        "{:?}",
        outcome.notices
    );
    task.bounds.slots = 5;
    let asked = Engine::roomy(&model).run(&task);
    assert_eq!(verdict(&asked.decided), verdict(&outcome.decided));
    assert!(asked.notices.is_empty());
}

/// What was recorded is not generated again, and what was not is generated as it would have been.
#[test]
fn a_run_is_resumed_from_any_part_of_its_records() {
    let model = gqa();
    for strategy in ["majority", "deepconf-low"] {
        let task = Task::new("p", strategy);
        let whole = Engine::roomy(&model).run(&task);
        for keep in [0, 1, 5, whole.records.len() - 1, whole.records.len()] {
            let mut engine = Engine::roomy(&model);
            let mut request = engine.request(&task);
            let kept = &whole.records[..keep];
            request.run.setup.recorded = kept.iter().cloned().map(Arc::new).collect();
            let written = Arc::new(std::sync::Mutex::new(Vec::new()));
            let sink = written.clone();
            request.observer.records = Some(Box::new(move |record| {
                sink.lock().unwrap().push(record.trace);
                Ok(())
            }));
            engine.scheduler.submit(request);
            engine.finish(|_| ());
            let outcome = engine.reply("p").unwrap().unwrap();
            assert_eq!(
                verdict(&outcome.decided),
                verdict(&whole.decided),
                "{strategy}, {keep} kept"
            );
            let fresh: Vec<_> = whole.records[keep..].iter().map(|r| r.trace).collect();
            assert_eq!(
                *written.lock().unwrap(),
                fresh,
                "{strategy}, {keep} kept: what is journalled"
            );
            let decoded: u64 = whole.records[keep..].iter().map(|r| r.tokens as u64 - 1).sum();
            // traces that were stopped may have been ahead
            let stopped =
                |r: &&TraceRecord| r.finish == Finish::LowConfidence || r.finish == Finish::Cancelled;
            let ahead = 32 * whole.records[keep..].iter().filter(stopped).count() as u64;
            let least = task.prompt.len() as u64 + decoded;
            let read = engine.scheduler.executor().positions();
            assert!(
                (least..=least + ahead).contains(&read),
                "{strategy}, {keep} kept: {read}, at least {least}"
            );
        }
    }
}

/// A killed run goes on from the states of its traces in flight, bit for bit and without reading their tokens
/// again; where a state is damaged or missing they are read.
#[test]
fn states_of_traces_in_flight_are_taken_up() {
    let model = gqa();
    let mut task = Task::new("p", "majority");
    (task.rules.ignore_eos, task.rules.loop_stop, task.rules.max_tokens) = (true, false, 100);
    task.bounds.traces = 12;
    for (length, steps) in [(70, 1), (70, 41), (64, 70), (70, 150)] {
        task.prompt = prompt(length, 0);
        let whole = Engine::roomy(&model).run(&task);
        let folder = tempfile::tempdir().unwrap();
        let with = |recorded: Vec<Arc<TraceRecord>>, states: bool| {
            let mut engine = Engine::roomy(&model);
            let mut request = engine.request(&task);
            request.run.setup.recorded = recorded;
            let kept = recording(&mut request);
            let dir = folder.path().join("states");
            let every = Duration::ZERO;
            request.observer.checkpoint = states.then_some(Checkpoint { every, dir });
            engine.scheduler.submit(request);
            (engine, kept)
        };
        let (mut killed, kept) = with(Vec::new(), true);
        (0..steps).for_each(|_| killed.scheduler.step());
        drop(killed);
        let mut newest: BTreeMap<u32, TraceRecord> = BTreeMap::new();
        for record in kept.lock().unwrap().drain(..) {
            newest.insert(record.trace, record);
        }
        let in_flight = || newest.values().filter(|r| r.finish == Finish::Cancelled);
        assert_eq!(in_flight().count(), if steps < 100 { 8 } else { 4 });
        let again: u64 = in_flight().map(|r| r.tokens as u64 - 1).sum();
        let recorded: Vec<_> = newest.values().cloned().map(Arc::new).collect();
        let read = |states| {
            let (mut engine, _) = with(recorded.clone(), states);
            engine.finish(|_| ());
            let outcome = engine.reply("p").unwrap().unwrap();
            assert_eq!(
                verdict(&outcome.decided),
                verdict(&whole.decided),
                "{length}, {steps}: {states}"
            );
            engine.scheduler.executor().positions()
        };
        let without = read(false);
        // one state is damaged: its tokens are read
        let damaged = in_flight().next().unwrap();
        let states: Vec<_> = std::fs::read_dir(folder.path().join("states"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        assert_eq!(states.len(), in_flight().count());
        let spoilt = states
            .iter()
            .find(|p| p.to_str().unwrap().ends_with(&format!("-{}", damaged.trace)))
            .unwrap();
        let mut bytes = std::fs::read(spoilt).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(spoilt, bytes).unwrap();
        assert_eq!(
            read(true),
            without - again + damaged.tokens as u64 - 1,
            "{length}, {steps}"
        );
        assert_eq!(
            std::fs::read_dir(folder.path().join("states")).unwrap().count(),
            0,
            "ended traces are forgotten"
        );
    }
}

/// A model this small draws tokens ahead of its traces' records; states are kept when the two have met.
#[test]
fn states_that_are_kept_are_no_further_than_their_tokens() {
    let model = gqa();
    let mut task = Task::new("p", "majority");
    (task.rules.ignore_eos, task.rules.loop_stop, task.rules.max_tokens) = (true, false, 100);
    (task.bounds.traces, task.bounds.slots) = (8, 8);
    let whole = Engine::roomy(&model).run(&task);
    let folder = tempfile::tempdir().unwrap();
    let every = Duration::from_millis(500);
    let with = |recorded: Vec<Arc<TraceRecord>>, every| {
        let mut engine = Engine::roomy(&model);
        let mut request = engine.request(&task);
        request.run.setup.recorded = recorded;
        let kept = recording(&mut request);
        let dir = folder.path().join("states");
        request.observer.checkpoint = Some(Checkpoint { every, dir });
        engine.scheduler.submit(request);
        (engine, kept)
    };
    let (mut killed, kept) = with(Vec::new(), every);
    (0..20).for_each(|_| killed.scheduler.step());
    let ahead = killed.scheduler.executor().positions() > (task.prompt.len() + 8 * 20) as u64;
    assert!(ahead, "tokens are drawn ahead");
    std::thread::sleep(every);
    kept.lock().unwrap().clear();
    for step in 0.. {
        assert!(step < 40, "traces never fall in");
        killed.scheduler.step();
        if !kept.lock().unwrap().is_empty() {
            break;
        }
    }
    drop(killed);
    let recorded: Vec<_> = kept.lock().unwrap().drain(..).map(Arc::new).collect();
    assert_eq!(recorded.len(), 8);
    let left: usize = recorded.iter().map(|r| 100 - r.tokens).sum();
    let (mut engine, _) = with(recorded, Duration::from_secs(60));
    engine.finish(|_| ());
    let outcome = engine.reply("p").unwrap().unwrap();
    assert_eq!(verdict(&outcome.decided), verdict(&whole.decided));
    assert_eq!(
        engine.scheduler.executor().positions(),
        (task.prompt.len() + left) as u64,
        "what is read"
    );
}

/// Another strategy decides over the records of a run of complete traces as it would have decided live.
#[test]
fn a_recording_of_whole_traces_serves_other_strategies() {
    let model = gqa();
    let full = Engine::roomy(&model).run(&Task::new("p", "majority"));
    for strategy in [
        "deepconf-low",
        "deepconf-high",
        "deepconf-offline",
        "adaptive-consistency",
        "esc",
        "short-m-at-k",
        "best-of-n",
        "borda",
    ] {
        let task = Task::new("p", strategy);
        let live = Engine::roomy(&model).run(&task);
        let recorded = full.records.iter().cloned().map(Arc::new).collect();
        let (problem, records) = run::replay(
            Setup {
                recorded,
                ..task.setup()
            },
            |trace| panic!("trace {trace} is all there"),
        );
        let replayed = problem.decide(&records);
        assert_eq!(traces(&records), traces(&live.records), "{strategy}");
        assert_eq!(
            (replayed.answer, replayed.tokens, replayed.traces, replayed.digest),
            (
                live.decided.answer,
                live.decided.tokens,
                live.decided.traces,
                live.decided.digest
            ),
            "{strategy}"
        );
        assert_eq!(
            (replayed.ticks, replayed.decision),
            (live.decided.ticks, live.decided.decision),
            "{strategy}"
        );
    }
}

/// A record that ends before the strategy is through with it is asked for, and counted as failed if it cannot
/// be had.
#[test]
fn replay_says_what_is_missing() {
    let model = gqa();
    let task = Task::new("p", "majority");
    let mut records = Engine::roomy(&model).run(&task).records;
    records.retain(|r| r.trace != 3);
    let cut = records.iter_mut().find(|r| r.trace == 5 && r.tokens > 1).unwrap();
    (cut.tokens, cut.finish) = (1, Finish::Cancelled);
    let a = &mut cut.arrays;
    a.len = 1;
    a.token_ids.truncate(1);
    a.logprobs.truncate(1);
    a.confidence.truncate(1);
    let recorded = records.into_iter().map(Arc::new).collect();
    let mut missing = Vec::new();
    let (problem, _) = run::replay(
        Setup {
            recorded,
            ..task.setup()
        },
        |trace| missing.push(trace),
    );
    missing.sort_unstable();
    assert_eq!((missing, problem.traces().failed), (vec![3, 5], 2));
}

#[derive(Clone, Debug)]
struct Case {
    strategy: usize,
    traces: usize,
    slots: usize,
    max_tokens: usize,
    max_total_tokens: Option<u64>,
    thinking_budget: Option<usize>,
    ignore_eos: bool,
    consensus: Option<f64>,
    temperature: f64,
    stop_step: usize,
    interrupt: Option<usize>,
    prompt: usize,
}

fn case() -> impl Strategy<Value = Case> {
    let run = (
        0..1000usize,
        1..40usize,
        1..20usize,
        1..50usize,
        prop::option::of(1..900u64),
        prop::option::of(0..20usize),
    );
    let rest = (
        prop::bool::weighted(0.2),
        prop::option::of(0.51..1.0f64),
        0.0..1.5f64,
        3..60usize,
        prop::option::weighted(0.3, 0..60usize),
        1..140usize,
    );
    (run, rest).prop_map(
        |(
            (strategy, traces, slots, max_tokens, max_total_tokens, thinking_budget),
            (ignore_eos, consensus, temperature, stop_step, interrupt, prompt),
        )| Case {
            strategy,
            traces,
            slots,
            max_tokens,
            max_total_tokens,
            thinking_budget,
            ignore_eos,
            consensus,
            temperature,
            stop_step,
            interrupt,
            prompt,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the settings: tokens and traces are conserved and the records replay (see `check`), and no
    /// bound is passed.
    #[test]
    fn books_balance(c in case()) {
        let names: Vec<_> = tts_strategies::names().collect();
        let mut task = Task::new("p", "majority");
        task.strategy = preset(names[c.strategy % names.len()], c.consensus);
        task.prompt = prompt(c.prompt, 1);
        (task.bounds.traces, task.bounds.slots) = (c.traces, c.slots);
        task.bounds.max_total_tokens = c.max_total_tokens;
        (task.rules.max_tokens, task.rules.ignore_eos) = (c.max_tokens, c.ignore_eos);
        task.rules.stop_ids = stops(c.stop_step);
        (task.rules.thinking_budget, task.rules.think_end) = (c.thinking_budget, vec![6, 4]);
        task.sampling.temperature = c.temperature;
        let mut engine = Engine::roomy(&gqa());
        let control = engine.submit(&task);
        let mut steps = 0;
        while !engine.scheduler.is_idle() {
            if c.interrupt == Some(steps) {
                control.interrupted.cancel();
            }
            engine.scheduler.step();
            steps += 1;
        }
        match engine.reply("p").unwrap() {
            Ok(outcome) => {
                check(&task, &outcome);
                let d = &outcome.decided;
                prop_assert!(outcome.peak_rows <= c.slots && d.tokens.total() <= d.ticks * c.slots as u64);
                prop_assert!(outcome.records.iter().all(|r| r.tokens <= c.max_tokens));
                match c.max_total_tokens {
                    Some(max) if d.early_end() == Some(EarlyEnd::MaxTotalTokens) => {
                        prop_assert!((max..max + c.slots as u64).contains(&d.tokens.total()))
                    }
                    Some(max) => prop_assert!(d.tokens.total() < max + c.slots as u64),
                    None => prop_assert!(d.early_end() != Some(EarlyEnd::MaxTotalTokens)),
                }
                if c.ignore_eos {
                    prop_assert!(outcome.records.iter().all(|r| r.finish != Finish::Stop));
                }
            }
            Err(error) => prop_assert!(c.interrupt == Some(0), "{error}"),
        }
    }
}

/// The tokens of a problem that is cut are in its books at every moment.
#[test]
fn books_hold_what_is_in_flight() {
    let task = Task::new("p", "deepconf-low");
    let mut problem = run::ProblemRun::new(task.setup());
    let mut tokens = 0;
    while !problem.is_over() {
        tokens += problem.live().len() as u64;
        problem.tick(|i, trace| {
            let id = (trace.id() * 7 + trace.tokens() as u32 * 13 + i as u32) % 300;
            Token::Drawn(tts_model::sampling::Drawn {
                id,
                logprob: -1.0,
                confidence: (id % 11) as f32,
                entropy: 1.0,
                self_certainty: 1.0,
                top: [-1.0; 20],
            })
        });
        let (ended, live): (FateCounts, u64) = problem.tokens();
        assert_eq!(ended.total() + live, tokens);
    }
}
