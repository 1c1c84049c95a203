//! Texts on standard input.

use std::io::Read;

use anyhow::{anyhow, bail};

/// Bytes that a text may have.
const MOST: u64 = 64 << 20;

/// The whole of standard input; `what` is what errors call it, as `the problem`.
pub(crate) fn text(what: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(MOST + 1)
        .read_to_string(&mut text)
        .map_err(|e| anyhow!("{what} on stdin cannot be read: {e}"))?;
    if text.len() as u64 > MOST {
        bail!("{what} on stdin has more than {} MiB", MOST >> 20);
    }
    Ok(text)
}
