//! One pass over a row of raw logits: everything that confidence and the draw need to know.

#![allow(
    unsafe_code,
    reason = "vector instructions run over pointers that the safe functions here have checked"
)]

use super::simd::{Simd, Tier, tiers};

/// Largest logits that confidence averages over (DeepConf, arXiv 2508.15260, section 2).
pub const TOP: usize = 20;

/// Elements between two looks at the running maximum.
const BLOCK: usize = 256;
/// Elements of the widest tier's vectors.
const LANES: usize = 16;

/// What one pass over raw logits `[vocab]` finds.
#[derive(Clone, Copy, Debug)]
pub struct Scan {
    /// The largest logit, raw.
    pub max: f32,
    /// Natural logarithm of the sum of exponentials.
    pub logsumexp: f64,
    /// The largest logits with their ids, largest first, of equal ones the lowest id first; `[..kept]` are
    /// set.
    pub top: [(f32, u32); TOP],
    /// How many entries of `top` are finite logits.
    pub kept: usize,
    /// Whether a logit is NaN or +inf.
    pub broken: bool,
    /// Logits that are not -inf.
    pub finite: usize,
    /// Sum of the finite logits.
    pub sum: f64,
    /// Expectation of the logit under the softmax.
    pub mean_logit: f64,
}

impl Scan {
    /// `C = logsumexp(z) - mean(TOP largest z)`, in nats; with fewer finite logits, over those.
    pub fn confidence(&self) -> f32 {
        if self.kept == 0 {
            return f32::NAN;
        }
        let mean = self.top[..self.kept]
            .iter()
            .map(|(z, _)| f64::from(*z))
            .sum::<f64>()
            / self.kept as f64;
        (self.logsumexp - mean) as f32
    }
    /// Natural logarithm of the probability of an id whose logit is `z`.
    pub fn logprob(&self, z: f32) -> f32 {
        (f64::from(z) - self.logsumexp) as f32
    }
    /// Entropy of the distribution in nats.
    pub fn entropy(&self) -> f32 {
        (self.logsumexp - self.mean_logit) as f32
    }
    /// Self-certainty of the distribution (arXiv 2502.18581): `-(1/V) sum_j log p_j - log V` over the finite
    /// logits, in nats.
    pub fn self_certainty(&self) -> f32 {
        let v = self.finite as f64;
        (self.logsumexp - self.sum / v - v.ln()) as f32
    }
}

/// Scans a row of raw logits.
pub fn scan(tier: Tier, logits: &[f32]) -> Scan {
    let mut scan = Scan {
        max: f32::NEG_INFINITY,
        logsumexp: f64::NEG_INFINITY,
        top: [(f32::NEG_INFINITY, u32::MAX); TOP],
        kept: 0,
        broken: false,
        finite: 0,
        sum: 0.0,
        mean_logit: 0.0,
    };
    // running sums of e^(z - max) and z e^(z - max), rescaled when the maximum grows
    let (mut total, mut weighted) = (0.0f64, 0.0f64);
    let mut tail = [f32::NEG_INFINITY; BLOCK];
    for (index, block) in logits.chunks(BLOCK).enumerate() {
        let block = padded(block, &mut tail);
        // SAFETY: a block is whole vectors
        let top = unsafe { block_max(tier, block.as_ptr(), block.len()) };
        if top.is_nan() || top == f32::INFINITY {
            scan.broken = true;
            return scan;
        }
        if top == f32::NEG_INFINITY {
            continue;
        }
        if top > scan.max {
            let scale = f64::from(scan.max - top).exp();
            (total, weighted) = (total * scale, weighted * scale);
            scan.max = top;
        }
        // SAFETY: as above
        let sums = unsafe { block_sums(tier, block.as_ptr(), block.len(), scan.max) };
        total += f64::from(sums.total);
        weighted += f64::from(sums.weighted);
        scan.sum += f64::from(sums.plain);
        scan.finite += sums.finite as usize;
        // SAFETY: as above
        if top > scan.top[TOP - 1].0 && (index > 0 || !unsafe { lead(tier, block, &mut scan.top) }) {
            insert(&mut scan, block, (index * BLOCK) as u32);
        }
    }
    if scan.finite > 0 {
        scan.logsumexp = f64::from(scan.max) + total.ln();
        scan.mean_logit = weighted / total;
    }
    scan.kept = scan
        .top
        .iter()
        .take_while(|(z, _)| *z > f32::NEG_INFINITY)
        .count();
    scan
}

/// A block of up to [`BLOCK`] logits as whole vectors of any tier, in `room` where it is not; there -inf,
/// which counts nowhere, fills it up.
fn padded<'a>(block: &'a [f32], room: &'a mut [f32; BLOCK]) -> &'a [f32] {
    let len = block.len().next_multiple_of(LANES);
    if len == block.len() {
        return block;
    }
    room[..block.len()].copy_from_slice(block);
    room[block.len()..len].fill(f32::NEG_INFINITY);
    &room[..len]
}

/// Most logits that are ranked against each other.
const RANKED: usize = 3 * LANES;

/// The entries of `top` from the first block, without the many moves that inserting its logits one by one
/// takes; false, and nothing done, where too few of them are finite or too many may be among the largest.
///
/// # Safety
/// The tier's instructions are there.
#[inline(always)]
unsafe fn lead_body<S: Simd>(block: &[f32], top: &mut [(f32, u32); TOP]) -> bool {
    // the TOPth largest of the maxima of disjoint parts: at least as many logits reach it
    let mut most = [f32::NEG_INFINITY; 2 * LANES];
    for part in block.chunks(most.len()) {
        most.iter_mut()
            .zip(part)
            .for_each(|(most, z)| *most = if *z > *most { *z } else { *most });
    }
    let mut above = [0; 2 * LANES];
    for a in most {
        above
            .iter_mut()
            .zip(&most)
            .for_each(|(above, b)| *above += i32::from(a > *b));
    }
    let among = most.iter().zip(above).filter(|(_, above)| *above < TOP as i32);
    let bound = among.fold(f32::INFINITY, |bound, (z, _)| bound.min(*z));
    if bound == f32::NEG_INFINITY {
        return false;
    }
    let (mut found, mut places, mut count) = ([f32::NEG_INFINITY; RANKED], [0; RANKED], 0);
    for (i, z) in block.iter().enumerate() {
        if *z >= bound {
            if count == RANKED {
                return false;
            }
            (found[count], places[count]) = (*z, i as u32);
            count += 1;
        }
    }
    // how many are larger, or as large and before
    let mut rank = [0; RANKED];
    for (i, a) in found[..count].iter().enumerate() {
        for (j, (rank, b)) in rank.iter_mut().zip(&found).enumerate() {
            *rank += i32::from((*a > *b) | ((*a == *b) & (i < j)));
        }
    }
    for ((z, place), rank) in found.iter().zip(places).zip(rank).take(count) {
        if let Some(entry) = top.get_mut(rank as usize) {
            *entry = (*z, place);
        }
    }
    true
}
tiers!(fn lead = lead_body(block: &[f32], top: &mut [(f32, u32); TOP]) -> bool);

fn insert(scan: &mut Scan, block: &[f32], first: u32) {
    for (i, z) in block.iter().enumerate() {
        if *z > scan.top[TOP - 1].0 {
            let mut at = TOP - 1;
            // strictly greater: among equals the lower id, seen first, stays in front
            while at > 0 && *z > scan.top[at - 1].0 {
                scan.top[at] = scan.top[at - 1];
                at -= 1;
            }
            scan.top[at] = (*z, first + i as u32);
        }
    }
}

/// Maximum of a block; NaN if there is one, +inf if there is one.
#[inline(always)]
unsafe fn block_max_body<S: Simd>(block: *const f32, len: usize) -> f32 {
    unsafe {
        let mut top = S::splat(f32::NEG_INFINITY);
        // a NaN times zero is NaN, an infinity times zero too; a finite number gives zero
        let mut poison = S::splat(0.0);
        for i in (0..len).step_by(S::LANES) {
            let z = S::load(block.add(i));
            top = S::max(top, z);
            let capped = S::max(S::splat(f32::MIN), z);
            poison = S::fma(capped, S::splat(0.0), poison);
        }
        let poison = S::sum(poison);
        if poison == 0.0 { S::hmax(top) } else { f32::NAN }
    }
}
tiers!(fn block_max = block_max_body(block: *const f32, len: usize) -> f32);

#[derive(Clone, Copy)]
struct Sums {
    total: f32,
    weighted: f32,
    plain: f32,
    finite: f32,
}

#[inline(always)]
unsafe fn block_sums_body<S: Simd>(block: *const f32, len: usize, max: f32) -> Sums {
    unsafe {
        let (mut total, mut weighted, mut plain, mut finite) =
            (S::splat(0.0), S::splat(0.0), S::splat(0.0), S::splat(0.0));
        let lowest = S::splat(f32::MIN);
        for i in (0..len).step_by(S::LANES) {
            let z = S::load(block.add(i));
            let e = S::exp(S::sub(z, S::splat(max)));
            // -inf counts nowhere
            let counted = S::zero_below(z, lowest, z);
            total = S::add(total, e);
            weighted = S::fma(e, counted, weighted);
            plain = S::add(plain, counted);
            finite = S::add(finite, S::zero_below(z, lowest, S::splat(1.0)));
        }
        Sums {
            total: S::sum(total),
            weighted: S::sum(weighted),
            plain: S::sum(plain),
            finite: S::sum(finite),
        }
    }
}
tiers!(fn block_sums = block_sums_body(block: *const f32, len: usize, max: f32) -> Sums);

/// Sum of `weight(z)` over a block of up to [`WEIGHTS`] logits, and the weights themselves: `e^((z - max) /
/// temperature)`.
pub(crate) fn weights(
    tier: Tier,
    block: &[f32],
    max: f32,
    inverse_temperature: f32,
    out: &mut [f32; WEIGHTS],
) -> f64 {
    let mut room = [f32::NEG_INFINITY; BLOCK];
    let block = padded(block, &mut room);
    // SAFETY: a block is whole vectors, of which both arrays have room for WEIGHTS elements
    unsafe {
        f64::from(weigh(
            tier,
            block.as_ptr(),
            block.len(),
            max,
            inverse_temperature,
            out.as_mut_ptr(),
        ))
    }
}

/// Logits that are weighed at a time.
pub(crate) const WEIGHTS: usize = BLOCK;

#[inline(always)]
unsafe fn weigh_body<S: Simd>(block: *const f32, len: usize, max: f32, inverse: f32, out: *mut f32) -> f32 {
    unsafe {
        let mut total = S::splat(0.0);
        for i in (0..len).step_by(S::LANES) {
            let e = S::exp(S::mul(
                S::sub(S::load(block.add(i)), S::splat(max)),
                S::splat(inverse),
            ));
            S::store(out.add(i), e);
            total = S::add(total, e);
        }
        S::sum(total)
    }
}
tiers!(fn weigh = weigh_body(block: *const f32, len: usize, max: f32, inverse: f32, out: *mut f32) -> f32);

#[cfg(test)]
mod tests {
    use super::*;

    fn value(seed: usize, i: usize) -> f32 {
        (((i * 7919 + seed * 104_729) % 10_007) as f32 / 10_007.0 - 0.5) * 30.0
    }

    #[test]
    fn a_scan_equals_the_definitions() {
        for tier in Tier::available() {
            for (n, distinct) in [1usize, 5, 20, 21, 33, 134, 255, 256, 257, 5000]
                .into_iter()
                .flat_map(|n| [(n, n), (n, n.div_ceil(7)), (n, 2)])
            {
                let z: Vec<f32> = (0..n).map(|i| value(n, i % distinct)).collect();
                let s = scan(tier, &z);
                let max = z.iter().copied().fold(f32::MIN, f32::max);
                let lse = f64::from(max) + z.iter().map(|z| f64::from(z - max).exp()).sum::<f64>().ln();
                assert!((s.logsumexp - lse).abs() < 1e-6, "{tier} {n}");
                let mut order: Vec<usize> = (0..n).collect();
                order.sort_by(|a, b| z[*b].total_cmp(&z[*a]).then(a.cmp(b)));
                for (k, i) in order.iter().take(TOP).enumerate() {
                    assert_eq!(s.top[k], (z[*i], *i as u32));
                }
                let k = n.min(TOP);
                let mean = order[..k].iter().map(|i| f64::from(z[*i])).sum::<f64>() / k as f64;
                assert!((f64::from(s.confidence()) - (lse - mean)).abs() < 1e-5);
                let entropy: f64 = z.iter().map(|z| f64::from(*z) - lse).map(|l| -l * l.exp()).sum();
                assert!((f64::from(s.entropy()) - entropy).abs() < 1e-4);
                let certainty =
                    -z.iter().map(|z| f64::from(*z) - lse).sum::<f64>() / n as f64 - (n as f64).ln();
                assert!((f64::from(s.self_certainty()) - certainty).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn masks_count_nowhere_and_broken_logits_are_seen() {
        for tier in Tier::available() {
            let mut z: Vec<f32> = (0..300).map(|i| value(1, i)).collect();
            z.iter_mut().skip(7).for_each(|z| *z = f32::NEG_INFINITY);
            let s = scan(tier, &z);
            assert_eq!((s.kept, s.finite, s.broken), (7, 7, false));
            assert!(s.confidence().is_finite() && s.entropy().is_finite() && s.self_certainty().is_finite());
            for bad in [f32::NAN, f32::INFINITY] {
                for at in [0, 299] {
                    let mut z = z.clone();
                    z[at] = bad;
                    assert!(scan(tier, &z).broken, "{tier} {bad} at {at}");
                }
            }
            let s = scan(tier, &[f32::NEG_INFINITY; 40]);
            assert_eq!((s.kept, s.broken), (0, false));
        }
    }
}
