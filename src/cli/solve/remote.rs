//! `--backend URL`: the traces come from engines elsewhere.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::runtime::Runtime;
use tts::Settings;
use tts::evals::answer::RuleReader;
use tts::evals::data::Problem;
use tts::run::{AnswerSettings, EngineInfo};
use tts::runner::{Prepared, Reader, RemoteRunner};

use super::{Recorder, SolveArgs, remote_manifest, solve_all};
use crate::cli::args::{BackendArgs, ModelArgs};
use crate::cli::printer::Printer;
use crate::cli::{ExitStatus, interrupt, number};

/// Engines that were asked what they give, and what they will be asked.
pub(crate) struct Elsewhere {
    pub(crate) runner: RemoteRunner,
    pub(crate) prepared: Vec<Prepared>,
    /// the one that their connections live in
    pub(crate) runtime: Runtime,
}

impl Elsewhere {
    /// Asks the engines, and says what they gave.
    pub(crate) fn reach(
        backend: &BackendArgs,
        model: &ModelArgs,
        k: Option<usize>,
        settings: Settings,
        problems: &[Problem],
        reader: RuleReader,
        printer: &Printer,
    ) -> anyhow::Result<Self> {
        let Some(first) = problems.first() else {
            anyhow::bail!("there is nothing to solve: the set is empty");
        };
        let prompter = model.prompter()?;
        let runtime = interrupt::runtime()?;
        let options = backend.options(k);
        let connected = RemoteRunner::connect(&options, backend.api(), settings, prompter, first);
        let runner = runtime.block_on(connected)?.with_reader(Reader::Rules(reader));
        let prepared = problems
            .iter()
            .map(|p| runner.prepare(p))
            .collect::<Result<Vec<_>, _>>()?;
        runner.remote().notices().for_each(|notice| printer.warn(&notice));
        printer.note(&sentence(&runner, prepared.len()));
        Ok(Self {
            runner,
            prepared,
            runtime,
        })
    }

    /// Problems that are solved at a time: as many as keep the engines busy.
    pub(crate) fn side_by_side(&self) -> usize {
        let busy = self.runner.remote().in_flight().div_ceil(self.runner.slots());
        busy.clamp(1, self.prepared.len())
    }

    pub(super) fn solve(
        self,
        args: &SolveArgs,
        digest: Option<String>,
        answers: AnswerSettings,
        printer: &Printer,
    ) -> anyhow::Result<(ExitStatus, Option<Duration>)> {
        let Self {
            runner,
            prepared,
            runtime,
        } = &self;
        if args.dry_run {
            for p in prepared {
                if printer.json() {
                    printer.object(&json!({
                        "problem_id": p.id, "prompt": p.prompt.text, "prompt_tokens": p.prompt.ids.len(), "token_ids": p.prompt.ids,
                        "asked": runner.traces(), "engines": runner.remote().about(), "max_tokens": p.max_tokens,
                    }))?;
                } else {
                    printer.line(&p.prompt.text)?;
                }
            }
            return Ok((ExitStatus::Done, None));
        }
        let manifest = remote_manifest(runner, digest, answers);
        let recorder = Recorder::open(args.run.as_deref(), manifest, prepared, args.checkpoint, printer)?;
        let before = Instant::now();
        let status = runtime.block_on(solve_all(
            runner,
            prepared,
            self.side_by_side(),
            recorder,
            printer,
        ))?;
        Ok((status, Some(before.elapsed())))
    }
}

/// Who answers, and with what.
pub(crate) fn engines(runner: &RemoteRunner) -> String {
    let named = |e: &EngineInfo| {
        let version = e.version.as_ref().map_or_else(String::new, |v| format!(" {v}"));
        let of = |text: &Option<String>| text.clone().unwrap_or_default();
        format!("{}{version} at {}", of(&e.engine), of(&e.url))
    };
    let engines: Vec<String> = runner.machine().backends.iter().map(named).collect();
    let confidence = match runner.remote().confidence_k() {
        Some(k) => format!("confidence over {k} tokens"),
        None => "no confidence".to_owned(),
    };
    format!(
        "{}; model {}, {confidence}",
        engines.join(", "),
        runner.remote().model()
    )
}

/// Who answers, and how much it may be.
fn sentence(runner: &RemoteRunner, problems: usize) -> String {
    let settings = runner.settings();
    format!(
        "{}; {}, {} at most each ({}), {} at a time",
        engines(runner),
        number::plural(problems as u64, "problem"),
        number::plural(settings.traces as u64, "trace"),
        settings.strategy.name,
        number::count(runner.slots() as u64),
    )
}
