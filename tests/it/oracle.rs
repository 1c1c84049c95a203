//! The families that candle-transformers has too, against its forward pass: a second oracle beside
//! transformers' goldens.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{qwen2, qwen3};
use serde_json::{Value, json};
use tts_model::cpu::kernels::{ThreadPool, Tier};
use tts_model::weights::Checkpoint;
use tts_model::{Feed, Model, Want, WeightFormat};

use crate::fixture;

/// Logits after every prefix of `ids`, as candle computes them from the folder's weights in f32.
fn candle(family: &str, ids: &[u32]) -> Vec<Vec<f32>> {
    let folder = fixture(&format!("golden/family-{family}"));
    let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    // transformers 5 has the base elsewhere
    if let Some(theta) = config["rope_parameters"]["rope_theta"].as_f64() {
        config["rope_theta"] = json!(theta);
    }
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let weights = VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu).unwrap();
    let mut forward: Box<dyn FnMut(&Tensor) -> Tensor> = match family {
        "qwen2" => {
            let config = serde_json::from_value(config).unwrap();
            let mut model = qwen2::ModelForCausalLM::new(&config, weights).unwrap();
            Box::new(move |ids| {
                model.clear_kv_cache();
                model.forward(ids, 0).unwrap()
            })
        }
        _ => {
            let config = serde_json::from_value(config).unwrap();
            let mut model = qwen3::ModelForCausalLM::new(&config, weights).unwrap();
            Box::new(move |ids| {
                model.clear_kv_cache();
                model.forward(ids, 0).unwrap()
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
    for family in ["qwen2", "qwen3"] {
        let ids: Vec<u32> = (0..70).map(|i| (7 * i * i + 11 * i + 3) % 330).collect();
        let want = candle(family, &ids);
        let folder = fixture(&format!("golden/family-{family}"));
        let model = Model::load(&Checkpoint::open(&folder).unwrap(), WeightFormat::F32).unwrap();
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
            assert!(off < 1e-4, "{family}, position {i}: off by {off}");
        }
    }
}
