//! How long each kernel of a step takes: `benches/gpu.sh` runs this on a card.

#![allow(clippy::print_stdout, reason = "it is run by hand, for what it prints")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::super::device::{Address, Buffer, Device, DeviceError, Launch, Recording};
use super::super::model;
use super::{GpuExecutor, Order, on};
use crate::executor::{Executor, StepRow};
use crate::sampling::{Sampling, Stream};
use crate::weights::Checkpoint;
use crate::{Formats, arch};

/// What was launched, and how long it took.
#[derive(Default)]
struct Log {
    recording: bool,
    recordings: Vec<Vec<Launch>>,
    took: BTreeMap<&'static str, (u32, Duration)>,
}

/// A device whose launches are waited for and timed, one at a time.
struct Timed {
    device: Mutex<Box<dyn Device>>,
    log: Mutex<Log>,
}

impl Timed {
    fn device(&self) -> MutexGuard<'_, Box<dyn Device>> {
        self.device.lock().unwrap()
    }
    fn carry_out(&self, launch: &Launch) {
        let device = self.device();
        device.finish();
        let start = Instant::now();
        device.launch(launch.clone());
        device.finish();
        let mut log = self.log.lock().unwrap();
        let (times, sum) = log.took.entry(launch.kernel).or_default();
        (*times, *sum) = (*times + 1, *sum + start.elapsed());
    }
}

impl Device for Arc<Timed> {
    fn id(&self) -> String {
        self.device().id()
    }
    fn name(&self) -> String {
        self.device().name()
    }
    fn free_bytes(&self) -> u64 {
        self.device().free_bytes()
    }
    fn alloc(&self, bytes: usize) -> Result<Buffer, DeviceError> {
        self.device().alloc(bytes)
    }
    fn write(&self, to: Address, bytes: &[u8]) {
        self.device().write(to, bytes);
    }
    fn read(&self, from: Address, bytes: &mut [u8]) {
        self.device().read(from, bytes);
    }
    fn copy(&self, from: Address, to: Address, bytes: usize) {
        self.device().copy(from, to, bytes);
    }
    fn zero(&self, at: Address, bytes: usize) {
        self.device().zero(at, bytes);
    }
    fn launch(&self, launch: Launch) {
        let mut log = self.log.lock().unwrap();
        if log.recording {
            log.recordings.last_mut().unwrap().push(launch);
        } else {
            drop(log);
            self.carry_out(&launch);
        }
    }
    fn record(&self) {
        let mut log = self.log.lock().unwrap();
        log.recordings.push(Vec::new());
        log.recording = true;
    }
    fn recorded(&self) -> Recording {
        let mut log = self.log.lock().unwrap();
        log.recording = false;
        Recording(log.recordings.len() - 1)
    }
    fn replay(&self, recording: Recording) {
        let launches = self.log.lock().unwrap().recordings[recording.0].clone();
        launches.iter().for_each(|launch| self.carry_out(launch));
    }
    fn finish(&self) {
        self.device().finish();
    }
    fn failure(&self) -> Option<DeviceError> {
        self.device().failure()
    }
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Of a shape with random weights (`TTS_PROFILE_SHAPE`, `_LAYERS`), so many traces (`_TRACES`) at so many tokens (`_CONTEXT`): prints a line
/// for each kernel of a step.
#[test]
#[ignore = "a measurement; benches/gpu.sh runs it"]
fn profile_of_a_step() {
    let shape = std::env::var("TTS_PROFILE_SHAPE").unwrap_or_else(|_| "tiny-90m".to_owned());
    let mut spec = arch::shape(&shape).unwrap();
    spec.layers
        .truncate(number("TTS_PROFILE_LAYERS", spec.layers.len()));
    let (traces, context) = (
        number("TTS_PROFILE_TRACES", 2),
        number("TTS_PROFILE_CONTEXT", 100),
    );
    let weights = Checkpoint::random(&spec, "bf16", 0).unwrap();
    let start = Instant::now();
    let device = model::open(&weights, Formats::default(), on(Order::Ascending)).unwrap();
    let compiled = start.elapsed();
    let timed = Arc::new(Timed {
        device: Mutex::new(device),
        log: Mutex::default(),
    });
    let start = Instant::now();
    let mut gpu = GpuExecutor::on(Box::new(timed.clone()), &weights, Formats::default()).unwrap();
    println!(
        "{}, {shape}, {} layers in bf16; {traces} traces at {context} tokens; kernels compiled in {:.1} s, weights loaded in {:.1} s",
        gpu.device_name(),
        spec.layers.len(),
        compiled.as_secs_f64(),
        start.elapsed().as_secs_f64()
    );
    let prompt = gpu.begin();
    let ids: Vec<u32> = (0..128).map(|i| (i * 7919 + 13) % spec.vocab as u32).collect();
    gpu.read(prompt, &ids, usize::MAX).unwrap();
    let seqs = gpu.fork(prompt, traces);
    let (sampling, mut out) = (Sampling::default(), Vec::new());
    let mut step = |gpu: &mut GpuExecutor, index: usize| {
        let row = |(i, seq)| StepRow {
            seq,
            sampling: &sampling,
            stream: Stream::new(0, "profile", i),
            index,
            forced: None,
            banned_ids: &[],
            top_logprobs: 0,
            lookahead: 0,
            stop_ids: &[],
        };
        let rows: Vec<_> = (0..).zip(seqs.iter().copied()).map(row).collect();
        gpu.step(&rows, &mut out);
        assert_eq!(gpu.failure(), None);
    };
    step(&mut gpu, 0);
    for seq in &seqs {
        gpu.stretch(*seq, context);
    }
    // the first of this length is recorded
    step(&mut gpu, 1);
    timed.log.lock().unwrap().took.clear();
    let steps = 3;
    let start = Instant::now();
    (0..steps).for_each(|i| step(&mut gpu, 2 + i));
    let whole = start.elapsed();
    let log = timed.log.lock().unwrap();
    let mut took: Vec<_> = log.took.iter().collect();
    took.sort_by_key(|(_, (_, sum))| std::cmp::Reverse(*sum));
    let all: Duration = took.iter().map(|(_, (_, sum))| *sum).sum();
    for (kernel, (times, sum)) in &took {
        println!(
            "{kernel:16} {:5} a step {:9.1} us {:5.1} %",
            times / steps as u32,
            sum.as_secs_f64() * 1e6 / steps as f64,
            100.0 * sum.as_secs_f64() / all.as_secs_f64()
        );
    }
    println!(
        "kernels {:.2} ms a step one at a time, of {:.2} ms",
        all.as_secs_f64() * 1e3 / steps as f64,
        whole.as_secs_f64() * 1e3 / steps as f64
    );
    assert!(took.iter().any(|(kernel, _)| **kernel == "draw_rows"));
}
