//! Input that cannot be used: one sentence, exit code 2.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{GCD, Ran, copy_of, path, refused, tts, write};
use crate::fixture;

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn edit(file: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    edit(&mut value);
    fs::write(file, value.to_string()).unwrap();
}

#[test]
fn flags_that_cannot_be_meant() {
    let model = path("golden/case-gqa");
    for (args, parts) in [
        (&["solve"][..], &["nothing to solve"][..]),
        (&["solve", ""], &["problem is empty"]),
        (&["solve", " \n"], &["problem is empty"]),
        (
            &["solve", GCD, "--data", "heldout"],
            &["--data", "cannot be used with"],
        ),
        (&["solve", GCD, "--ids", "a"], &["--ids", "cannot be used with"]),
        (&["solve", GCD, "--traces", "0"], &["--traces 0", "at least 1"]),
        (&["solve", GCD, "--slots", "0"], &["--slots 0", "at least 1"]),
        (&["solve", GCD, "--slots", "0x2"], &["0x2", "at least 1"]),
        (&["solve", GCD, "--slots", "4x1"], &["4x1", "at least 2"]),
        (&["solve", GCD, "--slots", "4x"], &["4x", "as 4x2"]),
        (
            &["solve", GCD, "--traces", "8", "--slots", "16x2"],
            &["16x2", "more than the 8 traces"],
        ),
        (
            &["solve", GCD, "--max-batch", "0"],
            &["--max-batch 0", "at least 1"],
        ),
        (&["solve", GCD, "--threads", "0"], &["--threads 0", "at least 1"]),
        (
            &["solve", GCD, "--max-tokens", "0"],
            &["--max-tokens 0", "at least 1"],
        ),
        (
            &["solve", GCD, "--max-tokens", "100000"],
            &["--max-tokens 100000", "context", "4096"],
        ),
        (&["solve", GCD, "--traces", "many"], &["--traces", "many"]),
        (
            &["solve", GCD, "--strategy", "deepconf-lo"],
            &["deepconf-lo", "deepconf-low"],
        ),
        (&["solve", GCD, "--strategy", "no/such.toml"], &["no/such.toml"]),
        (
            &["solve", GCD, "--strategy", "majority", "--warmup", "3"],
            &["majority", "warmup"],
        ),
        (
            &["solve", GCD, "--strategy", "deepconf-low", "--keep-top", "1.5"],
            &["keep_top", "1.5"],
        ),
        (
            &["solve", GCD, "--strategy", "deepconf-low", "--consensus", "0.2"],
            &["consensus", "0.2"],
        ),
        (&["solve", GCD, "--window", "wide"], &["--window", "wide"]),
        (&["solve", GCD, "--vote", "loud"], &["--vote", "majority"]),
        (&["solve", GCD, "--temperature", "-1"], &["temperature is -1"]),
        (&["solve", GCD, "--temperature", "nan"], &["temperature is NaN"]),
        (&["solve", GCD, "--top-p", "0"], &["top-p is 0"]),
        (&["solve", GCD, "--min-p", "2"], &["min-p is 2"]),
        (
            &["solve", GCD, "--repetition-penalty", "0"],
            &["repetition penalty is 0"],
        ),
        (
            &["solve", GCD, "--memory", "4 parsecs"],
            &["--memory", "4 parsecs", "4GiB"],
        ),
        (
            &["solve", GCD, "--time-limit", "soon"],
            &["--time-limit", "soon", "2h"],
        ),
        (
            &["solve", GCD, "--device", "rocm"],
            &["--device", "rocm", "cuda:N"],
        ),
        (&["solve", GCD, "--tier", "avx9"], &["--tier", "avx9", "portable"]),
        (&["solve", GCD, "--dtype", "q8"], &["--dtype", "q8", "bf16"]),
        (&["solve", GCD, "--dtype", "q4_k_m"], &["--dtype q4_k_m", "GGUF"]),
        (
            &["doctor", "--shape", "qwen3-9b"],
            &["--shape qwen3-9b", "did you mean"],
        ),
        (
            &["doctor", "--shape", "qwen3-8b", "--device", "cuda"],
            &["--shape", "--device"],
        ),
        (
            &["solve", GCD, "--kv-dtype", "q4_0"],
            &["--kv-dtype", "q4_0", "it is f32, bf16 or q8_0"],
        ),
        (
            &["solve", GCD, "--state-dtype", "q8_0"],
            &["--state-dtype", "q8_0", "it is f32 or bf16"],
        ),
        (&["solve", GCD, "--answer-pattern", "("], &["("]),
        (
            &["solve", GCD, "--answer-kind", "poem"],
            &["--answer-kind", "poem", "integer"],
        ),
        (&["solve", GCD, "--task", "aime99"], &["aime99", "aime24"]),
        (
            &["solve", GCD, "--prompt-template", "no placeholder"],
            &["{problem}"],
        ),
        (
            &["solve", GCD, "--system", "@no-such-file"],
            &["--system", "no-such-file"],
        ),
        (
            &["solve", GCD, "--chat-template", "no-such.jinja"],
            &["--chat-template", "no-such.jinja"],
        ),
        (&["solve", "--data", "heldoutt"], &["heldoutt", "`heldout`"]),
        (
            &["solve", "--data", "no-such.jsonl"],
            &["no-such.jsonl", "does not exist"],
        ),
        (
            &["solve", "--data", "heldout", "--field", "shape=round"],
            &["shape=round"],
        ),
        (&["solve", GCD, "--model", "no-model"], &["no-model", "org/name"]),
        (&["solve", GCD, "--model", "./no-model"], &["./no-model"]),
        (
            &["solve", GCD, "--model", "nobody/nothing"],
            &["nobody/nothing", "HF_HUB_OFFLINE"],
        ),
        (&["solve", GCD, "--no-such-flag"], &["--no-such-flag"]),
        (&["score"], &["nothing to read"]),
        (
            &["score", "--text", "a", "--token-ids", "1"],
            &["--text", "--token-ids"],
        ),
        (&["score", "--text", ""], &["empty"]),
        (
            &["score", "--model", &model, "--token-ids", "1,336"],
            &["336", "335"],
        ),
        (
            &["score", "--model", &model, "--token-ids", "1,x"],
            &["--token-ids", "x"],
        ),
        (
            &["score", "--model", &model, "--token-ids", "1", "--window", "0"],
            &["--window"],
        ),
        (
            &["complete", "--model", &model, "--token-ids", "1", "--traces", "0"],
            &["--traces 0"],
        ),
        (
            &["complete", "--model", &path("variants/biases"), "--text", "a"],
            &["tokenizer"],
        ),
        (&["generate", "--family", "gdc"], &["gdc", "`gcd`"]),
        (&["generate", "--count", "0"], &["--count"]),
        (&["generate", "--split", "all"], &["--split", "heldout"]),
        (&["grade", "no-such.jsonl"], &["no-such.jsonl"]),
        (
            &["bench", "--shape", "falcon-h1-05b"],
            &["falcon-h1-05b", "falcon-h1-0.5b", "tiny-90m"],
        ),
        (
            &["bench", "--shape", "tiny-90m", "--model", "bundled"],
            &["--shape", "--model"],
        ),
        (
            &["bench", "--shape", "tiny-90m", "--layers", "25"],
            &["--layers is 25", "1 to 24"],
        ),
        (&["bench", "--layers", "2"], &["--shape"]),
        (&["bench", "--batch", "0"], &["--batch 0", "at least 1"]),
        (&["bench", "--batch", "1,many"], &["--batch", "many"]),
        (
            &["bench", "--batch", "1,100000000"],
            &["--batch 100000000", "GiB", "at most"],
        ),
        (&["bench", "--prompt", "0"], &["--prompt 0", "at least 1"]),
        (&["bench", "--tokens", "1"], &["--tokens 1", "at least 2"]),
        (&["bench", "--repeat", "0"], &["--repeat 0", "at least 1"]),
        (&["bench", "--context", "5000"], &["--context 5000", "4096"]),
        (
            &["bench", "--threads", "0", "--shape", "tiny-90m"],
            &["--threads 0", "at least 1"],
        ),
        (&["bench", "--top-p", "0"], &["top-p is 0"]),
        (&["list", "poems"], &["poems", "strategies"]),
        (&["frobnicate"], &["frobnicate"]),
    ] {
        refused(args, parts);
    }
}

#[test]
fn models_that_cannot_be_used() {
    let adapter = tempfile::tempdir().unwrap();
    let config = json!({"peft_type": "LORA", "base_model_name_or_path": "tiiuae/Falcon-H1-0.5B-Base"});
    write(&adapter, "adapter_config.json", &config.to_string());
    write(&adapter, "adapter_model.safetensors", "");
    refused(
        &["solve", GCD, "--model", &text(adapter.path())],
        &["adapter", "merge"],
    );

    refused(
        &["solve", GCD, "--model", &path("gguf/gemma.gguf")],
        &["gemma.gguf", "falcon_h1"],
    );
    refused(&["solve", GCD, "--model", &path("gguf/tied.gguf")], &["tied"]);
    refused(
        &["solve", GCD, "--model", &path("README.md")],
        &["README.md", ".gguf"],
    );
    refused(
        &["solve", GCD, "--model", &path("variants/biases")],
        &["tokenizer"],
    );

    let cut = copy_of(&fixture("golden/case-gqa"));
    fs::File::options()
        .write(true)
        .open(cut.path().join("model.safetensors"))
        .unwrap()
        .set_len(5000)
        .unwrap();
    refused(
        &["solve", GCD, "--model", &text(cut.path())],
        &["model.safetensors"],
    );

    let shard = copy_of(&fixture("golden/case-mha-groups-sharded"));
    fs::remove_file(shard.path().join("model-00002-of-00002.safetensors")).unwrap();
    refused(
        &["doctor", "--model", &text(shard.path())],
        &["model-00002-of-00002.safetensors"],
    );

    let stranger = copy_of(&fixture("golden/case-gqa"));
    edit(&stranger.path().join("config.json"), |c| {
        c["model_type"] = json!("gemma");
        c["architectures"] = json!(["GemmaForCausalLM"]);
    });
    refused(
        &["score", "--model", &text(stranger.path()), "--token-ids", "1"],
        &["config.json", "gemma"],
    );
}

#[test]
fn tokenizers_and_templates_that_cannot_be_used() {
    // the bundled model's vocabulary is smaller than this tokenizer
    let large = copy_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data/bundled"));
    fs::copy(
        fixture("golden/case-gqa/tokenizer.json"),
        large.path().join("tokenizer.json"),
    )
    .unwrap();
    refused(
        &["solve", GCD, "--model", &text(large.path())],
        &["tokenizer", "does not fit", "vocab_size"],
    );

    let model = path("golden/case-gqa");
    let folder = tempfile::tempdir().unwrap();
    let broken = write(&folder, "broken.jinja", "{% for m in messages %}{{ m.content }");
    refused(
        &["solve", GCD, "--model", &model, "--chat-template", &broken],
        &["broken.jinja", "does not compile"],
    );
    let failing = write(
        &folder,
        "failing.jinja",
        "{{ raise_exception('no problems please') }}",
    );
    refused(
        &["solve", GCD, "--model", &model, "--chat-template", &failing],
        &["failing.jinja", "no problems please"],
    );
    let empty = write(&folder, "empty.jinja", "{# nothing #}");
    refused(
        &["solve", GCD, "--model", &model, "--chat-template", &empty],
        &["empty.jinja", "empty prompt"],
    );

    let short = copy_of(&fixture("golden/case-gqa"));
    edit(&short.path().join("config.json"), |c| {
        c["max_position_embeddings"] = json!(8)
    });
    refused(
        &["solve", GCD, "--model", &text(short.path())],
        &["context of 8", "no room"],
    );
    refused(
        &[
            "score",
            "--model",
            &text(short.path()),
            "--token-ids",
            "1,2,3,4,5,6,7,8,9",
        ],
        &["9 tokens", "context of 8"],
    );
    refused(
        &[
            "complete",
            "--model",
            &text(short.path()),
            "--token-ids",
            "1,2,3,4,5,6,7,8",
        ],
        &["8 tokens", "context of 8"],
    );
}

/// Makes the last weight of a safetensors file NaN.
fn poison(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let header = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let head: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let at = head["model.final_layernorm.weight"]["data_offsets"][0]
        .as_u64()
        .unwrap() as usize;
    bytes[8 + header + at..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(file, bytes).unwrap();
}

#[test]
fn weights_that_are_not_numbers() {
    let folder = copy_of(&fixture("golden/case-gqa"));
    poison(&folder.path().join("model.safetensors"));
    let model = text(folder.path());
    refused(
        &["score", "--model", &model, "--token-ids", "1,2"],
        &["not numbers"],
    );
    refused(
        &[
            "complete",
            "--model",
            &model,
            "--token-ids",
            "1,2",
            "--max-tokens",
            "3",
        ],
        &["not numbers"],
    );
    refused(
        &[
            "solve",
            GCD,
            "--model",
            &model,
            "--traces",
            "3",
            "--max-tokens",
            "10",
        ],
        &["not numbers"],
    );
}

#[test]
fn sets_that_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let solve = |name: &str, content: &str, parts: &[&str]| {
        refused(&["solve", "--data", &write(&folder, name, content)], parts)
    };
    solve("empty.jsonl", "", &["empty.jsonl", "no problems"]);
    solve(
        "torn.jsonl",
        "{\"problem\": \"1+1\"}\n{\"problem\": \"1+",
        &["torn.jsonl", "line 2"],
    );
    solve(
        "other.jsonl",
        "{\"sentence\": \"1+1\"}\n",
        &["other.jsonl", "question", "sentence"],
    );
    solve(
        "twice.jsonl",
        "{\"id\": 1, \"problem\": \"a\"}\n{\"id\": 1, \"problem\": \"b\"}\n",
        &["twice.jsonl", "1"],
    );
    solve("set.parquet", "PAR1xxxx", &["set.parquet", "parquet"]);
    let binary = Ran::of(tts(&["solve", "-"]).write_stdin(vec![0xff, 0xfe, 0x00]));
    assert_eq!((binary.code, binary.out.as_str()), (2, ""));
    assert!(binary.err.contains("stdin"), "{}", binary.err);
}
