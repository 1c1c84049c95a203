use super::*;
use crate::cpu::linear::WeightFormat;
use crate::weights::{Dtype, RawTensor, dequantize_row};

/// Numbers in -1..1 that depend on nothing but their place.
fn value(seed: usize, i: usize) -> f32 {
    let mut x = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (seed as u64).wrapping_mul(0xd1b5_4a32_d192_ed03);
    x ^= x >> 29;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 32;
    (x >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// Rows of a stored type with every code, and scales of ordinary size.
fn stored(dtype: Dtype, n: usize, k: usize) -> Vec<u8> {
    let len = dtype.row_bytes(k) * n;
    let mut bytes: Vec<u8> = match dtype {
        Dtype::F32 => (0..n * k).flat_map(|i| value(1, i).to_le_bytes()).collect(),
        Dtype::F16 => (0..n * k)
            .flat_map(|i| half::f16::from_f32(value(1, i)).to_le_bytes())
            .collect(),
        Dtype::BF16 => (0..n * k)
            .flat_map(|i| half::bf16::from_f32(value(1, i)).to_le_bytes())
            .collect(),
        _ => (0..len).map(|i| (value(2, i) * 128.0 + 128.0) as u8).collect(),
    };
    let halves: &[usize] = match dtype {
        Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::Mxfp4 => &[],
        Dtype::Q8_0 | Dtype::Q4_0 | Dtype::Q5_0 => &[0],
        Dtype::Q6K => &[208],
        _ => &[0, 2],
    };
    for (b, block) in bytes.chunks_exact_mut(dtype.block_bytes()).enumerate() {
        for at in halves {
            block[*at..][..2].copy_from_slice(&half::f16::from_f32(value(3, b + at) * 0.01).to_le_bytes());
        }
        if dtype == Dtype::Mxfp4 {
            block[0] = (117 + b % 13) as u8;
        }
    }
    bytes
}

/// Such rows, and what they are packed to in their own format.
fn weights(dtype: Dtype, n: usize, k: usize) -> (Vec<u8>, Linear) {
    let bytes = stored(dtype, n, k);
    let raw = RawTensor {
        name: String::new(),
        dtype,
        shape: vec![n, k],
        bytes: (&bytes[..]).into(),
    };
    let packed = Linear::pack(&raw, WeightFormat::Auto);
    (bytes, packed)
}

fn rows(count: usize, k: usize) -> Rows {
    let mut x = Rows::zeroed(count, k);
    for r in 0..count {
        for (j, v) in x.row_mut(r).iter_mut().enumerate() {
            *v = value(7, r * k + j) * (1.0 + r as f32);
        }
    }
    x
}

fn product(tier: Tier, threads: usize, x: &Rows, w: &Linear) -> Rows {
    let mut out = Rows::zeroed(x.rows(), w.n());
    matmul(
        &mut ThreadPool::new(threads, tier),
        &mut Scratch::new(threads),
        [Job::store(x, w, &mut out)],
    );
    out
}

/// What a product's input is after rounding, in f64.
fn rounded_input(kind: Option<Kind>, row: &[f32]) -> Vec<f64> {
    match kind {
        None => row.iter().map(|v| f64::from(*v)).collect(),
        Some(Kind::Bf16) => row
            .iter()
            .map(|v| f64::from(half::bf16::from_f32(*v).to_f32()))
            .collect(),
        Some(Kind::Int8) => {
            let scaled = |group: &[f32]| {
                let step = group.iter().fold(0f32, |m, v| m.max(v.abs())) / 127.0;
                group
                    .iter()
                    .map(|v| f64::from(step) * f64::from((v * (1.0 / step)).round_ties_even()))
                    .collect::<Vec<_>>()
            };
            row.chunks(32).flat_map(scaled).collect()
        }
    }
}

/// What a product reads of a weight.
fn read(kind: Option<Kind>, dtype: Dtype, weight: f32) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if dtype.is_quantized() && kind == Some(Kind::Bf16) {
        return f32::from_bits((weight * widen::GROWTH).to_bits() & 0xffff_0000);
    }
    let _ = (kind, dtype);
    weight
}

#[test]
fn every_format_multiplies_its_own_weights_on_every_tier() {
    for dtype in Dtype::ALL {
        let (n, k) = (70, if dtype.is_quantized() { 768 } else { 701 });
        let (bytes, w) = weights(dtype, n, k);
        let x = rows(15, k);
        for tier in Tier::available() {
            let out = product(tier, 2, &x, &w);
            let kind = rounding(tier, &w);
            // the last bit of a weight that is made of its code in another order may be another
            let near = if dtype.is_quantized() && kind == Some(Kind::Bf16) {
                1e-4
            } else {
                2e-6
            };
            for r in 0..x.rows() {
                let input = rounded_input(kind, x.row(r));
                for j in 0..n {
                    let mut weights = vec![0.0; k];
                    dequantize_row(
                        dtype,
                        &bytes[j * dtype.row_bytes(k)..][..dtype.row_bytes(k)],
                        &mut weights,
                    );
                    let mut unpacked = vec![0.0; k];
                    w.row(j, 1.0, &mut unpacked);
                    assert_eq!(weights, unpacked, "{dtype}");
                    weights.iter_mut().for_each(|w| *w = read(kind, dtype, *w));
                    let slow: f64 = weights.iter().zip(&input).map(|(w, x)| f64::from(*w) * x).sum();
                    let size: f64 = weights
                        .iter()
                        .zip(&input)
                        .map(|(w, x)| (f64::from(*w) * x).abs())
                        .sum();
                    let off = (f64::from(out.row(r)[j]) - slow).abs();
                    assert!(
                        off <= near * size,
                        "{dtype} {tier} row {r} column {j}: off by {off} of {size}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_row_is_the_same_in_every_batch() {
    for dtype in Dtype::ALL {
        let (n, k) = (100, 768);
        let (_, w) = weights(dtype, n, k);
        let all = rows(131, k);
        for tier in Tier::available() {
            let whole = product(tier, 1, &all, &w);
            for count in [1, 2, 3, 7, 33, 97] {
                for threads in [1, 2] {
                    let mut x = Rows::zeroed(count, k);
                    for r in 0..count {
                        x.row_mut(r).copy_from_slice(all.row(131 - count + r));
                    }
                    let part = product(tier, threads, &x, &w);
                    for r in 0..count {
                        assert_eq!(
                            part.row(r),
                            whole.row(131 - count + r),
                            "{dtype} {tier} {count} rows"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn quantised_products_do_not_depend_on_the_width_of_vectors() {
    let fused: Vec<_> = Tier::available()
        .into_iter()
        .filter(|t| *t != Tier::Portable && *t != Tier::Amx)
        .collect();
    for dtype in Dtype::ALL.into_iter().filter(|d| d.is_quantized()) {
        let (_, w) = weights(dtype, 40, 512);
        let x = rows(41, 512);
        for tier in &fused {
            let (a, b) = (product(fused[0], 1, &x, &w), product(*tier, 1, &x, &w));
            assert!((0..41).all(|r| a.row(r) == b.row(r)), "{dtype} {tier}");
        }
    }
}

/// Numbers of 6 times inputs of 127 steps: sums of 16 bits are folded before they overflow.
#[test]
fn the_largest_numbers_of_a_table_fit_into_sums() {
    let k = 768;
    for (byte, sign) in [(0x77, 1.0), (0xff, -1.0)] {
        let block = [&[127][..], &[byte; 16]].concat();
        let raw = RawTensor {
            name: String::new(),
            dtype: Dtype::Mxfp4,
            shape: vec![32, k],
            bytes: block.repeat(32 * k / 32).into(),
        };
        let w = Linear::pack(&raw, WeightFormat::Auto);
        let mut x = Rows::zeroed(41, k);
        (0..41).for_each(|r| x.row_mut(r).fill(1.0));
        for tier in Tier::available() {
            let out = product(tier, 1, &x, &w);
            let exact = sign * 6.0 * k as f32;
            let near = |v: &f32| (v - exact).abs() < 1e-4 * exact.abs();
            assert!(
                (0..41).all(|r| out.row(r).iter().all(near)),
                "{tier} {:?}",
                out.row(0)
            );
        }
    }
}

#[test]
fn what_is_not_a_number_stays_so() {
    for dtype in [Dtype::BF16, Dtype::Q8_0, Dtype::Q4K, Dtype::Mxfp4] {
        let (_, w) = weights(dtype, 32, 512);
        for tier in Tier::available() {
            for bad in [f32::NAN, f32::from_bits(0x7f80_0001), f32::INFINITY] {
                let mut x = rows(2, 512);
                x.row_mut(0)[300] = bad;
                let out = product(tier, 1, &x, &w);
                assert!(out.row(0).iter().all(|v| !v.is_finite()), "{dtype} {tier} {bad}");
                assert!(out.row(1).iter().all(|v| v.is_finite()), "{dtype} {tier} {bad}");
            }
        }
    }
}

#[test]
fn weights_that_are_no_numbers_show() {
    let k = 512;
    for dtype in [Dtype::Q8_0, Dtype::Q4_0, Dtype::Q4K] {
        for scale in [0x7fffu16, 0xffff, 0x7e00, 0x7c00, 0xfc00] {
            let mut bytes = stored(dtype, 40, k);
            // the second block of row 33
            let block = 33 * dtype.row_bytes(k) + dtype.block_bytes();
            bytes[block..][..2].copy_from_slice(&scale.to_le_bytes());
            let raw = RawTensor {
                name: String::new(),
                dtype,
                shape: vec![40, k],
                bytes: bytes.into(),
            };
            let w = Linear::pack(&raw, WeightFormat::Auto);
            let x = rows(40, k);
            for tier in Tier::available() {
                let out = product(tier, 1, &x, &w);
                for r in 0..40 {
                    let strange = |j: usize| !out.row(r)[j].is_finite();
                    assert!(strange(33), "{dtype} {tier} {scale:x} row {r}");
                    assert!(
                        !(0..33).chain(34..40).any(strange),
                        "{dtype} {tier} {scale:x} row {r}"
                    );
                }
            }
        }
    }
}
