//! Draws a token from raw logits, and reads the confidence of the distribution it was drawn from.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::kernels::Tier;
pub use crate::kernels::sample::TOP;
use crate::kernels::sample::{Scan, WEIGHTS, scan, weights};

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
        let within = |name: &str, value: f64, ok: bool, right: &str| {
            if ok {
                Ok(())
            } else {
                Err(format!("{name} is {value}; it must be {right}"))
            }
        };
        within(
            "temperature",
            self.temperature,
            (0.0..=100.0).contains(&self.temperature),
            "between 0 (greedy) and 100",
        )?;
        within(
            "top-p",
            self.top_p,
            self.top_p > 0.0 && self.top_p <= 1.0,
            "above 0 and at most 1",
        )?;
        within(
            "min-p",
            self.min_p,
            (0.0..=1.0).contains(&self.min_p),
            "between 0 and 1",
        )?;
        within(
            "repetition penalty",
            self.repetition_penalty,
            self.repetition_penalty > 0.0 && self.repetition_penalty <= 100.0,
            "above 0 and at most 100",
        )?;
        within(
            "presence penalty",
            self.presence_penalty,
            self.presence_penalty.abs() <= 100.0,
            "between -100 and 100",
        )?;
        within(
            "frequency penalty",
            self.frequency_penalty,
            self.frequency_penalty.abs() <= 100.0,
            "between -100 and 100",
        )
    }

    /// Whether drawing needs to know which ids came before.
    pub fn has_penalties(&self) -> bool {
        self.repetition_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }
}

/// The random stream of one trace: ChaCha12 keyed by (seed, problem), stream = trace index, counter = token
/// index. Token i's number does not depend on what was drawn before, so a trace can be taken up anywhere.
#[derive(Clone)]
pub struct Stream(ChaCha12Rng);

impl Stream {
    /// The stream of trace `trace` of problem `problem_id` under `seed`.
    pub fn new(seed: u64, problem_id: &str, trace: u32) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"tts trace stream 1");
        hasher.update(&seed.to_le_bytes());
        hasher.update(problem_id.as_bytes());
        let mut rng = ChaCha12Rng::from_seed(*hasher.finalize().as_bytes());
        rng.set_stream(u64::from(trace));
        Self(rng)
    }

    /// The number in [0, 1) that token `index` is drawn with.
    pub fn uniform(&mut self, index: usize) -> f64 {
        // one block of 16 words for each token
        self.0.set_word_pos(index as u128 * 16);
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What came out of one draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// The token.
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

/// What a row's draw depends on besides its logits.
pub struct Draw<'a> {
    /// Settings of the row.
    pub sampling: &'a Sampling,
    /// In [0, 1).
    pub uniform: f64,
    /// A token that is forced instead of drawn.
    pub forced: Option<u32>,
    /// Ids that may not be drawn.
    pub held: &'a [u32],
    /// Ids that came before with their counts, and whether they stand in the trace (else only in the prompt).
    pub seen: &'a BTreeMap<u32, Seen>,
}

/// How often an id came before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Times in the trace.
    pub generated: u32,
    /// Whether it stands in the prompt.
    pub prompt: bool,
}

/// Weight and id.
type Candidate = (f32, u32);

/// Scratch of one thread's draws.
#[derive(Default)]
pub struct Scratch {
    logits: Vec<f32>,
    candidates: Vec<Candidate>,
    block_sums: Vec<f64>,
}

/// Draws from one row of raw logits `[vocab]`.
///
/// # Errors
/// When the logits are not numbers.
pub fn draw(
    tier: Tier,
    logits: &[f32],
    how: &Draw<'_>,
    scratch: &mut Scratch,
) -> Result<Drawn, BrokenLogits> {
    let seen = scan(tier, logits);
    if seen.broken || seen.kept == 0 {
        return Err(BrokenLogits);
    }
    let id = match how.forced {
        Some(id) => id,
        None => pick(tier, logits, &seen, how, scratch).ok_or(BrokenLogits)?,
    };
    Ok(Drawn {
        id,
        logprob: seen.logprob(logits[id as usize]),
        confidence: seen.confidence(),
        entropy: seen.entropy(),
        self_certainty: seen.self_certainty(),
        top: std::array::from_fn(|i| {
            if i < seen.kept {
                seen.logprob(seen.top[i].0)
            } else {
                f32::NEG_INFINITY
            }
        }),
    })
}

fn pick(tier: Tier, raw: &[f32], seen: &Scan, how: &Draw<'_>, scratch: &mut Scratch) -> Option<u32> {
    let Scratch {
        logits,
        candidates,
        block_sums,
    } = scratch;
    if how.held.is_empty() && !how.sampling.has_penalties() {
        return choose(tier, raw, seen, how, candidates, block_sums);
    }
    logits.clear();
    logits.extend_from_slice(raw);
    let s = how.sampling;
    for (id, count) in how.seen {
        let z = &mut logits[*id as usize];
        let penalty = s.repetition_penalty as f32;
        *z = if *z > 0.0 { *z / penalty } else { *z * penalty };
        if count.generated > 0 {
            *z -= (s.presence_penalty + s.frequency_penalty * f64::from(count.generated)) as f32;
        }
    }
    for id in how.held {
        if let Some(z) = logits.get_mut(*id as usize) {
            *z = f32::NEG_INFINITY;
        }
    }
    let changed = scan(tier, logits);
    if changed.kept == 0 {
        return None;
    }
    choose(tier, logits, &changed, how, candidates, block_sums)
}

fn choose(
    tier: Tier,
    z: &[f32],
    scan: &Scan,
    how: &Draw<'_>,
    candidates: &mut Vec<Candidate>,
    block_sums: &mut Vec<f64>,
) -> Option<u32> {
    let s = how.sampling;
    let (max, best) = (scan.max, scan.top[0].1);
    if s.temperature == 0.0 {
        return Some(best);
    }
    let inverse = (1.0 / s.temperature) as f32;
    let mut block = [0.0f32; WEIGHTS];
    block_sums.clear();
    block_sums.extend(
        z.chunks(WEIGHTS)
            .map(|c| weights(tier, c, max, inverse, &mut block)),
    );
    let total: f64 = block_sums.iter().sum();
    if s.top_k == 0 && s.top_p >= 1.0 && s.min_p == 0.0 {
        return Some(walk(tier, z, max, inverse, how.uniform * total, block_sums, best));
    }
    if s.top_k == 0
        && s.min_p == 0.0
        && let Some(id) = nucleus_of_top(tier, scan, inverse, s.top_p * total, how.uniform)
    {
        return Some(id);
    }
    // candidates by descending weight: everything above a cut that is lowered until it holds enough
    let top_k = if s.top_k == 0 {
        usize::MAX
    } else {
        s.top_k.min(scan.finite)
    };
    for cut in [4.0f32, 8.0, 16.0, 32.0, f32::INFINITY] {
        // no weight above e^-cut lies below max - cut * temperature; a hair lower guards the rounding of that
        // product
        let floor = if cut.is_finite() {
            max - cut * (s.temperature as f32) * 1.000_01
        } else {
            f32::NEG_INFINITY
        };
        candidates.clear();
        for (b, chunk) in z.chunks(WEIGHTS).enumerate() {
            if chunk.iter().any(|z| *z >= floor) {
                weights(tier, chunk, max, inverse, &mut block);
                let first = b * WEIGHTS;
                candidates.extend(
                    chunk
                        .iter()
                        .zip(&block)
                        .enumerate()
                        .filter(|(_, (z, _))| **z >= floor && **z > f32::NEG_INFINITY)
                        .map(|(i, (_, w))| (*w, (first + i) as u32)),
                );
            }
        }
        let mass: f64 = candidates.iter().map(|(w, _)| f64::from(*w)).sum();
        let enough_k = top_k == usize::MAX || candidates.len() >= top_k;
        let enough_p = if top_k == usize::MAX {
            s.top_p >= 1.0 || mass >= s.top_p * total
        } else {
            true
        };
        // with min-p alone, everything above its bar must be there
        let enough_min = s.min_p > 0.0 && f64::from((-cut).exp()) <= s.min_p;
        let enough_all = s.top_p < 1.0 || top_k != usize::MAX || enough_min;
        if cut.is_infinite() || (enough_k && enough_p && enough_all) {
            break;
        }
    }
    // by logit, because rounding may give two logits one weight
    let logit = |c: &Candidate| z[c.1 as usize] + 0.0;
    let rank = |a: &Candidate, b: &Candidate| logit(b).total_cmp(&logit(a)).then(a.1.cmp(&b.1));
    let mass = |c: &[Candidate]| c.iter().map(|(w, _)| f64::from(*w)).sum::<f64>();
    if top_k < candidates.len() {
        candidates.select_nth_unstable_by(top_k - 1, rank);
        candidates.truncate(top_k);
    }
    if s.top_p < 1.0 {
        let pool = if top_k == usize::MAX {
            total
        } else {
            mass(candidates)
        };
        let last = reach(candidates, rank, |sum| sum >= s.top_p * pool);
        candidates.truncate(last + 1);
    }
    if s.min_p > 0.0 {
        let most = candidates.iter().map(|(w, _)| *w).fold(0.0, f32::max);
        let bar = s.min_p * f64::from(most);
        candidates.retain(|(w, _)| f64::from(*w) >= bar);
    }
    let target = how.uniform * mass(candidates);
    let at = reach(candidates, rank, |sum| sum > target);
    let (weight, id) = candidates[at];
    Some(if weight > 0.0 { id } else { best })
}

/// The id that `uniform` draws from the fewest likeliest ids whose weights reach `wanted`, where these are
/// among those that the scan found.
fn nucleus_of_top(tier: Tier, scan: &Scan, inverse: f32, wanted: f64, uniform: f64) -> Option<u32> {
    let top = &scan.top[..scan.kept];
    let mut z = [f32::NEG_INFINITY; TOP];
    z.iter_mut().zip(top).for_each(|(z, entry)| *z = entry.0);
    let mut weight = [0.0; WEIGHTS];
    weights(tier, &z[..top.len()], scan.max, inverse, &mut weight);
    let running = |enough: &dyn Fn(f64) -> bool| {
        let mut sum = 0.0;
        weight[..top.len()].iter().position(|w| {
            sum += f64::from(*w);
            enough(sum)
        })
    };
    // sums of weights that are not smaller are exact, whatever their order
    let last = running(&|sum| sum >= wanted).filter(|last| weight[*last] >= f32::EPSILON)?;
    let mass: f64 = weight[..=last].iter().map(|w| f64::from(*w)).sum();
    let at = running(&|sum| sum > uniform * mass).map_or(last, |at| at.min(last));
    Some(top[at].1)
}

/// Moves to the front what comes before the candidate at which the running weight, in order of rank, has
/// reached enough (the last one if it never does), and returns where that one then is. Linear in the number
/// of candidates: a flat distribution has a hundred thousand of them.
fn reach(
    candidates: &mut [Candidate],
    rank: impl Fn(&Candidate, &Candidate) -> Ordering,
    enough: impl Fn(f64) -> bool,
) -> usize {
    let (mut from, mut to, mut before) = (0, candidates.len(), 0.0);
    while to - from > 32 {
        let middle = from + (to - from) / 2;
        candidates[from..to].select_nth_unstable_by(middle - from, &rank);
        let sum: f64 = candidates[from..middle].iter().map(|(w, _)| f64::from(*w)).sum();
        if enough(before + sum) {
            to = middle;
        } else {
            (from, before) = (middle, before + sum);
        }
    }
    candidates[from..to].sort_unstable_by(&rank);
    for (i, (w, _)) in candidates[from..to].iter().enumerate() {
        before += f64::from(*w);
        if enough(before) {
            return from + i;
        }
    }
    to - 1
}

/// The id at which the running sum of weights, in id order, passes `target`.
fn walk(tier: Tier, z: &[f32], max: f32, inverse: f32, target: f64, block_sums: &[f64], best: u32) -> u32 {
    let mut left = target;
    let mut block = [0.0f32; WEIGHTS];
    for (b, sum) in block_sums.iter().enumerate() {
        if left >= *sum {
            left -= sum;
            continue;
        }
        let chunk = &z[b * WEIGHTS..z.len().min((b + 1) * WEIGHTS)];
        weights(tier, chunk, max, inverse, &mut block);
        let mut last = None;
        for (i, w) in block[..chunk.len()].iter().enumerate() {
            if *w > 0.0 {
                last = Some((b * WEIGHTS + i) as u32);
            }
            left -= f64::from(*w);
            if left < 0.0 {
                return (b * WEIGHTS + i) as u32;
            }
        }
        // the block's vector sum and its one by one sum differ by rounding
        if let Some(last) = last {
            return last;
        }
    }
    best
}
