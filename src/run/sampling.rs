//! Sampling settings that a caller sets over what the model recommends.

use serde::{Deserialize, Serialize};
use tts_model::sampler::Sampling;

/// Sampling settings that replace what the model's generation_config.json recommends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingOverrides {
    /// 0 is greedy.
    pub temperature: Option<f64>,
    /// 1 keeps all.
    pub top_p: Option<f64>,
    /// 0 keeps all.
    pub top_k: Option<usize>,
    /// 0 keeps all.
    pub min_p: Option<f64>,
    /// 1 is off.
    pub repetition_penalty: Option<f64>,
    /// 0 is off.
    pub presence_penalty: Option<f64>,
    /// 0 is off.
    pub frequency_penalty: Option<f64>,
}

impl From<&Sampling> for SamplingOverrides {
    fn from(s: &Sampling) -> Self {
        Self {
            temperature: Some(s.temperature),
            top_p: Some(s.top_p),
            top_k: Some(s.top_k),
            min_p: Some(s.min_p),
            repetition_penalty: Some(s.repetition_penalty),
            presence_penalty: Some(s.presence_penalty),
            frequency_penalty: Some(s.frequency_penalty),
        }
    }
}
