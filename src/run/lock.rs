//! One writer a folder: a lock that the system lets go of when its process dies, so none is ever stale.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::error::RunFolderError;
use crate::own_files;

/// The file's name in the folder; it holds the writer's process id, for people.
pub(super) const LOCK: &str = "run.lock";

/// Held as long as it lives.
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    pub(crate) fn take(dir: &Path) -> Result<Self, RunFolderError> {
        let path = dir.join(LOCK);
        let io = || RunFolderError::io("lock", &path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = own_files::open(&mut options, &path).map_err(io())?;
        match file.try_lock() {
            Ok(()) => {}
            // a file system without locks: one writer is then the user's care
            Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(e)) => return Err(io()(e)),
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let pid = file
                    .read_to_string(&mut pid)
                    .ok()
                    .map(|_| pid.trim().to_owned())
                    .filter(|p| !p.is_empty());
                return Err(RunFolderError::Busy {
                    dir: dir.to_owned(),
                    pid,
                });
            }
        }
        let sign = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        sign(&mut file).map_err(io())?;
        Ok(Self { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // closing alone would not do while a process that is just being started holds a copy of the handle
        let _ = self.file.unlock();
    }
}
