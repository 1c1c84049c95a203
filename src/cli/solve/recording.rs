//! `--run DIR`: what is recorded, and what need not be done again.

use std::path::Path;
use std::time::Duration;

use tts::engine::snapshots::Snapshots;
use tts::run::{
    AnswerSettings, DecisionSettings, MachineInfo, Manifest, RunFolder, SolvedRecord, Status, StrategyRecord,
    TraceSettings, without_answers,
};
use tts::runner::{Prepared, RemoteRunner};
use tts::{Runner, Settings, Solved, Watch};

use crate::cli::printer::Printer;

/// A run folder, if there is to be one.
pub(crate) struct Recorder {
    folder: Option<RunFolder>,
    /// how often traces in flight are recorded too
    checkpoint: Option<Duration>,
}

impl Recorder {
    /// Opens the folder for what the manifest says; traces in flight are recorded every `checkpoint`.
    pub(crate) fn open(
        dir: Option<&Path>,
        manifest: Manifest,
        prepared: &[Prepared],
        checkpoint: Option<Duration>,
        printer: &Printer,
    ) -> anyhow::Result<Self> {
        let Some(dir) = dir else {
            return Ok(Self {
                folder: None,
                checkpoint: None,
            });
        };
        let problems = prepared.iter().map(|p| p.id.clone()).collect();
        let folder = RunFolder::open(dir, Manifest { problems, ..manifest })?;
        for p in prepared {
            // an engine that renders the prompt has its ids
            match p.prompt.ids.is_empty() {
                true => folder.claim(&p.id, &p.prompt.text.bytes().map(u32::from).collect::<Vec<_>>())?,
                false => folder.claim(&p.id, &p.prompt.ids)?,
            }
        }
        for warning in folder.recording().warnings() {
            printer.warn(&format!("{}: {warning}", dir.display()));
        }
        let recorded: usize = prepared.iter().map(|p| folder.recording().traces(&p.id)).sum();
        if recorded > 0 {
            printer.note(&format!(
                "going on with {}, which holds {recorded} traces of this",
                dir.display()
            ));
        }
        Ok(Self {
            folder: Some(folder),
            checkpoint,
        })
    }

    /// The result of a problem that was decided before, with the same settings.
    pub(crate) fn decided(&self, problem: &Prepared) -> anyhow::Result<Option<SolvedRecord>> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        Ok(folder.decided(&problem.id)?.map(|record| SolvedRecord {
            decisions: None,
            ..record
        }))
    }

    /// Gives a watcher what is recorded, and somewhere to record to.
    pub(crate) fn watch(&self, problem: &Prepared, mut watch: Watch) -> anyhow::Result<Watch> {
        if let Some(folder) = &self.folder {
            // answers are read anew: this run may read them in another way than the last
            watch.recorded = without_answers(folder.recorded(&problem.id)?);
            watch.records = Some(folder.sink(&problem.id));
            let dir = folder.states();
            watch.checkpoint = self.checkpoint.map(|every| Snapshots { every, dir });
        }
        Ok(watch)
    }

    /// Keeps a result.
    pub(crate) fn keep(&self, solved: &Solved) -> anyhow::Result<()> {
        match &self.folder {
            Some(folder) => Ok(folder.write_decided(solved.record(), &solved.decided)?),
            None => Ok(()),
        }
    }

    /// Says how the run ended.
    pub(crate) fn close(self, finished: bool) -> anyhow::Result<()> {
        match self.folder {
            Some(folder) => Ok(folder.close(if finished {
                Status::Finished
            } else {
                Status::Interrupted
            })?),
            None => Ok(()),
        }
    }
}

/// What changes the traces of a model here, what changes the decisions, and the rest. `answers` says how
/// answers are read and compared.
pub(crate) fn manifest(
    runner: &Runner,
    prepared: &[Prepared],
    data: Option<String>,
    answers: AnswerSettings,
) -> anyhow::Result<Manifest> {
    let (settings, resolved, loaded) = (runner.settings(), runner.resolved(), runner.loaded());
    let prompter = loaded.prompter()?;
    let rules = prepared.first().map(|p| runner.rules(p)).unwrap_or_default();
    let instruction = settings
        .instruction
        .as_deref()
        .unwrap_or_else(|| prompter.instruction());
    let formats = loaded.model.formats();
    let traces = TraceSettings {
        model: Some(loaded.digest().to_owned()),
        kv_dtype: Some(loaded.model.shape().kv.name().to_owned()),
        state_dtype: Some(loaded.model.shape().state.name().to_owned()),
        dtype: Some(formats.iter().map(|(format, _)| (*format).to_owned()).collect()),
        tier: Some(resolved.tier.name().to_owned()),
        prompter: Some(prompter.digest().to_owned()),
        instruction: Some(instruction.to_owned()),
        system: settings.system.clone(),
        prompt_template: settings.prompt_template.clone(),
        sampling: Some(resolved.sampling().into()),
        seed: Some(settings.seed),
        max_tokens: Some(resolved.max_tokens),
        stop_ids: Some(rules.stop_ids),
        ignore_eos: Some(rules.ignore_eos),
        loop_stop: Some(rules.loop_stop),
        thinking_budget: rules.thinking_budget,
        ..TraceSettings::default()
    };
    let machine = MachineInfo {
        threads: Some(resolved.threads),
        tier: Some(resolved.tier.name().to_owned()),
        model: Some(loaded.name.clone()),
        ..MachineInfo::default()
    };
    Ok(Manifest::new(
        traces,
        decisions(settings, resolved.slots, answers),
        data,
        machine,
    ))
}

/// The same for traces from elsewhere.
pub(crate) fn remote_manifest(
    runner: &RemoteRunner,
    data: Option<String>,
    answers: AnswerSettings,
) -> Manifest {
    let decisions = decisions(runner.settings(), runner.slots(), answers);
    Manifest::new(runner.traces(), decisions, data, runner.machine())
}

fn decisions(settings: &Settings, slots: usize, answers: AnswerSettings) -> DecisionSettings {
    DecisionSettings {
        strategy: Some(StrategyRecord::from(&settings.strategy)),
        traces: Some(settings.traces),
        slots: Some(slots),
        max_total_tokens: settings.max_total_tokens,
        time_limit_seconds: settings.time_limit.map(|t| t.as_secs_f64()),
        answers: Some(answers),
        ..DecisionSettings::default()
    }
}
