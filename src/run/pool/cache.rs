//! The cache of a large recording: its traces' statistics as one file, used while the recording is unchanged.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::PoolProblem;
use crate::run::error::RunFolderError;
use crate::run::index::Files;
use crate::run::manifest::replace;

/// First bytes of a cache, with the number of its layout.
const MAGIC: &[u8; 12] = b"tts-scalars3";

/// The head of a cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CacheHead {
    /// sizes and times of the files that it was made from
    pub(super) made_from: Vec<(u64, u128)>,
    pub(super) digest: String,
    pub(super) windows: Vec<usize>,
    pub(super) warnings: Vec<String>,
    pub(super) problems: Vec<PoolProblem>,
}

/// The bytes of the problems' traces, one block after the other.
pub(super) enum CacheBlocks {
    Memory(Vec<u8>),
    /// the file, and where its blocks begin
    Cache(Mutex<File>, u64),
}

impl CacheBlocks {
    /// The block of a problem; `None` where it is not what was written.
    ///
    /// # Errors
    /// When the cache at `path` cannot be read.
    pub(super) fn read(
        &self,
        problem: &PoolProblem,
        path: &Path,
    ) -> Result<Option<Cow<'_, [u8]>>, RunFolderError> {
        match self {
            Self::Memory(all) => {
                let at = problem.at as usize;
                Ok(all.get(at..at + problem.len as usize).map(Cow::Borrowed))
            }
            Self::Cache(file, start) => {
                let mut bytes = vec![0; problem.len as usize];
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(start + problem.at))
                    .and_then(|_| file.read_exact(&mut bytes))
                    .map_err(RunFolderError::io("read", path))?;
                Ok((check(&bytes) == problem.check).then_some(Cow::Owned(bytes)))
            }
        }
    }
}

/// What a block is recognised by.
pub(super) fn check(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

/// Where a recording's cache is.
pub(super) fn cache_of(path: &Path) -> PathBuf {
    if path.is_file() {
        let mut name = path.as_os_str().to_owned();
        name.push(".scalars");
        name.into()
    } else {
        path.join("scalars.bin")
    }
}

/// Size and time of change of the files that a cache depends on.
pub(super) fn made_from(files: &Files) -> Vec<(u64, u128)> {
    let of = |path: &PathBuf| {
        let meta = std::fs::metadata(path).ok()?;
        let changed = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some((meta.len(), changed.as_nanos()))
    };
    [&files.traces, &files.tokens]
        .map(|f| of(f).unwrap_or_default())
        .to_vec()
}

/// The cache, if it is one of these files as they are and holds the windows asked for.
pub(super) fn read_cache(path: &Path, files: &Files, windows: &[usize]) -> Option<(CacheHead, CacheBlocks)> {
    let mut file = tts_model::files::open(path).ok()?;
    let mut start = [0; 20];
    file.read_exact(&mut start).ok()?;
    let len = u64::from_le_bytes(start[12..].try_into().ok()?);
    if &start[..12] != MAGIC || len > file.metadata().ok()?.len() {
        return None;
    }
    let mut head = vec![0; len as usize];
    file.read_exact(&mut head).ok()?;
    let head: CacheHead = serde_json::from_slice(&head).ok()?;
    let whole = 20 + len + head.problems.iter().map(|p| p.len).sum::<u64>() == file.metadata().ok()?.len();
    let fits =
        whole && head.made_from == made_from(files) && windows.iter().all(|w| head.windows.contains(w));
    fits.then(|| (head, CacheBlocks::Cache(Mutex::new(file), 20 + len)))
}

pub(super) fn write_cache(path: &Path, head: &CacheHead, blocks: &[u8]) -> Result<(), RunFolderError> {
    let head = serde_json::to_vec(head).expect("a head is plain data");
    let mut tmp = path.as_os_str().to_owned();
    tmp.push(".tmp");
    replace(path, Path::new(&tmp), |file| {
        file.write_all(MAGIC)?;
        file.write_all(&(head.len() as u64).to_le_bytes())?;
        file.write_all(&head)?;
        file.write_all(blocks)
    })
}
