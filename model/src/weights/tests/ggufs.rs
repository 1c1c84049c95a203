//! GGUF files against candle's own reader, and variants of them written with candle's writer.

use candle_core::Device;
use candle_core::quantized::{QTensor, gguf_file};

use super::*;

const F32: &str = "gguf-gqa/gqa-f32.gguf";
const Q4K: &str = "gguf-h1r-like-q4k/h1r-like-Q4_K_M.gguf";

/// A GGUF file as candle reads it, to be changed and written.
struct File {
    keys: BTreeMap<String, gguf_file::Value>,
    tensors: BTreeMap<String, QTensor>,
}

impl File {
    fn golden(name: &str) -> Self {
        let mut file = fs::File::open(golden(name)).unwrap();
        let content = gguf_file::Content::read(&mut file).unwrap();
        let tensors = content
            .tensor_infos
            .keys()
            .map(|t| (t.clone(), content.tensor(&mut file, t, &Device::Cpu).unwrap()))
            .collect();
        Self {
            keys: content.metadata.into_iter().collect(),
            tensors,
        }
    }

    fn add(&mut self, name: &str, len: usize) {
        let tensor = candle_core::Tensor::ones(len, candle_core::DType::F32, &Device::Cpu).unwrap();
        let tensor = QTensor::quantize(&tensor, candle_core::quantized::GgmlDType::F32).unwrap();
        self.tensors.insert(name.to_owned(), tensor);
    }

    fn set(&mut self, key: &str, value: gguf_file::Value) {
        self.keys.insert(key.to_owned(), value);
    }

    fn write(&self, path: &Path) {
        let keys: Vec<_> = self.keys.iter().map(|(k, v)| (k.as_str(), v)).collect();
        let tensors: Vec<_> = self.tensors.iter().map(|(k, v)| (k.as_str(), v)).collect();
        gguf_file::write(&mut fs::File::create(path).unwrap(), &keys, &tensors).unwrap();
    }

    fn refusal(&self) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        self.write(&path);
        refusal(&path)
    }
}

fn says(sentence: &str, parts: &[&str]) {
    for part in parts {
        assert!(sentence.contains(part), "{part:?} is not in: {sentence}");
    }
}

#[test]
fn tensors_and_metadata_are_those_that_candle_reads() {
    for name in [F32, "gguf-gqa/gqa-q8_0.gguf", Q4K] {
        let (ours, theirs) = (open(name), File::golden(name));
        for (stored, tensor) in &theirs.tensors {
            let canonical = ours.family.gguf_names.canonical(stored).unwrap();
            let dims = tensor.shape().dims();
            let found = ours.tensor(&canonical, dims).unwrap().to_f32();
            let expected = tensor
                .dequantize(&Device::Cpu)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap();
            assert_eq!(found, expected, "{name} {stored}");
        }
        assert_eq!(ours.entries.len(), theirs.tensors.len());
        let metadata = ours.gguf().unwrap();
        let converted: BTreeMap<_, _> = metadata.to_candle().metadata.into_iter().collect();
        assert_eq!(format!("{converted:?}"), format!("{:?}", theirs.keys), "{name}");
        assert_eq!(metadata.str("tokenizer.ggml.pre"), Some("falcon-h1"));
        assert_eq!(
            metadata.strings("tokenizer.ggml.tokens").unwrap().len(),
            ours.spec.vocab
        );
        assert_eq!(
            metadata.integers("tokenizer.ggml.token_type").unwrap()[..2],
            [3, 3]
        );
        assert_eq!(metadata.bool("tokenizer.ggml.add_bos_token"), Some(false));
        assert_eq!(metadata.f32("general.sampling.temp"), Some(0.6));
        assert_eq!(metadata.u32("tokenizer.ggml.eos_token_id"), Some(4));
        assert!(
            metadata
                .str("tokenizer.chat_template")
                .unwrap()
                .contains("bos_token")
        );
        assert_eq!(metadata.u32("general.architecture"), None);
        assert!(ours.spec.arithmetic.contains("rope_theta=100000000000.0\n"));
    }
}

#[test]
fn a_tied_file_needs_the_scale_of_its_logits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tied.gguf");
    let mut file = File::golden(F32);
    file.tensors.remove("output.weight");
    file.write(&path);
    says(
        &refusal(&path),
        &["tied.gguf", "--tied-logit-scale R", "config.json"],
    );

    let given = OpenOptions {
        tied_logit_scale: Some(0.7),
    };
    let opened = Checkpoint::open_with(&path, given).unwrap();
    assert!(opened.spec.head.tensor.is_none());
    assert_eq!((opened.spec.head.scale, opened.spec.embed.scale), (0.7, 1.0));
    for bad in [0.0, f32::NAN, f32::INFINITY] {
        assert!(
            Checkpoint::open_with(
                &path,
                OpenOptions {
                    tied_logit_scale: Some(bad)
                }
            )
            .is_err()
        );
    }

    let beside = folder.path().join("config.json");
    fs::copy(golden("case-gqa/config.json"), &beside).unwrap();
    let opened = Checkpoint::open(&path).unwrap();
    assert_eq!(opened.spec.head.scale, 0.039_062_5 / 5.656_854);
    let mut linears = opened.spec.mixers().flat_map(crate::spec::Mixer::linears);
    assert!(
        linears.all(|l| l.input_scale == 1.0 && l.factors().iter().all(|f| *f == 1.0)),
        "the folded multipliers are not applied again"
    );
    assert_eq!(Checkpoint::open_with(&path, given).unwrap().spec.head.scale, 0.7);

    fs::copy(golden("case-tiny-like-bf16/config.json"), &beside).unwrap();
    says(
        &refusal(&path),
        &["describes a model of another shape", "--tied-logit-scale"],
    );
    fs::write(&beside, "rubbish").unwrap();
    says(&refusal(&path), &["cannot be used", "--tied-logit-scale"]);

    let untied = Checkpoint::open_with(&golden(F32), given)
        .unwrap_err()
        .to_string();
    says(&untied, &["--tied-logit-scale", "leave it out"]);
}

#[test]
fn a_config_beside_the_file_fills_in_what_it_lacks_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let mut file = File::golden(Q4K);
    file.keys.remove("falcon-h1.context_length");
    file.write(&path);
    let alone = Checkpoint::open(&path).unwrap().spec;
    assert_eq!((alone.context, &alone.eos), (8192, &vec![4]));
    let text = fs::read_to_string(golden("gguf-h1r-like-q4k/config.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["max_position_embeddings"] = 1234.into();
    json["eos_token_id"] = serde_json::json!([4, 2]);
    json["time_step_limit"] = serde_json::json!([0.02, 0.15]);
    json["mamba_norm_before_gate"] = true.into();
    fs::write(folder.path().join("config.json"), json.to_string()).unwrap();
    let both = Checkpoint::open(&path).unwrap().spec;
    let mut expected = alone;
    (expected.context, expected.eos) = (1234, vec![4, 2]);
    for mixer in expected.layers.iter_mut().flatten().flat_map(|b| &mut b.mixers) {
        if let crate::spec::Mixer::Mamba2(m) = mixer {
            m.time_step_limit = (0.02, 0.15);
            m.norm.as_mut().unwrap().before_gate = true;
        }
    }
    expected.arithmetic.clone_from(&both.arithmetic);
    assert_eq!(both, expected);
}

#[test]
fn names_and_optional_keys_may_vary() {
    let mut file = File::golden(F32);
    for layer in 0..3 {
        let norm = file.tensors.remove(&format!("blk.{layer}.ffn_norm")).unwrap();
        file.tensors.insert(format!("blk.{layer}.ffn_norm.weight"), norm);
    }
    for key in ["vocab_size", "attention.head_count_kv", "ssm.group_count"] {
        file.keys.remove(&format!("falcon-h1.{key}"));
    }
    let per_layer = gguf_file::Value::Array(vec![gguf_file::Value::U32(2); 3]);
    file.set("falcon-h1.attention.head_count_kv", per_layer);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    file.write(&path);
    let opened = Checkpoint::open(&path).unwrap();
    assert_eq!(opened.digest(), open(F32).digest());
}

#[test]
fn what_cannot_be_run_is_refused_by_name() {
    use gguf_file::Value::{F32 as Float, String as Text, U32};
    let text = |s: &str| Text(s.to_owned());
    for (key, value, parts) in [
        (
            "general.architecture",
            text("gemma"),
            &["\"gemma\"", "falcon-h1"][..],
        ),
        ("general.type", text("adapter"), &["general.type is \"adapter\""]),
        ("split.count", U32(3), &["split.count is 3", "--merge"]),
        (
            "falcon-h1.mlp_gate_multiplier",
            Float(0.5),
            &["mlp_gate_multiplier", "early Falcon-H1 files"],
        ),
        (
            "falcon-h1.mamba_rms_norm",
            U32(1),
            &["mamba_rms_norm", "early Falcon-H1 files"],
        ),
        (
            "falcon-h1.ssm.has_mup",
            gguf_file::Value::Bool(true),
            &["ssm.has_mup", "early Falcon-H1 files"],
        ),
        (
            "falcon-h1.rope_theta",
            Float(1e11),
            &["rope_theta", "early Falcon-H1 files"],
        ),
        (
            "falcon-h1.rope.scaling.type",
            text("yarn"),
            &["rope.scaling.type is \"yarn\""],
        ),
        (
            "falcon-h1.rope.dimension_count",
            U32(16),
            &["rope.dimension_count is 16"],
        ),
        (
            "falcon-h1.attention.value_length",
            U32(16),
            &["value_length is 16"],
        ),
        (
            "falcon-h1.attention.sliding_window",
            U32(512),
            &["sliding_window is 512"],
        ),
        ("falcon-h1.embedding_length", U32(0), &["embedding_length is 0"]),
        (
            "falcon-h1.embedding_length",
            U32(65),
            &["has shape [336, 64]", "[336, 65]"],
        ),
        (
            "falcon-h1.embedding_length",
            text("wide"),
            &["embedding_length", "whole number"],
        ),
        ("falcon-h1.ssm.time_step_rank", U32(0), &["time_step_rank is 0"]),
        (
            "falcon-h1.ssm.time_step_rank",
            U32(7),
            &["time_step_rank is 7, which does not divide falcon-h1.ssm.inner_size"],
        ),
        (
            "falcon-h1.ssm.time_step_rank",
            U32(999),
            &["time_step_rank is 999, which does not divide"],
        ),
        (
            "falcon-h1.block_count",
            U32(u32::MAX),
            &["block_count is 4294967295"],
        ),
        ("falcon-h1.block_count", U32(2), &["blk.2."]),
        ("general.alignment", U32(0), &["general.alignment is 0"]),
        (
            "general.alignment",
            U32(2_097_152),
            &["general.alignment is 2097152: it must be at most 1048576"],
        ),
    ] {
        let mut file = File::golden(F32);
        file.set(key, value);
        says(&file.refusal(), parts);
    }
    let mut file = File::golden(F32);
    file.keys.remove("falcon-h1.ssm.state_size");
    says(&file.refusal(), &["falcon-h1.ssm.state_size is missing"]);
    let mut file = File::golden(F32);
    file.keys.remove("general.architecture");
    says(&file.refusal(), &["general.architecture is missing"]);
    let mut file = File::golden(F32);
    file.tensors.remove("blk.1.ssm_dt.bias");
    says(&file.refusal(), &["has no tensor blk.1.ssm_dt.bias"]);
    let mut file = File::golden(F32);
    file.add("rope_freqs.weight", 16);
    says(&file.refusal(), &["rope_freqs.weight"]);
    let mut file = File::golden(F32);
    file.add("blk.0.attn_q.bias", 128);
    says(&file.refusal(), &["attn_q.bias", "attention_in_multiplier"]);
    for layer in 0..3 {
        for (name, rows) in [("q", 128), ("k", 64), ("v", 64), ("output", 64)] {
            file.add(&format!("blk.{layer}.attn_{name}.bias"), rows);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    file.write(&path);
    let text = fs::read_to_string(golden("case-gqa/config.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    fs::write(folder.path().join("config.json"), json.to_string()).unwrap();
    says(&refusal(&path), &["bias", "attention_in_multiplier"]);
    json["attention_in_multiplier"] = 1.0.into();
    fs::write(folder.path().join("config.json"), json.to_string()).unwrap();
    let biased = Checkpoint::open(&path).unwrap();
    assert!(
        biased
            .spec
            .mixers()
            .flat_map(crate::spec::Mixer::linears)
            .any(|l| l.bias.is_some())
    );
    let mut file = File::golden(F32);
    file.tensors.remove("blk.0.ssm_a");
    file.add("blk.0.ssm_a", 6);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    file.write(&path);
    let error = first_decay(&Checkpoint::open(&path).unwrap());
    says(&error, &["ssm_a gives a decay rate of 1"]);
}

/// Where in the file the type of a tensor stands.
fn type_of(bytes: &[u8], tensor: &str) -> usize {
    let mut record = (tensor.len() as u64).to_le_bytes().to_vec();
    record.extend(tensor.as_bytes());
    let at = bytes.windows(record.len()).position(|w| w == record).unwrap() + record.len();
    at + 4 + 8 * bytes[at] as usize
}

#[test]
fn a_type_that_is_not_supported_is_named_with_its_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    for (number, name) in [
        (10_u8, "Q2_K"),
        (11, "Q3_K"),
        (23, "IQ4_XS"),
        (40, "NVFP4"),
        (99, "unknown type 99"),
    ] {
        let mut bytes = fs::read(golden(Q4K)).unwrap();
        let at = type_of(&bytes, "blk.1.attn_k.weight");
        assert_eq!(bytes[at], 12);
        bytes[at] = number;
        fs::write(&path, bytes).unwrap();
        says(&refusal(&path), &["blk.1.attn_k.weight", name, "Q4_K"]);
    }
    // Q4_K needs rows of 256.
    let mut bytes = fs::read(golden(F32)).unwrap();
    let at = type_of(&bytes, "blk.1.attn_k.weight");
    bytes[at] = 12;
    fs::write(&path, bytes).unwrap();
    says(&refusal(&path), &["blk.1.attn_k.weight", "rows of 64"]);
}

#[test]
fn a_key_or_tensor_that_stands_twice_is_refused() {
    let original = fs::read(golden(F32)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let refused = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        refusal(&path)
    };
    // the same key before all others, with the same value, another one and one of another type
    let key = "falcon-h1.rope.freq_base";
    for value in [
        [&6_u32.to_le_bytes()[..], &1e4_f32.to_le_bytes()].concat(),
        [&12_u32.to_le_bytes()[..], &1e11_f64.to_le_bytes()].concat(),
        [&7_u32.to_le_bytes()[..], &[1]].concat(),
    ] {
        let keys = u64::from_le_bytes(original[16..24].try_into().unwrap()) + 1;
        let entry = [&(key.len() as u64).to_le_bytes(), key.as_bytes(), &value].concat();
        let bytes = [&original[..16], &keys.to_le_bytes(), &entry, &original[24..]].concat();
        says(&refused(&bytes), &[key, "stands twice"]);
    }
    // a tensor that is called as its neighbour is
    let (name, other) = (b"blk.0.attn_k.weight", b"blk.0.attn_v.weight");
    let at = original.windows(name.len()).position(|w| w == name).unwrap();
    let mut bytes = original.clone();
    bytes[at..at + name.len()].copy_from_slice(other);
    says(&refused(&bytes), &["blk.0.attn_v.weight", "stands twice"]);
}

#[test]
fn an_alignment_that_is_no_whole_number_is_refused() {
    use gguf_file::Value::{Bool, F32 as Float, String as Text};
    for value in [
        Text("64".to_owned()),
        Float(64.0),
        Bool(true),
        gguf_file::Value::I32(-32),
    ] {
        let mut file = File::golden(F32);
        file.set("general.alignment", value);
        says(&file.refusal(), &["general.alignment must be a whole number"]);
    }
}

#[test]
fn factors_that_no_model_has_are_refused_by_their_keys() {
    for name in [
        "embedding_scale",
        "residual_scale",
        "attention.scale",
        "logit_scale",
    ] {
        let key = format!("granitehybrid.{name}");
        for value in [0.0, -1.0, 1e30, f32::NAN, f32::INFINITY] {
            let mut file = File::golden("family-granitemoehybrid.gguf");
            file.set(&key, gguf_file::Value::F32(value));
            says(&file.refusal(), &[&key, "above 0"]);
        }
    }
}

/// candle does not know MXFP4, so the file is changed where it lies.
#[test]
fn windows_and_sinks_of_a_file_are_refused_by_their_names() {
    let original = fs::read(golden("family-gpt_oss.gguf")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let refused = |at: usize, new: &[u8], parts: &[&str]| {
        let mut bytes = original.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        fs::write(&path, bytes).unwrap();
        says(&refusal(&path), parts);
    };
    let after = |name: &str| {
        original
            .windows(name.len())
            .position(|w| w == name.as_bytes())
            .unwrap()
            + name.len()
    };
    let window = "gpt-oss.attention.sliding_window";
    let at = after(window);
    assert_eq!(original[at..at + 8], [4, 0, 0, 0, 24, 0, 0, 0]);
    refused(at + 4, &[0; 4], &[window, "between 1 and"]);
    refused(at, &[5, 0, 0, 0, 255, 255, 255, 255], &[window, "whole number"]);
    refused(at, &[6, 0, 0, 0, 0, 0, 192, 65], &[window, "whole number"]);
    refused(at - 1, b"W", &[window, "is missing"]);
    let experts = "gpt-oss.expert_used_count";
    refused(after(experts) + 4, &[9], &[experts, "between 1 and 8"]);
    // dimensions come behind their number
    let sinks = "blk.1.attn_sinks.weight";
    refused(after(sinks) + 4, &[3], &[sinks, "[3]", "[4]"]);
    refused(
        after(sinks) - 1,
        b"T",
        &["blk.1.attn_sinks.weighT", "not a tensor of a gpt-oss file"],
    );
    let down = "blk.2.ffn_down_exps.weight";
    refused(after(down) + 4, &[33], &[down, "MXFP4", "multiple of 32"]);
    refused(after(down) + 12, &[63], &[down, "63", "64"]);
}
