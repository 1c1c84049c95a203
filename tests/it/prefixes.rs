//! Prompts that are kept for later ones: the same bits with and without, in bounded memory.

use tts_model::WeightFormat;
use tts_model::cpu::CpuExecutor;
use tts_model::cpu::kernels::Tier;

use crate::mock::MockExecutor;
use crate::rig::{Engine, Task, agree, model, prompt, roomy, traces};

fn turn(id: &str, ids: &[u32]) -> Task {
    let mut task = Task::new(id, "majority");
    task.prompt = ids.to_vec();
    task.bounds.traces = 3;
    task.rules.max_tokens = 12;
    task
}

/// A conversation: a first turn, the same again, one that goes on, one that leaves out how the first ended, one
/// that shares its beginning alone, one that is a beginning of the first, and one that is none of these.
fn turns() -> Vec<(Vec<u32>, &'static str)> {
    let first = prompt(700, 3);
    let on = |upto: usize, more: usize| [&first[..upto], &prompt(more, 8)[..]].concat();
    vec![
        (first.clone(), "first"),
        (first.clone(), "again"),
        (on(700, 61), "goes on"),
        (on(690, 45), "leaves out"),
        (on(300, 30), "other"),
        (first[..401].to_vec(), "beginning"),
        (prompt(90, 21), "foreign"),
    ]
}

#[test]
fn traces_do_not_depend_on_prompts_that_were_kept() {
    // keys and values alone; recurrent states beside them; states, convolutions and experts
    for (name, recurrent) in [
        ("golden/case-gqa", true),
        ("golden/family-qwen2", false),
        ("golden/family-qwen3_5_text", true),
        ("golden/family-lfm2", true),
        ("golden/family-granitemoehybrid", true),
        ("golden/family-gpt_oss", false),
    ] {
        let model = model(name, WeightFormat::Auto);
        let engine = |bytes: u64| {
            let executor = Box::new(CpuExecutor::new(model.clone(), 2, Tier::detect()));
            Engine::with_prefixes(executor, roomy(8), bytes)
        };
        let mut keeping = engine(1 << 30);
        for (i, (ids, what)) in turns().into_iter().enumerate() {
            let ids: Vec<u32> = ids.iter().map(|id| id % model.spec().vocab as u32).collect();
            let task = turn(&format!("turn {i}"), &ids);
            let with = keeping.run(&task);
            let without = engine(0).run(&task);
            let what = format!("{name}, {what}");
            assert_eq!(without.cached_tokens, 0, "{what}");
            agree(&what, &traces(&with.records), &traces(&without.records));
            assert_eq!(with.decided.digest, without.decided.digest, "{what}");
            // where a recurrent state was kept, or all that the two have in common
            let cached = match (i, recurrent) {
                (0 | 6, _) => 0,
                (1 | 2, _) => 700,
                (3, false) => 690,
                (3, true) => 640,
                (4, false) => 300,
                (4, true) => 256,
                (_, false) => 400,
                (_, true) => 384,
            };
            assert_eq!(with.cached_tokens, cached, "{what}");
        }
    }
}

#[test]
fn a_prompt_that_several_ask_for_is_read_once() {
    let (executor, log) = MockExecutor::with_log();
    let mut engine = Engine::with_prefixes(executor, roomy(8), 1 << 30);
    for i in 0..5 {
        engine.submit(&turn(&format!("choice {i}"), &prompt(900, 3)));
    }
    engine.finish(|_| ());
    assert_eq!(log.lock().reads.iter().sum::<usize>(), 900);
    for i in 0..5 {
        let outcome = engine.reply(&format!("choice {i}")).unwrap().unwrap();
        assert_eq!(outcome.cached_tokens, if i == 0 { 0 } else { 900 });
    }
}

#[test]
fn kept_prompts_take_no_more_than_they_may() {
    let limits = MockExecutor::LIMITS;
    let each = limits.sequence_bytes(400, 0);
    let (executor, log) = MockExecutor::with_log();
    let mut engine = Engine::with_prefixes(executor, roomy(8), 3 * each);
    for i in 0..9 {
        engine.run(&turn(&format!("p{i}"), &prompt(400, i)));
        assert!(engine.scheduler.memory_used() <= 3 * each, "after {i}");
        assert!(log.lock().bytes <= 3 * each, "after {i}");
    }
    assert!(engine.scheduler.memory_used() > each, "some are kept");
    assert_eq!(engine.run(&turn("last", &prompt(400, 8))).cached_tokens, 400);
    assert_eq!(engine.run(&turn("oldest", &prompt(400, 0))).cached_tokens, 0);
    // one that would fill all of it and more is not kept
    assert_eq!(engine.run(&turn("long", &prompt(4000, 2))).cached_tokens, 0);
    assert_eq!(engine.run(&turn("long again", &prompt(4000, 2))).cached_tokens, 0);
}

#[test]
fn kept_prompts_go_before_anything_that_runs() {
    let limits = MockExecutor::LIMITS;
    let mut plan = roomy(8);
    let mut long = turn("long", &prompt(300, 50));
    long.rules.max_tokens = 200;
    long.rules.stop_ids.clear();
    long.bounds.traces = 8;
    // room for the eight traces at their end, and for little beside them
    plan.budget = limits.sequence_bytes(300, 0) + 8 * limits.sequence_bytes(500, 300) + 1000;
    let (executor, _log) = MockExecutor::with_log();
    let mut engine = Engine::with_prefixes(executor, plan, plan.budget);
    for i in 0..4 {
        engine.run(&turn(&format!("p{i}"), &prompt(400, i)));
    }
    assert!(engine.scheduler.memory_used() > plan.budget / 4);
    engine.submit(&long);
    engine.finish(|scheduler| assert!(scheduler.memory_used() <= plan.budget));
    let outcome = engine.reply("long").unwrap().unwrap();
    assert_eq!(outcome.peak_rows, 8);
    assert!(outcome.notices.is_empty(), "{:?}", outcome.notices);
    let (executor, _log) = MockExecutor::with_log();
    let alone = Engine::on(executor, plan).run(&long);
    assert_eq!(outcome.decided.digest, alone.decided.digest);
}
