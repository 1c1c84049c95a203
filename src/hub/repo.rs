//! Repositories, their files, and what happens while these are fetched.

use std::fmt;

use super::source::{check_revision, is_repo_name};
use super::{DEFAULT_REVISION, HubError};

/// What happens while files are fetched.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// The list of files is being asked for.
    Listing {
        /// The repository on the hub, as `org/name`.
        repo: &'a str,
    },
    /// Another process fetches this file; it is waited for.
    Waiting {
        /// Path of the file inside the repository.
        file: &'a str,
    },
    /// A file begins, or goes on from byte `done`.
    Started {
        /// Path of the file inside the repository.
        file: &'a str,
        /// Bytes that are here already.
        done: u64,
        /// Bytes in all, if known.
        total: Option<u64>,
    },
    /// More bytes of a file arrived.
    Bytes {
        /// Path of the file inside the repository.
        file: &'a str,
        /// Bytes that are here now.
        done: u64,
        /// Bytes in all, if known.
        total: Option<u64>,
    },
    /// An attempt failed and is repeated.
    Retrying {
        /// The file, or "the list of files".
        file: &'a str,
        /// How many times in a row it failed without a byte gained.
        attempt: u32,
        /// Why the attempt before failed.
        reason: &'a str,
    },
    /// The sha256 is being computed.
    Verifying {
        /// Path of the file inside the repository.
        file: &'a str,
    },
    /// A file is whole.
    Finished {
        /// Path of the file inside the repository.
        file: &'a str,
    },
}

/// Models or data sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RepoKind {
    /// A repository of a model.
    Model,
    /// A repository of a data set, under `datasets/` on the hub.
    Dataset,
}

impl RepoKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "dataset",
        }
    }

    /// What stands before the repository's name in an address.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "/datasets",
        }
    }
}

/// A repository at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repo {
    pub(super) kind: RepoKind,
    pub(super) name: String,
    pub(super) revision: String,
}

impl Repo {
    /// Names a repository: `org/name`, and a branch, tag or commit.
    ///
    /// # Errors
    /// [`HubError::BadName`].
    pub(crate) fn new(kind: RepoKind, name: &str, revision: &str) -> Result<Self, HubError> {
        if !is_repo_name(name) {
            return Err(HubError::BadName {
                text: name.to_owned(),
                what: "name (org/name)",
            });
        }
        check_revision(revision)?;
        Ok(Self {
            kind,
            name: name.to_owned(),
            revision: revision.to_owned(),
        })
    }

    /// Its page on the hub, below the endpoint.
    pub(super) fn page(&self) -> String {
        format!("{}/{}", self.kind.prefix(), self.name)
            .trim_start_matches('/')
            .to_owned()
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == RepoKind::Dataset {
            f.write_str("data set ")?;
        }
        f.write_str(&self.name)?;
        if self.revision == DEFAULT_REVISION {
            Ok(())
        } else {
            write!(f, "@{}", self.revision)
        }
    }
}

/// A file that a repository lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteFile {
    /// Its path in the repository.
    pub name: String,
    /// Its length in bytes, if the hub told it.
    pub size: Option<u64>,
    /// Its sha256 in hexadecimal, if the hub told it.
    pub sha256: Option<String>,
}
