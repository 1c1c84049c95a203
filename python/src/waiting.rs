//! Waiting for the library with the interpreter free, and for no longer than the user does.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3_async_runtimes::tokio::get_runtime;

/// Time between two looks for Ctrl-C.
const LOOK: Duration = Duration::from_millis(50);

/// What a future comes to. A signal's exception ends the wait, and the future is dropped.
pub(crate) fn wait<T: Send>(py: Python<'_>, future: impl Future<Output = T> + Send) -> PyResult<T> {
    let look = || Python::attach(|py| py.check_signals());
    py.detach(|| {
        get_runtime().block_on(async {
            let mut future = std::pin::pin!(future);
            loop {
                tokio::select! {
                    done = &mut future => return Ok(done),
                    () = tokio::time::sleep(LOOK) => look()?,
                }
            }
        })
    })
}

/// What `work` comes to, on a thread of its own that is asked to stop when a signal comes.
pub(crate) fn work<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
) -> PyResult<T> {
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    let task = get_runtime().spawn_blocking(move || work(&asked));
    let mut task = std::pin::pin!(task);
    let ended = wait(py, &mut task);
    if ended.is_err() {
        stop.store(true, Ordering::Relaxed);
        // what it writes is whole before anybody else writes there
        let _ = py.detach(|| get_runtime().block_on(&mut task));
    }
    ended?.map_err(|e| PyRuntimeError::new_err(format!("the work ended early: {e}")))
}
