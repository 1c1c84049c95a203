//! From a model's name to its files on this disk.
//!
//! The cache of the Hugging Face tools is looked at first, and what is whole there is used without asking
//! anybody. What is missing is fetched from the hub into the same cache, where other tools find it too:
//! resumed after an interruption, checked against the length and the sha256 that the hub announces, and
//! renamed into place when it is whole. `HF_HOME`, `HF_HUB_CACHE`,
//! `HF_TOKEN`, `HF_ENDPOINT`, `HF_HUB_OFFLINE` and the usual proxy variables are honoured.

mod cache;
mod client;
mod download;
mod error;
mod model;
mod ollama;
mod options;
mod repo;
mod select;
mod session;
mod source;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub(crate) use client::is_loopback_host;
pub use error::HubError;
pub(crate) use options::HubOptions;
pub use repo::Progress;
pub(crate) use repo::{RemoteFile, Repo, RepoKind};
pub(crate) use source::{DEFAULT_REVISION, ModelSource};

use cache::RepoCache;
use session::Session;
use source::is_safe_name;

/// Finds a model's files: the folder with config.json and safetensors, or the GGUF file.
///
/// What is on this disk is used as it is; a repository is looked for in the cache and fetched if it is not
/// whole there.
///
/// # Errors
/// Every [`HubError`]; [`HubError::Bundled`] for the bundled model, which has no files.
pub(crate) fn resolve(
    source: &ModelSource,
    options: &HubOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, HubError> {
    match source {
        ModelSource::Bundled => Err(HubError::Bundled),
        ModelSource::Folder(path) | ModelSource::Gguf(path) => Ok(path.clone()),
        ModelSource::Ollama(name) => ollama::find(name, &ollama::stores(|name| std::env::var(name).ok())),
        ModelSource::Hub { repo, file, revision } => {
            let repo = Repo::new(RepoKind::Model, repo, revision)?;
            model::resolve(&repo, file.as_deref(), options, progress)
        }
    }
}

/// Finds single files of any repository, a data set's for instance: from the cache if all are there, else
/// from the hub.
///
/// # Errors
/// Every [`HubError`]; [`HubError::NoSuchFile`] for a file that the repository does not list.
pub(crate) fn files(
    repo: &Repo,
    names: &[&str],
    options: &HubOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<PathBuf>, HubError> {
    if let Some(name) = names.iter().find(|name| !is_safe_name(name)) {
        return Err(HubError::BadName {
            text: (*name).to_owned(),
            what: "file",
        });
    }
    let cache = RepoCache::new(&options.cache, repo);
    let commit = cache.commit(&repo.revision);
    let cached = |name: &&str| commit.as_ref().and_then(|commit| cache.file(commit, name));
    if let Some(paths) = names.iter().map(cached).collect() {
        return Ok(paths);
    }
    if options.offline {
        let missing = names.iter().filter(|name| cached(name).is_none()).copied();
        return Err(not_cached(repo, options, missing.collect::<Vec<_>>().join(", ")));
    }
    let session = Session::open(repo, options, progress)?;
    let wanted = names.iter().map(|name| {
        let listed = session.listed.iter().find(|file| file.name == **name);
        listed.cloned().ok_or_else(|| HubError::NoSuchFile {
            repo: repo.to_string(),
            file: (*name).to_owned(),
        })
    });
    let wanted = wanted.collect::<Result<Vec<_>, _>>()?;
    session.fetch_all(&wanted, progress)
}

fn not_cached(repo: &Repo, options: &HubOptions, missing: String) -> HubError {
    HubError::NotCached {
        repo: repo.to_string(),
        cache: options.cache.clone(),
        missing,
    }
}
