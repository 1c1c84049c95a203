//! What engines take and give, found out before a trace is spent; and run folders.

use serde_json::{Value, json};
use tts::solver::RemoteApi;
use tts::source::RemoteOptions;
use tts::strategies::{Overrides, Preset};
use tts::{Error, Settings, Solver};
use tts_model::overrides::SamplingOverrides;

use super::server::{Request, Server, Step, done, event, head, models, plain, question, well};
use super::{check, connect, options, problem, settings, solve, solve_with};

async fn refused(server: &Server, settings: Settings) -> String {
    let error: Error = connect(&[server.url()], settings).await.err().expect("refused");
    assert!(server.traces().is_empty(), "no trace was spent");
    error.to_string()
}

/// The engine, giving at most `n` log-probabilities.
fn giving(n: usize, in_stream: bool) -> impl Fn(&Request<'_>) -> Vec<Step> + Send + Sync + 'static {
    move |r| {
        let asked = r.body["top_logprobs"].as_u64().unwrap_or(0) as usize;
        if r.body["logprobs"] == true && asked > n {
            let text =
                format!("Requested sample logprobs of {asked}, which is greater than max allowed: {n}");
            let error = json!({"error": {"message": text, "code": 400}});
            // as vLLM does: the head is sent before the request is looked at
            return match in_stream {
                true => vec![head(), Step::Send(event(&error)), Step::Send(done())],
                false => plain("400 Bad Request", "", &error.to_string()),
            };
        }
        well(r, 1)
    }
}

#[tokio::test]
async fn too_few_log_probabilities_are_named_with_what_would_help() {
    let server = Server::new(giving(5, false)).await;
    let error = refused(&server, settings("deepconf-low", 8)).await;
    for part in [
        "deepconf-low",
        &server.url(),
        "5 log-probabilities",
        "--max-logprobs 20",
        "--confidence-k 5",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    // others work, and confidence over five is to be had
    let solved = solve(&server, settings("majority", 3)).await;
    assert_eq!(solved.traces.fates.finished, 3);
    assert!(
        solved
            .records
            .iter()
            .all(|r| r.arrays.confidence.is_empty() && r.arrays.logprobs.len() == r.tokens)
    );
    let five = RemoteOptions {
        confidence_k: 5,
        ..options(&[server.url()])
    };
    let (runner, _) = Solver::remote(
        &five,
        RemoteApi::Chat,
        settings("deepconf-low", 8),
        None,
        &problem(),
    )
    .await
    .unwrap();
    let solved = solve_with(&runner).await.unwrap();
    check(&solved, 8);
    assert!(
        solved
            .records
            .iter()
            .all(|r| r.arrays.confidence.len() == r.tokens)
    );
    assert_eq!(runner.trace_settings().confidence_k, Some(5));
    // an engine that refuses within a stream, and gives as many as are needed
    let server = Server::new(giving(20, true)).await;
    let solved = solve(&server, settings("deepconf-low", 8)).await;
    assert!(
        solved
            .records
            .iter()
            .all(|r| r.arrays.confidence.len() == r.tokens)
    );
    assert!(server.traces().iter().all(|a| a.body["top_logprobs"] == 20));
}

#[tokio::test]
async fn processed_log_probabilities_are_told_from_raw_ones() {
    let server = Server::new(|r| question(r, 0.0).unwrap_or_else(|| well(r, 1))).await;
    let error = refused(&server, settings("deepconf-high", 8)).await;
    for part in ["after temperature", "--logprobs-mode raw_logprobs"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let error = refused(&server, settings("cges", 8)).await;
    assert!(error.contains("log-probabilities"), "{error}");
    let solved = solve(&server, settings("esc", 5)).await;
    assert!(solved.records.iter().all(|r| r.arrays.logprobs.is_empty()));
    assert_eq!(solved.answer.as_deref(), Some("7"));
}

#[tokio::test]
async fn an_engine_without_log_probabilities_still_solves() {
    // neither those nor ids: a token for every piece of text, and the engine's own count at the end
    let server = Server::new(|r| {
        if let Some(field) = ["logprobs", "return_token_ids"]
            .iter()
            .find(|f| r.body.get(**f).is_some())
        {
            let text = format!("{field}: extra inputs are not permitted");
            return plain(
                "422 Unprocessable Entity",
                "",
                &json!({"detail": text}).to_string(),
            );
        }
        well(r, 3)
    })
    .await;
    let error = refused(&server, settings("deepconf-low", 8)).await;
    assert!(error.contains("gives no log-probabilities"), "{error}");
    let solved = solve(&server, settings("adaptive-consistency", 6)).await;
    let all: usize = super::model_of(&server).values().map(|t| t.words.len()).sum();
    assert!(solved.tokens.unseen > 0 && solved.tokens.generated <= all as u64);
    assert_eq!(solved.answer.as_deref(), Some("7"));
    let asked = server.traces();
    assert!(
        asked
            .iter()
            .all(|a| a.body.get("return_token_ids").is_none() && a.body["seed"].is_u64())
    );
}

#[tokio::test]
async fn what_the_user_asked_for_is_sent_or_refused() {
    let chosen = Settings {
        sampling: SamplingOverrides {
            temperature: Some(0.6),
            top_p: Some(0.9),
            top_k: Some(7),
            min_p: Some(0.01),
            repetition_penalty: Some(1.1),
            ..SamplingOverrides::default()
        },
        system: Some("Be brief.".to_owned()),
        ..settings("majority", 2)
    };
    let server = Server::new(|r| well(r, 1)).await;
    solve(&server, chosen.clone()).await;
    for asked in server.traces() {
        let b = &asked.body;
        assert_eq!(
            (&b["temperature"], &b["top_p"], &b["top_k"], &b["min_p"]),
            (&json!(0.6), &json!(0.9), &json!(7), &json!(0.01))
        );
        assert_eq!(
            (&b["repetition_penalty"], &b["messages"][0]["content"]),
            (&json!(1.1), &json!("Be brief."))
        );
    }
    let strict = Server::new(|r| match r.body.get("top_k") {
        Some(_) => plain(
            "400 Bad Request",
            "",
            "{\"error\": {\"message\": \"Unrecognized request argument supplied: top_k\"}}",
        ),
        None => well(r, 1),
    })
    .await;
    let error = refused(&strict, chosen).await;
    assert!(
        error.contains("top_k") && error.contains("leave --top-k out"),
        "{error}"
    );
    let forced = Settings {
        thinking_budget: Some(10),
        ..settings("majority", 2)
    };
    let unasked = Server::new(|r| well(r, 1)).await;
    assert!(refused(&unasked, forced).await.contains("--thinking-budget"));
}

#[tokio::test]
async fn models_are_found_or_asked_for_by_name() {
    let two = json!({"data": [{"id": "a", "owned_by": "x"}, {"id": "b", "owned_by": "x"}]}).to_string();
    let server = Server::new(move |r| match r.path.ends_with("/models") {
        true => plain("200 OK", "", &two),
        false => well(r, 1),
    })
    .await;
    assert!(
        refused(&server, settings("majority", 1))
            .await
            .contains("--backend-model: a, b")
    );
    let named = |name: &str| RemoteOptions {
        model: Some(name.to_owned()),
        ..options(&[server.url()])
    };
    let (runner, _) = Solver::remote(
        &named("b"),
        RemoteApi::Chat,
        settings("majority", 1),
        None,
        &problem(),
    )
    .await
    .unwrap();
    solve_with(&runner).await.unwrap();
    assert_eq!(server.traces()[0].body["model"], "b");
    let error = Solver::remote(
        &named("c"),
        RemoteApi::Chat,
        settings("majority", 1),
        None,
        &problem(),
    )
    .await
    .err()
    .unwrap();
    assert!(error.to_string().contains("no model `c`; it has a, b"), "{error}");
    // an engine without a list
    let bare = Server::new(|r| match r.path.ends_with("/models") {
        true => plain("404 Not Found", "", "{\"detail\": \"Not Found\"}"),
        false => well(r, 1),
    })
    .await;
    assert!(
        refused(&bare, settings("majority", 1))
            .await
            .contains("no list of models")
    );
    // no server of this kind at all
    let stranger = Server::new(|_| plain("200 OK", "", "<html>")).await;
    let error = refused(&stranger, settings("majority", 1)).await;
    assert!(error.contains(&stranger.url()), "{error}");
}

#[tokio::test]
async fn a_context_that_is_too_short_is_said_before_a_trace_is_spent() {
    let server = Server::new(|r| well(r, 1)).await;
    let long = Settings {
        max_tokens: Some(5000),
        ..settings("majority", 1)
    };
    let runner = connect(&[server.url()], long).await.unwrap();
    let error = runner.prepare(&problem()).err().unwrap().to_string();
    assert!(
        error.contains("--max-tokens 5000") && error.contains("4096"),
        "{error}"
    );
}

#[tokio::test]
async fn settings_out_of_range_are_refused_as_they_are_here() {
    let server = Server::new(|r| well(r, 1)).await;
    assert!(
        refused(&server, settings("majority", 0))
            .await
            .contains("--traces 0")
    );
    let hot = Settings {
        sampling: SamplingOverrides {
            temperature: Some(-1.0),
            ..SamplingOverrides::default()
        },
        ..settings("majority", 1)
    };
    assert!(refused(&server, hot).await.contains("temperature"));
    let mut keep = Preset::named("deepconf-low").unwrap();
    assert!(keep.apply(&Overrides::default().with("keep_top", 7.0)).is_err());
}

/// One event of a question's answer may come in any shape that an engine gives it.
#[tokio::test]
async fn an_engine_may_answer_a_question_with_nothing_to_compare() {
    let server = Server::new(|r| {
        if r.path.ends_with("/models") {
            return models("m");
        }
        let choice: Value =
            json!({"index": 0, "delta": {"content": "7"}, "finish_reason": "stop", "logprobs": null});
        vec![
            head(),
            Step::Send(event(&json!({"choices": [choice]}))),
            Step::Send(done()),
        ]
    })
    .await;
    let error = refused(&server, settings("deepconf-low", 2)).await;
    assert!(error.contains("gives no log-probabilities"), "{error}");
}
