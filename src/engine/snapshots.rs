//! States of traces in flight in files, so that a run that is killed goes on without reading their tokens
//! again.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::PathBuf;

use tts_strategies::TraceId;

use crate::run::Checkpoint;
use tts_model::session::Prefix;
use tts_model::{Sequence, StateLayout};

/// First bytes of a file, with the number of its layout: then the number of tokens read after the prompt, the
/// blake3 of all ids that were read, the state as it lies in memory, and the blake3 of that.
const MAGIC: &[u8; 8] = b"ttstate1";

impl Checkpoint {
    fn path(&self, problem: &str, trace: TraceId) -> PathBuf {
        let name = blake3::hash(problem.as_bytes()).to_hex();
        self.dir.join(format!("{}-{trace}", &name[..16]))
    }

    /// Keeps the state of a trace that has read `ids` after the prompt, in place of what was kept of it
    /// before.
    pub(super) fn save(
        &self,
        problem: &str,
        trace: TraceId,
        prefix: &Prefix,
        ids: &[u32],
        sequence: &Sequence,
    ) -> io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let path = self.path(problem, trace);
        let fresh = path.with_extension("tmp");
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&fresh)?);
        file.write_all(MAGIC)?;
        file.write_all(&(ids.len() as u64).to_le_bytes())?;
        file.write_all(digest(prefix.ids(), ids).as_bytes())?;
        let mut hasher = blake3::Hasher::new();
        for part in sequence.own(prefix.sequence()) {
            hasher.update(part);
            file.write_all(part)?;
        }
        file.write_all(hasher.finalize().as_bytes())?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?;
        std::fs::rename(fresh, path)
    }

    /// The state of a trace that has read the prompt and some of `ids`, at most all, where one was kept and
    /// is whole.
    pub(super) fn load(
        &self,
        problem: &str,
        trace: TraceId,
        prefix: &Prefix,
        ids: &[u32],
        shape: &StateLayout,
    ) -> Option<Sequence> {
        let mut file = BufReader::with_capacity(1 << 20, File::open(self.path(problem, trace)).ok()?);
        let mut bytes = |n: usize| {
            let mut bytes = vec![0; n];
            file.read_exact(&mut bytes).ok().map(|()| bytes)
        };
        let (magic, read, of) = (bytes(8)?, bytes(8)?, bytes(32)?);
        let read = u64::from_le_bytes(read.try_into().ok()?);
        let ids = ids.get(..usize::try_from(read).ok()?)?;
        if magic != MAGIC || of != digest(prefix.ids(), ids).as_bytes() {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        let mut fill = |part: &mut [u8]| {
            file.read_exact(part)?;
            hasher.update(part);
            io::Result::Ok(())
        };
        let sequence = prefix.sequence().resumed(shape, ids.len(), &mut fill).ok()?;
        let mut sum = Vec::new();
        file.read_to_end(&mut sum).ok()?;
        (sum == hasher.finalize().as_bytes()).then_some(sequence)
    }

    /// Forgets a trace that has ended.
    pub(super) fn forget(&self, problem: &str, trace: TraceId) {
        // it may never have been kept
        let _ = std::fs::remove_file(self.path(problem, trace));
    }
}

fn digest(prompt: &[u32], ids: &[u32]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for id in prompt.iter().chain(ids) {
        hasher.update(&id.to_le_bytes());
    }
    hasher.finalize()
}
