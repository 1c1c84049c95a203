//! A trace is a function of (model, prompt, sampling settings, seed, problem, trace index) and nothing else;
//! executors and their sequences.

use std::sync::Arc;

use tts_model::cpu::CpuExecutor;
use tts_model::cpu::kernels::Tier;
use tts_model::executor::{Drawn, Executor, Sampling, ScoreRequest, SeqId, StepRow};
use tts_model::{BLOCK, KvFormat, Model, WeightFormat};

use crate::rig::{
    Engine, Task, agree, all_but, gqa, gqa_in_each, holding, model, preset, prompt, roomy, stops, traces,
};

/// Problems that join and leave while another runs.
fn company(i: usize) -> Task {
    let mut task = Task::new(
        &format!("company {i}"),
        ["majority", "deepconf-low", "deepconf-high"][i % 3],
    );
    task.prompt = prompt(1 + 37 * i, i);
    task.bounds.traces = 4 + i;
    task.bounds.slots = 3;
    task.rules.max_tokens = 9 + 5 * i;
    task.sampling = Sampling {
        temperature: 0.5 + 0.2 * i as f64,
        top_k: 5 * (i % 2),
        repetition_penalty: 1.1,
        ..Sampling::default()
    };
    task
}

/// Its traces at many batch sizes, thread counts, with and without company, pruned and not, are those of the
/// trace alone.
fn alone_and_together(model: &Arc<Model>, tier: Tier, length: usize, slots: &[(usize, usize)]) {
    let mut task = Task::new("p", "majority");
    task.prompt = prompt(length, 3);
    task.bounds.traces = 66;
    task.rules.max_tokens = 70;
    task.rules.stop_ids = stops(24);
    task.bounds.slots = 1;
    let alone = traces(&Engine::new(model, 1, tier, roomy(1)).run(&task).records);
    assert_eq!(alone.len(), 66);
    let mut pruned = 0;
    for (n, threads) in slots {
        task.bounds.slots = *n;
        task.strategy = preset("majority", None);
        let what = format!("{tier}, prompt of {length}, {n} slots, {threads} threads");
        let got = traces(&Engine::new(model, *threads, tier, roomy(*n)).run(&task).records);
        assert!(got == alone, "{what}");
        for strategy in ["deepconf-low", "deepconf-high"] {
            task.strategy = preset(strategy, None);
            let mut engine = Engine::new(model, *threads, tier, roomy(n + 6));
            engine.submit(&company(1));
            engine.scheduler.step();
            engine.submit(&task);
            let mut steps = 0;
            while !engine.scheduler.is_idle() {
                engine.scheduler.step();
                steps += 1;
                if steps % 7 == 0 && steps < 30 {
                    engine.submit(&company(1 + steps / 7));
                }
            }
            let outcome = engine.reply("p").unwrap().unwrap();
            pruned += outcome.decided.traces.stopped;
            agree(
                &format!("{what}, {strategy}, in company"),
                &traces(&outcome.records),
                &alone,
            );
        }
    }
    assert!(pruned > 10 * slots.len() as u64, "{pruned} traces were stopped");
}

#[test]
fn traces_do_not_depend_on_the_batch() {
    let model = gqa();
    let tier = Tier::detect();
    alone_and_together(
        &model,
        tier,
        70,
        &[(1, 1), (2, 1), (7, 1), (33, 1), (64, 1), (2, 2), (7, 2), (64, 2)],
    );
    for length in [5, BLOCK, 2 * BLOCK + 3] {
        alone_and_together(&model, tier, length, &[(7, 1), (64, 2)]);
    }
}

#[test]
fn traces_do_not_depend_on_the_batch_on_lower_tiers() {
    let model = gqa();
    for tier in Tier::available().into_iter().filter(|t| *t != Tier::detect()) {
        alone_and_together(&model, tier, BLOCK - 1, &[(2, 1), (33, 2), (64, 1)]);
    }
}

#[test]
fn traces_do_not_depend_on_the_batch_in_other_models_and_formats() {
    for (name, format) in [
        ("variants/odd-sizes", WeightFormat::F32),
        ("golden/case-mha-groups-sharded", WeightFormat::Bf16),
        ("golden/case-tiny-like-bf16", WeightFormat::Auto),
        ("golden/gguf-gqa/gqa-q8_0.gguf", WeightFormat::Auto),
        ("golden/family-gpt_oss", WeightFormat::Auto),
    ] {
        alone_and_together(&model(name, format), Tier::detect(), 61, &[(7, 2), (64, 1)]);
    }
}

#[test]
fn traces_do_not_depend_on_the_batch_with_8_bit_keys_and_values() {
    let q8_0 = holding(KvFormat::Q8_0);
    for tier in Tier::available() {
        alone_and_together(
            &model("golden/case-gqa", q8_0),
            tier,
            BLOCK - 1,
            &[(2, 1), (7, 2), (33, 1), (64, 2)],
        );
    }
    for name in [
        "variants/odd-sizes",
        "golden/family-qwen2",
        "golden/family-qwen3_next",
    ] {
        alone_and_together(&model(name, q8_0), Tier::detect(), 61, &[(7, 2), (64, 1)]);
    }
}

/// A trace of a task on an executor.
#[derive(Clone, Copy)]
struct Trace<'t> {
    task: &'t Task,
    trace: u32,
    seq: SeqId,
    at: usize,
}

impl<'t> Trace<'t> {
    fn row(&self, forced: Option<u32>) -> StepRow<'t> {
        StepRow {
            forced,
            ..self.task.row(self.trace, self.seq, self.at)
        }
    }
}

/// An executor that has read a task's prompt.
struct Ready {
    executor: CpuExecutor,
    prompt: SeqId,
}

impl Ready {
    fn new(model: &Arc<Model>, prompt: &[u32]) -> Self {
        let mut executor = CpuExecutor::new(model.clone(), 1, Tier::detect());
        let seq = executor.begin();
        assert_eq!(executor.read(seq, prompt, usize::MAX), Ok(prompt.len()));
        Self {
            executor,
            prompt: seq,
        }
    }

    /// A trace that goes on after the prompt and `ids`.
    fn trace<'t>(&mut self, task: &'t Task, trace: u32, ids: &[u32]) -> Trace<'t> {
        let seq = self.executor.fork(self.prompt, 1)[0];
        self.executor.resume(&[(seq, ids)]);
        Trace {
            task,
            trace,
            seq,
            at: ids.len(),
        }
    }

    /// One step of all traces.
    fn step(&mut self, traces: &mut [&mut Trace<'_>], forced: Option<u32>) -> Vec<Drawn> {
        let rows: Vec<_> = traces.iter().map(|trace| trace.row(forced)).collect();
        let mut drawn = Vec::new();
        self.executor.step(&rows, &mut drawn);
        traces.iter_mut().for_each(|t| t.at += 1);
        drawn.into_iter().map(Result::unwrap).collect()
    }

    fn steps(&mut self, trace: &mut Trace<'_>, n: usize) -> Vec<Drawn> {
        (0..n).map(|_| self.step(&mut [&mut *trace], None)[0]).collect()
    }
}

fn ids(drawn: &[Drawn]) -> Vec<u32> {
    drawn.iter().map(|d| d.id).collect()
}

fn ready() -> (Ready, Task) {
    let mut task = Task::new("traces", "majority");
    task.prompt = prompt(60, 1);
    (Ready::new(&gqa(), &task.prompt), task)
}

#[test]
fn the_prompt_is_read_once_and_its_full_blocks_are_shared() {
    gqa_in_each().iter().for_each(|(_, model)| shared_blocks(model));
}

fn shared_blocks(model: &Arc<Model>) {
    let shape = model.layout();
    let limits = CpuExecutor::limits_of(model, 1);
    for length in [5, BLOCK, 3 * BLOCK - 1, 3 * BLOCK, 3 * BLOCK + 9] {
        let mut task = Task::new("p", "majority");
        task.prompt = prompt(length, 2);
        let mut ready = Ready::new(model, &task.prompt);
        let private = |ready: &Ready, seq| ready.executor.state(seq).private_bytes(shape) as u64;
        assert_eq!(
            private(&ready, ready.prompt),
            limits.sequence_bytes(length, 0),
            "all of it before a fork"
        );
        let mut traces: Vec<_> = (0..5).map(|trace| ready.trace(&task, trace, &[])).collect();
        for tokens in 1..=BLOCK + 2 {
            ready.step(&mut traces.iter_mut().collect::<Vec<_>>(), None);
            for trace in &traces {
                assert_eq!(ready.executor.length(trace.seq), length + tokens - 1);
                if tokens == 1 {
                    assert!(
                        std::ptr::eq(
                            ready.executor.state(trace.seq),
                            ready.executor.state(ready.prompt)
                        ),
                        "the first token needs no copy"
                    );
                    continue;
                }
                assert_eq!(
                    private(&ready, trace.seq),
                    limits.sequence_bytes(length + tokens - 1, length),
                    "prompt of {length}, {tokens} tokens"
                );
            }
        }
        // what is left of the prompt's own: its state and its last, partial block
        let partial = usize::from(!length.is_multiple_of(BLOCK)) * shape.block_bytes();
        assert_eq!(
            private(&ready, ready.prompt),
            (shape.state_bytes() + partial) as u64
        );

        let mut engine = Engine::roomy(model);
        let outcome = engine.run(&task);
        let decoded: u64 = outcome.records.iter().map(|r| r.tokens as u64 - 1).sum();
        assert_eq!(
            engine.scheduler.executor().positions(),
            length as u64 + decoded,
            "every position is read once"
        );
    }
}

/// The parts in which a prompt is read change nothing.
#[test]
fn a_prompt_is_read_in_any_parts() {
    gqa_in_each()
        .iter()
        .for_each(|(kv, model)| prompt_in_parts(*kv, model));
}

fn prompt_in_parts(kv: KvFormat, model: &Arc<Model>) {
    let mut task = Task::new("p", "majority");
    task.prompt = prompt(700, 3);
    let mut whole = Ready::new(model, &task.prompt);
    let mut trace = whole.trace(&task, 0, &[]);
    let want = whole.steps(&mut trace, 5);
    for most in [1, 128, 129, 500, 699, 700] {
        let mut executor = CpuExecutor::new(model.clone(), 1, Tier::detect());
        let prompt = executor.begin();
        let mut read = 0;
        while read < 700 {
            let before = read;
            read = executor.read(prompt, &task.prompt, most).unwrap();
            assert!(read > before && (read == 700 || read >= before + most.min(128)));
            assert_eq!(executor.length(prompt), read);
        }
        let mut parts = Ready { executor, prompt };
        let mut trace = parts.trace(&task, 0, &[]);
        assert_eq!(
            parts.steps(&mut trace, 5),
            want,
            "{most} at a time, {}",
            kv.name()
        );
    }
}

/// A text that goes on after what a trace drew is read like one text.
#[test]
fn a_trace_reads_on() {
    let (mut ready, task) = ready();
    let mut trace = ready.trace(&task, 0, &[]);
    let drawn = ids(&ready.steps(&mut trace, 7));
    let text = [&task.prompt[..], &drawn, &prompt(20, 9)].concat();
    assert_eq!(ready.executor.read(trace.seq, &text, usize::MAX), Ok(text.len()));
    trace.at = 0;
    let got = ready.steps(&mut trace, 10);
    let mut whole = Ready::new(&gqa(), &text);
    let mut anew = whole.trace(&task, 0, &[]);
    assert_eq!(whole.steps(&mut anew, 10), got);
    // what it read is its prompt now
    assert_eq!(ready.executor.positions(), 60 + 6 + 21 + 9);
}

/// Scored anew, the tokens have the log-probabilities and confidences that they were drawn with, and a
/// trace that is taken up again goes on as the first did.
#[test]
fn a_trace_is_taken_up_again_by_reading_its_ids() {
    let (mut ready, task) = ready();
    let mut trace = ready.trace(&task, 4, &[]);
    let drawn = ready.steps(&mut trace, 90);
    for n in [1, 2, 4, 5, 64, 89] {
        let mut again = ready.trace(&task, 4, &ids(&drawn[..n]));
        assert_eq!(ready.steps(&mut again, 90 - n), drawn[n..], "taken up after {n}");
    }
    let text = [task.prompt.clone(), ids(&drawn)].concat();
    let first = task.prompt.len() - 1;
    for (most, positions) in [(usize::MAX, 0..text.len()), (1, first..text.len() - 1)] {
        let request = ScoreRequest {
            ids: &text,
            positions: positions.clone(),
            top_logprobs: 3,
        };
        let (mut scored, mut read) = (Vec::new(), 0);
        let seq = ready.executor.begin();
        while read < positions.end {
            let mut each = |s: tts_model::executor::Scored<'_>| {
                scored.push((s.logprob, s.confidence, s.top.to_vec()));
            };
            read = ready.executor.score(seq, &request, most, &mut each).unwrap();
        }
        ready.executor.free(seq);
        assert_eq!(scored.len(), positions.len());
        for (i, d) in drawn.iter().enumerate() {
            let (logprob, confidence, top) = &scored[first + i - positions.start];
            assert!((logprob.unwrap() - d.logprob).abs() < 1e-5);
            assert_eq!(*confidence, d.confidence);
            let best: Vec<f32> = top.iter().map(|t| t.1).collect();
            assert!(best.iter().zip(&d.top).all(|(a, b)| (a - b).abs() < 1e-5) && best.len() == 3);
        }
        let last = scored.last().unwrap();
        assert_eq!(
            last.0.is_none(),
            positions.end == text.len(),
            "nothing follows the last"
        );
    }
}

/// A saved state is taken up bit for bit, by the trace that it is of and by no other.
#[test]
fn a_saved_trace_goes_on_where_it_was() {
    gqa_in_each()
        .into_iter()
        .for_each(|(kv, model)| saved_trace(kv, &model));
}

fn saved_trace(kv: KvFormat, model: &Arc<Model>) {
    let mut task = Task::new("traces", "majority");
    task.prompt = prompt(60, 1);
    let mut ready = Ready::new(model, &task.prompt);
    let mut trace = ready.trace(&task, 2, &[]);
    let before = ids(&ready.steps(&mut trace, 40));
    let mut saved = Vec::new();
    ready.executor.save(trace.seq, &mut saved).unwrap();
    let want = ready.steps(&mut trace, 20);
    // it had read all but the last token; four more are read again
    for more in [0, 4] {
        let known = [&before[..], &ids(&want[..more])].concat();
        let seq = ready.executor.fork(ready.prompt, 1)[0];
        ready.executor.load(seq, &known, &mut &saved[..]).unwrap();
        let read = ready.executor.positions();
        ready.executor.resume(&[(seq, &known[..])]);
        assert_eq!(ready.executor.positions() - read, more as u64);
        let mut again = Trace {
            seq,
            at: known.len(),
            ..trace
        };
        assert_eq!(ready.steps(&mut again, 20 - more), want[more..]);
    }
    let seq = ready.executor.fork(ready.prompt, 1)[0];
    let mut refused = |ids: &[u32], bytes: &[u8]| {
        ready.executor.load(seq, ids, &mut &bytes[..]).unwrap_err();
        assert_eq!(ready.executor.length(seq), 60, "it is as it was");
    };
    let mut others = before.clone();
    others[3] += 1;
    refused(&others, &saved);
    refused(&before[..39], &saved);
    refused(&[], &saved);
    refused(&before, &saved[..saved.len() - 1]);
    refused(&before, &[&saved[..], &[0]].concat());
    refused(&before, b"");
    let mut damaged = saved.clone();
    damaged[saved.len() / 2] ^= 1;
    refused(&before, &damaged);
    let mut elsewhere = Ready::new(model, &prompt(60, 2));
    let seq = elsewhere.executor.fork(elsewhere.prompt, 1)[0];
    elsewhere
        .executor
        .load(seq, &before, &mut &saved[..])
        .unwrap_err();
    for (other, model) in gqa_in_each().iter().filter(|(other, _)| *other != kv) {
        let mut held = Ready::new(model, &task.prompt);
        let seq = held.executor.fork(held.prompt, 1)[0];
        let refused = held.executor.load(seq, &before, &mut &saved[..]);
        assert!(
            refused.is_err(),
            "saved as {}, taken up as {}",
            kv.name(),
            other.name()
        );
    }
}

#[test]
fn forced_tokens_are_taken_and_read_like_drawn_ones() {
    let (mut ready, task) = ready();
    let mut free = ready.trace(&task, 0, &[]);
    let mut led = ready.trace(&task, 0, &[]);
    let before = ready.steps(&mut free, 4);
    assert_eq!(ready.steps(&mut led, 4), before);
    let own = ready.steps(&mut free, 1)[0];
    let other = (own.id + 1) % 300;
    let forced = ready.step(&mut [&mut led], Some(other))[0];
    // the token is another one, the distribution that it stands for is the same
    assert_eq!((forced.id, forced.confidence), (other, own.confidence));
    let mut reread = ready.trace(&task, 0, &[ids(&before), vec![other]].concat());
    let after = ready.steps(&mut led, 20);
    assert_eq!(ready.steps(&mut reread, 20), after);
    assert_ne!(ready.steps(&mut free, 20), after);
}

#[test]
fn banned_ids_are_never_drawn() {
    let (mut ready, task) = ready();
    let mut free = ready.trace(&task, 0, &[]);
    let first = ready.steps(&mut free, 1)[0];
    for allowed in [vec![9, 40, 41, 300], vec![7]] {
        for temperature in [0.0, 1.0] {
            let mut task = task.clone();
            task.banned_ids = all_but(&allowed);
            task.sampling.temperature = temperature;
            let mut trace = ready.trace(&task, 0, &[]);
            let drawn = ready.steps(&mut trace, 30);
            assert!(drawn.iter().all(|d| allowed.contains(&d.id)));
            assert_eq!(
                drawn[0].confidence, first.confidence,
                "confidence is that of the raw distribution"
            );
        }
    }
}

#[test]
fn a_fork_goes_its_own_way_and_its_parent_does_not_notice() {
    let (mut ready, mut task) = ready();
    for penalty in [1.0, 1.3] {
        task.sampling.repetition_penalty = penalty;
        let mut undisturbed = ready.trace(&task, 0, &[]);
        let want = ready.steps(&mut undisturbed, 40);
        for at in [0, 1, 3, 4, 5, 20] {
            let mut parent = ready.trace(&task, 0, &[]);
            ready.steps(&mut parent, at);
            let mut child = Trace {
                trace: 9,
                seq: ready.executor.fork(parent.seq, 1)[0],
                ..parent
            };
            let mut both = (Vec::new(), Vec::new());
            for _ in at..40 {
                let drawn = ready.step(&mut [&mut parent, &mut child], None);
                both.0.push(drawn[0]);
                both.1.push(drawn[1]);
            }
            assert_eq!(both.0, want[at..], "the parent, forked after {at}");
            let mut fresh = ready.trace(&task, 9, &ids(&want[..at]));
            assert_eq!(ready.steps(&mut fresh, 40 - at), both.1, "the fork after {at}");
            assert_ne!(both.0, both.1);
        }
    }
}

#[test]
fn sampling_settings_belong_to_the_row() {
    let (mut ready, task) = ready();
    let greedy = Sampling {
        temperature: 0.0,
        ..Sampling::default()
    };
    let settings = [
        greedy.clone(),
        Sampling {
            top_k: 1,
            ..Sampling::default()
        },
        Sampling {
            temperature: 1.5,
            min_p: 0.3,
            ..Sampling::default()
        },
        Sampling {
            frequency_penalty: 50.0,
            ..greedy.clone()
        },
        Sampling {
            repetition_penalty: 90.0,
            ..greedy
        },
    ];
    let tasks: Vec<Task> = settings
        .iter()
        .map(|sampling| Task {
            sampling: sampling.clone(),
            ..task.clone()
        })
        .collect();
    let mut traces: Vec<_> = (0..tasks.len())
        .map(|i| ready.trace(&tasks[i], i as u32, &[]))
        .collect();
    let mut together = vec![Vec::new(); settings.len()];
    for _ in 0..30 {
        let drawn = ready.step(&mut traces.iter_mut().collect::<Vec<_>>(), None);
        together.iter_mut().zip(drawn).for_each(|(all, d)| all.push(d));
    }
    for (i, together) in together.iter().enumerate() {
        let mut alone = ready.trace(&tasks[i], i as u32, &[]);
        assert_eq!(&ready.steps(&mut alone, 30), together, "{:?}", settings[i]);
        // and taken up in the middle, with what was seen before
        let mut again = ready.trace(&tasks[i], i as u32, &ids(&together[..11]));
        assert_eq!(ready.steps(&mut again, 19), together[11..], "{:?}", settings[i]);
    }
    assert_eq!(ids(&together[0]), ids(&together[1]), "greedy is the best id");
    let distinct = |drawn: &[Drawn]| {
        ids(drawn)
            .into_iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len()
    };
    assert_eq!(distinct(&together[3]), 30, "a great penalty forbids repeating");
    assert!(
        ids(&together[4]).iter().all(|id| !task.prompt.contains(id)) && distinct(&together[4]) == 30,
        "the prompt counts for repetition"
    );
    // settings change on the way; penalties look back on all that came before
    for (before, after) in [(2, 0), (2, 4), (4, 2), (3, 4)] {
        let mut trace = ready.trace(&tasks[before], before as u32, &[]);
        let start = ids(&ready.steps(&mut trace, 3));
        (trace.task, trace.trace) = (&tasks[after], after as u32);
        let changed = ready.steps(&mut trace, 5);
        let mut fresh = ready.trace(&tasks[after], after as u32, &start);
        assert_eq!(ready.steps(&mut fresh, 5), changed, "{before} to {after}");
    }
}
