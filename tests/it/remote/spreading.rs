//! Several engines at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tts::Solver;
use tts::solver::RemoteApi;
use tts::source::RemoteOptions;
use tts_strategies::Finish;

use super::server::{Server, Step, Trace, models, question, well};
use super::{check, connect, ended, options, problem, settings, solve_with, until};

#[tokio::test]
async fn traces_go_where_there_is_room_and_never_more_than_allowed() {
    let servers = [
        Server::new(|r| well(r, 1)).await,
        Server::new(|r| well(r, 1)).await,
    ];
    let options = RemoteOptions {
        in_flight: 3,
        ..options(&servers.each_ref().map(Server::url))
    };
    let (runner, _) = Solver::remote(
        &options,
        RemoteApi::Chat,
        settings("majority", 40),
        None,
        &problem(),
    )
    .await
    .unwrap();
    let solved = solve_with(&runner).await.unwrap();
    check(&solved, 40);
    assert_eq!(solved.traces.fates.finished, 40);
    let counts = servers.each_ref().map(|s| s.traces().len());
    assert_eq!(counts.iter().sum::<usize>(), 40);
    assert!(counts.iter().all(|n| *n >= 3), "{counts:?}");
    assert!(servers.iter().all(|s| s.most() <= 3));
}

#[tokio::test]
async fn an_engine_that_dies_costs_its_traces_and_nothing_else() {
    // the first holds its streams open after some tokens until it is killed
    let begun = Arc::new(Notify::new());
    let held = begun.clone();
    let dying = Server::new(move |r| {
        let mut steps = well(r, 1);
        if question(r, 1.0).is_none() {
            steps.truncate(9);
            steps.push(Step::Wait(Duration::from_secs(600)));
            if r.nth == 3 {
                held.notify_one();
            }
        }
        steps
    })
    .await;
    let other = Server::new(|r| well(r, 1)).await;
    let options = RemoteOptions {
        in_flight: 4,
        ..options(&[dying.url(), other.url()])
    };
    let (runner, _) = Solver::remote(
        &options,
        RemoteApi::Chat,
        settings("majority", 30),
        None,
        &problem(),
    )
    .await
    .unwrap();
    let kill = async {
        begun.notified().await;
        // until the other one has done everything that it can
        until(|| other.traces().len() >= 26, "the other engine goes on").await;
        dying.die();
    };
    let (solved, ()) = tokio::join!(solve_with(&runner), kill);
    let solved = solved.unwrap();
    check(&solved, 30);
    let failed = ended(&solved, Finish::Failed);
    assert_eq!(failed.len(), 4);
    assert!(
        failed.iter().all(|r| r.tokens == 7),
        "what came before it died is counted"
    );
    assert_eq!(solved.traces.fates.finished, 26);
    let sent: usize = other
        .traces()
        .iter()
        .map(|a| Trace::of(a.body["seed"].as_u64().unwrap()).words.len())
        .sum();
    assert_eq!(solved.tokens.generated, sent as u64 + 28);
    assert_eq!(solved.answer.as_deref(), Some("7"));
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_left_out_and_several_models_are_not_mixed() {
    let here = Server::new(|r| well(r, 1)).await;
    let gone = Server::new(|r| well(r, 1)).await;
    gone.die();
    let urls = [gone.url(), here.url()];
    until(
        || std::net::TcpStream::connect(gone.address).is_err(),
        "the port is closed",
    )
    .await;
    let (both, three) = (options(&urls), settings("majority", 3));
    let asked = Solver::remote(&both, RemoteApi::Chat, three, None, &problem()).await;
    let (runner, remote) = asked.unwrap();
    let notices: Vec<_> = remote.notices().collect();
    assert!(
        notices[0].contains(&gone.url()) && notices[0].contains("cannot be reached"),
        "{notices:?}"
    );
    assert_eq!(solve_with(&runner).await.unwrap().traces.fates.finished, 3);
    let error = connect(&[gone.url()], settings("majority", 3))
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains(&gone.url()) && error.contains("cannot be reached"),
        "{error}"
    );

    let other = Server::new(|r| {
        if r.path.ends_with("/models") {
            models("another")
        } else {
            well(r, 1)
        }
    })
    .await;
    let error = connect(&[here.url(), other.url()], settings("majority", 3))
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("`m`") && error.contains("`another`") && error.contains("--backend-model"),
        "{error}"
    );
}
