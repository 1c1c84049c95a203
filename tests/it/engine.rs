//! A trace is a function of (model, prompt, sampling settings, seed, problem, trace index) and nothing else;
//! sessions and their lanes.

use std::sync::Arc;

use tts_model::kernels::Tier;
use tts_model::sampler::{Drawn, Sampling};
use tts_model::session::{Lane, Session, Turn};
use tts_model::{BLOCK, Model, WeightFormat};

use crate::rig::{Engine, Task, agree, all_but, gqa, model, preset, prompt, roomy, stops, traces};
use crate::sampler::confidence_from_logits;

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
            engine.scheduler.turn();
            engine.submit(&task);
            let mut turns = 0;
            while !engine.scheduler.is_idle() {
                engine.scheduler.turn();
                turns += 1;
                if turns % 7 == 0 && turns < 30 {
                    engine.submit(&company(1 + turns / 7));
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
    ] {
        alone_and_together(&model(name, format), Tier::detect(), 61, &[(7, 2), (64, 1)]);
    }
}

/// One step of all lanes.
fn step(session: &mut Session, lanes: &mut [&mut Lane], forced: Option<u32>) -> Vec<Drawn> {
    let mut turns: Vec<_> = lanes.iter_mut().map(|lane| Turn::new(lane, forced)).collect();
    session.step(&mut turns);
    turns.iter().map(|t| t.result.unwrap()).collect()
}

fn steps(session: &mut Session, lane: &mut Lane, n: usize) -> Vec<Drawn> {
    (0..n).map(|_| step(session, &mut [lane], None)[0]).collect()
}

fn ids(drawn: &[Drawn]) -> Vec<u32> {
    drawn.iter().map(|d| d.id).collect()
}

fn session() -> (Session, Task) {
    let mut task = Task::new("lanes", "majority");
    task.prompt = prompt(60, 1);
    (Session::new(gqa(), 1, Tier::detect()), task)
}

#[test]
fn the_prompt_is_read_once_and_its_full_blocks_are_shared() {
    let model = gqa();
    let shape = model.layout();
    for length in [5, BLOCK, 3 * BLOCK - 1, 3 * BLOCK, 3 * BLOCK + 9] {
        let mut task = Task::new("p", "majority");
        task.prompt = prompt(length, 2);
        let mut session = Session::new(model.clone(), 1, Tier::detect());
        let prefix = session.prefill(&task.prompt).unwrap();
        assert_eq!(
            prefix.sequence().private_bytes(shape),
            shape.sequence_bytes(length, 0),
            "all of it before a fork"
        );
        let mut lanes: Vec<_> = (0..5)
            .map(|trace| session.lane(&prefix, &[], task.manner(trace)))
            .collect();
        for tokens in 1..=BLOCK + 2 {
            step(&mut session, &mut lanes.iter_mut().collect::<Vec<_>>(), None);
            for lane in &lanes {
                assert_eq!(
                    (lane.tokens(), lane.sequence().len()),
                    (tokens, length + tokens - 1)
                );
                if tokens == 1 {
                    assert!(
                        std::ptr::eq(lane.sequence(), prefix.sequence()),
                        "the first token needs no copy"
                    );
                    continue;
                }
                assert_eq!(
                    lane.sequence().private_bytes(shape),
                    shape.sequence_bytes(length + tokens - 1, length),
                    "prompt of {length}, {tokens} tokens"
                );
            }
        }
        // what is left of the prompt's own: its state and its last, partial block
        let partial = usize::from(!length.is_multiple_of(BLOCK)) * shape.block_bytes();
        assert_eq!(
            prefix.sequence().private_bytes(shape),
            shape.state_bytes() + partial
        );

        let mut engine = Engine::roomy(&model);
        let outcome = engine.run(&task);
        let decoded: u64 = outcome.records.iter().map(|r| r.tokens as u64 - 1).sum();
        assert_eq!(
            engine.scheduler.session().positions(),
            length as u64 + decoded,
            "every position is read once"
        );
    }
}

/// Scored anew, the tokens have the log-probabilities and confidences that they were drawn with, and a
/// restored lane goes on as the first did.
#[test]
fn a_lane_is_taken_up_again_by_reading_its_ids() {
    let (mut session, task) = session();
    let prefix = session.prefill(&task.prompt).unwrap();
    let mut lane = session.lane(&prefix, &[], task.manner(4));
    let drawn = steps(&mut session, &mut lane, 90);
    for n in [1, 2, 4, 5, 64, 89] {
        let mut again = session.lane(&prefix, &ids(&drawn[..n]), task.manner(4));
        assert_eq!(again.tokens(), n);
        assert_eq!(
            steps(&mut session, &mut again, 90 - n),
            drawn[n..],
            "restored after {n}"
        );
    }
    let text = [task.prompt.clone(), ids(&drawn)].concat();
    let mut rows = Vec::new();
    session.score(&text, |at, row| rows.push((at, row.to_vec())));
    assert_eq!(rows.len(), text.len());
    for (i, d) in drawn.iter().enumerate() {
        let (at, row) = &rows[task.prompt.len() - 1 + i];
        assert_eq!(*at, task.prompt.len() - 1 + i);
        let most = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = row.iter().map(|z| f64::from(z - most).exp()).sum();
        let logprob = f64::from(row[d.id as usize] - most) - sum.ln();
        assert!((logprob - f64::from(d.logprob)).abs() < 1e-5);
        assert!((confidence_from_logits(row) - f64::from(d.confidence)).abs() < 1e-5);
    }
}

#[test]
fn forced_tokens_are_taken_and_read_like_drawn_ones() {
    let (mut session, task) = session();
    let prefix = session.prefill(&task.prompt).unwrap();
    let mut free = session.lane(&prefix, &[], task.manner(0));
    let mut led = session.lane(&prefix, &[], task.manner(0));
    let before = steps(&mut session, &mut free, 4);
    assert_eq!(steps(&mut session, &mut led, 4), before);
    let own = steps(&mut session, &mut free, 1)[0];
    let other = (own.id + 1) % 300;
    let forced = step(&mut session, &mut [&mut led], Some(other))[0];
    // the token is another one, the distribution that it stands for is the same
    assert_eq!((forced.id, forced.confidence), (other, own.confidence));
    let mut reread = session.lane(&prefix, &[ids(&before), vec![other]].concat(), task.manner(0));
    let after = steps(&mut session, &mut led, 20);
    assert_eq!(steps(&mut session, &mut reread, 20), after);
    assert_ne!(steps(&mut session, &mut free, 20), after);
}

#[test]
fn held_ids_are_never_drawn() {
    let (mut session, mut task) = session();
    let prefix = session.prefill(&task.prompt).unwrap();
    let mut free = session.lane(&prefix, &[], task.manner(0));
    let first = steps(&mut session, &mut free, 1)[0];
    for allowed in [vec![9, 40, 41, 300], vec![7]] {
        task.held = all_but(&allowed);
        for temperature in [0.0, 1.0] {
            task.sampling.temperature = temperature;
            let mut lane = session.lane(&prefix, &[], task.manner(0));
            let drawn = steps(&mut session, &mut lane, 30);
            assert!(drawn.iter().all(|d| allowed.contains(&d.id)));
            assert_eq!(
                drawn[0].confidence, first.confidence,
                "confidence is that of the raw distribution"
            );
        }
    }
}

#[test]
fn a_forked_lane_goes_its_own_way_and_its_parent_does_not_notice() {
    let (mut session, task) = session();
    let prefix = session.prefill(&task.prompt).unwrap();
    let mut undisturbed = session.lane(&prefix, &[], task.manner(0));
    let want = steps(&mut session, &mut undisturbed, 40);
    for at in [0, 1, 3, 4, 5, 20] {
        let mut parent = session.lane(&prefix, &[], task.manner(0));
        steps(&mut session, &mut parent, at);
        let mut child = parent.fork(task.manner(9));
        let mut both = (Vec::new(), Vec::new());
        for _ in at..40 {
            let drawn = step(&mut session, &mut [&mut parent, &mut child], None);
            both.0.push(drawn[0]);
            both.1.push(drawn[1]);
        }
        assert_eq!(both.0, want[at..], "the parent, forked after {at}");
        let mut fresh = session.lane(&prefix, &ids(&want[..at]), task.manner(9));
        assert_eq!(
            steps(&mut session, &mut fresh, 40 - at),
            both.1,
            "the fork after {at}"
        );
        assert_ne!(both.0, both.1);
    }
}

#[test]
fn sampling_settings_belong_to_the_lane() {
    let (mut session, task) = session();
    let prefix = session.prefill(&task.prompt).unwrap();
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
    let manner = |i: usize| {
        Task {
            sampling: settings[i].clone(),
            ..task.clone()
        }
        .manner(i as u32)
    };
    let mut lanes: Vec<_> = (0..settings.len())
        .map(|i| session.lane(&prefix, &[], manner(i)))
        .collect();
    let mut together = vec![Vec::new(); settings.len()];
    for _ in 0..30 {
        let drawn = step(&mut session, &mut lanes.iter_mut().collect::<Vec<_>>(), None);
        together.iter_mut().zip(drawn).for_each(|(all, d)| all.push(d));
    }
    for (i, together) in together.iter().enumerate() {
        let mut alone = session.lane(&prefix, &[], manner(i));
        assert_eq!(
            &steps(&mut session, &mut alone, 30),
            together,
            "{:?}",
            settings[i]
        );
        // and taken up in the middle, with what was seen before
        let mut again = session.lane(&prefix, &ids(&together[..11]), manner(i));
        assert_eq!(
            steps(&mut session, &mut again, 19),
            together[11..],
            "{:?}",
            settings[i]
        );
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
    // settings change on the way
    let mut lane = session.lane(&prefix, &[], manner(2));
    steps(&mut session, &mut lane, 3);
    lane.manner_mut().sampling = Arc::new(settings[0].clone());
    let changed = steps(&mut session, &mut lane, 5);
    let start = ids(&together[2][..3]);
    let mut fresh = session.lane(&prefix, &start, manner(0));
    assert_eq!(steps(&mut session, &mut fresh, 5), changed);
}
