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
