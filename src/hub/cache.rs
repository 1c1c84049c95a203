//! The cache layout that all Hugging Face tools share.
//!
//! `models--org--name/refs/main` names a commit, `snapshots/<commit>/<file>` points to `blobs/<etag>`.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::source::is_safe_name;
use super::{HubError, Progress, Repo};

/// One repository's folder in the cache.
pub(super) struct RepoCache {
    root: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    pub(super) fn new(cache: &Path, repo: &Repo) -> Self {
        let folder = format!("{}s--{}", repo.kind.name(), repo.name.replace('/', "--"));
        Self {
            root: cache.join(&folder),
            locks: cache.join(".locks").join(&folder),
        }
    }

    /// The commit that a branch, tag or commit stands for, if the cache knows it.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        let named = fs::read_to_string(self.root.join("refs").join(revision)).ok();
        let commit = named.map_or_else(|| revision.to_owned(), |commit| commit.trim().to_owned());
        (is_safe_name(&commit) && !commit.contains('/') && self.snapshot(&commit).is_dir()).then_some(commit)
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// A file of a snapshot, if it is there with all it points to.
    pub(super) fn file(&self, commit: &str, name: &str) -> Option<PathBuf> {
        Some(self.snapshot(commit).join(name)).filter(|path| path.is_file())
    }

    /// Names of all files of a snapshot, sorted.
    pub(super) fn names(&self, commit: &str) -> Vec<String> {
        let mut names = Vec::new();
        collect(&self.snapshot(commit), "", 0, &mut names);
        names.sort();
        names
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// Makes the folders that a download needs.
    pub(super) fn prepare(&self) -> Result<(), HubError> {
        for folder in ["blobs", "refs", "snapshots"] {
            make(&self.root.join(folder))?;
        }
        Ok(())
    }

    /// Keeps other processes (ours and Python's) from fetching the same blob until the file is dropped.
    /// `None` where the file system has no locks.
    pub(super) fn lock(
        &self,
        etag: &str,
        file: &str,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Option<File>, HubError> {
        make(&self.locks)?;
        let path = self.locks.join(format!("{etag}.lock"));
        let lock = File::options().create(true).append(true).open(&path);
        let lock = lock.map_err(|error| HubError::io(&path, "written", error))?;
        let mut told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Some(lock)),
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        progress(Progress::Waiting { file });
                        told = true;
                    }
                    std::thread::sleep(Duration::from_millis(200));
                }
                Err(TryLockError::Error(_)) => return Ok(None),
            }
        }
    }

    /// Puts a blob into a snapshot: a relative link where links can be made, else a hard link, else a copy.
    pub(super) fn link(&self, commit: &str, name: &str, etag: &str) -> Result<PathBuf, HubError> {
        let pointer = self.snapshot(commit).join(name);
        let folder = pointer.parent().unwrap_or(&self.root);
        make(folder)?;
        let mut target: PathBuf = std::iter::repeat_n("..", 2 + name.matches('/').count()).collect();
        target.extend(["blobs", etag]);
        let fresh = folder.join(format!(".{etag}.{}.link", std::process::id()));
        let blob = self.blob(etag);
        let made = symlink(&target, &fresh)
            .or_else(|_| fs::hard_link(&blob, &fresh))
            .or_else(|_| fs::copy(&blob, &fresh).map(|_| ()))
            .and_then(|()| fs::rename(&fresh, &pointer));
        made.map_err(|error| HubError::io(&pointer, "written", error))?;
        Ok(pointer)
    }

    /// Remembers which commit a branch or tag stood for.
    pub(super) fn write_ref(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if revision == commit {
            return Ok(());
        }
        let path = self.root.join("refs").join(revision);
        if let Some(folder) = path.parent() {
            make(folder)?;
        }
        fs::write(&path, commit).map_err(|error| HubError::io(&path, "written", error))
    }
}

fn make(folder: &Path) -> Result<(), HubError> {
    fs::create_dir_all(folder).map_err(|error| HubError::io(folder, "made", error))
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_target: &Path, _link: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Deeper folders than this are not a snapshot.
const MAX_DEPTH: usize = 8;

fn collect(folder: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = entry.path();
        let name = format!("{prefix}{name}");
        if path.is_file() {
            names.push(name);
        } else if path.is_dir() && depth < MAX_DEPTH {
            collect(&path, &format!("{name}/"), depth + 1, names);
        }
    }
}
