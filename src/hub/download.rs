//! One file from the hub into the cache: resumed where it stopped, its length and sha256 checked, then
//! renamed into place.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::cache::RepoCache;
use super::client::{Client, Failure, describe_io, quote, text_header};
use super::{HubError, HubOptions, Progress, RemoteFile, Repo};

const CHUNK: usize = 256 << 10;
/// No wait between two attempts is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Fetches files of one repository.
pub(super) struct Downloader<'a> {
    pub(super) client: &'a Client,
    pub(super) cache: &'a RepoCache,
    pub(super) options: &'a HubOptions,
    pub(super) repo: &'a Repo,
    pub(super) commit: &'a str,
}

/// A blob on its way.
struct Part<'a> {
    file: &'a str,
    path: PathBuf,
    size: Option<u64>,
    sha256: Option<String>,
}

impl Downloader<'_> {
    /// Makes sure that `file` is in the snapshot and returns its path.
    pub(super) fn fetch(
        &self,
        file: &RemoteFile,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<PathBuf, HubError> {
        if let Some(path) = self.cache.file(self.commit, &file.name) {
            return Ok(path);
        }
        let name = file.name.as_str();
        let address = format!(
            "{}/{}/resolve/{}/{}",
            self.repo.kind.prefix(),
            self.repo.name,
            quote(self.commit, false),
            quote(name, true)
        );
        let facts = self.retry(name, progress, |_| self.client.facts(&address, self.repo, name))?;
        let size = facts.size.or(file.size);
        let announced = facts.etag.as_ref().map(|etag| etag.to_ascii_lowercase());
        let sha256 = announced
            .filter(|etag| is_sha256(etag))
            .or_else(|| file.sha256.clone());
        // A server that tells no ETag gets a name that is nobody's checksum.
        let etag = facts.etag.or_else(|| file.sha256.clone()).unwrap_or_else(|| {
            let hash = Sha256::digest(format!("{}/{name}", self.commit).as_bytes());
            format!("unnamed-{}", hex(&hash))
        });
        let lock = self.cache.lock(&etag, name, progress)?;
        let blob = self.cache.blob(&etag);
        let length = fs::metadata(&blob).map(|metadata| metadata.len()).ok();
        if length.is_none() || size.is_some_and(|size| length != Some(size)) {
            let path = self.cache.blob(&format!("{etag}.incomplete"));
            self.complete(
                &address,
                &Part {
                    file: name,
                    path: path.clone(),
                    size,
                    sha256,
                },
                progress,
            )?;
            fs::rename(&path, &blob).map_err(|error| HubError::io(&blob, "written", error))?;
        }
        drop(lock);
        self.cache.link(self.commit, name, &etag)
    }

    /// Downloads until the part is whole and right.
    fn complete(
        &self,
        address: &str,
        part: &Part<'_>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), HubError> {
        let found_some = part.length() > 0;
        progress(Progress::Started {
            file: part.file,
            done: part.length(),
            total: part.size,
        });
        for attempt in 0.. {
            self.retry(part.file, progress, |progress| {
                self.receive(address, part, progress)
            })?;
            let Some(expected) = &part.sha256 else { break };
            progress(Progress::Verifying { file: part.file });
            let found = sha256_of(&part.path)?;
            if &found == expected {
                break;
            }
            remove(&part.path)?;
            // What an earlier run left may have been the damaged piece: once more from the start.
            if attempt > 0 || !found_some {
                let (repo, file) = (self.repo.to_string(), part.file.to_owned());
                return Err(HubError::Checksum {
                    repo,
                    file,
                    found,
                    expected: expected.clone(),
                });
            }
        }
        progress(Progress::Finished { file: part.file });
        Ok(())
    }

    /// One request for what is still missing of the part.
    fn receive(
        &self,
        address: &str,
        part: &Part<'_>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), Failure> {
        let mut done = part.length();
        if part.size.is_some_and(|size| done > size) {
            remove(&part.path)?;
            done = 0;
        }
        if part.size == Some(done) && done > 0 {
            return Ok(());
        }
        let from = (done > 0).then_some(done);
        let answer = self.client.open(address, from, self.repo, part.file)?;
        match answer.status {
            206 if from.is_some() && resumes_at(&answer, done) => (),
            200 => done = 0,
            206 | 416 => {
                remove(&part.path)?;
                return Err(Failure::Transient(
                    "it cannot go on where the download stopped".to_owned(),
                    None,
                ));
            }
            status => {
                return Err(Failure::Transient(format!("it answered {status}"), None));
            }
        }
        let opened = match done {
            0 => File::create(&part.path),
            _ => File::options().append(true).open(&part.path),
        };
        let mut file = opened.map_err(|error| part.io(done, error))?;
        let mut body = answer.body.into_reader();
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = body
                .read(&mut chunk)
                .map_err(|error| Failure::Transient(describe_io(&error), None))?;
            if count == 0 {
                break;
            }
            file.write_all(&chunk[..count])
                .map_err(|error| part.io(done, error))?;
            done += count as u64;
            progress(Progress::Bytes {
                file: part.file,
                done,
                total: part.size,
            });
        }
        file.sync_all().map_err(|error| part.io(done, error))?;
        match part.size {
            Some(expected) if done < expected => {
                Err(Failure::Transient("the connection was cut".to_owned(), None))
            }
            Some(expected) if done > expected => {
                remove(&part.path)?;
                let (repo, file) = (self.repo.to_string(), part.file.to_owned());
                Err(HubError::Length {
                    repo,
                    file,
                    found: done,
                    expected,
                }
                .into())
            }
            _ => Ok(()),
        }
    }

    /// Repeats what failed for a reason that may pass. Failures count anew after each byte gained.
    pub(super) fn retry<T>(
        &self,
        what: &str,
        progress: &mut dyn FnMut(Progress<'_>),
        mut request: impl FnMut(&mut dyn FnMut(Progress<'_>)) -> Result<T, Failure>,
    ) -> Result<T, HubError> {
        let mut failures = 0;
        loop {
            let mut gained = false;
            let result = request(&mut |event| {
                gained |= matches!(event, Progress::Bytes { .. });
                progress(event);
            });
            let given_up = |reason: String| {
                let (endpoint, what) = (self.client.endpoint(), format!("{what} of {}", self.repo));
                Err(HubError::Network {
                    endpoint,
                    what,
                    reason,
                })
            };
            let (reason, wait) = match result {
                Ok(value) => return Ok(value),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Lasting(reason)) => return given_up(reason),
                Err(Failure::Transient(reason, wait)) => (reason, wait),
            };
            failures = if gained { 0 } else { failures + 1 };
            if failures > self.options.retries {
                return given_up(reason);
            }
            progress(Progress::Retrying {
                file: what,
                attempt: failures,
                reason: &reason,
            });
            let backoff = self
                .options
                .backoff
                .saturating_mul(1 << failures.saturating_sub(1).min(10));
            std::thread::sleep(wait.unwrap_or(backoff).min(LONGEST_WAIT));
        }
    }
}

impl Part<'_> {
    /// Bytes that are on disk.
    fn length(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    fn io(&self, done: u64, error: std::io::Error) -> HubError {
        match HubError::io(&self.path, "written", error) {
            HubError::DiskFull { path, .. } => HubError::DiskFull {
                path,
                missing: self.size.map(|size| size.saturating_sub(done)),
            },
            other => other,
        }
    }
}

/// Whether a 206 begins at byte `done`.
fn resumes_at(answer: &super::client::Answer, done: u64) -> bool {
    text_header(&answer.headers, "content-range")
        .is_some_and(|range| range.starts_with(&format!("bytes {done}-")))
}

fn remove(path: &Path) -> Result<(), HubError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(HubError::io(path, "removed", error))
        }
        _ => Ok(()),
    }
}

fn sha256_of(path: &Path) -> Result<String, HubError> {
    let read = |error| HubError::io(path, "read", error);
    let mut file = File::open(path).map_err(read)?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut file, &mut hasher).map_err(read)?;
    Ok(hex(&hasher.finalize()))
}

pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
