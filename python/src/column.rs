//! A column of numbers that Python reads where it lies.

// the buffer protocol is made of pointers
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_void};

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

/// Numbers of one type, one after the other.
enum Numbers {
    U32(Vec<u32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

/// A column of numbers that cannot be written. It gives the buffer protocol: `memoryview(column)` and
/// `numpy.asarray(column)` read it without a copy.
#[pyclass(frozen, module = "tts")]
pub(crate) struct Column {
    numbers: Numbers,
    /// what a buffer's `shape` and `strides` point to
    shape: [ffi::Py_ssize_t; 1],
    strides: [ffi::Py_ssize_t; 1],
}

impl Column {
    fn new(numbers: Numbers, len: usize, width: usize) -> Self {
        Self {
            numbers,
            shape: [len as ffi::Py_ssize_t],
            strides: [width as ffi::Py_ssize_t],
        }
    }

    /// Where the numbers lie, and their type as the module `struct` writes it.
    fn raw(&self) -> (*const c_void, &'static CStr) {
        match &self.numbers {
            Numbers::U32(v) => (v.as_ptr().cast(), c"I"),
            Numbers::I64(v) => (v.as_ptr().cast(), c"q"),
            Numbers::F32(v) => (v.as_ptr().cast(), c"f"),
            Numbers::F64(v) => (v.as_ptr().cast(), c"d"),
        }
    }
}

macro_rules! columns {
    ($($type:ty => $variant:ident),*) => {$(
        impl From<Vec<$type>> for Column {
            fn from(numbers: Vec<$type>) -> Self {
                let len = numbers.len();
                Self::new(Numbers::$variant(numbers), len, size_of::<$type>())
            }
        }
    )*};
}
columns!(u32 => U32, i64 => I64, f32 => F32, f64 => F64);

#[pymethods]
impl Column {
    fn __len__(&self) -> usize {
        self.shape[0] as usize
    }

    fn __repr__(&self) -> String {
        let name = match &self.numbers {
            Numbers::U32(_) => "uint32",
            Numbers::I64(_) => "int64",
            Numbers::F32(_) => "float32",
            Numbers::F64(_) => "float64",
        };
        format!("<Column of {} {name}>", self.shape[0])
    }

    /// # Safety
    /// Called by Python alone, with a view to be filled.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("there is no view to fill"));
        }
        if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
            return Err(PyBufferError::new_err(
                "a column of a recording cannot be written",
            ));
        }
        let column = slf.get();
        let (buf, format) = column.raw();
        let asked = |flag: c_int| flags & flag == flag;
        // SAFETY: `view` is not null and Python's to fill. All that it points to lies in the column, which is
        // frozen, so that nothing moves, and which `obj` keeps alive until the view is released.
        unsafe {
            (*view).buf = buf.cast_mut();
            (*view).len = column.shape[0] * column.strides[0];
            (*view).readonly = 1;
            (*view).itemsize = column.strides[0];
            (*view).format = if asked(ffi::PyBUF_FORMAT) {
                format.as_ptr().cast_mut()
            } else {
                std::ptr::null_mut()
            };
            (*view).ndim = 1;
            (*view).shape = if asked(ffi::PyBUF_ND) {
                column.shape.as_ptr().cast_mut()
            } else {
                std::ptr::null_mut()
            };
            (*view).strides = if asked(ffi::PyBUF_STRIDES) {
                column.strides.as_ptr().cast_mut()
            } else {
                std::ptr::null_mut()
            };
            (*view).suboffsets = std::ptr::null_mut();
            (*view).internal = std::ptr::null_mut();
            (*view).obj = slf.into_any().into_ptr();
        }
        Ok(())
    }
}
