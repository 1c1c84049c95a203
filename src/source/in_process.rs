//! The model in this process: one thread owns it and runs the traces of several problems at once.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;
use tts_strategies::Needs;

use crate::engine::memory::MemoryPlan;
use crate::engine::scheduler::{EngineRequest, Scheduler};
use crate::engine::scoring::{ScoredToken, ScoringRequest};
use crate::run::{Control, Observer, Outcome, Request, RunError, check_needs};
use tts_model::executor::Executor;

enum Command {
    Run(Box<EngineRequest>),
    Score(ScoringRequest),
    Stop,
}

/// The engine in this process: a thread that steps a scheduler, and a handle to it.
pub struct InProcess {
    commands: Mutex<mpsc::Sender<Command>>,
    plan: MemoryPlan,
    thread: Option<JoinHandle<()>>,
}

impl InProcess {
    /// Starts the engine's thread, with what runs the model, the plan to keep to, and the bytes of prompts that are
    /// kept for later ones which begin alike.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(executor: Box<dyn Executor>, plan: MemoryPlan, prefixes: u64) -> Result<Self, RunError> {
        let (commands, inbox) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("tts-engine".to_owned())
            .spawn(move || serve(Scheduler::new(executor, plan).keeping_prefixes(prefixes), &inbox))
            .map_err(|e| RunError::Engine(e.to_string()))?;
        Ok(Self {
            commands: Mutex::new(commands),
            plan,
            thread: Some(thread),
        })
    }
}

impl InProcess {
    /// The plan that the engine keeps to.
    pub fn plan(&self) -> MemoryPlan {
        self.plan
    }

    fn send(&self, command: Command) -> Result<(), RunError> {
        self.commands
            .lock()
            .map_err(|_| gone())?
            .send(command)
            .map_err(|_| gone())
    }

    /// The log-probability of each token of `ids` from index `from` (at least 1) on, and the `k` likeliest ids
    /// at its place, under the raw distribution. The text is read a chunk a step beside what else is
    /// running; dropping the future ends that.
    ///
    /// # Errors
    /// When the engine is gone, or the logits are not numbers.
    pub async fn score(&self, ids: Vec<u32>, from: usize, k: usize) -> Result<Vec<ScoredToken>, RunError> {
        let (reply, found) = oneshot::channel();
        self.send(Command::Score(ScoringRequest { ids, from, k, reply }))?;
        found.await.map_err(|_| gone())?
    }

    /// Runs one problem to its decision. Dropping the future cancels the problem.
    ///
    /// # Errors
    /// When the engine is gone, or the run cannot go on.
    pub async fn run(&self, request: Request, observer: Observer) -> Result<Outcome, RunError> {
        check_needs(request.setup.strategy.as_ref(), Needs::ALL)?;
        let (reply, outcome) = oneshot::channel();
        let (control, interrupt) = (observer.control.clone(), observer.interrupt.clone());
        if interrupt.is_cancelled() {
            // the engine must not begin what nobody wants any more
            control.interrupted.cancel();
        }
        let guard = Guard(Some(control.clone()));
        let reply = Box::new(move |result| {
            let _ = reply.send(result);
        });
        self.send(Command::Run(Box::new(EngineRequest {
            run: request,
            observer,
            reply,
        })))?;
        let mut outcome = std::pin::pin!(outcome);
        let result = tokio::select! {
            result = &mut outcome => result,
            () = interrupt.cancelled() => {
                control.interrupted.cancel();
                outcome.await
            }
        };
        guard.disarm();
        result.map_err(|_| gone())?
    }
}

fn gone() -> RunError {
    RunError::Engine("its thread ended".to_owned())
}

/// How long an engine without work waits for some before its executor does what nobody waits for.
const IDLE_AFTER: Duration = Duration::from_millis(100);

fn serve(mut scheduler: Scheduler, inbox: &mpsc::Receiver<Command>) {
    loop {
        let command = if scheduler.is_idle() {
            // nothing has come for a while, so what comes then need not wait for that
            match inbox.recv_timeout(IDLE_AFTER) {
                Err(mpsc::RecvTimeoutError::Timeout) if scheduler.idle() => continue,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    inbox.recv().map_err(|_| mpsc::TryRecvError::Disconnected)
                }
                other => other.map_err(|_| mpsc::TryRecvError::Disconnected),
            }
        } else {
            inbox.try_recv()
        };
        match command {
            Ok(Command::Run(request)) => scheduler.submit(*request),
            Ok(Command::Score(text)) => scheduler.score(text),
            Ok(Command::Stop) | Err(mpsc::TryRecvError::Disconnected) => return,
            Err(mpsc::TryRecvError::Empty) => scheduler.step(),
        }
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        if let Ok(commands) = self.commands.lock() {
            let _ = commands.send(Command::Stop);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Cancels the problem when its future is dropped before it has ended.
struct Guard(Option<Arc<Control>>);

impl Guard {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(control) = &self.0 {
            control.cancelled.store(true, Ordering::Relaxed);
        }
    }
}
