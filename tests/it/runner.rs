//! The library's front door, on the bundled model.

use std::sync::Arc;

use tts::evals::answer::FnReader;
use tts::evals::data::Problem;
use tts::runner::Reader;
use tts::strategies::Preset;
use tts::{LoadOptions, Loaded, Runner, Settings, Watch};

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

fn runner(settings: Settings) -> Result<Runner, tts::Error> {
    Runner::new(Loaded::open(&LoadOptions::default(), &mut |_| ())?, settings)
}

#[tokio::test]
async fn the_result_does_not_depend_on_the_machine() {
    let mut seen = Vec::new();
    for (threads, max_batch) in [(1, Some(7)), (2, Some(64)), (2, None)] {
        let runner = runner(Settings {
            threads: Some(threads),
            max_batch,
            slots: Some(7),
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
            slots: Some(0),
            ..settings()
        })
        .contains("--slots 0")
    );
    let sampling = tts::run::SamplingOverrides {
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
