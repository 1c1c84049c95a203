//! A device that is none: the kernels as the system's C++ compiler makes them, every thread of a block a fiber.
//!
//! It carries out barriers, exchanges between the lanes of a warp and tensor-core products with CUDA's semantics, and finds what a
//! card hides: shared memory that nobody wrote (it begins as NaN), threads that end while others wait for them, accesses behind the
//! end of a buffer (a page that nobody may touch follows each), and results that depend on the order of threads (the order is a setting).

#![allow(
    unsafe_code,
    reason = "kernels are called through a library that is loaded here, on memory that is mapped here"
)]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use super::device::{Address, Buffer, Defines, Device, DeviceError, KERNELS, Launch, Recording, SOURCES};

/// What a buffer holds before it is written.
const POISON: u8 = 0xff;
const PAGE: usize = 4096;

type Emulate = unsafe extern "C" fn(*const c_char, *const u32, *const u32, *mut *mut c_void, c_int) -> c_int;

/// The order in which the threads of a block run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By their index.
    #[default]
    Ascending,
    /// From the last.
    Descending,
    /// Another one at every turn.
    Shuffled,
}

/// Kernels that were compiled. Their file is deleted, and held open: another one that got its number would be taken for it.
struct Library {
    library: libloading::Library,
    _file: File,
}

#[cfg(test)]
thread_local! {
    /// A file of the kernels, and the text that a test of this thread has in its place.
    pub(super) static PLANTED: RefCell<Option<(&'static str, String)>> = const { RefCell::new(None) };
}

/// The emulated device.
pub(crate) struct Emulated {
    library: Arc<Library>,
    order: Order,
    memory: usize,
    /// launches until it is lost
    left: Cell<u64>,
    taken: Arc<Mutex<usize>>,
    recording: Cell<bool>,
    recordings: RefCell<Vec<Vec<Launch>>>,
    failure: RefCell<Option<DeviceError>>,
}

// SAFETY: the library's functions keep what they need by thread, and a device is used by one thread at a time
unsafe impl Send for Emulated {}

impl Emulated {
    /// A device with so many bytes of memory, and the kernels of a model; with `extra` lines before the source, for tests.
    pub(crate) fn new(defines: &Defines, memory: usize, order: Order) -> Result<Self, DeviceError> {
        #[cfg(test)]
        if let Some((file, text)) = PLANTED.with_borrow(Clone::clone) {
            let mut sources = SOURCES;
            let source = sources.iter_mut().find(|(name, _)| *name == file);
            source.expect("a file of the kernels").1 = &text;
            return Self::with_sources(defines, memory, order, &sources);
        }
        Self::with_sources(defines, memory, order, &SOURCES)
    }

    pub(crate) fn with_sources(
        defines: &Defines,
        memory: usize,
        order: Order,
        sources: &[(&str, &str)],
    ) -> Result<Self, DeviceError> {
        Ok(Self {
            library: library(defines, sources)?,
            order,
            memory,
            left: Cell::new(u64::MAX),
            taken: Arc::default(),
            recording: Cell::new(false),
            recordings: RefCell::default(),
            failure: RefCell::default(),
        })
    }

    /// The device, lost after so many launches.
    pub(crate) fn lost_after(self, launches: Option<u64>) -> Self {
        self.left.set(launches.unwrap_or(u64::MAX));
        self
    }

    fn fail(&self, why: String) {
        self.failure.borrow_mut().get_or_insert(DeviceError(why));
    }

    fn carry_out(&self, launch: &Launch) {
        if self.failure.borrow().is_some() {
            return;
        }
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => {
                self.fail(format!("the emulated device was lost ({})", launch.kernel));
                return;
            }
        }
        let name = CString::new(launch.kernel).expect("a name without a zero byte");
        let grid = launch.grid.map(|n| u32::try_from(n).expect("a grid of 32 bits"));
        if grid.contains(&0) {
            return;
        }
        let block = [u32::try_from(launch.block).expect("a block of 32 bits"), 1, 1];
        let mut args = launch.args.clone();
        let order = match self.order {
            Order::Ascending => 0,
            Order::Descending => 1,
            Order::Shuffled => 2,
        };
        // SAFETY: the library was made from our sources, whose functions these are; arguments are laid out as the kernel takes them
        let code = unsafe {
            let emulate: libloading::Symbol<'_, Emulate> =
                self.library.library.get(b"emulate").expect("our own function");
            emulate(
                name.as_ptr(),
                grid.as_ptr(),
                block.as_ptr(),
                args.pointers().as_mut_ptr(),
                order,
            )
        };
        match code {
            0 => {}
            1 => self.fail(format!("the emulated device has no kernel {}", launch.kernel)),
            _ => {
                // SAFETY: as above; the text is the library's and ends with a zero
                let what = unsafe {
                    let error: libloading::Symbol<'_, unsafe extern "C" fn() -> *const c_char> = self
                        .library
                        .library
                        .get(b"emulated_error")
                        .expect("our own function");
                    CStr::from_ptr(error()).to_string_lossy().into_owned()
                };
                self.fail(format!("the emulated device: {}: {what}", launch.kernel));
            }
        }
    }
}

/// The kernels, compiled unless they were.
fn library(defines: &Defines, sources: &[(&str, &str)]) -> Result<Arc<Library>, DeviceError> {
    static COMPILED: Mutex<Option<HashMap<blake3::Hash, Arc<Library>>>> = Mutex::new(None);
    let flags: Vec<String> = defines
        .iter()
        .map(|(name, value)| format!("-D{name}={value}"))
        .collect();
    let mut hasher = blake3::Hasher::new();
    for part in flags
        .iter()
        .map(String::as_str)
        .chain(sources.iter().map(|(_, text)| *text))
    {
        hasher.update(part.as_bytes());
        hasher.update(&[0]);
    }
    let key = hasher.finalize();
    {
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = compiled.get_or_insert_default().get(&key) {
            return Ok(library.clone());
        }
    }
    let library = Arc::new(compile(&flags, sources)?);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(compiled
        .get_or_insert_default()
        .entry(key)
        .or_insert(library)
        .clone())
}

fn compile(flags: &[String], sources: &[(&str, &str)]) -> Result<Library, DeviceError> {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let said = |what: &str, e: std::io::Error| DeviceError(format!("--device emulated: {what}: {e}"));
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("tts-emulated-{}-{count}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|e| said("its kernels cannot be written", e))?;
    let library = compile_in(&folder, flags, sources, &said);
    let _ = std::fs::remove_dir_all(&folder);
    library
}

fn compile_in(
    folder: &Path,
    flags: &[String],
    sources: &[(&str, &str)],
    said: &dyn Fn(&str, std::io::Error) -> DeviceError,
) -> Result<Library, DeviceError> {
    for (name, text) in sources
        .iter()
        .chain([&("emulator.h", include_str!("kernels/emulator.h"))])
    {
        std::fs::write(folder.join(name), text).map_err(|e| said("its kernels cannot be written", e))?;
    }
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let out = folder.join("kernels.so");
    let run = Command::new(&compiler)
        .args([
            "-std=c++17",
            "-O2",
            "-fPIC",
            "-shared",
            "-fvisibility=hidden",
            "-w",
            "-DEMULATED",
        ])
        .args(["-ffp-contract=off", "-x", "c++"])
        .args(flags)
        .arg(folder.join("all.cu"))
        .arg("-o")
        .arg(&out)
        .output()
        .map_err(|e| {
            said(
                &format!("it needs a C++ compiler, and {compiler} cannot be started"),
                e,
            )
        })?;
    if !run.status.success() {
        let why = String::from_utf8_lossy(&run.stderr);
        let first = why
            .lines()
            .find(|line| line.contains("error"))
            .unwrap_or_default();
        return Err(DeviceError(format!(
            "--device emulated: {compiler} refuses the kernels: {first}"
        )));
    }
    // SAFETY: the library holds our kernels and runs nothing when it is loaded
    let library = unsafe { libloading::Library::new(&out) }
        .map_err(|e| DeviceError(format!("--device emulated: {e}")))?;
    let file = File::open(&out).map_err(|e| said("its kernels cannot be read", e))?;
    Ok(Library { library, _file: file })
}

impl Device for Emulated {
    fn id(&self) -> String {
        format!("emulated/k{KERNELS}")
    }
    fn name(&self) -> String {
        "an emulated device".to_owned()
    }
    fn free_bytes(&self) -> u64 {
        let taken = *self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        self.memory.saturating_sub(taken) as u64
    }
    fn alloc(&self, bytes: usize) -> Result<Buffer, DeviceError> {
        if bytes == 0 {
            return Ok(Buffer::none());
        }
        if bytes as u64 > self.free_bytes() {
            let free = self.free_bytes();
            return Err(DeviceError(format!(
                "the device has {free} bytes left, and {bytes} are needed"
            )));
        }
        let memory = Mapping::new(bytes, self.taken.clone())?;
        Ok(Buffer {
            at: Address(memory.start),
            bytes,
            _owner: Some(Box::new(memory)),
        })
    }
    fn write(&self, to: Address, bytes: &[u8]) {
        debug_assert!(!self.recording.get(), "only launches are recorded");
        // SAFETY: addresses are of buffers that live, and lengths are theirs; what is not is found by the page behind each
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.0 as *mut u8, bytes.len()) }
    }
    fn read(&self, from: Address, bytes: &mut [u8]) {
        if self.failure.borrow().is_some() {
            bytes.fill(0);
            return;
        }
        // SAFETY: as above
        unsafe { std::ptr::copy_nonoverlapping(from.0 as *const u8, bytes.as_mut_ptr(), bytes.len()) }
    }
    fn copy(&self, from: Address, to: Address, bytes: usize) {
        // SAFETY: as above
        unsafe { std::ptr::copy(from.0 as *const u8, to.0 as *mut u8, bytes) }
    }
    fn zero(&self, at: Address, bytes: usize) {
        // SAFETY: as above
        unsafe { std::ptr::write_bytes(at.0 as *mut u8, 0, bytes) }
    }
    fn launch(&self, launch: Launch) {
        if self.recording.get() {
            self.recordings
                .borrow_mut()
                .last_mut()
                .expect("begun")
                .push(launch);
        } else {
            self.carry_out(&launch);
        }
    }
    fn record(&self) {
        self.recordings.borrow_mut().push(Vec::new());
        self.recording.set(true);
    }
    fn recorded(&self) -> Recording {
        self.recording.set(false);
        Recording(self.recordings.borrow().len() - 1)
    }
    fn replay(&self, recording: Recording) {
        for launch in &self.recordings.borrow()[recording.0] {
            self.carry_out(launch);
        }
    }
    fn finish(&self) {}
    fn failure(&self) -> Option<DeviceError> {
        self.failure.borrow().clone()
    }
}

/// Memory whose end borders on a page that nobody may touch.
struct Mapping {
    base: *mut c_void,
    len: usize,
    start: u64,
    bytes: usize,
    taken: Arc<Mutex<usize>>,
}

// SAFETY: the memory belongs to nobody else
unsafe impl Send for Mapping {}
// SAFETY: nothing of it changes before it is dropped
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(bytes: usize, taken: Arc<Mutex<usize>>) -> Result<Self, DeviceError> {
        let len = bytes.next_multiple_of(PAGE) + PAGE;
        // SAFETY: new memory, which nobody else has; its last page is taken away
        unsafe {
            let (rights, kind) = (
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            );
            let base = libc::mmap(std::ptr::null_mut(), len, rights, kind, -1, 0);
            if base == libc::MAP_FAILED {
                return Err(DeviceError(format!(
                    "this machine has no {bytes} bytes for the emulated device"
                )));
            }
            let guard = base.add(len - PAGE);
            libc::mprotect(guard, PAGE, libc::PROT_NONE);
            // aligned as a device aligns, and never written
            let start = (guard as usize - bytes) / 16 * 16;
            if bytes <= POISONED {
                std::ptr::write_bytes(start as *mut u8, POISON, guard as usize - start);
            }
            *taken.lock().unwrap_or_else(PoisonError::into_inner) += bytes;
            Ok(Self {
                base,
                len,
                start: start as u64,
                bytes,
                taken,
            })
        }
    }
}

/// Larger buffers begin as zeros, which take no memory until they are written.
const POISONED: usize = 64 << 20;

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped above, and nobody has its address any more
        unsafe { libc::munmap(self.base, self.len) };
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
    }
}
