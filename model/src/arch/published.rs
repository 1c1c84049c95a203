//! Shapes of published models of the families that are no Falcon-H1: what their config.json files say, as far as it
//! decides memory and speed. Source: the configurations on the Hugging Face hub.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::{Tensors, of_config};
use crate::json::Fields;
use crate::spec::ModelSpec;

/// A dense model, or one with experts: names, as on the hub without the owner, in lower case; family; hidden width, layers; heads, heads of
/// keys, width of a head; width of the feed-forward part; vocabulary; positions; whether the embedding is the output matrix too.
struct Row(
    &'static [&'static str],
    &'static str,
    (usize, usize),
    (usize, usize, usize),
    usize,
    usize,
    usize,
    bool,
);

const K32: usize = 32_768;
const K40: usize = 40_960;
const K128: usize = 131_072;

const ROWS: [Row; 26] = [
    Row(
        &["qwen3-0.6b"],
        "qwen3",
        (1024, 28),
        (16, 8, 128),
        3072,
        151_936,
        K40,
        true,
    ),
    Row(
        &["qwen3-1.7b"],
        "qwen3",
        (2048, 28),
        (16, 8, 128),
        6144,
        151_936,
        K40,
        true,
    ),
    Row(
        &["qwen3-4b"],
        "qwen3",
        (2560, 36),
        (32, 8, 128),
        9728,
        151_936,
        K40,
        true,
    ),
    Row(
        &["qwen3-4b-thinking-2507", "qwen3-4b-instruct-2507"],
        "qwen3",
        (2560, 36),
        (32, 8, 128),
        9728,
        151_936,
        262_144,
        true,
    ),
    Row(
        &["qwen3-8b", "deepseek-r1-0528-qwen3-8b"],
        "qwen3",
        (4096, 36),
        (32, 8, 128),
        12_288,
        151_936,
        K40,
        false,
    ),
    Row(
        &["qwen3-14b"],
        "qwen3",
        (5120, 40),
        (40, 8, 128),
        17_408,
        151_936,
        K40,
        false,
    ),
    Row(
        &["qwen3-32b"],
        "qwen3",
        (5120, 64),
        (64, 8, 128),
        25_600,
        151_936,
        K40,
        false,
    ),
    Row(
        &["qwen3-30b-a3b"],
        "qwen3_moe",
        (2048, 48),
        (32, 4, 128),
        768,
        151_936,
        K40,
        false,
    ),
    Row(
        &[
            "qwen3-30b-a3b-thinking-2507",
            "qwen3-30b-a3b-instruct-2507",
            "qwen3-coder-30b-a3b-instruct",
        ],
        "qwen3_moe",
        (2048, 48),
        (32, 4, 128),
        768,
        151_936,
        262_144,
        false,
    ),
    Row(
        &[
            "qwen2.5-0.5b",
            "qwen2.5-0.5b-instruct",
            "qwen2.5-coder-0.5b-instruct",
        ],
        "qwen2",
        (896, 24),
        (14, 2, 64),
        4864,
        151_936,
        K32,
        true,
    ),
    Row(
        &[
            "qwen2.5-1.5b",
            "qwen2.5-1.5b-instruct",
            "qwen2.5-coder-1.5b-instruct",
        ],
        "qwen2",
        (1536, 28),
        (12, 2, 128),
        8960,
        151_936,
        K32,
        true,
    ),
    Row(
        &["qwen2.5-3b", "qwen2.5-3b-instruct", "qwen2.5-coder-3b-instruct"],
        "qwen2",
        (2048, 36),
        (16, 2, 128),
        11_008,
        151_936,
        K32,
        true,
    ),
    Row(
        &["qwen2.5-7b", "qwen2.5-7b-instruct", "qwen2.5-coder-7b-instruct"],
        "qwen2",
        (3584, 28),
        (28, 4, 128),
        18_944,
        152_064,
        K32,
        false,
    ),
    Row(
        &[
            "qwen2.5-14b",
            "qwen2.5-14b-instruct",
            "qwen2.5-coder-14b-instruct",
        ],
        "qwen2",
        (5120, 48),
        (40, 8, 128),
        13_824,
        152_064,
        K32,
        false,
    ),
    Row(
        &[
            "qwen2.5-32b",
            "qwen2.5-32b-instruct",
            "qwen2.5-coder-32b-instruct",
        ],
        "qwen2",
        (5120, 64),
        (40, 8, 128),
        27_648,
        152_064,
        K32,
        false,
    ),
    Row(
        &["deepseek-r1-distill-qwen-1.5b"],
        "qwen2",
        (1536, 28),
        (12, 2, 128),
        8960,
        151_936,
        K128,
        false,
    ),
    Row(
        &["deepseek-r1-distill-qwen-7b"],
        "qwen2",
        (3584, 28),
        (28, 4, 128),
        18_944,
        152_064,
        K128,
        false,
    ),
    Row(
        &["deepseek-r1-distill-qwen-14b"],
        "qwen2",
        (5120, 48),
        (40, 8, 128),
        13_824,
        152_064,
        K128,
        false,
    ),
    Row(
        &["deepseek-r1-distill-qwen-32b", "qwq-32b"],
        "qwen2",
        (5120, 64),
        (40, 8, 128),
        27_648,
        152_064,
        K128,
        false,
    ),
    Row(
        &["llama-3.2-1b", "llama-3.2-1b-instruct"],
        "llama",
        (2048, 16),
        (32, 8, 64),
        8192,
        128_256,
        K128,
        true,
    ),
    Row(
        &["llama-3.2-3b", "llama-3.2-3b-instruct"],
        "llama",
        (3072, 28),
        (24, 8, 128),
        8192,
        128_256,
        K128,
        true,
    ),
    Row(
        &[
            "llama-3.1-8b",
            "llama-3.1-8b-instruct",
            "deepseek-r1-distill-llama-8b",
        ],
        "llama",
        (4096, 32),
        (32, 8, 128),
        14_336,
        128_256,
        K128,
        false,
    ),
    Row(
        &["smollm3-3b"],
        "smollm3",
        (2048, 36),
        (16, 4, 128),
        11_008,
        128_256,
        65_536,
        true,
    ),
    Row(
        &["phi-4"],
        "phi3",
        (5120, 40),
        (40, 10, 128),
        17_920,
        100_352,
        16_384,
        false,
    ),
    Row(
        &["phi-4-reasoning", "phi-4-reasoning-plus"],
        "phi3",
        (5120, 40),
        (40, 10, 128),
        17_920,
        100_352,
        K32,
        false,
    ),
    Row(
        &["gpt-oss-20b"],
        "gpt_oss",
        (2880, 24),
        (64, 8, 64),
        2880,
        201_088,
        K128,
        false,
    ),
];

impl Row {
    fn config(&self) -> Value {
        let Self(_, family, (hidden, layers), (heads, kv_heads, head_dim), wide, vocab, positions, tied) =
            self;
        let mut config = json!({
            "model_type": family, "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": kv_heads, "head_dim": head_dim, "intermediate_size": wide, "vocab_size": vocab,
            "max_position_embeddings": positions, "tie_word_embeddings": tied, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
            "hidden_act": "silu",
        });
        let more = match *family {
            "qwen3_moe" => json!({
                "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": wide, "norm_topk_prob": true,
            }),
            "gpt_oss" => json!({
                "num_local_experts": 32, "num_experts_per_tok": 4, "sliding_window": 128, "attention_bias": true,
                "swiglu_limit": 7.0,
            }),
            _ => json!({}),
        };
        for (key, value) in more.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        config
    }
}

/// The shape of a published model by its name on the hub, in lower case, with or without its owner.
pub(super) fn named(name: &str) -> Option<ModelSpec> {
    let name = name.rsplit('/').next().unwrap_or(name);
    let name = name.strip_suffix("-gguf").unwrap_or(name);
    let row = ROWS.iter().find(|row| row.0.contains(&name))?;
    let file = Path::new("a published config.json");
    let config = row.config().to_string();
    let fields = Fields::parse(&config, file).ok()?;
    let family = of_config(&fields, file).ok()?;
    (family.from_config)(&fields, &Tensors(&BTreeMap::new())).ok()
}

/// The usual name of each.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.0[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parameters as their owners publish them, biases of queries, keys and values (under a thousandth) left out.
    #[test]
    fn shapes_have_as_many_parameters_as_is_published() {
        for (name, published) in [
            ("Qwen/Qwen3-0.6B", 596_049_920.0),
            ("qwen3-4b", 4_022_468_096.0),
            ("qwen3-8b", 8_190_735_360.0),
            ("qwen3-14b", 14_768_307_200.0),
            ("qwen3-32b", 32_762_123_264.0),
            ("qwen3-30b-a3b", 30_532_122_624.0),
            ("qwen2.5-0.5b", 494_032_768.0),
            ("qwen2.5-coder-1.5b-instruct", 1_543_714_304.0),
            ("qwen2.5-3b", 3_085_938_688.0),
            ("qwen2.5-7b", 7_615_616_512.0),
            ("qwen2.5-14b", 14_770_033_664.0),
            ("qwen2.5-32b", 32_763_876_352.0),
            ("deepseek-r1-distill-qwen-1.5b", 1_777_088_000.0),
            ("llama-3.2-1b", 1_235_814_400.0),
            ("llama-3.2-3b", 3_212_749_824.0),
            ("llama-3.1-8b", 8_030_261_248.0),
            ("smollm3-3b", 3_075_098_624.0),
            ("phi-4", 14_659_507_200.0),
            ("gpt-oss-20b", 20_914_757_184.0),
        ] {
            let spec = super::super::shape(name).unwrap_or_else(|| panic!("{name}"));
            let off = spec.parameters() as f64 / published - 1.0;
            assert!(
                off.abs() < 2e-3,
                "{name}: {} parameters, off by {off}",
                spec.parameters()
            );
        }
        assert!(names().all(|name| named(name).is_some()), "every row is a model");
        assert!(named("qwen3-9b").is_none() && named("").is_none());
    }
}
