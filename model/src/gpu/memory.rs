//! What sequences hold of a device's memory: a slot each, with states, windows and the table of pages; and pages of keys and
//! values, shared by reference.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::device::{Address, Buffer, Device, DeviceError};
use crate::spec::{Mixer, ModelSpec};
use crate::{KvFormat, StateFormat};

/// Positions of a page.
pub(super) const PAGE: usize = 64;
/// Bytes that are asked of the device at a time.
const SLAB: usize = 64 << 20;
/// Objects begin at multiples of this.
const ALIGN: usize = 256;

/// Where everything of a sequence lies.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) kv: KvFormat,
    pub(super) state: StateFormat,
    /// of each attention part, its first number in a page
    pub(super) attention: Vec<u64>,
    /// of each recurrent part, the first bytes of its state and its window in a slot
    pub(super) recurrent: Vec<(u64, u64)>,
    /// of each short convolution, the first byte of its window
    pub(super) conv: Vec<u64>,
    /// states and windows: what a fork copies beside the table
    pub(super) state_bytes: usize,
    /// first byte of the table of pages
    pub(super) table: u64,
    pub(super) slot_bytes: usize,
    pub(super) page_bytes: usize,
}

impl Layout {
    pub(super) fn new(spec: &ModelSpec, kv: KvFormat, state: StateFormat) -> Self {
        let mut layout = Self {
            kv,
            state,
            attention: Vec::new(),
            recurrent: Vec::new(),
            conv: Vec::new(),
            state_bytes: 0,
            table: 0,
            slot_bytes: 0,
            page_bytes: 0,
        };
        let number = if kv == KvFormat::F32 { 4 } else { 2 };
        let of_state = if state == StateFormat::F32 { 4 } else { 2 };
        let mut numbers = 0;
        for mixer in spec.mixers() {
            let (heads, width, keys, channels, taps) = match mixer {
                Mixer::Attention(a) => {
                    layout.attention.push(numbers as u64);
                    numbers += 2 * a.kv_heads * a.head_dim * PAGE;
                    continue;
                }
                Mixer::ShortConv(c) => {
                    let at = layout.take((c.taps - 1) * c.channels * 4);
                    layout.conv.push(at);
                    continue;
                }
                Mixer::Mamba2(m) => (m.heads, m.head_dim, m.d_state, m.channels(), m.taps),
                Mixer::GatedDelta(d) => (d.heads, d.head_dim, d.key_dim, d.channels(), d.taps),
                Mixer::Mlp(_) | Mixer::Moe(_) => continue,
            };
            let state = layout.take(heads * width * keys.next_multiple_of(4) * of_state);
            let window = layout.take((taps - 1) * channels * 4);
            layout.recurrent.push((state, window));
        }
        layout.page_bytes = (numbers * number).next_multiple_of(ALIGN);
        layout.table = layout.state_bytes as u64;
        let table = if numbers == 0 {
            0
        } else {
            spec.context.div_ceil(PAGE) * 8
        };
        layout.slot_bytes = (layout.state_bytes + table).next_multiple_of(ALIGN).max(ALIGN);
        layout
    }

    fn take(&mut self, bytes: usize) -> u64 {
        let at = self.state_bytes;
        self.state_bytes += bytes.next_multiple_of(ALIGN);
        at as u64
    }
}

/// Objects of one size.
pub(super) struct Pool {
    size: usize,
    slabs: Vec<Slab>,
    free: BTreeSet<Address>,
}

struct Slab {
    memory: Buffer,
    taken: usize,
}

/// A pool that its objects give themselves back to.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Pool>>);

/// An object of a pool, given back when it is dropped.
pub(super) struct Held {
    pub(super) at: Address,
    pool: Shared,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut pool = self.pool.lock();
        let slab = pool.slab_of(self.at);
        pool.slabs[slab].taken -= 1;
        pool.free.insert(self.at);
    }
}

impl Shared {
    pub(super) fn new(size: usize) -> Self {
        Self(Arc::new(Mutex::new(Pool {
            size,
            slabs: Vec::new(),
            free: BTreeSet::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object, which holds anything.
    pub(super) fn take(&self, device: &dyn Device) -> Result<Held, DeviceError> {
        let mut pool = self.lock();
        if pool.free.is_empty() {
            pool.grow(device)?;
        }
        let at = pool.free.pop_first().expect("there is one");
        let slab = pool.slab_of(at);
        pool.slabs[slab].taken += 1;
        Ok(Held {
            at,
            pool: self.clone(),
        })
    }

    /// Bytes of objects that nobody has.
    pub(super) fn free_bytes(&self) -> u64 {
        let pool = self.lock();
        (pool.free.len() * pool.size) as u64
    }

    /// Gives memory back until at most `bytes` of objects are kept that nobody has, by whole slabs.
    pub(super) fn trim(&self, bytes: u64) {
        let mut pool = self.lock();
        for i in (0..pool.slabs.len()).rev() {
            if (pool.free.len() * pool.size) as u64 <= bytes {
                return;
            }
            if pool.slabs[i].taken == 0 {
                let slab = pool.slabs.remove(i);
                let end = slab.memory.at.plus(slab.memory.bytes as u64);
                pool.free.retain(|at| *at < slab.memory.at || *at >= end);
            }
        }
    }
}

impl Pool {
    fn grow(&mut self, device: &dyn Device) -> Result<(), DeviceError> {
        let count = (SLAB / self.size).max(1);
        // less where there is less, which others need too
        let fits = usize::try_from(device.free_bytes() / 8).unwrap_or(usize::MAX) / self.size;
        let memory = device.alloc(count.min(fits.max(1)) * self.size)?;
        let objects = memory.bytes / self.size;
        self.free
            .extend((0..objects).map(|i| memory.at.plus((i * self.size) as u64)));
        self.slabs.push(Slab { memory, taken: 0 });
        Ok(())
    }

    fn slab_of(&self, at: Address) -> usize {
        let within = |slab: &Slab| at >= slab.memory.at && at.0 < slab.memory.at.0 + slab.memory.bytes as u64;
        self.slabs
            .iter()
            .position(within)
            .expect("an object of this pool")
    }
}

/// What a sequence has read.
pub(super) struct State {
    pub(super) slot: Held,
    pub(super) pages: Vec<Arc<Held>>,
    pub(super) len: usize,
}

/// The memory of all sequences.
pub(super) struct Memory {
    pub(super) layout: Layout,
    slots: Shared,
    pages: Shared,
}

impl Memory {
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            slots: Shared::new(layout.slot_bytes),
            pages: Shared::new(layout.page_bytes.max(ALIGN)),
            layout,
        }
    }

    /// A sequence that has read nothing, its states zero.
    pub(super) fn begin(&self, device: &dyn Device) -> Result<State, DeviceError> {
        let slot = self.slots.take(device)?;
        device.zero(slot.at, self.layout.state_bytes);
        Ok(State {
            slot,
            pages: Vec::new(),
            len: 0,
        })
    }

    /// A copy that goes its own way: the slot is copied, full pages are shared, the last one is copied.
    pub(super) fn fork(&self, device: &dyn Device, of: &State) -> Result<State, DeviceError> {
        self.prefix(device, of, of.len)
    }

    /// Whether the first tokens of what was read have no state of their own.
    pub(super) fn has_prefixes(&self) -> bool {
        self.layout.state_bytes == 0
    }

    /// The same of the first `len` tokens: all of them, where states are kept.
    pub(super) fn prefix(&self, device: &dyn Device, of: &State, len: usize) -> Result<State, DeviceError> {
        debug_assert!(len == of.len || self.has_prefixes());
        let slot = self.slots.take(device)?;
        let count = len.div_ceil(PAGE).min(of.pages.len());
        let table = count * 8;
        if self.layout.state_bytes + table > 0 {
            device.copy(of.slot.at, slot.at, self.layout.state_bytes + table);
        }
        let mut state = State {
            slot,
            pages: of.pages[..count].to_vec(),
            len,
        };
        if !len.is_multiple_of(PAGE)
            && let Some(last) = state.pages.pop()
        {
            let own = self.page(device, &mut state)?;
            device.copy(last.at, own, self.layout.page_bytes);
        }
        Ok(state)
    }

    /// Pages for `tokens` more positions.
    pub(super) fn reserve(
        &self,
        device: &dyn Device,
        state: &mut State,
        tokens: usize,
    ) -> Result<(), DeviceError> {
        if self.layout.page_bytes == 0 {
            return Ok(());
        }
        while state.pages.len() * PAGE < state.len + tokens {
            self.page(device, state)?;
        }
        Ok(())
    }

    /// One more page, noted in the table.
    fn page(&self, device: &dyn Device, state: &mut State) -> Result<Address, DeviceError> {
        let page = Arc::new(self.pages.take(device)?);
        let entry = state
            .slot
            .at
            .plus(self.layout.table + 8 * state.pages.len() as u64);
        device.write(entry, &page.at.0.to_le_bytes());
        let at = page.at;
        state.pages.push(page);
        Ok(at)
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.slots.free_bytes() + self.pages.free_bytes()
    }
    pub(super) fn trim(&self, bytes: u64) {
        self.slots.trim(bytes);
        self.pages.trim(bytes);
    }
}
