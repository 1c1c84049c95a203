//! The engine on a GPU, which the processor emulates here; and devices that fail while they run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tts::engine::memory::MemoryPlan;
use tts::engine::scoring::ScoringRequest;
use tts::run::{Checkpoint, RunError, TraceRecord};
use tts_model::executor::Executor;
use tts_model::gpu::{GpuDevice, GpuExecutor, Order};
use tts_model::weights;
use tts_strategies::Finish;

use crate::fixture;
use crate::mock::MockExecutor;
use crate::rig::{Engine, Task, check, holding, prompt, recording, roomy, traces, verdict};

fn emulated() -> Box<GpuExecutor> {
    lost_after(None)
}

fn lost_after(lost_after: Option<u64>) -> Box<GpuExecutor> {
    let weights = weights::Checkpoint::open(&fixture("golden/case-gqa")).unwrap();
    let on = GpuDevice::Emulated {
        memory: 1 << 30,
        order: Order::default(),
        lost_after,
    };
    Box::new(GpuExecutor::new(&weights, holding(tts_model::KvFormat::Bf16), on).unwrap())
}

/// Few traces, as an emulated device takes its time.
fn task(id: &str, strategy: &str, tokens: usize) -> Task {
    let mut task = Task::new(id, strategy);
    task.prompt = prompt(70, id.len());
    (task.bounds.traces, task.bounds.slots) = (8, 4);
    task.rules.max_tokens = tokens;
    task
}

#[test]
fn decisions_on_a_gpu_do_not_depend_on_the_batch_and_are_replayed() {
    let mut beside = Engine::on(emulated(), roomy(12));
    let mut tasks = vec![
        task("a", "deepconf-low", 24),
        task("bb", "majority", 20),
        task("ccc", "continuation", 30),
    ];
    tasks[1].sampling.repetition_penalty = 1.2;
    (tasks[1].rules.thinking_budget, tasks[1].rules.think_end) = (Some(9), vec![6, 9, 11]);
    for task in &tasks {
        beside.submit(task);
    }
    beside.finish(|_| ());
    for task in &tasks {
        let alone = Engine::on(emulated(), roomy(3)).run(task);
        let outcome = beside.reply(&task.id).unwrap().unwrap();
        check(task, &outcome);
        if task.bounds.slots <= 3 {
            assert_eq!(verdict(&alone.decided), verdict(&outcome.decided), "{}", task.id);
        }
        crate::rig::agree(&task.id, &traces(&alone.records), &traces(&outcome.records));
    }
}

#[test]
fn what_a_gpu_has_no_room_for_is_set_aside_and_comes_back() {
    let limits = emulated().limits();
    let mut tasks = [task("a", "majority", 90), task("bb", "majority", 90)];
    for task in &mut tasks {
        (task.rules.ignore_eos, task.rules.loop_stop) = (true, false);
        (task.bounds.traces, task.bounds.slots) = (3, 3);
    }
    let plan = MemoryPlan {
        max_batch: 6,
        // their prompts, states, and pages for one of the two beyond the first
        budget: 2 * limits.sequence_bytes(71, 0) + 6 * limits.sequence_bytes(80, 70) + 3 * limits.block_bytes,
        bytes_per_trace: limits.sequence_bytes(80, 70),
        expected_tokens: 80,
        busy: None,
    };
    let mut engine = Engine::on(emulated(), plan);
    for task in &tasks {
        engine.submit(task);
    }
    engine.finish(|scheduler| assert!(scheduler.memory_used() <= plan.budget));
    let mut set_aside = 0;
    for task in &tasks {
        let outcome = engine.reply(&task.id).unwrap().unwrap();
        check(task, &outcome);
        let alone = Engine::on(emulated(), roomy(8)).run(task);
        assert_eq!(verdict(&alone.decided), verdict(&outcome.decided));
        assert!(traces(&alone.records) == traces(&outcome.records));
        set_aside += usize::from(outcome.notices.iter().any(|n| n.contains("set aside")));
    }
    assert_eq!(set_aside, 1);
    assert_eq!(engine.scheduler.memory_used(), 0);
}

/// Runs a task on a device to its end, or to the device's; with what was recorded, the newest of each trace.
fn run(
    device: Box<GpuExecutor>,
    task: &Task,
    recorded: &BTreeMap<u32, TraceRecord>,
    states: &Path,
) -> (Result<String, RunError>, BTreeMap<u32, TraceRecord>) {
    let mut engine = Engine::on(device, roomy(4));
    let mut request = engine.request(task);
    request.run.setup.recorded = recorded.values().cloned().map(Arc::new).collect();
    let kept = recording(&mut request);
    request.observer.checkpoint = Some(Checkpoint {
        every: Duration::ZERO,
        dir: states.to_owned(),
    });
    engine.scheduler.submit(request);
    engine.finish(|_| ());
    let outcome = engine.reply(&task.id).unwrap();
    let kept = kept.lock().unwrap().drain(..).map(|r| (r.trace, r)).collect();
    (outcome.map(|outcome| verdict(&outcome.decided)), kept)
}

#[test]
fn a_run_goes_on_where_its_device_was_lost() {
    let mut task = task("p", "majority", 60);
    (task.rules.ignore_eos, task.rules.loop_stop) = (true, false);
    (task.bounds.traces, task.bounds.slots) = (4, 4);
    let folder = tempfile::tempdir().unwrap();
    let none = BTreeMap::new();
    let (whole, _) = run(emulated(), &task, &none, &folder.path().join("whole"));
    let states = folder.path().join("states");
    let (lost, kept) = run(lost_after(Some(2000)), &task, &none, &states);
    let why = lost.unwrap_err();
    assert!(matches!(why, RunError::Device(_)));
    let why = why.to_string();
    assert!(
        why.starts_with("the emulated device was lost")
            && why.ends_with("the same command goes on from there"),
        "{why}"
    );
    let tokens: Vec<_> = kept
        .values()
        .map(|record| (record.finish, record.tokens))
        .collect();
    assert!(
        tokens.len() == 4
            && tokens
                .iter()
                .all(|(finish, n)| *finish == Finish::Cancelled && (5..60).contains(n)),
        "what was in flight, and nothing as failed: {tokens:?}"
    );
    let (again, _) = run(emulated(), &task, &kept, &states);
    assert_eq!(again.unwrap(), whole.unwrap());
    // one that is lost before the prompt is read says the same
    let (early, kept) = run(lost_after(Some(3)), &task, &none, &states);
    assert!(
        early
            .unwrap_err()
            .to_string()
            .starts_with("the emulated device was lost")
            && kept.is_empty()
    );
}

#[test]
fn a_device_that_fails_ends_everything_with_its_sentence() {
    let (executor, log) = MockExecutor::with_log();
    let mut engine = Engine::on(executor, roomy(8));
    // one runs, one waits behind it, a text is scored beside them
    let tasks = [task("a", "majority", 40), task("bb", "majority", 40)];
    let mut request = engine.request(&tasks[0]);
    let kept = recording(&mut request);
    engine.scheduler.submit(request);
    for _ in 0..6 {
        engine.scheduler.step();
    }
    engine.submit(&tasks[1]);
    let (reply, mut scored) = tokio::sync::oneshot::channel();
    engine.scheduler.score(ScoringRequest {
        ids: prompt(400, 1),
        from: 1,
        k: 2,
        reply,
    });
    log.lock().failure = Some("card 0 fell off the bus".to_owned());
    engine.finish(|_| ());
    for task in &tasks {
        let why = engine.reply(&task.id).unwrap().unwrap_err().to_string();
        assert!(
            why.starts_with("card 0 fell off the bus; what a run folder"),
            "{why}"
        );
    }
    let why = scored.try_recv().unwrap().unwrap_err().to_string();
    assert!(why.starts_with("card 0 fell off the bus"), "{why}");
    assert!(
        kept.lock()
            .unwrap()
            .iter()
            .all(|record| record.finish != Finish::Failed),
        "what it drew then says nothing of the traces"
    );
    assert_eq!(log.lock().held, 0, "everything is given back");
    // whoever comes later is told too
    engine.submit(&tasks[0]);
    engine.finish(|_| ());
    assert!(
        engine
            .reply("a")
            .unwrap()
            .unwrap_err()
            .to_string()
            .contains("bus")
    );
}
