//! What a device is to the code that runs a model on it: memory, copies and launches of the kernels in `kernels/`.
//!
//! Two devices carry out the same kernels from the same launches: a card ([`super::cuda`]), and a program that runs every thread of a
//! block as a fiber on the processor ([`super::emulated`]), which is how all of it is tested where there is no card.

use std::ffi::c_void;
use std::fmt;

/// What went wrong on a device, a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DeviceError(pub String);

/// An address in a device's memory; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address(pub(crate) u64);

impl Address {
    pub(crate) fn plus(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

/// Memory of a device, given back when it is dropped.
pub(crate) struct Buffer {
    pub(crate) at: Address,
    pub(crate) bytes: usize,
    /// gives the memory back
    pub(crate) _owner: Option<Box<dyn Send + Sync>>,
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {:#x}", self.bytes, self.at.0)
    }
}

impl Buffer {
    /// No memory.
    pub(crate) fn none() -> Self {
        Self {
            at: Address(0),
            bytes: 0,
            _owner: None,
        }
    }
}

/// Arguments of a kernel, laid out as a launch takes them: each at an offset that is a multiple of 8.
#[derive(Clone, Debug, Default)]
pub(crate) struct Args {
    words: Vec<u64>,
    starts: Vec<usize>,
}

impl Args {
    pub(crate) fn new() -> Self {
        Self::default()
    }
    fn word(mut self, word: u64) -> Self {
        self.starts.push(self.words.len());
        self.words.push(word);
        self
    }
    pub(crate) fn at(self, address: Address) -> Self {
        self.word(address.0)
    }
    pub(crate) fn u32(self, value: usize) -> Self {
        self.word(u64::from(u32::try_from(value).expect("an argument of 32 bits")))
    }
    pub(crate) fn u64(self, value: u64) -> Self {
        self.word(value)
    }
    pub(crate) fn f32(self, value: f32) -> Self {
        self.word(u64::from(value.to_bits()))
    }
    /// A structure of the kernels.
    pub(crate) fn pack(mut self, packed: Packed) -> Self {
        self.starts.push(self.words.len());
        let whole = packed.bytes.len().next_multiple_of(8);
        let mut bytes = packed.bytes;
        bytes.resize(whole, 0);
        let words = bytes
            .chunks_exact(8)
            .map(|b| u64::from_le_bytes(b.try_into().expect("8 bytes")));
        self.words.extend(words);
        self
    }
    /// Where each argument lies.
    pub(crate) fn pointers(&mut self) -> Vec<*mut c_void> {
        let words = self.words.as_mut_ptr();
        let at = |start: &usize| words.wrapping_add(*start).cast();
        self.starts.iter().map(at).collect()
    }
}

/// A structure of the kernels, field by field as C++ lays it out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packed {
    bytes: Vec<u8>,
}

impl Packed {
    pub(crate) fn new() -> Self {
        Self::default()
    }
    fn put(mut self, bytes: &[u8]) -> Self {
        self.bytes
            .resize(self.bytes.len().next_multiple_of(bytes.len()), 0);
        self.bytes.extend_from_slice(bytes);
        self
    }
    pub(crate) fn at(self, address: Address) -> Self {
        self.put(&address.0.to_le_bytes())
    }
    pub(crate) fn u64(self, value: u64) -> Self {
        self.put(&value.to_le_bytes())
    }
    pub(crate) fn u32(self, value: usize) -> Self {
        self.put(&u32::try_from(value).expect("a field of 32 bits").to_le_bytes())
    }
    pub(crate) fn f32(self, value: f32) -> Self {
        self.put(&value.to_le_bytes())
    }
}

/// A launch of a kernel.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) kernel: &'static str,
    pub(crate) grid: [usize; 3],
    pub(crate) block: usize,
    pub(crate) args: Args,
}

/// What launches did while they were recorded, to be done again at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recording(pub(crate) usize);

/// A device with the kernels of a model. Everything that is asked of it happens in the order in which it was asked, beside what the
/// processor does; only [`Self::read`] and [`Self::finish`] wait.
///
/// After the first failure nothing more is done, what is read is zeros, and [`Self::failure`] says what it was.
pub(crate) trait Device: Send {
    /// What results are bit-exact within.
    fn id(&self) -> String;
    /// What a user calls it.
    fn name(&self) -> String;
    /// Bytes that are free now.
    fn free_bytes(&self) -> u64;
    /// Memory that holds anything.
    fn alloc(&self, bytes: usize) -> Result<Buffer, DeviceError>;
    /// Copies bytes to the device; they may change once this returns.
    fn write(&self, to: Address, bytes: &[u8]);
    /// Waits for everything before, and copies bytes from the device.
    fn read(&self, from: Address, bytes: &mut [u8]);
    fn copy(&self, from: Address, to: Address, bytes: usize);
    fn zero(&self, at: Address, bytes: usize);
    fn launch(&self, launch: Launch);
    /// Begins to record launches instead of carrying them out; nothing else may be asked for until the end.
    fn record(&self);
    /// Ends a recording.
    fn recorded(&self) -> Recording;
    /// Launches what was recorded.
    fn replay(&self, recording: Recording);
    /// Waits for everything that was asked for.
    fn finish(&self);
    /// The first failure.
    fn failure(&self) -> Option<DeviceError>;
}

/// What is compiled into the kernels of a model.
pub(crate) type Defines = Vec<(&'static str, usize)>;

/// The kernels' source files, by name; the first includes the others.
pub(crate) const SOURCES: [(&str, &str); 8] = [
    ("all.cu", include_str!("kernels/all.cu")),
    ("rows.cu", include_str!("kernels/rows.cu")),
    ("product.cu", include_str!("kernels/product.cu")),
    ("mixer.cu", include_str!("kernels/mixer.cu")),
    ("attention.cu", include_str!("kernels/attention.cu")),
    ("experts.cu", include_str!("kernels/experts.cu")),
    ("sample.cu", include_str!("kernels/sample.cu")),
    ("device.h", include_str!("kernels/device.h")),
];

/// The version of the kernels' arithmetic: it is part of a device's [`Device::id`], and a change of bits changes it.
pub(crate) const KERNELS: u32 = 1;

/// Numbers as the bytes that a device takes.
pub(crate) fn bytes_of<T: Plain>(values: &[T]) -> Vec<u8> {
    values.iter().flat_map(|v| v.bytes()).collect()
}

/// A number with a layout of its own.
pub(crate) trait Plain: Copy {
    fn bytes(self) -> impl Iterator<Item = u8>;
}
macro_rules! plain {
    ($($kind:ty),*) => {$(impl Plain for $kind {
        fn bytes(self) -> impl Iterator<Item = u8> { self.to_le_bytes().into_iter() }
    })*};
}
plain!(u8, u16, u32, u64, f32);
