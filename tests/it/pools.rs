//! Recorded answer pools of real models, swept in the order of their files; ignored unless asked for, since the pools are no part of the repository:
//! `TTS_FACTS=<folder> cargo test --test it pools -- --ignored`. An independent script made the golden values.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::Value;
use tts::backend::Recorded;
use tts::evals::answer::{AnswerKind, RuleReader};
use tts::run::{Pool, PoolOptions};
use tts::strategies::{Overrides, Preset};
use tts::sweep::{Folder, Header, Line, Plan, Results, SCHEMA, Source, run};

#[test]
#[ignore = "needs TTS_FACTS"]
fn the_golden_values_come_out_of_a_sweep() {
    let facts = std::env::var("TTS_FACTS").expect("TTS_FACTS names the folder of the pools");
    let golden: Value = serde_json::from_str(include_str!("../../strategies/tests/fixtures/pools_golden.json")).expect("JSON");
    let mut checked = 0;
    for (name, of) in golden.as_object().expect("an object") {
        let path = format!("{facts}/pools/{name}.jsonl");
        let pool = Arc::new(Pool::open(Path::new(&path), &PoolOptions::default()).expect("a pool"));
        // the script compared answers as they are written
        let recorded = Recorded::new(pool.clone(), Arc::new(RuleReader::new(AnswerKind::Text)), false);
        let mut cell = |preset: &Preset, k: usize, slots: usize| {
            let plan = Plan {
                strategies: vec![preset.clone()],
                budgets: vec![k],
                slots: vec![Some(slots)],
                resamples: None,
                seed: 0,
                gold: Default::default(),
            };
            let home = tempfile::tempdir().expect("a folder");
            let header = Header {
                schema: SCHEMA,
                tool_version: String::new(),
                recording: Source {
                    path: None,
                    digest: pool.digest().to_owned(),
                },
                traces: None,
                data: None,
                strategies: vec![],
                budgets: vec![],
                slots: vec![],
                resamples: None,
                seed: 0,
                answers: Value::Null,
                problems: vec![],
                status: Default::default(),
                notes: vec![],
            };
            let mut folder = Folder::open(home.path(), header).expect("a folder");
            let problems: Vec<_> = pool.problems().iter().collect();
            run(&recorded, &plan, &problems, &mut folder, 2, &AtomicBool::new(false), |_| ()).expect("decided");
            let lines = Results::read(home.path()).expect("readable").expect("there").lines;
            let decided = lines.iter().filter_map(|l| if let Line::Decided(d) = l { Some(d) } else { None });
            decided.fold((0, 0, 0), |(right, launched, tokens), d| {
                let correct = d.correct.as_ref().map_or(0, |c| u64::from(c[0]));
                (right + correct, launched + d.launched[0], tokens + d.tokens[0])
            })
        };
        let mut check = |key: &str, preset: &Preset, k: usize, slots: usize| {
            let expected = &of[key];
            if expected.is_null() {
                return;
            }
            let got = cell(preset, k, slots);
            let number = |field: &str, got: u64| expected[field].as_u64().unwrap_or(got);
            let right = expected.as_u64().unwrap_or_else(|| number("correct", got.0));
            assert_eq!(got, (right, number("samples", got.1), number("tokens", got.2)), "{name}: {key}");
            checked += 1;
        };
        let preset = |name: &str| Preset::named(name).expect("shipped");
        for k in [1, 4, 8, 16, 32, 64, 80] {
            check(&format!("maj@{k}_first_k"), &preset("majority"), k, 1);
        }
        for k in [5, 10, 20, 40] {
            check(&format!("maj@{k}"), &preset("majority"), k, 1);
            for first in [1, 3] {
                let mut short = preset("short-m-at-k");
                let first_m = Overrides {
                    first: Some(first),
                    ..Overrides::default()
                };
                short.apply(&first_m).expect("in range");
                check(&format!("short-{first}@{k}"), &short, k, k);
            }
        }
        check("adaptive_beta_.95_max40", &preset("adaptive-consistency"), 40, 1);
        check("esc_w5_L40", &preset("esc"), 40, 1);
    }
    assert!(checked > 200, "{checked}");
}
