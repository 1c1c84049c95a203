//! Sampling settings that a caller sets over what the model recommends.

use serde::{Deserialize, Serialize};

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
