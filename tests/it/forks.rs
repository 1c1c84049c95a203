//! Traces that go on from the middle of others: the same tokens whatever was kept, live as replayed, and the books.

use std::collections::BTreeMap;
use std::sync::Arc;

use tts::engine::memory::MemoryPlan;
use tts::run::{Outcome, TraceRecord};
use tts_model::Model;
use tts_model::cpu::CpuExecutor;
use tts_model::cpu::kernels::Tier;
use tts_model::executor::Executor;
use tts_strategies::{
    Decision, Fork, Limits, Needs, Next, Overrides, Step, Strategy, TokenScalars, TraceId, TraceOutcome,
};

use crate::mock::MockExecutor;
use crate::rig::{Engine, Reply, Task, gqa, gqa_in_each, recording, roomy, traces, verdict};

/// Whole traces, and when these have ended the forks that it is told.
#[derive(Clone, Default)]
struct Splits {
    whole: usize,
    forks: Vec<Fork>,
    /// where states are to be kept
    every: Option<usize>,
    ended: usize,
}

impl Strategy for Splits {
    fn name(&self) -> &str {
        "splits"
    }
    fn needs(&self) -> Needs {
        Needs {
            forks: true,
            ..Needs::default()
        }
    }
    fn begin(&mut self, _: &Limits) -> usize {
        self.ended = 0;
        self.whole
    }
    fn fork_of(&self, trace: TraceId) -> Option<Fork> {
        self.forks.get((trace as usize).checked_sub(self.whole)?).copied()
    }
    fn fork_point(&self, _: TraceId, tokens: usize) -> Option<usize> {
        self.every.map(|every| (tokens / every + 1) * every)
    }
    fn observe(&mut self, _: TraceId, _: &TokenScalars) -> Step {
        Step::Continue
    }
    fn finished(&mut self, _: &TraceOutcome<'_>) -> Next {
        self.ended += 1;
        if self.ended == self.whole {
            Next::Launch(self.forks.len())
        } else {
            Next::Wait
        }
    }
    fn decide(&self) -> Decision {
        Decision::default()
    }
}

fn fork(trace: TraceId, tokens: usize) -> Fork {
    Fork { trace, tokens }
}

fn task() -> Task {
    let mut task = Task::new("p", "majority");
    (task.rules.ignore_eos, task.rules.loop_stop, task.rules.max_tokens) = (true, false, 50);
    (task.bounds.traces, task.bounds.slots) = (16, 3);
    task
}

fn run(mut engine: Engine, task: &Task, splits: &Splits) -> (Reply, Engine) {
    let mut request = engine.request(task);
    request.run.setup = task.setup_with(Box::new(splits.clone()));
    engine.scheduler.submit(request);
    engine.finish(|_| ());
    (engine.reply("p").unwrap(), engine)
}

fn of(reply: Reply) -> Outcome {
    reply.unwrap_or_else(|e| panic!("{e}"))
}

/// What each fork should be: the tokens that it takes over, and then what its own stream draws after them.
fn drawn_alone(model: &Arc<Model>, task: &Task, records: &[TraceRecord]) {
    let by_trace: BTreeMap<TraceId, &TraceRecord> = records.iter().map(|r| (r.trace, r)).collect();
    for record in records.iter().filter(|r| r.fork.is_some()) {
        let Fork { trace, tokens } = record.fork.unwrap();
        let parent = by_trace[&trace];
        assert_eq!(
            traces(std::slice::from_ref(record))[&record.trace][..tokens],
            traces(std::slice::from_ref(parent))[&trace][..tokens],
            "what trace {} takes over",
            record.trace
        );
        let mut executor = CpuExecutor::new(model.clone(), 1, Tier::detect());
        let prompt = executor.begin();
        executor.read(prompt, &task.prompt, usize::MAX).unwrap();
        let seq = executor.fork(prompt, 1)[0];
        executor.resume(&[(seq, &record.arrays.token_ids[..tokens])]);
        let mut out = Vec::new();
        for index in tokens..record.tokens {
            executor.step(&[task.row(record.trace, seq, index)], &mut out);
            let drawn = out[0].unwrap();
            assert_eq!(
                (drawn.id, drawn.confidence.to_bits()),
                (
                    record.arrays.token_ids[index],
                    record.arrays.confidence[index].to_bits()
                ),
                "trace {}, token {index}",
                record.trace
            );
        }
    }
}

/// Forks of ended traces and, with three slots, of trace 3 in flight; of forks; at the first token and at the last.
fn splits() -> Splits {
    Splits {
        whole: 3,
        forks: vec![
            fork(0, 8),
            fork(1, 1),
            fork(0, 49),
            fork(2, 33),
            fork(3, 20),
            fork(6, 16),
            fork(0, 16),
        ],
        ..Splits::default()
    }
}

#[test]
fn a_fork_goes_on_as_its_own_stream_draws() {
    for (kv, model) in gqa_in_each() {
        let task = task();
        let plain = of(run(Engine::roomy(&model), &task, &splits()).0);
        assert_eq!(plain.records.len(), 10, "{kv:?}");
        drawn_alone(&model, &task, &plain.records);
        // what was kept changes no token, and reads fewer
        let mut read = Vec::new();
        for every in [None, Some(1), Some(8), Some(13)] {
            let kept = Splits { every, ..splits() };
            let (reply, engine) = run(Engine::new(&model, 2, Tier::detect(), roomy(64)), &task, &kept);
            assert_eq!(
                verdict(&of(reply).decided),
                verdict(&plain.decided),
                "{kv:?}, every {every:?}"
            );
            read.push(engine.scheduler.executor().positions());
        }
        assert!(read[1] < read[2] && read[2] < read[0], "{kv:?}: {read:?}");
    }
}

#[test]
fn the_tokens_that_a_fork_takes_over_are_counted_once() {
    let outcome = of(run(Engine::roomy(&gqa()), &task(), &splits()).0);
    let taken: usize = splits().forks.iter().map(|f| f.tokens).sum();
    assert!(outcome.records.iter().all(|r| r.tokens == 50));
    assert_eq!(outcome.decided.tokens.total(), (10 * 50 - taken) as u64);
    let of_fork = outcome.records.iter().find(|r| r.trace == 5).unwrap();
    assert_eq!((of_fork.fork, of_fork.generated()), (Some(fork(0, 49)), 1));
}

/// States for forks go before a trace has to, and what was computed from them is computed again.
#[test]
fn kept_states_go_when_memory_is_short() {
    let task = task();
    let kept = Splits {
        every: Some(8),
        ..splits()
    };
    let (executor, log) = MockExecutor::with_log();
    let whole = of(run(Engine::on(executor, roomy(64)), &task, &kept).0);
    let roomy_resumed = log.lock().resumed;
    let each = MockExecutor::LIMITS.sequence_bytes(task.prompt.len() + 50, task.prompt.len());
    let prompt = MockExecutor::LIMITS.sequence_bytes(task.prompt.len(), 0);
    let mut resumed = Vec::new();
    for traces in [4, 6, 9] {
        let plan = MemoryPlan {
            budget: prompt + traces * each,
            ..roomy(64)
        };
        let (executor, log) = MockExecutor::with_log();
        let mut engine = Engine::on(executor, plan);
        let mut request = engine.request(&task);
        request.run.setup = task.setup_with(Box::new(kept.clone()));
        engine.scheduler.submit(request);
        let budget = plan.budget;
        engine.finish(|scheduler| {
            assert!(
                scheduler.memory_used() <= budget,
                "{} of {budget}",
                scheduler.memory_used()
            )
        });
        let outcome = of(engine.reply("p").unwrap());
        let ids = |o: &Outcome| -> BTreeMap<_, _> { traces_of(o) };
        assert_eq!(ids(&outcome), ids(&whole), "{traces}");
        assert_eq!(log.lock().held, 0, "everything is given back");
        resumed.push(log.lock().resumed);
    }
    assert!(resumed[0] > roomy_resumed, "{resumed:?} {roomy_resumed}");
}

fn traces_of(outcome: &Outcome) -> BTreeMap<TraceId, Vec<u32>> {
    let of = |r: &TraceRecord| (r.trace, r.arrays.token_ids.clone());
    outcome.records.iter().map(of).collect()
}

#[test]
fn a_fork_that_cannot_be_is_one_sentence() {
    for (bad, says) in [
        (
            fork(0, 50),
            "goes on from token 50 of trace 0, and there are no such tokens",
        ),
        (
            fork(0, 0),
            "goes on from token 0 of trace 0, and there are no such tokens",
        ),
        (
            fork(9, 4),
            "goes on from token 4 of trace 9, and there are no such tokens",
        ),
        (
            fork(3, 4),
            "goes on from token 4 of trace 3, and there are no such tokens",
        ),
        (fork(1, usize::MAX), "of trace 1, and there are no such tokens"),
    ] {
        let (executor, log) = MockExecutor::with_log();
        let splits = Splits {
            whole: 3,
            forks: vec![bad],
            ..Splits::default()
        };
        let (reply, _) = run(Engine::on(executor, roomy(64)), &task(), &splits);
        let error = reply.unwrap_err().to_string();
        assert!(
            error.contains("strategy `splits` asks for a trace 3 that") && error.contains(says),
            "{error}"
        );
        assert_eq!(log.lock().held, 0);
    }
}

/// A run that is killed anywhere goes on to the same end, from whole records and from cut ones.
#[test]
fn a_run_with_forks_is_resumed_from_any_moment() {
    let model = gqa();
    for (name, setting, value) in [("continuation", "certainty", 0.999), ("particles", "alpha", 1.5)] {
        let mut task = Task::new("p", name);
        (task.rules.max_tokens, task.rules.stop_ids) = (50, crate::rig::stops(60));
        task.strategy
            .apply(&Overrides::default().with(setting, value))
            .unwrap();
        (task.bounds.traces, task.bounds.slots) = (24, 8);
        let whole = Engine::roomy(&model).run(&task);
        let forks = whole.records.iter().filter(|r| r.fork.is_some()).count();
        assert!(forks > 3, "{name}: {forks}");
        drawn_alone(&model, &task, &whole.records);
        for steps in [1, 20, 47, 55, 70, 90] {
            let folder = tempfile::tempdir().unwrap();
            let with = |recorded: Vec<Arc<TraceRecord>>| {
                let mut engine = Engine::roomy(&model);
                let mut request = engine.request(&task);
                request.run.setup.recorded = recorded;
                let kept = recording(&mut request);
                request.observer.checkpoint = Some(tts::run::Checkpoint {
                    every: std::time::Duration::ZERO,
                    dir: folder.path().join("states"),
                });
                engine.scheduler.submit(request);
                (engine, kept)
            };
            let (mut killed, kept) = with(Vec::new());
            (0..steps).for_each(|_| killed.scheduler.step());
            drop(killed);
            let mut newest: BTreeMap<u32, TraceRecord> = BTreeMap::new();
            for record in kept.lock().unwrap().drain(..) {
                newest.insert(record.trace, record);
            }
            let (mut engine, _) = with(newest.into_values().map(Arc::new).collect());
            engine.finish(|_| ());
            let outcome = engine.reply("p").unwrap().unwrap();
            assert_eq!(
                verdict(&outcome.decided),
                verdict(&whole.decided),
                "{name}, {steps} steps"
            );
        }
    }
}

/// Neither threads nor what runs beside it changes a decision.
#[test]
fn forks_do_not_depend_on_the_batch() {
    let model = gqa();
    for name in ["continuation", "particles"] {
        let mut task = Task::new("p", name);
        (task.rules.max_tokens, task.rules.stop_ids) = (50, crate::rig::stops(60));
        let alone = Engine::roomy(&model).run(&task);
        for (threads, beside) in [(1, 3), (2, 1), (3, 5)] {
            let mut engine = Engine::new(&model, threads, Tier::detect(), roomy(64));
            for i in 0..beside {
                let mut other = Task::new(&format!("other {i}"), name);
                other.prompt = crate::rig::prompt(30 + 7 * i, i);
                engine.submit(&other);
            }
            engine.submit(&task);
            engine.finish(|_| ());
            let outcome = engine.reply("p").unwrap().unwrap();
            assert_eq!(
                verdict(&outcome.decided),
                verdict(&alone.decided),
                "{name}, {threads}, {beside}"
            );
        }
    }
}
