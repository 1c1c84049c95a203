//! LoRA adapters that are merged into a model: against what transformers computes of peft's merged weights, and
//! what cannot be merged.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::{Value, json};
use tts_model::cpu::kernels::{ThreadPool, Tier};
use tts_model::weights::Checkpoint;
use tts_model::{Feed, Model, Want, WeightFormat};

use crate::fixture;

const MODELS: [(&str, &str); 2] = [("falcon_h1", "golden/case-gqa"), ("qwen2", "golden/family-qwen2")];

fn numbers(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

/// The logits of all positions with these adapters, each with its factor.
fn logits(base: &str, adapters: &[(&Path, f32)], prompt: &[u32]) -> Vec<f32> {
    let mut weights = Checkpoint::open(&fixture(base)).unwrap();
    for (adapter, factor) in adapters {
        weights.merge_lora(adapter, *factor).unwrap();
    }
    let model = Model::load(&weights, WeightFormat::F32).unwrap();
    let (mut pool, mut space) = (ThreadPool::new(2, Tier::detect()), model.workspace(2));
    let mut sequence = model.sequence();
    let feed = Feed::new(&mut sequence, prompt, Want::All);
    model.forward(&mut pool, &mut space, &mut [feed]);
    (0..prompt.len())
        .flat_map(|i| space.logits().row(i).to_vec())
        .collect()
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn merged_weights_are_those_of_peft() {
    for (name, base) in MODELS {
        let bytes = fs::read(fixture(&format!("lora/{name}.safetensors"))).unwrap();
        let golden = SafeTensors::deserialize(&bytes).unwrap();
        let ids = golden.tensor("prompt_ids").unwrap();
        let prompt: Vec<u32> = ids
            .data()
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32)
            .collect();
        let plain = logits(base, &[], &prompt);
        for variant in ["plain", "root"] {
            let adapter = fixture(&format!("lora/{name}-{variant}"));
            let wanted = numbers(golden.tensor(variant).unwrap().data());
            let got = logits(base, &[(&adapter, 1.0)], &prompt);
            let off = furthest(&got, &wanted);
            assert!(off < 1e-4, "{name} {variant}: off by {off}");
            // what is taken away again leaves the model as it was
            let undone = logits(base, &[(&adapter, 1.0), (&adapter, -1.0)], &prompt);
            assert!(furthest(&undone, &plain) < 1e-3 && furthest(&got, &plain) > 1.0);
            assert!(furthest(&logits(base, &[(&adapter, 0.0)], &prompt), &plain) == 0.0);
        }
    }
}

/// The error of merging a copy of an adapter that `spoil` has changed.
#[track_caller]
fn refused(base: &str, adapter: &str, spoil: impl FnOnce(&Path), parts: &[&str]) {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(adapter)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    spoil(copy.path());
    let mut weights = Checkpoint::open(&fixture(base)).unwrap();
    let error = weights.merge_lora(copy.path(), 1.0).unwrap_err().to_string();
    assert!(
        parts.iter().all(|part| error.contains(part)) && !error.contains('\n'),
        "{error:?} should say {parts:?}"
    );
}

fn with(key: &str, value: Value) -> impl FnOnce(&Path) {
    move |folder: &Path| {
        let file = folder.join("adapter_config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        config[key] = value;
        fs::write(file, config.to_string()).unwrap();
    }
}

/// Changes the header of the adapter's weights.
fn renamed(from: &'static str, to: &'static str) -> impl FnOnce(&Path) {
    assert_eq!(from.len(), to.len());
    move |folder: &Path| {
        let file = folder.join("adapter_model.safetensors");
        let mut bytes = fs::read(&file).unwrap();
        let at = bytes
            .windows(from.len())
            .position(|w| w == from.as_bytes())
            .unwrap();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        fs::write(file, bytes).unwrap();
    }
}

#[test]
fn what_cannot_be_merged_is_refused_by_name() {
    let (base, adapter) = ("golden/family-qwen2", "lora/qwen2-plain");
    for (key, value) in [
        ("peft_type", json!("IA3")),
        ("use_dora", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("bias", json!("all")),
        ("modules_to_save", json!(["lm_head"])),
        ("alpha_pattern", json!({"q_proj": 4})),
        ("init_lora_weights", json!("pissa")),
        ("init_lora_weights", json!("pissa_niter_16")),
        ("init_lora_weights", json!("olora")),
        ("init_lora_weights", json!("loftq")),
        ("init_lora_weights", json!(3)),
        ("task_type", json!("SEQ_CLS")),
        ("target_modules", json!([])),
        ("target_parameters", json!(["mlp.experts.gate_up_proj"])),
        ("trainable_token_indices", json!([3])),
        ("alora_invocation_tokens", json!([1, 2])),
        ("r", json!("2")),
        ("r", json!(null)),
        ("lora_alpha", json!(null)),
        ("lora_alpha", json!(-1)),
        ("lora_alpha", json!({"__float__": "NaN"})),
    ] {
        refused(base, adapter, with(key, value), &["adapter_config.json", key]);
    }
    refused(base, adapter, with("r", json!(3)), &["rank 2", "r 3"]);
    let ranks = json!({"q_proj": "four"});
    refused(
        base,
        adapter,
        with("rank_pattern", ranks),
        &["q_proj", "whole number"],
    );
    let ranks = json!({"q_proj": 4});
    refused(
        base,
        adapter,
        with("rank_pattern", ranks),
        &["q_proj", "rank 2", "r 4"],
    );
    let nothing = |_: &Path| ();
    refused("golden/case-gqa", adapter, nothing, &["another model"]);
    refused("golden/family-qwen2.gguf", adapter, nothing, &["GGUF", "folder"]);
    refused(base, "golden/case-gqa", nothing, &["adapter_config.json"]);
    refused(
        base,
        adapter,
        renamed("lora_A", "lora_C"),
        &["lora_C", "lora_A and lora_B"],
    );
    refused(
        base,
        adapter,
        renamed("q_proj", "z_proj"),
        &["z_proj", "another model"],
    );
    // factors that are not those of the modules which the configuration names
    for (key, value, parts) in [
        (
            "target_modules",
            json!(["q_proj"]),
            &["lora_", "does not name", "target_modules"][..],
        ),
        ("layers_to_transform", json!([0]), &["layers.1", "does not name"]),
        ("exclude_modules", json!(["q_proj"]), &["q_proj", "does not name"]),
        ("target_modules", json!(7), &["target_modules", "neither"]),
        (
            "layers_to_transform",
            json!("all"),
            &["layers_to_transform", "neither"],
        ),
    ] {
        refused(base, adapter, with(key, value), parts);
    }
    let without = |folder: &Path| {
        let file = folder.join("adapter_model.safetensors");
        let bytes = fs::read(&file).unwrap();
        let all = SafeTensors::deserialize(&bytes).unwrap();
        let kept = all
            .iter()
            .filter(|(name, _)| !name.contains("layers.1.self_attn.q_proj"));
        fs::write(file, safetensors::serialize(kept, None).unwrap()).unwrap();
    };
    refused(
        base,
        adapter,
        without,
        &["layers.1.self_attn.q_proj", "has no lora_A", "target_modules"],
    );
    let cut = |folder: &Path| fs::write(folder.join("adapter_model.safetensors"), [0; 40]).unwrap();
    refused(base, adapter, cut, &["adapter_model.safetensors"]);
    let broken = |folder: &Path| {
        let file = folder.join("adapter_model.safetensors");
        let mut bytes = fs::read(&file).unwrap();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(file, bytes).unwrap();
    };
    refused(base, adapter, broken, &["NaN", "finite", "lora_"]);
}
