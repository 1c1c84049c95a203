//! A trace's state as an executor saves it: first bytes that name the layout, the number of tokens read after the prompt, the blake3 of all
//! ids that were read, the state as the executor lays it out, and the blake3 of that.

use std::io;

/// What is read belongs to another prompt, other ids or another executor.
pub(crate) fn other() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not the state of these tokens")
}

/// Writes what comes before the state of a trace that has read `read` after its prompt.
pub(crate) fn write_head(
    out: &mut dyn io::Write,
    magic: &[u8; 8],
    prompt: &[u32],
    read: &[u32],
) -> io::Result<()> {
    out.write_all(magic)?;
    out.write_all(&(read.len() as u64).to_le_bytes())?;
    out.write_all(digest(prompt, read).as_bytes())
}

/// Reads what comes before the state of a trace that has drawn `ids`: how many of them were read after its prompt. The last is not.
pub(crate) fn read_head(
    from: &mut dyn io::Read,
    magic: &[u8; 8],
    prompt: &[u32],
    ids: &[u32],
) -> io::Result<usize> {
    let (mut first, mut read, mut of) = ([0; 8], [0; 8], [0; 32]);
    from.read_exact(&mut first)?;
    from.read_exact(&mut read)?;
    from.read_exact(&mut of)?;
    let most = ids.len().saturating_sub(1);
    let read = usize::try_from(u64::from_le_bytes(read))
        .ok()
        .filter(|read| *read <= most)
        .ok_or_else(other)?;
    if first != *magic || of != *digest(prompt, &ids[..read]).as_bytes() {
        return Err(other());
    }
    Ok(read)
}

/// Reads the end: the state is what was written, and nothing follows.
pub(crate) fn read_end(from: &mut dyn io::Read, hasher: &blake3::Hasher) -> io::Result<()> {
    let mut sum = Vec::new();
    from.read_to_end(&mut sum)?;
    if sum == hasher.finalize().as_bytes() {
        Ok(())
    } else {
        Err(other())
    }
}

fn digest(prompt: &[u32], ids: &[u32]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for id in prompt.iter().chain(ids) {
        hasher.update(&id.to_le_bytes());
    }
    hasher.finalize()
}
