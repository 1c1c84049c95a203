//! The library's front door, on the bundled model.

use std::sync::Arc;

use tts::evals::answer::FnReader;
use tts::evals::data::Problem;
use tts::solver::Reader;
use tts::strategies::{Overrides, Preset};
use tts::{LoadOptions, Loaded, Settings, Solver, Watch};

const PROBLEM: &str = "Find the remainder when 7^53 is divided by 23.";

fn problem(text: &str) -> Problem {
    Problem {
        id: "p".to_owned(),
        problem: text.to_owned(),
        answer: Some("1".to_owned()),
        extra: serde_json::Map::new(),
    }
}

fn settings() -> Settings {
    Settings {
        strategy: Preset::named("deepconf-low").unwrap(),
        traces: 24,
        max_tokens: Some(60),
        threads: Some(2),
        ..Settings::default()
    }
}

fn runner(settings: Settings) -> Result<Solver, tts::Error> {
    Solver::local(Loaded::open(&LoadOptions::default(), &mut |_| ())?, settings)
}

#[tokio::test]
async fn the_result_does_not_depend_on_the_machine() {
    let mut seen = Vec::new();
    for (threads, max_batch) in [(1, Some(7)), (2, Some(64)), (2, None)] {
        let runner = runner(Settings {
            threads: Some(threads),
            max_batch,
            slots: Some(7.into()),
            ..settings()
        })
        .unwrap();
        let mut solved = runner
            .solve(&runner.prepare(&problem(PROBLEM)).unwrap(), Watch::default())
            .await
            .unwrap()
            .to_json();
        let object = solved.as_object_mut().unwrap();
        object.remove("seconds");
        object.remove("machine");
        seen.push(solved);
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    let fates = [
        "warmup",
        "finished",
        "stopped",
        "cancelled",
        "truncated",
        "failed",
    ];
    let tokens = &seen[0]["tokens"];
    let sum: u64 = fates.iter().map(|f| tokens[f].as_u64().unwrap()).sum();
    assert_eq!(sum, tokens["generated"].as_u64().unwrap());
    let traces = &seen[0]["traces"];
    let sum: u64 = fates.iter().map(|f| traces[f].as_u64().unwrap()).sum();
    assert_eq!(sum, traces["launched"].as_u64().unwrap());
}

#[tokio::test]
async fn answers_can_be_read_by_a_closure() {
    let reader = Arc::new(FnReader::new(|text| {
        Some(
            if text.len().is_multiple_of(2) {
                "even"
            } else {
                "odd"
            }
            .to_owned(),
        )
    }));
    let settings = Settings {
        strategy: Preset::named("majority").unwrap(),
        traces: 8,
        ignore_eos: true,
        ..settings()
    };
    let runner = runner(settings).unwrap().with_reader(Reader::Custom(reader));
    let solved = runner.solve_text(PROBLEM).await.unwrap();
    assert!(matches!(solved.answer.as_deref(), None | Some("even" | "odd")));
    assert!(
        solved
            .records
            .iter()
            .all(|r| r.answer.is_some() && r.tokens == 60)
    );
}

#[test]
fn what_cannot_run_is_refused_with_a_sentence() {
    let refused = |settings: Settings| runner(settings).map(|_| ()).unwrap_err().to_string();
    assert!(
        refused(Settings {
            traces: 0,
            ..settings()
        })
        .contains("--traces 0")
    );
    assert!(
        refused(Settings {
            slots: Some(0.into()),
            ..settings()
        })
        .contains("--slots 0")
    );
    let sampling = tts::SamplingOverrides {
        top_p: Some(0.0),
        ..Default::default()
    };
    assert!(
        refused(Settings {
            sampling,
            ..settings()
        })
        .contains("top-p")
    );

    let runner = runner(settings()).unwrap();
    assert!(
        runner
            .prepare(&problem("  \n"))
            .unwrap_err()
            .to_string()
            .contains("empty")
    );
    assert!(
        runner
            .prepare(&problem(&"7".repeat(20_000)))
            .unwrap_err()
            .to_string()
            .contains("context")
    );
}

#[test]
fn max_tokens_beyond_the_context_says_what_would_fit() {
    let runner = runner(Settings {
        max_tokens: Some(1_000_000),
        ..settings()
    })
    .unwrap();
    let error = runner.prepare(&problem(PROBLEM)).unwrap_err().to_string();
    assert!(
        error.contains("--max-tokens 1000000") && error.contains("at most"),
        "{error}"
    );
}

#[tokio::test]
async fn the_facade_answers_streams_and_cancels_as_the_solver_does() {
    use futures::StreamExt;
    let question = "Find the remainder when 8^46 is divided by 23.";
    let of = |traces| {
        tts::Tts::open("bundled")
            .strategy("majority")
            .traces(traces)
            .seed(3)
    };
    let tts = of(8).build().await.unwrap();
    let answer = tts.solve(question).await.unwrap();
    let settings = Settings {
        strategy: Preset::named("majority").unwrap(),
        traces: 8,
        seed: 3,
        ..Settings::default()
    };
    let solved = runner(settings).unwrap().solve_text(question).await.unwrap();
    assert_eq!(answer.text(), solved.answer.as_deref());
    assert_eq!((answer.tokens(), answer.traces()), (solved.tokens.generated, 8));
    assert_eq!(answer.votes(), solved.ballots);

    let mut events: Vec<_> = tts.solve(question).stream().map(|e| e.unwrap()).collect().await;
    let last = events.pop().unwrap();
    assert!(matches!(last, tts::Event::Decided { answer: a, .. } if a.as_deref() == answer.text()));
    let ended = |e: &&tts::Event| matches!(e, tts::Event::TraceEnded { .. });
    assert_eq!(events.iter().filter(ended).count(), 8);

    // dropped in the middle, the batch is free for the next
    let mut dropped = tts.solve(question).stream();
    assert!(matches!(
        dropped.next().await,
        Some(Ok(tts::Event::Started { .. }))
    ));
    drop(dropped);
    assert_eq!(tts.solve(question).await.unwrap().tokens(), answer.tokens());

    let mut failed = tts.solve("  ").stream();
    assert!(
        failed
            .next()
            .await
            .unwrap()
            .unwrap_err()
            .to_string()
            .contains("empty")
    );
    assert!(failed.next().await.is_none());
    let wrong = tts::Tts::open("bundled").strategy("nonesuch").build().await;
    assert!(wrong.err().unwrap().to_string().contains("nonesuch"));
}

/// A second prompt shows what the context has room for, and where that is nothing the first vote stands.
#[tokio::test]
async fn a_second_prompt_is_cut_to_the_context_or_left_out() {
    let strategy = || {
        let mut strategy = Preset::named("second-look").unwrap();
        let overrides = Overrides::default().with("most", 5).with("looks", 3);
        strategy.apply(&overrides).unwrap();
        strategy
    };
    let solve = |words: usize| async move {
        // no two traces agree
        let reader = Arc::new(FnReader::new(|text| Some(format!("{:x}", text.len()))));
        let runner = runner(Settings {
            strategy: strategy(),
            max_tokens: Some(300),
            ..settings()
        })
        .unwrap()
        .with_reader(Reader::Custom(reader));
        let text = format!("{PROBLEM} {}", "so ".repeat(words));
        let prepared = runner.prepare(&problem(&text)).unwrap();
        let tokens = prepared.prompt.ids.len();
        (runner.solve(&prepared, Watch::default()).await.unwrap(), tokens)
    };
    let shown = |solved: &tts::Solved| solved.records.iter().filter(|r| r.shown.len() == 4).count();
    let notices = |solved: &tts::Solved| solved.machine.clone().unwrap().notices.join("; ");
    let (whole, tokens) = solve(1).await;
    assert_eq!((whole.records.len(), shown(&whole)), (8, 3));
    assert_eq!(notices(&whole), "");
    assert!(
        whole.tokens.prompt as usize > 2 * tokens,
        "both prompts are counted"
    );
    assert!(
        whole
            .records
            .iter()
            .filter(|r| r.shown.is_empty())
            .all(|r| r.trace < 5)
    );
    // each word is a token or more
    let per = (solve(101).await.1 - tokens) as f64 / 100.0;
    let (without, _) = solve(((4096 - 320 - tokens) as f64 / per) as usize).await;
    assert_eq!((without.records.len(), shown(&without)), (5, 0));
    assert!(
        notices(&without).starts_with("no second look: the model's context does not hold"),
        "{}",
        notices(&without)
    );
}
