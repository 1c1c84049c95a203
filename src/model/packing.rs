//! How weights lie in memory: panels of [`WIDTH`] outputs, so that a product reads each of them once from end to end.

use super::kernels::buf::{Buf, PAD};
use super::weights::codes::{Codes, Format, Scales};
use super::weights::{Dtype, RawTensor, dequantize_row, f16_to_f32};

/// Outputs in a panel.
pub(crate) const WIDTH: usize = PAD;

/// Panels of `[n, k]` weights.
pub(crate) enum Storage {
    /// `[panel][k][WIDTH]`
    F32(Buf),
    /// `[panel][k][WIDTH]` of f16
    F16(Buf),
    /// `[panel][ceil(k / 2)][WIDTH][2]` of bf16
    Bf16(Buf),
    /// `[panel][block]`, see [`Codebook`]
    Codes(Codebook),
}

/// Blocks of small integers with their scales. A block of a panel holds, each for [`WIDTH`] outputs: the f16 scale, the f16 minimum if the
/// format has minima, the groups' scales and minima if they are integers, and the codes as `[group][step][WIDTH][4]`: four consecutive
/// elements of every output. Of codes below 8 bits the low nibbles come first, a byte for a step and the next (which has the high half), then
/// all that is above them as `[WIDTH][4]`: byte i holds the bits of element i of every step, the first step's lowest.
pub(crate) struct Codebook {
    pub(crate) dtype: Dtype,
    pub(crate) format: Format,
    pub(crate) data: Buf,
}

impl Codebook {
    /// Bytes of a block's header.
    pub(crate) fn header(format: &Format) -> usize {
        let halves = if format.minima { 2 } else { 1 };
        let integers = match format.scales {
            Scales::Block => 0,
            _ => format.groups() * halves,
        };
        WIDTH * (2 * halves + integers)
    }
    /// Bytes of a group's codes.
    pub(crate) fn group_bytes(format: &Format) -> usize {
        format.group * WIDTH * format.bits / 8
    }
    /// Bytes of a block.
    pub(crate) fn block_bytes(format: &Format) -> usize {
        Self::header(format) + format.groups() * Self::group_bytes(format)
    }
}

/// Packs the rows of `raw`, `[n, k]`, as plain numbers of `to` (`F32`, `F16` or `BF16`).
pub(crate) fn plain(raw: &RawTensor<'_>, to: Dtype) -> Storage {
    let (n, k) = (raw.shape[0], raw.shape[1]);
    let panels = n.div_ceil(WIDTH);
    let row = |i: usize| row_bytes(raw, i);
    match to {
        Dtype::BF16 => {
            let pairs = k.div_ceil(2);
            let mut out = Buf::zeroed(panels * pairs * WIDTH);
            if raw.dtype == Dtype::BF16 {
                let pair = |row: &[u8], p: usize| match row[4 * p..] {
                    [a, b, c, d, ..] => u32::from_le_bytes([a, b, c, d]),
                    [a, b, ..] => u32::from_le_bytes([a, b, 0, 0]),
                    _ => 0,
                };
                interleave(out.words_mut(), n, pairs, row, pair);
            } else {
                let mut values = vec![0.0; k + 1];
                for i in 0..n {
                    dequantize_row(raw.dtype, row(i), &mut values[..k]);
                    let panel = &mut out.words_mut()[i / WIDTH * pairs * WIDTH + i % WIDTH..];
                    for (p, pair) in values.chunks_exact(2).enumerate() {
                        let [a, b] = [pair[0], pair[1]].map(|v| u32::from(half::bf16::from_f32(v).to_bits()));
                        panel[p * WIDTH] = a | b << 16;
                    }
                }
            }
            Storage::Bf16(out)
        }
        Dtype::F16 => {
            let mut out = Buf::zeroed(panels * k * WIDTH / 2);
            let (halves, _) = out.bytes_mut().as_chunks_mut::<2>();
            interleave(halves, n, k, row, |row, j| [row[2 * j], row[2 * j + 1]]);
            Storage::F16(out)
        }
        _ => {
            let mut out = Buf::zeroed(panels * k * WIDTH);
            if raw.dtype == Dtype::F32 {
                interleave(out.words_mut(), n, k, row, |row, j| {
                    u32::from_le_bytes([row[4 * j], row[4 * j + 1], row[4 * j + 2], row[4 * j + 3]])
                });
            } else {
                let mut values = vec![0.0; k];
                for i in 0..n {
                    dequantize_row(raw.dtype, row(i), &mut values);
                    let panel = &mut out[i / WIDTH * k * WIDTH + i % WIDTH..];
                    for (j, v) in values.iter().enumerate() {
                        panel[j * WIDTH] = *v;
                    }
                }
            }
            Storage::F32(out)
        }
    }
}

fn row_bytes<'a>(raw: &RawTensor<'a>, i: usize) -> &'a [u8] {
    let bytes = raw.dtype.row_bytes(raw.shape[1]);
    &raw.bytes[i * bytes..][..bytes]
}

/// `out[panel][j][i % WIDTH] = element(row i, j)`, in tiles that stay in the first-level cache.
fn interleave<'a, T>(out: &mut [T], n: usize, k: usize, row: impl Fn(usize) -> &'a [u8], element: impl Fn(&[u8], usize) -> T) {
    const TILE: usize = 16;
    for (p, panel) in out.chunks_mut(k * WIDTH).enumerate() {
        let rows = p * WIDTH..n.min((p + 1) * WIDTH);
        for start in (0..k).step_by(TILE) {
            for i in rows.clone() {
                let bytes = row(i);
                for j in start..k.min(start + TILE) {
                    panel[j * WIDTH + i % WIDTH] = element(bytes, j);
                }
            }
        }
    }
}

/// Packs rows of whole blocks; `bytes` are the rows of `[n, k]` one after the other.
pub(crate) fn codes(dtype: Dtype, format: Format, bytes: &[u8], n: usize, k: usize) -> Storage {
    let (blocks, panels) = (k / format.block, n.div_ceil(WIDTH));
    let (unit, row_bytes) = (Codebook::block_bytes(&format), dtype.row_bytes(k));
    let mut data = Buf::zeroed((panels * blocks * unit).div_ceil(size_of::<f32>()));
    let mut block = Codes::default();
    for (p, panel) in data.bytes_mut().chunks_exact_mut((blocks * unit).max(1)).enumerate() {
        for (b, out) in panel.chunks_exact_mut(unit).enumerate() {
            for lane in 0..WIDTH.min(n - p * WIDTH) {
                let row = &bytes[(p * WIDTH + lane) * row_bytes..][..row_bytes];
                block.read(dtype, &row[b * dtype.block_bytes()..][..dtype.block_bytes()]);
                place(&block, &format, lane, out);
            }
        }
    }
    Storage::Codes(Codebook { dtype, format, data })
}

/// Writes one output's block into its lane of a panel's block.
fn place(block: &Codes, format: &Format, lane: usize, out: &mut [u8]) {
    let (head, codes) = out.split_at_mut(Codebook::header(format));
    let (halves, integers) = head.split_at_mut(if format.minima { 4 * WIDTH } else { 2 * WIDTH });
    halves[2 * lane..][..2].copy_from_slice(&block.scale.to_le_bytes());
    if format.minima {
        halves[2 * (WIDTH + lane)..][..2].copy_from_slice(&block.minimum.to_le_bytes());
    }
    for (g, line) in integers.chunks_exact_mut(WIDTH).enumerate() {
        line[lane] = if g < format.groups() {
            block.scales[g]
        } else {
            block.minima[g - format.groups()]
        };
    }
    let groups = block.codes[..format.block].chunks_exact(format.group);
    for (values, out) in groups.zip(codes.chunks_exact_mut(Codebook::group_bytes(format))) {
        let at = |line: usize| (line * WIDTH + lane) * 4;
        if format.bits == 8 {
            for (step, four) in values.chunks_exact(4).enumerate() {
                out[at(step)..][..4].copy_from_slice(four);
            }
            continue;
        }
        for (pair, eight) in values.chunks_exact(8).enumerate() {
            for (i, byte) in out[at(pair)..][..4].iter_mut().enumerate() {
                *byte = (eight[i] & 15) | eight[4 + i] << 4;
            }
        }
        let high = format.bits - 4;
        if high > 0 {
            let bits = &mut out[at(format.group / 8)..][..4];
            for (step, four) in values.chunks_exact(4).enumerate() {
                bits.iter_mut()
                    .zip(four)
                    .for_each(|(byte, code)| *byte |= (code >> 4) << (high * step));
            }
        }
    }
}

/// Row `i` of `[.., k]` weights as f32.
pub(crate) fn row(storage: &Storage, k: usize, i: usize, out: &mut [f32]) {
    let (panel, lane) = (i / WIDTH, i % WIDTH);
    match storage {
        Storage::F32(p) => out.iter_mut().enumerate().for_each(|(j, o)| *o = p[(panel * k + j) * WIDTH + lane]),
        Storage::F16(p) => {
            let (halves, _) = p.bytes().as_chunks::<2>();
            for (j, o) in out.iter_mut().enumerate() {
                *o = f16_to_f32(u16::from_le_bytes(halves[(panel * k + j) * WIDTH + lane]));
            }
        }
        Storage::Bf16(p) => {
            let first = panel * k.div_ceil(2) * WIDTH + lane;
            for (pair, o) in out.chunks_mut(2).enumerate() {
                let bits = p[first + pair * WIDTH].to_bits();
                o[0] = f32::from_bits(bits << 16);
                if let Some(second) = o.get_mut(1) {
                    *second = f32::from_bits(bits & 0xffff_0000);
                }
            }
        }
        Storage::Codes(book) => {
            let format = &book.format;
            let unit = Codebook::block_bytes(format);
            let first = panel * (k / format.block) * unit;
            let mut block = Codes::default();
            for (bytes, o) in book.data.bytes()[first..]
                .chunks_exact(unit)
                .zip(out.chunks_exact_mut(format.block))
            {
                take(bytes, format, lane, &mut block);
                block.to_f32(book.dtype, o);
            }
        }
    }
}

/// What [`place`] wrote.
fn take(bytes: &[u8], format: &Format, lane: usize, block: &mut Codes) {
    let (head, codes) = bytes.split_at(Codebook::header(format));
    let (halves, integers) = head.split_at(if format.minima { 4 * WIDTH } else { 2 * WIDTH });
    let half = |i: usize| u16::from_le_bytes([halves[2 * i], halves[2 * i + 1]]);
    (block.scale, block.minimum) = (half(lane), if format.minima { half(WIDTH + lane) } else { 0 });
    for (g, line) in integers.chunks_exact(WIDTH).enumerate() {
        if g < format.groups() {
            block.scales[g] = line[lane];
        } else {
            block.minima[g - format.groups()] = line[lane];
        }
    }
    let groups = block.codes[..format.block].chunks_exact_mut(format.group);
    for (values, bytes) in groups.zip(codes.chunks_exact(Codebook::group_bytes(format))) {
        let at = |line: usize| &bytes[(line * WIDTH + lane) * 4..][..4];
        if format.bits == 8 {
            for (step, four) in values.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(at(step));
            }
            continue;
        }
        for (pair, eight) in values.chunks_exact_mut(8).enumerate() {
            for (i, byte) in at(pair).iter().enumerate() {
                (eight[i], eight[4 + i]) = (byte & 15, byte >> 4);
            }
        }
        let high = format.bits - 4;
        if high > 0 {
            let bits = at(format.group / 8);
            for (step, four) in values.chunks_exact_mut(4).enumerate() {
                four.iter_mut()
                    .zip(bits)
                    .for_each(|(code, byte)| *code |= (byte >> (high * step) & ((1 << high) - 1)) << 4);
            }
        }
    }
}
