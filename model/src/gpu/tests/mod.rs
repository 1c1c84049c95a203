//! The whole executor on the emulated device: against reference numbers, against the processor, against itself.

mod draws;
mod goldens;
mod rows;
mod traces;

use std::path::{Path, PathBuf};

use super::device::bytes_of;
use super::memory::State;
use super::{GpuDevice, GpuExecutor, Order};
use crate::weights::Checkpoint;
use crate::{Formats, KvFormat, StateFormat, WeightFormat};

pub(super) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures")
        .join(name)
}

pub(super) fn checkpoint(name: &str) -> Checkpoint {
    Checkpoint::open(&fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

pub(super) const F32: Formats = Formats {
    weights: WeightFormat::F32,
    kv: Some(KvFormat::F32),
    state: StateFormat::F32,
};

pub(super) fn on(order: Order) -> GpuDevice {
    GpuDevice::Emulated {
        memory: 1 << 30,
        order,
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
