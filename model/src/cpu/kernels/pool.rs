//! A persistent worker pool: a parallel phase costs about a microsecond and allocates nothing.

#![allow(
    unsafe_code,
    reason = "threads borrow a job of their caller's, which waits until all are done with it"
)]

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::simd::Tier;

type Job<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// How long an idle worker spins before it sleeps: longer than the serial gaps inside a step, shorter than a
/// person notices.
const SPIN: Duration = Duration::from_micros(200);

struct State {
    epoch: AtomicUsize,
    job: Mutex<Option<JobRef>>,
    next: AtomicUsize,
    tasks: AtomicUsize,
    /// how many threads have their own tasks, or 0 where each takes the next one
    placed: AtomicUsize,
    working: AtomicUsize,
    sleeping: AtomicUsize,
    panicked: AtomicBool,
    closing: AtomicBool,
    wake: Condvar,
    gate: Mutex<()>,
}

#[derive(Clone, Copy)]
struct JobRef(*const Job<'static>);
// SAFETY: the job is Sync, and `run` does not return before every worker is done with it
unsafe impl Send for JobRef {}

/// Worker threads and the instruction tier that kernels use on them.
pub struct ThreadPool {
    state: Arc<State>,
    workers: Vec<JoinHandle<()>>,
    tier: Tier,
}

impl ThreadPool {
    /// A pool of `threads` threads, the caller's included.
    pub fn new(threads: usize, tier: Tier) -> Self {
        let state = Arc::new(State {
            epoch: AtomicUsize::new(0),
            job: Mutex::new(None),
            next: AtomicUsize::new(0),
            tasks: AtomicUsize::new(0),
            placed: AtomicUsize::new(0),
            working: AtomicUsize::new(0),
            sleeping: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            wake: Condvar::new(),
            gate: Mutex::new(()),
        });
        let mut workers = Vec::new();
        for thread in 1..threads.max(1) {
            let own = state.clone();
            let named = std::thread::Builder::new().name(format!("tts-{thread}"));
            // numbers have no gaps: after one that could not be started there are no more
            let Ok(worker) = named.spawn(move || worker(&own, thread)) else {
                break;
            };
            workers.push(worker);
        }
        Self { state, workers, tier }
    }

    /// Threads that take part in a phase.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// The tier that kernels run on.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Runs `job(task, thread)` for every task in `0..tasks`, in no fixed order, and returns when all are
    /// done.
    ///
    /// # Panics
    /// When a task panicked.
    pub fn run(&mut self, tasks: usize, job: impl Fn(usize, usize) + Sync) {
        self.run_on(0, tasks, job);
    }

    fn run_on(&mut self, placed: usize, tasks: usize, job: impl Fn(usize, usize) + Sync) {
        if self.workers.is_empty() || tasks <= 1 {
            for task in 0..tasks {
                job(task, 0);
            }
            return;
        }
        let job: &Job<'_> = &job;
        let s = &*self.state;
        // SAFETY: only the lifetime changes; this call waits below until no worker holds the reference
        let erased = unsafe { std::mem::transmute::<*const Job<'_>, *const Job<'static>>(job) };
        *s.job.lock().expect("no panic while held") = Some(JobRef(erased));
        s.next.store(0, Ordering::Relaxed);
        s.tasks.store(tasks, Ordering::Relaxed);
        s.placed.store(placed, Ordering::Relaxed);
        s.working.store(self.workers.len(), Ordering::Relaxed);
        s.epoch.fetch_add(1, Ordering::SeqCst);
        if s.sleeping.load(Ordering::SeqCst) > 0 {
            let _gate = s.gate.lock().expect("no panic while held");
            s.wake.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| take(s, job, 0)));
        let mut since = None;
        let mut spins = 0u32;
        while s.working.load(Ordering::Acquire) != 0 {
            std::hint::spin_loop();
            spins += 1;
            // to yield is to lose a whole time slice where other programs want the processor: only when the
            // worker has lost its own
            if spins.is_multiple_of(256) && since.get_or_insert_with(Instant::now).elapsed() > SPIN {
                std::thread::yield_now();
            }
        }
        if own.is_err() || s.panicked.swap(false, Ordering::Relaxed) {
            panic!("a kernel task panicked");
        }
    }

    /// [`Self::run`], with tasks that follow each other on the same thread as far as all threads still end
    /// together: what tasks read then lies together too.
    pub fn run_in_spans(&mut self, tasks: usize, job: impl Fn(usize, usize) + Sync) {
        let threads = self.threads();
        self.run(spans(tasks, threads), |i, thread| {
            for task in span(i, tasks, threads) {
                job(task, thread);
            }
        });
    }

    /// Runs `job(index, item, thread)` for every item, each on one thread.
    pub fn for_each<T: Send>(&mut self, items: &mut [T], job: impl Fn(usize, &mut T, usize) + Sync) {
        self.for_each_on(0, items, job);
    }

    /// [`Self::for_each`], with item i on the same thread every time: for parts of about the same cost, whose
    /// data stay with a core.
    pub fn for_each_placed<T: Send>(&mut self, items: &mut [T], job: impl Fn(usize, &mut T, usize) + Sync) {
        self.for_each_on(self.threads(), items, job);
    }

    fn for_each_on<T: Send>(
        &mut self,
        placed: usize,
        items: &mut [T],
        job: impl Fn(usize, &mut T, usize) + Sync,
    ) {
        let base = super::buf::Shared(items.as_mut_ptr());
        // SAFETY: every index is handed to exactly one task
        self.run_on(placed, items.len(), |i, thread| {
            job(i, unsafe { &mut *base.at(i) }, thread)
        });
    }
}

/// How many tasks of `left` go out next, shared by the threads: half, so that the last are short; one thread
/// takes all.
fn next_round(left: usize, threads: usize) -> usize {
    if threads == 1 {
        left
    } else {
        left.div_ceil(2).max(threads).min(left)
    }
}

/// Number of spans into which `tasks` are divided.
fn spans(tasks: usize, threads: usize) -> usize {
    let (mut left, mut spans) = (tasks, 0);
    while left > 0 {
        left -= next_round(left, threads);
        spans += threads;
    }
    spans
}

/// The tasks of span `i`; the last rounds may leave threads without any.
fn span(i: usize, tasks: usize, threads: usize) -> Range<usize> {
    let mut first = 0;
    for _ in 0..i / threads {
        first += next_round(tasks - first, threads);
    }
    let round = next_round(tasks - first, threads);
    let share = |thread: usize| first + round * thread / threads;
    share(i % threads)..share(i % threads + 1)
}

fn take(s: &State, job: &Job<'_>, thread: usize) {
    let tasks = s.tasks.load(Ordering::Relaxed);
    let placed = s.placed.load(Ordering::Relaxed);
    if placed > 0 {
        (thread..tasks).step_by(placed).for_each(|task| job(task, thread));
        return;
    }
    loop {
        let task = s.next.fetch_add(1, Ordering::Relaxed);
        if task >= tasks {
            return;
        }
        job(task, thread);
    }
}

fn worker(s: &State, thread: usize) {
    let mut seen = 0;
    loop {
        let mut since = None;
        let mut spins = 0u32;
        while s.epoch.load(Ordering::SeqCst) == seen {
            if s.closing.load(Ordering::Relaxed) {
                return;
            }
            std::hint::spin_loop();
            spins += 1;
            if spins.is_multiple_of(256) && since.get_or_insert_with(Instant::now).elapsed() > SPIN {
                s.sleeping.fetch_add(1, Ordering::SeqCst);
                let mut gate = s.gate.lock().expect("no panic while held");
                while s.epoch.load(Ordering::SeqCst) == seen && !s.closing.load(Ordering::Relaxed) {
                    gate = s.wake.wait(gate).expect("no panic while held");
                }
                drop(gate);
                s.sleeping.fetch_sub(1, Ordering::SeqCst);
            }
        }
        seen += 1;
        let job = s
            .job
            .lock()
            .expect("no panic while held")
            .expect("set before the epoch");
        // SAFETY: `run` keeps the job alive until `working` is 0
        let done = catch_unwind(AssertUnwindSafe(|| take(s, unsafe { &*job.0 }, thread)));
        if done.is_err() {
            s.panicked.store(true, Ordering::Relaxed);
        }
        s.working.fetch_sub(1, Ordering::Release);
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.state.closing.store(true, Ordering::SeqCst);
        {
            let _gate = self.state.gate.lock().expect("no panic while held");
            self.state.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_and_phases_do_not_mix() {
        for threads in [1, 2, 5] {
            let mut pool = ThreadPool::new(threads, Tier::Portable);
            let mut counts = vec![0u32; 1000];
            for _ in 0..200 {
                pool.for_each(&mut counts, |_, c, _| *c += 1);
            }
            assert!(counts.iter().all(|c| *c == 200));
        }
    }

    #[test]
    fn spans_are_all_tasks_in_order_and_end_short() {
        for threads in 1..6 {
            for tasks in (0..70).chain([400, 4064]) {
                let ranges: Vec<_> = (0..spans(tasks, threads))
                    .map(|i| span(i, tasks, threads))
                    .collect();
                let all: Vec<usize> = ranges.iter().cloned().flatten().collect();
                assert_eq!(all, (0..tasks).collect::<Vec<_>>(), "{tasks} on {threads}");
                assert!(threads == 1 || ranges.iter().rev().take(threads).all(|range| range.len() <= 1));
            }
        }
        assert_eq!(
            (span(0, 96, 2), span(1, 96, 2), span(2, 96, 2)),
            (0..24, 24..48, 48..60)
        );
        let mut pool = ThreadPool::new(3, Tier::Portable);
        let counts: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
        pool.run_in_spans(100, |task, _| {
            counts[task].fetch_add(1, Ordering::Relaxed);
        });
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn placed_items_stay_with_their_thread() {
        for threads in [1, 2, 3] {
            let mut pool = ThreadPool::new(threads, Tier::Portable);
            let mut taken = vec![Vec::new(); 7];
            for _ in 0..50 {
                pool.for_each_placed(&mut taken, |i, by, thread| {
                    assert_eq!(thread, i % threads);
                    by.push(thread);
                });
            }
            assert!(taken.iter().all(|by| by.len() == 50));
        }
    }

    #[test]
    fn a_panicking_task_panics_the_caller_and_the_pool_lives() {
        let mut pool = ThreadPool::new(2, Tier::Portable);
        let outcome = catch_unwind(AssertUnwindSafe(|| pool.run(8, |i, _| assert_ne!(i, 5))));
        assert!(outcome.is_err());
        let hits = AtomicUsize::new(0);
        pool.run(8, |_, _| {
            hits.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(hits.load(Ordering::Relaxed), 8);
    }
}
