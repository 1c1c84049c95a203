//! Where a model of this process runs, and the model there.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tts_model::cpu::kernels::Tier;
use tts_model::cpu::{CpuExecutor, memory};
use tts_model::executor::{Executor, Limits};
use tts_model::gpu::{self, GpuDevice, GpuExecutor, Order};
use tts_model::weights::Checkpoint;
use tts_model::{Formats, KvFormat, Model, ModelError, ModelSpec, StateFormat};

use crate::run::RunError;

/// Where a model runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The processor's cores.
    #[default]
    Cpu,
    /// The NVIDIA card of this number, which the driver and CUDA's run-time compiler must be installed for.
    Cuda(usize),
    /// The NVIDIA card with the most free memory, if the model can be loaded there; else the processor.
    Auto,
    /// A GPU that the processor emulates, kernel by kernel, many thousand times slower than a card: for tests of what
    /// runs on one. It needs a C++ compiler.
    Emulated,
}

impl Device {
    /// The device of a name: `cpu`, `cuda`, `cuda:N`, `auto` or `emulated`.
    ///
    /// # Errors
    /// The names that there are.
    pub fn parse(name: &str) -> Result<Self, String> {
        let card = |number: &str| {
            number
                .parse()
                .map(Self::Cuda)
                .map_err(|_| format!("`{number}` is no number of a card; cuda:0 is the first"))
        };
        match name.split_once(':') {
            Some(("cuda", number)) => card(number),
            None => match name {
                "cpu" => Ok(Self::Cpu),
                "cuda" => Ok(Self::Cuda(0)),
                "auto" => Ok(Self::Auto),
                "emulated" => Ok(Self::Emulated),
                _ => Err(Self::names()),
            },
            Some(_) => Err(Self::names()),
        }
    }

    fn names() -> String {
        "it is cpu, cuda, cuda:N for the card of that number, auto or emulated".to_owned()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Auto => f.write_str("auto"),
            Self::Emulated => f.write_str("emulated"),
        }
    }
}

/// A model where it runs.
#[derive(Clone)]
pub(crate) enum Placed {
    /// Weights in this process' memory.
    Cpu(Arc<Model>),
    /// Weights in a device's memory.
    Gpu(Arc<OnGpu>),
}

/// A model on a GPU, and what was true of it before it ran.
pub(crate) struct OnGpu {
    device: Device,
    name: String,
    id: String,
    spec: ModelSpec,
    limits: Limits,
    formats: Vec<(&'static str, u64)>,
    held: (KvFormat, StateFormat),
    state_bytes: usize,
    /// until somebody runs it
    executor: Mutex<Option<GpuExecutor>>,
}

impl OnGpu {
    fn new(executor: GpuExecutor, spec: ModelSpec, device: Device) -> Self {
        Self {
            device,
            name: executor.device_name(),
            id: executor.id().to_owned(),
            spec,
            limits: executor.limits(),
            formats: executor.formats().to_vec(),
            held: executor.held(),
            state_bytes: executor.state_bytes(),
            executor: Mutex::new(Some(executor)),
        }
    }
}

impl Placed {
    /// Loads a model where the user says; the sentence says what was chosen where that was left open.
    ///
    /// # Errors
    /// Those of the checkpoint's tensors, and a device that cannot be used.
    pub(crate) fn load(
        checkpoint: &Checkpoint,
        formats: Formats,
        device: Device,
    ) -> Result<(Self, Option<String>), ModelError> {
        let on_gpu = |on: GpuDevice, device| {
            let executor = GpuExecutor::new(checkpoint, formats, on)?;
            Ok(Self::Gpu(Arc::new(OnGpu::new(
                executor,
                checkpoint.spec.clone(),
                device,
            ))))
        };
        let on_cpu = || Ok(Self::Cpu(Arc::new(Model::load(checkpoint, formats)?)));
        match device {
            Device::Cpu => Ok((on_cpu()?, None)),
            Device::Cuda(number) => Ok((on_gpu(GpuDevice::Cuda(number), device)?, None)),
            Device::Emulated => {
                let on = GpuDevice::Emulated {
                    memory: usize::try_from(memory::available() / 2).unwrap_or(usize::MAX),
                    order: Order::default(),
                    lost_after: None,
                };
                Ok((on_gpu(on, device)?, None))
            }
            Device::Auto => {
                let why = match gpu::cards() {
                    Ok(cards) => match cards.iter().max_by_key(|card| card.free_bytes) {
                        Some(card) => match on_gpu(GpuDevice::Cuda(card.index), Device::Cuda(card.index)) {
                            Ok(placed) => {
                                let note =
                                    format!("--device auto: runs on cuda:{}, {}", card.index, card.name);
                                return Ok((placed, Some(note)));
                            }
                            Err(ModelError::Device(why)) => why,
                            Err(e) => return Err(e),
                        },
                        None => "the NVIDIA driver names no card".to_owned(),
                    },
                    Err(e) => e.to_string(),
                };
                Ok((
                    on_cpu()?,
                    Some(format!("--device auto: runs on the processor, since {why}")),
                ))
            }
        }
    }

    /// What the model is made of.
    pub(crate) fn spec(&self) -> &ModelSpec {
        match self {
            Self::Cpu(model) => model.spec(),
            Self::Gpu(on) => &on.spec,
        }
    }

    /// Where it runs.
    pub(crate) fn device(&self) -> Device {
        match self {
            Self::Cpu(_) => Device::Cpu,
            Self::Gpu(on) => on.device,
        }
    }

    /// What a user calls the device, where it is not the processor.
    pub(crate) fn device_name(&self) -> Option<&str> {
        match self {
            Self::Cpu(_) => None,
            Self::Gpu(on) => Some(&on.name),
        }
    }

    /// The model in this process' memory, where it runs on the processor.
    pub(crate) fn on_cpu(&self) -> Option<&Arc<Model>> {
        match self {
            Self::Cpu(model) => Some(model),
            Self::Gpu(_) => None,
        }
    }

    /// The arithmetic, within which results are the same bit for bit: the instruction tier of the processor's kernels, or
    /// the id of a device.
    pub(crate) fn arithmetic(&self, tier: Tier) -> &str {
        match self {
            Self::Cpu(_) => tier.name(),
            Self::Gpu(on) => &on.id,
        }
    }

    /// Sizes of the model and the memory that is free: of a device, before it ran.
    pub(crate) fn limits(&self, threads: usize) -> Limits {
        match self {
            Self::Cpu(model) => CpuExecutor::limits_of(model, threads),
            Self::Gpu(on) => on.limits,
        }
    }

    /// Bytes of the weights.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Cpu(model) => model.bytes() as u64,
            Self::Gpu(on) => on.limits.weight_bytes,
        }
    }

    /// Types of the weights, with the bytes of each, largest first.
    pub(crate) fn formats(&self) -> Vec<(&'static str, u64)> {
        match self {
            Self::Cpu(model) => {
                let formats = model.formats().into_iter();
                formats.map(|(format, bytes)| (format, bytes as u64)).collect()
            }
            Self::Gpu(on) => on.formats.clone(),
        }
    }

    /// How keys and values, and states, are held.
    pub(crate) fn held(&self) -> (KvFormat, StateFormat) {
        match self {
            Self::Cpu(model) => (model.layout().kv, model.layout().state),
            Self::Gpu(on) => on.held,
        }
    }

    /// Bytes of the states and windows of a sequence.
    pub(crate) fn state_bytes(&self) -> usize {
        match self {
            Self::Cpu(model) => model.layout().state_bytes(),
            Self::Gpu(on) => on.state_bytes,
        }
    }

    /// What runs it. On the processor any number may, over one copy of the weights; a device runs it once.
    ///
    /// # Errors
    /// When the device runs it already.
    pub(crate) fn executor(&self, threads: usize, tier: Tier) -> Result<Box<dyn Executor>, RunError> {
        match self {
            Self::Cpu(model) => Ok(Box::new(CpuExecutor::new(model.clone(), threads, tier))),
            Self::Gpu(on) => {
                let executor = on.executor.lock().unwrap_or_else(PoisonError::into_inner).take();
                let executor = executor.ok_or_else(|| {
                    RunError::Device(format!(
                        "the model on {} is run by another solver already; open it once for each",
                        on.device
                    ))
                })?;
                Ok(Box::new(executor))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        for (name, device) in [
            ("cpu", Device::Cpu),
            ("cuda", Device::Cuda(0)),
            ("cuda:3", Device::Cuda(3)),
            ("auto", Device::Auto),
            ("emulated", Device::Emulated),
        ] {
            assert_eq!(Device::parse(name), Ok(device), "{name}");
            assert_eq!(Device::parse(&device.to_string()), Ok(device), "{name}");
        }
        for name in ["", "gpu", "cuda:", "cuda:-1", "cuda:1:2", "cpu:0", "CUDA", "rocm"] {
            assert!(Device::parse(name).is_err(), "{name}");
        }
    }
}
