//! A model's weights in a device's memory.

use std::cell::RefCell;
use std::fmt;

use super::cuda::Cuda;
use super::device::{Device, DeviceError};
use super::emulated::{Emulated, Order};
use super::matrix::{Failure, Matrix};
use super::memory::Layout;
use super::parts::{Branch, Loader, Norm, Numbers, Places, defines};
use super::space::Widths;
use crate::spec::{LinearSpec, Mixer, ModelSpec};
use crate::weights::{Checkpoint, Dtype};
use crate::{Formats, KvFormat, ModelError, StateFormat, WeightFormat};

/// Which device runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuDevice {
    /// The NVIDIA card of this number.
    Cuda(usize),
    /// The emulated device, with so many bytes of memory, and threads in this order.
    Emulated {
        /// Bytes of its memory.
        memory: usize,
        /// In which order the threads of a block run.
        order: Order,
        /// Launches after which it is lost, as a card may be.
        lost_after: Option<u64>,
    },
}

impl fmt::Display for GpuDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Emulated { .. } => f.write_str("the emulated device"),
        }
    }
}

/// A rotary table on a device.
pub(super) struct Rope {
    pub(super) frequencies: Numbers,
    pub(super) pairs: usize,
    pub(super) scale: f32,
}

/// The weights of a model on a device.
pub(super) struct Parts {
    pub(super) spec: ModelSpec,
    pub(super) widths: Widths,
    pub(super) embed: Matrix,
    pub(super) embed_scale: f32,
    pub(super) head: Option<Matrix>,
    pub(super) norm: Norm,
    pub(super) branches: Vec<Branch>,
    pub(super) ropes: Vec<Rope>,
    /// heads of keys and values, heads, width of a head
    pub(super) attention: (usize, usize, usize),
    pub(super) bytes: u64,
    /// types of the matrices, with the bytes of each, largest first
    pub(super) formats: Vec<(&'static str, u64)>,
}

/// Keys, values and states as they are held where the user says nothing: f32 where every matrix is, else bf16.
pub(super) fn formats_of(checkpoint: &Checkpoint, formats: Formats) -> (KvFormat, StateFormat) {
    let plain = match formats.weights {
        WeightFormat::F32 => true,
        WeightFormat::Auto => {
            let linears = checkpoint.spec.mixers().flat_map(Mixer::linears);
            let ends = [
                Some(&checkpoint.spec.embed.tensor),
                checkpoint.spec.head.tensor.as_ref(),
            ];
            let ends = ends.into_iter().flatten().map(String::as_str);
            let mut names = linears.map(|l| l.weight.as_str()).chain(ends);
            names.all(|name| checkpoint.dtype(name) == Some(Dtype::F32))
        }
        _ => false,
    };
    let kv = formats
        .kv
        .unwrap_or(if plain { KvFormat::F32 } else { KvFormat::Bf16 });
    (kv, formats.state)
}

/// Opens a device with the kernels that a checkpoint's model needs.
///
/// # Errors
/// One sentence when the device cannot be used, or cannot run the model.
pub(super) fn open(
    checkpoint: &Checkpoint,
    formats: Formats,
    on: GpuDevice,
) -> Result<Box<dyn Device>, ModelError> {
    let (kv, state) = formats_of(checkpoint, formats);
    let defines = defines(&checkpoint.spec, kv, state)
        .map_err(|why| ModelError::Device(format!("the model cannot run on {on}: {why}")))?;
    let opened: Result<Box<dyn Device>, DeviceError> = match on {
        GpuDevice::Cuda(index) => Cuda::new(index, &defines).map(|device| Box::new(device) as _),
        GpuDevice::Emulated {
            memory,
            order,
            lost_after,
        } => {
            Emulated::new(&defines, memory, order).map(|device| Box::new(device.lost_after(lost_after)) as _)
        }
    };
    opened.map_err(|e| ModelError::Device(e.0))
}

/// Puts the weights of a checkpoint onto a device.
///
/// # Errors
/// Those of the checkpoint's tensors, and one sentence when the device has too little memory.
pub(super) fn load(
    checkpoint: &Checkpoint,
    formats: Formats,
    device: &dyn Device,
) -> Result<(Parts, Layout), ModelError> {
    let (kv, state) = formats_of(checkpoint, formats);
    let before = device.free_bytes();
    let parts = parts(device, checkpoint, formats.weights).and_then(|mut parts| {
        device.finish();
        match device.failure() {
            Some(e) => Err(Failure::Device(e)),
            None => {
                parts.bytes = before.saturating_sub(device.free_bytes());
                Ok(parts)
            }
        }
    });
    let parts = parts.map_err(|failure| match failure {
        Failure::Model(e) => e,
        Failure::Device(DeviceError(why)) => ModelError::Device(format!("the weights do not fit: {why}")),
    })?;
    let layout = Layout::new(&parts.spec, kv, state);
    Ok((parts, layout))
}

fn parts(device: &dyn Device, checkpoint: &Checkpoint, format: WeightFormat) -> Result<Parts, Failure> {
    let spec = checkpoint.spec.clone();
    let loader = Loader {
        device,
        weights: checkpoint,
        format,
        held: RefCell::default(),
    };
    // a 4-bit embedding table damages small models
    let ends = if format == WeightFormat::Q4_0 {
        WeightFormat::Q8_0
    } else {
        format
    };
    let end =
        |name: &str, scale| loader.matrix_as(&LinearSpec::new(name, spec.vocab, spec.hidden), scale, ends);
    let (embed, head) = match &spec.head.tensor {
        None => (end(&spec.embed.tensor, spec.head.scale)?, None),
        Some(head) => (end(&spec.embed.tensor, 1.0)?, Some(end(head, spec.head.scale)?)),
    };
    let mut places = Places::default();
    let mut branches = Vec::new();
    for residual in spec.layers.iter().flatten() {
        branches.push(loader.branch(residual, &mut places)?);
    }
    let mut ropes = Vec::new();
    for rope in &spec.ropes {
        ropes.push(Rope {
            frequencies: loader.numbers(&rope.frequencies)?,
            pairs: rope.frequencies.len(),
            scale: rope.scale,
        });
    }
    let attention = spec.mixers().find_map(|mixer| match mixer {
        Mixer::Attention(a) => Some((a.kv_heads, a.heads, a.head_dim)),
        _ => None,
    });
    Ok(Parts {
        widths: Widths::of(&spec),
        embed,
        embed_scale: spec.embed.scale,
        head,
        norm: loader.norm(&spec.norm, spec.hidden, 1.0)?,
        branches,
        ropes,
        attention: attention.unwrap_or_default(),
        formats: {
            let mut formats: Vec<_> = loader.held.take().into_iter().collect();
            formats.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
            formats
        },
        bytes: 0,
        spec,
    })
}
