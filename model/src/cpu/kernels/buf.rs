//! Zeroed `f32` memory aligned to a cache line, and rows of activations in it.

#![allow(
    unsafe_code,
    reason = "memory is aligned to cache lines, so it is allocated by hand, and threads share rows of it"
)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::hugepage::Piece;

const ALIGN: usize = 64;

/// Row widths are padded with zeros to this many elements, so that kernels need no tails.
pub(crate) const PAD: usize = 32;

/// `n` rounded up to a multiple of [`PAD`].
pub(crate) fn padded(n: usize) -> usize {
    n.div_ceil(PAD) * PAD
}

/// Elements from which memory is mapped with large pages where the system has them: streams over it then miss
/// fewer address translations.
const MAPPED: usize = 1 << 20;

/// Elements of a matrix below which large pages are not worth their room.
const SMALL: usize = 1 << 17;

/// `len` zeroed elements, aligned to 64 bytes.
pub(crate) struct Buf {
    ptr: NonNull<f32>,
    len: usize,
    memory: Memory,
}

/// Where it comes from.
enum Memory {
    Allocated,
    Mapped(memmap2::MmapMut),
    Piece(Piece),
}

// SAFETY: Buf owns its memory like a Vec<f32>
unsafe impl Send for Buf {}
// SAFETY: shared access only reads
unsafe impl Sync for Buf {}

impl Buf {
    /// Zeroed memory for `len` elements.
    pub(crate) fn zeroed(len: usize) -> Self {
        if len >= MAPPED
            && let Ok(mut map) = memmap2::MmapMut::map_anon(len * size_of::<f32>())
            && let Some(ptr) = NonNull::new(map.as_mut_ptr().cast::<f32>())
        {
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            return Self {
                ptr,
                len,
                memory: Memory::Mapped(map),
            };
        }
        let layout = Self::layout(len);
        // SAFETY: the layout's size is not zero
        let raw = unsafe { alloc_zeroed(layout) };
        let ptr = NonNull::new(raw.cast::<f32>()).unwrap_or_else(|| handle_alloc_error(layout));
        Self {
            ptr,
            len,
            memory: Memory::Allocated,
        }
    }

    /// [`Self::zeroed`] for memory of which there is much in this length, and which is read at every step.
    pub(crate) fn paged(len: usize) -> Self {
        let mut memory = Self::unset(len);
        if matches!(&memory.memory, Memory::Piece(piece) if piece.is_written()) {
            memory.fill(0.0);
        }
        memory
    }

    /// Zeroed memory for weights, which every step reads from one end to the other: in large pages, but for
    /// matrices so small that a page of their own would be mostly empty.
    pub(crate) fn for_weights(len: usize) -> Self {
        if len < SMALL {
            Self::zeroed(len)
        } else {
            Self::paged(len)
        }
    }

    /// [`Self::paged`] with anything in it, for what is written before it is read.
    fn unset(len: usize) -> Self {
        match Piece::new(len) {
            Some(piece) => Self {
                ptr: piece.at(),
                len,
                memory: Memory::Piece(piece),
            },
            None => Self::zeroed(len),
        }
    }

    /// The memory, for kernels whose tasks write disjoint parts of it.
    pub(crate) fn raw(&self) -> *mut f32 {
        self.ptr.as_ptr()
    }

    /// The memory as bytes.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: ptr is valid for len elements of four bytes, and &mut self is unique
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr().cast(), self.len * size_of::<f32>()) }
    }

    /// The memory as bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: as above, and only read
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr().cast(), self.len * size_of::<f32>()) }
    }

    /// The memory as pairs of 16-bit numbers.
    pub(crate) fn words_mut(&mut self) -> &mut [u32] {
        // SAFETY: every bit pattern is a u32
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr().cast(), self.len) }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len.max(1) * size_of::<f32>(), ALIGN)
            .expect("a buffer is smaller than the address space")
    }
}

impl Clone for Buf {
    fn clone(&self) -> Self {
        let mut copy = match self.memory {
            Memory::Piece(_) => Self::unset(self.len),
            _ => Self::zeroed(self.len),
        };
        copy.copy_from_slice(self);
        copy
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.memory, Memory::Allocated) {
            // SAFETY: allocated in `zeroed` with the same layout
            Memory::Allocated => unsafe { dealloc(self.ptr.as_ptr().cast(), Self::layout(self.len)) },
            Memory::Mapped(map) => drop(map),
            Memory::Piece(piece) => piece.give_back(),
        }
    }
}

impl Deref for Buf {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: ptr is valid for len initialised elements
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and &mut self is unique
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

/// A matrix `[rows, width]` of activations; the stride is the padded width and the padding is zero or
/// scratch.
pub struct Rows {
    buf: Buf,
    rows: usize,
    width: usize,
    stride: usize,
}

impl Rows {
    /// Room for `rows` rows of `width`.
    pub fn zeroed(rows: usize, width: usize) -> Self {
        let stride = padded(width);
        Self {
            buf: Buf::zeroed(rows * stride),
            rows,
            width,
            stride,
        }
    }

    /// Makes it `rows` rows long, keeping the memory when it is large enough. Old contents are kept as
    /// scratch.
    pub fn resize(&mut self, rows: usize) {
        if rows * self.stride > self.buf.len() {
            self.buf = Buf::zeroed(rows.next_power_of_two() * self.stride);
        }
        self.rows = rows;
    }

    /// Rows in use now; the memory may hold more.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Numbers of a row, without the padding behind them.
    pub fn width(&self) -> usize {
        self.width
    }
    /// Distance between rows, in elements.
    pub fn stride(&self) -> usize {
        self.stride
    }
    /// Row `i` without its padding.
    pub fn row(&self, i: usize) -> &[f32] {
        assert!(i < self.rows);
        &self.buf[i * self.stride..][..self.width]
    }
    /// Row `i` without its padding.
    pub fn row_mut(&mut self, i: usize) -> &mut [f32] {
        assert!(i < self.rows);
        &mut self.buf[i * self.stride..][..self.width]
    }
    /// Copies row `from` over row `to`.
    pub(crate) fn copy_row(&mut self, from: usize, to: usize) {
        assert!(from < self.rows && to < self.rows);
        self.buf
            .copy_within(from * self.stride..(from + 1) * self.stride, to * self.stride);
    }
    pub(crate) fn as_ptr(&self) -> *const f32 {
        self.buf.raw()
    }
    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.buf.raw()
    }
    /// Bytes of memory that it takes, padding included.
    pub fn bytes(&self) -> usize {
        self.buf.len() * size_of::<f32>()
    }
}

/// A pointer that tasks of one parallel phase share; each task touches its own part.
pub(crate) struct Shared<T>(pub(crate) *mut T);
impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Shared<T> {}
// SAFETY: every use is inside a kernel whose tasks write disjoint parts
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above
unsafe impl<T> Sync for Shared<T> {}
impl<T> Shared<T> {
    /// # Safety
    /// `i` must lie in the allocation, and no other task may touch what is written through the result.
    #[inline(always)]
    pub(crate) unsafe fn at(self, i: usize) -> *mut T {
        unsafe { self.0.add(i) }
    }
}
