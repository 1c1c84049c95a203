//! Sampling settings, the random stream of a trace, and what a draw comes to: the rules that every executor
//! follows, wherever it draws.
//!
//! A token is drawn from the raw logits in this order: repetition, presence and frequency penalties, banned
//! ids, temperature, top-k, top-p, min-p. Among the ids that are left, in ascending order of id where
//! no bound is set and else by descending logit, it is the one at which the running sum of weights passes
//! `uniform` times their sum. Log-probability, confidence, entropy and self-certainty are those of the raw
//! distribution, in f32 from sums in f64, over the full vocabulary.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

pub use crate::cpu::kernels::sample::TOP;
use crate::overrides::{SAMPLING_SETTINGS, SamplingOverrides};

/// How tokens are drawn. The order is the usual one: penalties, temperature, top-k, top-p, min-p.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Divides the logits; 0 is greedy.
    pub temperature: f64,
    /// Keeps the k most likely ids; 0 keeps all.
    pub top_k: usize,
    /// Keeps the fewest most likely ids whose probabilities reach this sum; 1 keeps all.
    pub top_p: f64,
    /// Keeps ids at least this fraction as likely as the most likely one; 0 keeps all.
    pub min_p: f64,
    /// Divides positive and multiplies negative logits of ids in the prompt or the trace (arXiv 1909.05858);
    /// 1 is off.
    pub repetition_penalty: f64,
    /// Subtracted from the logits of ids that the trace holds; 0 is off.
    pub presence_penalty: f64,
    /// Subtracted from the logits of ids once for each time the trace holds them; 0 is off.
    pub frequency_penalty: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
        }
    }
}

impl Sampling {
    /// Checks the ranges.
    ///
    /// # Errors
    /// A sentence that names the setting and what would be right.
    pub fn check(&self) -> Result<(), String> {
        let all = SamplingOverrides::from(self);
        for setting in SAMPLING_SETTINGS {
            if let Some(value) = all.get(setting).filter(|value| !(setting.within)(*value)) {
                let shown = match value.abs() {
                    tiny_or_huge if value != 0.0 && !(1e-5..1e16).contains(&tiny_or_huge) => {
                        format!("{value:e}")
                    }
                    _ => value.to_string(),
                };
                return Err(format!(
                    "{} is {shown}; it must be {}",
                    setting.label, setting.right
                ));
            }
        }
        Ok(())
    }

    /// Whether drawing needs to know which ids came before.
    pub fn has_penalties(&self) -> bool {
        self.repetition_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }
}

/// The random stream of one trace: ChaCha12 keyed by (seed, problem), stream = trace index, counter = token
/// index. Token i's number does not depend on what was drawn before, so a trace can be taken up anywhere, and
/// an executor that draws several tokens in a row knows the numbers of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    key: [u8; 32],
    trace: u32,
}

impl Stream {
    /// The stream of trace `trace` of problem `problem_id` under `seed`.
    pub fn new(seed: u64, problem_id: &str, trace: u32) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"tts trace stream 1");
        hasher.update(&seed.to_le_bytes());
        hasher.update(problem_id.as_bytes());
        Self {
            key: *hasher.finalize().as_bytes(),
            trace,
        }
    }

    /// The number in [0, 1) that token `index` is drawn with.
    pub fn uniform(&self, index: usize) -> f64 {
        let mut random = ChaCha12Rng::from_seed(self.key);
        random.set_stream(u64::from(self.trace));
        // one block of 16 words for each token
        random.set_word_pos(index as u128 * 16);
        (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What came out of one draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// The token that was drawn.
    pub id: u32,
    /// Its log-probability under the raw distribution, in nats.
    pub logprob: f32,
    /// Confidence of the raw distribution, in nats.
    pub confidence: f32,
    /// Entropy of the raw distribution, in nats.
    pub entropy: f32,
    /// Self-certainty of the raw distribution, in nats.
    pub self_certainty: f32,
    /// Log-probabilities of the most likely ids under the raw distribution, largest first, in nats; -inf
    /// where fewer ids have one.
    pub top: [f32; TOP],
}

/// The logits are not numbers: NaN, +inf, or all -inf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenLogits;
