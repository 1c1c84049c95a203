//! Ctrl-C: once ends with what there is, twice leaves at once.

use tokio_util::sync::CancellationToken;

/// A token that the first Ctrl-C cancels. Needs a running tokio runtime.
pub(crate) fn token() -> CancellationToken {
    by(|| async { tokio::signal::ctrl_c().await.is_ok() })
}

/// [`token`], which whoever runs services cancels too (SIGTERM).
pub(crate) fn stop() -> CancellationToken {
    by(|| async {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let Ok(mut term) = signal(SignalKind::terminate()) else {
                return tokio::signal::ctrl_c().await.is_ok();
            };
            tokio::select! {
                pressed = tokio::signal::ctrl_c() => pressed.is_ok(),
                told = term.recv() => told.is_some(),
            }
        }
        #[cfg(not(unix))]
        tokio::signal::ctrl_c().await.is_ok()
    })
}

/// A token that the first of these events cancels; the second ends the program.
fn by<F: Future<Output = bool> + Send>(next: impl Fn() -> F + Send + Sync + 'static) -> CancellationToken {
    let token = CancellationToken::new();
    let first = token.clone();
    tokio::spawn(async move {
        if next().await {
            first.cancel();
        }
        if next().await {
            std::process::exit(130);
        }
    });
    token
}

/// The runtime of a command that waits for the engine.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
}
