//! Matrices of weights in a device's memory, as the kernels of `product.cu` read them.

use super::device::{Address, Buffer, Device, DeviceError, Packed, bytes_of};
use crate::weights::codes::{Codes, Format as CodeFormat};
use crate::weights::{Dtype, RawTensor};

/// How a matrix is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    F32,
    Bf16,
    F16,
    Codes8,
    Codes4,
    Fp4,
}

impl Held {
    fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::BF16 => Self::Bf16,
            Dtype::F16 => Self::F16,
            Dtype::Q4_0 | Dtype::Q4_1 | Dtype::Q4K => Self::Codes4,
            Dtype::Mxfp4 => Self::Fp4,
            Dtype::Q8_0 | Dtype::Q5_0 | Dtype::Q5_1 | Dtype::Q5K | Dtype::Q6K => Self::Codes8,
        }
    }
    /// The kernel that multiplies with it.
    pub(super) fn kernel(self) -> &'static str {
        match self {
            Self::F32 => "product_f32",
            Self::Bf16 => "product_bf16",
            Self::F16 => "product_f16",
            Self::Codes8 => "product_codes8",
            Self::Codes4 => "product_codes4",
            Self::Fp4 => "product_fp4",
        }
    }
    /// Its number among the kernels.
    pub(super) fn number(self) -> usize {
        match self {
            Self::Bf16 => 0,
            Self::F16 => 1,
            Self::Codes8 => 2,
            Self::Codes4 => 3,
            Self::Fp4 => 4,
            Self::F32 => 5,
        }
    }
    /// Inputs of a load.
    fn wide(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 | Self::F16 => 16,
            Self::Codes8 => 32,
            Self::Codes4 | Self::Fp4 => 64,
        }
    }
}

/// Rows of a matrix, with what their outputs are multiplied by and what is added to them.
pub(super) struct Rows<'a> {
    pub(super) raw: RawTensor<'a>,
    /// one a row
    pub(super) scale: Vec<f32>,
    pub(super) bias: Option<Vec<f32>>,
}

impl Rows<'_> {
    fn count(&self) -> usize {
        self.raw.shape[0]
    }
    fn row(&self, i: usize) -> &[u8] {
        let bytes = self.raw.dtype.row_bytes(self.raw.shape[1]);
        &self.raw.bytes[i * bytes..][..bytes]
    }
}

/// A matrix on a device, or a stack of them.
pub(super) struct Matrix {
    pub(super) held: Held,
    /// what the type of its weights is called
    pub(super) format: &'static str,
    /// outputs of one matrix of the stack, padded for a gate; the inputs
    pub(super) n: usize,
    k: usize,
    group: usize,
    zero: usize,
    stride: u64,
    group_stride: u64,
    words: Buffer,
    scale: Buffer,
    bias: Buffer,
    group_scale: Buffer,
    group_min: Buffer,
    /// slices of its inputs that are summed apart: a function of its shape alone
    pub(super) slices: usize,
}

/// What the rows of one matrix of a stack become, in bytes.
#[derive(Default)]
struct Image {
    words: Vec<u8>,
    scale: Vec<f32>,
    bias: Vec<f32>,
    group_scale: Vec<f32>,
    group_min: Vec<f32>,
}

/// Whether a stack's matrices can be one in a device's memory: they have one type.
pub(super) fn alike(parts: &[&Rows<'_>]) -> bool {
    parts
        .windows(2)
        .all(|pair| pair[0].raw.dtype == pair[1].raw.dtype)
}

impl Matrix {
    /// The matrices of a stack, each of rows that follow each other; all are held in one type. With `gate` each has two parts, and
    /// tiles of 16 rows of both take turns.
    pub(super) fn stacked<'a>(
        device: &dyn Device,
        stack: impl Iterator<Item = Result<Vec<Rows<'a>>, crate::ModelError>>,
        count: usize,
        gate: bool,
    ) -> Result<Self, Failure> {
        let mut made: Option<Self> = None;
        for (i, parts) in stack.enumerate() {
            let parts = parts?;
            let order = order(&parts, gate);
            let (image, shape) = image(&parts, &order);
            let matrix = match &mut made {
                Some(matrix) => matrix,
                None => made.insert(Self::room(device, &shape, &image, count)?),
            };
            if (matrix.held, matrix.stride) != (shape.held, image.words.len() as u64) {
                return Err(Failure::Device(DeviceError(
                    "its experts are held in different types".to_owned(),
                )));
            }
            matrix.fill(device, i, &image);
        }
        made.ok_or_else(|| Failure::Device(DeviceError("a stack of no matrices".to_owned())))
    }

    /// A matrix of rows that follow each other.
    pub(super) fn upload(device: &dyn Device, parts: &[Rows<'_>]) -> Result<Self, DeviceError> {
        let order = order(parts, false);
        let (image, shape) = image(parts, &order);
        let mut matrix = Self::room(device, &shape, &image, 1)?;
        matrix.fill(device, 0, &image);
        Ok(matrix)
    }

    fn room(device: &dyn Device, shape: &Shape, image: &Image, count: usize) -> Result<Self, DeviceError> {
        let floats = |values: &[f32]| device.alloc(count * values.len() * size_of::<f32>());
        let steps = shape.k / 16;
        Ok(Self {
            held: shape.held,
            format: shape.format,
            n: shape.n,
            k: shape.k,
            group: shape.group,
            zero: shape.zero,
            stride: image.words.len() as u64,
            group_stride: image.group_scale.len() as u64,
            words: device.alloc(count * image.words.len())?,
            scale: floats(&image.scale)?,
            bias: floats(&image.bias)?,
            group_scale: floats(&image.group_scale)?,
            group_min: floats(&image.group_min)?,
            slices: (steps / 4).clamp(1, SLICES),
        })
    }

    fn fill(&mut self, device: &dyn Device, i: usize, image: &Image) {
        let put = |buffer: &Buffer, bytes: &[u8]| {
            if !bytes.is_empty() {
                device.write(buffer.at.plus((i * bytes.len()) as u64), bytes);
            }
        };
        put(&self.words, &image.words);
        put(&self.scale, &bytes_of(&image.scale));
        put(&self.bias, &bytes_of(&image.bias));
        put(&self.group_scale, &bytes_of(&image.group_scale));
        put(&self.group_min, &bytes_of(&image.group_min));
    }

    /// Bytes of the device's memory that it takes.
    pub(super) fn bytes(&self) -> u64 {
        let buffers = [
            &self.words,
            &self.scale,
            &self.bias,
            &self.group_scale,
            &self.group_min,
        ];
        buffers.iter().map(|buffer| buffer.bytes as u64).sum()
    }

    /// The structure that kernels take.
    pub(super) fn packed(&self) -> Packed {
        let or_none = |buffer: &Buffer| if buffer.bytes == 0 { Address(0) } else { buffer.at };
        Packed::new()
            .at(self.words.at)
            .at(self.scale.at)
            .at(or_none(&self.bias))
            .at(or_none(&self.group_scale))
            .at(or_none(&self.group_min))
            .u64(self.stride)
            .u64(self.group_stride)
            .u32(self.n)
            .u32(self.k)
            .u32(self.group)
            .u32(self.zero)
    }
}

/// Most slices of a product's inputs.
const SLICES: usize = 8;

/// What loading a model failed of.
#[derive(Debug)]
pub(super) enum Failure {
    Model(crate::ModelError),
    Device(DeviceError),
}

impl From<crate::ModelError> for Failure {
    fn from(e: crate::ModelError) -> Self {
        Self::Model(e)
    }
}
impl From<DeviceError> for Failure {
    fn from(e: DeviceError) -> Self {
        Self::Device(e)
    }
}

struct Shape {
    held: Held,
    format: &'static str,
    n: usize,
    k: usize,
    group: usize,
    zero: usize,
}

/// Which row of which part each output is; `None` fills up a tile.
fn order(parts: &[Rows<'_>], gate: bool) -> Vec<Option<(usize, usize)>> {
    if !gate {
        let rows = parts.iter().enumerate();
        return rows
            .flat_map(|(p, rows)| (0..rows.count()).map(move |i| Some((p, i))))
            .collect();
    }
    let width = parts[0].count();
    let wide = width.next_multiple_of(16);
    let row = |p, i| (i < width).then_some((p, i));
    if parts[0].raw.dtype == Dtype::F32 {
        return (0..2).flat_map(|p| (0..wide).map(move |i| row(p, i))).collect();
    }
    let tile = |t: usize| (0..2).flat_map(move |p| (0..16).map(move |i| row(p, 16 * t + i)));
    (0..wide / 16).flat_map(tile).collect()
}

fn image(parts: &[Rows<'_>], order: &[Option<(usize, usize)>]) -> (Image, Shape) {
    let dtype = parts[0].raw.dtype;
    assert!(
        parts.iter().all(|part| part.raw.dtype == dtype),
        "one type a matrix"
    );
    let held = Held::of(dtype);
    let (columns, n) = (parts[0].raw.shape[1], order.len());
    let k = columns.next_multiple_of(held.wide());
    let of = |list: &dyn Fn(usize, usize) -> f32| {
        order.iter().map(|o| o.map_or(0.0, |(p, i)| list(p, i))).collect()
    };
    let mut image = Image {
        scale: of(&|p, i| parts[p].scale[i]),
        ..Image::default()
    };
    if parts.iter().any(|part| part.bias.is_some()) {
        image.bias = of(&|p, i| parts[p].bias.as_ref().map_or(0.0, |bias| bias[i]));
    }
    let row = |at: usize| order.get(at).copied().flatten().map(|(p, i)| parts[p].row(i));
    let format = match held {
        Held::F32 => "f32",
        Held::Bf16 => "bf16",
        Held::F16 => "f16",
        Held::Codes8 | Held::Codes4 | Held::Fp4 => dtype.name(),
    };
    let mut shape = Shape {
        held,
        format,
        n,
        k,
        group: 16,
        zero: 0,
    };
    match held {
        Held::F32 => {
            image.words = vec![0; k * n * 4];
            for at in 0..n {
                for (c, value) in row(at)
                    .into_iter()
                    .flat_map(|row| row.as_chunks::<4>().0)
                    .enumerate()
                {
                    image.words[(c * n + at) * 4..][..4].copy_from_slice(value);
                }
            }
        }
        Held::Bf16 | Held::F16 => {
            let (tiles, steps) = (n.div_ceil(16), k / 16);
            image.words = vec![0; tiles * steps * 512];
            fill_tiles(&mut image, tiles, |tile| {
                for at in tile.rows() {
                    let values = row(at).into_iter().flat_map(|row| row.as_chunks::<2>().0);
                    for (c, value) in values.enumerate() {
                        let (lane, word, half) = place(at, c);
                        let fragment = c / 16 * 32 + lane;
                        tile.words[fragment * 16 + word * 4 + half * 2..][..2].copy_from_slice(value);
                    }
                }
            });
        }
        Held::Codes8 | Held::Codes4 | Held::Fp4 => {
            let format = CodeFormat::of(dtype).expect("a quantised type");
            (shape.group, shape.zero) = (format.group, usize::try_from(format.zero).unwrap_or(0));
            coded(&mut image, &shape, dtype, &format, row);
        }
    }
    (image, shape)
}

/// Sixteen rows of an image.
struct Tile<'a> {
    index: usize,
    words: &'a mut [u8],
    group_scale: &'a mut [f32],
    group_min: &'a mut [f32],
}

impl Tile<'_> {
    fn rows(&self) -> std::ops::Range<usize> {
        self.index * 16..self.index * 16 + 16
    }
}

/// Fills the tiles of an image on all cores: the weights of 7 billion parameters take a minute on one.
fn fill_tiles(image: &mut Image, tiles: usize, fill: impl Fn(&mut Tile<'_>) + Sync) {
    fn parts<T>(list: &mut [T], n: usize) -> impl Iterator<Item = &mut [T]> {
        let each = list.len() / n.max(1);
        let mut rest = list;
        (0..n).map(move |_| {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(each);
            rest = after;
            part
        })
    }
    let words = parts(&mut image.words, tiles);
    let scales = parts(&mut image.group_scale, tiles).zip(parts(&mut image.group_min, tiles));
    let tiles = words.zip(scales).enumerate();
    let mut tiles: Vec<Tile<'_>> = tiles
        .map(|(index, (words, (group_scale, group_min)))| Tile {
            index,
            words,
            group_scale,
            group_min,
        })
        .collect();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // a thread for a few tiles costs more than it saves
    let share = tiles.len().div_ceil(cores).max(8);
    std::thread::scope(|scope| {
        for share in tiles.chunks_mut(share) {
            scope.spawn(|| share.iter_mut().for_each(&fill));
        }
    });
}

/// The lane, the word of its fragment and the half of that word in which weight `[row, column]` stands.
fn place(row: usize, column: usize) -> (usize, usize, usize) {
    let (row, column) = (row % 16, column % 16);
    (row % 8 * 4 + column % 8 / 2, row / 8 + column / 8 * 2, column % 2)
}

fn coded<'a>(
    image: &mut Image,
    shape: &Shape,
    dtype: Dtype,
    format: &CodeFormat,
    row: impl Fn(usize) -> Option<&'a [u8]> + Sync,
) {
    let (tiles, groups) = (shape.n.div_ceil(16), shape.k / shape.group);
    let wide = shape.held.wide();
    let loads = shape.k / wide;
    image.words = vec![0; tiles * loads * 512];
    image.group_scale = vec![0.0; tiles * groups * 16];
    if format.minima {
        image.group_min = image.group_scale.clone();
    }
    fill_tiles(image, tiles, |tile| {
        let mut codes = Codes::default();
        for at in tile.rows() {
            let Some(row) = row(at) else { continue };
            for (b, block) in row.chunks_exact(dtype.block_bytes()).enumerate() {
                codes.read(dtype, block);
                for g in 0..format.groups() {
                    let (scale, minimum) = codes.group(format, g);
                    let place = (b * format.groups() + g) * 16 + at % 16;
                    tile.group_scale[place] = scale;
                    if format.minima {
                        tile.group_min[place] = minimum;
                    }
                }
                for (i, code) in codes.codes[..format.block].iter().enumerate() {
                    let c = b * format.block + i;
                    let (lane, word, half) = place(at, c);
                    let load = &mut tile.words[(c / wide * 32 + lane) * 16..][..16];
                    let step = c % wide / 16;
                    if shape.held == Held::Codes8 {
                        load[step * 8 + word * 2 + half] = *code;
                    } else {
                        // nibble `word` of the step's low half word, or of its high one
                        load[step * 4 + half * 2 + word / 2] |= code << (word % 2 * 4);
                    }
                }
            }
        }
    });
}
