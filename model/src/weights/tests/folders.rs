//! Hugging Face folders in every variant, and what is wrong with folders.

use ::safetensors::tensor::{Dtype as Stored, SafeTensors, TensorView, serialize};
use serde_json::{Value, json};

use super::*;

/// A model that can be changed and written.
pub(super) struct Model {
    pub(super) config: Value,
    pub(super) tensors: BTreeMap<String, (Stored, Vec<usize>, Vec<u8>)>,
}

impl Model {
    pub(super) fn golden(case: &str) -> Self {
        let bytes = fs::read(golden(case).join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes)
            .unwrap()
            .iter()
            .map(|(name, t)| {
                (
                    name.to_owned(),
                    (t.dtype(), t.shape().to_vec(), t.data().to_vec()),
                )
            })
            .collect();
        let config = fs::read_to_string(golden(case).join("config.json")).unwrap();
        Self {
            config: serde_json::from_str(&crate::without_python_literals(&config)).unwrap(),
            tensors,
        }
    }

    fn add(&mut self, name: &str, len: usize) {
        let data = (0..len).flat_map(|i| (i as f32).to_le_bytes()).collect();
        self.tensors
            .insert(name.to_owned(), (Stored::F32, vec![len], data));
    }

    fn remove(&mut self, name: &str) {
        self.tensors.remove(name).unwrap();
    }

    fn write_config(&self, folder: &Path) {
        fs::write(folder.join("config.json"), self.config.to_string()).unwrap();
    }

    pub(super) fn write(&self, folder: &Path) {
        self.write_config(folder);
        fs::write(folder.join("model.safetensors"), self.bytes(|_| true)).unwrap();
    }

    fn bytes(&self, keep: impl Fn(usize) -> bool) -> Vec<u8> {
        let views = self.tensors.iter().enumerate().filter(|(i, _)| keep(*i)).map(
            |(_, (name, (dtype, shape, data)))| {
                (
                    name.as_str(),
                    TensorView::new(*dtype, shape.clone(), data).unwrap(),
                )
            },
        );
        serialize(views, None).unwrap()
    }

    pub(super) fn write_shards(&self, folder: &Path, shards: usize, index: bool) {
        self.write_config(folder);
        let name = |i: usize| format!("model-{:05}-of-{shards:05}.safetensors", i % shards + 1);
        for shard in 0..shards {
            fs::write(folder.join(name(shard)), self.bytes(|i| i % shards == shard)).unwrap();
        }
        if index {
            let map: BTreeMap<_, _> = self
                .tensors
                .keys()
                .enumerate()
                .map(|(i, t)| (t, name(i)))
                .collect();
            let json = json!({"metadata": {"total_size": 1}, "weight_map": map});
            fs::write(folder.join("model.safetensors.index.json"), json.to_string()).unwrap();
        }
    }

    fn open(&self) -> Result<Checkpoint, ModelError> {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path());
        Checkpoint::open(folder.path())
    }

    fn refusal(&self) -> String {
        let folder = tempfile::tempdir().unwrap();
        self.write(folder.path());
        refusal(folder.path())
    }
}

fn says(sentence: &str, parts: &[&str]) {
    for part in parts {
        assert!(sentence.contains(part), "{part:?} is not in: {sentence}");
    }
}

#[test]
fn shards_without_an_index_are_all_used_and_none_may_miss() {
    let model = Model::golden("case-gqa");
    let folder = tempfile::tempdir().unwrap();
    model.write_shards(folder.path(), 3, false);
    let opened = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(
        (opened.files.len(), opened.digest()),
        (3, open("case-gqa").digest())
    );
    fs::remove_file(folder.path().join("model-00003-of-00003.safetensors")).unwrap();
    says(
        &refusal(folder.path()),
        &["model-00003-of-00003.safetensors is missing"],
    );
}

#[test]
fn an_index_is_followed() {
    let model = Model::golden("case-gqa");
    let folder = tempfile::tempdir().unwrap();
    model.write_shards(folder.path(), 2, true);
    // A leftover beside the shards is not read.
    fs::write(folder.path().join("zz-old.safetensors"), b"rubbish").unwrap();
    assert_eq!(Checkpoint::open(folder.path()).unwrap().files.len(), 2);

    let index = folder.path().join("model.safetensors.index.json");
    let text = fs::read_to_string(&index).unwrap();
    let first = folder.path().join("model-00001-of-00002.safetensors");
    let second = folder.path().join("model-00002-of-00002.safetensors");
    // A shard with another shard's bytes.
    let kept = fs::read(&second).unwrap();
    fs::copy(&first, &second).unwrap();
    says(
        &refusal(folder.path()),
        &["should be in model-00002-of-00002.safetensors"],
    );
    fs::write(&second, &kept[..kept.len() - 4]).unwrap();
    says(
        &refusal(folder.path()),
        &["model-00002-of-00002.safetensors", "incomplete"],
    );
    fs::remove_file(&second).unwrap();
    says(
        &refusal(folder.path()),
        &["index.json names the shard model-00002-of-00002.safetensors"],
    );
    fs::write(&index, text.replace("model-00002", "../model-00002")).unwrap();
    says(
        &refusal(folder.path()),
        &["weight_map names \"../model-00002-of-00002.safetensors\""],
    );
    fs::write(&index, "{\"weight_map\": {}}").unwrap();
    says(&refusal(folder.path()), &["weight_map is empty"]);
    fs::write(&index, "{").unwrap();
    says(&refusal(folder.path()), &["index.json is damaged"]);
}

#[test]
fn what_is_no_model_is_told_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    says(&refusal(at), &["neither a config.json nor"]);
    says(&refusal(&at.join("nothing")), &["nothing does not exist"]);
    fs::write(at.join("model.gguf"), b"").unwrap();
    says(&refusal(at), &["to open its GGUF file", "model.gguf"]);
    says(&refusal(&at.join("model.gguf")), &["the file is empty"]);
    fs::write(at.join("model.gguf"), b"<html>").unwrap();
    says(
        &refusal(&at.join("model.gguf")),
        &["does not begin with the letters GGUF"],
    );
    fs::write(at.join("pytorch_model-00001-of-00002.bin"), b"x").unwrap();
    says(
        &refusal(at),
        &[
            "only PyTorch weights (pytorch_model-00001-of-00002.bin)",
            "safe_serialization=True",
        ],
    );
    fs::write(
        at.join("adapter_config.json"),
        r#"{"base_model_name_or_path": "tiiuae/Falcon-H1R-7B"}"#,
    )
    .unwrap();
    fs::write(at.join("adapter_model.safetensors"), b"x").unwrap();
    says(&refusal(at), &["LoRA adapter", "tiiuae/Falcon-H1R-7B"]);
    fs::write(at.join("adapter_config.json"), "rubbish").unwrap();
    says(&refusal(at), &["LoRA adapter", "base_model_name_or_path"]);
    let model = Model::golden("case-gqa");
    model.write_config(at);
    says(&refusal(at), &["LoRA adapter"]);
    model.write(at);
    says(&refusal(at), &["a model and a LoRA adapter"]);
    fs::remove_file(at.join("adapter_config.json")).unwrap();
    assert!(Checkpoint::open(at).is_ok());
    says(&refusal(&at.join("model.safetensors")), &["give the folder"]);
    fs::remove_file(at.join("config.json")).unwrap();
    says(&refusal(at), &["no config.json"]);
}

#[test]
fn every_float_type_is_read() {
    let reference = open("case-gqa");
    let expected = reference.vector("lm_head.weight", 336 * 64).unwrap();
    for (stored, dtype) in [(Stored::F16, Dtype::F16), (Stored::BF16, Dtype::BF16)] {
        let mut model = Model::golden("case-gqa");
        for (kind, _, data) in model.tensors.values_mut() {
            let floats = data
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            *data = match stored {
                Stored::F16 => floats
                    .flat_map(|v| half::f16::from_f32(v).to_le_bytes())
                    .collect(),
                _ => floats
                    .flat_map(|v| half::bf16::from_f32(v).to_le_bytes())
                    .collect(),
            };
            *kind = stored;
        }
        let folder = tempfile::tempdir().unwrap();
        model.write_shards(folder.path(), 2, true);
        let opened = Checkpoint::open(folder.path()).unwrap();
        let head = opened.tensor("lm_head.weight", &[336, 64]).unwrap();
        assert_eq!(head.dtype, dtype);
        for (a, b) in head.to_f32().iter().zip(&expected) {
            assert!((a - b).abs() <= b.abs() / 256.0, "{a} {b}");
        }
    }
    let mut model = Model::golden("case-gqa");
    let (kind, shape, _) = model.tensors.get_mut("model.layers.1.mamba.D").unwrap();
    (*kind, *shape) = (Stored::I32, vec![6]);
    says(&model.refusal(), &["model.layers.1.mamba.D", "I32"]);
    // A type that is not supported is no matter in a tensor that the model does not have.
    let mut model = Model::golden("case-gqa");
    model
        .tensors
        .insert("training_step".to_owned(), (Stored::I64, vec![1], vec![0; 8]));
    model.open().unwrap();
}

#[test]
fn ties_are_what_config_and_tensors_say() {
    let mut model = Model::golden("case-gqa");
    model.remove("lm_head.weight");
    says(
        &model.refusal(),
        &["has no tensor lm_head.weight", "tie_word_embeddings"],
    );
    model
        .config
        .as_object_mut()
        .unwrap()
        .remove("tie_word_embeddings");
    assert!(tied_and_normed(&model.open().unwrap().spec).0);
    let mut model = Model::golden("case-gqa");
    model
        .config
        .as_object_mut()
        .unwrap()
        .remove("tie_word_embeddings");
    assert!(!tied_and_normed(&model.open().unwrap().spec).0);
    model.config["tie_word_embeddings"] = true.into();
    let opened = model.open().unwrap();
    assert!(tied_and_normed(&opened.spec).0 && !opened.has("lm_head.weight"));
    let options = OpenOptions {
        tied_logit_scale: Some(0.5),
    };
    let sentence = Checkpoint::open_with(&golden("case-tiny-like-bf16"), options)
        .unwrap_err()
        .to_string();
    says(&sentence, &["--tied-logit-scale", "leave it out"]);
}

#[test]
fn biases_are_there_exactly_when_the_flags_say_so() {
    for (flag, names, len) in [
        (
            "attention_bias",
            vec![
                "self_attn.q_proj",
                "self_attn.k_proj",
                "self_attn.v_proj",
                "self_attn.o_proj",
            ],
            128,
        ),
        (
            "mlp_bias",
            vec![
                "feed_forward.gate_proj",
                "feed_forward.up_proj",
                "feed_forward.down_proj",
            ],
            96,
        ),
        ("mamba_proj_bias", vec!["mamba.in_proj"], 230),
        ("projectors_bias", vec!["mamba.out_proj"], 64),
    ] {
        let mut model = Model::golden("case-gqa");
        model.config[flag] = true.into();
        let first = format!("model.layers.0.{}.bias", names[0]);
        says(&model.refusal(), &[&first, flag]);
        for layer in 0..3 {
            for name in &names {
                let len = match name.rsplit('.').next().unwrap() {
                    "k_proj" | "v_proj" | "o_proj" | "down_proj" => 64,
                    _ => len,
                };
                model.add(&format!("model.layers.{layer}.{name}.bias"), len);
            }
        }
        let opened = model.open().unwrap();
        assert_eq!(opened.vector(&first, len).unwrap()[len - 1], (len - 1) as f32);
        assert_eq!(read_all(&opened) as u64, opened.spec.parameters());
        model.config[flag] = false.into();
        says(&model.refusal(), &[".bias is there", flag, "config.json"]);
    }
    let mut model = Model::golden("case-gqa");
    for layer in 0..3 {
        model.remove(&format!("model.layers.{layer}.mamba.conv1d.bias"));
    }
    says(
        &model.refusal(),
        &["model.layers.0.mamba.conv1d.bias", "mamba_conv_bias"],
    );
    model.config["mamba_conv_bias"] = false.into();
    assert!(!model.open().unwrap().has("model.layers.0.mamba.conv1d.bias"));
}

#[test]
fn the_norm_is_found_by_its_tensor() {
    let mut model = Model::golden("case-gqa");
    model.config["mamba_rms_norm"] = true.into();
    says(&model.refusal(), &["model.layers.0.mamba.norm.weight"]);
    for layer in 0..3 {
        model.add(&format!("model.layers.{layer}.mamba.norm.weight"), 96);
    }
    assert!(tied_and_normed(&model.open().unwrap().spec).1);
    model.config["mamba_rms_norm"] = false.into();
    assert!(tied_and_normed(&model.open().unwrap().spec).1);
    model.remove("model.layers.1.mamba.norm.weight");
    says(
        &model.refusal(),
        &["model.layers.1.mamba.norm.weight", "another layer"],
    );
}

#[test]
fn tensors_must_be_those_of_the_configuration() {
    let mut model = Model::golden("case-gqa");
    model.remove("model.layers.2.feed_forward.up_proj.weight");
    says(
        &model.refusal(),
        &["model.safetensors has no tensor model.layers.2.feed_forward.up_proj.weight"],
    );
    let mut model = Model::golden("case-gqa");
    model.config["intermediate_size"] = 97.into();
    says(
        &model.refusal(),
        &["gate_proj.weight has shape [96, 64]", "[97, 64]"],
    );
    let mut model = Model::golden("case-gqa");
    model.config["num_hidden_layers"] = 2.into();
    says(&model.refusal(), &["model.layers.2.", "2 layers"]);
    let mut model = Model::golden("case-gqa");
    model.config["num_hidden_layers"] = 4.into();
    says(&model.refusal(), &["has no tensor model.layers.3."]);
    let mut model = Model::golden("case-gqa");
    model.add("model.layers.0.self_attn.q_norm.weight", 32);
    says(
        &model.refusal(),
        &["q_norm.weight is no tensor of a Falcon-H1 model"],
    );
    // Buffers that follow from the configuration are ignored.
    let mut model = Model::golden("case-gqa");
    model.add("model.layers.0.self_attn.rotary_emb.inv_freq", 16);
    model.add("model.layers.0.mamba.mup_vector", 230);
    assert_eq!(model.open().unwrap().digest(), open("case-gqa").digest());
    let mut model = Model::golden("case-gqa");
    model.tensors.get_mut("model.layers.0.mamba.A_log").unwrap().2[..4]
        .copy_from_slice(&f32::NAN.to_le_bytes());
    says(
        &first_decay(&model.open().unwrap()),
        &["A_log gives a decay rate of NaN"],
    );
}

/// Puts the axis of the taps before that of one, as MLX does.
fn transpose_convolutions(model: &mut Model) {
    for (name, (_, shape, _)) in &mut model.tensors {
        if name.ends_with("conv1d.weight") {
            let (channels, taps) = (shape[0], shape[2]);
            *shape = vec![channels, taps, 1];
        }
    }
}

#[test]
fn a_folder_converted_for_mlx_is_refused_by_its_convolutions() {
    for case in ["case-gqa", "family-granitemoehybrid", "family-nemotron_h"] {
        let mut model = Model::golden(case);
        transpose_convolutions(&mut model);
        let sentence = model.refusal();
        says(
            &sentence,
            &[
                "conv1d.weight has shape [",
                ", 1]",
                "converted for MLX",
                "original folder",
            ],
        );
    }
    // Its metadata says so too, whatever the shapes; without a convolution the numbers are what they were.
    let written = |case: &str| {
        let model = Model::golden(case);
        let folder = tempfile::tempdir().unwrap();
        model.write_config(folder.path());
        let views = model.tensors.iter().map(|(name, (dtype, shape, data))| {
            (
                name.as_str(),
                TensorView::new(*dtype, shape.clone(), data).unwrap(),
            )
        });
        let format = std::collections::HashMap::from([("format".to_owned(), "mlx".to_owned())]);
        let bytes = serialize(views, Some(format)).unwrap();
        fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        Checkpoint::open(folder.path()).map_err(|error| error.to_string())
    };
    says(
        &written("case-gqa").unwrap_err(),
        &["model.safetensors", "converted for MLX"],
    );
    written("family-qwen2").unwrap();
}

#[test]
fn the_dimensions_of_a_convolution_are_not_guessed() {
    let reshaped = |change: fn(usize, usize) -> Vec<usize>| {
        let mut model = Model::golden("case-gqa");
        for (name, (_, shape, _)) in &mut model.tensors {
            if name.ends_with("conv1d.weight") {
                *shape = change(shape[0], shape[2]);
            }
        }
        model
    };
    let digest = open("case-gqa").digest();
    assert_eq!(reshaped(|c, k| vec![c, k]).open().unwrap().digest(), digest);
    for change in [
        |c, k| vec![1, c, k],
        |c, k| vec![c, 1, 1, k],
        |c, k| vec![k, 1, c],
        |c, k| vec![c * k],
    ] as [fn(usize, usize) -> Vec<usize>; 4]
    {
        says(
            &reshaped(change).refusal(),
            &["conv1d.weight has shape", "but the configuration asks for"],
        );
    }
}

#[test]
fn a_name_that_stands_twice_is_refused() {
    let bytes = Model::golden("case-gqa").bytes(|_| true);
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[8..8 + length]).unwrap();
    let json: Value = serde_json::from_str(header).unwrap();
    let name = "model.final_layernorm.weight";
    for entry in [
        json[name].clone(),
        json["lm_head.weight"].clone(),
        json!({"dtype": "F32", "shape": [64], "data_offsets": [0, 256]}),
    ] {
        let twice = header.replacen('{', &format!("{{\"{name}\":{entry},"), 1);
        let folder = tempfile::tempdir().unwrap();
        Model::golden("case-gqa").write_config(folder.path());
        let file = [
            &(twice.len() as u64).to_le_bytes(),
            twice.as_bytes(),
            &bytes[8 + length..],
        ]
        .concat();
        fs::write(folder.path().join("model.safetensors"), file).unwrap();
        says(&refusal(folder.path()), &[name, "stands twice"]);
    }
    let folder = tempfile::tempdir().unwrap();
    Model::golden("case-gqa").write_shards(folder.path(), 2, true);
    let index = folder.path().join("model.safetensors.index.json");
    let text = fs::read_to_string(&index).unwrap();
    let second = "\"weight_map\":{\"lm_head.weight\":\"model-00002-of-00002.safetensors\",";
    fs::write(&index, text.replace("\"weight_map\":{", second)).unwrap();
    says(
        &refusal(folder.path()),
        &["index.json", "lm_head.weight", "twice"],
    );
    let model = Model::golden("case-gqa");
    for (second, key) in [
        ("{\"hidden_size\":64,", "hidden_size"),
        ("{\"rope_scaling\":{\"factor\":2,\"factor\":3},", "factor"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        model.write_config(folder.path());
        fs::write(folder.path().join("model.safetensors"), &bytes).unwrap();
        let config = folder.path().join("config.json");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replacen('{', second, 1)).unwrap();
        says(&refusal(folder.path()), &["config.json", key, "stands twice"]);
    }
}

#[test]
fn a_pointer_of_git_lfs_is_called_what_it_is() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n";
    for name in [
        "model.safetensors",
        "config.json",
        "model.safetensors.index.json",
        "m.gguf",
    ] {
        let folder = tempfile::tempdir().unwrap();
        match name.contains("index") {
            true => Model::golden("case-gqa").write_shards(folder.path(), 2, true),
            false => Model::golden("case-gqa").write(folder.path()),
        }
        let file = folder.path().join(name);
        fs::write(&file, pointer).unwrap();
        let path = if name.ends_with("gguf") {
            &file
        } else {
            folder.path()
        };
        says(&refusal(path), &[name, "Git LFS pointer", "git lfs pull"]);
    }
}

#[cfg(unix)]
#[test]
fn files_of_a_model_are_regular_and_bounded() {
    for name in ["model.safetensors", "config.json", "model.safetensors.index.json"] {
        for kind in ["pipe", "device", "folder"] {
            let folder = tempfile::tempdir().unwrap();
            match name.contains("index") {
                true => Model::golden("case-gqa").write_shards(folder.path(), 2, true),
                false => Model::golden("case-gqa").write(folder.path()),
            }
            let path = folder.path().join(name);
            fs::remove_file(&path).unwrap();
            match kind {
                "folder" => fs::create_dir(&path).unwrap(),
                "device" => std::os::unix::fs::symlink("/dev/zero", &path).unwrap(),
                _ => assert!(
                    std::process::Command::new("mkfifo")
                        .arg(&path)
                        .status()
                        .unwrap()
                        .success()
                ),
            }
            says(&refusal(folder.path()), &[name, &format!("it is a {kind}")]);
        }
    }
}

#[test]
fn what_is_left_out_or_contradicts_itself_is_noted() {
    assert!(open("case-gqa").notes().is_empty() && open("gguf-gqa/gqa-f32.gguf").notes().is_empty());
    let noted = |model: &Model, parts: &[&str]| {
        let opened = model.open().unwrap();
        assert_eq!(opened.notes().len(), 1, "{:?}", opened.notes());
        says(&opened.notes()[0], parts);
    };
    let mut model = Model::golden("case-gqa");
    model.add("foo.bar", 3);
    model
        .tensors
        .insert("step".to_owned(), (Stored::I64, vec![1], vec![0; 8]));
    noted(&model, &["no part of a", "foo.bar", "step"]);
    // A stored head beside a tied embedding: another one is noted, the same is not.
    let mut model = Model::golden("case-gqa");
    model.config["tie_word_embeddings"] = json!(true);
    noted(
        &model,
        &[
            "lm_head.weight that differs from the embedding",
            "tie_word_embeddings is true",
        ],
    );
    let embedding = model.tensors["model.embed_tokens.weight"].clone();
    model.tensors.insert("lm_head.weight".to_owned(), embedding);
    assert!(model.open().unwrap().notes().is_empty());
    // Nothing said of tying, and no head.
    model.remove("lm_head.weight");
    model
        .config
        .as_object_mut()
        .unwrap()
        .remove("tie_word_embeddings");
    noted(
        &model,
        &[
            "does not say tie_word_embeddings",
            "embedding serves as output matrix",
        ],
    );
    // Two rotary bases.
    for key in ["rope_parameters", "rope_scaling"] {
        let mut model = Model::golden("case-gqa");
        model.config["rope_theta"] = json!(1e4);
        model.config.as_object_mut().unwrap().remove("rope_parameters");
        model.config[key] = json!({"rope_type": "default", "rope_theta": 1e11});
        noted(
            &model,
            &["rope_theta 10000", &format!("{key}.rope_theta 100000000000")],
        );
        model.config["rope_theta"] = json!(1e11);
        assert!(model.open().unwrap().notes().is_empty());
    }
}

#[test]
fn a_head_width_that_does_not_follow_is_not_called_zero() {
    let mut model = Model::golden("family-qwen2");
    model.config["num_attention_heads"] = json!(100_000 - 1);
    model.config["num_key_value_heads"] = json!(1);
    model.config.as_object_mut().unwrap().remove("head_dim");
    let sentence = model.refusal();
    assert!(!sentence.contains("head_dim is 0"), "{sentence}");
    says(&sentence, &["head_dim is missing", "99999 heads"]);
}

/// Numbers that make every logit zero, infinite or no number are named before a model answers with them.
#[test]
fn numbers_that_no_model_has_are_refused_by_their_names() {
    for (case, keys) in [
        (
            "family-granitemoehybrid",
            &[
                "embedding_multiplier",
                "residual_multiplier",
                "attention_multiplier",
                "logits_scaling",
            ][..],
        ),
        ("family-nemotron_h-experts", &["routed_scaling_factor"]),
        ("family-lfm2_moe", &["routed_scaling_factor"]),
    ] {
        for key in keys {
            for value in [json!(0), json!(-1.0), json!(1e30), json!({"__float__": "NaN"})] {
                let mut model = Model::golden(case);
                model.config[*key] = value;
                says(&model.refusal(), &["config.json", key, "above 0"]);
            }
        }
    }
    for (case, key) in [
        ("family-qwen2", "rms_norm_eps"),
        ("family-lfm2", "norm_eps"),
        ("family-nemotron_h", "layer_norm_epsilon"),
    ] {
        for value in [json!(-1e-6), json!(2), json!(1e30)] {
            let mut model = Model::golden(case);
            assert!(model.config.get(key).is_some(), "{case}");
            model.config[key] = value;
            says(&model.refusal(), &[key, "from 0 to 1"]);
        }
    }
    for wrong in [json!("all"), json!(1), json!([99]), json!([-1]), json!(["0"])] {
        let mut model = Model::golden("family-qwen3_moe");
        model.config["mlp_only_layers"] = wrong;
        says(&model.refusal(), &["mlp_only_layers"]);
    }
}

/// What windows, sinks and MXFP4 come with, wrong in every way.
#[test]
fn windows_sinks_and_halves_of_mxfp4_are_refused_by_their_names() {
    let refused = |change: &dyn Fn(&mut Model), parts: &[&str]| {
        let mut model = Model::golden("family-gpt_oss");
        change(&mut model);
        says(&model.refusal(), parts);
    };
    Model::golden("family-gpt_oss").open().unwrap();
    let full = "full_attention";
    for (key, value, why) in [
        ("sliding_window", json!(0), "between 1 and"),
        ("sliding_window", json!(-24), "whole number"),
        ("sliding_window", json!(2.5), "whole number"),
        ("sliding_window", json!(1e18), "whole number"),
        ("sliding_window", json!("24"), "whole number"),
        ("sliding_window", json!(null), "missing"),
        ("layer_types", json!([full, full]), "list of 4 words"),
        ("layer_types", json!("full_attention"), "list of 4 words"),
        ("layer_types", json!([full, full, full, "mamba"]), "mamba"),
        ("layer_types", json!([full, full, full, 7]), "7"),
        ("swiglu_limit", json!(0), "above 0"),
        ("swiglu_limit", json!(-7.0), "above 0"),
        ("num_local_experts", json!(0), "has experts"),
        ("num_experts_per_tok", json!(0), "between 1 and 8"),
        ("num_experts_per_tok", json!(9), "between 1 and 8"),
        ("attention_bias", json!(false), "says that there is none"),
        ("hidden_act", json!("gelu"), "silu"),
        (
            "quantization_config",
            json!({"quant_method": "gptq"}),
            "not supported",
        ),
        ("quantization_config", json!("mxfp4"), "not supported"),
    ] {
        let change = |model: &mut Model| model.config[key] = value.clone();
        refused(&change, &["config.json", key, why]);
    }
    // a model without windows needs no width of one
    let mut whole = Model::golden("family-gpt_oss");
    whole.config["layer_types"] = json!([full, full, full, full]);
    whole.config["sliding_window"] = json!(null);
    whole.open().unwrap();
    // what no list says is every other layer
    let mut usual = Model::golden("family-gpt_oss");
    usual.config["layer_types"] = json!(null);
    assert_eq!(usual.open().unwrap().spec, open("family-gpt_oss").spec);

    let sinks = "model.layers.1.self_attn.sinks";
    refused(&|m| m.remove(sinks), &["no tensor", sinks, "has sinks"]);
    refused(&|m| m.add(sinks, 3), &[sinks, "[3]", "[4]"]);
    let (blocks, scales) = (
        "model.layers.2.mlp.experts.gate_up_proj_blocks",
        "model.layers.2.mlp.experts.gate_up_proj_scales",
    );
    refused(&|m| m.remove(scales), &[blocks, "one half", scales]);
    refused(&|m| m.remove(blocks), &[scales, "one half", blocks]);
    let bytes = |shape: &[usize]| (Stored::U8, shape.to_vec(), vec![0; shape.iter().product()]);
    let set = |name: &'static str, shape: &'static [usize]| {
        move |m: &mut Model| drop(m.tensors.insert(name.to_owned(), bytes(shape)))
    };
    for shape in [
        &[8, 64, 1][..],
        &[8, 64, 3],
        &[8, 32, 2],
        &[64, 2],
        &[8, 64, 2, 1],
        &[],
    ] {
        refused(&set(scales, shape), &[blocks, scales, "[.., blocks]"]);
    }
    for shape in [&[8, 64, 2, 8][..], &[8, 64, 2], &[8, 64, 32], &[16]] {
        refused(&set(blocks, shape), &[blocks, scales, "[.., blocks, 16]"]);
    }
    // they belong together, and not to this configuration
    refused(
        &|m| {
            set(blocks, &[8, 32, 2, 16])(m);
            set(scales, &[8, 32, 2])(m);
        },
        &["gate_up_proj", "[8, 32, 64]", "[8, 64, 64]"],
    );
    refused(
        &|m| m.add("model.layers.2.mlp.experts.gate_up_proj", 4),
        &[blocks, "which counts"],
    );
    let router = "model.layers.0.mlp.router.weight";
    refused(&set(router, &[8, 64]), &[router, "U8"]);
    for name in [
        "router.bias",
        "experts.gate_up_proj_bias",
        "experts.down_proj_bias",
    ] {
        let name = format!("model.layers.3.mlp.{name}");
        refused(&|m| m.remove(&name), &["no tensor", &name]);
        refused(&|m| m.add(&name, 5), &[&name, "[5]"]);
    }
    // shards may part what belongs together
    let folder = tempfile::tempdir().unwrap();
    for index in [false, true] {
        Model::golden("family-gpt_oss").write_shards(folder.path(), 3, index);
        assert_eq!(
            Checkpoint::open(folder.path()).unwrap().digest(),
            open("family-gpt_oss").digest()
        );
    }
    // both halves are a part of what a model is
    let mut other = Model::golden("family-gpt_oss");
    other.tensors.get_mut(scales).unwrap().2[5] += 1;
    assert_ne!(other.open().unwrap().digest(), open("family-gpt_oss").digest());
}
