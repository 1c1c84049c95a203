//! Ctrl-C: once decides with what there is, twice leaves at once.

use tokio_util::sync::CancellationToken;

/// A token that the first Ctrl-C cancels. Needs a running tokio runtime.
pub(crate) fn token() -> CancellationToken {
    let token = CancellationToken::new();
    let first = token.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            first.cancel();
        }
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(130);
        }
    });
    token
}

/// The runtime of a command that waits for the engine.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
}
