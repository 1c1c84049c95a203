//! Spellings, defaults and refusals of config.json.

use serde_json::{Value, json};

use super::*;

fn from_json(text: &str, file: &Path) -> Result<Config, ModelError> {
    Ok(Parsed::from_json(text, file)?.config)
}

const FILE: &str = "some/config.json";

fn golden(name: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/golden");
    let text = std::fs::read_to_string(format!("{folder}/{name}/config.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// case-gqa's config.json with some keys set, and those set to the string "absent" removed.
fn with(changes: Value) -> Result<Config, ModelError> {
    let mut json = golden("case-gqa");
    for (key, value) in changes.as_object().unwrap() {
        if value == "absent" {
            json.as_object_mut().unwrap().remove(key).unwrap();
        } else {
            json[key] = value.clone();
        }
    }
    from_json(&json.to_string(), Path::new(FILE))
}

fn refusal(changes: Value) -> String {
    with(changes.clone())
        .map(|_| ())
        .expect_err(&changes.to_string())
        .to_string()
}

#[test]
fn the_4x_spelling_is_read() {
    let c = with(json!({})).unwrap();
    assert_eq!(
        (c.hidden, c.layers, c.heads, c.kv_heads, c.head_dim),
        (64, 3, 4, 2, 32)
    );
    assert_eq!((c.intermediate, c.vocab, c.max_positions), (96, 336, 262_144));
    assert_eq!((c.d_ssm, c.ssm_heads, c.ssm_head_dim, c.d_state), (96, 6, 16, 16));
    assert_eq!((c.groups, c.d_conv, c.norm_eps, c.rope_theta), (1, 4, 1e-5, 1e11));
    assert_eq!(
        (c.q_width(), c.kv_width(), c.conv_channels(), c.in_proj_rows()),
        (128, 64, 128, 230)
    );
    assert!(!c.tied && !c.gated_norm && !c.norm_before_gate);
    assert_eq!(c.time_step_limit, (0.0, f32::INFINITY));
    assert_eq!(c.ssm_multipliers[4], std::f32::consts::FRAC_1_SQRT_2);
    assert_eq!(c.mlp_multipliers, [0.883_883_5, 0.585_937_5]);
    assert_eq!(
        (c.embedding_multiplier, c.lm_head_multiplier),
        (5.656_854, 0.039_062_5)
    );
    assert_eq!(
        (c.attention_in_multiplier, c.attention_out_multiplier),
        (1.25, 0.9375)
    );
    assert_eq!(
        (c.ssm_in_multiplier, c.ssm_out_multiplier, c.key_multiplier),
        (1.25, 0.235_702_26, 0.390_625)
    );
    assert_eq!(c.biases, Biases::default());
    assert_eq!(c.eos_ids, [4]);
}

#[test]
fn the_5x_spelling_is_read() {
    let json = golden("case-mha-groups-sharded");
    assert!(json["time_step_limit"][1]["__float__"] == "Infinity" && json["rope_theta"].is_null());
    let c = from_json(&json.to_string(), Path::new(FILE)).unwrap();
    assert_eq!((c.rope_theta, c.time_step_limit), (1e11, (0.0, f32::INFINITY)));
    assert!(c.gated_norm && !c.norm_before_gate && c.groups == 2);
}

#[test]
fn python_literals_are_read() {
    let text = golden("case-gqa").to_string();
    let text = text.replacen(
        '{',
        r#"{"time_step_limit":[0.02,Infinity],"a \" NaN":"-Infinity","x":[NaN, -Infinity],"#,
        1,
    );
    let c = from_json(&text, Path::new(FILE)).unwrap();
    assert_eq!(c.time_step_limit, (0.02, f32::INFINITY));
    let nan = text.replacen("[0.02,Infinity]", "[NaN,Infinity]", 1);
    let error = from_json(&nan, Path::new(FILE)).unwrap_err().to_string();
    assert!(error.contains("time_step_limit is [NaN, inf]"), "{error}");
}

#[test]
fn missing_keys_have_the_defaults_of_transformers() {
    let c = with(json!({
        "mamba_norm_before_gate": "absent", "mamba_rms_norm": "absent", "mamba_conv_bias": "absent",
        "mamba_proj_bias": "absent", "projectors_bias": "absent", "attention_bias": "absent",
        "mlp_bias": "absent",
        "mamba_d_head": "absent", "head_dim": "absent", "rms_norm_eps": "absent",
        "tie_word_embeddings": "absent",
        "ssm_multipliers": "absent", "mlp_multipliers": "absent", "key_multiplier": "absent",
        "embedding_multiplier": "absent", "lm_head_multiplier": "absent", "attention_in_multiplier": "absent",
        "attention_out_multiplier": "absent", "ssm_in_multiplier": "absent", "ssm_out_multiplier": "absent",
        "mamba_n_groups": "absent", "mamba_d_conv": "absent", "mamba_d_state": "absent",
        "model_type": "absent",
        "max_position_embeddings": "absent", "eos_token_id": "absent", "hidden_act": "absent",
    }))
    .unwrap();
    assert!(c.norm_before_gate && !c.gated_norm && !c.tied);
    assert_eq!(
        c.biases,
        Biases {
            attention: false,
            mlp: false,
            ssm_in: false,
            ssm_out: false,
            conv: true
        }
    );
    assert_eq!((c.ssm_head_dim, c.head_dim, c.norm_eps), (16, 16, 1e-5));
    assert_eq!((c.ssm_multipliers, c.mlp_multipliers), ([1.0; 5], [1.0; 2]));
    assert_eq!(
        [c.key_multiplier, c.embedding_multiplier, c.lm_head_multiplier],
        [1.0; 3]
    );
    assert_eq!([c.attention_in_multiplier, c.attention_out_multiplier], [1.0; 2]);
    assert_eq!([c.ssm_in_multiplier, c.ssm_out_multiplier], [1.0; 2]);
    assert_eq!(
        (c.groups, c.d_conv, c.d_state, c.max_positions),
        (1, 4, 256, 8192)
    );
    assert!(c.eos_ids.is_empty());
}

#[test]
fn nulls_and_auto_are_worked_out() {
    let c = with(
        json!({"num_key_value_heads": null, "mamba_d_head": "auto", "mamba_d_ssm": null, "mamba_n_heads": 8,
                        "head_dim": null, "eos_token_id": [2, 4]}),
    )
    .unwrap();
    assert_eq!(
        (c.kv_heads, c.d_ssm, c.ssm_head_dim, c.head_dim),
        (4, 128, 16, 16)
    );
    assert_eq!(c.eos_ids, [2, 4]);
    let c = with(json!({"mamba_d_ssm": null, "mamba_expand": 3, "mamba_d_head": 32})).unwrap();
    assert_eq!((c.d_ssm, c.ssm_head_dim), (192, 32));
    let c = with(
        json!({"mamba_proj_bias": true, "projectors_bias": true, "attention_bias": true, "mlp_bias": true,
                        "mamba_conv_bias": false}),
    )
    .unwrap();
    assert_eq!(
        c.biases,
        Biases {
            attention: true,
            mlp: true,
            ssm_in: true,
            ssm_out: true,
            conv: false
        }
    );
}

#[test]
fn what_cannot_be_run_is_refused_by_name() {
    for (changes, names) in [
        (
            json!({"model_type": "gemma", "architectures": ["GemmaForCausalLM"]}),
            "\"gemma\" (\"GemmaForCausalLM\")",
        ),
        (json!({"model_type": "bamba"}), "\"bamba\""),
        (
            json!({"model_type": "absent", "architectures": ["MambaForCausalLM"]}),
            "MambaForCausalLM",
        ),
        (
            json!({"model_type": "absent", "architectures": "absent"}),
            "model_type is missing",
        ),
        (
            json!({"architectures": ["FalconH1ForSequenceClassification"]}),
            "FalconH1ForSequenceClassification",
        ),
        (json!({"hidden_act": "gelu"}), "hidden_act is \"gelu\""),
        (json!({"mamba_use_mlp": false}), "mamba_use_mlp"),
        (json!({"sliding_window": 4096}), "sliding_window"),
        (json!({"attn_layer_indices": [1]}), "attn_layer_indices"),
        (
            json!({"quantization_config": {"quant_method": "gptq"}}),
            "quantization_config",
        ),
        (
            json!({"rope_scaling": {"type": "yarn", "factor": 4.0}}),
            "\"yarn\"",
        ),
        (
            json!({"rope_scaling": {"factor": 4.0}}),
            "rope_scaling has factor",
        ),
        (
            json!({"rope_parameters": {"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0}}),
            "\"linear\"",
        ),
        (
            json!({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}),
            "partial_rotary_factor",
        ),
        (json!({"rope_theta": "absent"}), "rope_theta is missing"),
        (json!({"rope_theta": 0}), "rope_theta is 0"),
        (json!({"layer_types": ["hybrid", "mamba", "hybrid"]}), "\"mamba\""),
        (json!({"hidden_size": "absent"}), "hidden_size is missing"),
        (json!({"hidden_size": 0}), "hidden_size is 0"),
        (json!({"hidden_size": -4}), "hidden_size is -4"),
        (json!({"hidden_size": 64.5}), "hidden_size is 64.5"),
        (
            json!({"hidden_size": 1_u64 << 40}),
            "hidden_size is 1099511627776",
        ),
        (json!({"num_hidden_layers": 1e9}), "num_hidden_layers"),
        (json!({"vocab_size": 0}), "vocab_size is 0"),
        (json!({"vocab_size": "many"}), "vocab_size is \"many\""),
        (json!({"num_attention_heads": 0}), "num_attention_heads is 0"),
        (
            json!({"num_attention_heads": 0, "head_dim": null}),
            "head_dim is missing",
        ),
        (
            json!({"num_key_value_heads": 3}),
            "num_key_value_heads is 3, which does not divide num_attention_heads (4)",
        ),
        (
            json!({"mamba_n_groups": 4}),
            "mamba_n_groups is 4, which does not divide mamba_n_heads (6)",
        ),
        (json!({"mamba_n_groups": 0}), "mamba_n_groups is 0"),
        (json!({"mamba_d_head": 15}), "mamba_d_head is 15"),
        (
            json!({"mamba_d_head": "auto", "mamba_n_heads": 7}),
            "mamba_n_heads is 7",
        ),
        (
            json!({"mamba_d_head": "auto", "mamba_n_heads": 0}),
            "mamba_n_heads is 0",
        ),
        (
            json!({"mamba_d_ssm": null, "mamba_expand": u64::MAX}),
            "mamba_expand",
        ),
        (json!({"head_dim": 33}), "head_dim is 33"),
        (json!({"rms_norm_eps": -1.0}), "rms_norm_eps is -1"),
        (
            json!({"ssm_multipliers": [1.0, 1.0]}),
            "ssm_multipliers is [1.0,1.0]: it must be a list of 5 numbers",
        ),
        (json!({"mlp_multipliers": 1.0}), "mlp_multipliers"),
        (json!({"key_multiplier": 1e300}), "key_multiplier is inf"),
        (
            json!({"time_step_limit": [0.2, 0.1]}),
            "time_step_limit is [0.2, 0.1]",
        ),
        (json!({"attention_bias": "yes"}), "attention_bias is \"yes\""),
        (json!({"eos_token_id": "</s>"}), "eos_token_id"),
    ] {
        let text = refusal(changes);
        assert!(
            text.contains(names) && text.contains(FILE) && !text.contains('\n'),
            "{text}"
        );
    }
    for text in [
        "",
        "[]",
        "{",
        "null",
        "\u{feff}{}",
        "{\"model_type\": \"falcon_h1\"",
        "Infinity",
        "{\"a\": N}",
    ] {
        assert!(from_json(text, Path::new(FILE)).is_err(), "{text}");
    }
}

#[test]
fn parameters_are_those_of_the_published_models() {
    let count = |name| shapes::named(name).unwrap().spec(false).parameters();
    assert_eq!(count("falcon-h1-0.5b"), 521_411_104);
    assert_eq!(count("falcon-h1-7b"), 7_585_648_736);
    assert_eq!(count("tiny-90m"), 91_131_072);
    let near =
        |name, billions: f64| assert!((count(name) as f64 / 1e9 / billions - 1.0).abs() < 2e-3, "{name}");
    near("falcon-h1-1.5b", 1.555);
    near("falcon-h1-1.5b-deep", 1.555);
    near("falcon-h1-3b", 3.149);
    near("falcon-h1-34b", 33.64);
    let naming_is_unused = Path::new("shape");
    for name in crate::arch::shape_names() {
        if let Some(config) = shapes::named(name) {
            config.check(naming_is_unused, &config_json::NAMING).unwrap();
        }
    }
    assert_eq!(
        crate::arch::shape("falcon-h1r-7b"),
        crate::arch::shape("Falcon-H1-7B")
    );
    assert_eq!(crate::arch::shape("llama"), None);
}

#[test]
fn the_digest_text_tells_models_apart_and_spellings_not() {
    let base = with(json!({})).unwrap();
    let respelled = with(
        json!({"rope_theta": "absent", "rope_parameters": {"rope_theta": 1e11, "rope_type": "default"},
                                "use_cache": false, "time_step_limit": [0.0, {"__float__": "Infinity"}]}),
    );
    assert_eq!(base.canonical(), respelled.unwrap().canonical());
    for changes in [
        json!({"key_multiplier": 0.5}),
        json!({"rope_theta": 1e10}),
        json!({"time_step_limit": [0.0, 1.0]}),
    ] {
        assert_ne!(base.canonical(), with(changes).unwrap().canonical());
    }
}

proptest::proptest! {
    /// Whatever one byte of config.json becomes, the answer is a configuration or a sentence.
    #[test]
    fn a_damaged_file_never_panics(at in 0_usize..1500, byte in proptest::prelude::any::<u8>()) {
        let mut text = golden("case-mha-groups-sharded").to_string().into_bytes();
        let at = at % text.len();
        text[at] = byte;
        let _ = from_json(&String::from_utf8_lossy(&text), Path::new(FILE));
        let _ = from_json(&String::from_utf8_lossy(&text[..at]), Path::new(FILE));
    }
}
