//! The families that candle-transformers has too, against its forward pass: a second oracle beside
//! transformers' goldens.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{llama, phi3, qwen2, qwen3, smol::smollm3};
use serde_json::{Value, json};
use tts_model::cpu::kernels::{ThreadPool, Tier};
use tts_model::weights::Checkpoint;
use tts_model::{Feed, Model, Want, WeightFormat};

use crate::fixture;

/// A family's golden model, with what is changed in its configuration.
type Case = (&'static str, Value);

/// The configuration of a case.
fn config(family: &str, changes: &Value) -> Value {
    let file = fixture(&format!("golden/family-{family}/config.json"));
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

/// Logits after every prefix of `ids`, as candle computes them from the folder's weights in f32.
fn candle(family: &str, changes: &Value, ids: &[u32]) -> Vec<Vec<f32>> {
    let mut config = config(family, changes);
    // transformers 5 has the base elsewhere
    if let Some(theta) = config["rope_parameters"]["rope_theta"].as_f64() {
        config["rope_theta"] = json!(theta);
    }
    let bytes = std::fs::read(fixture(&format!("golden/family-{family}/model.safetensors"))).unwrap();
    let weights = VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu).unwrap();
    let mut forward: Box<dyn FnMut(&Tensor) -> Tensor> = match family {
        "qwen2" => {
            let mut model =
                qwen2::ModelForCausalLM::new(&serde_json::from_value(config).unwrap(), weights).unwrap();
            Box::new(move |ids| {
                model.clear_kv_cache();
                model.forward(ids, 0).unwrap()
            })
        }
        "qwen3" => {
            let mut model =
                qwen3::ModelForCausalLM::new(&serde_json::from_value(config).unwrap(), weights).unwrap();
            Box::new(move |ids| {
                model.clear_kv_cache();
                model.forward(ids, 0).unwrap()
            })
        }
        "smollm3" => {
            let mut model =
                smollm3::ModelForCausalLM::new(&serde_json::from_value(config).unwrap(), weights).unwrap();
            Box::new(move |ids| {
                model.clear_kv_cache();
                model.forward(ids, 0).unwrap()
            })
        }
        "phi3" => {
            let mut model = phi3::Model::new(&serde_json::from_value(config).unwrap(), weights).unwrap();
            Box::new(move |ids| {
                model.clear_kv_cache();
                model.forward(ids, 0).unwrap()
            })
        }
        _ => {
            let config: llama::LlamaConfig = serde_json::from_value(config).unwrap();
            let config = config.into_config(false);
            let model = llama::Llama::load(weights, &config).unwrap();
            Box::new(move |ids| {
                let mut cache = llama::Cache::new(true, DType::F32, &config, &Device::Cpu).unwrap();
                model.forward(ids, 0, &mut cache).unwrap()
            })
        }
    };
    (1..=ids.len())
        .map(|n| {
            let ids = Tensor::new(&ids[..n], &Device::Cpu)
                .unwrap()
                .unsqueeze(0)
                .unwrap();
            forward(&ids).flatten_all().unwrap().to_vec1::<f32>().unwrap()
        })
        .collect()
}

#[test]
fn dense_families_are_candles() {
    let stretched = json!({"rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }});
    let cases: [Case; 7] = [
        ("qwen2", json!({})),
        ("qwen3", json!({})),
        ("llama", json!({})),
        ("llama", stretched),
        ("smollm3", json!({})),
        ("phi3", json!({})),
        ("phi3", json!({"partial_rotary_factor": 0.5})),
    ];
    for (family, changes) in cases {
        let ids: Vec<u32> = (0..70).map(|i| (7 * i * i + 11 * i + 3) % 330).collect();
        let want = candle(family, &changes, &ids);
        let folder = tempfile::tempdir().unwrap();
        let weights = fixture(&format!("golden/family-{family}/model.safetensors"));
        std::fs::copy(weights, folder.path().join("model.safetensors")).unwrap();
        std::fs::write(
            folder.path().join("config.json"),
            config(family, &changes).to_string(),
        )
        .unwrap();
        let model = Model::load(&Checkpoint::open(folder.path()).unwrap(), WeightFormat::F32).unwrap();
        let (mut pool, mut space) = (ThreadPool::new(1, Tier::detect()), model.workspace(1));
        let mut sequence = model.sequence();
        let mut feeds = [Feed::new(&mut sequence, &ids, Want::All)];
        model.forward(&mut pool, &mut space, &mut feeds);
        for (i, want) in want.iter().enumerate() {
            let got = space.logits().row(i);
            assert_eq!(got.len(), want.len());
            let off = got
                .iter()
                .zip(want)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(off < 1e-4, "{family} {changes}, position {i}: off by {off}");
        }
    }
}
