//! Tasks as data: what to ask, where the answer stands, how it is graded, and where the problems are.

use crate::answer::{
    AnswerKind, EqualOptions, ExtractRules, ExtractionPath, PatternError, RuleReader, compile_pattern,
};
use crate::data::Fields;
use serde::Deserialize;

/// The tasks that come with the crate, as (name, TOML).
const BUNDLED: [(&str, &str); 12] = [
    ("heldout", include_str!("../tasks/heldout.toml")),
    ("aime24", include_str!("../tasks/aime24.toml")),
    ("aime25", include_str!("../tasks/aime25.toml")),
    ("aime26", include_str!("../tasks/aime26.toml")),
    ("hmmt25", include_str!("../tasks/hmmt25.toml")),
    ("hmmt26", include_str!("../tasks/hmmt26.toml")),
    ("brumo25", include_str!("../tasks/brumo25.toml")),
    ("amo-bench", include_str!("../tasks/amo-bench.toml")),
    ("math500", include_str!("../tasks/math500.toml")),
    ("gsm8k", include_str!("../tasks/gsm8k.toml")),
    ("gpqa-diamond", include_str!("../tasks/gpqa-diamond.toml")),
    ("mmlu-pro", include_str!("../tasks/mmlu-pro.toml")),
];

/// A task: everything about a problem set but the problems.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// What it is called on the command line.
    pub name: String,
    /// One line about it.
    pub description: String,
    /// What is added to each problem before it goes to the model; empty for nothing.
    #[serde(default)]
    pub instruction: String,
    /// How many problems the set has, to notice a truncated copy.
    pub count: Option<usize>,
    /// Where the answer is looked for.
    #[serde(default)]
    pub extract: TaskExtract,
    /// How it is compared.
    #[serde(default)]
    pub grade: TaskGrade,
    /// Where the problems are.
    pub data: TaskData,
}

/// Where the answer is looked for.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskExtract {
    /// What is tried, in order.
    pub steps: Vec<ExtractionPath>,
    /// Whether the thinking is searched when the text after it holds no answer.
    pub inside_thinking: bool,
    /// A regular expression for the step `pattern`: group `answer`, else group 1.
    pub pattern: Option<String>,
}

impl Default for TaskExtract {
    fn default() -> Self {
        Self {
            steps: ExtractRules::default().steps,
            inside_thinking: true,
            pattern: None,
        }
    }
}

/// How an answer is compared.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskGrade {
    /// What kind of answer it is.
    pub kind: AnswerKind,
    /// Choices that graders disagree about.
    pub options: EqualOptions,
}

/// Where the problems are: in the program, or in a file of a dataset on the Hugging Face hub.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskData {
    /// The name of a set inside the program.
    pub bundled: Option<String>,
    /// `org/name` of a dataset on the hub.
    pub hub: Option<String>,
    /// The file in it.
    pub file: Option<String>,
    /// SHA-256 of that file, in hexadecimal, where it is known for certain; another file is refused.
    pub sha256: Option<String>,
    /// SHA-256 of the set's answers ([`Dataset::answers_digest`](crate::data::Dataset::answers_digest)): the
    /// same for every faithful copy, so that a corrupt or another one is noticed.
    pub answers: Option<String>,
    /// Only the problems whose field has one of these values.
    pub keep: Option<Keep>,
    /// Names of its fields, where they are not the usual ones.
    pub fields: Fields,
}

/// Which problems of a set are kept.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// The field that decides.
    pub field: String,
    /// Its values in the problems kept.
    pub values: Vec<String>,
}

/// A task that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// No task of that name.
    #[error("there is no task \"{name}\"; there are {known}, or give the path of a task file")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A file that is not a task.
    #[error("the task file {file} cannot be used: {reason}")]
    Invalid {
        /// The file or the bundled task's name.
        file: String,
        /// What is wrong, with the line.
        reason: String,
    },
    /// Its pattern is no regular expression.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

impl Task {
    /// The names of the tasks that come with the crate.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUNDLED.iter().map(|(name, _)| *name)
    }

    /// The task of that name.
    ///
    /// # Errors
    /// When there is none; the message lists those there are.
    pub fn named(name: &str) -> Result<Self, TaskError> {
        let (name, text) =
            BUNDLED
                .iter()
                .find(|(known, _)| *known == name)
                .ok_or_else(|| TaskError::Unknown {
                    name: name.to_owned(),
                    known: Self::names().collect::<Vec<_>>().join(", "),
                })?;
        Self::parse(text, name)
    }

    /// Reads a task file; `file` names it in messages.
    ///
    /// # Errors
    /// When it is no TOML, a field is unknown or missing, or the pattern is no regular expression.
    pub fn parse(text: &str, file: &str) -> Result<Self, TaskError> {
        let invalid = |reason: String| TaskError::Invalid {
            file: file.to_owned(),
            reason,
        };
        let task: Self = toml::from_str(text).map_err(|e| invalid(e.to_string()))?;
        match (&task.data.bundled, &task.data.hub, &task.data.file) {
            (Some(_), None, None) | (None, Some(_), Some(_)) | (None, None, Some(_)) => {}
            _ => {
                return Err(invalid(
                    "[data] needs either `bundled`, or `hub` and `file`, or `file` alone".to_owned(),
                ));
            }
        }
        let steps = &task.extract.steps;
        if steps.is_empty() || steps.contains(&ExtractionPath::Custom) {
            return Err(invalid(
                "[extract] needs `steps` such as [\"boxed\", \"last-number\"]".to_owned(),
            ));
        }
        if steps.contains(&ExtractionPath::Pattern) != task.extract.pattern.is_some() {
            return Err(invalid(
                "[extract] needs the step \"pattern\" and a `pattern` together".to_owned(),
            ));
        }
        task.reader()?;
        Ok(task)
    }

    /// What reads and grades this task's answers.
    ///
    /// # Errors
    /// When its pattern is no regular expression.
    pub fn reader(&self) -> Result<RuleReader, TaskError> {
        let pattern = self.extract.pattern.as_deref().map(compile_pattern).transpose()?;
        let rules = ExtractRules {
            inside_thinking: self.extract.inside_thinking,
            pattern,
            ..ExtractRules::steps(&self.extract.steps)
        };
        Ok(RuleReader {
            rules,
            kind: self.grade.kind,
            options: self.grade.options.clone(),
        })
    }

    /// What is asked after each problem, if anything is.
    pub fn asked_after(&self) -> Option<&str> {
        Some(self.instruction.as_str()).filter(|i| !i.is_empty())
    }

    /// The problem as the model is asked it: the problem, a blank line, the instruction.
    pub fn ask(&self, problem: &str) -> String {
        if self.instruction.is_empty() {
            return problem.to_owned();
        }
        format!("{}\n\n{}", problem.trim_end(), self.instruction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bundled_task_can_be_used() {
        for name in Task::names() {
            let task = Task::named(name).expect("a task");
            assert_eq!(task.name, name);
            assert!(task.reader().is_ok());
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let unknown = Task::named("aime99").expect_err("no such task").to_string();
        assert!(unknown.contains("aime24") && unknown.contains("aime99"));
        let parse = |text: &str| {
            Task::parse(text, "mine.toml")
                .expect_err("not a task")
                .to_string()
        };
        let head = "name = \"x\"\ndescription = \"y\"\n";
        assert!(parse(&format!("{head}prompt = \"z\"\n[data]\nfile = \"a\"")).contains("prompt"));
        assert!(parse(&format!("{head}[data]\n")).contains("[data] needs"));
        assert!(
            parse(&format!(
                "{head}[data]\nfile = \"a\"\n[extract]\nsteps = [\"pattern\"]"
            ))
            .contains("together")
        );
        assert!(
            parse(&format!(
                "{head}[data]\nfile = \"a\"\n[extract]\nsteps = [\"pattern\"]\npattern = \"(\""
            ))
            .contains("regular expression")
        );
    }
}
