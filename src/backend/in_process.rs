//! The model in this process: one thread owns it and runs the traces of several problems at once.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use async_trait::async_trait;
use tokio::sync::oneshot;
use tts_strategies::Needs;

use super::{Backend, Job, Outcome, RunError, check_needs};
use crate::engine::memory::Plan;
use crate::engine::scheduler::{Control, Scheduler, Ticket};
use crate::engine::session::Session;
use crate::model::Model;
use crate::model::kernels::Tier;

/// How the engine uses the machine.
#[derive(Clone, Copy, Debug)]
pub struct InProcessOptions {
    /// Threads.
    pub threads: usize,
    /// Instruction tier.
    pub tier: Tier,
    /// Rows and memory.
    pub plan: Plan,
}

enum Command {
    Run(Box<Ticket>),
    Stop,
}

/// The in-process engine.
pub struct InProcess {
    commands: Mutex<mpsc::Sender<Command>>,
    plan: Plan,
    thread: Option<JoinHandle<()>>,
}

impl InProcess {
    /// Starts the engine's thread.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(model: Arc<Model>, options: InProcessOptions) -> Result<Self, RunError> {
        let (commands, inbox) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("tts-engine".to_owned())
            .spawn(move || {
                serve(
                    Scheduler::new(Session::new(model, options.threads, options.tier), options.plan),
                    &inbox,
                )
            })
            .map_err(|e| RunError::Engine(e.to_string()))?;
        Ok(Self {
            commands: Mutex::new(commands),
            plan: options.plan,
            thread: Some(thread),
        })
    }
}

impl InProcess {
    /// The plan that the engine keeps to.
    pub fn plan(&self) -> Plan {
        self.plan
    }
}

fn serve(mut scheduler: Scheduler, inbox: &mpsc::Receiver<Command>) {
    loop {
        let command = if scheduler.is_idle() {
            inbox.recv().map_err(|_| mpsc::TryRecvError::Disconnected)
        } else {
            inbox.try_recv()
        };
        match command {
            Ok(Command::Run(ticket)) => scheduler.submit(*ticket),
            Ok(Command::Stop) | Err(mpsc::TryRecvError::Disconnected) => return,
            Err(mpsc::TryRecvError::Empty) => scheduler.turn(),
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

/// Cancels the problem when its future is dropped.
struct Guard(Arc<Control>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Backend for InProcess {
    fn offers(&self) -> Needs {
        Needs::ALL
    }

    async fn run(&self, job: Job) -> Result<Outcome, RunError> {
        check_needs(job.setup.strategy.as_ref(), self.offers())?;
        let Job {
            setup,
            prompt,
            sampling,
            seed,
            held,
            deadline,
            interrupt,
            events,
            records,
            checkpoint,
        } = job;
        let (reply, outcome) = oneshot::channel();
        let control = Arc::new(Control::default());
        let guard = Guard(control.clone());
        let ticket = Ticket {
            setup,
            prompt,
            sampling,
            seed,
            held,
            deadline,
            control: control.clone(),
            events,
            records,
            checkpoint,
            reply: Box::new(move |result| {
                let _ = reply.send(result);
            }),
        };
        let gone = || RunError::Engine("its thread ended".to_owned());
        self.commands
            .lock()
            .map_err(|_| gone())?
            .send(Command::Run(Box::new(ticket)))
            .map_err(|_| gone())?;
        let mut outcome = std::pin::pin!(outcome);
        let result = tokio::select! {
            result = &mut outcome => result,
            () = interrupt.cancelled() => {
                control.interrupted.store(true, Ordering::Relaxed);
                outcome.await
            }
        };
        drop(guard);
        result.map_err(|_| gone())?
    }
}
