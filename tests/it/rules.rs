//! The rules that end traces and problems, broken logits, interrupts, and the engine behind its backend.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use tts::run::{Control, EarlyEnd, Event, Observer, RunError};
use tts::source::InProcess;
use tts_model::cpu::CpuExecutor;
use tts_model::cpu::kernels::Tier;
use tts_model::weights::Checkpoint;
use tts_model::{Model, WeightFormat};
use tts_strategies::{
    Decision, Finish, Limits, Needs, Next, Step, Strategy, TokenScalars, TraceId, TraceOutcome,
};

use crate::fixture;
use crate::rig::{Engine, Task, VOCAB, all_but, check, gqa, prompt, roomy, traces, verdict};

/// A problem whose traces say nothing but `ids`.
fn saying(ids: &[u32], strategy: &str) -> Task {
    Task {
        banned_ids: all_but(ids),
        ..Task::new("p", strategy)
    }
}

#[test]
fn a_stop_id_beats_the_length_limit_and_is_counted() {
    let mut task = saying(&[7], "majority");
    task.rules.stop_ids = vec![7];
    for (max_tokens, ignore, finish, tokens) in [
        (1, false, Finish::Stop, 1),
        (1, true, Finish::Length, 1),
        (5, false, Finish::Stop, 1),
        (5, true, Finish::Length, 5),
    ] {
        (task.rules.max_tokens, task.rules.ignore_eos) = (max_tokens, ignore);
        let outcome = Engine::roomy(&gqa()).run(&task);
        assert!(
            outcome
                .records
                .iter()
                .all(|r| (r.finish, r.tokens) == (finish, tokens))
        );
        let d = &outcome.decided;
        assert_eq!(d.tokens.total(), 24 * tokens as u64);
        assert_eq!(
            if finish == Finish::Stop {
                d.tokens.finished
            } else {
                d.tokens.truncated
            },
            d.tokens.total()
        );
        // the stop token is not part of the text, so there is no answer in it
        let text = if ignore {
            vec!["7"; tokens].join(" ")
        } else {
            String::new()
        };
        assert!(
            outcome
                .records
                .iter()
                .all(|r| r.text.as_ref() == Some(&text) && r.answer.is_some() == ignore)
        );
    }
}

/// Counts what it is shown, and stops every trace at a token of its own choice.
struct Spy {
    seen: Arc<Mutex<Vec<(TraceId, f32, f32)>>>,
    stop_at: Option<usize>,
    traces: usize,
}

impl Strategy for Spy {
    fn name(&self) -> &str {
        "spy"
    }
    fn needs(&self) -> Needs {
        Needs::default()
    }
    fn begin(&mut self, limits: &Limits) -> usize {
        self.traces = limits.traces;
        limits.traces
    }
    fn observe(&mut self, trace: TraceId, token: &TokenScalars) -> Step {
        let mut seen = self.seen.lock().unwrap();
        seen.push((trace, token.confidence, token.logprob));
        if self.stop_at == Some(seen.iter().filter(|s| s.0 == trace).count()) {
            Step::Stop
        } else {
            Step::Continue
        }
    }
    fn finished(&mut self, outcome: &TraceOutcome<'_>) -> Next {
        assert_eq!(
            (outcome.tokens, outcome.tokens),
            (outcome.confidences.len(), outcome.logprobs.len())
        );
        Next::Wait
    }
    fn decide(&self) -> Decision {
        Decision::default()
    }
}

#[test]
fn a_strategy_sees_every_token_once_with_its_own_scalars() {
    for stop_at in [None, Some(1), Some(5)] {
        let task = Task::new("p", "majority");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut engine = Engine::roomy(&gqa());
        let mut request = engine.request(&task);
        request.run.setup = task.setup_with(Box::new(Spy {
            seen: seen.clone(),
            stop_at,
            traces: 0,
        }));
        engine.scheduler.submit(request);
        engine.finish(|_| ());
        let outcome = engine.reply("p").unwrap().unwrap();
        let seen = seen.lock().unwrap();
        for r in &outcome.records {
            let own: Vec<_> = seen
                .iter()
                .filter(|s| s.0 == r.trace)
                .map(|s| (s.1, s.2))
                .collect();
            let want: Vec<_> = r
                .arrays
                .confidence
                .iter()
                .copied()
                .zip(r.arrays.logprobs.iter().copied())
                .collect();
            assert_eq!(own, want, "trace {}", r.trace);
            let by_itself = task.rules.stop_ids.contains(r.arrays.token_ids.last().unwrap());
            match stop_at {
                // a token that ends a trace and crosses the bar makes it finished
                Some(n) if r.tokens == n && !by_itself => assert_eq!(r.finish, Finish::LowConfidence),
                _ => {
                    assert!(by_itself == (r.finish == Finish::Stop) && stop_at.is_none_or(|n| r.tokens <= n))
                }
            }
        }
        assert_eq!(seen.len() as u64, outcome.decided.tokens.total());
    }
}

#[test]
fn verbatim_loops_are_stopped() {
    for (ids, most, stop, finish, tokens) in [
        (&[7][..], 2000, true, Finish::Loop, 1024),
        (&[7], 1024, true, Finish::Length, 1024),
        (&[7], 1090, false, Finish::Length, 1090),
        (&[7, 8, 9], 1090, true, Finish::Length, 1090),
    ] {
        let mut task = saying(ids, "majority");
        (task.bounds.traces, task.rules.max_tokens, task.rules.loop_stop) = (3, most, stop);
        task.rules.stop_ids.clear();
        let outcome = Engine::roomy(&gqa()).run(&task);
        assert!(
            outcome
                .records
                .iter()
                .all(|r| (r.finish, r.tokens) == (finish, tokens)),
            "{ids:?} {:?}",
            outcome.records[0].finish
        );
        assert_eq!(outcome.decided.tokens.truncated, 3 * tokens as u64);
    }
}

#[test]
fn the_end_of_thinking_is_forced_at_the_budget() {
    let model = gqa();
    let mut task = saying(&[6, 7, 8, 9], "majority");
    task.rules.stop_ids = vec![9];
    // nearly uniform, so that some traces say 6 early and some do not
    task.sampling.temperature = 20.0;
    let free = traces(&Engine::roomy(&model).run(&task).records);
    for (budget, end) in [
        (0, vec![6]),
        (2, vec![6]),
        (3, vec![200, 201, 202]),
        (59, vec![200, 201, 202]),
    ] {
        (task.rules.thinking_budget, task.rules.think_end) = (Some(budget), end.clone());
        let outcome = Engine::roomy(&model).run(&task);
        let mut forced = 0;
        for r in &outcome.records {
            let (ids, free) = (&r.arrays.token_ids, &free[&r.trace]);
            let bits = crate::rig::bits(r);
            let thought = ids.len() >= budget && ids[..budget].windows(end.len()).any(|w| w == end);
            if ids.len() <= budget || thought {
                assert_eq!(&bits, free, "what ends its thinking by itself is left alone");
                continue;
            }
            assert_eq!(bits[..budget], free[..budget]);
            let said = end.len().min(task.rules.max_tokens - budget);
            assert_eq!(ids[budget..budget + said], end[..said]);
            forced += 1;
        }
        assert!(forced > 0 || budget == 59, "nothing was forced at {budget}");
        assert_eq!(
            outcome.decided.tokens.total(),
            outcome
                .records
                .iter()
                .map(|r| r.arrays.token_ids.len() as u64)
                .sum::<u64>()
        );
    }
}

/// case-gqa with embeddings that are not numbers.
fn poisoned(ids: &[u32]) -> Arc<Model> {
    let from = fixture("golden/case-gqa");
    let mut bytes = std::fs::read(from.join("model.safetensors")).unwrap();
    let at = {
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let embed = tensors.tensor("model.embed_tokens.weight").unwrap();
        assert_eq!(embed.shape(), [VOCAB as usize, 64]);
        embed.data().as_ptr() as usize - bytes.as_ptr() as usize
    };
    for id in ids {
        bytes[at + 256 * *id as usize + 8..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    std::fs::copy(from.join("config.json"), folder.path().join("config.json")).unwrap();
    let open = |path: &Path| Model::load(&Checkpoint::open(path)?, WeightFormat::F32);
    Arc::new(open(folder.path()).unwrap())
}

#[test]
fn logits_that_are_not_numbers_fail_their_trace_alone() {
    let bad: Vec<u32> = (300..VOCAB).collect();
    let model = poisoned(&bad);
    let healthy = traces(&Engine::roomy(&gqa()).run(&Task::new("p", "majority")).records);
    for strategy in ["majority", "deepconf-low"] {
        let task = Task::new("p", strategy);
        for tier in Tier::available() {
            let outcome = Engine::new(&model, 1, tier, roomy(64)).run(&task);
            let (mut failed, mut fine) = (0, 0);
            for r in &outcome.records {
                let met = r.arrays.token_ids.iter().position(|id| bad.contains(id));
                // the bad id is drawn and counted; what comes after it is not a number
                assert_eq!(
                    r.finish == Finish::Failed,
                    met.is_some_and(
                        |at| at + 1 == r.tokens && !task.rules.stop_ids.contains(&r.arrays.token_ids[at])
                    )
                );
                assert!(met.is_none_or(|at| at + 1 == r.tokens));
                if tier == Tier::detect() {
                    assert_eq!(crate::rig::bits(r), healthy[&r.trace][..r.tokens]);
                }
                if r.finish == Finish::Failed {
                    failed += 1
                } else {
                    fine += 1
                }
            }
            assert!(
                failed > 2 && fine > 2 && outcome.decided.traces.failed == failed,
                "{failed} {fine}"
            );
        }
    }
}

#[test]
fn a_run_of_nothing_but_failures_is_an_error() {
    let model = poisoned(&[40, 41]);
    let mut engine = Engine::roomy(&model);
    let mut all = saying(&[40, 41], "majority");
    all.id = "all".to_owned();
    all.rules.stop_ids.clear();
    let mut broken = Task::new("broken", "majority");
    broken.prompt[69] = 40;
    let mut fine = Task::new("fine", "majority");
    fine.prompt = prompt(3, 9);
    fine.banned_ids = vec![40, 41];
    for task in [&all, &broken, &fine] {
        engine.submit(task);
    }
    engine.finish(|_| ());
    assert!(matches!(engine.reply("all").unwrap(), Err(RunError::AllFailed(id)) if id == "all"));
    let error = engine.reply("broken").unwrap().unwrap_err();
    assert!(
        matches!(&error, RunError::BrokenPrompt(id) if id == "broken") && error.to_string().contains("NaN")
    );
    check(&fine, &engine.reply("fine").unwrap().unwrap());
}

#[test]
fn an_interrupt_decides_with_the_votes_so_far() {
    let model = gqa();
    for (strategy, after) in [("majority", 1), ("majority", 25), ("deepconf-low", 30)] {
        let task = Task::new("p", strategy);
        let mut engine = Engine::roomy(&model);
        let control: Arc<Control> = engine.submit(&task);
        (0..after).for_each(|_| engine.scheduler.step());
        control.interrupted.cancel();
        engine.finish(|_| ());
        let outcome = engine.reply("p").unwrap().unwrap();
        check(&task, &outcome);
        let d = &outcome.decided;
        assert_eq!((d.early_end(), d.ticks), (Some(EarlyEnd::Interrupted), after));
        assert!(
            d.traces.cancelled > 0 && d.answer.is_some() == (after > 1),
            "{strategy} {after}: {d:?}"
        );
    }
    // what has not begun, or is late already
    let mut engine = Engine::roomy(&model);
    engine
        .submit(&Task::new("waits", "majority"))
        .interrupted
        .cancel();
    let mut late = engine.request(&Task::new("late", "majority"));
    late.observer.deadline = Some(Instant::now());
    engine.scheduler.submit(late);
    engine.finish(|_| ());
    assert!(matches!(
        engine.reply("waits").unwrap(),
        Err(RunError::NotStarted(EarlyEnd::Interrupted))
    ));
    assert!(matches!(
        engine.reply("late").unwrap(),
        Err(RunError::NotStarted(EarlyEnd::TimeLimit))
    ));
    // a limit of time strikes between two ticks
    let mut task = Task::new("limited", "majority");
    (task.rules.ignore_eos, task.rules.max_tokens, task.rules.loop_stop) = (true, 1 << 20, false);
    let mut limited = engine.request(&task);
    limited.observer.deadline = Some(Instant::now() + Duration::from_millis(60));
    engine.scheduler.submit(limited);
    engine.finish(|_| ());
    let outcome = engine.reply("limited").unwrap().unwrap();
    check(&task, &outcome);
    assert_eq!(outcome.decided.early_end(), Some(EarlyEnd::TimeLimit));
}

#[test]
fn a_journal_that_cannot_be_written_ends_its_problem_alone() {
    let mut engine = Engine::roomy(&gqa());
    let mut request = engine.request(&Task::new("full", "majority"));
    let mut left = 3;
    request.observer.records = Some(Box::new(move |_| {
        left -= 1;
        if left < 0 {
            Err("no space left".to_owned())
        } else {
            Ok(())
        }
    }));
    engine.scheduler.submit(request);
    let other = Task::new("other", "majority");
    engine.submit(&other);
    engine.finish(|_| ());
    assert!(matches!(engine.reply("full").unwrap(), Err(RunError::Journal(e)) if e == "no space left"));
    check(&other, &engine.reply("other").unwrap().unwrap());
}

#[tokio::test]
async fn the_backend_runs_interrupts_and_forgets() {
    let model = gqa();
    let executor = CpuExecutor::new(model.clone(), 1, Tier::detect());
    let backend = InProcess::start(Box::new(executor), roomy(8), 0).unwrap();
    let mut endless = Task::new("endless", "majority");
    (
        endless.rules.ignore_eos,
        endless.rules.max_tokens,
        endless.rules.loop_stop,
    ) = (true, 1 << 40, false);
    let tasks = ["majority", "deepconf-low"].map(|strategy| Task::new(strategy, strategy));
    for round in 0..2 {
        // dropped: it gives its eight rows back, or the next one would wait for ever
        let (events, mut seen) = tokio::sync::broadcast::channel(64);
        let observer = Observer {
            events: Some(events),
            ..Observer::default()
        };
        {
            let mut run = std::pin::pin!(backend.run(endless.request(), observer));
            let started = tokio::select! {
                _ = &mut run => panic!("it is endless"),
                event = seen.recv() => event.unwrap(),
            };
            assert!(matches!(
                started,
                Event::Started {
                    slots: 8,
                    prompt_tokens: 70,
                    ..
                }
            ));
        }
        let run = |task: &Task| backend.run(task.request(), Observer::default());
        let (a, b) = tokio::join!(run(&tasks[0]), run(&tasks[1]));
        for (task, outcome) in tasks.iter().zip([a.unwrap(), b.unwrap()]) {
            check(task, &outcome);
            assert_eq!(
                verdict(&outcome.decided),
                verdict(&Engine::roomy(&model).run(task).decided),
                "round {round}"
            );
        }
        // nobody holds the sender once the problem is gone
        assert!(matches!(
            tokio::time::timeout(Duration::from_secs(60), async {
                while seen.recv().await.is_ok() {}
            })
            .await,
            Ok(())
        ));
        let interrupt = tokio_util::sync::CancellationToken::new();
        let observer = Observer {
            interrupt: interrupt.clone(),
            ..Observer::default()
        };
        let run = backend.run(endless.request(), observer);
        let (outcome, ()) = tokio::join!(run, async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            interrupt.cancel();
        });
        let outcome = outcome.unwrap();
        check(&endless, &outcome);
        assert_eq!(outcome.decided.early_end(), Some(EarlyEnd::Interrupted));
    }
}
