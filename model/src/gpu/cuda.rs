//! An NVIDIA card, through the driver and the run-time compiler where they are installed. Nothing of CUDA is needed to build.

#![allow(
    unsafe_code,
    reason = "the driver's functions take addresses and handles that are made here"
)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cudarc::driver::{
    CudaContext, CudaFunction, CudaGraph, CudaModule, CudaStream, DriverError, result, sys,
};
use cudarc::nvrtc;

use super::device::{Address, Buffer, Defines, Device, DeviceError, KERNELS, Launch, Recording, SOURCES};

/// The least compute capability that multiplies bf16 on tensor cores.
const LEAST: (i32, i32) = (8, 0);

/// A card with the kernels of a model.
pub(crate) struct Cuda {
    name: String,
    id: String,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    module: Arc<CudaModule>,
    functions: RefCell<HashMap<&'static str, CudaFunction>>,
    graphs: RefCell<Vec<Option<CudaGraph>>>,
    failure: RefCell<Option<DeviceError>>,
}

// SAFETY: a device is used by one thread at a time, and binds its context to the thread that uses it
unsafe impl Send for Cuda {}

/// A card, as it is before a model is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardInfo {
    /// Its number, as `--device cuda:N` counts.
    pub index: usize,
    /// What its maker calls it.
    pub name: String,
    /// Compute capability, as 90 for 9.0.
    pub capability: u32,
    /// Bytes of its memory.
    pub total_bytes: u64,
    /// Bytes that are free now.
    pub free_bytes: u64,
}

/// The cards of this machine.
///
/// # Errors
/// When there is no driver, or it cannot be asked.
pub fn cards() -> Result<Vec<CardInfo>, DeviceError> {
    driver()?;
    result::init().map_err(|e| said("the NVIDIA driver cannot be started", e))?;
    let count = result::device::get_count().map_err(|e| said("the NVIDIA driver names no card", e))?;
    (0..usize::try_from(count).unwrap_or(0)).map(card).collect()
}

fn card(index: usize) -> Result<CardInfo, DeviceError> {
    let card = || {
        let context = CudaContext::new(index)?;
        let (major, minor) = context.compute_capability()?;
        context.bind_to_thread()?;
        let (free, total) = result::mem_get_info()?;
        Ok(CardInfo {
            index,
            name: context.name()?,
            capability: u32::try_from(10 * major + minor).unwrap_or(0),
            total_bytes: total as u64,
            free_bytes: free as u64,
        })
    };
    card().map_err(|e| said(&format!("card {index} cannot be opened"), e))
}

/// cudarc panics where a library is missing: it is asked first.
fn driver() -> Result<(), DeviceError> {
    // SAFETY: looks whether the library can be loaded, and nothing else
    if unsafe { cudarc::driver::sys::is_culib_present() } {
        return Ok(());
    }
    Err(DeviceError(
        "there is no NVIDIA driver here (libcuda.so.1 was not found)".to_owned(),
    ))
}

/// Finds the run-time compiler: where `TTS_NVRTC` says, where the system looks, in CUDA's toolkit, in a Python environment that has it.
fn compiler() -> Result<(), DeviceError> {
    if let Some(path) = std::env::var_os("TTS_NVRTC").map(PathBuf::from).or_else(found) {
        // what it needs lies beside it, where the system does not look
        let folder = path.parent().unwrap_or(Path::new("."));
        let beside = entries(folder).filter(|path| has_prefix(path, "libnvrtc-builtins.so"));
        for library in beside.chain([path.clone()]) {
            // SAFETY: NVIDIA's own libraries, which do nothing when they are loaded; once they are, they are found by their names
            match unsafe { libloading::Library::new(&library) } {
                Ok(library) => std::mem::forget(library),
                Err(e) => {
                    return Err(DeviceError(format!(
                        "{} cannot be loaded: {e}",
                        library.display()
                    )));
                }
            }
        }
    }
    // SAFETY: as above
    if unsafe { nvrtc::sys::is_culib_present() } {
        return Ok(());
    }
    Err(DeviceError(
        "CUDA's run-time compiler (libnvrtc) was not found; it comes with the CUDA toolkit, with PyTorch and with \
         `pip install nvidia-cuda-nvrtc`: TTS_NVRTC may name the file"
            .to_owned(),
    ))
}

/// The compiler where the system does not look by itself.
fn found() -> Option<PathBuf> {
    // SAFETY: as above
    if unsafe { nvrtc::sys::is_culib_present() } {
        return None;
    }
    let mut folders = vec![PathBuf::from("/usr/local/cuda/lib64")];
    let environments = ["VIRTUAL_ENV", "CONDA_PREFIX"]
        .iter()
        .filter_map(std::env::var_os);
    let roots = environments
        .map(PathBuf::from)
        .chain(["/usr", "/usr/local"].map(PathBuf::from));
    for lib in roots.map(|root| root.join("lib")) {
        for python in entries(&lib).filter(|path| has_prefix(path, "python")) {
            for packages in ["site-packages", "dist-packages"] {
                let nvidia = python.join(packages).join("nvidia");
                folders.extend(entries(&nvidia).map(|package| package.join("lib")));
            }
        }
    }
    let mut libraries: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| entries(folder))
        .filter(|path| has_prefix(path, "libnvrtc.so"))
        .collect();
    libraries.sort();
    libraries.pop()
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

fn has_prefix(path: &Path, prefix: &str) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
}

/// The kernels as a program that a driver loads.
pub(crate) struct Compiled {
    binary: Vec<u8>,
    /// of the compiler that made it
    version: String,
    /// what the compiler had to say of them
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "a test looks for registers that went to memory")
    )]
    log: String,
}

/// Compiles the kernels for an architecture (90 for sm_90). It needs no card.
///
/// # Errors
/// When there is no compiler, or it refuses them.
pub(crate) fn compile(defines: &Defines, architecture: u32) -> Result<Compiled, DeviceError> {
    compiler()?;
    let lines = SOURCES.iter().rev().take(1).chain(&SOURCES[1..SOURCES.len() - 1]);
    let source: String = lines
        .flat_map(|(_, text)| text.lines())
        .filter(|line| !line.starts_with("#include") && !line.starts_with("#pragma once"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let source = CString::new(format!("#define INFINITY __int_as_float(0x7f800000)\n{source}"))
        .expect("no zero bytes");
    let mut options = vec![
        format!("--gpu-architecture=sm_{architecture}"),
        "--std=c++17".to_owned(),
        // how many registers each kernel has, and whether some had to go to memory
        "--ptxas-options=-v".to_owned(),
    ];
    options.extend(defines.iter().map(|(name, value)| format!("-D{name}={value}")));
    let refused = |e: nvrtc::result::NvrtcError| DeviceError(format!("CUDA's run-time compiler: {e:?}"));
    let program = nvrtc::result::create_program(&source, None).map_err(refused)?;
    // SAFETY: the program was just made, and is destroyed once, at the end
    unsafe {
        let compiled = nvrtc::result::compile_program(program, &options);
        let log = nvrtc::result::get_program_log(program).unwrap_or_default();
        let log: Vec<u8> = log
            .iter()
            .map(|c| c.to_ne_bytes()[0])
            .take_while(|c| *c != 0)
            .collect();
        let log = String::from_utf8_lossy(&log).into_owned();
        let made = compiled.map_err(|e| {
            let first = log.lines().find(|line| line.contains("error")).unwrap_or_default();
            DeviceError(format!(
                "CUDA's run-time compiler refuses the kernels for compute capability {architecture}: {e:?} {first}"
            ))
        });
        let binary = made.and_then(|()| {
            let mut bytes = 0;
            nvrtc::sys::nvrtcGetCUBINSize(program, &mut bytes)
                .result()
                .map_err(refused)?;
            let mut binary = vec![0u8; bytes];
            nvrtc::sys::nvrtcGetCUBIN(program, binary.as_mut_ptr().cast())
                .result()
                .map_err(refused)?;
            Ok(binary)
        });
        let _ = nvrtc::result::destroy_program(program);
        let (mut major, mut minor) = (0, 0);
        nvrtc::sys::nvrtcVersion(&mut major, &mut minor)
            .result()
            .map_err(refused)?;
        Ok(Compiled {
            binary: binary?,
            version: format!("{major}.{minor}"),
            log,
        })
    }
}

impl Cuda {
    /// Card `index` with the kernels of a model.
    ///
    /// # Errors
    /// One sentence: no driver, no compiler, no such card, one that is too old, a driver that is older than the compiler.
    pub(crate) fn new(index: usize, defines: &Defines) -> Result<Self, DeviceError> {
        let cards = cards()?;
        let Some(card) = cards.get(index) else {
            let count = cards.len();
            return Err(DeviceError(format!(
                "there is no card {index}: this machine has {count}"
            )));
        };
        if card.capability < u32::try_from(10 * LEAST.0 + LEAST.1).unwrap_or(0) {
            return Err(DeviceError(format!(
                "{} has compute capability {}.{}, and {}.{} is needed (bf16 on tensor cores)",
                card.name,
                card.capability / 10,
                card.capability % 10,
                LEAST.0,
                LEAST.1
            )));
        }
        let Compiled { binary, version, .. } = compile(defines, card.capability)?;
        let open = || {
            let context = CudaContext::new(index)?;
            // SAFETY: one stream does everything, so nothing waits for events
            unsafe { context.disable_event_tracking() };
            let stream = context.new_stream()?;
            Ok((context, stream))
        };
        let (context, stream) = open().map_err(|e| said(&format!("card {index} cannot be opened"), e))?;
        let module = context.load_module(nvrtc::Ptx::from_binary(binary)).map_err(|e| {
            said(&format!("the driver does not load what CUDA's run-time compiler {version} made; it may be older"), e)
        })?;
        Ok(Self {
            name: card.name.clone(),
            id: format!("cuda/sm{}-nvrtc{version}-k{KERNELS}", card.capability),
            context,
            stream,
            module,
            functions: RefCell::default(),
            graphs: RefCell::default(),
            failure: RefCell::default(),
        })
    }

    /// Does something on the card unless it failed before.
    fn on_card(&self, what: &str, ask: impl FnOnce() -> Result<(), DriverError>) {
        if self.failure.borrow().is_some() {
            return;
        }
        if let Err(e) = self.context.bind_to_thread().and_then(|()| ask()) {
            let lost = said(&format!("{} was lost ({what})", self.name), e);
            *self.failure.borrow_mut() = Some(lost);
        }
    }

    fn function(&self, kernel: &'static str) -> Result<sys::CUfunction, DriverError> {
        let mut functions = self.functions.borrow_mut();
        if !functions.contains_key(kernel) {
            functions.insert(kernel, self.module.load_function(kernel)?);
        }
        Ok(functions[kernel].cu_function())
    }
}

/// A failure of the driver as a sentence.
fn said(what: &str, e: DriverError) -> DeviceError {
    let name = e.error_name().ok().map(CStr::to_string_lossy).unwrap_or_default();
    let text = e
        .error_string()
        .ok()
        .map(CStr::to_string_lossy)
        .unwrap_or_default();
    DeviceError(format!("{what}: {text} ({name})"))
}

/// Memory of a card.
struct Memory {
    context: Arc<CudaContext>,
    at: u64,
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = self.context.bind_to_thread();
        // SAFETY: taken once, in `alloc`, and given back once
        let _ = unsafe { result::free_sync(self.at) };
    }
}

impl Device for Cuda {
    fn id(&self) -> String {
        self.id.clone()
    }
    fn name(&self) -> String {
        self.name.clone()
    }
    fn free_bytes(&self) -> u64 {
        let free = self
            .context
            .bind_to_thread()
            .and_then(|()| result::mem_get_info());
        free.map_or(0, |(free, _)| free as u64)
    }
    fn alloc(&self, bytes: usize) -> Result<Buffer, DeviceError> {
        if bytes == 0 {
            return Ok(Buffer::none());
        }
        // SAFETY: new memory, which is not read before it is written
        let at = self
            .context
            .bind_to_thread()
            .and_then(|()| unsafe { result::malloc_sync(bytes) });
        let at = at.map_err(|e| said(&format!("{} does not give {bytes} bytes", self.name), e))?;
        let context = self.context.clone();
        Ok(Buffer {
            at: Address(at),
            bytes,
            _owner: Some(Box::new(Memory { context, at })),
        })
    }
    fn write(&self, to: Address, bytes: &[u8]) {
        // SAFETY: addresses are of buffers that live, and lengths are theirs; memory that is not pinned has been taken when this returns
        self.on_card("writing", || unsafe {
            result::memcpy_htod_async(to.0, bytes, self.stream.cu_stream())
        });
    }
    fn read(&self, from: Address, bytes: &mut [u8]) {
        // SAFETY: as above; it is waited for
        self.on_card("reading", || unsafe {
            result::memcpy_dtoh_async(bytes, from.0, self.stream.cu_stream())?;
            self.stream.synchronize()
        });
        if self.failure.borrow().is_some() {
            bytes.fill(0);
        }
    }
    fn copy(&self, from: Address, to: Address, bytes: usize) {
        // SAFETY: as above
        self.on_card("copying", || unsafe {
            result::memcpy_dtod_async(to.0, from.0, bytes, self.stream.cu_stream())
        });
    }
    fn zero(&self, at: Address, bytes: usize) {
        // SAFETY: as above
        self.on_card("clearing", || unsafe {
            result::memset_d8_async(at.0, 0, bytes, self.stream.cu_stream())
        });
    }
    fn launch(&self, mut launch: Launch) {
        if launch.grid.contains(&0) {
            return;
        }
        let [x, y, z] = launch.grid.map(|n| u32::try_from(n).expect("a grid of 32 bits"));
        let block = u32::try_from(launch.block).expect("a block of 32 bits");
        self.on_card(launch.kernel, || {
            let function = self.function(launch.kernel)?;
            let mut pointers = launch.args.pointers();
            // SAFETY: the kernel is ours, and its arguments are laid out as it takes them
            unsafe {
                result::launch_kernel(
                    function,
                    (x, y, z),
                    (block, 1, 1),
                    0,
                    self.stream.cu_stream(),
                    &mut pointers,
                )
            }
        });
    }
    fn record(&self) {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.on_card("recording", || self.stream.begin_capture(mode));
    }
    fn recorded(&self) -> Recording {
        let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let mut graph = None;
        self.on_card("recording", || {
            graph = self.stream.end_capture(flags)?;
            Ok(())
        });
        let mut graphs = self.graphs.borrow_mut();
        graphs.push(graph);
        Recording(graphs.len() - 1)
    }
    fn replay(&self, recording: Recording) {
        self.on_card("a step", || match &self.graphs.borrow()[recording.0] {
            Some(graph) => graph.launch(),
            None => Ok(()),
        });
    }
    fn finish(&self) {
        self.on_card("waiting", || self.stream.synchronize());
    }
    fn failure(&self) -> Option<DeviceError> {
        self.failure.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::compile;

    /// Where the run-time compiler is, the kernels of a 7B compile for three architectures.
    #[test]
    fn the_kernels_compile_for_cards() {
        let seven: Vec<_> = [
            ("HD", 128),
            ("KVH", 2),
            ("RATIO", 6),
            ("FRAGMENTS", 1),
            ("P", 128),
            ("N", 256),
            ("HEADS", 24),
            ("GROUPS", 1),
            ("TAPS", 4),
        ]
        .into();
        for architecture in [80, 90, 100] {
            match compile(&seven, architecture) {
                Ok(compiled) => {
                    assert!(compiled.binary.starts_with(b"\x7fELF") && !compiled.version.is_empty());
                    let spills = compiled.log.lines().filter(|line| line.contains("spill stores"));
                    let spills: Vec<_> = spills.collect();
                    assert!(spills.len() > 20, "a line a kernel: {}", compiled.log);
                    // a word at most: for 10.0 two kernels spill one
                    let few = [0, 4].map(|n| format!(" {n} bytes spill stores"));
                    let is_few = |line: &&str| few.iter().any(|few| line.contains(few));
                    assert!(spills.iter().all(is_few), "sm_{architecture}: {}", compiled.log);
                }
                Err(e) if e.0.contains("was not found") => return,
                Err(e) => panic!("{e}"),
            }
        }
    }
}
