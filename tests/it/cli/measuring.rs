//! `tts bench`: what it prints and whether the figures fit together. How large they are is the machine's
//! business.

use serde_json::Value;

use super::ran;

fn number(line: &Value, field: &str) -> f64 {
    line[field]
        .as_f64()
        .unwrap_or_else(|| panic!("{field} in {line}"))
}

#[test]
fn a_line_for_each_batch_size() {
    let lines = ran(&[
        "bench",
        "--json",
        "--shape",
        "tiny-90m",
        "--layers",
        "1",
        "--dtype",
        "q8_0",
        "--batch",
        "3,1",
        "--prompt",
        "9",
        "--tokens",
        "3",
        "--repeat",
        "1",
        "--threads",
        "2",
    ])
    .objects();
    assert_eq!(
        lines.iter().map(|l| l["batch"].as_u64()).collect::<Vec<_>>(),
        [Some(3), Some(1)]
    );
    for line in &lines {
        assert_eq!(
            (&line["model"], &line["dtype"]),
            (&"tiny-90m".into(), &"Q8_0".into())
        );
        let settings = [
            "layers",
            "threads",
            "prompt_tokens",
            "context_tokens",
            "new_tokens",
            "repeat",
        ]
        .map(|f| line[f].as_u64().unwrap());
        assert_eq!(settings, [1, 2, 9, 0, 3, 1]);
        let rate = number(line, "decode_tokens_per_second");
        assert!((rate * number(line, "step_ms") / 1e3 / number(line, "batch") - 1.0).abs() < 1e-9);
        assert!(number(line, "prefill_tokens_per_second") > 0.0 && number(line, "first_token_ms") > 0.0);
        assert!(number(line, "weight_bytes") > 32_768.0 * 512.0);
        assert!(
            line.get("ceiling_tokens_per_second").is_none(),
            "nothing was measured to compare with"
        );
    }
    assert_eq!(lines[0]["bytes_per_trace"], lines[1]["bytes_per_trace"]);
    assert!(number(&lines[0], "predicted_bytes") > number(&lines[1], "predicted_bytes"));
}

#[test]
fn a_private_context_costs_memory_and_is_no_prompt() {
    let bench = |context| {
        let all = [
            "bench",
            "--json",
            "--batch",
            "2",
            "--prompt",
            "70",
            "--tokens",
            "2",
            "--repeat",
            "1",
            "--context",
            context,
        ];
        ran(&all).objects().remove(0)
    };
    let (without, with) = (bench("0"), bench("1000"));
    assert_eq!(without["prompt_tokens"], with["prompt_tokens"]);
    assert_eq!(with["model"], "bundled");
    assert!(number(&with, "bytes_per_trace") > number(&without, "bytes_per_trace"));
}

/// A layer of 90M keeps keys and values of two heads, 64 wide.
#[test]
fn keys_and_values_take_what_their_format_says() {
    for (format, bytes) in [("f32", 4 * 256), ("bf16", 2 * 256), ("q8_0", 256 + 2 * 256 / 32)] {
        let held = ["--shape", "tiny-90m", "--kv-dtype", format, "--json"];
        let doctor = ran(&[&["doctor", "--no-speed"][..], &held].concat())
            .objects()
            .remove(0);
        assert_eq!(doctor["kv_bytes_per_token"], 24 * bytes, "{format}");
        let bench = |context| {
            let how = [
                "bench",
                "--layers",
                "1",
                "--batch",
                "1",
                "--prompt",
                "2",
                "--tokens",
                "2",
                "--repeat",
                "1",
                "--context",
                context,
            ];
            ran(&[&how[..], &held].concat()).objects().remove(0)
        };
        let (short, long) = (bench("60"), bench("124"));
        assert_eq!(short["kv_dtype"], format);
        let more = number(&long, "bytes_per_trace") - number(&short, "bytes_per_trace");
        assert_eq!(more, f64::from(64 * bytes), "{format}");
    }
}

#[test]
fn a_reader_gets_a_table() {
    let ran = ran(&[
        "bench", "--batch", "1,2", "--prompt", "4", "--tokens", "2", "--repeat", "1",
    ]);
    let rows: Vec<_> = ran.out.lines().collect();
    assert!(rows[0].starts_with("traces") && rows[0].contains("tok/s") && rows[0].contains("peak memory"));
    assert_eq!(rows.len(), 3, "{}", ran.out);
    assert!(rows[1].starts_with("1 ") && rows[2].starts_with("2 "));
    assert!(ran.err.contains("bundled, 4 layers"));
}

/// What is reckoned of a shape is what its weights and states take; how fast it would be is measured.
#[test]
fn whether_a_published_model_would_run_is_said_before_it_is_there() {
    let doctor = |more: &[&str]| {
        let head = ["doctor", "--json", "--traces", "8", "--shape"];
        ran(&[&head[..], more].concat()).objects().remove(0)
    };
    let tiny = doctor(&["tiny-90m", "--dtype", "q8_0", "--max-tokens", "100"]);
    let bench = [
        "bench", "--json", "--shape", "tiny-90m", "--dtype", "q8_0", "--batch", "8", "--tokens", "2",
    ];
    let bench = ran(&[&bench[..], &["--repeat", "1"]].concat())
        .objects()
        .remove(0);
    let off = number(&tiny, "weight_bytes") / number(&bench, "weight_bytes") - 1.0;
    assert!(off.abs() < 0.03, "{off}");
    assert!(number(&tiny, "tokens_per_second") > 0.0 && number(&tiny, "tokens_per_second_of_one") > 0.0);
    let took = number(&tiny, "tokens_of_a_problem") / number(&tiny, "tokens_per_second");
    assert!((number(&tiny, "seconds_a_problem") / took - 1.0).abs() < 1e-9);
    assert_eq!(tiny["tokens_of_a_problem"], 800);
    // by its name on the hub, as a type of file; a dense model has no states
    let qwen = doctor(&["Qwen/Qwen3-8B", "--dtype", "q4_k_m", "--no-speed"]);
    assert_eq!(
        (&qwen["state_bytes"], &qwen["tokens_per_second"]),
        (&0.into(), &Value::Null)
    );
    let gib = number(&qwen, "weight_bytes") / f64::from(1 << 30);
    assert!((4.5..4.8).contains(&gib), "the file has 4.68 GiB: {gib}");
    let lengths = qwen["lengths"].as_array().unwrap();
    assert_eq!(
        lengths.iter().map(|l| l["tokens"].as_u64()).collect::<Vec<_>>(),
        [2048, 8192, 32_768].map(Some)
    );
    // 36 layers of 8 heads of 128 numbers in 2 bytes, keys and values
    assert_eq!(qwen["kv_bytes_per_token"], 36 * 8 * 128 * 2 * 2);
    let text = ran(&[
        "doctor",
        "--shape",
        "falcon-h1r-7b",
        "--dtype",
        "q4_k_m",
        "--no-speed",
    ])
    .out;
    assert!(
        text.contains("as q4_k_m") && text.contains("32,768 tokens"),
        "{text}"
    );
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}
