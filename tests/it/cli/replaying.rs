//! `tts replay`: over our own recordings what was live, token for token; over strangers' as far as they go.

use serde_json::{Value, json};

use super::{GCD, Ran, ran, refused, tts, write};

/// A result without what no two runs share.
pub(super) fn settled(mut object: Value) -> Value {
    for field in ["seconds", "machine"] {
        object.as_object_mut().unwrap().remove(field);
    }
    object
}

fn strategies() -> Vec<String> {
    let list = ran(&["list", "strategies", "--json"]).objects();
    list.iter()
        .map(|s| s["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn live_is_replay_token_for_token_for_every_strategy() {
    let folder = tempfile::tempdir().unwrap();
    let dir = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let base = [
        "solve",
        GCD,
        "--traces",
        "40",
        "--slots",
        "7",
        "--max-tokens",
        "120",
        "--json",
    ];
    let whole = [
        "--strategy",
        "majority",
        "--record-top-k",
        "20",
        "--run",
        &dir("complete"),
    ];
    ran(&[&base[..], &whole].concat());
    let mut pruned = 0;
    for strategy in strategies() {
        let own = dir(&strategy);
        let live = ran(&[&base[..], &["--strategy", &strategy, "--run", &own]].concat())
            .objects()
            .remove(0);
        pruned += live["traces"]["stopped"].as_u64().unwrap() + live["traces"]["cancelled"].as_u64().unwrap();
        let again = ran(&["replay", &own, "--json"]).objects().remove(0);
        assert_eq!(
            settled(again),
            settled(live.clone()),
            "{strategy} over its own recording"
        );
        if tts_strategies::Preset::named(&strategy)
            .unwrap()
            .build()
            .needs()
            .makes_traces()
        {
            continue;
        }
        let over_complete = ran(&["replay", &dir("complete"), "--strategy", &strategy, "--json"])
            .objects()
            .remove(0);
        assert_eq!(
            settled(over_complete),
            settled(live),
            "{strategy} over complete traces"
        );
    }
    assert!(pruned > 0, "the test must see strategies that stop and cancel");
}

#[test]
fn limits_and_other_settings_are_replayed_as_they_were_live() {
    let folder = tempfile::tempdir().unwrap();
    let dir = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let base = [
        "solve",
        "--data",
        "heldout",
        "--limit",
        "3",
        "--max-tokens",
        "150",
        "--json",
    ];
    ran(&[
        &base[..],
        &[
            "--traces",
            "32",
            "--strategy",
            "majority",
            "--run",
            &dir("complete"),
        ],
    ]
    .concat());
    for settings in [
        &[
            "--traces",
            "32",
            "--slots",
            "5",
            "--strategy",
            "deepconf-high",
            "--window",
            "24",
            "--warmup",
            "8",
        ][..],
        &[
            "--traces",
            "20",
            "--slots",
            "20",
            "--strategy",
            "deepconf-low",
            "--consensus",
            "off",
            "--keep-top",
            "0.3",
        ],
        &[
            "--traces",
            "32",
            "--slots",
            "8",
            "--strategy",
            "majority",
            "--max-total-tokens",
            "1500",
        ],
        &[
            "--traces",
            "32",
            "--slots",
            "2x2",
            "--strategy",
            "adaptive-consistency",
        ],
        &[
            "--traces",
            "32",
            "--slots",
            "3x3",
            "--strategy",
            "deepconf-low",
            "--warmup",
            "6",
        ],
        &[
            "--traces",
            "11",
            "--slots",
            "3",
            "--strategy",
            "deepconf-offline",
            "--statistic",
            "bottom",
        ],
    ] {
        let live = ran(&[&base[..], settings].concat()).objects();
        let replayed = ran(&[&["replay", &dir("complete"), "--json"][..], settings].concat()).objects();
        let settle = |objects: Vec<Value>| objects.into_iter().map(settled).collect::<Vec<_>>();
        assert_eq!(settle(replayed), settle(live), "{settings:?}");
    }
    // the limit is part of what was decided: the recording's own decision has it
    let limited = dir("limited");
    let live = Ran::of(&mut tts(&[
        &base[..],
        &[
            "--traces",
            "32",
            "--strategy",
            "majority",
            "--max-total-tokens",
            "900",
            "--run",
            &limited,
        ],
    ]
    .concat()));
    let again = Ran::of(&mut tts(&["replay", &limited, "--json"]));
    assert_eq!((live.code, again.code), (1, 1), "nothing was answered by then");
    assert_eq!(
        again.objects().into_iter().map(settled).collect::<Vec<_>>(),
        live.objects().into_iter().map(settled).collect::<Vec<_>>()
    );
    assert!(again.objects().iter().all(|o| o["cut"] == "max_total_tokens"));
}

#[test]
fn what_was_cut_off_is_not_guessed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run").to_str().unwrap().to_owned();
    let live = ran(&[
        "solve",
        GCD,
        "--traces",
        "40",
        "--max-tokens",
        "150",
        "--strategy",
        "deepconf-low",
        "--consensus",
        "off",
        "--json",
        "--run",
        &dir,
    ])
    .objects();
    let stopped = live[0]["traces"]["stopped"].as_u64().unwrap();
    assert!(stopped > 0);
    let replayed = ran(&["replay", &dir, "--strategy", "majority", "--json"])
        .objects()
        .remove(0);
    assert_eq!(replayed["traces"]["failed"], stopped);
    let warnings = replayed["warnings"].to_string();
    assert!(
        warnings.contains(&format!("count as failed: {stopped}")),
        "{warnings}"
    );
    let cut = ran(&[
        "replay",
        &dir,
        "--traces",
        "400",
        "--strategy",
        "majority",
        "--json",
    ])
    .objects()
    .remove(0);
    assert!(cut["warnings"].to_string().contains("holds 40 traces"), "{cut}");
    assert_eq!(cut["traces"]["launched"], 40);
    refused(&["replay", &dir, "--traces", "0"], &["--traces 0"]);
    refused(&["replay", &dir, "--ids", "nobody"], &["nobody"]);
    refused(
        &["replay", "no-such-folder"],
        &["no-such-folder", "does not exist"],
    );
    refused(&["replay", folder.path().to_str().unwrap()], &["no recording"]);
}

#[test]
fn answers_and_lengths_are_enough_for_strategies_that_read_no_confidence() {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = (0..9)
        .map(|i| {
            let answer = if i % 3 == 0 { "7" } else { "1/2" };
            json!({
                "problem_id": "p", "trace": i, "answer": if i == 8 { "0.5" } else { answer },
                "tokens": 10 + i, "gold": "\\frac12"
            })
            .to_string()
                + "\n"
        })
        .collect();
    let file = write(&folder, "answers.jsonl", &lines);
    let result = ran(&["replay", &file, "--strategy", "majority", "--json"])
        .objects()
        .remove(0);
    assert_eq!(
        (&result["correct"], &result["votes"]["majority"]["share"]),
        (&json!(true), &json!(6.0 / 9.0)),
        "{result}"
    );
    assert_eq!(
        (
            &result["model"],
            &result["digest"],
            &result["tokens"]["generated"]
        ),
        (&Value::Null, &Value::Null, &json!(126))
    );
    refused(&["replay", &file], &["--strategy"]);
    refused(
        &["replay", &file, "--strategy", "deepconf-low"],
        &["deepconf-low", "confidences"],
    );
    // a line a problem
    let pool = write(
        &folder,
        "pool.jsonl",
        "{\"problem\": 3, \"gold\": \"5\", \"answers\": [\"5\", null, \"\", \"6\", 5], \"lengths\": [4, 5, \
         6, 7, 8]}\n{\"problem\": 4, \"answers\": [\"1\"], \"lengths\": [1, 2]}\n",
    );
    let ran = ran(&["replay", &pool, "--strategy", "majority", "--json"]);
    let result = ran.objects().remove(0);
    assert_eq!(
        (
            &result["problem_id"],
            &result["answer"],
            &result["tokens"]["generated"]
        ),
        (&json!("3"), &json!("5"), &json!(30))
    );
    assert!(ran.err.contains("differ in number"), "{}", ran.err);
    let empty = write(&folder, "empty.jsonl", "\n");
    refused(&["replay", &empty, "--strategy", "majority"], &["empty.jsonl"]);
}

#[test]
fn samples_have_the_harness_s_shape() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    ran(&[
        "solve",
        "--data",
        "heldout",
        "--limit",
        "2",
        "--traces",
        "5",
        "--strategy",
        "majority",
        "--max-tokens",
        "150",
        "--json",
        "--run",
        &path("run"),
    ]);
    let results = ran(&[
        "replay",
        &path("run"),
        "--data",
        "heldout",
        "--samples",
        &path("samples.jsonl"),
        "--json",
    ])
    .objects();
    let text = std::fs::read_to_string(path("samples.jsonl")).unwrap();
    let samples: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(samples.len(), 2);
    for (i, (sample, result)) in samples.iter().zip(&results).enumerate() {
        assert_eq!(sample["doc_id"], i);
        assert_eq!(sample["doc"]["id"], result["problem_id"]);
        assert_eq!(
            (&sample["target"], &sample["filtered_resps"][0]),
            (&result["gold"], &result["answer"])
        );
        assert_eq!(sample["exact_match"] == 1.0, result["correct"] == true);
        assert_eq!(sample["resps"][0].as_array().unwrap().len(), 5);
        assert!(sample["resps"][0][0].is_string() && sample["arguments"][0][0] == sample["doc"]["problem"]);
        assert_eq!(sample["doc_hash"].as_str().unwrap().len(), 64);
    }
    refused(
        &["replay", &path("run"), "--samples", &path("no/such/place.jsonl")],
        &["--samples"],
    );
}

#[test]
fn confidence_over_other_numbers_of_ids_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let base = [
        "solve",
        GCD,
        "--traces",
        "32",
        "--slots",
        "6",
        "--max-tokens",
        "100",
        "--strategy",
        "majority",
        "--json",
    ];
    let plain = ran(&[&base[..], &["--run", &path("plain")]].concat())
        .objects()
        .remove(0);
    let kept = ran(&[&base[..], &["--run", &path("kept"), "--record-top-k", "20"]].concat())
        .objects()
        .remove(0);
    assert_eq!(settled(kept), settled(plain), "what is kept changes nothing");
    let replayed = |more: &[&str]| {
        let kept = path("kept");
        let args = [
            &[
                "replay",
                &kept,
                "--strategy",
                "deepconf-high",
                "--warmup",
                "8",
                "--json",
            ][..],
            more,
        ]
        .concat();
        ran(&args).objects().remove(0)
    };
    let (all, twenty, five) = (
        replayed(&[]),
        replayed(&["--confidence-k", "20"]),
        replayed(&["--confidence-k", "5"]),
    );
    let bar = |o: &Value| o["threshold"].as_f64().unwrap();
    assert!(
        (bar(&all) - bar(&twenty)).abs() < 1e-5,
        "{} {}",
        bar(&all),
        bar(&twenty)
    );
    assert_eq!(
        (&all["answer"], &all["traces"]),
        (&twenty["answer"], &twenty["traces"])
    );
    // the mean over fewer and likelier ids is less negative
    assert!(bar(&five) < bar(&twenty), "{} {}", bar(&five), bar(&twenty));
    // the same from the files, the slow way
    let bytes = std::fs::read(path("kept/tokens.bin")).unwrap();
    let lines = std::fs::read_to_string(path("kept/traces.jsonl")).unwrap();
    let line: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    let (at, n) = (
        line["arrays"]["offset"].as_u64().unwrap() as usize,
        line["arrays"]["n"].as_u64().unwrap() as usize,
    );
    assert_eq!(line["arrays"]["top_k"], 20);
    let float = |i: usize| f32::from_le_bytes(bytes[i..i + 4].try_into().unwrap());
    for t in 0..n {
        let top: Vec<f32> = (0..20).map(|k| float(at + 12 * n + 4 * (20 * t + k))).collect();
        let confidence = -top.iter().map(|p| f64::from(*p)).sum::<f64>() / 20.0;
        assert!((confidence - f64::from(float(at + 8 * n + 4 * t))).abs() < 1e-5);
        assert!(top.windows(2).all(|w| w[0] >= w[1]) && top[0] <= 0.0);
    }
    refused(
        &["replay", &path("plain"), "--confidence-k", "5"],
        &["--confidence-k 5", "--record-top-k"],
    );
    refused(
        &["replay", &path("kept"), "--confidence-k", "21"],
        &["--confidence-k 21"],
    );
    refused(
        &["solve", GCD, "--record-top-k", "21", "--run", &path("more")],
        &["--record-top-k 21", "20"],
    );
}
