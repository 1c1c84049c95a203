//! What can be wrong with a run folder.

use std::path::{Path, PathBuf};

/// Why a run folder cannot be used. Every sentence says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunFolderError {
    /// The operating system refused to read or write.
    #[error(
        "cannot {doing} {}: {source}; check the path, its permissions and the space on the disk",
        path.display()
    )]
    Io {
        /// What was tried: `open`, `read`, `write` or `create`.
        doing: &'static str,
        /// Path of the file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file stands where the folder should be.
    #[error("{} is a file; a run is a folder: name a new or an empty one", .0.display())]
    NotAFolder(PathBuf),
    /// Something else lives there.
    #[error(
        "{} holds files but no manifest.json, so it is no run folder that could be gone on with; name a new \
         or an empty folder",
        .0.display()
    )]
    NotEmpty(PathBuf),
    /// Another process writes it.
    #[error(
        "{} is being written by another process{}; wait for it or name another folder",
        dir.display(), pid.as_ref().map_or_else(String::new, |p| format!(" (pid {p})"))
    )]
    Busy {
        /// Path of the run folder.
        dir: PathBuf,
        /// The other process, if it could be read.
        pid: Option<String>,
    },
    /// The manifest cannot be understood.
    #[error("{}: {reason}; restore the file or name another folder", path.display())]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it, as the end of a sentence.
        reason: String,
    },
    /// Written by a later version.
    #[error(
        "{}: this run folder has schema {found}, this version reads up to {known}; update, or name another \
         folder",
        path.display()
    )]
    Newer {
        /// Path of the file.
        path: PathBuf,
        /// Number of the layout that the file names.
        found: u64,
        /// The newest one known here.
        known: u32,
    },
    /// Other settings than before, and they change the traces.
    #[error(
        "{} was recorded with other settings: {what}; traces of different settings do not mix: set them back \
         or name another folder",
        dir.display()
    )]
    Differs {
        /// Path of the run folder.
        dir: PathBuf,
        /// Every setting with both values.
        what: String,
    },
    /// Another strategy than before, and one of the two makes traces from others.
    #[error(
        "{} was recorded with the strategy `{was}` and cannot go on with `{now}`, or with other settings of it: traces \
         that are made from others are of no use elsewhere; name another folder",
        dir.display()
    )]
    Made {
        /// Path of the run folder.
        dir: PathBuf,
        /// Name of the recorded strategy.
        was: String,
        /// Name of the one that was asked for.
        now: String,
    },
    /// The same problem id with another prompt.
    #[error(
        "{}: problem `{problem}` was recorded with another prompt (its text, the instruction, or the \
         day that its chat template writes, which --date sets, changed); name another folder, or give the problem another id",
        dir.display()
    )]
    Prompt {
        /// Path of the run folder.
        dir: PathBuf,
        /// Name of the problem.
        problem: String,
    },
    /// There is no recording at this path.
    #[error(
        "{} is no recording: a run folder with traces.jsonl, or a .jsonl file of traces, is needed",
        .0.display()
    )]
    NoRecording(PathBuf),
    /// A problem that is not recorded.
    #[error("--ids: {} holds no problem `{problem}`{tip}", path.display())]
    NoSuchProblem {
        /// Path of the recording.
        path: PathBuf,
        /// What was asked for.
        problem: String,
        /// The name that is spelt most like it, as the end of the sentence.
        tip: String,
    },
    /// Nothing that can be read is of use.
    #[error("{} holds no problem that can be decided over: {}", path.display(), why.join("; "))]
    NothingUsable {
        /// Path of the file.
        path: PathBuf,
        /// What was passed over, counted.
        why: Vec<String>,
    },
    /// No line of a recording made elsewhere has a field of this role.
    #[error(
        "{} does not say {what}: {fields}; name the right one with --field {role}=NAME (`tts replay --help` \
         shows what a recording looks like)",
        path.display()
    )]
    NoField {
        /// Path of the file.
        path: PathBuf,
        /// What is looked for, as the end of a sentence.
        what: &'static str,
        /// The fields that are there, as the middle of a sentence.
        fields: String,
        /// What `--field` calls it.
        role: &'static str,
    },
    /// No line of a recording made elsewhere has a field that `--field` names.
    #[error(
        "--field {argument}: no line or trace of {} has that field: {fields}",
        path.display()
    )]
    NoSuchField {
        /// Path of the file.
        path: PathBuf,
        /// What was asked for, as `ROLE=NAME`.
        argument: String,
        /// The fields that are there, as the middle of a sentence.
        fields: String,
    },
    /// A recording made elsewhere has two fields that may be a trace's answer.
    #[error(
        "{}: a trace has both `answer` and `{name}`; say which is its own with --field answer=NAME, and \
         which is right with --field gold=NAME",
        path.display()
    )]
    TwoAnswers {
        /// Path of the file.
        path: PathBuf,
        /// The one that is not `answer`.
        name: &'static str,
    },
    /// The journal's thread could not write.
    #[error(
        "the run folder cannot be written: {0}; what was recorded before is kept, and the same command goes \
         on from there"
    )]
    Journal(String),
}

impl RunFolderError {
    /// For `map_err`: names what was tried and on what.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}
