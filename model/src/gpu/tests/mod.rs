//! The whole executor on the emulated device: against reference numbers, against the processor, against itself.
//!
//! With `TTS_TEST_DEVICE=cuda:N` the same tests run on that card, and with `TTS_TEST_FIXTURES` on fixtures elsewhere: a card is
//! often in a machine that holds the tests as a program alone.

mod draws;
mod faults;
mod goldens;
mod profile;
mod rows;
mod traces;

use std::path::{Path, PathBuf};

use super::cuda::Cuda;
use super::device::{Defines, Device, bytes_of};
use super::emulated::Emulated;
use super::memory::State;
use super::{GpuDevice, GpuExecutor, Order};
use crate::weights::Checkpoint;
use crate::{Formats, KvFormat, StateFormat, WeightFormat};

pub(super) fn fixture(name: &str) -> PathBuf {
    let here = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let all = std::env::var_os("TTS_TEST_FIXTURES").map_or_else(here, PathBuf::from);
    all.join(name)
}

pub(super) fn checkpoint(name: &str) -> Checkpoint {
    Checkpoint::open(&fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

pub(super) const F32: Formats = Formats {
    weights: WeightFormat::F32,
    kv: Some(KvFormat::F32),
    state: StateFormat::F32,
};

/// The card that the tests run on, if they do not run emulated.
pub(super) fn card() -> Option<usize> {
    let name = std::env::var("TTS_TEST_DEVICE").ok()?;
    let number = name.strip_prefix("cuda:").and_then(|number| number.parse().ok());
    Some(number.unwrap_or_else(|| panic!("TTS_TEST_DEVICE is {name}; it is cuda:N")))
}

fn on(order: Order) -> GpuDevice {
    match card() {
        Some(card) => GpuDevice::Cuda(card),
        None => GpuDevice::Emulated {
            memory: 1 << 30,
            order,
            lost_after: None,
        },
    }
}

/// A device without a model.
pub(super) fn bare(order: Order) -> Box<dyn Device> {
    match card() {
        Some(card) => Box::new(Cuda::new(card, &Defines::new()).unwrap()),
        None => Box::new(Emulated::new(&Defines::new(), 1 << 28, order).unwrap()),
    }
}

pub(super) fn open(weights: &Checkpoint, formats: Formats, order: Order) -> GpuExecutor {
    GpuExecutor::new(weights, formats, on(order)).unwrap_or_else(|e| panic!("{e}"))
}

impl GpuExecutor {
    /// A sequence that has read nothing, for tests of passes.
    pub(super) fn test_state(&self) -> State {
        self.memory.begin(&*self.device).unwrap()
    }

    /// Logits of every token of the feeds.
    pub(super) fn test_read(&mut self, feeds: &mut [(&mut State, &[u32])]) -> Vec<Vec<f32>> {
        let rows: usize = feeds.iter().map(|(_, ids)| ids.len()).sum();
        self.forward(feeds, rows).unwrap();
        let all = (0..rows).map(|i| self.logits_row(self.logits(i))).collect();
        assert_eq!(self.device.failure(), None);
        all
    }
}

pub(super) fn bits(rows: &[Vec<f32>]) -> Vec<Vec<u8>> {
    rows.iter().map(|row| bytes_of(row)).collect()
}

/// The largest difference of two rows.
pub(super) fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let worst = |worst: f32, (a, b): (&f32, &f32)| {
        let by = (a - b).abs();
        if by > worst || by.is_nan() { by } else { worst }
    };
    a.iter().zip(b).fold(0.0, worst)
}
