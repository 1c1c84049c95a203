//! What is asked, what is made of it, and where every token is counted.

use proptest::prelude::*;
use serde_json::{Value, json};
use tts::solver::RemoteApi;
use tts::{Settings, Solver, Watch};
use tts_strategies::{Finish, Overrides};

use super::server::{Request, Server, Step, Trace, done, event, head, question, well};
use super::{check, connect, ended, model_of, options, preset, problem, settings, solve, solve_with, until};

#[tokio::test]
async fn every_trace_is_asked_once_and_comes_as_it_was_sent() {
    let server = Server::new(|r| well(r, 1)).await;
    let solved = solve(
        &server,
        Settings {
            seed: 5,
            ..settings("majority", 12)
        },
    )
    .await;
    assert_eq!(
        (solved.answer.as_deref(), solved.correct),
        (Some("7"), Some(true))
    );
    assert_eq!((solved.traces.fates.finished, solved.tokens.prompt), (12, 11));
    let model = model_of(&server);
    assert_eq!(model.len(), 12, "a seed of its own for each");
    let sent: usize = model.values().map(|t| t.words.len()).sum();
    assert_eq!((solved.tokens.generated, solved.tokens.unseen), (sent as u64, 0));
    // confidences are the mean of the 20 largest of 21, in order
    for record in &solved.records {
        let like = |t: &&Trace| {
            t.words.concat() == *record.text.as_ref().unwrap()
                && t.confidence.len() == record.tokens
                && t.confidence
                    .iter()
                    .zip(&record.arrays.confidence)
                    .all(|(a, b)| (a - f64::from(*b)).abs() < 1e-5)
        };
        assert!(model.values().any(|t| like(&t)), "{record:?}");
        assert_eq!(record.arrays.token_ids[2], 102);
    }
    for asked in server.traces() {
        let b = &asked.body;
        assert_eq!(
            (&b["stream"], &b["logprobs"], &b["top_logprobs"]),
            (&json!(true), &json!(true), &json!(21))
        );
        assert_eq!((&b["max_tokens"], &b["model"]), (&json!(100), &json!("m")));
        assert!(
            b.get("temperature").is_none(),
            "what is not set is left to the engine"
        );
        assert!(b["messages"][0]["content"].as_str().unwrap().contains("3 + 4"));
    }
    // the same seed asks for the same traces
    let again = Server::new(|r| well(r, 1)).await;
    solve(
        &again,
        Settings {
            seed: 5,
            ..settings("majority", 12)
        },
    )
    .await;
    assert!(model_of(&again).keys().eq(model.keys()));
}

/// The second prompt goes there as the first did, with the solutions that came from there.
#[tokio::test]
async fn a_second_look_asks_with_the_solutions() {
    let server = Server::new(|r| well(r, 1)).await;
    let mut strategy = preset("second-look");
    let overrides = Overrides::default()
        .with("most", 6)
        .with("looks", 3)
        .with("show", 2)
        .with("certainty", 0.999_999);
    strategy.apply(&overrides).unwrap();
    let solved = solve(
        &server,
        Settings {
            strategy,
            ..settings("majority", 12)
        },
    )
    .await;
    let asked: Vec<String> = server
        .traces()
        .iter()
        .map(|a| a.body["messages"][0]["content"].as_str().unwrap().to_owned())
        .collect();
    let (second, first): (Vec<_>, Vec<_>) = asked.iter().partition(|text| text.contains("[Attempt 1]"));
    assert_eq!((first.len(), second.len(), solved.records.len()), (6, 3, 9));
    let shown = solved
        .records
        .iter()
        .find(|r| r.trace == 8)
        .unwrap()
        .shown
        .clone();
    assert_eq!(shown.len(), 2);
    for (i, trace) in shown.iter().enumerate() {
        let solution = solved
            .records
            .iter()
            .find(|r| r.trace == *trace)
            .unwrap()
            .text
            .clone()
            .unwrap();
        let part = format!("[Attempt {}]\n{}", i + 1, solution.trim());
        assert!(
            second
                .iter()
                .all(|text| text.contains(&part) && text.starts_with(first[0].as_str()))
        );
    }
    let seeds = model_of(&server);
    assert_eq!(seeds.len(), 9, "a seed of its own for each");
    assert_eq!(solved.tokens.prompt, 22, "both prompts");
    // forks cannot be had there
    let forks = connect(&[server.url()], settings("continuation", 12)).await;
    let error = forks.err().unwrap().to_string();
    assert!(
        error.contains("needs traces that go on from the middle of others"),
        "{error}"
    );
}

#[tokio::test]
async fn a_trace_that_loses_confidence_has_its_stream_closed() {
    // after its tokens an unsure trace would go on for ever
    let server = Server::new(|r| {
        let mut steps = well(r, 1);
        if question(r, 1.0).is_none() && r.body["seed"].as_u64().unwrap().is_multiple_of(4) && r.nth >= 6 {
            let last = steps.len() - 3;
            steps.truncate(last);
            steps.push(Step::Wait(std::time::Duration::from_secs(60)));
        }
        steps
    })
    .await;
    let solved = solve(&server, settings("deepconf-high", 40)).await;
    let stopped = ended(&solved, Finish::LowConfidence);
    let endless = || {
        server
            .traces()
            .into_iter()
            .skip(6)
            .filter(|a| a.body["seed"].as_u64().unwrap().is_multiple_of(4))
    };
    assert!(endless().count() >= 3 && stopped.len() >= endless().count());
    for record in &stopped {
        let c = &record.arrays.confidence;
        let group = |at: usize| c[at - 3..=at].iter().map(|c| f64::from(*c)).sum::<f64>() / 4.0;
        let bar = solved.threshold.unwrap();
        assert!(group(record.tokens - 1) < bar, "the last token crossed the bar");
        assert!(
            (3..record.tokens - 1).all(|at| group(at) >= bar),
            "and none before it"
        );
    }
    until(|| endless().all(|a| a.left), "the engine saw each of them leave").await;
    assert_eq!(solved.answer.as_deref(), Some("7"));
}

#[tokio::test]
async fn tokens_of_a_chunk_are_decided_one_by_one_and_those_after_the_stop_are_counted() {
    // whole traces in one chunk: what comes after the stop was generated and received
    let single = Server::new(|r| well(r, 1)).await;
    let many = Server::new(|r| well(r, 100)).await;
    // one slot makes the order of arrival the order of traces
    let one = Settings {
        slots: Some(1.into()),
        ..settings("deepconf-high", 24)
    };
    let by_one = solve(&single, one.clone()).await;
    let by_chunk = solve(&many, one).await;
    assert_eq!(by_one.threshold, by_chunk.threshold);
    let seen = |s: &tts::Solved| {
        s.records
            .iter()
            .map(|r| (r.trace, r.finish, r.tokens))
            .collect::<Vec<_>>()
    };
    assert_eq!(seen(&by_one), seen(&by_chunk), "the chunks decide nothing");
    let stopped = ended(&by_chunk, Finish::LowConfidence);
    assert!(!stopped.is_empty());
    assert_eq!(
        by_chunk.tokens.unseen,
        stopped.iter().map(|r| r.unseen).sum::<u64>()
    );
    let all: usize = model_of(&many).values().map(|t| t.words.len()).sum();
    assert_eq!(
        by_chunk.tokens.generated, all as u64,
        "everything that was received is in a book"
    );
}

/// An engine whose traces come a token a chunk, once `change` has had its way with the chunks.
async fn engine_that(change: fn(&mut [Value])) -> Server {
    Server::new(move |r| {
        question(r, 1.0).unwrap_or_else(|| {
            let mut chunks = Trace::of(r.body["seed"].as_u64().unwrap()).chunks(r.body, 1);
            change(&mut chunks);
            let mut steps = vec![head()];
            steps.extend(chunks.iter().map(|c| Step::Send(event(c))));
            steps.push(Step::Send(done()));
            steps
        })
    })
    .await
}

#[tokio::test]
async fn tokens_that_an_engine_reports_and_does_not_send_are_counted() {
    // its end of the text comes without an entry, as with llama.cpp
    let server = engine_that(|chunks| {
        let end = chunks.len() - 2;
        chunks[end]["choices"][0]["logprobs"] = json!(null);
        chunks[end]["choices"][0]
            .as_object_mut()
            .unwrap()
            .remove("token_ids");
    })
    .await;
    let solved = solve(&server, settings("majority", 5)).await;
    assert_eq!(solved.tokens.unseen, 5);
    let all: usize = model_of(&server).values().map(|t| t.words.len()).sum();
    assert_eq!(solved.tokens.generated, all as u64);
    assert!(
        solved
            .records
            .iter()
            .all(|r| r.arrays.confidence.len() == r.tokens)
    );
}

#[tokio::test]
async fn a_stream_without_an_end_is_cut_off_at_the_limit() {
    let server = Server::new(|r| {
        question(r, 1.0).unwrap_or_else(|| {
            let chunks = Trace::of(1).chunks(r.body, 1);
            vec![head(), Step::Forever(event(&chunks[1]))]
        })
    })
    .await;
    let solved = solve(&server, settings("majority", 3)).await;
    assert_eq!((solved.traces.fates.truncated, solved.answer), (3, None));
    assert!(
        solved
            .records
            .iter()
            .all(|r| r.tokens == 100 && r.finish == Finish::Length)
    );
    until(
        || server.traces().iter().all(|a| a.left),
        "every stream was closed",
    )
    .await;
}

#[tokio::test]
async fn a_decision_cancels_what_is_in_flight() {
    let server = Server::new(|r| well(r, 1)).await;
    let solved = solve(&server, settings("short-m-at-k", 30)).await;
    let voted = solved.traces.fates.finished;
    assert!(
        voted < 30 && solved.traces.fates.cancelled == 30 - voted,
        "{:?}",
        solved.traces
    );
    assert_eq!(solved.answer.as_deref(), Some("7"));
    // a limit on all tokens cancels too, and names itself
    let limited = Settings {
        max_total_tokens: Some(200),
        ..settings("majority", 30)
    };
    let solved = solve(&server, limited).await;
    assert_eq!(solved.cut, Some(tts::run::EarlyEnd::MaxTotalTokens));
    assert!(solved.tokens.generated >= 200 && solved.traces.fates.cancelled > 0);
}

#[tokio::test]
async fn an_interrupt_decides_with_what_there_is() {
    let server = Server::new(|r| {
        let mut steps = well(r, 1);
        if question(r, 1.0).is_none() && r.nth >= 4 {
            steps.truncate(6);
            steps.push(Step::Wait(std::time::Duration::from_secs(60)));
        }
        steps
    })
    .await;
    let runner = connect(&[server.url()], settings("majority", 8)).await.unwrap();
    let (events, mut seen) = tokio::sync::broadcast::channel(1000);
    let watch = Watch::by(tts::run::Observer {
        events: Some(events),
        ..Default::default()
    });
    let interrupt = watch.observer.interrupt.clone();
    let stop = async {
        let mut ended = 0;
        while ended < 4 {
            if let Ok(tts::run::Event::TraceEnded { .. }) = seen.recv().await {
                ended += 1;
            }
        }
        interrupt.cancel();
    };
    let prepared = runner.prepare(&problem()).unwrap();
    let (solved, ()) = tokio::join!(runner.solve(&prepared, watch), stop);
    let solved = solved.unwrap();
    check(&solved, 8);
    assert_eq!(solved.cut, Some(tts::run::EarlyEnd::Interrupted));
    assert_eq!(
        (solved.traces.fates.finished, solved.traces.fates.cancelled),
        (4, 4)
    );
}

#[tokio::test]
async fn the_plain_endpoint_is_asked_for_ids_so_that_no_two_tokens_fall_together() {
    let server = Server::new(|r| {
        if r.path.ends_with("/models") {
            return super::server::models("m");
        }
        assert!(r.path.ends_with("/v1/completions") && r.body["return_tokens_as_token_ids"] == true);
        assert!(r.body["prompt"].as_str().unwrap().contains("3 + 4"));
        let n = r.body["logprobs"].as_u64().unwrap();
        let logprob = |i| (format!("token_id:{i}"), json!(-0.5 - i as f64));
        let top: serde_json::Map<_, _> = (0..n).map(logprob).collect();
        let word = |text: &str, id: u32, end: Option<&str>| {
            event(&json!({"choices": [{"index": 0, "text": text, "token_ids": [id],
                "finish_reason": end, "logprobs": {
                "tokens": [format!("token_id:{id}")], "token_logprobs": [-0.5], "top_logprobs": [top]}}]}))
        };
        let mut steps = vec![
            head(),
            Step::Send(word(
                "\\boxed{7}",
                0,
                (r.body["max_tokens"] == 1).then_some("length"),
            )),
        ];
        if r.body["max_tokens"] != 1 {
            steps.push(Step::Send(word("", 3, Some("stop"))));
        }
        steps.push(Step::Send(done()));
        steps
    })
    .await;
    let (runner, _) = Solver::remote(
        &options(&[server.url()]),
        RemoteApi::Completions,
        settings("deepconf-low", 8),
        None,
        &problem(),
    )
    .await
    .unwrap();
    let solved = solve_with(&runner).await.unwrap();
    check(&solved, 8);
    assert_eq!(solved.answer.as_deref(), Some("7"));
    assert!(solved.records.iter().all(|r| r.arrays.token_ids == [0, 3]));
    let mean = (0..20).map(|i| 0.5 + f64::from(i)).sum::<f64>() / 20.0;
    assert!(
        solved
            .records
            .iter()
            .all(|r| (f64::from(r.arrays.confidence[0]) - mean).abs() < 1e-5)
    );
}

#[tokio::test]
async fn reasoning_in_a_field_of_its_own_is_thinking() {
    let server = Server::new(|r| {
        question(r, 1.0).unwrap_or_else(|| {
            let delta = |d: serde_json::Value, end: Option<&str>| {
                let list = json!([{"token": "x", "logprob": -0.1, "top_logprobs": [{"logprob": -0.1}]}]);
                let logprobs = json!({"content": list});
                event(&json!({"choices": [{"index": 0, "delta": d, "logprobs": logprobs, "finish_reason": end}]}))
            };
            vec![
                head(),
                Step::Send(delta(json!({"reasoning_content": "is it \\boxed{5}?"}), None)),
                Step::Send(delta(json!({"content": "It is \\boxed{7}."}), Some("stop"))),
                Step::Send(done()),
            ]
        })
    })
    .await;
    let solved = solve(&server, settings("majority", 2)).await;
    assert_eq!(solved.answer.as_deref(), Some("7"));
    assert_eq!(solved.solution.as_deref(), Some("It is \\boxed{7}."));
    assert_eq!(
        solved.records[0].text.as_deref(),
        Some("<think>is it \\boxed{5}?</think>It is \\boxed{7}.")
    );
}

/// A well behaved answer, and behind its end what cannot be read: another end and a usage that is none.
fn with_last_words(request: &Request<'_>, per: usize) -> Vec<Step> {
    let mut steps = well(request, per);
    if question(request, 1.0).is_none() {
        let done = steps.pop().expect("its end");
        let again = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]});
        let usage = json!({"choices": [], "usage": {"prompt_tokens": "x", "completion_tokens": -1}});
        steps.extend([again, usage].iter().map(|chunk| Step::Send(event(chunk))));
        steps.push(done);
    }
    steps
}

#[tokio::test]
async fn counts_that_no_trace_can_have_are_not_believed() {
    let server = engine_that(|chunks| {
        let usage = chunks.len() - 1;
        chunks[usage]["usage"]["completion_tokens"] = json!(u32::MAX);
    })
    .await;
    let solved = solve(&server, settings("majority", 5)).await;
    assert_eq!(solved.tokens.unseen, 0);
    let all: usize = model_of(&server).values().map(|t| t.words.len()).sum();
    assert_eq!(solved.tokens.generated, all as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn bytes_may_be_cut_anywhere(size in 1usize..400, per in 1usize..8) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async move {
            let whole = Server::new(move |r| with_last_words(r, per)).await;
            let cut = Server::new(move |r| {
                let steps = with_last_words(r, per).into_iter();
                let sent = |step| match step {
                    Step::Send(bytes) => bytes,
                    _ => Vec::new(),
                };
                let bytes: Vec<u8> = steps.flat_map(sent).collect();
                bytes.chunks(size).map(|part| Step::Send(part.to_vec())).collect()
            }).await;
            let one = Settings { slots: Some(1.into()), ..settings("deepconf-low", 10) };
            let (a, b) = (solve(&whole, one.clone()).await, solve(&cut, one).await);
            let seen = |s: &tts::Solved| {
                let of = |r: &tts::run::TraceRecord| (r.trace, r.finish, r.tokens, r.arrays.clone());
                s.records.iter().map(of).collect::<Vec<_>>()
            };
            assert_eq!(seen(&a), seen(&b));
            assert_eq!(a.answer, b.answer);
        });
    }
}
