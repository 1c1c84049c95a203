//! Model files that cannot be run: one sentence that names the file and the fault, and never a panic.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tts_model::weights::Checkpoint;
use tts_model::{Model, WeightFormat};

use crate::fixture;

/// The error that opening and packing the model gives.
#[track_caller]
fn refusal(path: &Path) -> String {
    match Checkpoint::open(path).and_then(|weights| Model::load(&weights, WeightFormat::F32).map(|_| ())) {
        Ok(()) => panic!("{} was opened", path.display()),
        Err(error) => error.to_string(),
    }
}

/// The error after `spoil` has had its way with a copy of a fixture folder.
#[track_caller]
fn spoiled(name: &str, spoil: impl FnOnce(&Path)) -> String {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    spoil(copy.path());
    refusal(copy.path())
}

/// The error names all of `parts` and is one line.
#[track_caller]
fn says(error: &str, parts: &[&str]) {
    assert!(
        parts.iter().all(|part| error.contains(part)) && !error.contains('\n'),
        "{error:?} should say {parts:?}"
    );
}

fn edit_json(file: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    edit(&mut value);
    fs::write(file, value.to_string()).unwrap();
}

/// Rewrites the header of a safetensors file; the data stay.
fn edit_header(file: &Path, edit: impl FnOnce(&mut Value)) {
    let bytes = fs::read(file).unwrap();
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let mut header = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    edit(&mut header);
    let header = header.to_string();
    fs::write(
        file,
        [
            &(header.len() as u64).to_le_bytes(),
            header.as_bytes(),
            &bytes[8 + length..],
        ]
        .concat(),
    )
    .unwrap();
}

#[test]
fn what_is_not_a_model_is_said_to_be_something_else() {
    says(
        &refusal(Path::new("/no/such/folder")),
        &["/no/such/folder", "does not exist"],
    );
    let empty = tempfile::tempdir().unwrap();
    says(
        &refusal(empty.path()),
        &[&empty.path().display().to_string(), "config.json"],
    );
    let adapter = tempfile::tempdir().unwrap();
    let config =
        json!({"peft_type": "LORA", "base_model_name_or_path": "tiiuae/Falcon-H1-0.5B-Base", "r": 8});
    fs::write(adapter.path().join("adapter_config.json"), config.to_string()).unwrap();
    fs::write(adapter.path().join("adapter_model.safetensors"), "").unwrap();
    fs::copy(
        fixture("golden/case-gqa/tokenizer.json"),
        adapter.path().join("tokenizer.json"),
    )
    .unwrap();
    says(
        &refusal(adapter.path()),
        &["adapter", "tiiuae/Falcon-H1-0.5B-Base", "merge"],
    );
    let gemma = |folder: &Path| {
        edit_json(&folder.join("config.json"), |c| {
            c["model_type"] = json!("gemma");
            c["architectures"] = json!(["GemmaForCausalLM"]);
        });
    };
    says(
        &spoiled("golden/case-gqa", gemma),
        &["config.json", "gemma", "falcon_h1"],
    );
    says(
        &refusal(&fixture("gguf/gemma.gguf")),
        &["gemma.gguf", "gemma", "falcon_h1"],
    );
    says(
        &refusal(&fixture("gguf/unfolded.gguf")),
        &["unfolded.gguf", "multiplier"],
    );
    says(
        &refusal(&fixture("gguf/unknown-type.gguf")),
        &["unknown-type.gguf"],
    );
}

#[test]
fn a_config_that_lacks_a_key_names_it() {
    for key in [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
    ] {
        let without = |folder: &Path| {
            edit_json(&folder.join("config.json"), |c| {
                c.as_object_mut().unwrap().remove(key);
            });
        };
        says(&spoiled("golden/case-gqa", without), &["config.json", key]);
    }
    let torn = |folder: &Path| {
        let text = fs::read_to_string(folder.join("config.json")).unwrap();
        fs::write(folder.join("config.json"), &text[..text.len() / 2]).unwrap();
    };
    says(&spoiled("golden/case-gqa", torn), &["config.json"]);
    for (key, value) in [
        ("hidden_size", json!("64")),
        ("hidden_size", json!(0)),
        ("hidden_size", json!(u64::MAX)),
        ("num_key_value_heads", json!(3)),
        ("mamba_n_groups", json!(5)),
        ("mamba_n_heads", json!(7)),
        ("mamba_d_conv", json!(0)),
        ("head_dim", json!(7)),
        ("hidden_act", json!("gelu")),
        ("rope_scaling", json!({"rope_type": "yarn", "factor": 4.0})),
        ("ssm_multipliers", json!([1.0, 1.0])),
        ("rms_norm_eps", json!(-1.0)),
    ] {
        let with = |folder: &Path| edit_json(&folder.join("config.json"), |c| c[key] = value.clone());
        says(&spoiled("golden/case-gqa", with), &["config.json", key]);
    }
}

#[test]
fn a_missing_shard_is_named() {
    let shard = "model-00002-of-00002.safetensors";
    let remove = |folder: &Path| fs::remove_file(folder.join(shard)).unwrap();
    says(&spoiled("golden/case-mha-groups-sharded", remove), &[shard]);
    let remove_index = |folder: &Path| fs::remove_file(folder.join("model.safetensors")).unwrap();
    says(&spoiled("golden/case-gqa", remove_index), &["safetensors"]);
}

#[test]
fn a_truncated_file_is_named() {
    let whole = fs::metadata(fixture("golden/case-gqa/model.safetensors"))
        .unwrap()
        .len();
    for length in [0, 5, 8, 100, 4000, whole / 2, whole - 1] {
        let cut = |folder: &Path| {
            fs::File::options()
                .write(true)
                .open(folder.join("model.safetensors"))
                .unwrap()
                .set_len(length)
                .unwrap()
        };
        says(&spoiled("golden/case-gqa", cut), &["model.safetensors"]);
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["gguf/q4_0.gguf", "golden/gguf-gqa/gqa-q8_0.gguf"] {
        let bytes = fs::read(fixture(name)).unwrap();
        let file = folder.path().join("cut.gguf");
        for length in (0..2000).step_by(7).chain((2000..bytes.len()).step_by(997)) {
            fs::write(&file, &bytes[..length]).unwrap();
            says(&refusal(&file), &["cut.gguf"]);
        }
    }
}

#[test]
fn a_tensor_of_another_shape_is_named() {
    let tensor = "model.layers.1.mamba.in_proj.weight";
    for shape in [json!([64, 230]), json!([115, 128]), json!([14720])] {
        let turn = |folder: &Path| {
            edit_header(&folder.join("model.safetensors"), |h| {
                h[tensor]["shape"] = shape.clone()
            })
        };
        says(&spoiled("golden/case-gqa", turn), &[tensor, "230"]);
    }
    let forget = |folder: &Path| {
        edit_header(&folder.join("model.safetensors"), |h| {
            let all = h.as_object_mut().unwrap();
            let moved = all.remove(tensor).unwrap();
            all.insert("other.weight".to_owned(), moved);
        });
    };
    says(&spoiled("golden/case-gqa", forget), &[tensor]);
    let retype = |folder: &Path| {
        edit_header(&folder.join("model.safetensors"), |h| {
            h[tensor]["dtype"] = json!("I32")
        })
    };
    says(&spoiled("golden/case-gqa", retype), &[tensor, "I32"]);
    let beyond = |folder: &Path| {
        edit_header(&folder.join("model.safetensors"), |h| {
            h[tensor]["data_offsets"][1] = json!(u64::MAX)
        })
    };
    says(&spoiled("golden/case-gqa", beyond), &["model.safetensors"]);
}

/// Wherever a byte is wrong: an error or a model, and neither a panic nor an allocation of absurd size.
#[test]
fn no_single_byte_makes_it_panic() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below as u64).unwrap()
    };
    let open = |path: &Path| {
        let _ =
            Checkpoint::open(path).and_then(|weights| Model::load(&weights, WeightFormat::F32).map(|_| ()));
    };
    let gguf = fs::read(fixture("gguf/q4_0.gguf")).unwrap();
    let file = folder.path().join("model.gguf");
    for _ in 0..1500 {
        let mut bytes = gguf.clone();
        bytes[next(2600)] = next(256) as u8;
        fs::write(&file, &bytes).unwrap();
        open(&file);
    }
    for (name, reach) in [("config.json", 900), ("model.safetensors", 4000)] {
        let model = tempfile::tempdir().unwrap();
        for part in ["config.json", "model.safetensors"] {
            fs::copy(fixture("variants/conv1").join(part), model.path().join(part)).unwrap();
        }
        let good = fs::read(model.path().join(name)).unwrap();
        for _ in 0..1500 {
            let mut bytes = good.clone();
            bytes[next(reach.min(good.len()))] = next(256) as u8;
            fs::write(model.path().join(name), &bytes).unwrap();
            open(model.path());
        }
    }
}

/// What the choice of experts is corrected by never enters a sum, so nothing behind it would show what it is.
#[test]
fn a_correction_of_experts_that_is_no_number_is_refused() {
    for (fixture, tensor) in [
        (
            "golden/family-nemotron_h-experts",
            "backbone.layers.1.mixer.gate.e_score_correction_bias",
        ),
        (
            "golden/family-lfm2_moe",
            "model.layers.1.feed_forward.expert_bias",
        ),
    ] {
        for bad in [f32::NAN, f32::INFINITY] {
            let error = spoiled(fixture, |folder| {
                let file = folder.join("model.safetensors");
                let mut bytes = fs::read(&file).unwrap();
                let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
                let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
                assert_eq!(header[tensor]["dtype"], "F32");
                let at = 8 + length + header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
                bytes[at..at + 4].copy_from_slice(&bad.to_le_bytes());
                fs::write(file, bytes).unwrap();
            });
            says(&error, &["model.safetensors", tensor, "finite"]);
        }
    }
}

/// A sink that outweighs all keys would hide what every other weight is.
#[test]
fn a_sink_that_is_no_number_is_refused() {
    for bad in [half::bf16::NAN, half::bf16::INFINITY, half::bf16::NEG_INFINITY] {
        let tensor = "model.layers.2.self_attn.sinks";
        let error = spoiled("golden/family-gpt_oss", |folder| {
            let file = folder.join("model.safetensors");
            let mut bytes = fs::read(&file).unwrap();
            let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
            let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
            assert_eq!(header[tensor]["dtype"], "BF16");
            let at = 8 + length + header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
            bytes[at..at + 2].copy_from_slice(&bad.to_le_bytes());
            fs::write(file, bytes).unwrap();
        });
        says(&error, &["model.safetensors", tensor, "finite"]);
    }
}
