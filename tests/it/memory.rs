//! Memory is asked for before it is needed: what does not fit waits, is set aside and comes back bit for bit,
//! or goes on with fewer slots.

use std::sync::Arc;

use tts::engine::memory::MemoryPlan;
use tts::run::{Arrays, ExternalEvent};
use tts_model::Model;
use tts_model::cpu::CpuExecutor;
use tts_model::cpu::kernels::Tier;

use crate::rig::{Engine, Task, agree, check, gqa, prompt, recording, roomy, stops, traces, verdict};

/// A problem whose traces all reach `tokens`.
fn long(id: &str, strategy: &str, tokens: usize) -> Task {
    let mut task = Task::new(id, strategy);
    task.rules.ignore_eos = true;
    task.rules.max_tokens = tokens;
    task.rules.loop_stop = false;
    task
}

/// A plan that expects traces of 10 tokens after the prompt, and has memory for `rows` of them after each of
/// `prompts`, and a little more.
fn short_sighted(model: &Model, prompts: &[usize], rows: usize, blocks: usize) -> MemoryPlan {
    let limits = CpuExecutor::limits_of(model, 1);
    let longest = *prompts.iter().max().unwrap();
    let each = limits.sequence_bytes(longest + 10, longest);
    let held: u64 = prompts.iter().map(|p| limits.sequence_bytes(*p, 0)).sum();
    let budget = held + rows as u64 * each + blocks as u64 * limits.block_bytes;
    MemoryPlan {
        max_batch: 64,
        budget,
        bytes_per_trace: each,
        expected_tokens: longest + 10,
        busy: None,
    }
}

#[test]
fn the_youngest_problem_is_set_aside_and_comes_back_bit_for_bit() {
    let model = gqa();
    let tasks: Vec<_> = ["majority", "deepconf-low", "majority", "majority"]
        .iter()
        .enumerate()
        .map(|(i, strategy)| {
            let mut task = long(&format!("{i}"), strategy, [90, 110, 120, 30][i]);
            task.prompt = prompt(70, i);
            task.bounds.traces = 12;
            if i == 2 {
                // what is forced, penalised and counted must come back too
                task.sampling.repetition_penalty = 1.2;
                (task.rules.thinking_budget, task.rules.think_end) = (Some(58), vec![6, 9, 11]);
            }
            task
        })
        .collect();
    let want: Vec<_> = tasks.iter().map(|task| Engine::roomy(&model).run(task)).collect();
    for threads in [1, 2] {
        let plan = short_sighted(&model, &[70; 3], 24, 10);
        let mut engine = Engine::new(&model, threads, Tier::detect(), plan);
        tasks.iter().for_each(|task| {
            engine.submit(task);
        });
        engine.finish(|s| {
            assert!(
                s.memory_used() <= plan.budget,
                "{} of {}",
                s.memory_used(),
                plan.budget
            )
        });
        let got: Vec<_> = tasks
            .iter()
            .map(|task| engine.reply(&task.id).unwrap().unwrap())
            .collect();
        for ((task, got), want) in tasks.iter().zip(&got).zip(&want) {
            check(task, got);
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
        }
        assert!(
            got[2].notices.iter().any(|n| n.contains("set aside")),
            "{:?}",
            got[2].notices
        );
        assert!(got[0].notices.is_empty() && got[3].notices.is_empty());
        assert_eq!(
            engine.order.lock().unwrap()[0],
            "0",
            "what waits does not overtake what was set aside"
        );
        assert_eq!(engine.scheduler.memory_used(), 0);
    }
}

#[test]
fn a_lone_problem_goes_on_with_fewer_slots_and_records_it() {
    let model = gqa();
    for strategy in ["majority", "deepconf-low", "deepconf-high"] {
        let mut task = long("p", strategy, 200);
        task.prompt = prompt(64, 5);
        task.bounds.slots = 12;
        if strategy != "majority" {
            (task.rules.ignore_eos, task.rules.stop_ids) = (false, stops(150));
        }
        let free = traces(&Engine::roomy(&model).run(&task).records);
        let plan = short_sighted(&model, &[64], 12, 5);
        let mut engine = Engine::new(&model, 1, Tier::detect(), plan);
        engine.submit(&task);
        engine.finish(|s| assert!(s.memory_used() <= plan.budget));
        let outcome = engine.reply("p").unwrap().unwrap();
        // its replay applies the changes of slots where they struck
        check(&task, &outcome);
        assert_eq!((outcome.bounds.slots, outcome.peak_rows), (12, 12));
        let slots: Vec<_> = outcome
            .decided
            .external_events
            .iter()
            .map(|o| {
                if let ExternalEvent::Slots { slots, .. } = o {
                    *slots
                } else {
                    0
                }
            })
            .collect();
        assert!(slots.windows(2).all(|w| w[1] < w[0]), "{slots:?}");
        if strategy == "majority" {
            assert!(slots.len() > 2 && slots[0] == 11, "{slots:?}");
            assert!(
                outcome.notices.iter().any(|n| n.contains("outgrew")),
                "{:?}",
                outcome.notices
            );
        }
        agree(strategy, &traces(&outcome.records), &free);
    }
}

#[test]
fn one_trace_that_outgrows_everything_still_runs() {
    let model = gqa();
    let mut task = long("p", "majority", 80);
    task.bounds.slots = 3;
    task.bounds.traces = 4;
    let want = traces(&Engine::roomy(&model).run(&task).records);
    let plan = MemoryPlan {
        max_batch: 64,
        budget: 1000,
        bytes_per_trace: 1,
        expected_tokens: 10,
        busy: None,
    };
    let outcome = Engine::new(&model, 1, Tier::detect(), plan).run(&task);
    assert_eq!(traces(&outcome.records), want);
    assert!(
        outcome.notices.iter().any(|n| n.contains("beyond the plan")),
        "{:?}",
        outcome.notices
    );
    assert_eq!(outcome.peak_rows, 1);
}

#[test]
fn more_than_the_machine_has_is_run_in_waves() {
    let model = gqa();
    let mut task = long("p", "majority", 40);
    task.bounds.traces = 100;
    task.bounds.slots = 100;
    let memory = 6 << 20;
    let plan = MemoryPlan::new(
        &CpuExecutor::limits_of(&model, 1),
        task.prompt.len(),
        task.rules.max_tokens,
        Some(memory),
        None,
    );
    assert!(plan.max_batch > 4 && plan.max_batch < 60, "{plan:?}");
    let mut engine = Engine::new(&model, 1, Tier::detect(), plan);
    engine.submit(&task);
    engine.finish(|s| assert!(s.memory_used() <= plan.budget));
    let outcome = engine.reply("p").unwrap().unwrap();
    check(&task, &outcome);
    // all that the plan promises is used, and nothing had to be taken back
    assert_eq!((outcome.peak_rows, outcome.records.len()), (plan.max_batch, 100));
    assert!(
        outcome.decided.external_events.is_empty() && outcome.notices.len() == 1,
        "{:?}",
        outcome.notices
    );
    task.bounds.slots = plan.max_batch;
    assert_eq!(
        verdict(&Engine::roomy(&model).run(&task).decided),
        verdict(&outcome.decided)
    );
}

#[test]
fn problems_join_a_busy_batch_when_half_of_their_rows_are_wanted() {
    let model = gqa();
    let tasks: Vec<_> = (0..4)
        .map(|i| {
            let mut task = Task::new(&format!("{i}"), "majority");
            (task.bounds.traces, task.bounds.slots) = if i == 3 { (20, 20) } else { (8, 8) };
            task.rules.max_tokens = 60;
            task
        })
        .collect();
    let run = |busy| {
        let mut engine = Engine::new(&model, 1, Tier::detect(), MemoryPlan { busy, ..roomy(64) });
        tasks.iter().for_each(|task| {
            engine.submit(task);
        });
        let mut most = 0;
        engine.finish(|s| most = most.max(s.rows()));
        let outcomes: Vec<_> = tasks
            .iter()
            .map(|task| engine.reply(&task.id).unwrap().unwrap())
            .collect();
        assert_eq!(
            outcomes[3].peak_rows, 20,
            "one that is wider than busy runs as wide as it is"
        );
        (
            most,
            outcomes.iter().map(|o| traces(&o.records)).collect::<Vec<_>>(),
        )
    };
    let (free, wanted) = run(None);
    assert!(free > 20 + 8 + 4, "{free}");
    let (busy, got) = run(Some(8));
    assert!((20..=20 + 4).contains(&busy), "{busy}");
    assert!(got == wanted, "when a problem begins changes none of its traces");
}

#[test]
fn plans_promise_no_more_than_there_is() {
    let model = gqa();
    for memory in [0u64, 1 << 20, 5 << 20, 100 << 20, 1 << 33] {
        for (prompt, max_tokens) in [(1, 1), (64, 100), (500, 1_000_000)] {
            let limits = CpuExecutor::limits_of(&model, 2);
            let plan = MemoryPlan::new(&limits, prompt, max_tokens, Some(memory), None);
            let prefix = limits.sequence_bytes(prompt, 0);
            let promised = prefix + plan.max_batch as u64 * plan.bytes_per_trace;
            assert!(
                plan.budget <= memory && (plan.max_batch == 1 || promised <= plan.budget),
                "{memory}: {plan:?}"
            );
            assert_eq!(
                MemoryPlan::new(&limits, prompt, max_tokens, Some(memory), Some(9)).max_batch,
                9
            );
        }
    }
    assert!(tts_model::cpu::memory::available() > 1 << 20);
}

/// What a journal keeps is not held: the problem is decided as it would be with it.
#[test]
fn ended_traces_are_let_go_once_they_are_kept() {
    let model = gqa();
    for strategy in ["majority", "deepconf-low"] {
        let task = Task::new("p", strategy);
        let whole = Engine::roomy(&model).run(&task);
        let mut engine = Engine::roomy(&model);
        let mut request = engine.request(&task);
        let kept = recording(&mut request);
        engine.scheduler.submit(request);
        engine.finish(|_| ());
        let lean = engine.reply("p").unwrap().unwrap();
        assert!(whole.decided.digest.is_some() && whole.decided.solution.is_some());
        assert_eq!(verdict(&lean.decided), verdict(&whole.decided));
        assert!(lean.records.iter().all(|r| r.arrays == Arrays::default()));
        assert_eq!(traces(&kept.lock().unwrap()), traces(&whole.records));
    }
}

/// Problems are admitted only where the traces that run already keep the room that they are expected to need.
#[test]
fn what_does_not_fit_waits() {
    let model: Arc<Model> = gqa();
    let tasks: Vec<_> = (0..3)
        .map(|i| {
            let mut task = long(&format!("{i}"), "majority", 100);
            task.bounds.traces = 8;
            task
        })
        .collect();
    let limits = CpuExecutor::limits_of(&model, 1);
    let each = limits.sequence_bytes(170, 70);
    let budget = 2 * limits.sequence_bytes(70, 0) + 8 * each + 7 * each;
    let plan = MemoryPlan { budget, ..roomy(64) };
    let mut engine = Engine::new(&model, 1, Tier::detect(), plan);
    tasks.iter().for_each(|task| {
        engine.submit(task);
    });
    engine.finish(|s| assert!(s.memory_used() <= budget));
    assert_eq!(*engine.order.lock().unwrap(), ["0", "1", "2"]);
    for task in &tasks {
        let outcome = engine.reply(&task.id).unwrap().unwrap();
        check(task, &outcome);
        assert!(
            outcome.notices.is_empty() && outcome.decided.external_events.is_empty(),
            "nothing was set aside: {:?}",
            outcome.notices
        );
    }
}

#[test]
fn a_prompt_that_is_being_read_gives_way_to_those_that_run() {
    let model = gqa();
    let limits = CpuExecutor::limits_of(&model, 1);
    let mut running = long("running", "majority", 120);
    running.prompt = prompt(70, 1);
    (running.bounds.traces, running.bounds.slots) = (40, 40);
    let mut reading = long("reading", "majority", 10);
    reading.prompt = prompt(2600, 2);
    (reading.bounds.traces, reading.bounds.slots) = (1, 1);
    let want: Vec<_> = [&running, &reading]
        .map(|task| Engine::roomy(&model).run(task))
        .into();
    let each = limits.sequence_bytes(80, 70);
    let both = limits.sequence_bytes(70, 0)
        + 40 * each
        + limits.sequence_bytes(2600, 0)
        + limits.sequence_bytes(2600, 2600);
    let plan = MemoryPlan {
        max_batch: 64,
        budget: both,
        bytes_per_trace: each,
        expected_tokens: 80,
        busy: None,
    };
    let mut engine = Engine::new(&model, 1, Tier::detect(), plan);
    engine.submit(&running);
    (0..50).for_each(|_| engine.scheduler.step());
    engine.submit(&reading);
    engine.finish(|s| {
        assert!(
            s.memory_used() <= plan.budget,
            "{} of {}",
            s.memory_used(),
            plan.budget
        )
    });
    for (task, want) in [&running, &reading].into_iter().zip(&want) {
        let got = engine.reply(&task.id).unwrap().unwrap();
        check(task, &got);
        assert!(got.notices.is_empty(), "{:?}", got.notices);
        assert!(
            traces(&got.records) == traces(&want.records),
            "problem {}",
            task.id
        );
    }
    let once = 70 + 40 * 119 + 2600 + 9;
    assert!(
        engine.scheduler.executor().positions() > once,
        "it was read twice"
    );
}
