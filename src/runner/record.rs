//! What a run folder says of a model that runs here.

use super::{Prepared, Runner};
use crate::error::Error;
use crate::run::{MachineInfo, TraceSettings};

/// What the model's traces are a function of.
pub(super) fn trace_settings(runner: &Runner, problems: &[Prepared]) -> Result<TraceSettings, Error> {
    let (settings, resolved, loaded) = (runner.settings(), runner.resolved(), runner.loaded());
    let prompter = loaded.prompter()?;
    let rules = problems.first().map(|p| runner.rules(p)).unwrap_or_default();
    let instruction = settings
        .instruction
        .as_deref()
        .unwrap_or_else(|| prompter.instruction());
    let formats = loaded.model.formats();
    Ok(TraceSettings {
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
    })
}

/// The model's name, and the machine that it runs on.
pub(super) fn machine(runner: &Runner) -> MachineInfo {
    MachineInfo {
        threads: Some(runner.resolved().threads),
        tier: Some(runner.resolved().tier.name().to_owned()),
        model: Some(runner.loaded().name.clone()),
        ..MachineInfo::default()
    }
}
