//! What can go wrong between a model's name and its files.

use std::path::{Path, PathBuf};

/// Why files could not be found or fetched. Every message names what was asked for and what to do; none holds
/// a token or a signed address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// Neither something on this disk nor a name on a hub.
    #[error(
        "{text:?} is neither a folder or .gguf file here nor a hub name; give ./folder, file.gguf, org/name, \
         org/name:file.gguf or org/name@revision"
    )]
    NotAModel {
        /// The name as it was given.
        text: String,
    },
    /// It looks like a path, and there is nothing there.
    #[error(
        "there is no model at {}; give an existing folder or .gguf file, or a hub name such as org/name",
        path.display()
    )]
    PathMissing {
        /// The path as it was given.
        path: PathBuf,
    },
    /// Ollama has no such model on this disk.
    #[error("ollama:{name}: {reason}")]
    NoOllamaModel {
        /// The model's name and tag, as `qwen3:8b`.
        name: String,
        /// What is missing on this disk, and what would fetch it.
        reason: String,
    },
    /// A file that is no GGUF file.
    #[error(
        "{} is not a .gguf file; for a model in safetensors files give the folder that holds them",
        path.display()
    )]
    NotGguf {
        /// The path as it was given.
        path: PathBuf,
    },
    /// The bundled model has no files.
    #[error("the bundled model is inside the program and has no files; load it without looking it up")]
    Bundled,
    /// A revision or file name that cannot be one.
    #[error("{text:?} is not a valid {what} of a hub repository")]
    BadName {
        /// The name as it was given.
        text: String,
        /// What it should be.
        what: &'static str,
    },
    /// Not in the cache, and the network may not be used.
    #[error(
        "{repo} is not complete in {} (missing: {missing}) and HF_HUB_OFFLINE is set; unset it to download, \
         or copy the files there",
        cache.display()
    )]
    NotCached {
        /// The repository and its revision.
        repo: String,
        /// The folder that was searched.
        cache: PathBuf,
        /// What is not there.
        missing: String,
    },
    /// Nowhere to put files.
    #[error("there is no folder for downloaded models: set HF_HOME or HF_HUB_CACHE, or HOME")]
    NoCache,
    /// A setting of the environment that cannot work.
    #[error("{name} is {value:?}, but it must be {expected}")]
    BadSetting {
        /// Name of the environment variable.
        name: &'static str,
        /// What the variable holds now.
        value: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// A token with characters that no token has.
    #[error(
        "the hub token (HF_TOKEN or the file HF_HOME/token) holds a character that no token has; copy it \
         again"
    )]
    BadToken,
    /// 404, or 401 for a name that nobody may know.
    #[error(
        "{endpoint} has no {repo} that can be read here; check the spelling, or set HF_TOKEN if it is private"
    )]
    NoSuchRepo {
        /// The repository on the hub, as `org/name`.
        repo: String,
        /// Address of the hub, as `https://huggingface.co`.
        endpoint: String,
    },
    /// The repository has no such branch, tag or commit.
    #[error("{repo} has no revision {revision:?}; name a branch, tag or commit of it")]
    NoSuchRevision {
        /// The repository on the hub, as `org/name`.
        repo: String,
        /// What was asked for.
        revision: String,
    },
    /// The repository has no such file.
    #[error("{repo} has no file {file:?}")]
    NoSuchFile {
        /// The repository on the hub, as `org/name`.
        repo: String,
        /// What was asked for.
        file: String,
    },
    /// 401: who asks must say who they are.
    #[error(
        "{repo} needs a login: accept its terms at {endpoint}/{page}, make a token there and set HF_TOKEN"
    )]
    NeedsToken {
        /// The repository on the hub, as `org/name`.
        repo: String,
        /// Address of the hub, as `https://huggingface.co`.
        endpoint: String,
        /// Its page on the hub.
        page: String,
    },
    /// 401 or 403 although a token was sent.
    #[error(
        "the hub does not let your token read {repo}: accept its terms at {endpoint}/{page} with that \
         account, or use another HF_TOKEN"
    )]
    TokenRefused {
        /// The repository on the hub, as `org/name`.
        repo: String,
        /// Address of the hub, as `https://huggingface.co`.
        endpoint: String,
        /// Its page on the hub.
        page: String,
    },
    /// Any HTTP status but success that has no error of its own here.
    #[error("{endpoint} answered {status} for {what}; {advice}")]
    Status {
        /// Address of the hub, as `https://huggingface.co`.
        endpoint: String,
        /// The HTTP status code.
        status: u16,
        /// What was asked for.
        what: String,
        /// What may help, as the end of a sentence.
        advice: &'static str,
    },
    /// The hub was not reached, or the connection kept breaking.
    #[error(
        "{what} could not be fetched from {endpoint}: {reason}; check the network and run the same command \
         again, it goes on where it stopped"
    )]
    Network {
        /// Address of the hub, as `https://huggingface.co`.
        endpoint: String,
        /// What was asked for.
        what: String,
        /// What happened to the last attempt.
        reason: String,
    },
    /// A file that is not as long as the hub says.
    #[error("{file} of {repo} has {found} bytes where the hub says {expected}; run the same command again")]
    Length {
        /// The repository on the hub, as `org/name`.
        repo: String,
        /// Path of the file inside the repository.
        file: String,
        /// Bytes that were received.
        found: u64,
        /// Bytes that the hub announced.
        expected: u64,
    },
    /// A file with another content than the hub says.
    #[error(
        "{file} of {repo} arrived damaged (sha256 {found} instead of {expected}) and was thrown away; run \
         the same command again"
    )]
    Checksum {
        /// The repository on the hub, as `org/name`.
        repo: String,
        /// Path of the file inside the repository.
        file: String,
        /// sha256 of what was received.
        found: String,
        /// sha256 that the hub announced.
        expected: String,
    },
    /// A file name from the hub that would leave the cache.
    #[error("{repo} lists a file named {name:?}, which is not a safe name; nothing was downloaded")]
    UnsafeName {
        /// The repository on the hub, as `org/name`.
        repo: String,
        /// The file's name as the hub lists it.
        name: String,
    },
    /// The hub's answer is not what its interface promises.
    #[error("{endpoint} did not answer for {repo} as a Hugging Face hub does: {reason}; check HF_ENDPOINT")]
    BadAnswer {
        /// The repository on the hub, as `org/name`.
        repo: String,
        /// Address of the hub, as `https://huggingface.co`.
        endpoint: String,
        /// What in the answer is not as it should be.
        reason: String,
    },
    /// Nothing in the repository can be run.
    #[error(
        "{repo} has no model that can be run here: it needs config.json with *.safetensors, or a .gguf file"
    )]
    NoWeights {
        /// The repository on the hub, as `org/name`.
        repo: String,
    },
    /// An index names a shard that is not listed.
    #[error("{repo} lacks {shard}, which its model.safetensors.index.json names; use another revision")]
    MissingShard {
        /// The repository on the hub, as `org/name`.
        repo: String,
        /// File name of the shard.
        shard: String,
    },
    /// The repository holds a LoRA adapter and no whole model.
    #[error(
        "{repo} is an adapter, not a model: merge it into {base} (peft: merge_and_unload, then \
         save_pretrained) and give the merged folder"
    )]
    Adapter {
        /// The repository on the hub, as `org/name`.
        repo: String,
        /// The model that the adapter belongs to.
        base: String,
    },
    /// More than one GGUF file fits.
    #[error("{repo} has several .gguf files that fit; name one as {repo}:FILE, with FILE one of {files}")]
    SeveralGguf {
        /// The repository on the hub, as `org/name`.
        repo: String,
        /// File names that fit, separated by commas.
        files: String,
    },
    /// No GGUF file fits.
    #[error("{repo} has no .gguf file that fits {wanted:?}; it has {files}")]
    NoSuchGguf {
        /// The repository on the hub, as `org/name`.
        repo: String,
        /// What was asked for.
        wanted: String,
        /// The repository's .gguf files, separated by commas.
        files: String,
    },
    /// A GGUF file in parts.
    #[error(
        "{file} of {repo} is one part of a split GGUF file; merge the parts (llama-gguf-split --merge) and \
         give the merged file"
    )]
    SplitGguf {
        /// The repository on the hub, as `org/name`.
        repo: String,
        /// File name of the part.
        file: String,
    },
    /// The disk is full, or a quota is used up.
    #[error(
        "the disk is full: {} could not be written{}; make room, or set HF_HUB_CACHE to another disk",
        path.display(), needed(*missing)
    )]
    DiskFull {
        /// What was being written.
        path: PathBuf,
        /// Bytes that were still to come, if known.
        missing: Option<u64>,
    },
    /// The file system said no.
    #[error("{} cannot be {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

fn needed(missing: Option<u64>) -> String {
    missing.map_or_else(String::new, |bytes| format!(" ({bytes} bytes to go)"))
}

impl HubError {
    /// A failure of the file system while `path` was being `action` (read, written, ...).
    pub(super) fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        if matches!(source.kind(), StorageFull | QuotaExceeded) {
            return Self::DiskFull {
                path: path.to_owned(),
                missing: None,
            };
        }
        Self::Io {
            path: path.to_owned(),
            action,
            source,
        }
    }
}
