//! The model against what transformers and a float64 recurrence computed (tests/fixtures/README.md says how),
//! and against itself: a position's result must not depend on how it came.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use tts_model::cpu::CpuExecutor;
use tts_model::cpu::kernels::{ThreadPool, Tier};
use tts_model::spec::Mixer;
use tts_model::weights::{Checkpoint, OpenOptions};
use tts_model::{Feed, Formats, KvFormat, Model, ModelError, Sequence, Want, WeightFormat, Workspace};

use crate::fixture;
use crate::rig::holding;

/// Bounds of an f32 engine against the goldens, absolute.
const LOGITS: f32 = 1e-4;
const HIDDEN: f32 = 1e-4;
const STATE: f32 = 5e-5;

const FOLDERS: [&str; 30] = [
    "golden/case-gqa",
    "golden/case-mha-groups-sharded",
    "golden/case-tiny-like-bf16",
    "variants/bf16-shards",
    "variants/biases",
    "variants/conv1",
    "variants/defaults",
    "variants/dt-clamp",
    "variants/f16",
    "variants/long",
    "variants/mqa-no-conv-bias",
    "variants/norm-before-gate",
    "variants/odd-sizes",
    "variants/tied",
    "golden/family-qwen2",
    "golden/family-qwen3",
    "golden/family-nemotron_h",
    "golden/family-granitemoehybrid",
    "golden/family-llama",
    "golden/family-smollm3",
    "golden/family-phi3",
    "golden/family-qwen3_moe",
    "golden/family-lfm2",
    "golden/family-lfm2_moe",
    "golden/family-granitemoehybrid-experts",
    "golden/family-nemotron_h-experts",
    "golden/family-qwen3_5_text",
    "golden/family-qwen3_5_moe_text",
    "golden/family-qwen3_next",
    "golden/family-gpt_oss",
];

/// Each with the goldens that hold for it.
const GGUF: [(&str, &str); 24] = [
    (
        "golden/gguf-gqa/gqa-f32.gguf",
        "golden/case-gqa/golden.safetensors",
    ),
    (
        "golden/gguf-gqa/gqa-q8_0.gguf",
        "golden/gguf-gqa/gqa-q8_0.golden.safetensors",
    ),
    (
        "golden/gguf-h1r-like-q4k/h1r-like-Q4_K_M.gguf",
        "golden/gguf-h1r-like-q4k/h1r-like-Q4_K_M.golden.safetensors",
    ),
    ("gguf/f16.gguf", "gguf/f16.golden.safetensors"),
    ("gguf/bf16.gguf", "gguf/bf16.golden.safetensors"),
    ("gguf/q8_0.gguf", "gguf/q8_0.golden.safetensors"),
    ("gguf/q4_0.gguf", "gguf/q4_0.golden.safetensors"),
    ("gguf/mixed-k.gguf", "gguf/mixed-k.golden.safetensors"),
    // their weights lie on a grid that these formats hold exactly, so they are the folders'
    (
        "golden/family-qwen2.gguf",
        "golden/family-qwen2/golden.safetensors",
    ),
    (
        "golden/family-qwen3.gguf",
        "golden/family-qwen3/golden.safetensors",
    ),
    (
        "golden/family-nemotron_h.gguf",
        "golden/family-nemotron_h/golden.safetensors",
    ),
    (
        "golden/family-granitemoehybrid.gguf",
        "golden/family-granitemoehybrid/golden.safetensors",
    ),
    (
        "golden/family-llama.gguf",
        "golden/family-llama/golden.safetensors",
    ),
    (
        "golden/family-smollm3.gguf",
        "golden/family-smollm3/golden.safetensors",
    ),
    ("golden/family-phi3.gguf", "golden/family-phi3/golden.safetensors"),
    (
        "golden/family-qwen3_moe.gguf",
        "golden/family-qwen3_moe/golden.safetensors",
    ),
    ("golden/family-lfm2.gguf", "golden/family-lfm2/golden.safetensors"),
    (
        "golden/family-lfm2_moe.gguf",
        "golden/family-lfm2_moe/golden.safetensors",
    ),
    (
        "golden/family-qwen3_5_text.gguf",
        "golden/family-qwen3_5_text/golden.safetensors",
    ),
    (
        "golden/family-qwen3_5_moe_text.gguf",
        "golden/family-qwen3_5_moe_text/golden.safetensors",
    ),
    (
        "golden/family-granitemoehybrid-experts.gguf",
        "golden/family-granitemoehybrid-experts/golden.safetensors",
    ),
    (
        "golden/family-nemotron_h-experts.gguf",
        "golden/family-nemotron_h-experts/golden.safetensors",
    ),
    (
        "golden/family-qwen3_next.gguf",
        "golden/family-qwen3_next/golden.safetensors",
    ),
    (
        "golden/family-gpt_oss.gguf",
        "golden/family-gpt_oss/golden.safetensors",
    ),
];

/// A file of golden arrays.
struct Golden(Vec<u8>);

impl Golden {
    fn read(path: &Path) -> Self {
        Self(std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }
    fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.0).unwrap().tensor(name).is_ok()
    }
    fn f32(&self, name: &str) -> Vec<f32> {
        let all = SafeTensors::deserialize(&self.0).unwrap();
        let t = all.tensor(name).unwrap();
        assert_eq!(t.dtype(), Dtype::F32, "{name}");
        t.data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    }
    fn ids(&self, name: &str) -> Vec<u32> {
        let all = SafeTensors::deserialize(&self.0).unwrap();
        let t = all.tensor(name).unwrap();
        assert_eq!(t.dtype(), Dtype::I64, "{name}");
        t.data()
            .chunks_exact(8)
            .map(|b| u32::try_from(i64::from_le_bytes(b.try_into().unwrap())).unwrap())
            .collect()
    }
    /// The prompt's logits: of the f64 recurrence where there is one, else of transformers in f32.
    fn logits(&self) -> Vec<f32> {
        let exact = ["logits_ref64", "logits_full"]
            .into_iter()
            .find(|name| self.has(name));
        self.f32(exact.expect("a golden has logits"))
    }
    /// Prompts with their greedy continuations: names of the prompt, the ids, the logits.
    fn greedy(&self) -> Vec<[String; 3]> {
        let short = |i| format!("short{i}_ids");
        std::iter::once(["prompt_ids", "greedy_ids", "greedy_logits"].map(String::from))
            .chain((0..).take_while(|i| self.has(&short(*i))).map(|i| {
                [
                    short(i),
                    format!("short{i}_greedy_ids"),
                    format!("short{i}_greedy_logits"),
                ]
            }))
            .collect()
    }
}

/// A model with what it takes to run it.
struct Runner {
    model: Model,
    pool: ThreadPool,
    space: Workspace,
}

impl Runner {
    fn open(path: &Path, format: impl Into<Formats>, threads: usize, tier: Tier) -> Result<Self, ModelError> {
        Self::new(&Checkpoint::open(path)?, format, threads, tier)
    }

    fn new(
        weights: &Checkpoint,
        format: impl Into<Formats>,
        threads: usize,
        tier: Tier,
    ) -> Result<Self, ModelError> {
        let model = Model::load(weights, format)?;
        let space = model.workspace(threads);
        Ok(Self {
            model,
            pool: ThreadPool::new(threads, tier),
            space,
        })
    }

    fn fixture(name: &str) -> Self {
        Self::open(&fixture(name), WeightFormat::F32, 2, Tier::detect())
            .unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Logits of every token read, one row each.
    fn read(&mut self, sequence: &mut Sequence, tokens: &[u32]) -> Vec<Vec<f32>> {
        self.read_batch(&mut [(sequence, tokens)])
    }

    fn read_batch(&mut self, batch: &mut [(&mut Sequence, &[u32])]) -> Vec<Vec<f32>> {
        let mut feeds: Vec<Feed<'_>> = batch
            .iter_mut()
            .map(|(sequence, tokens)| Feed::new(sequence, tokens, Want::All))
            .collect();
        self.model.forward(&mut self.pool, &mut self.space, &mut feeds);
        let logits = self.space.logits();
        (0..logits.rows()).map(|i| logits.row(i).to_vec()).collect()
    }

    /// `n` greedy tokens after `prompt`, with the logits that each came from.
    fn greedy(&mut self, prompt: &[u32], n: usize) -> (Vec<u32>, Vec<Vec<f32>>) {
        let mut sequence = self.model.sequence();
        let mut row = self.read(&mut sequence, prompt).pop().unwrap();
        let (mut ids, mut rows) = (Vec::new(), Vec::new());
        for _ in 0..n {
            ids.push(argmax(&row));
            rows.push(row);
            row = self.read(&mut sequence, &ids[ids.len() - 1..]).pop().unwrap();
        }
        (ids, rows)
    }

    /// Everything a sequence holds, as bits.
    fn state(&self, sequence: &Sequence) -> Vec<u32> {
        let shape = self.model.layout();
        let ssm = |part| [sequence.conv_window(shape, part), sequence.ssm_state(shape, part)].concat();
        let attention = |part| {
            let (k, v) = sequence.keys_values(shape, part);
            [k, v].concat()
        };
        let states = (0..shape.ssm.len()).flat_map(ssm);
        let caches = (0..shape.attention.len()).flat_map(attention);
        states.chain(caches).map(f32::to_bits).collect()
    }
}

fn argmax(row: &[f32]) -> u32 {
    let best = row
        .iter()
        .enumerate()
        .fold(0, |best, (i, v)| if *v > row[best] { i } else { best });
    u32::try_from(best).unwrap()
}

/// Natural log-softmax in f64.
fn log_softmax(row: &[f32]) -> Vec<f32> {
    let most = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = row.iter().map(|v| (f64::from(*v) - most).exp()).sum();
    row.iter()
        .map(|v| (f64::from(*v) - most - sum.ln()) as f32)
        .collect()
}

fn bits(rows: &[Vec<f32>]) -> Vec<Vec<u32>> {
    rows.iter()
        .map(|row| row.iter().map(|v| v.to_bits()).collect())
        .collect()
}

/// Fails unless all values lie within `bound` of each other; a NaN fails.
#[track_caller]
fn close(what: &str, got: &[f32], want: &[f32], bound: f32) {
    assert_eq!(got.len(), want.len(), "{what}: number of values");
    let worst = got
        .iter()
        .zip(want)
        .enumerate()
        .map(|(i, (a, b))| (i, (a - b).abs()))
        .fold((0, 0.0), |worst, now| {
            if now.1 > worst.1 || now.1.is_nan() {
                now
            } else {
                worst
            }
        });
    let (at, by) = worst;
    assert!(
        by <= bound,
        "{what}: off by {by} at {at} ({} instead of {}), bound {bound}",
        got[at],
        want[at]
    );
}

/// Prompt logits, log-probabilities, residual stream and states.
#[test]
fn a_full_forward_pass_gives_the_reference_numbers() {
    for name in FOLDERS {
        let golden = Golden::read(&fixture(name).join("golden.safetensors"));
        for tier in Tier::available() {
            let mut r = Runner::open(&fixture(name), WeightFormat::F32, 2, tier)
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            let (prompt, mut sequence) = (golden.ids("prompt_ids"), r.model.sequence());
            let what = |part: &str| format!("{name}, {}: {part}", tier.name());
            let mut hidden = Vec::new();
            let mut feeds = [Feed::new(&mut sequence, &prompt, Want::All)];
            r.model
                .forward_observed(&mut r.pool, &mut r.space, &mut feeds, |_, h| {
                    hidden.extend((0..h.rows()).flat_map(|i| h.row(i).to_vec()));
                });
            if golden.has("hidden") {
                close(&what("hidden"), &hidden, &golden.f32("hidden"), HIDDEN);
            }
            let vocab = r.model.spec().vocab;
            let want = golden.f32("logits_full");
            let rows = want.len() / vocab;
            let first = prompt.len() - rows;
            for (i, want) in want.chunks_exact(vocab).enumerate() {
                let got = r.space.logits().row(first + i);
                close(&what("logits"), got, want, LOGITS);
                close(
                    &what("log-probabilities"),
                    &log_softmax(got),
                    &log_softmax(want),
                    LOGITS,
                );
            }
            if golden.has("top20_ids") {
                let (ids, logprobs) = (golden.ids("top20_ids"), golden.f32("top20_logprobs"));
                for (i, (ids, want)) in ids.chunks_exact(20).zip(logprobs.chunks_exact(20)).enumerate() {
                    let all = log_softmax(r.space.logits().row(i));
                    let got: Vec<f32> = ids.iter().map(|id| all[*id as usize]).collect();
                    close(&what("the 20 best"), &got, want, LOGITS);
                }
            }
            let shape = r.model.layout();
            let concat =
                |part: &dyn Fn(usize) -> Vec<f32>| (0..shape.ssm.len()).flat_map(part).collect::<Vec<f32>>();
            if golden.has("state_conv") {
                let got = concat(&|layer| sequence.conv_window(shape, layer));
                close(
                    &what("convolution window"),
                    &got,
                    &golden.f32("state_conv"),
                    STATE,
                );
            }
            if golden.has("state_ssm") {
                let got = concat(&|layer| sequence.ssm_state(shape, layer));
                close(&what("SSM state"), &got, &golden.f32("state_ssm"), STATE);
            }
            if golden.has("state_k") {
                let (k, v) = (
                    |layer| sequence.keys_values(shape, layer).0,
                    |layer| sequence.keys_values(shape, layer).1,
                );
                close(&what("keys"), &concat(&k), &golden.f32("state_k"), STATE);
                close(&what("values"), &concat(&v), &golden.f32("state_v"), STATE);
            }
        }
    }
}

/// Cached decode from prompts of every length, among them shorter than the convolution's window.
#[test]
fn greedy_ids_are_the_reference_ids() {
    for name in FOLDERS {
        let golden = Golden::read(&fixture(name).join("golden.safetensors"));
        let mut r = Runner::fixture(name);
        for [prompt, ids, logits] in golden.greedy() {
            let want = golden.ids(&ids);
            let (got, rows) = r.greedy(&golden.ids(&prompt), want.len());
            assert_eq!(got, want, "{name}: {ids}");
            if golden.has(&logits) {
                let what = format!("{name}: {logits}");
                close(&what, &rows.concat(), &golden.f32(&logits), LOGITS);
            }
        }
    }
}

/// Bit for bit: token by token, in chunks of any length, and all at once (so cached decode is the full
/// forward pass).
#[test]
fn chunks_change_nothing() {
    for (name, kv) in FOLDERS
        .into_iter()
        .flat_map(|name| [KvFormat::F32, KvFormat::Q8_0].map(|kv| (name, kv)))
    {
        let golden = Golden::read(&fixture(name).join("golden.safetensors"));
        let mut r = Runner::open(&fixture(name), holding(kv), 2, Tier::detect()).unwrap();
        let text = [golden.ids("prompt_ids"), golden.ids("greedy_ids")].concat();
        let mut whole = r.model.sequence();
        let want = bits(&r.read(&mut whole, &text));
        let want_state = r.state(&whole);
        let uneven: Vec<usize> = [20, 13, 36, 1, 5, 64, 2, 1, 1, 3]
            .into_iter()
            .cycle()
            .take(text.len())
            .collect();
        for chunks in [1, 2, 7, 16, 33, 63, 64, 65]
            .map(|n| vec![n; text.len()])
            .into_iter()
            .chain([uneven])
        {
            let (mut sequence, mut got, mut at) = (r.model.sequence(), Vec::new(), 0);
            for n in &chunks {
                let end = text.len().min(at + n);
                if at < end {
                    got.extend(r.read(&mut sequence, &text[at..end]));
                }
                at = end;
            }
            let what = format!("{name}, {}, in chunks of {:?}...", kv.name(), &chunks[..4]);
            assert!(bits(&got) == want, "{what}: logits");
            assert!(r.state(&sequence) == want_state, "{what}: state");
        }
    }
}

/// Bit for bit: alone, in a batch that mixes prefill and decode, and on any number of threads.
#[test]
fn company_and_threads_change_nothing() {
    for name in FOLDERS {
        let golden = Golden::read(&fixture(name).join("golden.safetensors"));
        let prompts: Vec<Vec<u32>> = golden.greedy().iter().map(|[ids, ..]| golden.ids(ids)).collect();
        let next = |i: usize| vec![(5 + 7 * i as u32) % 90];
        let mut alone: Vec<(Vec<Vec<u32>>, Vec<u32>)> = Vec::new();
        for threads in 1..=3 {
            let mut r = Runner::open(&fixture(name), WeightFormat::F32, threads, Tier::detect()).unwrap();
            for (i, prompt) in prompts.iter().enumerate() {
                let mut sequence = r.model.sequence();
                let mut rows = r.read(&mut sequence, prompt);
                rows.extend(r.read(&mut sequence, &next(i)));
                let got = (bits(&rows), r.state(&sequence));
                if threads == 1 {
                    alone.push(got);
                } else {
                    assert!(got == alone[i], "{name}: prompt {i} alone on {threads} threads");
                }
            }
            // every second sequence is one prompt ahead, so that decode and prefill share a step
            let mut sequences: Vec<Sequence> = prompts.iter().map(|_| r.model.sequence()).collect();
            let mut got: Vec<Vec<Vec<f32>>> = vec![Vec::new(); prompts.len()];
            for step in 0..3 {
                let tokens: Vec<Vec<u32>> = (0..prompts.len())
                    .map(|i| match step + i % 2 {
                        1 => prompts[i].clone(),
                        2 => next(i),
                        _ => Vec::new(),
                    })
                    .collect();
                let mut batch: Vec<(&mut Sequence, &[u32])> = sequences
                    .iter_mut()
                    .zip(&tokens)
                    .map(|(s, t)| (s, t.as_slice()))
                    .filter(|(_, t)| !t.is_empty())
                    .collect();
                let mut rows = r.read_batch(&mut batch).into_iter();
                for (got, tokens) in got.iter_mut().zip(&tokens) {
                    got.extend(rows.by_ref().take(tokens.len()));
                }
            }
            for (i, sequence) in sequences.iter().enumerate() {
                assert!(
                    (bits(&got[i]), r.state(sequence)) == alone[i],
                    "{name}: prompt {i} in a batch on {threads} threads"
                );
            }
        }
    }
}

/// A fork goes on as its parent would have, neither disturbs the other, and full blocks of the prompt are
/// shared.
#[test]
fn forks_are_copies() {
    for name in [
        "golden/case-gqa",
        "golden/case-mha-groups-sharded",
        "variants/long",
        "variants/odd-sizes",
    ] {
        let golden = Golden::read(&fixture(name).join("golden.safetensors"));
        let mut r = Runner::fixture(name);
        let (prompt, a) = (golden.ids("prompt_ids"), golden.ids("greedy_ids"));
        let b: Vec<u32> = a.iter().rev().copied().collect();
        let mut run = |tail: &[u32]| {
            let mut sequence = r.model.sequence();
            r.read(&mut sequence, &prompt);
            (bits(&r.read(&mut sequence, tail)), r.state(&sequence))
        };
        let (want_a, want_b) = (run(&a), run(&b));
        let mut parent = r.model.sequence();
        r.read(&mut parent, &prompt);
        let before = r.state(&parent);
        let mut forks = [parent.fork(), parent.fork()];
        let [fa, fb] = &mut forks;
        let (mut rows_a, mut rows_b) = (Vec::new(), Vec::new());
        for (ta, tb) in a.chunks(1).zip(b.chunks(1)) {
            let mut rows = r.read_batch(&mut [(fa, ta), (fb, tb)]).into_iter();
            rows_a.extend(rows.next());
            rows_b.extend(rows.next());
        }
        assert!((bits(&rows_a), r.state(fa)) == want_a, "{name}: first fork");
        assert!((bits(&rows_b), r.state(fb)) == want_b, "{name}: second fork");
        assert!(r.state(&parent) == before, "{name}: parent");
    }
}

/// A quantised file as f32 against its own dequantised weights.
#[test]
fn gguf_files_give_the_numbers_of_their_own_weights() {
    for (file, golden) in GGUF {
        let golden = Golden::read(&fixture(golden));
        for tier in Tier::available() {
            let mut r = Runner::open(&fixture(file), WeightFormat::F32, 2, tier)
                .unwrap_or_else(|e| panic!("{file}: {e}"));
            let what = |part: &str| format!("{file} as f32, {}: {part}", tier.name());
            let mut sequence = r.model.sequence();
            let rows = r.read(&mut sequence, &golden.ids("prompt_ids"));
            close(&what("logits"), &rows.concat(), &golden.logits(), LOGITS);
            let want = golden.ids("greedy_ids");
            let (got, rows) = r.greedy(&golden.ids("prompt_ids"), want.len());
            assert_eq!(got, want, "{}", what("greedy ids"));
            close(
                &what("greedy logits"),
                &rows.concat(),
                &golden.f32("greedy_logits"),
                LOGITS,
            );
        }
    }
}

/// Root mean square of the difference, as a share of the numbers' own.
fn relative_error(got: &[f32], want: &[f32]) -> f64 {
    let sum = |f: &dyn Fn(usize) -> f64| (0..want.len()).map(f).sum::<f64>();
    let off = sum(&|i| f64::from(got[i] - want[i]).powi(2));
    (off / sum(&|i| f64::from(want[i]).powi(2))).sqrt()
}

/// What rounding the inputs of products to 8 bits and keys and values to bf16 costs: the logits of quantised
/// files as they are, against exact arithmetic on the same weights.
#[test]
fn quantised_files_as_they_are_stay_close_to_their_own_weights() {
    for (file, golden) in GGUF {
        let golden = Golden::read(&fixture(golden));
        for tier in Tier::available() {
            let mut r = Runner::open(&fixture(file), WeightFormat::Auto, 2, tier).unwrap();
            let mut sequence = r.model.sequence();
            let rows = r.read(&mut sequence, &golden.ids("prompt_ids"));
            let off = relative_error(&rows.concat(), &golden.logits());
            let quantised = r
                .model
                .formats()
                .iter()
                .any(|(format, _)| format.starts_with('Q') || *format == "MXFP4");
            let experts = r.model.spec().mixers().any(|m| matches!(m, Mixer::Moe(_)));
            let in_8_bits = quantised && (tier != Tier::Amx || experts);
            assert!(off < if in_8_bits { 9e-2 } else { 3e-2 }, "{file}, {tier}: {off}");
        }
    }
}

/// Checkpoints in 16 bits as they are. Where products read f32 inputs and keys and values are f32, nothing is
/// rounded but the file's own weights; else the rounding to bf16 shows.
#[test]
fn sixteen_bit_folders_in_their_own_format() {
    for name in [
        "golden/case-tiny-like-bf16",
        "variants/bf16-shards",
        "variants/f16",
        "variants/tied",
    ] {
        let golden = Golden::read(&fixture(name).join("golden.safetensors"));
        let exact = Formats {
            kv: Some(KvFormat::F32),
            ..Formats::default()
        };
        for tier in Tier::available() {
            let mut r = Runner::open(&fixture(name), exact, 2, tier).unwrap();
            if tier < Tier::Avx512Bf16 || name == "variants/f16" {
                let (ids, rows) = r.greedy(&golden.ids("prompt_ids"), golden.ids("greedy_ids").len());
                assert_eq!(ids, golden.ids("greedy_ids"), "{name}");
                close(name, &rows.concat(), &golden.f32("greedy_logits"), LOGITS);
            }
            let mut r = Runner::open(&fixture(name), WeightFormat::Auto, 2, tier).unwrap();
            assert_eq!(r.model.layout().kv, KvFormat::Bf16);
            let mut sequence = r.model.sequence();
            let rows = r.read(&mut sequence, &golden.ids("prompt_ids"));
            let off = relative_error(&rows.concat(), &golden.f32("logits_full"));
            assert!(off < 3e-2, "{name}, {tier}: {off}");
        }
    }
}

/// What holding keys and values in fewer bits does to log-probabilities, against f32 on the same f32 weights: means
/// and, where no experts are chosen otherwise, the largest difference.
#[test]
fn log_probabilities_hardly_change_with_the_format_of_keys_and_values() {
    // whose experts answer so differently that one other choice makes another text of what follows
    let folders = FOLDERS.into_iter().filter(|name| *name != SINKS);
    for (name, tier) in folders.flat_map(|name| Tier::available().into_iter().map(move |tier| (name, tier))) {
        let golden = Golden::read(&fixture(name).join("golden.safetensors"));
        let text = [golden.ids("prompt_ids"), golden.ids("greedy_ids")].concat();
        let mut experts = false;
        let [exact, bf16, q8_0] = [KvFormat::F32, KvFormat::Bf16, KvFormat::Q8_0].map(|kv| {
            let mut r = Runner::open(&fixture(name), holding(kv), 2, tier).unwrap();
            experts = r.model.spec().mixers().any(|m| matches!(m, Mixer::Moe(_)));
            let mut sequence = r.model.sequence();
            let rows = r.read(&mut sequence, &text);
            rows.iter().flat_map(|row| log_softmax(row)).collect::<Vec<f32>>()
        });
        let of = |held: &[f32]| {
            let off: Vec<f32> = exact.iter().zip(held).map(|(a, b)| (a - b).abs()).collect();
            let most = off.iter().copied().fold(0.0, f32::max);
            (off.iter().sum::<f32>() / off.len() as f32, most)
        };
        let ((bf16, bf16_most), (q8_0, q8_0_most)) = (of(&bf16), of(&q8_0));
        let what = format!("{name}, {tier}: bf16 {bf16} {bf16_most}, q8_0 {q8_0} {q8_0_most}");
        assert!(bf16 > 0.0 && bf16 < 3e-2 && q8_0 < 8e-2, "{what}");
        assert!(experts || bf16_most < 0.25 && q8_0_most < 0.9, "{what}");
        // a step is a 127th of the largest of 32 numbers, about three times a step of bf16
        assert!(q8_0 > 1.5 * bf16 && q8_0 < 4.5 * bf16, "{what}");
    }
}

const SINKS: &str = "golden/family-gpt_oss";

/// Windows and sinks, experts and their biases, weights of four bits as they are and as f32: a row is the same
/// alone and among others, bit for bit, and holds what the plan says.
#[test]
fn rows_with_windows_and_experts_are_the_same_in_every_batch() {
    let golden = Golden::read(&fixture(SINKS).join("golden.safetensors"));
    let text = [golden.ids("prompt_ids"), golden.ids("greedy_ids")].concat();
    let token = |row: usize| (5 + 7 * row as u32) % 90;
    for (tier, format) in Tier::available()
        .into_iter()
        .flat_map(|tier| [(tier, WeightFormat::F32), (tier, WeightFormat::Auto)])
    {
        let mut r = Runner::open(&fixture(SINKS), format, 2, tier).unwrap();
        let limits = CpuExecutor::limits_of(&r.model, 1);
        // lengths around the window, the border of a block, and beyond both
        let begun: Vec<Sequence> = (0..64)
            .map(|row| {
                let mut sequence = r.model.sequence();
                r.read(&mut sequence, &text[..1 + (row * 29) % text.len()]);
                sequence
            })
            .collect();
        let alone: Vec<_> = begun
            .iter()
            .enumerate()
            .map(|(row, begun)| {
                let mut sequence = begun.fork();
                let logits = bits(&r.read(&mut sequence, &[token(row)]));
                let held = sequence.private_bytes(r.model.layout()) as u64;
                assert!(
                    held <= limits.sequence_bytes(sequence.len(), 0),
                    "{tier} row {row}"
                );
                (logits[0].clone(), r.state(&sequence))
            })
            .collect();
        for rows in [1, 2, 7, 33, 64] {
            let mut sequences: Vec<Sequence> = begun[64 - rows..].iter().map(Sequence::fork).collect();
            let tokens: Vec<[u32; 1]> = (64 - rows..64).map(|row| [token(row)]).collect();
            let mut batch: Vec<(&mut Sequence, &[u32])> = sequences
                .iter_mut()
                .zip(&tokens)
                .map(|(s, t)| (s, &t[..]))
                .collect();
            let got = bits(&r.read_batch(&mut batch));
            for (i, (logits, sequence)) in got.iter().zip(&sequences).enumerate() {
                let row = 64 - rows + i;
                assert!(
                    (logits, &r.state(sequence)) == (&alone[row].0, &alone[row].1),
                    "{tier} {}: row {row} of {rows}",
                    format.name()
                );
            }
        }
        let mut whole = r.model.sequence();
        r.read(&mut whole, &text);
        assert_eq!(
            whole.private_bytes(r.model.layout()) as u64,
            limits.sequence_bytes(text.len(), 0),
            "{tier}: keys and values of every position are kept"
        );
    }
}

/// The folder with these changes to its tensors: name, type, shape and bytes.
fn changed(
    name: &str,
    change: impl Fn(&str, Dtype, &[usize], &[u8]) -> Option<(String, Dtype, Vec<usize>, Vec<u8>)>,
) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(
        fixture(name).join("config.json"),
        folder.path().join("config.json"),
    )
    .unwrap();
    let bytes = std::fs::read(fixture(name).join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensors: Vec<_> = tensors
        .iter()
        .filter_map(|(tensor, view)| change(tensor, view.dtype(), view.shape(), view.data()))
        .collect();
    let views = tensors.iter().map(|(tensor, dtype, shape, data)| {
        (
            tensor,
            safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).unwrap(),
        )
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    folder
}

/// Experts as transformers saves them once they are no longer MXFP4: bf16, column by column. Their numbers are
/// the same, and so is all that follows.
#[test]
fn experts_in_sixteen_bits_are_those_in_four() {
    let blocks = Checkpoint::open(&fixture(SINKS)).unwrap();
    let plain = changed(SINKS, |tensor, dtype, shape, data| {
        if tensor.ends_with("_scales") {
            return None;
        }
        let Some(whole) = tensor.strip_suffix("_blocks") else {
            return Some((tensor.to_owned(), dtype, shape.to_vec(), data.to_vec()));
        };
        let (experts, rows, columns) = (shape[0], shape[1], 32 * shape[2]);
        let values = blocks.tensor(whole, &[experts, rows, columns]).unwrap().to_f32();
        let of = |i: usize| {
            let (expert, column, row) = (i / rows / columns, i / rows % columns, i % rows);
            half::bf16::from_f32(values[(expert * rows + row) * columns + column]).to_le_bytes()
        };
        let data = (0..values.len()).flat_map(of).collect();
        Some((whole.to_owned(), Dtype::BF16, vec![experts, columns, rows], data))
    });
    let prompt = Golden::read(&fixture(SINKS).join("golden.safetensors")).ids("prompt_ids");
    let logits = [fixture(SINKS), plain.path().to_owned()].map(|path| {
        let mut r = Runner::open(&path, WeightFormat::F32, 2, Tier::detect()).unwrap();
        let mut sequence = r.model.sequence();
        bits(&r.read(&mut sequence, &prompt))
    });
    assert!(logits[0] == logits[1]);
    // in their own formats one is a third of the other, and both say what they are
    let held = [fixture(SINKS), plain.path().to_owned()].map(|path| {
        let r = Runner::open(&path, WeightFormat::Auto, 1, Tier::detect()).unwrap();
        r.model.formats()
    });
    let of = |formats: &[(&str, usize)], name: &str| {
        formats
            .iter()
            .find(|(format, _)| *format == name)
            .map(|(_, bytes)| *bytes)
    };
    // 8 experts of 3 matrices of 32 x 64 in each of 4 layers, scales of rows and biases beside them
    let (numbers, rows) = (4 * 8 * 3 * 32 * 64, 4 * 8 * (32 + 32 + 64));
    assert_eq!(of(&held[0], "MXFP4"), Some(numbers / 32 * 17 + rows * 8));
    assert_eq!(of(&held[1], "MXFP4"), None);
}

/// The exponent that stands for no number is one in the logits too: no clamp or softmax swallows it.
#[test]
fn an_exponent_that_is_no_number_reaches_the_logits() {
    let prompt = Golden::read(&fixture(SINKS).join("golden.safetensors")).ids("prompt_ids");
    for part in ["gate_up_proj_scales", "down_proj_scales"] {
        let spoiled = changed(SINKS, |tensor, dtype, shape, data| {
            let spoils = tensor.contains("layers.1.") && tensor.ends_with(part);
            let data = if spoils {
                vec![255; data.len()]
            } else {
                data.to_vec()
            };
            Some((tensor.to_owned(), dtype, shape.to_vec(), data))
        });
        for (tier, format) in Tier::available()
            .into_iter()
            .flat_map(|tier| [(tier, WeightFormat::F32), (tier, WeightFormat::Auto)])
        {
            let mut r = Runner::open(spoiled.path(), format, 1, tier).unwrap();
            let mut sequence = r.model.sequence();
            let row = r.read(&mut sequence, &prompt).pop().unwrap();
            assert!(row.iter().all(|v| v.is_nan()), "{part} {tier} {}", format.name());
        }
    }
}

/// The scale of a tied GGUF file's logits is not in the file: it comes from config.json beside it or is asked
/// for.
#[test]
fn a_tied_gguf_file_is_never_run_at_a_wrong_scale() {
    let golden = Golden::read(&fixture("gguf/tied.golden.safetensors"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tied.gguf");
    std::fs::copy(fixture("gguf/tied.gguf"), &file).unwrap();
    let refusal = Checkpoint::open(&file).unwrap_err();
    assert!(matches!(refusal, ModelError::TiedScale { .. }), "{refusal}");
    assert!(
        refusal.to_string().contains("tied.gguf") && refusal.to_string().contains("--tied-logit-scale"),
        "{refusal}"
    );
    let scale = golden.f32("tied_ratio")[0];
    let told = Checkpoint::open_with(
        &file,
        OpenOptions {
            tied_logit_scale: Some(scale),
        },
    )
    .unwrap();
    std::fs::copy(
        fixture("gguf/tied-with-config/config.json"),
        folder.path().join("config.json"),
    )
    .unwrap();
    let found = Checkpoint::open(&file).unwrap();
    for weights in [told, found] {
        let mut r = Runner::new(&weights, WeightFormat::F32, 1, Tier::detect()).unwrap();
        let mut sequence = r.model.sequence();
        let rows = r.read(&mut sequence, &golden.ids("prompt_ids"));
        close("tied.gguf", &rows.concat(), &golden.f32("logits_ref64"), LOGITS);
        let (ids, _) = r.greedy(&golden.ids("prompt_ids"), golden.ids("greedy_ids").len());
        assert_eq!(ids, golden.ids("greedy_ids"));
    }
}

/// Whatever weight is not a number, the logits say so (or the loader does): no maximum, clamp or softmax
/// swallows it.
#[test]
fn a_weight_that_is_not_a_number_reaches_the_logits() {
    let name = "golden/case-gqa";
    let prompt = Golden::read(&fixture(name).join("golden.safetensors")).ids("prompt_ids");
    let bytes = std::fs::read(fixture(name).join("model.safetensors")).unwrap();
    let start = 8 + usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(
        fixture(name).join("config.json"),
        folder.path().join("config.json"),
    )
    .unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    for (tensor, view) in tensors.iter().filter(|(tensor, _)| !tensor.contains("layers.2")) {
        let mut at = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
        assert!(at >= start);
        if tensor.contains("embed_tokens") {
            at += 4 * view.shape()[1] * prompt[0] as usize;
        }
        let mut spoiled = bytes.clone();
        spoiled[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        std::fs::write(folder.path().join("model.safetensors"), spoiled).unwrap();
        for (tier, kv) in Tier::available()
            .into_iter()
            .flat_map(|tier| KvFormat::ALL.map(|kv| (tier, kv)))
        {
            let mut r = match Runner::open(folder.path(), holding(kv), 1, tier) {
                Ok(r) => r,
                Err(refusal) => {
                    assert!(refusal.to_string().contains(tensor), "{refusal}");
                    continue;
                }
            };
            let mut sequence = r.model.sequence();
            let row = r.read(&mut sequence, &prompt).pop().unwrap();
            assert!(row.iter().any(|v| v.is_nan()), "{tensor}, {tier}, {}", kv.name());
        }
    }
}
