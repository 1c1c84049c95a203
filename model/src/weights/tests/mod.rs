//! The goldens' files opened and compared with each other, and every kind of bad file refused with its
//! sentence.

mod folders;
mod ggufs;
mod hostile;

use std::fs;

use super::*;
use crate::spec::{LinearSpec, Mamba2Spec, Mixer};

fn golden(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/golden")).join(name)
}

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(&golden(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The sentence with which `path` is refused.
fn refusal(path: &Path) -> String {
    let sentence = Checkpoint::open(path).expect_err("should be refused").to_string();
    assert!(!sentence.contains('\n'), "{sentence}");
    sentence
}

/// The Mamba-2 parts.
fn mambas(spec: &ModelSpec) -> Vec<&Mamba2Spec> {
    let mut found = Vec::new();
    for mixer in spec.mixers() {
        if let Mixer::Mamba2(mamba) = mixer {
            found.push(mamba);
        }
    }
    found
}

/// Whether the output matrix is the embedding, and whether there is a norm at the gates.
fn tied_and_normed(spec: &ModelSpec) -> (bool, bool) {
    (spec.head.tensor.is_none(), mambas(spec)[0].norm.is_some())
}

/// The sentence with which the first decay rates are refused.
fn first_decay(c: &Checkpoint) -> String {
    let mamba = mambas(&c.spec)[0];
    c.decay(&mamba.decay, mamba.heads).unwrap_err().to_string()
}

/// Asks for everything that a model asks for.
fn read_all(c: &Checkpoint) -> usize {
    let mut elements = 0;
    for needed in c.spec.tensors() {
        let len = needed.shape.iter().product();
        elements += c.vector(&needed.name, len).unwrap().len();
    }
    for mamba in mambas(&c.spec) {
        let _ = c.decay(&mamba.decay, mamba.heads);
    }
    elements
}

#[test]
fn the_goldens_open() {
    for (name, layers, tied, norm, dtype) in [
        ("case-gqa", 3, false, false, Dtype::F32),
        ("case-mha-groups-sharded", 2, false, true, Dtype::F32),
        ("case-tiny-like-bf16", 3, true, false, Dtype::BF16),
        ("gguf-gqa/gqa-f32.gguf", 3, false, false, Dtype::F32),
        ("gguf-gqa/gqa-q8_0.gguf", 3, false, false, Dtype::Q8_0),
        (
            "gguf-h1r-like-q4k/h1r-like-Q4_K_M.gguf",
            2,
            false,
            true,
            Dtype::Q4K,
        ),
    ] {
        let c = open(name);
        assert_eq!(
            (c.spec.layers.len(), tied_and_normed(&c.spec)),
            (layers, (tied, norm)),
            "{name}"
        );
        assert_eq!(read_all(&c) as u64, c.spec.parameters(), "{name}");
        let (vocab, hidden) = (c.spec.vocab, c.spec.hidden);
        let embedding = c.tensor("model.embed_tokens.weight", &[vocab, hidden]).unwrap();
        assert_eq!(embedding.dtype, dtype, "{name}");
        assert_eq!(embedding.bytes.len(), vocab * dtype.row_bytes(hidden), "{name}");
        let mamba = mambas(&c.spec)[0];
        let rates = c.decay(&mamba.decay, mamba.heads).unwrap();
        assert!(rates.iter().all(|a| *a < 0.0), "{name}");
        assert_eq!(c.has("lm_head.weight"), !tied, "{name}");
    }
    assert_eq!(open("case-mha-groups-sharded").files.len(), 2);
    assert_eq!(
        open("case-gqa").total_bytes(),
        4 * open("case-gqa").spec.parameters()
    );
}

/// The F32 GGUF file is the folder's model with the multipliers folded in, tensor by tensor; this also holds
/// the names, the order of dimensions and A to what they should be.
#[test]
fn a_gguf_file_is_its_folder_with_the_multipliers_folded_in() {
    let (hf, gguf) = (open("case-gqa"), open("gguf-gqa/gqa-f32.gguf"));
    let linears =
        |c: &Checkpoint| -> Vec<LinearSpec> { c.spec.mixers().flat_map(Mixer::linears).cloned().collect() };
    for linear in linears(&gguf) {
        assert!(linear.input_scale == 1.0 && linear.factors().iter().all(|f| *f == 1.0));
    }
    assert!(gguf.spec.embed.scale == 1.0 && gguf.spec.head.scale == 1.0);
    assert!(hf.spec.embed.scale != 1.0 && hf.spec.head.scale != 1.0);
    let mut scales = BTreeMap::new();
    for linear in linears(&hf) {
        let scale = linear.factors().iter().map(|f| f * linear.input_scale).collect();
        scales.insert(linear.weight, scale);
    }
    scales.insert(
        hf.spec.embed.tensor.clone(),
        vec![hf.spec.embed.scale; hf.spec.vocab],
    );
    scales.insert(
        "lm_head.weight".to_owned(),
        vec![hf.spec.head.scale; hf.spec.vocab],
    );
    for needed in hf.spec.tensors() {
        if needed.name.ends_with("A_log") {
            continue;
        }
        let rows = needed.shape[0];
        let scale: Vec<f32> = scales.remove(&needed.name).unwrap_or_else(|| vec![1.0; rows]);
        let ours = hf.tensor(&needed.name, &needed.shape).unwrap().to_f32();
        let theirs = gguf.tensor(&needed.name, &needed.shape).unwrap().to_f32();
        let width = ours.len() / rows;
        for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            let expected = a * scale[i / width];
            assert!(
                (expected - b).abs() <= 2e-6 * b.abs(),
                "{} element {i}: {b} is not {expected}",
                needed.name
            );
        }
    }
    assert!(scales.is_empty(), "{scales:?}");
    for (a, b) in mambas(&hf.spec).into_iter().zip(mambas(&gguf.spec)) {
        let (ours, theirs) = (hf.decay(&a.decay, a.heads), gguf.decay(&b.decay, b.heads));
        for (a, b) in ours.unwrap().iter().zip(theirs.unwrap()) {
            assert!((a - b).abs() <= 1e-6 * b.abs(), "{a} {b}");
        }
    }
}

#[test]
fn a_shape_is_checked_and_both_are_named() {
    let c = open("case-gqa");
    let error = c
        .tensor("model.layers.0.self_attn.q_proj.weight", &[64, 128])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("q_proj.weight has shape [128, 64], but the configuration asks for [64, 128]"),
        "{error}"
    );
    assert!(error.contains("model.safetensors"), "{error}");
    let error = c
        .vector("model.final_layernorm.weight", 65)
        .unwrap_err()
        .to_string();
    assert!(error.contains("[64]") && error.contains("[65]"), "{error}");
    let error = c
        .vector("model.layers.0.mamba.norm.weight", 96)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("has no tensor model.layers.0.mamba.norm.weight"),
        "{error}"
    );
    // Ones are dropped and added by formats, and mean nothing.
    assert_eq!(
        c.tensor("model.layers.0.mamba.conv1d.weight", &[128, 4])
            .unwrap()
            .shape,
        [128, 4]
    );
    let gguf = open("gguf-gqa/gqa-f32.gguf");
    assert_eq!(
        gguf.tensor("model.layers.0.mamba.conv1d.weight", &[128, 1, 4])
            .unwrap()
            .shape,
        [128, 1, 4]
    );
    let error = gguf
        .vector("model.layers.9.mamba.dt_bias", 6)
        .unwrap_err()
        .to_string();
    assert!(error.contains("has no tensor blk.9.ssm_dt.bias"), "{error}");
}

#[test]
fn the_digest_is_of_the_model_and_not_of_its_files() {
    let model = folders::Model::golden("case-gqa");
    let (one, shards) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    model.write(one.path());
    model.write_shards(shards.path(), 3, true);
    let digest = open("case-gqa").digest();
    assert_eq!(digest.len(), 64);
    assert_eq!(Checkpoint::open(one.path()).unwrap().digest(), digest);
    assert_eq!(Checkpoint::open(shards.path()).unwrap().digest(), digest);
    let mut other = folders::Model::golden("case-gqa");
    other.config["key_multiplier"] = 0.5.into();
    other.write(one.path());
    assert_ne!(Checkpoint::open(one.path()).unwrap().digest(), digest);
    let mut other = model;
    *other
        .tensors
        .get_mut("lm_head.weight")
        .unwrap()
        .2
        .last_mut()
        .unwrap() ^= 1;
    other.write(one.path());
    assert_ne!(Checkpoint::open(one.path()).unwrap().digest(), digest);
}

#[test]
fn a_model_in_memory_is_the_model_on_disk() {
    let config = fs::read_to_string(golden("case-tiny-like-bf16/config.json")).unwrap();
    let weights: &'static [u8] = fs::read(golden("case-tiny-like-bf16/model.safetensors"))
        .unwrap()
        .leak();
    let memory = Checkpoint::from_bytes(&config, weights).unwrap();
    assert_eq!(memory.digest(), open("case-tiny-like-bf16").digest());
    assert!(memory.files.is_empty());
    let error = Checkpoint::from_bytes(&config, &weights[..weights.len() - 1])
        .unwrap_err()
        .to_string();
    assert!(error.contains("bundled weights"), "{error}");
}
