//! Engines that misbehave: slow, cut, 429, 500, wrong JSON, dead.

use std::time::Duration;

use serde_json::json;
use tts::Solver;
use tts::solver::RemoteApi;
use tts::source::{RemoteOptions, remote::Timeouts};
use tts_strategies::Finish;

use super::server::{Request, Server, Step, Trace, done, event, head, plain, question, well};
use super::{check, connect, ended, options, problem, settings, solve, solve_with};

/// An answer whose stream goes wrong after some events of it.
fn spoilt(request: &Request<'_>, events: usize, wrong: &[Step]) -> Vec<Step> {
    let mut steps = well(request, 1);
    steps.truncate(1 + events);
    steps.extend(wrong.iter().cloned());
    steps
}

#[tokio::test]
async fn a_stream_that_breaks_fails_its_trace_and_the_next_takes_its_place() {
    let wrongs: [(&str, Vec<Step>); 5] = [
        ("cut", vec![]),
        ("ended", vec![]),
        (
            "no json",
            vec![
                Step::Send(b"data: {\"choices\": [\n\n".to_vec()),
                Step::Wait(Duration::from_secs(60)),
            ],
        ),
        (
            "error",
            vec![Step::Send(event(&json!({"error": {"message": "out of blocks"}})))],
        ),
        ("done without a reason", vec![Step::Send(done())]),
    ];
    for (name, wrong) in wrongs {
        let server = Server::new(move |r| match question(r, 1.0) {
            // the second and the fifth request go wrong after the role and ten tokens
            None if matches!(r.nth, 1 | 4) => {
                let mut steps = spoilt(r, 11, &wrong);
                if name == "cut" {
                    // more was announced
                    steps[0] = Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n".to_vec());
                }
                steps
            }
            _ => well(r, 1),
        })
        .await;
        let one = tts::Settings {
            slots: Some(1.into()),
            ..settings("majority", 8)
        };
        let solved = solve(&server, one).await;
        let failed = ended(&solved, Finish::Failed);
        assert_eq!(
            failed.iter().map(|r| (r.trace, r.tokens)).collect::<Vec<_>>(),
            [(1, 10), (4, 10)],
            "{name}"
        );
        assert!(failed.iter().all(|r| r.arrays.confidence.len() == 10), "{name}");
        assert_eq!(
            (solved.traces.launched, solved.traces.fates.finished),
            (8, 6),
            "{name}"
        );
        assert_eq!(solved.tokens.fates.failed, 20, "{name}");
        let voted: usize = solved.ballots.iter().map(|b| b.traces).sum();
        assert_eq!(voted, 6, "{name}: no trace votes twice");
        assert_eq!(solved.answer.as_deref(), Some("7"));
        let notices = serde_json::to_string(&solved.machine).unwrap();
        assert!(
            notices.contains("a trace failed: http://127.0.0.1"),
            "{name}: {notices}"
        );
    }
}

#[tokio::test]
async fn requests_that_brought_nothing_are_sent_again_for_the_same_trace() {
    let wrongs: [(&str, Vec<Step>); 5] = [
        (
            "500",
            plain("500 Internal Server Error", "", "{\"error\": \"no\"}"),
        ),
        ("503", plain("503 Service Unavailable", "retry-after: 0\r\n", "")),
        ("cut before the head", vec![Step::Cut]),
        (
            "cut before a token",
            vec![
                head(),
                Step::Send(b": keep-alive\n\n".to_vec()),
                Step::Wait(Duration::from_millis(100)),
                Step::Cut,
            ],
        ),
        ("no json", vec![head(), Step::Send(b"data: <html>\n\n".to_vec())]),
    ];
    for (name, wrong) in wrongs {
        let server = Server::new(move |r| match question(r, 1.0) {
            None if matches!(r.nth, 0 | 3) => wrong.clone(),
            _ => well(r, 1),
        })
        .await;
        let one = tts::Settings {
            slots: Some(1.into()),
            ..settings("majority", 4)
        };
        let solved = solve(&server, one).await;
        assert_eq!(
            (solved.traces.fates.finished, solved.traces.fates.failed),
            (4, 0),
            "{name}"
        );
        let seeds: Vec<_> = server
            .traces()
            .iter()
            .map(|a| a.body["seed"].as_u64().unwrap())
            .collect();
        assert_eq!(seeds.len(), 6, "{name}");
        assert!(
            seeds[0] == seeds[1] && seeds[3] == seeds[4],
            "{name}: the same trace is asked for again"
        );
        let sent: usize = [0, 2, 3, 5]
            .iter()
            .map(|i| Trace::of(seeds[*i]).words.len())
            .sum();
        assert_eq!(solved.tokens.generated, sent as u64, "{name}");
    }
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let server = Server::new(|r| match question(r, 1.0) {
        None if r.nth == 0 => plain(
            "429 Too Many Requests",
            "retry-after: 2\r\n",
            "{\"error\": {\"message\": \"slow down\"}}",
        ),
        _ => well(r, 1),
    })
    .await;
    let solved = solve(&server, settings("majority", 1)).await;
    assert_eq!(solved.traces.fates.finished, 1);
    let asked = server.traces();
    assert!(
        asked[1].at - asked[0].at >= Duration::from_secs(2),
        "not before two seconds"
    );
}

#[tokio::test]
async fn an_engine_that_falls_silent_is_given_up() {
    let server = Server::new(|r| match question(r, 1.0) {
        // comments keep a connection alive and are no tokens
        None if r.nth == 0 => {
            let mut steps = spoilt(r, 6, &[]);
            for _ in 0..300 {
                steps.extend([
                    Step::Wait(Duration::from_millis(100)),
                    Step::Send(b": still here\n\n".to_vec()),
                ]);
            }
            steps
        }
        None if r.nth == 1 => vec![head(), Step::Wait(Duration::from_secs(60))],
        _ => well(r, 1),
    })
    .await;
    let options = RemoteOptions {
        timeouts: Timeouts {
            first_token: Duration::from_secs(8),
            idle: Duration::from_secs(4),
            ..options(&[]).timeouts
        },
        ..options(&[server.url()])
    };
    let one = tts::Settings {
        slots: Some(1.into()),
        ..settings("majority", 3)
    };
    let (runner, _) = Solver::remote(&options, RemoteApi::Chat, one, None, &problem())
        .await
        .unwrap();
    let solved = solve_with(&runner).await.unwrap();
    check(&solved, 1);
    assert_eq!((solved.traces.fates.failed, solved.tokens.fates.failed), (1, 5));
    assert_eq!(solved.traces.fates.finished, 2, "the silent one was asked again");
}

#[tokio::test]
async fn an_engine_that_always_fails_ends_the_run_in_a_sentence() {
    let server = Server::new(|r| {
        question(r, 1.0)
            .unwrap_or_else(|| plain("500 Internal Server Error", "", "{\"message\": \"no memory\"}"))
    })
    .await;
    let runner = connect(&[server.url()], settings("majority", 4)).await.unwrap();
    let error = solve_with(&runner).await.unwrap_err().to_string();
    assert!(
        error.contains(&server.url()) && error.contains("no memory") && error.contains("4 times"),
        "{error}"
    );
    // one that breaks every stream has no votes to count
    let server = Server::new(|r| match question(r, 1.0) {
        None => spoilt(r, 4, &[]),
        Some(steps) => steps,
    })
    .await;
    let runner = connect(&[server.url()], settings("majority", 4)).await.unwrap();
    let error = solve_with(&runner).await.unwrap_err().to_string();
    assert!(
        error.contains("every trace failed") && error.contains("ended a stream without a word"),
        "{error}"
    );
    // a request that is refused is not sent again
    let server = Server::new(|r| {
        question(r, 1.0)
            .unwrap_or_else(|| plain("400 Bad Request", "", "{\"error\": {\"message\": \"too long\"}}"))
    })
    .await;
    let runner = connect(&[server.url()], settings("majority", 1)).await.unwrap();
    let error = solve_with(&runner).await.unwrap_err().to_string();
    assert!(
        error.contains("refuses a request") && error.contains("too long"),
        "{error}"
    );
    assert_eq!(server.traces().len(), 1);
}
