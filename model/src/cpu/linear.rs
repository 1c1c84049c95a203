//! A weight matrix packed for this machine's products.

use super::kernels::ThreadPool;
use super::kernels::buf::{Buf, padded};
use super::packing::Layout;
use super::state::{KvFormat, StateFormat};
use super::storage::Storage;
use crate::error::ModelError;
use crate::spec::LinearSpec;
use crate::weights::{Checkpoint, Dtype, RawTensor};

/// How weights are held in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightFormat {
    /// The file's own format.
    #[default]
    Auto,
    /// f32, dequantised where the file is quantised.
    F32,
    /// bf16, rounded to nearest even where the file holds more.
    Bf16,
    /// 8-bit blocks of 32 with an f16 scale; rows whose length is no multiple of 32 stay f32.
    Q8_0,
    /// 4-bit blocks of 32 with an f16 scale; rows whose length is no multiple of 32 stay f32.
    Q4_0,
}

impl WeightFormat {
    /// Every format, in the order in which help lists them.
    pub const ALL: [Self; 5] = [Self::Auto, Self::F32, Self::Bf16, Self::Q8_0, Self::Q4_0];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }
}

/// How a model is held in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Formats {
    /// How matrices are held.
    pub weights: WeightFormat,
    /// Keys and values; `None` is f32 where every matrix is, else bf16.
    pub kv: Option<KvFormat>,
    /// How the states of Mamba-2 parts are held.
    pub state: StateFormat,
}

impl From<WeightFormat> for Formats {
    fn from(weights: WeightFormat) -> Self {
        Self {
            weights,
            ..Self::default()
        }
    }
}

/// `[n, k]` weights with a per-output f32 scale (the model's multipliers; never folded into the weights) and
/// an optional bias.
pub struct Linear {
    storage: Storage,
    /// padded to whole panels
    scale: Buf,
    bias: Option<Buf>,
    for_few: bool,
}

impl Linear {
    /// Packs a raw `[n, k]` tensor; the raw bytes are not needed afterwards.
    pub fn pack(raw: &RawTensor<'_>, format: WeightFormat) -> Self {
        let to = stored_as(raw, format);
        if to.is_quantized() && raw.dtype != to {
            return Self::new(Storage::packed(&quantized(raw, to), to));
        }
        Self::new(Storage::packed(raw, to))
    }

    /// The matrix of this specification, its factors and its bias with it; `scale` multiplies its outputs. It
    /// stays in its file until [`Self::pack_now`] where the file is mapped and holds that format.
    ///
    /// # Errors
    /// As [`Checkpoint::tensor`].
    pub(crate) fn open(
        weights: &Checkpoint,
        spec: &LinearSpec,
        scale: f32,
        format: WeightFormat,
    ) -> Result<Self, ModelError> {
        let (rows, order) = (spec.tensor_rows(), spec.row_order());
        let raw = gathered(weights, spec)?;
        let row = raw.dtype.row_bytes(spec.columns);
        let as_stored = order.is_none() && !spec.transposed;
        let mapped = weights.mapped(&spec.weight).filter(|_| as_stored);
        let matrix = match mapped {
            Some((bytes, range)) if stored_as(&raw, format) == raw.dtype => {
                let range = range.start + rows.start * row..range.start + rows.end * row;
                Self::new(Storage::in_file(&raw, bytes, range))
            }
            _ => Self::pack(&raw, format),
        };
        let (factors, bias) = factors(weights, spec, scale)?;
        Ok(matrix.scaled(spec.input_scale).scaled_by(&factors).biased(bias))
    }

    /// The matrix of the embedding or of the output, its outputs scaled.
    ///
    /// # Errors
    /// As [`Checkpoint::tensor`].
    pub(crate) fn open_end(
        weights: &Checkpoint,
        name: &str,
        shape: [usize; 2],
        scale: f32,
        format: WeightFormat,
    ) -> Result<Self, ModelError> {
        Self::open(weights, &LinearSpec::new(name, shape[0], shape[1]), scale, format)
    }

    fn new(storage: Storage) -> Self {
        let mut scale = Buf::zeroed(padded(storage.n()));
        scale.fill(1.0);
        Self {
            storage,
            scale,
            bias: None,
            for_few: false,
        }
    }

    /// Packs the weights if they are still in their file.
    pub(crate) fn pack_now(&self, pool: &mut ThreadPool) {
        self.storage.pack(pool);
    }

    /// Outputs are multiplied by `scale` (before the bias is added).
    #[must_use]
    pub fn scaled(mut self, scale: f32) -> Self {
        self.scale.iter_mut().for_each(|s| *s *= scale);
        self
    }

    /// Output `j` is multiplied by `scale[j]`.
    #[must_use]
    pub fn scaled_by(mut self, scale: &[f32]) -> Self {
        self.scale.iter_mut().zip(scale).for_each(|(s, v)| *s *= v);
        self
    }

    /// Adds a bias `[n]`, given as it shall appear in the output.
    #[must_use]
    pub fn biased(mut self, bias: Option<Vec<f32>>) -> Self {
        self.bias = bias.map(|bias| {
            let mut padded_bias = Buf::zeroed(padded(self.n()));
            padded_bias[..bias.len()].copy_from_slice(&bias);
            padded_bias
        });
        self
    }

    /// The matrix of an expert: however many rows go through the model, few of them come to it, so that what is
    /// done once for all rows does not pay.
    #[must_use]
    pub(crate) fn for_few_rows(mut self) -> Self {
        self.for_few = true;
        self
    }

    /// Whether few rows come to it.
    pub(crate) fn is_for_few_rows(&self) -> bool {
        self.for_few
    }

    /// Rows: how many numbers come out.
    pub fn n(&self) -> usize {
        self.storage.n()
    }
    /// Columns: how many numbers go in.
    pub fn k(&self) -> usize {
        self.storage.k()
    }
    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }
    pub(crate) fn scale(&self) -> &[f32] {
        &self.scale
    }
    pub(crate) fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    /// Row `i` of the weights as f32, unscaled, times `factor` (embedding look-up).
    pub fn row(&self, i: usize, factor: f32, out: &mut [f32]) {
        assert!(i < self.n() && out.len() == self.k());
        self.storage.row(i, out);
        out.iter_mut().for_each(|o| *o *= factor);
    }

    /// Bytes of memory that it takes now, scales included.
    pub fn bytes(&self) -> usize {
        self.storage.bytes() + (self.scale.len() + self.bias.as_ref().map_or(0, |b| b.len())) * 4
    }

    /// Bytes of weights that are still in their file.
    pub(crate) fn unpacked_bytes(&self) -> usize {
        if self.storage.is_in_file() {
            self.storage.bytes()
        } else {
            0
        }
    }

    /// Name of the format in memory.
    pub fn format(&self) -> &'static str {
        match self.storage.layout() {
            Layout::F32 => "f32",
            Layout::Bf16 => "bf16",
            Layout::F16 => "f16",
            Layout::Codes(book) => book.dtype.name(),
        }
    }
}

/// The rows of a matrix in their order, as its file holds them.
pub(crate) fn gathered<'a>(weights: &'a Checkpoint, spec: &LinearSpec) -> Result<RawTensor<'a>, ModelError> {
    let rows = spec.tensor_rows();
    let mut raw = if spec.transposed {
        weights.transposed(&spec.weight, &spec.tensor_shape(), rows)?
    } else {
        weights.rows(&spec.weight, &spec.tensor_shape(), rows)?
    };
    if let Some(order) = spec.row_order() {
        let row = raw.dtype.row_bytes(spec.columns);
        let mut ordered = Vec::with_capacity(order.len() * row);
        for r in order {
            ordered.extend_from_slice(&raw.bytes[r * row..][..row]);
        }
        raw.bytes = ordered.into();
        raw.shape = vec![spec.rows, spec.columns];
    }
    Ok(raw)
}

/// What every output of a matrix is multiplied by, its input scale aside, and its bias as it appears in the output.
#[allow(clippy::type_complexity, reason = "two lists of numbers")]
pub(crate) fn factors(
    weights: &Checkpoint,
    spec: &LinearSpec,
    scale: f32,
) -> Result<(Vec<f32>, Option<Vec<f32>>), ModelError> {
    let factors: Vec<f32> = spec.factors().into_iter().map(|f| f * scale).collect();
    let bias = match &spec.bias {
        Some(bias) => {
            let (count, height) = spec.stack();
            let values = weights.part(&bias.tensor, count * height, spec.tensor_rows())?;
            let values: Vec<f32> = match spec.row_order() {
                Some(order) => order.iter().map(|row| values[*row]).collect(),
                None => values,
            };
            Some(values.iter().zip(&factors).map(|(b, f)| b * f).collect())
        }
        None => None,
    };
    Ok((factors, bias))
}

/// A tensor in the type that `format` asks for.
pub(crate) fn held_as<'a>(raw: RawTensor<'a>, format: WeightFormat) -> RawTensor<'a> {
    let to = stored_as(&raw, format);
    if raw.dtype == to {
        return raw;
    }
    if to.is_quantized() {
        return quantized(&raw, to);
    }
    let values = raw.to_f32();
    let bytes = match to {
        Dtype::BF16 => values
            .iter()
            .flat_map(|v| half::bf16::from_f32(*v).to_le_bytes())
            .collect::<Vec<u8>>(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    };
    RawTensor {
        dtype: to,
        bytes: bytes.into(),
        ..raw
    }
}

fn quantized<'a>(raw: &RawTensor<'_>, to: Dtype) -> RawTensor<'a> {
    RawTensor {
        name: raw.name.clone(),
        dtype: to,
        shape: raw.shape.clone(),
        bytes: quantize(&raw.to_f32(), to).into(),
    }
}

/// The type in which a tensor is held.
fn stored_as(raw: &RawTensor<'_>, format: WeightFormat) -> Dtype {
    let blocks = |to: Dtype| {
        let whole = raw.shape[1].is_multiple_of(to.block_len());
        if whole { to } else { Dtype::F32 }
    };
    match format {
        WeightFormat::Auto => raw.dtype,
        WeightFormat::F32 => Dtype::F32,
        WeightFormat::Bf16 => Dtype::BF16,
        WeightFormat::Q8_0 => blocks(Dtype::Q8_0),
        WeightFormat::Q4_0 => blocks(Dtype::Q4_0),
    }
}

/// Quantises whole rows with candle's reference quantisers, a slice of rows at a time.
fn quantize(values: &[f32], to: Dtype) -> Vec<u8> {
    use candle_core::quantized::{GgmlDType, QTensor};
    let kind = if to == Dtype::Q8_0 {
        GgmlDType::Q8_0
    } else {
        GgmlDType::Q4_0
    };
    values
        .chunks(to.block_len() << 15)
        .flat_map(|part| {
            let tensor = candle_core::Tensor::from_slice(part, part.len(), &candle_core::Device::Cpu)
                .expect("a slice has its own length");
            let quantized = QTensor::quantize(&tensor, kind).expect("whole blocks");
            quantized.data().expect("on the CPU").into_owned()
        })
        .collect()
}
