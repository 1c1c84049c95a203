//! One repository as the hub has it now.

use std::path::PathBuf;

use super::cache::RepoCache;
use super::client::{Client, quote};
use super::download::{Downloader, is_sha256};
use super::source::is_safe_name;
use super::{HubError, HubOptions, Progress, RemoteFile, Repo};

/// A repository whose files the hub has listed.
pub(super) struct Session<'a> {
    client: Client,
    pub(super) cache: RepoCache,
    repo: &'a Repo,
    options: &'a HubOptions,
    /// The commit that the revision stands for now.
    pub(super) commit: String,
    /// The repository's files as the hub lists them.
    pub(super) listed: Vec<RemoteFile>,
}

impl<'a> Session<'a> {
    /// Asks the hub for the list of files.
    pub(super) fn open(
        repo: &'a Repo,
        options: &'a HubOptions,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Self, HubError> {
        let client = Client::new(options)?;
        let cache = RepoCache::new(&options.cache, repo);
        progress(Progress::Listing { repo: &repo.name });
        let mut session = Self {
            client,
            cache,
            repo,
            options,
            commit: String::new(),
            listed: Vec::new(),
        };
        let revision = quote(&repo.revision, false);
        let path = format!(
            "/api/{}s/{}/revision/{revision}?blobs=true",
            repo.kind.name(),
            repo.name
        );
        let answer = session.downloader().retry("the list of files", progress, |_| {
            session.client.text(&path, repo)
        })?;
        (session.commit, session.listed) = session.read_listing(&answer)?;
        Ok(session)
    }

    fn downloader(&self) -> Downloader<'_> {
        Downloader {
            client: &self.client,
            cache: &self.cache,
            options: self.options,
            repo: self.repo,
            commit: &self.commit,
        }
    }

    fn read_listing(&self, answer: &str) -> Result<(String, Vec<RemoteFile>), HubError> {
        use serde_json::Value;
        let bad = |reason: &str| HubError::BadAnswer {
            repo: self.repo.to_string(),
            endpoint: self.client.endpoint(),
            reason: reason.to_owned(),
        };
        let answer: Value = serde_json::from_str(answer).map_err(|_| bad("the list of files is not JSON"))?;
        let commit = answer.get("sha").and_then(Value::as_str).unwrap_or_default();
        if commit.len() < 7 || !commit.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(bad("the list of files names no commit"));
        }
        let siblings = answer.get("siblings").and_then(Value::as_array);
        let siblings = siblings.ok_or_else(|| bad("there is no list of files"))?;
        let mut listed = Vec::with_capacity(siblings.len());
        for sibling in siblings {
            let Some(name) = sibling.get("rfilename").and_then(Value::as_str) else {
                continue;
            };
            if !is_safe_name(name) {
                return Err(HubError::UnsafeName {
                    repo: self.repo.to_string(),
                    name: name.to_owned(),
                });
            }
            let lfs = sibling.get("lfs");
            let sha256 = lfs
                .and_then(|lfs| lfs.get("sha256")?.as_str())
                .filter(|hash| is_sha256(hash));
            listed.push(RemoteFile {
                name: name.to_owned(),
                size: sibling.get("size").and_then(Value::as_u64),
                sha256: sha256.map(str::to_ascii_lowercase),
            });
        }
        Ok((commit.to_owned(), listed))
    }

    /// Fetches files one after the other and then remembers the revision.
    pub(super) fn fetch_all(
        &self,
        files: &[RemoteFile],
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Vec<PathBuf>, HubError> {
        self.cache.prepare()?;
        let downloader = self.downloader();
        let fetched = files.iter().map(|file| downloader.fetch(file, progress));
        let paths = fetched.collect::<Result<Vec<_>, _>>()?;
        self.cache.write_ref(&self.repo.revision, &self.commit)?;
        Ok(paths)
    }
}
