//! Draws a token from a row of raw logits, and reads the confidence of the distribution it was drawn from.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::cpu::kernels::Tier;
use crate::cpu::kernels::sample::{Scan, TOP, WEIGHTS, scan, weights};
use crate::sampling::{BrokenLogits, Drawn, Sampling};

/// What a row's draw depends on besides its logits.
pub struct Draw<'a> {
    /// Settings of the row.
    pub sampling: &'a Sampling,
    /// The uniform number in [0, 1) that decides the draw.
    pub uniform: f64,
    /// A token that is forced instead of drawn.
    pub forced: Option<u32>,
    /// Ids that may not be drawn.
    pub banned_ids: &'a [u32],
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
    if how.banned_ids.is_empty() && !how.sampling.has_penalties() {
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
    for id in how.banned_ids {
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
