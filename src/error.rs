//! Every way in which a run can be refused or fail, one sentence each.

/// What went wrong. All of these are exit code 2 on the command line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model file that cannot be read or run.
    #[error(transparent)]
    Model(#[from] tts_model::ModelError),
    /// The tokenizer or the chat template.
    #[error(transparent)]
    Prompt(#[from] crate::prompt::PromptError),
    /// The hub or its cache.
    #[error(transparent)]
    Hub(#[from] crate::hub::HubError),
    /// A strategy's name or settings.
    #[error(transparent)]
    Preset(#[from] tts_strategies::PresetError),
    /// A strategy that is another program.
    #[error(transparent)]
    Policy(#[from] crate::policy::PolicyError),
    /// A problem's run that came to no outcome.
    #[error(transparent)]
    Run(#[from] crate::run::RunError),
    /// A run folder that cannot be read or written.
    #[error(transparent)]
    Folder(#[from] crate::run::RunFolderError),
    /// A set of problems.
    #[error(transparent)]
    Set(#[from] crate::problem_set::SetError),
    /// A setting out of its range, or settings that contradict each other.
    #[error("{0}")]
    Setting(String),
}
