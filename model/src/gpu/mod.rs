//! A model on a GPU: kernels in one dialect of CUDA C++, which the driver's run-time compiler makes for a card and the system's C++
//! compiler for an emulated device.
//!
//! What holds on the processor holds here: a row's result does not depend on the rows beside it. Tiles, slices of a sum and their order
//! follow from the shape of a weight alone, nothing is chosen by timing, and no library multiplies. Results are bit-exact within an
//! [`Executor::id`](crate::executor::Executor::id), which names the architecture, the compiler and the version of the kernels.

mod cuda;
mod device;
mod draw;
mod emulated;
mod executor;
mod matrix;
mod memory;
mod model;
mod parts;
mod space;
mod step;
#[cfg(test)]
mod tests;

pub use cuda::{CardInfo, cards};
pub use device::DeviceError;
pub use emulated::Order;
pub use executor::GpuExecutor;
pub use model::GpuDevice;
