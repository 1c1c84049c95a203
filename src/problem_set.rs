//! Problem sets by name: a task that is known here, with its problems from this program or the hub, or a
//! file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tts_evals::answer::RuleReader;
use tts_evals::data::{self, DataError, Dataset, Fields};
use tts_evals::task::{Task, TaskError};
use tts_model::files;

use crate::fmt::nearest;
use crate::hub::{self, DEFAULT_REVISION, HubError, HubOptions, Progress, Repo, RepoKind};

/// Why a problem set cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetError {
    /// A file that is no set of problems.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A task that is not known, or whose file is wrong.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// A set that cannot be fetched.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A file that cannot be read.
    #[error("{what} cannot be read: {source}")]
    Read {
        /// The file, as a user would call it.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Neither a file nor a task.
    #[error("--data {name} is neither a file nor a task; did you mean `{nearest}`? (tasks: {tasks})")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The name that is spelt most like it.
        nearest: String,
        /// Names of all tasks, separated by commas.
        tasks: String,
    },
    /// A path at which nothing is.
    #[error(
        "--data {0} does not exist; give a JSONL, JSON, CSV or parquet file, or a task of `tts list tasks`"
    )]
    NoSuchFile(String),
    /// A task that names no problems.
    #[error("task {0} does not say where its problems are")]
    Nowhere(String),
    /// A task that does not lead to its problems.
    #[error("task {task}: {what}")]
    NoProblems {
        /// Name of the task.
        task: String,
        /// What the task does not say or the set does not hold.
        what: String,
    },
    /// A file that is not the one that its task was made for.
    #[error(
        "task {task}: {file} is not the file that the task names (its sha256 is {found}, not {wanted}); give \
         it with --data FILE --task {task} to use it all the same"
    )]
    OtherFile {
        /// Name of the task.
        task: String,
        /// Path of the file inside its repository.
        file: String,
        /// sha256 of the file that was read, in hexadecimal.
        found: String,
        /// What it should be.
        wanted: String,
    },
    /// A problem that the set does not have.
    #[error("--ids: {set} has no problem `{id}`{tip}")]
    NoSuchProblem {
        /// The set as it was named.
        set: String,
        /// What was asked for.
        id: String,
        /// The id that is spelt most like it, as the end of the sentence.
        tip: String,
    },
}

/// A set of problems, and the task that it belongs to.
#[derive(Clone, Debug)]
pub struct ProblemSet {
    /// The problems with their right answers, in order.
    pub data: Dataset,
    /// How they are asked and graded, where they are a task's.
    pub task: Option<Task>,
    /// What is not as the task says.
    pub warnings: Vec<String>,
}

/// Problem sets in the program.
const BUNDLED: [(&str, &str); 2] = [
    ("heldout", include_str!("../data/heldout.jsonl")),
    ("dev", include_str!("../data/dev.jsonl")),
];

/// A set that is in the program, as JSON lines.
fn bundled(name: &str) -> Option<&'static str> {
    BUNDLED
        .into_iter()
        .find(|(known, _)| *known == name)
        .map(|(_, lines)| lines)
}

/// A task by name, or from a TOML file.
///
/// # Errors
/// A name that is not known, a file that cannot be read or is no task.
pub(crate) fn open_task(name: &str) -> Result<Task, SetError> {
    if !looks_like_path(name) {
        return Ok(Task::named(name)?);
    }
    let bytes = read(Path::new(name), || format!("the task file {name}"))?;
    Ok(Task::parse(&String::from_utf8_lossy(&bytes), name)?)
}

fn looks_like_path(name: &str) -> bool {
    name.contains(['/', '\\', '.'])
}

/// The fields of a set with those over them that `ROLE=NAME` says.
fn over(mut fields: Fields, given: &[String]) -> Result<Fields, DataError> {
    given.iter().try_for_each(|field| fields.set(field))?;
    Ok(fields)
}

/// The bytes of a file, or of a pipe such as `<(command)`, whose end is not known beforehand.
fn read(path: &Path, what: impl FnOnce() -> String) -> Result<Vec<u8>, SetError> {
    let most = if path.is_file() { MOST_FILE } else { MOST_PIPED };
    files::read_bounded(path, most).map_err(|source| SetError::Read { what: what(), source })
}

/// Bytes of a set in a file, and of one that is piped.
const MOST_FILE: u64 = 4 << 30;
pub(crate) const MOST_PIPED: u64 = 256 << 20;

impl ProblemSet {
    /// Opens a JSONL, JSON, CSV or parquet file, or a task by its name; a task's problems are fetched from
    /// the hub where they are not here. `fields` says which field is what, each as `question=NAME`,
    /// `answer=NAME` or `id=NAME`.
    ///
    /// # Errors
    /// A sentence that names the file, the task or the field.
    pub fn open(
        name: &str,
        fields: &[String],
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Self, SetError> {
        Self::open_first(name, fields, usize::MAX, progress)
    }

    /// The same, reading no more than the first `most` problems of a file. A task is read to its end, which
    /// is checked against what is known of it.
    ///
    /// # Errors
    /// As [`ProblemSet::open`].
    pub fn open_first(
        name: &str,
        fields: &[String],
        most: usize,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Self, SetError> {
        // a folder may be called as a task is
        let path = Path::new(name);
        if path.exists() && (!path.is_dir() || looks_like_path(name)) {
            let bytes = read(path, || format!("--data {name}"))?;
            return Self::parse_first(&bytes, name, fields, most);
        }
        // the set for tuning is read and graded like the one for measuring
        let of = if bundled(name).is_some() { "heldout" } else { name };
        if looks_like_path(name) {
            return Err(SetError::NoSuchFile(name.to_owned()));
        }
        if !Task::names().any(|t| t == of) {
            let known = Task::names().chain(BUNDLED.map(|(name, _)| name));
            return Err(SetError::Unknown {
                nearest: nearest(name, known).unwrap_or("heldout").to_owned(),
                tasks: Task::names().collect::<Vec<_>>().join(", "),
                name: name.to_owned(),
            });
        }
        let task = Task::named(of)?;
        let fields = over(task.data.fields.clone(), fields)?;
        let data = problems_of(&task, name, &fields, progress)?;
        Self::of_task(name, task, data)
    }

    /// Reads the bytes of a file; `name` is what errors call it.
    ///
    /// # Errors
    /// A sentence that names the line or the field.
    pub fn parse(bytes: &[u8], name: &str, fields: &[String]) -> Result<Self, SetError> {
        Self::parse_first(bytes, name, fields, usize::MAX)
    }

    /// The first `most` problems of the bytes of a file.
    ///
    /// # Errors
    /// As [`ProblemSet::parse`].
    pub fn parse_first(bytes: &[u8], name: &str, fields: &[String], most: usize) -> Result<Self, SetError> {
        Ok(Self {
            data: data::load_first(bytes, name, &over(Fields::default(), fields)?, most)?,
            task: None,
            warnings: Vec::new(),
        })
    }

    /// Checks problems against what their task says of them.
    fn of_task(name: &str, task: Task, mut data: Dataset) -> Result<Self, SetError> {
        if let Some(wanted) = task.data.sha256.as_ref().filter(|wanted| **wanted != data.digest) {
            return Err(SetError::OtherFile {
                task: name.to_owned(),
                file: data.name,
                found: data.digest,
                wanted: wanted.clone(),
            });
        }
        if let Some(keep) = &task.data.keep {
            data.keep(&keep.field, &keep.values);
        }
        let mut warnings = Vec::new();
        if task.name == name
            && let Some(wanted) = &task.data.answers
            && *wanted != data.answers_digest(task.grade.kind)
        {
            warnings.push(format!(
                "task {name}: the answers in {} are not those that the task knows; it is a damaged copy or \
                 another set",
                data.name
            ));
        }
        if let Some(count) = task.count.filter(|n| *n != data.problems.len()) {
            warnings.push(format!(
                "task {name} has {count} problems, but {} holds {}",
                data.name,
                data.problems.len()
            ));
        }
        Ok(Self {
            data,
            task: Some(task),
            warnings,
        })
    }

    /// What a task says of its problems and these, read to the end of their file, do not hold.
    pub(crate) fn unlike(&self, task: &Task) -> Option<String> {
        let other = self.task.as_ref().is_none_or(|own| own.name != task.name);
        let wanted = task.data.answers.as_ref().filter(|_| other)?;
        (*wanted != self.data.answers_digest(task.grade.kind)).then(|| {
            format!(
                "--task {}: the answers in {} are not those that the task knows; it is a damaged copy or \
                 another set",
                task.name, self.data.name
            )
        })
    }

    /// Leaves these problems alone, in the set's order.
    ///
    /// # Errors
    /// When the set does not have one of them.
    pub fn retain(&mut self, ids: &[String]) -> Result<(), SetError> {
        let problems = &mut self.data.problems;
        for id in ids {
            if !problems.iter().any(|p| p.id == *id) {
                return Err(SetError::NoSuchProblem {
                    set: self.data.name.clone(),
                    id: id.clone(),
                    tip: nearest(id, problems.iter().map(|p| p.id.as_str()))
                        .map_or_else(String::new, |n| format!("; did you mean `{n}`?")),
                });
            }
        }
        problems.retain(|p| ids.contains(&p.id));
        Ok(())
    }

    /// The right answers, by problem.
    pub fn gold(&self) -> BTreeMap<String, String> {
        let of = |p: &data::Problem| Some((p.id.clone(), p.answer.clone()?));
        self.data.problems.iter().filter_map(of).collect()
    }

    /// What reads and compares answers: as the task says, else as mathematics.
    ///
    /// # Errors
    /// When a pattern of the task is none.
    pub fn reader(&self) -> Result<RuleReader, SetError> {
        match &self.task {
            Some(task) => Ok(task.reader()?),
            None => Ok(RuleReader::default()),
        }
    }

    /// What the task asks after each problem.
    pub fn instruction(&self) -> Option<String> {
        self.task.as_ref()?.asked_after().map(str::to_owned)
    }
}

/// Finds a task's problems: in this program, on the hub, or in a file.
fn problems_of(
    task: &Task,
    name: &str,
    fields: &Fields,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Dataset, SetError> {
    let missing = |what: String| SetError::NoProblems {
        task: name.to_owned(),
        what,
    };
    Ok(match (&task.data.bundled, &task.data.hub, &task.data.file) {
        (Some(set), _, _) => {
            let set = if task.name == name { set } else { name };
            let lines =
                bundled(set).ok_or_else(|| missing(format!("this program holds no problem set `{set}`")))?;
            data::load(lines.as_bytes(), set, fields)?
        }
        (None, Some(repo), Some(file)) => {
            let repo = Repo::new(RepoKind::Dataset, repo, DEFAULT_REVISION)?;
            let paths: Vec<PathBuf> = hub::files(&repo, &[file], &HubOptions::from_env()?, progress)?;
            let path = paths
                .first()
                .ok_or_else(|| missing("the hub gave no file".to_owned()))?;
            let name = path.display().to_string();
            data::load(&read(path, || name.clone())?, &name, fields)?
        }
        (None, None, Some(file)) => {
            let bytes = read(Path::new(file), || format!("task {name}: {file}"))?;
            data::load(&bytes, file, fields)?
        }
        _ => return Err(SetError::Nowhere(name.to_owned())),
    })
}
