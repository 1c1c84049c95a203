//! `--device`: the same program on a GPU, which the processor emulates here, and what is said where there is none.

use super::{GCD, Ran, ran, tts};

/// Arguments that an emulated device gets through in a few seconds.
const FEW: [&str; 7] = [
    "--strategy",
    "majority",
    "--traces",
    "3",
    "--max-tokens",
    "10",
    "--json",
];

#[test]
fn a_problem_is_solved_recorded_and_replayed_on_an_emulated_gpu() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let run = run.to_str().unwrap();
    let solve = |more: &[&str]| {
        let head = ["solve", GCD, "--device", "emulated"];
        ran(&[&head[..], &FEW, more].concat()).objects().pop().unwrap()
    };
    let whole = solve(&["--run", run]);
    assert_eq!(whole["tokens"]["generated"].as_u64(), Some(30), "{whole}");
    // other slots, and the folder once more
    let narrow = solve(&["--slots", "1"]);
    assert_eq!(narrow["digest"], whole["digest"]);
    let again = solve(&["--run", run]);
    assert_eq!(again["digest"], whole["digest"]);
    let replayed = ran(&["replay", run, "--strategy", "majority", "--json"]);
    assert_eq!(
        replayed.objects()[0]["digest"],
        whole["digest"],
        "{}",
        replayed.out
    );
    let manifest = std::fs::read_to_string(folder.path().join("run/manifest.json")).unwrap();
    assert!(
        manifest.contains("\"emulated/k"),
        "the arithmetic is part of it: {manifest}"
    );
    // traces of the processor are others, and do not mix with these
    let mixed = Ran::of(&mut tts(&[&["solve", GCD, "--run", run][..], &FEW].concat()));
    assert_eq!(mixed.code, 2);
    assert!(mixed.err.contains("tier"), "{}", mixed.err);
}

#[test]
fn what_else_runs_a_model_runs_on_an_emulated_gpu() {
    let of = |device: &str, args: &[&str]| {
        ran(&[args, &["--device", device, "--json"]].concat())
            .objects()
            .remove(0)
    };
    let score = ["score", "--text", "gcd(12, 18) = 6", "--top-k", "25"];
    let (here, there) = (of("cpu", &score), of("emulated", &score));
    assert_eq!(here["token_ids"], there["token_ids"]);
    for field in ["logprobs", "confidence"] {
        let pairs = here[field]
            .as_array()
            .unwrap()
            .iter()
            .zip(there[field].as_array().unwrap());
        let both = pairs.filter_map(|(a, b)| Some((a.as_f64()?, b.as_f64()?)));
        let worst = both.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < 0.1, "{field}: {worst}");
    }
    assert_eq!(there["top"][3].as_array().unwrap().len(), 25);
    let doctor = of("emulated", &["doctor"]);
    assert_eq!(doctor["device"], "emulated");
    assert!(
        doctor["device_free_bytes"].as_u64().unwrap() > 1 << 20,
        "{doctor}"
    );
    let bench = [
        "bench",
        "--shape",
        "tiny-90m",
        "--layers",
        "1",
        "--batch",
        "2",
        "--context",
        "0,70",
        "--prompt",
        "3",
        "--tokens",
        "2",
        "--repeat",
        "1",
    ];
    let lines = ran(&[&bench[..], &["--device", "emulated", "--json"]].concat()).objects();
    assert_eq!(lines.len(), 2);
    assert!(
        lines
            .iter()
            .all(|line| line["tier"].as_str().unwrap().starts_with("emulated/k"))
    );
    assert_eq!(lines[1]["context_tokens"], 70);
    let much = Ran::of(&mut tts(
        &[&bench[..], &["--batch", "1,9000000", "--fitting"]].concat()
    ));
    assert!(
        (much.code, much.out.lines().count() > 2) == (0, true),
        "{}",
        much.err
    );
    assert!(
        much.err.contains("left out: --batch 9000000 takes"),
        "{}",
        much.err
    );
}

#[test]
fn a_device_that_is_not_here_is_said_in_a_sentence() {
    let refused = |args: &[&str]| {
        let ran = Ran::of(&mut tts(args));
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.err);
        assert_eq!(ran.out, "");
        assert!(ran.err.lines().count() <= 3, "{}", ran.err);
        ran.err
    };
    // neither a machine without a driver nor one with cards has this one
    let why = refused(&["solve", GCD, "--device", "cuda:97"]);
    assert!(why.contains("NVIDIA driver") || why.contains("card 97"), "{why}");
    let why = refused(&["solve", GCD, "--device", "cuda:x"]);
    assert!(
        why.contains("--device") && why.contains("no number of a card"),
        "{why}"
    );
    let why = refused(&["bench", "--device", "emulated", "--limits"]);
    assert!(why.contains("--limits") && why.contains("emulated"), "{why}");
    for flag in [["--threads", "2"], ["--tier", "portable"]] {
        let why = refused(&["solve", GCD, "--device", "emulated", flag[0], flag[1]]);
        assert!(why.contains(flag[0]) && why.contains("emulated"), "{why}");
    }
    let why = refused(&["solve", GCD, "--device", "emulated", "--kv-dtype", "q8_0"]);
    assert!(why.contains("emulated device") && why.contains("q8_0"), "{why}");
    let why = refused(&[
        "solve",
        GCD,
        "--backend",
        "http://127.0.0.1:9/v1",
        "--device",
        "cuda",
    ]);
    assert!(why.contains("--device") && why.contains("--backend"), "{why}");
    // without a compiler there is no emulated device
    let mut without = tts(&["solve", GCD, "--device", "emulated"]);
    let ran = Ran::of(without.env("CXX", "no-such-compiler"));
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains("C++ compiler") && ran.err.contains("no-such-compiler"),
        "{}",
        ran.err
    );
}

#[test]
fn a_device_is_chosen_and_named() {
    let ran = ran(&["doctor", "--device", "auto", "--json"]);
    let device = ran.objects()[0]["device"].as_str().unwrap().to_owned();
    assert!(device == "cpu" || device.starts_with("cuda:"), "{device}");
    let said = if device == "cpu" { "the processor" } else { &device };
    assert!(
        ran.err.contains("--device auto") && ran.err.contains(said),
        "{}",
        ran.err
    );
}
