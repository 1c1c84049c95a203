//! Every family through the front door: the folder and its GGUF file open with tokenizer and settings, and
//! give the same tokens.

use serde_json::Value;

use super::{path, ran};

#[test]
fn a_folder_and_its_gguf_file_continue_alike() {
    for family in [
        "qwen2",
        "qwen3",
        "nemotron_h",
        "granitemoehybrid",
        "llama",
        "smollm3",
        "phi3",
        "qwen3_moe",
        "lfm2",
        "lfm2_moe",
        "qwen3_5_text",
        "qwen3_5_moe_text",
        "qwen3_next",
        "gpt_oss",
        "nemotron_h-experts",
        "granitemoehybrid-experts",
    ] {
        let continued = |model: &str| -> Value {
            let model = path(model);
            let mut args = vec![
                "complete",
                "--json",
                "--dtype",
                "f32",
                "--ignore-eos",
                "--temperature",
                "0",
            ];
            args.extend([
                "--token-ids",
                "5,17,60,9",
                "--max-tokens",
                "12",
                "--model",
                &model,
            ]);
            ran(&args).objects()[0]["token_ids"].clone()
        };
        let folder = continued(&format!("golden/family-{family}"));
        let file = continued(&format!("golden/family-{family}.gguf"));
        assert_eq!(folder, file, "{family}");
        assert!(
            folder.as_array().is_some_and(|ids| ids.len() >= 12),
            "{family}: {folder}"
        );
    }
}
