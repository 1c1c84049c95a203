//! States of traces in flight in files, so that a run that is killed goes on without reading their tokens
//! again.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::PathBuf;

use tts_strategies::TraceId;

use crate::own_files;
use crate::run::Checkpoint;

/// What is in a file is the executor's business.
impl Checkpoint {
    fn path(&self, problem: &str, trace: TraceId) -> PathBuf {
        let name = blake3::hash(problem.as_bytes()).to_hex();
        self.dir.join(format!("{}-{trace}", &name[..16]))
    }

    /// Keeps what `write` writes as the state of a trace, in place of what was kept of it before.
    pub(super) fn save(
        &self,
        problem: &str,
        trace: TraceId,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let path = self.path(problem, trace);
        let fresh = path.with_extension("tmp");
        let mut file = BufWriter::with_capacity(1 << 20, own_files::create_new(&fresh)?);
        write(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?;
        std::fs::rename(fresh, path)
    }

    /// Gives the state of a trace to `read`, where one was kept. One that is damaged is as good as none: its
    /// tokens are read again.
    pub(super) fn load(
        &self,
        problem: &str,
        trace: TraceId,
        read: impl FnOnce(&mut dyn Read) -> io::Result<()>,
    ) {
        if let Ok(file) = tts_model::files::open(&self.path(problem, trace)) {
            let _ = read(&mut BufReader::with_capacity(1 << 20, file));
        }
    }

    /// Forgets a trace that has ended.
    pub(super) fn forget(&self, problem: &str, trace: TraceId) {
        // it may never have been kept
        let _ = std::fs::remove_file(self.path(problem, trace));
    }
}
