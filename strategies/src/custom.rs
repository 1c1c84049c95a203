//! A strategy that no register has, as a preset: what it is called in results and manifests, and how it is
//! made.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::interface::Strategy;

/// Makes one strategy object of this name.
pub type StrategyBuilder = dyn Fn(&str) -> Box<dyn Strategy> + Send + Sync;

/// A strategy of another program: a command that is asked for every decision.
#[derive(Clone, Serialize)]
pub struct Custom {
    /// What is run, as the user named it.
    pub command: String,
    /// Digest of it: two results with the same command and digest were decided by the same rules.
    pub digest: Option<String>,
    /// Makes a strategy of a given name, once a problem or a thread.
    #[serde(skip)]
    pub build: Arc<StrategyBuilder>,
}

impl PartialEq for Custom {
    fn eq(&self, other: &Self) -> bool {
        (&self.command, &self.digest) == (&other.command, &other.digest)
    }
}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custom")
            .field("command", &self.command)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}
